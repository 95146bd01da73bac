//! Tokens: when they are asked for, by how many, and what becomes of refused ones.

use super::*;
use futures::future::join_all;

/// Requests that are made at once.
const MANY: usize = 8;

#[tokio::test]
async fn a_token_is_asked_for_once_for_all_and_again_once_it_is_refused() {
    let logins = AtomicUsize::new(0);
    let it = scripted_whole(move |_, seen| match (is_login(seen), seen.header("x-auth-token")) {
        (true, _) => lets_in(seen, &format!("t{}", logins.fetch_add(1, SeqCst)), "86400"),
        (false, Some("t0")) => answer(401, &[], "expired"),
        (false, _) => answer(204, &[], ""),
    })
    .await;
    for end in join_all((0..MANY).map(|_| it.store.ping())).await {
        end.unwrap();
    }
    assert_eq!(it.logins(), 2, "one for all, and one more for all whose token was refused");
    assert_eq!(it.seen().len(), 2 * MANY);
    it.store.ping().await.unwrap();
    assert_eq!((it.logins(), it.seen().len()), (2, 2 * MANY + 1));
    let seen = it.responder.seen();
    let login = &seen[0];
    assert_eq!(login.line, "GET /auth/v1.0 HTTP/1.1");
    assert_eq!((login.header("x-auth-user"), login.header("x-auth-key")), (Some(USER), Some(KEY)));
}

#[tokio::test]
async fn who_is_not_let_in_is_asked_about_once_for_all_who_wait_and_again_for_later_ones() {
    let it = scripted_whole(|_, _| answer(401, &[], "who?")).await;
    let ends = join_all((0..MANY).map(|_| it.store.ping())).await;
    for fault in ends.into_iter().map(Result::unwrap_err) {
        assert!(fault.code == code::STORE_DENIED && fault.message.contains("/auth/v1.0 for a token: it answered 401"), "{fault}");
        assert!(!fault.message.contains(KEY), "{fault}");
    }
    assert_eq!(it.logins(), 1);
    it.store.ping().await.unwrap_err();
    assert_eq!(it.logins(), 2);
}

#[tokio::test]
async fn a_token_that_has_run_out_is_not_sent() {
    for (expires, logins) in [("0", 3), ("86400", 1), ("soon", 1)] {
        let it = scripted_whole(move |_, seen| match is_login(seen) {
            true => lets_in(seen, TOKEN, expires),
            false => answer(204, &[], ""),
        })
        .await;
        for _ in 0..3 {
            it.store.ping().await.unwrap();
        }
        assert_eq!((it.logins(), it.seen().len()), (logins, 3), "{expires}");
    }
}

