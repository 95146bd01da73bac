//! Writes a JSON value as JSON or as block YAML, the same text for the same value whatever order its maps keep.

use serde_json::{Map, Value};

/// Fields that people look for first; all others follow by name.
const FIRST: &[&str] = &[
    "$schema",
    "asyncapi",
    "openapi",
    "info",
    "$ref",
    "name",
    "title",
    "version",
    "summary",
    "description",
    "type",
    "action",
    "address",
    "defaultContentType",
    "channel",
];

/// Pretty JSON, ending in a new line.
pub(super) fn json(value: &Value) -> String {
    let mut text = String::new();
    json_value(value, 0, &mut text);
    text.push('\n');
    text
}

/// Block YAML 1.2, ending in a new line.
pub(super) fn yaml(value: &Value) -> String {
    let mut text = String::new();
    yaml_value(value, 0, &mut text);
    text.trim_start_matches('\n').to_owned() + "\n"
}

fn in_order(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut fields: Vec<_> = map.iter().collect();
    let rank = |name: &str| FIRST.iter().position(|it| *it == name).unwrap_or(FIRST.len());
    fields.sort_by_key(|(name, _)| (rank(name), (*name).clone()));
    fields
}

fn json_value(value: &Value, depth: usize, text: &mut String) {
    let (open, close, items): (_, _, Vec<(Option<&String>, &Value)>) = match value {
        Value::Object(map) if !map.is_empty() => {
            ('{', '}', in_order(map).into_iter().map(|(name, value)| (Some(name), value)).collect())
        }
        Value::Array(items) if !items.is_empty() => ('[', ']', items.iter().map(|it| (None, it)).collect()),
        other => return text.push_str(&other.to_string()),
    };
    text.push(open);
    for (index, (name, value)) in items.into_iter().enumerate() {
        text.push_str(if index == 0 { "\n" } else { ",\n" });
        text.push_str(&"  ".repeat(depth + 1));
        if let Some(name) = name {
            text.push_str(&format!("{}: ", quoted(name)));
        }
        json_value(value, depth + 1, text);
    }
    text.push('\n');
    text.push_str(&"  ".repeat(depth));
    text.push(close);
}

/// Starts on the line of its key for what fits there, on lines of its own for what doesn't.
fn yaml_value(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, value) in in_order(map) {
                text.push_str(&format!("\n{indent}{}:", yaml_text(name)));
                yaml_value(value, depth + 1, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut below = String::new();
                yaml_value(item, depth + 1, &mut below);
                text.push_str(&format!("\n{indent}- {}", below.trim_start()));
            }
        }
        Value::String(it) => text.push_str(&format!(" {}", yaml_text(it))),
        other => text.push_str(&format!(" {other}")),
    }
}

/// Plain where no reader of YAML could take it for something else; else quoted as JSON, which is YAML.
fn yaml_text(it: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '/' | '.' | '_' | '-' | ';' | '=' | '+' | '$');
    let begins = it.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '.' | '$'));
    let plain = begins && it.chars().all(harmless) && !it.ends_with(' ') && it.parse::<f64>().is_err();
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if plain && !words.contains(&it.to_ascii_lowercase().as_str()) { it.to_owned() } else { quoted(it) }
}

fn quoted(it: &str) -> String {
    Value::String(it.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_quotes_what_could_be_read_as_something_else() {
        let value = json!({"b": ["yes", "1.5", "a: b", {"x": {}, "title": "t"}, [1, null]], "title": "", "$ref": "./a.json", "200": true});
        let expected = "$ref: ./a.json\ntitle: \"\"\n\"200\": true\nb:\n  - \"yes\"\n  - \"1.5\"\n  - \"a: b\"\n  - title: t\n    x: {}\n  - - 1\n    - null\n";
        assert_eq!(yaml(&value), expected);
    }

    #[test]
    fn json_is_read_back_as_it_was() {
        let value = json!({"type": "x", "a": [], "b": {"c": [1, {"d": "\"\n"}]}, "$schema": null});
        let text = json(&value);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert!(text.starts_with("{\n  \"$schema\": null,\n  \"type\""), "{text}");
    }
}
