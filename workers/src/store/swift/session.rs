//! Tokens: asked for when the first request needs one, shared by all requests, and asked for again shortly before they run out
//! or once one is refused. However many requests need a new one, it is asked for once, and what comes of that, also a failure,
//! is the answer for all who were waiting.

use super::{
    cause::{Cause, Failure},
    client::Http,
    login::{Granted, Login},
};
use hyper::header::HeaderValue;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A token is not used in the last part of its life, so that no request begins with it and ends without: at most this long.
const LONGEST_REST: Duration = Duration::from_secs(120);

/// What lets requests in.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// The address of the account, without `/` at its end.
    pub(super) storage: String,
    /// Marked as sensitive: it isn't printed.
    pub(super) token: HeaderValue,
    /// When another one is asked for; never, if nobody said how long it lasts.
    renew_at: Option<Instant>,
    /// Which one it is, counted from 1.
    number: u64,
}

/// Those of one store.
#[derive(Debug)]
pub(super) struct Sessions {
    http: Http,
    login: Login,
    last: Mutex<Last>,
    /// Held by who asks for a token.
    asking: tokio::sync::Mutex<()>,
}

/// What came of the last time that a token was asked for.
#[derive(Debug)]
struct Last {
    /// How often it was.
    number: u64,
    session: Result<Session, Failure>,
}

impl Sessions {
    pub(super) fn new(http: Http, login: Login) -> Sessions {
        let none = Last { number: 0, session: Err(Failure::new(Cause::Away, "no token was asked for yet")) };
        Sessions { http, login, last: Mutex::new(none), asking: tokio::sync::Mutex::default() }
    }

    /// A session that is good as far as is known.
    pub(super) async fn get(&self) -> Result<Session, Failure> {
        let (number, known) = {
            let last = self.last();
            (last.number, last.session.clone())
        };
        match known {
            Ok(session) if session.renew_at.is_none_or(|it| Instant::now() < it) => Ok(session),
            Ok(_) | Err(_) => self.renew(number).await,
        }
    }

    /// A newer one than this, which was refused.
    pub(super) async fn instead_of(&self, refused: &Session) -> Result<Session, Failure> {
        self.renew(refused.number).await
    }

    async fn renew(&self, number: u64) -> Result<Session, Failure> {
        let _asking = self.asking.lock().await;
        {
            let last = self.last();
            if last.number != number {
                return last.session.clone();
            }
        }
        let asked = Instant::now();
        let granted = self.login.ask(&self.http).await;
        let mut last = self.last();
        last.number += 1;
        let number = last.number;
        last.session = granted.map(|Granted { storage, token, lasts }| {
            let renew_at = lasts.and_then(|it| asked.checked_add(it.saturating_sub(rest(it))));
            Session { storage, token, renew_at, number }
        });
        last.session.clone()
    }

    /// A panic of who held it changes nothing: it is never left half-written.
    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long before its end a token that lasts so long isn't used any more.
fn rest(lasts: Duration) -> Duration {
    (lasts / 10).min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_in_the_last_tenth_of_its_life_and_two_minutes_before_its_end_at_most() {
        let seconds = Duration::from_secs;
        for (lasts, wanted) in [(0, 0), (10, 1), (600, 60), (3600, 120), (86_400, 120)] {
            assert_eq!(rest(seconds(lasts)), seconds(wanted), "{lasts}");
        }
    }
}
