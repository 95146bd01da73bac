//! Parameters of a question. One that nobody knows, or that is given twice, is refused: left out silently, it would have
//! the answer be about something else than was asked.

use super::refusal::Refusal;
use axum::extract::{Query, rejection::QueryRejection};
use longshore_schema::fault::shown;
use std::{collections::BTreeMap, ops::RangeInclusive, str::FromStr};

const LIMITS: RangeInclusive<u64> = 1..=1000;
const LIMIT: u64 = 100;

/// What was written behind the question mark.
pub(super) type Asked = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// A query's parameters; one that is empty counts as absent.
pub(super) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// Those that a page knows, each at most once.
    pub(super) fn read(asked: Asked, known: &[&str]) -> Result<Parameters, Refusal> {
        let Query(asked) = asked.map_err(|error| Refusal::malformed(error.body_text()))?;
        let mut read = BTreeMap::new();
        for (name, value) in asked {
            if !known.contains(&name.as_str()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Refusal::malformed(format!("no parameter {:?}; there are {known}", shown(&name))));
            }
            if value.chars().any(char::is_control) {
                return Err(Refusal::malformed(format!("`{name}` has a control character")));
            }
            if read.insert(name.clone(), value).is_some() {
                return Err(Refusal::malformed(format!("`{name}` is given twice; ask once for each value")));
            }
        }
        read.retain(|_, value| !value.is_empty());
        Ok(Parameters(read))
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    pub(super) fn parsed<T: FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, Refusal> {
        let parse = |it: &String| it.parse().map_err(|_| Refusal::malformed(format!("`{name}` is {what}, not `{it}`")));
        self.0.get(name).map(parse).transpose()
    }

    pub(super) fn limit(&self) -> Result<u64, Refusal> {
        let what = format!("a number from {} to {}", LIMITS.start(), LIMITS.end());
        let limit = self.parsed("limit", &what)?.unwrap_or(LIMIT);
        match LIMITS.contains(&limit) {
            true => Ok(limit),
            false => Err(Refusal::malformed(format!("`limit` is {what}, not `{limit}`"))),
        }
    }
}
