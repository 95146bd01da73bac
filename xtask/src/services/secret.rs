//! Random numbers and passwords for services that live for one test run, from the randomness that the standard
//! library seeds its hash maps with.

use std::hash::{BuildHasher, RandomState};

/// A random number.
pub fn number() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// 32 random hexadecimal digits.
pub fn password() -> String {
    format!("{:016x}{:016x}", number(), number())
}

#[cfg(test)]
mod tests {
    #[test]
    fn passwords_differ() {
        assert_ne!(super::password(), super::password());
        assert_eq!(super::password().len(), 32);
    }
}
