//! The Swift store against a server that answers what it is told.

mod sessions;

use super::*;
use crate::store::{
    open::Backend,
    probe::Capabilities,
    responder::{Responder, Seen, answer},
};
use futures::TryStreamExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use tempfile::TempDir;

const USER: &str = "test:tester";
const KEY: &str = "a-key-that-nobody-prints";
const TOKEN: &str = "AUTH_tk-that-nobody-prints";
const EXACT: &str = "1767323045.67891";
const EXACT_MS: i64 = 1_767_323_045_678;
const BODY: &[u8] = b"body";
const BODY_MD5: &str = "841a2d689ad86bd1611447453c22c6fc";

/// A store whose service answers as `script` says.
struct Scripted {
    responder: Responder,
    store: SwiftStore,
    _secrets: TempDir,
}

impl Scripted {
    async fn put(&self, mode: PutMode) -> Result<Put, Fault> {
        self.store.put("a/b", Bytes::from_static(BODY), mode).await
    }

    /// What was asked of the container.
    fn seen(&self) -> Vec<Seen> {
        self.responder.seen().into_iter().filter(|it| !is_login(it)).collect()
    }

    fn logins(&self) -> usize {
        self.responder.seen().iter().filter(|it| is_login(it)).count()
    }
}

fn is_login(seen: &Seen) -> bool {
    seen.line.contains("/auth")
}

fn place(service: &str, key: &str) -> site::Store {
    let place = serde_json::json!({
        "name": "swift-test", "url": "swift://longshore-test/pre/fix", "auth": format!("{service}/auth/v1.0"), "user": USER,
        "key": key, "region": "r1", "capacity": 1_u64 << 40,
    });
    serde_json::from_value(place).unwrap()
}

/// `script` answers everything, and gets the number of the request, counted from 0.
async fn scripted_whole(script: impl Fn(usize, &Seen) -> String + Send + Sync + 'static) -> Scripted {
    let responder = Responder::start(script).await;
    let secrets = tempfile::tempdir().unwrap();
    std::fs::write(secrets.path().join("key"), KEY).unwrap();
    let store = SwiftStore::new(&place(&responder.endpoint, &reference(&secrets))).unwrap();
    Scripted { responder, store, _secrets: secrets }
}

/// `script` answers what is asked of the container, and gets the number of the request, counted from 0.
async fn scripted(script: impl Fn(usize, &Seen) -> String + Send + Sync + 'static) -> Scripted {
    let asked = AtomicUsize::new(0);
    scripted_whole(move |_, seen| match is_login(seen) {
        true => lets_in(seen, TOKEN, "86400"),
        false => script(asked.fetch_add(1, SeqCst), seen),
    })
    .await
}

fn reference(secrets: &TempDir) -> String {
    format!("file:{}", secrets.path().join("key").display())
}

/// An answer of tempauth.
fn lets_in(seen: &Seen, token: &str, expires: &str) -> String {
    let storage = format!("http://{}/v1/AUTH_test", seen.header("host").unwrap());
    answer(200, &[("x-storage-url", &storage), ("x-auth-token", token), ("x-auth-token-expires", expires)], "")
}

fn ok() -> String {
    answer(201, &[("etag", BODY_MD5)], "")
}

/// An answer to HEAD.
fn there(bytes: &str, mark: &str) -> String {
    answer(200, &[("content-length", bytes), ("x-timestamp", EXACT), (MARK, mark)], "")
}

fn absent() -> String {
    answer(404, &[], "")
}

#[tokio::test]
async fn a_put_is_sent_with_its_md5_and_token_and_where_the_site_file_says() {
    let it = scripted(|_, seen| if seen.is("HEAD") { absent() } else { ok() }).await;
    assert_eq!(it.put(PutMode::Replace).await.unwrap(), Put::Written);
    assert_eq!(it.put(PutMode::Create).await.unwrap(), Put::Written);
    let [replace, look, create] = it.seen().try_into().unwrap();
    for put in [&replace, &create] {
        assert!(put.line.starts_with("PUT /v1/AUTH_test/longshore-test/pre/fix/a/b "), "{put:?}");
        assert_eq!((put.header("etag"), put.header("content-length"), &*put.body), (Some(BODY_MD5), Some("4"), BODY));
        assert_eq!(put.header("x-auth-token"), Some(TOKEN));
    }
    assert!(look.is("HEAD") && look.header("x-newest") == Some("true"), "{look:?}");
    assert_eq!((create.header("if-none-match"), replace.header("if-none-match")), (Some("*"), None));
    assert_ne!(create.header(MARK), replace.header(MARK));
    let it = scripted(|_, _| answer(201, &[], "")).await;
    assert_eq!(it.store.put("empty", Bytes::new(), PutMode::Replace).await.unwrap(), Put::Written);
    assert_eq!(it.seen()[0].header("content-length"), Some("0"));
}

