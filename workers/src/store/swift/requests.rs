//! What is asked of a container: with a token, again if nobody answers, and once with a new token if the old one is refused.

use super::{
    cause::{Cause, Failure},
    client::{Answer, Http},
    session::{Session, Sessions},
};
use crate::store::retry::{TRIES, pause};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode};
use longshore_schema::fault::chain;
use std::time::Duration;

/// From a request to the head of its answer; puts have a limit of their own.
const ANSWER: Duration = Duration::from_secs(60);

/// A request, but for its token.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    method: Method,
    /// Below the container: empty, `/` and a name, or `?` and a query.
    below: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    limit: Duration,
}

impl Asked {
    pub(super) fn new(method: Method, below: impl Into<String>) -> Asked {
        Asked { method, below: below.into(), headers: vec![], body: Bytes::new(), limit: ANSWER }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Asked {
        self.headers.push((name, value.into()));
        self
    }

    /// With a body, also an empty one, whose answer may take that long.
    pub(super) fn body(self, body: Bytes, limit: Duration) -> Asked {
        // Said in any case: Swift takes no body without it, and an empty one would go without.
        Asked { limit, body: body.clone(), ..self.header("content-length", body.len().to_string()) }
    }
}

/// Asks one container.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) http: Http,
    pub(super) sessions: Sessions,
    pub(super) container: String,
}

impl Requests {
    /// The answer, if it is one of success.
    pub(super) async fn send(&self, asked: &Asked) -> Result<Answer, Failure> {
        let (mut tries, mut renewed) = (1, false);
        loop {
            let session = self.sessions.get().await?;
            let failure = match self.once(&session, asked).await {
                Ok(answer) if answer.status.is_success() => return Ok(answer),
                Ok(answer) if answer.status == StatusCode::UNAUTHORIZED && !renewed => {
                    renewed = true;
                    self.sessions.instead_of(&session).await?;
                    continue;
                }
                Ok(answer) => answer.failure().await,
                Err(broke) => {
                    if !renewed && !asked.body.is_empty() && self.refuses(&session).await {
                        renewed = true;
                        self.sessions.instead_of(&session).await?;
                        continue;
                    }
                    broke
                }
            };
            if failure.cause != Cause::Away || tries == TRIES {
                return Err(failure);
            }
            pause(tries).await;
            tries += 1;
        }
    }

    /// Whether a token is refused. A service that refuses it while a body is on its way may hang up, and its answer is lost;
    /// that to a request without a body isn't.
    async fn refuses(&self, session: &Session) -> bool {
        let answer = self.once(session, &Asked::new(Method::HEAD, "")).await;
        answer.is_ok_and(|it| it.status == StatusCode::UNAUTHORIZED)
    }

    async fn once(&self, session: &Session, asked: &Asked) -> Result<Answer, Failure> {
        let Asked { method, below, headers, body, limit } = asked;
        let uri = format!("{}/{}{below}", session.storage, self.container);
        let mut request = Request::builder().method(method).uri(uri).header("x-auth-token", &session.token);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(body.clone())).map_err(|error| Failure::new(Cause::Odd, chain(&error)))?;
        self.http.send(request, *limit).await
    }
}
