//! Checks of reading, and of keys.

use super::{Scratch, bytes};
use crate::store::{Put, PutMode};
use bytes::Bytes;
use futures::TryStreamExt;
use longshore_schema::fault::{Fault, code};
use std::fmt::Debug;

const LARGE: usize = 64 << 20;

pub(super) async fn large(it: Scratch) {
    let body = bytes(LARGE, 64);
    assert_eq!(it.put("large", body.clone(), PutMode::Create).await, Put::Written);
    assert_eq!(it.list("large").await, [(it.key("large"), LARGE as u64)]);
    assert!(it.all("large").await == body, "the whole body");
    for start in [0, 1, (8 << 20) - 1, LARGE - 300_000] {
        let part = it.store.get(&it.key("large"), start as u64..(start + 300_000) as u64).await.expect("get");
        assert!(part == body[start..start + 300_000], "from {start}");
    }
}

pub(super) async fn empty(it: Scratch) {
    assert_eq!(it.put("empty", "", PutMode::Create).await, Put::Written);
    assert_eq!(it.put("empty", "x", PutMode::Create).await, Put::Existed);
    assert_eq!(it.list("").await, [(it.key("empty"), 0)]);
    assert_eq!(it.all("empty").await, "");
    is(code::OBJECT_MISSING, "a byte of nothing", it.store.get(&it.key("empty"), 0..1).await);
}

pub(super) async fn ranges(it: Scratch) {
    let body = bytes(70_001, 1);
    it.put("r", body.clone(), PutMode::Create).await;
    let (key, end) = (it.key("r"), body.len() as u64);
    for range in [0..0, 0..1, 0..end, 1..2, 4095..4097, 65_535..65_537, 65_536..end, end - 1..end, end..end] {
        let got = it.store.get(&key, range.clone()).await;
        let got = got.unwrap_or_else(|fault| panic!("{range:?}: {fault}"));
        assert!(got == body[range.start as usize..range.end as usize], "{range:?}");
    }
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    let wrong = [0..end + 1, end - 1..end + 1, end..end + 1, end + 1..end + 1, 0..u64::MAX, u64::MAX - 1..u64::MAX, 5..4];
    for range in wrong {
        is(code::OBJECT_MISSING, &range, it.store.get(&key, range.clone()).await);
    }
    let modified_ms = it.store.head(&key).await.expect("head").expect("it is there").modified_ms;
    assert!(modified_ms > 1_500_000_000_000, "{modified_ms} is not in milliseconds since 1970");
}

pub(super) async fn missing(it: Scratch) {
    it.put("d/there", "x", PutMode::Create).await;
    for name in ["gone", "d/gone", "d", "d/there/below", "x/y/z"] {
        let key = it.key(name);
        assert_eq!(it.store.head(&key).await.expect("head"), None, "{name}");
        is(code::OBJECT_MISSING, name, it.store.get(&key, 0..1).await);
        is(code::OBJECT_MISSING, name, it.store.get(&key, 0..0).await);
    }
    assert_eq!(it.list("gone").await, []);
    assert_eq!(it.list("x/y/").await, []);
}

pub(super) async fn hostile_keys(it: Scratch) {
    let long = "x".repeat(5000);
    let ours = it.key("..");
    let hostile = [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../x",
        "a/../../x",
        "a/./b",
        "a//b",
        "a/",
        ".tmp/x",
        ".hidden",
        "a\0b",
        "a\nb",
        "a b",
        "a%2e%2e/b",
        "a?b",
        "a#b",
        "a&b",
        "a*",
        "\u{e4}",
        "\u{202e}a",
        "a\\b",
        "C:a",
        &long,
        &ours,
    ];
    for key in hostile {
        is(code::COMMAND_MALFORMED, key, it.store.put(key, Bytes::from_static(b"x"), PutMode::Create).await);
        is(code::COMMAND_MALFORMED, key, it.store.put(key, Bytes::from_static(b"x"), PutMode::Replace).await);
        is(code::COMMAND_MALFORMED, key, it.store.get(key, 0..1).await);
        is(code::COMMAND_MALFORMED, key, it.store.head(key).await);
        is(code::COMMAND_MALFORMED, key, it.store.delete(key).await);
    }
    for prefix in ["/", "..", "../", "a//", ".tmp", "a b", "a/../"] {
        is(code::COMMAND_MALFORMED, prefix, it.store.list(prefix).try_collect::<Vec<_>>().await);
    }
}

fn is<T: Debug>(code: &str, what: impl Debug, got: Result<T, Fault>) {
    match got {
        Err(fault) => assert_eq!(fault.code, code, "{what:?}: {fault}"),
        Ok(got) => panic!("{what:?} gave {got:?} instead of {code}"),
    }
}
