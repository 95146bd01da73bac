//! Bodies of commands as JSON that every program reads the same: I-JSON, RFC 7493. serde_json takes a repeated name's last
//! value and rounds large numbers; whoever checked the body before us may have seen another one.

use crate::fault::shown;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use std::fmt;

/// The largest integer that a double holds with all below it: RFC 7493, section 2.2.
const LARGEST: u64 = (1 << 53) - 1;

/// Reads a body. An error names the key that is given twice, or what else isn't I-JSON, with its line and column. Values are
/// nested at most 127 deep.
pub fn read(text: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<Strict>(text).map(|it| it.0)
}

/// The same for a field of what is being read.
pub fn field<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Strict::deserialize(deserializer).map(|it| it.0)
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Strict, D::Error> {
        deserializer.deserialize_any(Reader).map(Strict)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, it: bool) -> Result<Value, E> {
        Ok(Value::Bool(it))
    }

    fn visit_u64<E: Error>(self, it: u64) -> Result<Value, E> {
        if it <= LARGEST { Ok(it.into()) } else { Err(too_large()) }
    }

    fn visit_i64<E: Error>(self, it: i64) -> Result<Value, E> {
        if it.unsigned_abs() <= LARGEST { Ok(it.into()) } else { Err(too_large()) }
    }

    /// Integers of more than 64 bits come as this, too.
    fn visit_f64<E: Error>(self, it: f64) -> Result<Value, E> {
        let number = Number::from_f64(it).filter(|_| it.abs() <= LARGEST as f64);
        number.map(Value::Number).ok_or_else(too_large)
    }

    fn visit_str<E>(self, it: &str) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_string<E>(self, it: String) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Value, A::Error> {
        let mut read = vec![];
        while let Some(Strict(value)) = values.next_element()? {
            read.push(value);
        }
        Ok(Value::Array(read))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if read.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the key {:?} is given twice", shown(&name))));
            }
            let Strict(value) = fields.next_value()?;
            read.insert(name, value);
        }
        Ok(Value::Object(read))
    }
}

fn too_large<E: Error>() -> E {
    E::custom(format_args!("a number beyond ±{LARGEST}, which not every program reads the same"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_every_program_reads_the_same_is_read() {
        let body = json!({"a": [null, true, -1, 9_007_199_254_740_991_u64, 1.5, "ä\n", {"a": {"a": 1}}], "b": {"a": 2}});
        assert_eq!(read(body.to_string().as_bytes()).unwrap(), body);
        let deep = "[".repeat(127) + &"]".repeat(127);
        assert!(read(deep.as_bytes()).is_ok());
    }

    #[test]
    fn a_key_that_is_given_twice_is_named_however_deep_and_however_written() {
        for (text, name) in [
            (r#"{"volume": "a", "volume": "b"}"#, r#""volume" is given twice at line 1 column 24"#),
            (r#"{"volume": "a", "volume": "a"}"#, r#""volume""#),
            (r#"{"volume": "a", "\u0076olume": "b"}"#, r#""volume""#),
            (r#"{"a": [1, {"b": {"c": 1, "d": 2, "c": null}}]}"#, r#""c""#),
            ("[{\"\": 1, \"\": 1}]", r#""""#),
            ("{\"\\u001b[2J\": 1, \"\\u001b[2J\": 1}", r#""\u{1b}[2J""#),
        ] {
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(name), "{text}: {error}");
        }
    }

    #[test]
    fn numbers_that_would_be_rounded_and_nesting_without_end_are_refused() {
        for number in ["9007199254740992", "-9007199254740992", "18446744073709551616", "1e16", "1e400", "-1e400", "NaN"] {
            assert!(read(number.as_bytes()).is_err(), "{number}");
        }
        for open in ["[", "{\"a\":"] {
            let error = read(open.repeat(100_000).as_bytes()).unwrap_err().to_string();
            assert!(error.contains("recursion limit"), "{error}");
        }
        for text in ["", "{} {}", "{\"a\":1,}", r#""\ud800""#] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
