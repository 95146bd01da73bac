//! Which format a volume is read as: the one that was declared. A guest owns its bytes and can write the header of
//! any format into a raw volume, so bytes alone never make it anything else than raw.

use super::{image::invalid, qcow2};
use longshore_schema::{
    fault::{Fault, code},
    steps::volume::Format,
};

/// What files of disk formats begin with, where, and the format's name.
const MAGIC: &[(usize, &[u8], &str)] = &[
    (0, &qcow2::MAGIC, "qcow2"),
    (0, b"KDMV", "vmdk"),
    (0, b"COWD", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vhd"),
    (64, &[0x7f, 0x10, 0xda, 0xbe], "vdi"),
    (0, b"QED\0", "qed"),
    (0, b"WithoutFreeSpace", "parallels"),
    (0, b"WithouFreSpacExt", "parallels"),
];

/// The format of a file that begins with `start`: declared, or by its name's suffix, or raw if it looks like nothing.
pub(super) fn decide(name: &str, declared: Option<Format>, start: &[u8]) -> Result<Format, Fault> {
    match (declared.or_else(|| Format::of_name(name)), of_bytes(start)) {
        (Some(Format::Raw), _) | (None, None) => Ok(Format::Raw),
        (Some(Format::Qcow2), Some("qcow2")) => Ok(Format::Qcow2),
        (Some(Format::Qcow2), _) => Err(invalid(name, "it is declared to be a qcow2, and has no qcow2 header")),
        (None, Some(looks)) => Err(Fault::permanent(
            code::IMAGE_FORMAT_UNDECLARED,
            format!("{name} begins as a {looks} file does, which a guest could have written: say which `format` it has"),
        )),
    }
}

/// The disk format that a file with such a beginning seems to have; `None`: plain bytes.
pub fn of_bytes(start: &[u8]) -> Option<&'static str> {
    let begins = |(at, magic, _): &&(usize, &[u8], &str)| start.get(*at..).is_some_and(|it| it.starts_with(magic));
    MAGIC.iter().find(begins).map(|(_, _, format)| *format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared_counts_then_the_name_and_bytes_alone_never() {
        let (raw, qcow2) = (Some(Format::Raw), Some(Format::Qcow2));
        let vdi: &[u8] = &[&[b'x'; 64][..], &[0x7f, 0x10, 0xda, 0xbe]].concat();
        let (undeclared, invalid) = (Err(code::IMAGE_FORMAT_UNDECLARED), Err(code::IMAGE_INVALID));
        for (name, declared, start, wanted) in [
            ("disk", None, &b"plain"[..], Ok(Format::Raw)),
            ("disk", None, b"", Ok(Format::Raw)),
            ("disk", None, b"QFI\xfb\0\0\0\x03", undeclared),
            ("disk.v2", None, b"QFI\xfb\0\0\0\x03", undeclared),
            ("disk", qcow2, b"QFI\xfb\0\0\0\x03", Ok(Format::Qcow2)),
            ("disk", raw, b"QFI\xfb\0\0\0\x03", Ok(Format::Raw)),
            ("disk.qcow2", None, b"QFI\xfb\0\0\0\x03", Ok(Format::Qcow2)),
            ("disk.QCOW2", None, b"QFI\xfb\0\0\0\x03", Ok(Format::Qcow2)),
            ("disk.qcow2", raw, b"QFI\xfb\0\0\0\x03", Ok(Format::Raw)),
            ("disk.raw", None, b"QFI\xfb\0\0\0\x03", Ok(Format::Raw)),
            ("disk.img", None, b"QFI\xfb\0\0\0\x03", Ok(Format::Raw)),
            ("disk.raw", qcow2, b"QFI\xfb\0\0\0\x03", Ok(Format::Qcow2)),
            ("disk.qcow2", None, b"plain", invalid),
            ("disk", qcow2, b"plain", invalid),
            ("disk", qcow2, b"KDMV", invalid),
            ("disk.vmdk", None, b"KDMV\x01\0\0\0", undeclared),
            ("disk", None, b"# Disk DescriptorFile\n", undeclared),
            ("disk", None, b"vhdxfile", undeclared),
            ("disk", None, vdi, undeclared),
            ("disk", raw, vdi, Ok(Format::Raw)),
        ] {
            let decided = decide(name, declared, start);
            assert_eq!(
                decided.as_ref().map_err(|it| it.code.as_str()),
                wanted.as_ref().map_err(|it| *it),
                "{name} {declared:?} {start:?}"
            );
        }
    }
}
