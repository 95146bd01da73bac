//! The S3 store against a server that answers what it is told.

use super::*;
use crate::store::responder::{self, Responder, answer};
use futures::TryStreamExt;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;

const ACCESS: &str = "AKIDOFTHETEST";
const SECRET: &str = "a-secret-that-nobody-prints";
/// Whatever the SDK or we do about what may pass: this many requests and no more.
const SDK_TRIES: usize = 4;

fn place(endpoint: &str, access_key: &str, secret_key: &str) -> site::Store {
    let place = serde_json::json!({
        "name": "s3-test", "url": "s3://longshore-test/pre/fix", "endpoint": endpoint, "path_style": true, "region": "r1",
        "capacity": 1_u64 << 40, "credentials": {"access_key": access_key, "secret_key": secret_key},
    });
    serde_json::from_value(place).unwrap()
}

/// A store whose service answers as `script` says.
struct Scripted {
    responder: Responder,
    store: S3Store,
    _secrets: TempDir,
}

async fn scripted(script: impl Fn(usize, &responder::Seen) -> String + Send + Sync + 'static) -> Scripted {
    let responder = Responder::start(script).await;
    let secrets = tempfile::tempdir().unwrap();
    let reference = |name: &str, value: &str| {
        std::fs::write(secrets.path().join(name), value).unwrap();
        format!("file:{}", secrets.path().join(name).display())
    };
    let place = place(&responder.endpoint, &reference("access", ACCESS), &reference("secret", SECRET));
    let store = S3Store::new(&place).unwrap().with(Capabilities {
        conditional_put: true,
        checks_sha256: true,
        ..Capabilities::default()
    });
    Scripted { responder, store, _secrets: secrets }
}

impl Scripted {
    async fn put(&self, mode: PutMode) -> Result<Put, Fault> {
        self.store.put("a/b", Bytes::from_static(b"body"), mode).await
    }
}

/// An answer with an error of S3 in it.
fn refusal(status: u16, code: &str) -> String {
    let body = format!("<Error><Code>{code}</Code><Message>said so</Message><RequestId>1</RequestId></Error>");
    answer(status, &[("content-type", "application/xml")], &body)
}

fn ok() -> String {
    answer(200, &[("etag", "\"1\"")], "")
}

#[tokio::test]
async fn a_put_is_sent_plain_signed_and_where_the_site_file_says() {
    let it = scripted(|_, _| ok()).await;
    it.put(PutMode::Create).await.unwrap();
    it.put(PutMode::Replace).await.unwrap();
    it.store.clone().with(Capabilities::default()).put("c", Bytes::from_static(b"body"), PutMode::Replace).await.unwrap();
    let [create, replace, with_md5] = it.responder.seen().try_into().unwrap();
    assert!(
        create.line.starts_with("PUT /longshore-test/pre/fix/a/b?")
            || create.line.starts_with("PUT /longshore-test/pre/fix/a/b "),
        "{create:?}"
    );
    assert_eq!((create.header("if-none-match"), replace.header("if-none-match")), (Some("*"), None));
    let sha256 = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";
    assert_eq!((create.header("x-amz-content-sha256"), create.header("content-md5")), (Some(sha256), None));
    assert_eq!(with_md5.header("content-md5"), Some("hBotaJrYa9FhFEdFPCLG/A=="));
    for request in [&create, &replace, &with_md5] {
        assert_eq!(request.body, b"body");
        for absent in ["content-encoding", "x-amz-trailer", "x-amz-checksum-crc32", "x-amz-sdk-checksum-algorithm"] {
            assert_eq!(request.header(absent), None, "{absent}");
        }
    }
}

