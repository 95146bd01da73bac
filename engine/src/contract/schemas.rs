//! JSON Schemas (2020-12) of all bodies: as they are read for what others write, as they are written for the rest.

use crate::{audit, operation, request};
use longshore_schema::{fault::Fault, ids::OperationId, site::Site, step::StepMessage, wire};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The body of a request: it names an operation.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct Request {
    /// The operation that it is about.
    operation: OperationId,
}

/// The body of `abandon`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct Abandon {
    /// The operation whose undo is given up.
    operation: OperationId,
    /// Why, for those who read the history; not empty.
    #[schemars(length(min = 1))]
    reason: String,
}

/// All of them, by the name of their file.
pub(super) fn all() -> BTreeMap<String, Value> {
    let mut all = BTreeMap::from([
        ("control".to_owned(), written::<wire::Control>()),
        ("event".to_owned(), written::<wire::CloudEvent>()),
        ("fault".to_owned(), written::<Fault>()),
        ("history".to_owned(), written::<audit::HistoryView>()),
        ("operation".to_owned(), written::<audit::OperationView>()),
        ("place".to_owned(), written::<audit::PlaceView>()),
        ("progress".to_owned(), written::<wire::Progress>()),
        ("reply".to_owned(), written::<wire::Reply>()),
        ("report".to_owned(), report()),
        ("site".to_owned(), site()),
        ("step".to_owned(), written::<StepMessage>()),
        ("worker".to_owned(), written::<audit::WorkerView>()),
    ]);
    for kind in operation::ALL {
        all.insert(command(kind.name), kind.schema().to_value());
    }
    for kind in request::kinds() {
        let schema = if kind == "abandon" { read::<Abandon>() } else { read::<Request>() };
        all.insert(command(kind), schema);
    }
    all
}

/// The file of a command's body.
pub(super) fn command(kind: &str) -> String {
    format!("command.{kind}")
}

/// As Longshore writes it.
fn written<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>().to_value()
}

/// As Longshore reads it.
fn read<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<T>().to_value()
}

/// A message has one, or several of them.
fn report() -> Value {
    let mut schema = read::<wire::Report>();
    let several = json!({
        "description": "Reports that go together, as they were made while others were on their way. None of them is `several`.",
        "type": "object",
        "properties": {
            "report": {"type": "string", "const": wire::Report::SEVERAL},
            "reports": {"description": "In the order of their making.", "type": "array", "items": {"$ref": "#"}},
        },
        "required": ["report", "reports"],
    });
    if let Some(kinds) = schema["oneOf"].as_array_mut() {
        kinds.push(several);
    }
    schema
}

/// In a site file a size may be text, too.
fn site() -> Value {
    let mut schema = read::<Site>();
    schema["$defs"]["Size"] = json!({
        "description": "A number of bytes: an integer, or text such as `10 TiB`.",
        "anyOf": [
            {"type": "integer", "minimum": 0},
            {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(TiB|GiB|MiB|KiB|TB|GB|MB|kB|B)?\s*$"},
        ],
    });
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_lists_what_it_requires_and_takes_nothing_else() {
        let all = all();
        let backup = &all["command.backup-snapshot"];
        assert_eq!(backup["required"], json!(["zone", "pool", "volume", "store"]));
        for (name, schema) in all.iter().filter(|(name, _)| name.starts_with("command.")) {
            assert_eq!(schema["additionalProperties"], json!(false), "{name}");
        }
        assert_eq!(all["command.abandon"]["required"], json!(["operation", "reason"]));
        assert!(all.values().all(|it| it["$schema"] == "https://json-schema.org/draft/2020-12/schema"), "2020-12");
    }
}
