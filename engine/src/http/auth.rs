//! Who may read: whoever shows the token; without one, whoever asks from this host under this host's name.

use super::{App, refusal::Refusal};
use anyhow::{Context, bail, ensure};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::Response,
};
use std::{net::IpAddr, sync::Arc};

/// A token of fewer characters is refused: it could be guessed.
const SHORTEST: usize = 16;

/// What a reader must show.
#[derive(Debug)]
pub(super) struct Guard {
    /// Of the token. Comparing two of them takes the same time wherever they differ.
    digest: Option<blake3::Hash>,
}

impl Guard {
    pub(super) fn new(token: Option<&str>) -> Guard {
        Guard { digest: token.map(|it| blake3::hash(it.as_bytes())) }
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(digest) = self.digest else { return true };
        let shown = headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok()).and_then(|it| it.split_once(' '));
        shown.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case("bearer") && blake3::hash(token.trim().as_bytes()) == digest
        })
    }
}

/// The token that a reference names: `env:NAME` or `file:PATH`.
pub(super) fn read_token(reference: &str) -> anyhow::Result<String> {
    let token = match reference.split_once(':') {
        Some(("env", name)) => std::env::var(name).with_context(|| format!("read the token from the variable {name}"))?,
        Some(("file", path)) => std::fs::read_to_string(path).with_context(|| format!("read the token from {path}"))?,
        // What was written there may be the secret: it isn't repeated.
        _ => bail!("the token is given by reference, `env:NAME` or `file:PATH`"),
    };
    let token = token.trim().to_owned();
    ensure!(token.len() >= SHORTEST, "the token of {reference} is shorter than {SHORTEST} characters");
    ensure!(token.chars().all(|it| it.is_ascii_graphic()), "the token of {reference} has characters that no header can carry");
    Ok(token)
}

/// Lets readers with the token through.
pub(super) async fn admit(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, Refusal> {
    match app.guard.admits(request.headers()) {
        true => Ok(next.run(request).await),
        false => Err(Refusal::no_token()),
    }
}

/// Without a token the name that was asked for must be this host's own: a page from elsewhere, whose name was
/// pointed at this address, must not read what is here through a browser.
pub(super) async fn check_host(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, Refusal> {
    let asked = request.headers().get(header::HOST).and_then(|it| it.to_str().ok());
    match app.guard.digest.is_some() || asked.is_some_and(is_own_name) {
        true => Ok(next.run(request).await),
        false => Err(Refusal::wrong_host()),
    }
}

/// Whether a Host header names loopback.
fn is_own_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(name, _)| name),
        None => Some(host.split_once(':').map_or(host, |(name, _)| name)),
    };
    name.is_some_and(|it| {
        it.eq_ignore_ascii_case("localhost") || it.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_loopback_are_this_hosts_own() {
        for own in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.1.2.3", "[::1]:8080", "[::1]", "[::ffff:127.0.0.1]:80"] {
            assert!(is_own_name(own), "{own}");
        }
        for other in ["", "example.org", "localhost.example.org:80", "10.0.0.1:80", "[::2]:80", "[::1", "127.0.0.1.example.org"] {
            assert!(!is_own_name(other), "{other}");
        }
    }

    #[test]
    fn a_token_is_a_reference_to_something_long_enough() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            format!("file:{}", path.display())
        };
        assert_eq!(read_token(&write("good", "0123456789abcdef\n")).unwrap(), "0123456789abcdef");
        for (bad, said) in [
            (write("empty", "\n"), "shorter"),
            (write("short", "0123456789abcde"), "shorter"),
            (write("two-lines", "0123456789abcdef\n0123456789abcdef"), "no header"),
            (format!("file:{}/absent", folder.path().display()), "read the token"),
            ("0123456789abcdef-a-literal-secret".to_owned(), "by reference"),
            ("other:0123456789abcdef-a-literal-secret".to_owned(), "by reference"),
        ] {
            let error = format!("{:#}", read_token(&bad).unwrap_err());
            assert!(error.contains(said) && !error.contains("literal-secret"), "{bad}: {error}");
        }
    }
}