#[tokio::test]
async fn a_service_gets_the_cheapest_guard_that_it_was_seen_to_check_and_one_only() {
    let it = scripted(|_, _| ok()).await;
    for (checks_crc64, checks_sha256, checks_md5) in [(true, true, true), (false, true, true), (false, false, true)] {
        let capabilities = Capabilities { checks_crc64, checks_sha256, checks_md5, ..Capabilities::default() };
        it.store.clone().with(capabilities).put("c", Bytes::from_static(b"body"), PutMode::Replace).await.unwrap();
    }
    let [crc64, sha256, md5] = it.responder.seen().try_into().unwrap();
    let guards = |seen: &responder::Seen| {
        let header = |name| seen.header(name).map(str::to_owned);
        (
            header("x-amz-checksum-crc64nvme").is_some(),
            header("x-amz-content-sha256").unwrap().len(),
            header("content-md5").is_some(),
        )
    };
    let unsigned = "UNSIGNED-PAYLOAD".len();
    assert_eq!(
        [guards(&crc64), guards(&sha256), guards(&md5)],
        [(true, unsigned, false), (false, 64, false), (false, unsigned, true)]
    );
    assert_eq!(crc64.header("x-amz-sdk-checksum-algorithm"), Some("CRC64NVME"));
    assert!([crc64, sha256, md5].iter().all(|seen| seen.body == b"body" && seen.header("x-amz-trailer").is_none()));
}

/// The keys that a service has, and whether what they have is damaged.
type Kept = Arc<Mutex<BTreeMap<String, bool>>>;

/// A service that answers a put as `says` tells of a good and of a damaged body, and keeps what it takes; what it refuses
/// too, if `keeps_all`.
async fn keeping(says: fn(bool) -> String, keeps_all: bool) -> (Scripted, Kept) {
    let kept = Kept::default();
    let script = {
        let kept = kept.clone();
        move |_: usize, seen: &responder::Seen| {
            let mut kept = kept.lock().unwrap();
            let key = seen.line.split([' ', '?']).nth(1).unwrap().to_owned();
            if seen.is("PUT") {
                let damaged = seen.body.first() == Some(&2);
                let said = says(damaged);
                if keeps_all || said == ok() {
                    kept.insert(key, damaged);
                }
                said
            } else if seen.is("DELETE") {
                kept.remove(&key);
                answer(204, &[], "")
            } else {
                answer(if kept.contains_key(&key) { 200 } else { 404 }, &[], "")
            }
        }
    };
    (scripted(script).await, kept)
}

const GUARDS: [Guard; 3] = [Guard::Crc64, Guard::Md5, Guard::Sha256];

fn checks(damaged: bool) -> String {
    if damaged { refusal(400, "BadDigest") } else { ok() }
}

#[tokio::test]
async fn a_guard_counts_if_the_good_body_is_taken_and_the_damaged_one_refused() {
    type Says = fn(bool) -> String;
    let services: [(&str, Says, bool); 5] = [
        ("checks", checks, true),
        ("checks nothing", |_| ok(), false),
        ("knows no such header", |_| refusal(400, "InvalidRequest"), false),
        ("has not implemented it", |_| refusal(501, "NotImplemented"), false),
        ("forbids what isn't signed", |_| refusal(403, "AccessDenied"), false),
    ];
    for (name, says, expected) in services {
        let (it, _) = keeping(says, false).await;
        for guard in GUARDS {
            assert_eq!(it.store.refuses_damage("k", guard).await.unwrap(), expected, "{name} {guard:?}");
        }
    }
}

#[tokio::test]
async fn a_guard_does_not_count_if_the_damaged_body_is_refused_and_kept_and_that_is_removed() {
    for guard in GUARDS {
        let (it, kept) = keeping(checks, true).await;
        assert!(!it.store.refuses_damage("k", guard).await.unwrap(), "{guard:?}");
        let seen = it.responder.seen();
        let put: Vec<u8> = seen.iter().filter(|it| it.is("PUT")).map(|it| it.body[0]).collect();
        assert_eq!(put, [1, 2], "{guard:?}: the good body, and the damaged one");
        let kept = kept.lock().unwrap();
        assert!(kept.len() == 1 && kept.values().all(|damaged| !damaged), "{guard:?}: {kept:?}");
    }
}

#[tokio::test]
async fn what_passes_is_tried_again_a_few_times() {
    for status in [500, 502, 503, 504] {
        let it = scripted(move |n, _| if n < 2 { answer(status, &[], "") } else { ok() }).await;
        assert_eq!(it.put(PutMode::Create).await.unwrap(), Put::Written, "{status}");
        assert_eq!(it.responder.seen().len(), 3, "{status}");
    }
    let it = scripted(|_, _| answer(503, &[("retry-after", "17")], "")).await;
    let fault = it.put(PutMode::Replace).await.unwrap_err();
    assert_eq!((fault.code.as_str(), fault.is_transient(), fault.retry_after_s), (code::STORE_UNAVAILABLE, true, Some(17)));
    assert_eq!(it.responder.seen().len(), SDK_TRIES);
}

