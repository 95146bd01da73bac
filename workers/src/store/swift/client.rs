//! One request and its answer, over one connection pool for each store. Redirects aren't followed: a token goes only to where
//! it was meant for. Nothing that a service sends is kept beyond what the caller can use.

use super::cause::{Cause, Failure, plain};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, StatusCode, body::Incoming, header::RETRY_AFTER};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use longshore_schema::fault::{Fault, chain, code};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

const CONNECT: Duration = Duration::from_secs(5);
/// A connection that nobody uses for so long is closed, before services do it.
const IDLE: Duration = Duration::from_secs(15);
/// A body that brings nothing for so long has broken off.
const STALLED: Duration = Duration::from_secs(20);
/// Of an answer that says why something failed.
const LONGEST_REASON: usize = 4 << 10;

/// The system's authorities. A host without any speaks plain HTTP all the same.
static AUTHORITIES: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut authorities = RootCertStore::empty();
    authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(authorities)
});

/// A client and its connections.
#[derive(Debug, Clone)]
pub(super) struct Http(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// The head of an answer, with its body still to come.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
}

impl Http {
    pub(super) fn new() -> Result<Http, Fault> {
        let config =
            ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
        let config = config.map_err(|error| Fault::permanent(code::INTERNAL, format!("set up TLS: {}", chain(&error))))?;
        let config = config.with_root_certificates(AUTHORITIES.clone()).with_no_client_auth();
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().wrap_connector(connector);
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        Ok(Http(client.build(connector)))
    }

    /// Sends a request, and waits for the head of its answer for as long as `limit`.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>, limit: Duration) -> Result<Answer, Failure> {
        match tokio::time::timeout(limit, self.0.request(request)).await {
            Ok(Ok(answer)) => {
                let (head, body) = answer.into_parts();
                Ok(Answer { status: head.status, headers: head.headers, body })
            }
            Ok(Err(error)) => Err(Failure::new(Cause::Away, plain(&chain(&error)))),
            Err(_) => Err(Failure::new(Cause::Away, format!("no answer within {} s", limit.as_secs()))),
        }
    }
}

impl Answer {
    /// A header, unless it is absent or no text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|it| it.to_str().ok())
    }

    /// The length that it announces.
    pub(super) fn length(&self) -> Option<u64> {
        self.header("content-length").and_then(|it| it.parse().ok())
    }

    /// What comes next of the body, which isn't what was announced if this is an error.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let broke = |why: String| Failure::new(Cause::Away, format!("the answer broke off: {why}"));
        loop {
            match tokio::time::timeout(STALLED, self.body.frame()).await {
                Ok(None) => return Ok(None),
                // What isn't data comes after it, and says nothing to us.
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(_) => continue,
                },
                Ok(Some(Err(error))) => return Err(broke(plain(&chain(&error)))),
                Err(_) => return Err(broke(format!("nothing for {} s", STALLED.as_secs()))),
            }
        }
    }

    /// The whole body. More than `most` bytes are `Cause::Odd`, and aren't read.
    pub(super) async fn body(mut self, most: usize) -> Result<Bytes, Failure> {
        let mut body = BytesMut::with_capacity(self.length().and_then(|it| usize::try_from(it).ok()).unwrap_or(0).min(most));
        while let Some(part) = self.next().await? {
            if body.len() + part.len() > most {
                return Err(Failure::new(Cause::Odd, format!("an answer of more than {most} bytes")));
            }
            body.extend_from_slice(&part);
        }
        Ok(body.freeze())
    }

    /// What it says about what failed.
    pub(super) async fn failure(mut self) -> Failure {
        let mut said = BytesMut::new();
        while said.len() < LONGEST_REASON {
            // It has failed in any case: what comes of the reason is enough.
            let Ok(Some(part)) = self.next().await else { break };
            said.extend_from_slice(&part[..part.len().min(LONGEST_REASON - said.len())]);
        }
        let reason = plain(&String::from_utf8_lossy(&said));
        let colon = if reason.is_empty() { "" } else { ": " };
        let wait_s = self.header(RETRY_AFTER.as_str()).and_then(|it| it.parse().ok());
        Failure { wait_s, ..Failure::new(Cause::of(self.status), format!("it answered {}{colon}{reason}", self.status)) }
    }
}