#[tokio::test]
async fn what_is_there_is_not_created_and_not_even_sent() {
    let it = scripted(|_, _| there("3", "another")).await;
    assert_eq!(it.put(PutMode::Create).await.unwrap(), Put::Existed);
    assert_eq!(it.seen().len(), 1);
}

#[tokio::test]
async fn each_refusal_of_a_put_gives_its_fault_after_the_tries_that_make_sense() {
    let all = TRIES as usize;
    for (status, wanted, transient, requests) in [
        (202, code::STORE_UNAVAILABLE, true, all),
        (301, code::STORE_MISBEHAVED, false, 1),
        (307, code::STORE_MISBEHAVED, false, 1),
        (400, code::STORE_MISBEHAVED, false, 1),
        (401, code::STORE_DENIED, false, 2),
        (403, code::STORE_DENIED, false, 1),
        (404, code::STORE_MISSING, false, 1),
        (409, code::STORE_UNAVAILABLE, true, all),
        (412, code::STORE_MISBEHAVED, false, 1),
        (413, code::STORE_FULL, true, 1),
        (422, code::STORE_UNAVAILABLE, true, all),
        (429, code::STORE_UNAVAILABLE, true, all),
        (498, code::STORE_UNAVAILABLE, true, all),
        (503, code::STORE_UNAVAILABLE, true, all),
        (507, code::STORE_FULL, true, 1),
    ] {
        let elsewhere = [("location", "http://127.0.0.1:1/elsewhere"), ("retry-after", "7")];
        let it = scripted(move |_, _| answer(status, &elsewhere, "<p>Said so.</p>")).await;
        let fault = it.put(PutMode::Replace).await.unwrap_err();
        assert_eq!((fault.code.as_str(), fault.is_transient()), (wanted, transient), "{status}: {fault}");
        assert_eq!(fault.retry_after_s, transient.then_some(7), "{status}");
        assert_eq!(it.seen().len(), requests, "{status}");
        assert!(fault.message.contains("a/b") && fault.message.contains("Said so."), "{fault}");
        for hidden in [KEY, TOKEN] {
            assert!(!fault.message.contains(hidden), "{fault}");
        }
    }
}

#[tokio::test]
async fn a_store_can_be_printed_without_its_secrets() {
    let it = scripted(|_, _| answer(204, &[], "")).await;
    it.store.ping().await.unwrap();
    let printed = format!("{:?} {:#?}", it.store, it.store);
    assert!(printed.contains("longshore-test") && !printed.contains(KEY) && !printed.contains(TOKEN), "{printed}");
}

#[tokio::test]
async fn a_service_that_hangs_up_or_is_not_there_is_away() {
    let it = scripted(|_, _| String::new()).await;
    assert_eq!(it.put(PutMode::Replace).await.unwrap_err().code, code::STORE_UNAVAILABLE);
    let Scripted { responder, store, _secrets } = it;
    drop(responder);
    assert_eq!(store.ping().await.unwrap_err().code, code::STORE_UNAVAILABLE);
}

#[tokio::test]
async fn a_store_that_has_another_body_than_it_was_sent_is_not_believed() {
    let it = scripted(|_, _| answer(201, &[("etag", "00000000000000000000000000000000")], "")).await;
    assert_eq!(it.put(PutMode::Replace).await.unwrap_err().code, code::STORE_MISBEHAVED);
    let it = scripted(|_, _| answer(201, &[("etag", &format!("\"{}\"", BODY_MD5.to_uppercase()))], "")).await;
    assert_eq!(it.put(PutMode::Replace).await.unwrap(), Put::Written);
}