#[tokio::test]
async fn each_refusal_has_its_fault_and_what_is_final_is_not_tried_again() {
    for (status, refused, wanted, transient, requests) in [
        (403, "AccessDenied", code::STORE_DENIED, false, 1),
        (403, "InvalidAccessKeyId", code::STORE_DENIED, false, 1),
        (403, "SignatureDoesNotMatch", code::STORE_DENIED, false, 1),
        (400, "AuthorizationHeaderMalformed", code::STORE_DENIED, false, 1),
        (404, "NoSuchBucket", code::STORE_MISSING, false, 1),
        (403, "QuotaExceeded", code::STORE_FULL, true, 1),
        (507, "XMinioStorageFull", code::STORE_FULL, true, 1),
        (507, "Whatever", code::STORE_FULL, true, 1),
        (400, "MalformedXML", code::STORE_MISBEHAVED, false, 1),
        (503, "SlowDown", code::STORE_UNAVAILABLE, true, SDK_TRIES),
        (500, "InternalError", code::STORE_UNAVAILABLE, true, SDK_TRIES),
        (400, "RequestTimeout", code::STORE_UNAVAILABLE, true, SDK_TRIES),
        (409, "ConditionalRequestConflict", code::STORE_UNAVAILABLE, true, TRIES as usize),
        (400, "BadDigest", code::STORE_UNAVAILABLE, true, TRIES as usize),
    ] {
        let it = scripted(move |_, _| refusal(status, refused)).await;
        let fault = it.put(PutMode::Create).await.unwrap_err();
        assert_eq!((fault.code.as_str(), fault.is_transient()), (wanted, transient), "{refused}: {fault}");
        assert_eq!(it.responder.seen().len(), requests, "{refused}");
        assert!(fault.message.contains(refused) && fault.message.contains("a/b"), "{fault}");
        for hidden in [SECRET, ACCESS, "Signature", "AWS4"] {
            assert!(!fault.message.replace("SignatureDoesNotMatch", "").contains(hidden), "{fault}");
        }
    }
}

#[tokio::test]
async fn a_store_can_be_printed_without_its_secret() {
    let it = scripted(|_, _| ok()).await;
    let printed = format!("{:?} {:#?}", it.store, it.store);
    assert!(printed.contains("longshore-test") && !printed.contains(SECRET), "{printed}");
}

#[tokio::test]
async fn a_service_that_hangs_up_or_is_not_there_is_away() {
    let it = scripted(|_, _| String::new()).await;
    assert_eq!(it.put(PutMode::Replace).await.unwrap_err().code, code::STORE_UNAVAILABLE);
    let Scripted { responder, store, _secrets } = it;
    drop(responder);
    assert_eq!(store.ping().await.unwrap_err().code, code::STORE_UNAVAILABLE);
}

