//! `docs/openapi.yaml`: the reading side over HTTP.

use serde_json::{Value, json};

/// The document.
pub(super) fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Longshore, reading",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What an engine shows with `--listen`. Commands go through the broker. Generated from the code: the \
                names and shapes here may grow, they don't change.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths(),
        "components": {
            "securitySchemes": {"token": {
                "type": "http",
                "scheme": "bearer",
                "description": "The engine's token. Not needed where the engine listens on loopback and was given none.",
            }},
            "responses": {
                "Refused": {
                    "description": "Why not.",
                    "content": {"application/json": {"schema": {
                        "type": "object", "required": ["fault"], "properties": {"fault": {"$ref": "./schemas/fault.json"}},
                    }}},
                },
            },
        },
    })
}

fn paths() -> Value {
    json!({
        "/api/operations": {"get": page("List operations, the newest first", "operations", "operation", "string", &[
            parameter("state", "Only in this state.", json!({"type": "string",
                "enum": ["allocated", "copying", "ready", "destroying", "destroyed", "failed"]})),
            parameter("kind", "Only of this kind.", json!({"type": "string"})),
            parameter("zone", "Only of this zone.", json!({"type": "string"})),
            parameter("tenant", "Only of this tenant.", json!({"type": "string"})),
            parameter("after", "`next` of the page before.", json!({"type": "string", "format": "uuid"})),
            limit(),
        ])},
        "/api/operations/{id}": {"get": answer("Show one operation", "application/json",
            json!({"$ref": "./schemas/operation.json"}), &[id()])},
        "/api/operations/{id}/history": {"get": page("List an operation's events, the oldest first", "history", "history", "integer", &[
            id(),
            parameter("after", "`next` of the page before.", json!({"type": "integer", "minimum": 0})),
            limit(),
        ])},
        "/api/stores": {"get": answer("List the stores with their ledgers", "application/json", list("stores", "place"), &[])},
        "/api/workers": {"get": answer("List the workers as they last announced themselves", "application/json",
            list("workers", "worker"), &[])},
        "/api/events": {"get": answer(
            "Follow the events: `state` (a CloudEvent), `progress`, and `missed` when this reader didn't get everything",
            "text/event-stream", json!({"type": "string"}), &[])},
        "/metrics": {"get": answer("Metrics in Prometheus' text format", "text/plain", json!({"type": "string"}), &[])},
        "/healthz": {"get": open("Whether the engine is alive")},
        "/readyz": {"get": open("Whether the database and the broker answer")},
    })
}

fn parameter(name: &str, description: &str, schema: Value) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": schema})
}

fn limit() -> Value {
    parameter("limit", "At most so many.", json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}))
}

fn id() -> Value {
    json!({"name": "id", "in": "path", "required": true, "description": "The operation's id.",
        "schema": {"type": "string", "format": "uuid"}})
}

fn list(field: &str, item: &str) -> Value {
    json!({"type": "object", "required": [field], "properties": {
        field: {"type": "array", "items": {"$ref": format!("./schemas/{item}.json")}},
    }})
}

fn page(summary: &str, field: &str, item: &str, next: &str, parameters: &[Value]) -> Value {
    let mut schema = list(field, item);
    schema["required"] = json!([field, "next"]);
    schema["properties"]["next"] =
        json!({"type": [next, "null"], "description": "`after` of the page that follows; null on the last one."});
    answer(summary, "application/json", schema, parameters)
}

fn answer(summary: &str, media: &str, schema: Value, parameters: &[Value]) -> Value {
    json!({
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "As asked.", "content": {media: {"schema": schema}}},
            "default": {"$ref": "#/components/responses/Refused"},
        },
    })
}

fn open(summary: &str) -> Value {
    json!({
        "summary": summary,
        "security": [],
        "responses": {"200": {"description": "Yes."}, "default": {"$ref": "#/components/responses/Refused"}},
    })
}
