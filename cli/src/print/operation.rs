//! An operation as a person wants to see it.

use super::{human, table};
use longshore_engine::audit::OperationView;
use longshore_schema::time::Timestamp;
use serde_json::Value;

/// What it works on: `pool/volume@snapshot -> store`, or the object that it uses.
pub(crate) fn subject(operation: &OperationView) -> String {
    let text = |name: &str| operation.params.get(name).and_then(Value::as_str);
    let volume = || format!("{}/{}", text("pool").unwrap_or("?"), text("volume").unwrap_or("?"));
    match operation.kind.as_str() {
        "backup-snapshot" => {
            let snapshot = text("snapshot").map(|it| format!("@{it}")).unwrap_or_default();
            format!("{}{snapshot} -> {}", volume(), text("store").unwrap_or("?"))
        }
        "copy-object" => format!("{} -> {}", text("from").unwrap_or("?"), text("store").unwrap_or("?")),
        "create-volume" => format!("{} -> {}", text("from").unwrap_or("?"), volume()),
        _ => ["object", "store", "from"].iter().find_map(|it| text(it)).unwrap_or_default().to_owned(),
    }
}

/// What it is doing or waiting for, or why it failed, in a few words.
pub(crate) fn activity(operation: &OperationView) -> String {
    if let Some(waiting) = &operation.waiting_for {
        return format!("waits: {waiting}");
    }
    if let Some(progress) = &operation.progress {
        let doing = if progress.way == "do" { String::new() } else { format!("{} ", progress.way) };
        let rests = if progress.state == "resting" { ", waits to try again" } else { "" };
        let bytes = match progress.total_bytes {
            Some(total) if total > 0 => format!(" {} %", progress.done_bytes.saturating_mul(100) / total),
            _ => String::new(),
        };
        return format!("{doing}{}{bytes}{rests}", progress.step);
    }
    operation.fault.as_ref().map(|it| it.code.clone()).unwrap_or_default()
}

/// Many, as a table.
pub(crate) fn many(operations: &[OperationView], now: Timestamp) -> String {
    if operations.is_empty() {
        return "no operations".into();
    }
    let mut rows = table::new(&["id", "kind", "state", "what", "doing", "changed"]);
    for it in operations {
        rows.add_row([
            table::cell(it.id),
            table::cell(&it.kind),
            table::state(&it.state, it.needs_attention),
            table::cell(subject(it)),
            table::cell(activity(it)),
            table::right(human::ago(now, it.updated_at)),
        ]);
    }
    table::text(rows, &[3, 4])
}

/// One, as a list of what is known about it.
pub(crate) fn one(it: &OperationView, now: Timestamp) -> String {
    let mut lines = vec![
        ("operation", it.id.to_string()),
        ("kind", it.kind.clone()),
        ("state", if it.needs_attention { format!("{} (needs attention)", it.state) } else { it.state.clone() }),
        ("what", subject(it)),
    ];
    lines.extend(it.name.clone().map(|name| ("name", name)));
    lines.push(("zone, tenant", format!("{}, {}", it.zone, it.tenant)));
    let doing = activity(it);
    if it.waiting_for.is_some() || it.progress.is_some() {
        lines.push(("doing", doing));
    }
    if let Some(progress) = &it.progress {
        let worker = progress.worker.as_deref().unwrap_or("nobody yet");
        let total = progress.total_bytes.map(|it| format!(" of {}", human::bytes(it))).unwrap_or_default();
        lines.push((
            "progress",
            format!("{}{total}, attempt {}, by {worker}", human::bytes(progress.done_bytes), progress.attempt),
        ));
        lines.extend(progress.last_fault.as_ref().map(|it| ("last fault", it.to_string())));
    }
    if let Some(fault) = &it.fault {
        lines.push(("fault", fault.to_string()));
        lines.push(("page", format!("docs/faults/{}.md", fault.code)));
    }
    if let Some(path) = &it.path {
        lines.push(("path", format!("{}: {}", path.chosen, path.because)));
    }
    if it.destroy_requested {
        lines.push(("destroy", "asked for; done when the last holder is".into()));
    }
    lines.extend(it.holders.iter().map(|it| ("held by", it.to_string())));
    lines.push(("created", format!("{} ({})", human::time(it.created_at), human::ago(now, it.created_at))));
    lines.push(("changed", format!("{} ({})", human::time(it.updated_at), human::ago(now, it.updated_at))));
    lines.extend(fields("asked", &it.params));
    lines.extend(it.output.iter().flat_map(|output| fields("made", output)));
    let mut rows = table::new(&[]);
    for (name, value) in lines {
        rows.add_row([table::cell(name), table::cell(value)]);
    }
    table::text(rows, &[1])
}

fn fields<'a>(title: &'a str, value: &Value) -> Vec<(&'a str, String)> {
    let Some(fields) = value.as_object() else { return vec![] };
    let shown = fields.iter().filter(|(_, it)| !it.is_null());
    shown.enumerate().map(|(n, (name, it))| (if n == 0 { title } else { "" }, format!("{name}: {}", plain(name, it)))).collect()
}

/// Sizes for people, texts without quotes, the rest as JSON.
fn plain(name: &str, value: &Value) -> String {
    let is_size = ["bytes", "size", "stored", "reused", "resumed", "zeros", "read", "written", "fetched"]
        .iter()
        .any(|it| name.contains(it));
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if is_size => {
            number.as_u64().map_or_else(|| number.to_string(), |it| format!("{} ({it})", human::bytes(it)))
        }
        other => other.to_string(),
    }
}
