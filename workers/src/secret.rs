//! Secrets by reference: `env:NAME` or `file:/PATH`, resolved on this host. A value never reaches a log, a
//! fault or a message: `Secret` can't be printed or serialized, and faults name the reference.

use longshore_schema::fault::{Fault, code};
use std::{fmt, fs::File, io::Read};

/// A file that holds a secret isn't larger.
const LONGEST: u64 = 64 << 10;

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(value.into())
    }

    /// The value, for the one who must send or sign with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The value that `reference` names. `store.denied` if there is none: this host may not use what needs it.
/// Reads a small file, so it blocks shortly.
pub fn resolve(reference: &str) -> Result<Secret, Fault> {
    let value = match reference.split_once(':') {
        Some(("env", name)) if !name.is_empty() => std::env::var(name).map_err(|error| denied(reference, &error.to_string()))?,
        Some(("file", path)) if path.starts_with('/') => read(reference, path)?,
        // It may be the secret itself, written there by mistake, so it isn't shown.
        _ => return Err(Fault::permanent(code::STORE_DENIED, "a reference to a secret is `env:NAME` or `file:/PATH`")),
    };
    match value.is_empty() {
        true => Err(denied(reference, "it is empty")),
        false => Ok(Secret(value)),
    }
}

fn read(reference: &str, path: &str) -> Result<String, Fault> {
    let failed = |error: std::io::Error| denied(reference, &error.to_string());
    let mut value = String::new();
    let read = File::open(path).map_err(failed)?.take(LONGEST + 1).read_to_string(&mut value).map_err(failed)?;
    if read as u64 > LONGEST {
        return Err(denied(reference, "it is over 64 KiB"));
    }
    let end = value.strip_suffix('\n').map_or(value.len(), |line| line.strip_suffix('\r').unwrap_or(line).len());
    value.truncate(end);
    Ok(value)
}

fn denied(reference: &str, why: &str) -> Fault {
    Fault::permanent(code::STORE_DENIED, format!("read the secret {reference}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Some(Secret::new("hunter2"))), "Some(Secret(…))");
    }

    #[test]
    fn a_file_gives_its_content_without_one_newline_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let reference = format!("file:{}", path.display());
        for (content, value) in [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a "), ("a\nb", "a\nb")] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(resolve(&reference).unwrap().expose(), value, "{content:?}");
        }
        std::fs::write(&path, "x".repeat(LONGEST as usize)).unwrap();
        assert_eq!(resolve(&reference).unwrap().expose().len(), LONGEST as usize);
    }

    #[test]
    fn an_environment_variable_gives_its_value() {
        // PATH is there wherever cargo runs; setting one would be unsafe in a process with threads.
        assert_eq!(resolve("env:PATH").unwrap().expose(), std::env::var("PATH").unwrap());
    }

    #[test]
    fn what_gives_no_secret_is_denied_and_named_but_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            format!("file:{}", path.display())
        };
        let references = [
            "env:LONGSHORE_NO_SUCH_VARIABLE".to_owned(),
            "file:/no/such/file".to_owned(),
            file("empty", b""),
            file("newline", b"\n"),
            file("large", "hunter2".repeat(10_000).as_bytes()),
            file("binary", b"hunter2\xff"),
            format!("file:{}", directory.path().display()),
        ];
        for reference in references {
            let fault = resolve(&reference).unwrap_err();
            assert_eq!(fault.code, code::STORE_DENIED, "{fault}");
            assert!(fault.message.contains(&reference) && !fault.message.contains("hunter2"), "{fault}");
        }
        for literal in ["hunter2", "env:", "file:hunter2", "pass:hunter2"] {
            let fault = resolve(literal).unwrap_err();
            assert!(fault.code == code::STORE_DENIED && !fault.message.contains("hunter2"), "{fault}");
        }
    }
}