/// A service that does the first put, loses the answer, and remembers whose it was; or says another's.
fn loses_the_first_answer(someone_else: bool) -> impl Fn(usize, &Seen) -> String + Send + Sync + 'static {
    let mark = std::sync::Mutex::new(None::<String>);
    move |_, seen| {
        let mut mark = mark.lock().unwrap();
        match (seen.is("HEAD"), mark.clone()) {
            // An empty request, after the answer was lost: the token is good.
            (true, _) if !seen.line.contains("/a/b") => answer(204, &[], ""),
            (true, None) => absent(),
            (true, Some(_)) if someone_else => there("4", "another"),
            (true, Some(mark)) => there("4", &mark),
            (false, None) => {
                *mark = Some(seen.header(MARK).unwrap().to_owned());
                String::new()
            }
            (false, Some(_)) => answer(412, &[], ""),
        }
    }
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_knows_its_own_work_from_anothers() {
    let it = scripted(loses_the_first_answer(false)).await;
    assert_eq!(it.put(PutMode::Create).await.unwrap(), Put::Written);
    let it = scripted(loses_the_first_answer(true)).await;
    assert_eq!(it.put(PutMode::Create).await.unwrap(), Put::Existed);
}

#[tokio::test]
async fn only_the_range_that_was_asked_for_is_believed() {
    type Headers = &'static [(&'static str, &'static str)];
    let answers: [(u16, Headers, &str, Result<&str, &str>); 10] = [
        (206, &[("content-range", "bytes 2-5/10")], "2345", Ok("2345")),
        (206, &[("content-range", "bytes 2-5/*")], "2345", Ok("2345")),
        (206, &[("content-range", "bytes 0-3/10")], "0123", Err(code::STORE_MISBEHAVED)),
        (206, &[("content-range", "bytes 2-6/10")], "23456", Err(code::STORE_MISBEHAVED)),
        (206, &[("content-range", "bytes 2-5/10")], "23456", Err(code::STORE_MISBEHAVED)),
        (206, &[("content-range", "rubbish")], "2345", Err(code::STORE_MISBEHAVED)),
        (206, &[("content-range", "bytes 2-3/4")], "23", Err(code::OBJECT_MISSING)),
        (206, &[], "2345", Err(code::STORE_MISBEHAVED)),
        (200, &[("content-range", "bytes 2-5/10")], "2345", Err(code::STORE_MISBEHAVED)),
        (416, &[], "", Err(code::OBJECT_MISSING)),
    ];
    for (status, headers, body, wanted) in answers {
        let it = scripted(move |_, _| answer(status, headers, body)).await;
        let got = it.store.get("a", 2..6).await;
        let got = got.as_ref().map(|it| std::str::from_utf8(it).unwrap()).map_err(|fault| fault.code.as_str());
        assert_eq!(got, wanted, "{status} {headers:?} {body}");
        assert_eq!(it.seen()[0].header("range"), Some("bytes=2-5"));
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_read_again_and_one_that_does_not_end_is_not_read() {
    let broken = || answer(206, &[("content-range", "bytes 2-5/10"), ("content-length", "4")], "23");
    let whole = || answer(206, &[("content-range", "bytes 2-5/10")], "2345");
    let it = scripted(move |n, _| if n == 0 { broken() } else { whole() }).await;
    assert_eq!(it.store.get("a", 2..6).await.unwrap(), "2345");
    let it = scripted(move |_, _| broken()).await;
    let fault = it.store.get("a", 2..6).await.unwrap_err();
    assert_eq!((fault.code.as_str(), fault.is_transient()), (code::STORE_UNAVAILABLE, true), "{fault}");
    assert_eq!(it.seen().len(), TRIES as usize);
    // Without a length it would be whatever comes until the connection is closed.
    let endless =
        || format!("HTTP/1.1 206 Said\r\nconnection: close\r\ncontent-range: bytes 2-5/10\r\n\r\n{}", "x".repeat(100_000));
    let it = scripted(move |_, _| endless()).await;
    assert_eq!(it.store.get("a", 2..6).await.unwrap_err().code, code::STORE_MISBEHAVED);
}

fn page(names: &[&str]) -> String {
    let found: Vec<_> = names
        .iter()
        .map(|name| {
            serde_json::json!({"name": name, "bytes": 3, "hash": "x", "content_type": "x",
                "last_modified": "2026-01-02T03:04:05.678910"})
        })
        .collect();
    answer(200, &[], &serde_json::Value::from(found).to_string())
}

async fn listed(it: &Scripted) -> Result<Vec<Entry>, Fault> {
    it.store.list("p").try_collect().await
}

#[tokio::test]
async fn pages_are_followed_until_an_empty_one_and_keys_that_cannot_be_ours_left_out() {
    let it = scripted(|n, _| match n {
        0 => page(&["pre/fix/p/", "pre/fix/p/../x", "pre/fix/p1 \u{e4}"]),
        1 => page(&["pre/fix/p2", "pre/fix/p3"]),
        _ => page(&[]),
    })
    .await;
    let entry = |key: &str| Entry { key: key.to_owned(), bytes: 3, modified_ms: EXACT_MS };
    assert_eq!(listed(&it).await.unwrap(), [entry("p2"), entry("p3")]);
    let lines: Vec<_> = it.seen().into_iter().map(|it| it.line).collect();
    assert_eq!(lines.len(), 3);
    for (line, marker) in lines.iter().zip(["", "pre%2Ffix%2Fp1%20%C3%A4", "pre%2Ffix%2Fp3"]) {
        assert!(line.contains("format=json") && line.contains("&prefix=pre%2Ffix%2Fp&"), "{line}");
        assert!(line.contains(&format!("&marker={marker} ")), "{line}");
    }
    for empty in [answer(204, &[], ""), answer(200, &[], "[]")] {
        let it = scripted(move |_, _| empty.clone()).await;
        assert_eq!(listed(&it).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_list_that_lies_or_goes_in_circles_ends_in_a_fault() {
    let it = scripted(|_, _| page(&["pre/fix/p1"])).await;
    assert_eq!(listed(&it).await.unwrap_err().code, code::STORE_MISBEHAVED);
    assert_eq!(it.seen().len(), 2);
    for names in [["pre/fix/p1", "pre/fix/q"], ["pre/fix/p2", "pre/fix/p1"], ["p1", "pre/fix/p1"], ["", "pre/fix/p1"]] {
        let it = scripted(move |_, _| page(&names)).await;
        assert_eq!(listed(&it).await.unwrap_err().code, code::STORE_MISBEHAVED, "{names:?}");
    }
    let timeless = r#"[{"name": "pre/fix/p1", "bytes": 3, "last_modified": "yesterday"}]"#;
    for body in ["<html>not a list", "{}", r#"[{"subdir": "pre/fix/p/"}]"#, timeless] {
        let it = scripted(move |_, _| answer(200, &[], body)).await;
        assert_eq!(listed(&it).await.unwrap_err().code, code::STORE_MISBEHAVED, "{body}");
    }
    let it = scripted(|_, _| absent()).await;
    assert_eq!(listed(&it).await.unwrap_err().code, code::STORE_MISSING);
}

#[tokio::test]
async fn an_absent_key_is_told_from_an_absent_container() {
    let only_the_container = |_: usize, seen: &Seen| if seen.line.contains("/a ") { absent() } else { answer(204, &[], "") };
    let it = scripted(only_the_container).await;
    assert_eq!(it.store.head("a").await.unwrap(), None);
    assert_eq!(it.store.get("a", 0..1).await.unwrap_err().code, code::OBJECT_MISSING);
    it.store.delete("a").await.unwrap();
    let it = scripted(|_, _| absent()).await;
    assert_eq!(it.store.head("a").await.unwrap_err().code, code::STORE_MISSING);
    assert_eq!(it.store.get("a", 0..1).await.unwrap_err().code, code::STORE_MISSING);
    assert_eq!(it.store.delete("a").await.unwrap_err().code, code::STORE_MISSING);
    let fault = it.store.ping().await.unwrap_err();
    assert!(fault.code == code::STORE_MISSING && fault.message.contains("longshore-test"), "{fault}");
}

#[tokio::test]
async fn length_and_time_of_an_object_are_the_stores_or_a_fault() {
    type Headers = &'static [(&'static str, &'static str)];
    let heads: [(Headers, Option<(u64, i64)>); 5] = [
        (&[("content-length", "3"), ("x-timestamp", EXACT), ("last-modified", "x")], Some((3, EXACT_MS))),
        (&[("content-length", "3"), ("last-modified", "Fri, 02 Jan 2026 03:04:05 GMT")], Some((3, 1_767_323_045_000))),
        (&[("content-length", "3")], None),
        (&[("content-length", "3"), ("x-timestamp", "yesterday")], None),
        (&[("content-length", ""), ("x-timestamp", EXACT)], None),
    ];
    for (headers, wanted) in heads {
        let it = scripted(move |_, _| answer(200, headers, "")).await;
        let found = it.store.head("a").await.map(|it| it.map(|it| (it.bytes, it.modified_ms)));
        match wanted {
            Some(wanted) => assert_eq!(found.unwrap(), Some(wanted), "{headers:?}"),
            None => assert!(found.is_err(), "{headers:?}"),
        }
    }
}

#[tokio::test]
async fn a_delete_is_done_only_when_the_key_is_gone() {
    let it = scripted(|_, seen| if seen.is("HEAD") { absent() } else { answer(204, &[], "") }).await;
    it.store.delete("a").await.unwrap();
    let it = scripted(|_, seen| if seen.is("HEAD") { there("3", "x") } else { answer(204, &[], "") }).await;
    let fault = it.store.delete("a").await.unwrap_err();
    assert_eq!((fault.code.as_str(), fault.is_transient()), (code::STORE_UNAVAILABLE, true));
}

/// A service that takes good bodies with `good` and damaged ones with `damaged`, and has one that it refused if it `keeps` it,
/// until that is deleted.
async fn judged(good: u16, damaged: u16, keeps: bool) -> (bool, Vec<String>) {
    let kept = AtomicBool::new(keeps);
    let it = scripted(move |_, seen| match seen.line.split(' ').next() {
        Some("PUT") => answer(if seen.body.first() == Some(&2) { damaged } else { good }, &[], ""),
        Some("HEAD") if kept.load(SeqCst) => there("4096", "probe"),
        Some("HEAD") => absent(),
        _ => {
            kept.store(false, SeqCst);
            answer(204, &[], "")
        }
    })
    .await;
    let refuses = it.store.refuses_damage("k").await.unwrap();
    (refuses, it.seen().into_iter().map(|it| it.line.split(' ').next().unwrap().to_owned()).collect())
}

#[tokio::test]
async fn an_md5_counts_if_the_damaged_body_is_refused_and_not_kept_and_what_is_kept_is_removed() {
    for (good, damaged, keeps, expected, asked) in [
        (201, 422, false, true, "PUT PUT HEAD"),
        (201, 201, false, false, "PUT PUT"),
        (400, 400, false, false, "PUT"),
        (201, 422, true, false, "PUT PUT HEAD DELETE HEAD"),
    ] {
        let (refuses, seen) = judged(good, damaged, keeps).await;
        assert_eq!((refuses, seen.join(" ").as_str()), (expected, asked), "{good} {damaged} {keeps}");
    }
}

#[tokio::test]
async fn what_a_container_keeps_of_old_versions_is_found_out_and_no_race_makes_creating_safe() {
    type Headers = &'static [(&'static str, &'static str)];
    let containers: [(Headers, bool); 4] = [
        (&[], false),
        (&[("x-versions-enabled", "False")], false),
        (&[("x-versions-enabled", "True")], true),
        (&[("x-history-location", "old")], true),
    ];
    for (headers, expected) in containers {
        let it = scripted(move |_, seen| match (seen.is("PUT"), seen.line.contains("damaged")) {
            (true, true) => answer(422, &[], ""),
            (true, false) => answer(201, &[], ""),
            (false, true) => absent(),
            (false, false) => answer(204, headers, ""),
        })
        .await;
        let lucky = Capabilities { conditional_put: true, ranges: true, ..Capabilities::default() };
        let wanted = Capabilities { ranges: true, checks_md5: true, keeps_versions: expected, ..Capabilities::default() };
        assert_eq!(it.store.try_out("probe/x/", lucky).await.unwrap(), wanted, "{headers:?}");
    }
}

#[tokio::test]
async fn what_the_site_file_gets_wrong_is_said_before_anything_is_sent() {
    let secrets = tempfile::tempdir().unwrap();
    std::fs::write(secrets.path().join("key"), "x").unwrap();
    let good = place("http://127.0.0.1:1", &reference(&secrets));
    SwiftStore::new(&good).unwrap();
    let wrong = |change: &dyn Fn(&mut site::Store)| {
        let mut place = good.clone();
        change(&mut place);
        SwiftStore::new(&place).unwrap_err().code
    };
    for url in ["file:///x", "swift://", "swift://b u/x", "swift://box/a//b", "swift://box/../x", "swift://box/.x"] {
        assert_eq!(wrong(&|it| it.url = url.to_owned()), code::SITE_INVALID, "{url}");
    }
    assert_eq!(wrong(&|it| it.auth = None), code::SITE_INVALID);
    assert_eq!(wrong(&|it| it.key = Some("env:LONGSHORE_NONE".to_owned())), code::STORE_DENIED);
}
