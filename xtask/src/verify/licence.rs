//! Licence expressions (SPDX 2.3, annex D), as far as crates use them: identifiers, WITH, AND, OR, parentheses,
//! and the old `/` for OR.

use anyhow::{Result, bail};

/// Whether the expression can be satisfied with licences that `allowed` accepts. A licence `WITH` an exception
/// counts as the whole, such as `Apache-2.0 WITH LLVM-exception`.
pub fn is_satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Result<bool> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    let satisfied = parser.any()?;
    if !parser.words.is_empty() {
        bail!("licence {expression:?}: unexpected {:?}", parser.words.join(" "));
    }
    Ok(satisfied)
}

struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a dyn Fn(&str) -> bool,
}

impl Parser<'_> {
    fn any(&mut self) -> Result<bool> {
        let mut satisfied = self.all()?;
        while self.take("OR") {
            satisfied |= self.all()?;
        }
        Ok(satisfied)
    }

    fn all(&mut self) -> Result<bool> {
        let mut satisfied = self.one()?;
        while self.take("AND") {
            satisfied &= self.one()?;
        }
        Ok(satisfied)
    }

    fn one(&mut self) -> Result<bool> {
        if self.take("(") {
            let satisfied = self.any()?;
            if !self.take(")") {
                bail!("licence: a parenthesis isn't closed");
            }
            return Ok(satisfied);
        }
        let licence = self.identifier()?;
        if self.take("WITH") {
            let exception = self.identifier()?;
            return Ok((self.allowed)(&format!("{licence} WITH {exception}")));
        }
        Ok((self.allowed)(&licence))
    }

    fn identifier(&mut self) -> Result<String> {
        match self.words.split_first() {
            Some((word, rest)) if !["OR", "AND", "WITH", "(", ")"].contains(word) => {
                self.words = rest;
                Ok(word.to_string())
            }
            other => bail!("licence: a name was expected, not {other:?}"),
        }
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(expression: &str) -> bool {
        is_satisfied(expression, &|name| ["MIT", "Apache-2.0", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].contains(&name))
            .unwrap()
    }

    #[test]
    fn expressions_are_satisfied_as_their_operators_say() {
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/GPL-3.0",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "MIT AND Apache-2.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(allowed(good), "{good}");
        }
        for bad in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "GPL-3.0 OR MIT AND GPL-2.0",
            "MIT WITH LLVM-exception",
            "(MIT OR GPL-3.0) AND GPL-2.0",
        ] {
            assert!(!allowed(bad), "{bad}");
        }
    }

    #[test]
    fn an_expression_that_is_none_is_an_error_and_never_allowed() {
        for bad in ["", "MIT OR", "OR MIT", "MIT Apache-2.0", "(MIT", "MIT)", "MIT WITH"] {
            assert!(is_satisfied(bad, &|_| true).is_err(), "{bad}");
        }
    }
}
