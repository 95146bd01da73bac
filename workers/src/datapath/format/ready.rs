//! The two markers of an object: `ready`, without which it doesn't count, and `aborted`, with which it never does.

use super::{Broken, VERSION};
use longshore_schema::steps::object::Root;
use serde::{Deserialize, Serialize};

/// Bytes that a marker may have.
pub const MAX_MARKER: u64 = 4096;

#[derive(Serialize, Deserialize)]
struct Ready {
    format_version: u32,
    root: Root,
}

#[derive(Serialize, Deserialize)]
struct Aborted {
    format_version: u32,
}

/// The stored form of `ready`.
pub fn encode_ready(root: &Root) -> Result<Vec<u8>, Broken> {
    let ready = Ready { format_version: VERSION, root: root.clone() };
    serde_json::to_vec(&ready).map_err(|_| Broken("the marker isn't JSON"))
}

/// The root that `ready` names.
pub fn decode_ready(bytes: &[u8]) -> Result<Root, Broken> {
    let ready: Ready = serde_json::from_slice(bytes).map_err(|_| Broken("not a ready marker"))?;
    let hex = ready.root.digest.len() == 64 && ready.root.digest.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    if ready.format_version != VERSION || !hex {
        return Err(Broken("not a ready marker of this version"));
    }
    Ok(ready.root)
}

/// The stored form of `aborted`. Its presence is what counts.
pub fn encode_aborted() -> Result<Vec<u8>, Broken> {
    serde_json::to_vec(&Aborted { format_version: VERSION }).map_err(|_| Broken("the marker isn't JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_reads_back_and_nonsense_is_refused() {
        let root = Root { attempt: 2, digest: blake3::hash(b"r").to_hex().to_string(), bytes: 77 };
        let bytes = encode_ready(&root).unwrap();
        assert_eq!(decode_ready(&bytes), Ok(root.clone()));
        assert!(decode_ready(&encode_aborted().unwrap()).is_err());
        assert!(decode_ready(b"{").is_err());
        assert!(decode_ready(&encode_ready(&Root { digest: "x".repeat(64), ..root }).unwrap()).is_err());
    }
}