/// A service that does the first put, loses the answer, and remembers whose it was; or says another's.
fn loses_the_first_answer(someone_else: bool) -> impl Fn(usize, &responder::Seen) -> String + Send + Sync + 'static {
    let mark = std::sync::Mutex::new(String::new());
    move |n, request| match (n, request.is("HEAD")) {
        (0, _) => {
            *mark.lock().unwrap() = request.header("x-amz-meta-longshore-put").unwrap().to_owned();
            String::new()
        }
        (_, false) => refusal(412, "PreconditionFailed"),
        (_, true) if someone_else => answer(200, &[("x-amz-meta-longshore-put", "another")], ""),
        (_, true) => answer(200, &[("x-amz-meta-longshore-put", &mark.lock().unwrap())], ""),
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
async fn without_safe_conditions_a_create_looks_first_and_sends_none() {
    let it = scripted(|_, request| if request.is("HEAD") { answer(404, &[], "") } else { ok() }).await;
    let careful = it.store.clone().with(Capabilities::default());
    assert_eq!(careful.put("a", Bytes::new(), PutMode::Create).await.unwrap(), Put::Written);
    let [head, put] = it.responder.seen().try_into().unwrap();
    assert!(head.is("HEAD") && put.is("PUT") && put.header("if-none-match").is_none());
    let it = scripted(|_, _| answer(200, &[("content-length", "3")], "")).await;
    let careful = it.store.clone().with(Capabilities::default());
    assert_eq!(careful.put("a", Bytes::new(), PutMode::Create).await.unwrap(), Put::Existed);
    assert_eq!(it.responder.seen().len(), 1);
}

#[tokio::test]
async fn only_the_range_that_was_asked_for_is_believed() {
    type Headers = &'static [(&'static str, &'static str)];
    let answers: [(u16, Headers, &str, Result<&str, &str>); 10] = [
        (206, &[("content-range", "bytes 2-5/10")], "2345", Ok("2345")),
        (206, &[("content-range", "bytes 2-5/*")], "2345", Ok("2345")),
        (200, &[], "0123456789", Err(code::STORE_MISBEHAVED)),
        (206, &[("content-range", "bytes 0-3/10")], "0123", Err(code::STORE_MISBEHAVED)),
        (206, &[("content-range", "bytes 2-6/10")], "23456", Err(code::STORE_MISBEHAVED)),
        (206, &[("content-range", "bytes 2-5/10")], "23456", Err(code::STORE_MISBEHAVED)),
        (206, &[("content-range", "rubbish")], "2345", Err(code::STORE_MISBEHAVED)),
        (206, &[("content-range", "bytes 2-3/4")], "23", Err(code::OBJECT_MISSING)),
        (200, &[], "2345", Err(code::STORE_MISBEHAVED)),
        (200, &[], "", Err(code::STORE_MISBEHAVED)),
    ];
    for (status, headers, body, wanted) in answers {
        let it = scripted(move |_, _| answer(status, headers, body)).await;
        let got = it.store.get("a", 2..6).await;
        let got = got.as_ref().map(|it| std::str::from_utf8(it).unwrap()).map_err(|fault| fault.code.as_str());
        assert_eq!(got, wanted, "{status} {headers:?} {body}");
        assert_eq!(it.responder.seen()[0].header("range"), Some("bytes=2-5"));
    }
    let it = scripted(|_, _| refusal(416, "InvalidRange")).await;
    assert_eq!(it.store.get("a", 2..6).await.unwrap_err().code, code::OBJECT_MISSING);
    let it = scripted(|_, _| refusal(404, "NoSuchKey")).await;
    assert_eq!(it.store.get("a", 2..6).await.unwrap_err().code, code::OBJECT_MISSING);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_read_again_and_never_returned_short() {
    let broken = || answer(206, &[("content-range", "bytes 2-5/10"), ("content-length", "4")], "23");
    let whole = || answer(206, &[("content-range", "bytes 2-5/10")], "2345");
    let it = scripted(move |n, _| if n == 0 { broken() } else { whole() }).await;
    assert_eq!(it.store.get("a", 2..6).await.unwrap(), "2345");
    let it = scripted(move |_, _| broken()).await;
    let fault = it.store.get("a", 2..6).await.unwrap_err();
    assert_eq!((fault.code.as_str(), fault.is_transient()), (code::STORE_UNAVAILABLE, true), "{fault}");
    assert_eq!(it.responder.seen().len(), TRIES as usize);
}

fn page(keys: &[&str], next: Option<&str>) -> String {
    let contents: String = keys
        .iter()
        .map(|key| {
            format!("<Contents><Key>{key}</Key><Size>3</Size><LastModified>2026-01-02T03:04:05.678Z</LastModified></Contents>")
        })
        .collect();
    let next = next.map_or_else(
        || "<IsTruncated>false</IsTruncated>".to_owned(),
        |token| format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"),
    );
    answer(200, &[], &format!("<ListBucketResult>{contents}{next}</ListBucketResult>"))
}

async fn listed(it: &Scripted) -> Result<Vec<Entry>, Fault> {
    it.store.list("p").try_collect().await
}

#[tokio::test]
async fn pages_are_followed_and_keys_that_cannot_be_ours_left_out() {
    let it = scripted(|n, _| match n {
        0 => page(&["pre/fix/p1", "pre/fix/p/../x", "pre/fix/p/"], Some("t1")),
        1 => page(&[], Some("t2")),
        _ => page(&["pre/fix/p/2"], None),
    })
    .await;
    let modified_ms = 1_767_323_045_678;
    let entry = |key: &str| Entry { key: key.to_owned(), bytes: 3, modified_ms };
    assert_eq!(listed(&it).await.unwrap(), [entry("p1"), entry("p/2")]);
    let lines: Vec<_> = it.responder.seen().into_iter().map(|it| it.line).collect();
    assert!(lines[0].contains("prefix=pre%2Ffix%2Fp") && !lines[0].contains("continuation-token"), "{lines:?}");
    assert!(lines[1].contains("continuation-token=t1") && lines[2].contains("continuation-token=t2"), "{lines:?}");
}

#[tokio::test]
async fn a_list_that_lies_or_goes_in_circles_ends_in_a_fault() {
    let it = scripted(|_, _| page(&["pre/fix/p1"], Some("same"))).await;
    assert_eq!(listed(&it).await.unwrap_err().code, code::STORE_MISBEHAVED);
    assert_eq!(it.responder.seen().len(), 2);
    for key in ["pre/fix/q", "pre/p1", "p1", ""] {
        let it = scripted(move |_, _| page(&[key], None)).await;
        assert_eq!(listed(&it).await.unwrap_err().code, code::STORE_MISBEHAVED, "{key}");
    }
    let it = scripted(|_, _| answer(200, &[], "<html>not a list")).await;
    assert!(listed(&it).await.is_err());
}

#[tokio::test]
async fn an_absent_key_is_told_from_an_absent_bucket() {
    let absent = |bucket: bool| {
        move |_: usize, request: &responder::Seen| match (request.is("HEAD"), bucket) {
            (true, _) => answer(404, &[], ""),
            (false, true) => page(&[], None),
            (false, false) => refusal(404, "NoSuchBucket"),
        }
    };
    assert_eq!(scripted(absent(true)).await.store.head("a").await.unwrap(), None);
    assert_eq!(scripted(absent(false)).await.store.head("a").await.unwrap_err().code, code::STORE_MISSING);
}

#[tokio::test]
async fn a_delete_is_done_only_when_the_key_is_gone() {
    let it = scripted(|_, request| answer(if request.is("HEAD") { 404 } else { 204 }, &[], "")).await;
    it.store.delete("a").await.unwrap();
    let it = scripted(|_, request| answer(if request.is("HEAD") { 200 } else { 204 }, &[], "")).await;
    let fault = it.store.delete("a").await.unwrap_err();
    assert_eq!((fault.code.as_str(), fault.is_transient()), (code::STORE_UNAVAILABLE, true));
}

#[tokio::test]
async fn what_the_site_file_gets_wrong_is_said_before_anything_is_sent() {
    let secrets = tempfile::tempdir().unwrap();
    std::fs::write(secrets.path().join("key"), "x").unwrap();
    let reference = format!("file:{}", secrets.path().join("key").display());
    let good = place("http://127.0.0.1:1", &reference, &reference);
    S3Store::new(&good).unwrap();
    let wrong = |change: &dyn Fn(&mut site::Store)| {
        let mut place = good.clone();
        change(&mut place);
        S3Store::new(&place).unwrap_err().code
    };
    for url in ["file:///x", "s3://", "s3://ab", "s3://b u/x", "s3://bucket/a//b", "s3://bucket/../x", "s3://bucket/.x"] {
        assert_eq!(wrong(&|it| it.url = url.to_owned()), code::SITE_INVALID, "{url}");
    }
    for endpoint in ["127.0.0.1:9000", "ftp://x", "http://", "http://user:password@host", "http://host?x=1"] {
        assert_eq!(wrong(&|it| it.endpoint = Some(endpoint.to_owned())), code::SITE_INVALID, "{endpoint}");
    }
    assert_eq!(wrong(&|it| it.endpoint = None), code::SITE_INVALID);
    assert_eq!(wrong(&|it| it.credentials = None), code::STORE_DENIED);
    let none = site::Credentials { access_key: "env:LONGSHORE_NONE".to_owned(), secret_key: reference.clone() };
    assert_eq!(wrong(&|it| it.credentials = Some(none.clone())), code::STORE_DENIED);
}