#[tokio::test]
async fn a_refusal_that_is_lost_because_a_body_was_on_its_way_is_asked_for_without_one() {
    let logins = AtomicUsize::new(0);
    let it = scripted_whole(move |_, seen| match (is_login(seen), seen.header("x-auth-token")) {
        (true, _) => lets_in(seen, &format!("t{}", logins.fetch_add(1, SeqCst)), "86400"),
        (false, Some("t0")) if seen.is("PUT") => String::new(),
        (false, Some("t0")) => answer(401, &[], ""),
        (false, _) => ok(),
    })
    .await;
    assert_eq!(it.put(PutMode::Replace).await.unwrap(), Put::Written);
    let asked: Vec<_> = it.seen().iter().map(|it| it.line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!((it.logins(), asked), (2, vec!["PUT".to_owned(), "HEAD".to_owned(), "PUT".to_owned()]));
}

#[tokio::test]
async fn answers_without_a_token_or_an_account_let_nobody_in() {
    type Headers = &'static [(&'static str, &'static str)];
    const STORAGE: (&str, &str) = ("x-storage-url", "http://127.0.0.1:1/v1/AUTH_test");
    let answers: [(Headers, &str); 4] = [
        (&[], code::STORE_MISBEHAVED),
        (&[STORAGE], code::STORE_MISBEHAVED),
        (&[("x-auth-token", "t")], code::SITE_INVALID),
        (&[("x-auth-token", "t"), ("x-storage-url", "ftp://127.0.0.1/x")], code::STORE_MISBEHAVED),
    ];
    for (headers, wanted) in answers {
        let it = scripted_whole(move |_, _| answer(200, headers, "")).await;
        assert_eq!(it.store.ping().await.unwrap_err().code, wanted, "{headers:?}");
        assert_eq!(it.responder.seen().len(), 1, "{headers:?}");
    }
}

/// A store behind a Keystone that answers with this body.
async fn behind_keystone(body: impl Fn(&str) -> serde_json::Value + Send + Sync + 'static) -> Scripted {
    let script = move |_: usize, seen: &Seen| match is_login(seen) {
        true => answer(201, &[("x-subject-token", TOKEN)], &body(seen.header("host").unwrap()).to_string()),
        false => answer(204, &[], ""),
    };
    let it = scripted_whole(script).await;
    let mut place = place(&it.responder.endpoint, &reference(&it._secrets));
    place.auth = Some(format!("{}/v3", it.responder.endpoint));
    (place.user, place.project, place.domain) = (Some("tester".into()), Some("backups".into()), Some("elsewhere".into()));
    Scripted { store: SwiftStore::new(&place).unwrap(), ..it }
}

fn catalog(services: serde_json::Value) -> serde_json::Value {
    serde_json::json!({"token": {"issued_at": "2026-11-28T12:00:00.000000Z", "expires_at": "2026-11-28T13:00:00.000000Z",
        "catalog": services}})
}

#[tokio::test]
async fn keystone_gives_a_token_of_the_project_and_names_the_store() {
    let it = behind_keystone(|host| {
        let store = format!("http://{host}/v1/AUTH_42");
        catalog(serde_json::json!([
            {"type": "identity", "endpoints": [{"interface": "public", "url": "http://127.0.0.1:1/v3"}]},
            {"type": "object-store", "endpoints": [
                {"interface": "internal", "url": "http://127.0.0.1:1/v1/AUTH_42"}, {"interface": "public", "url": store}]},
        ]))
    })
    .await;
    it.store.ping().await.unwrap();
    it.store.ping().await.unwrap();
    assert_eq!(it.logins(), 1);
    let seen = it.responder.seen();
    assert_eq!(seen[0].line, "POST /v3/auth/tokens HTTP/1.1");
    let domain = serde_json::json!({"name": "elsewhere"});
    let wanted = serde_json::json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {"name": "tester", "domain": domain, "password": KEY}}},
        "scope": {"project": {"name": "backups", "domain": domain}}}});
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&seen[0].body).unwrap(), wanted);
    assert_eq!(seen[1].line, "HEAD /v1/AUTH_42/longshore-test HTTP/1.1");
    assert_eq!(seen[1].header("x-auth-token"), Some(TOKEN));
}

#[tokio::test]
async fn a_catalog_without_the_one_store_that_is_meant_is_told() {
    let store = |url: &str| serde_json::json!({"type": "object-store", "endpoints": [{"interface": "public", "url": url}]});
    for (services, said) in [
        (serde_json::json!([]), "no public object store"),
        (serde_json::json!([store("http://a/v1/AUTH_1"), store("http://b/v1/AUTH_1")]), "several object stores"),
    ] {
        let it = behind_keystone(move |_| catalog(services.clone())).await;
        let fault = it.store.ping().await.unwrap_err();
        assert!(fault.code == code::SITE_INVALID && fault.message.contains(said), "{fault}");
    }
    let it = behind_keystone(|_| serde_json::json!({"error": "a-token"})).await;
    let fault = it.store.ping().await.unwrap_err();
    assert!(fault.code == code::STORE_MISBEHAVED && !fault.message.contains("a-token"), "{fault}");
}
