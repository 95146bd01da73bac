//! What a place lacks for an operation, in words: what is left, of how much, what is needed, and who comes first.

use super::limit;
use longshore_schema::{
    fault::{Fault, code},
    site::{Role, Size},
    tables::place,
};
use std::fmt;

/// A place that doesn't grant what an operation needs, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    is_pool: bool,
    name: String,
    left: u64,
    limit: u64,
    total: u64,
    needed: u64,
    ahead: u64,
}

impl Shortage {
    /// Of a place with so much left, for an operation that needs so much and comes behind so many others.
    pub fn new(place: &place::Model, left: i64, needed: i64, ahead: u64) -> Shortage {
        let bytes = |it: i64| u64::try_from(it).unwrap_or(0);
        Shortage {
            is_pool: place.role == Role::Pool.as_str(),
            name: place.name.clone(),
            left: bytes(left),
            limit: bytes(limit(place)),
            total: bytes(place.total),
            needed: bytes(needed),
            ahead,
        }
    }

    /// Whether it could fit once others are gone.
    pub fn may_end(&self) -> bool {
        self.needed <= self.limit
    }

    /// For who is refused, with what to do about it.
    pub fn fault(&self) -> Fault {
        let code = if self.is_pool { code::POOL_FULL } else { code::STORE_FULL };
        let what = if self.is_pool { "volumes" } else { "objects" };
        let raise = if self.is_pool { "`capacity`, `overcommit` or `threshold`" } else { "`capacity` or `threshold`" };
        match self.may_end() {
            true => {
                let message = format!("{self}; destroy {what} that nobody needs, or raise its {raise} in the site file");
                Fault::transient(code, message).retry_after(30)
            }
            false => {
                let message = format!("{self}, which is more than it can ever hold; raise its {raise} in the site file");
                Fault::permanent(code, message)
            }
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.is_pool { Role::Pool } else { Role::Store };
        write!(f, "{} {} has {} left of {}", role.as_str(), self.name, size(self.left, self.needed), Size(self.limit))?;
        if self.limit != self.total {
            write!(f, " ({} % of {})", percent(self.limit, self.total), Size(self.total))?;
        }
        write!(f, "; {} needed", size(self.needed, self.left))?;
        match self.ahead {
            0 => Ok(()),
            1 => write!(f, "; 1 operation waits before this one"),
            more => write!(f, "; {more} operations wait before this one"),
        }
    }
}

/// A size for people; to the byte where it couldn't be told from the other one.
fn size(bytes: u64, other: u64) -> String {
    let text = Size(bytes).to_string();
    if bytes != other && text == Size(other).to_string() { format!("{bytes} B") } else { text }
}

/// Whole, and up: a limit is never told to be less than it is.
fn percent(part: u64, whole: u64) -> u128 {
    (u128::from(part) * 100).div_ceil(u128::from(whole.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shortage(left: u64, limit: u64, total: u64, needed: u64, ahead: u64) -> Shortage {
        Shortage { is_pool: false, name: "s3-main".into(), left, limit, total, needed, ahead }
    }

    #[test]
    fn it_is_told_as_the_contract_has_it_and_as_exactly_as_it_must() {
        const MIB: u64 = 1 << 20;
        for (shortage, told) in [
            (shortage(12 * MIB, 1 << 30, 1 << 30, 40 * MIB, 0), "store s3-main has 12 MiB left of 1 GiB; 40 MiB needed"),
            (
                shortage(12 * MIB, 768 * MIB, 1 << 30, 40 * MIB, 1),
                "store s3-main has 12 MiB left of 768 MiB (75 % of 1 GiB); 40 MiB needed; 1 operation waits before this one",
            ),
            (
                shortage(500 * MIB, 1 << 31, 1 << 30, 40 * MIB, 2),
                "store s3-main has 500 MiB left of 2 GiB (200 % of 1 GiB); 40 MiB needed; 2 operations wait before this one",
            ),
            (
                shortage(40 * MIB - 1, 1 << 30, 1 << 30, 40 * MIB + 1, 0),
                "store s3-main has 41943039 B left of 1 GiB; 41943041 B needed",
            ),
        ] {
            assert_eq!(shortage.to_string(), told);
        }
    }

    #[test]
    fn what_can_never_fit_is_refused_for_good_and_the_rest_for_now() {
        let now = shortage(1, 10, 10, 10, 0).fault();
        assert!(now.is_transient() && now.retry_after_s.is_some() && now.message.contains("destroy objects"), "{now}");
        let never = shortage(10, 10, 10, 11, 0).fault();
        assert!(!never.is_transient() && never.retry_after_s.is_none() && never.message.contains("can ever hold"), "{never}");
    }
}
