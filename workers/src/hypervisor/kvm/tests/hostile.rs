//! Images from strangers: what is unsafe is refused before any tool of QEMU's sees it.

use super::{super::super::suite::Fixture, *};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::os::unix::fs::{FileExt, symlink};

/// Bytes at an offset.
type Change<'a> = (u64, &'a [u8]);

/// A good qcow2 in the pool, then changed byte by byte.
async fn forged(pool: &Pool, changes: &[Change<'_>]) {
    let _ = std::fs::remove_file(pool.path("volume"));
    pool.make("volume", 1 << 20, &[(0, vec![1; 4096])]).await;
    let file = std::fs::File::options().write(true).open(pool.path("volume")).unwrap();
    for (at, bytes) in changes {
        file.write_all_at(bytes, *at).unwrap();
    }
}

fn invalid(pool: &Pool) -> impl Future<Output = String> {
    let kvm = pool.kvm.clone();
    async move {
        refused(kvm.measure("volume", None, Some(Format::Qcow2)).await, code::IMAGE_INVALID, Class::Permanent);
        refused(kvm.reader("volume", None, Some(Format::Qcow2)).await, code::IMAGE_INVALID, Class::Permanent)
    }
}

#[tokio::test]
async fn headers_that_lie_are_refused() {
    let pool = pool(Format::Qcow2);
    let cases: &[(&str, &[Change<'_>])] = &[
        ("version 1", &[(4, &[0, 0, 0, 1])]),
        ("version 4", &[(4, &[0, 0, 0, 4])]),
        ("clusters of 256 bytes", &[(20, &[0, 0, 0, 8])]),
        ("clusters of 4 MiB", &[(20, &[0, 0, 0, 22])]),
        ("clusters of 2^200 bytes", &[(20, &[0, 0, 0, 200])]),
        ("negative size", &[(24, &[0xff; 8])]),
        ("encrypted", &[(32, &[0, 0, 0, 2])]),
        ("huge L1 table", &[(36, &[0xff; 4])]),
        ("L1 table past the end", &[(40, &[0, 0, 1, 0, 0, 0, 0, 0])]),
        ("L1 table past all numbers", &[(40, &[0xff; 8])]),
        ("millions of snapshots", &[(60, &[0, 0x10, 0, 0])]),
        ("snapshots past the end", &[(60, &[0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0])]),
        ("snapshots past all numbers", &[(60, &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])]),
        ("corrupt", &[(79, &[2])]),
        ("external data file", &[(79, &[4])]),
        ("unknown features", &[(72, &[0x80])]),
        ("header of no bytes", &[(100, &[0, 0, 0, 0])]),
        ("header of 4 GiB", &[(100, &[0xff; 4])]),
        ("backing name past the cluster", &[(8, &[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 9])]),
        ("backing name past all numbers", &[(8, &[0xff; 12])]),
        ("backing name of 2000 bytes", &[(8, &[0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 7, 0xd0])]),
        ("backing name that is not text", &[(8, &[0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2]), (256, &[0xff, 0xfe])]),
    ];
    for (name, changes) in cases {
        forged(&pool, changes).await;
        let said = invalid(&pool).await;
        assert!(!said.contains("QEMU"), "{name}: QEMU was asked: {said}");
    }
    for length in [4, 5, 71, 72, 103] {
        forged(&pool, &[]).await;
        std::fs::File::options().write(true).open(pool.path("volume")).unwrap().set_len(length).unwrap();
        invalid(&pool).await;
    }
}

#[tokio::test]
async fn a_backing_file_outside_of_the_pool_is_refused() {
    let pool = pool(Format::Qcow2);
    let secret = pool.folder.path().join("secret");
    std::fs::write(&secret, vec![42; 1 << 20]).unwrap();
    pool.make(".hidden", 1 << 20, &[]).await;
    std::fs::create_dir(pool.path("folder")).unwrap();
    let whole = secret.to_str().unwrap();
    let odd = format!("json:{{\"driver\":\"file\",\"filename\":\"{whole}\"}}");
    let file = format!("file:{whole}");
    let inside = format!("{}/../secret", pool.folder.path().join("pool").display());
    for backing in [
        whole,
        "../secret",
        "./../secret",
        &inside,
        &odd,
        &file,
        "nbd:127.0.0.1:10809",
        "nbd+unix:///?socket=x",
        "http://127.0.0.1/x",
        "host_device:x",
        "fat:x",
        "",
        ".",
        "..",
        "/",
        "folder",
        "folder/x",
        ".hidden",
        "missing",
        "/etc/hostname",
    ] {
        if backing.is_empty() {
            continue;
        }
        let length = (backing.len() as u32).to_be_bytes();
        let place = [&0x400u64.to_be_bytes()[..], &length].concat();
        forged(&pool, &[(8, &place), (0x400, backing.as_bytes())]).await;
        let said = invalid(&pool).await;
        assert!(!said.contains("QEMU"), "{backing}: QEMU was asked: {said}");
    }
}

#[tokio::test]
async fn a_chain_without_end_is_refused() {
    let pool = pool(Format::Qcow2);
    for n in 0..70 {
        let name = format!("v{n}.qcow2");
        pool.make(&name, 65536, &[]).await;
        // The last one lies on itself.
        let below = format!("v{}.qcow2", (n + 1).min(69));
        let file = std::fs::File::options().write(true).open(pool.path(&name)).unwrap();
        file.write_all_at(&[&0x400u64.to_be_bytes()[..], &(below.len() as u32).to_be_bytes()].concat(), 8).unwrap();
        file.write_all_at(below.as_bytes(), 0x400).unwrap();
    }
    for volume in ["v0.qcow2", "v69.qcow2"] {
        refused(pool.kvm.measure(volume, None, None).await, code::IMAGE_INVALID, Class::Permanent);
    }
    // A backing file whose format nobody says isn't taken for what it looks like.
    std::fs::rename(pool.path("v69.qcow2"), pool.path("base")).unwrap();
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "-u", &pool.text("top.qcow2"), "65536"]);
    let file = std::fs::File::options().write(true).open(pool.path("top.qcow2")).unwrap();
    let mut start = std::fs::read(pool.path("top.qcow2")).unwrap();
    let at = start.windows(4).position(|it| it == 0xe279_2aca_u32.to_be_bytes()).unwrap();
    start[at..at + 4].copy_from_slice(&0x1234_5678_u32.to_be_bytes());
    file.write_all_at(&start[..4096], 0).unwrap();
    let said = refused(pool.kvm.measure("top.qcow2", None, None).await, code::IMAGE_FORMAT_UNDECLARED, Class::Permanent);
    assert!(said.contains("rebase"), "{said}");
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused() {
    let pool = pool(Format::Raw);
    let secret = pool.folder.path().join("secret");
    std::fs::write(&secret, vec![42; 1 << 20]).unwrap();
    symlink(&secret, pool.path("link")).unwrap();
    pool.make("good", 4096, &[]).await;
    symlink("good", pool.path("link-inside")).unwrap();
    symlink("/nowhere", pool.path("dangling")).unwrap();
    std::fs::create_dir(pool.path("folder")).unwrap();
    run("mkfifo", &[&pool.text("pipe")]);
    let socket = std::os::unix::net::UnixListener::bind(pool.path("socket")).unwrap();
    for name in ["link", "link-inside", "dangling", "folder", "pipe", "socket"] {
        refused(pool.kvm.reader(name, None, Some(pool.format)).await, code::IMAGE_INVALID, Class::Permanent);
        let draft = Draft { volume: name.into(), operation: OperationId::new(), attempt: 1 };
        pool.kvm.writer(&draft, 4096, Format::Raw).await.unwrap().finish().await.unwrap();
        refused(pool.kvm.publish(&draft).await, code::VOLUME_EXISTS, Class::Permanent);
        pool.kvm.remove(name, draft.operation, None).await.unwrap();
        pool.kvm.discard(draft.operation).await.unwrap();
    }
    drop(socket);
    assert_eq!(pool.names().await.len(), 7);
    assert_eq!(std::fs::read(secret).unwrap(), vec![42; 1 << 20]);
}

#[tokio::test]
async fn a_link_in_the_place_of_a_draft_is_not_followed() {
    let pool = pool(Format::Raw);
    let victim = pool.folder.path().join("victim");
    std::fs::write(&victim, b"precious").unwrap();
    for format in [Format::Raw, Format::Qcow2] {
        let draft = Draft { volume: "volume".into(), operation: OperationId::new(), attempt: 1 };
        symlink(&victim, pool.path(&format!(".longshore-{}-1.draft", draft.operation))).unwrap();
        pool.kvm.writer(&draft, 4096, format).await.unwrap().finish().await.unwrap();
        pool.kvm.discard(draft.operation).await.unwrap();
    }
    assert_eq!(std::fs::read(victim).unwrap(), b"precious");
}

#[tokio::test]
async fn a_raw_volume_is_never_taken_for_another_format() {
    let pool = pool(Format::Raw);
    for magic in [
        &b"KDMV\x01\0\0\0"[..],
        b"conectix",
        b"vhdxfile",
        b"# Disk DescriptorFile\n",
        b"QED\0",
        b"WithoutFreeSpace",
        b"QFI\xfb\0\0\0\x03",
    ] {
        let _ = std::fs::remove_file(pool.path("volume"));
        let mut data = magic.to_vec();
        data.resize(65536, 9);
        std::fs::write(pool.path("volume"), &data).unwrap();
        refused(pool.kvm.measure("volume", None, None).await, code::IMAGE_FORMAT_UNDECLARED, Class::Permanent);
        refused(pool.kvm.reader("volume", None, None).await, code::IMAGE_FORMAT_UNDECLARED, Class::Permanent);
        let measured = pool.kvm.measure("volume", None, Some(pool.format)).await.unwrap();
        assert_eq!((measured.virtual_size, measured.format), (65536, Format::Raw));
        let reader = pool.kvm.reader("volume", None, Some(pool.format)).await.unwrap();
        assert_eq!(reader.read(0, 65536).await.unwrap(), data);
        reader.close().await.unwrap();
    }
}

/// A guest of a raw volume writes a whole qcow2 into it, one that even names a neighbour.
#[tokio::test]
async fn a_raw_volume_stays_raw_whatever_its_guest_writes_into_it() {
    let pool = pool(Format::Raw);
    pool.make("neighbour.raw", 1 << 20, &[(0, vec![42; 1 << 20])]).await;
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", "neighbour.raw", "-F", "raw", &pool.text("forged.raw"), "1M"]);
    let forged = std::fs::read(pool.path("forged.raw")).unwrap();
    std::fs::copy(pool.path("forged.raw"), pool.path("forged")).unwrap();
    refused(pool.kvm.measure("forged", None, None).await, code::IMAGE_FORMAT_UNDECLARED, Class::Permanent);
    for (name, declared) in [("forged.raw", None), ("forged", Some(Format::Raw))] {
        let reader = pool.kvm.reader(name, None, declared).await.unwrap();
        let bytes = suite::read_whole(&*reader).await;
        assert!(bytes[..forged.len()] == forged, "{name} isn't read as its bytes");
        reader.close().await.unwrap();
    }
    // Written back by us, it is no image either.
    let draft = Draft { volume: "restored".into(), operation: OperationId::new(), attempt: 1 };
    let writer = pool.kvm.writer(&draft, forged.len() as u64, Format::Raw).await.unwrap();
    writer.write(0, forged.into()).await.unwrap();
    writer.finish().await.unwrap();
}

#[tokio::test]
async fn flipped_bytes_end_in_bytes_or_a_fault() {
    let pool = pool(Format::Qcow2);
    pool.make("good", 1 << 20, &[(0, vec![1; 1 << 20])]).await;
    assert!(pool.snapshot("good", "then").await);
    let good = std::fs::read(pool.path("good")).unwrap();
    let mut random = StdRng::seed_from_u64(7);
    let directory = super::super::directory::Directory::open(&pool.folder.path().join("pool")).unwrap();
    let table = super::super::qcow2::u64_at(&good, 64) as usize;
    for round in 0..2000 {
        let mut bad = good.clone();
        for _ in 0..random.random_range(1..4) {
            let near = [0, 0, table][random.random_range(0..3)];
            let at = (near + random.random_range(0..120)).min(bad.len() - 1);
            bad[at] = random.random();
        }
        std::fs::write(pool.path("volume"), &bad).unwrap();
        let judged =
            super::super::image::Image::inspect(&directory, super::super::image::Backing::Pool, "volume", Some(pool.format));
        assert!(judged.as_ref().is_ok() || judged.as_ref().is_err_and(|it| it.code == code::IMAGE_INVALID), "{judged:?}");
        // What we take goes on to QEMU: it must say yes or no, and never leave us waiting.
        if judged.is_ok() && round % 50 == 0 {
            for snapshot in [None, Some("then")] {
                if let Ok(reader) = pool.kvm.reader("volume", snapshot, Some(pool.format)).await {
                    let bytes = reader.size().min(1 << 20) as u32;
                    let _ = reader.read(0, bytes).await;
                }
            }
        }
    }
}
