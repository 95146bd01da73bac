//! The flags of each kind of operation, and the command's body that they make. A body from a file comes first;
//! flags replace its fields.

use crate::ended::Ended;
use anyhow::Context;
use clap::{Args, Subcommand};
use longshore_schema::{
    body,
    fault::{Fault, code},
    ids::OperationId,
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    io::Read,
    path::{Path, PathBuf},
};

/// One kind each, alphabetical.
#[derive(Debug, Subcommand)]
pub(crate) enum Kind {
    /// Copy a volume, or a named snapshot of it, into a store.
    BackupSnapshot(BackupSnapshot),
    /// Copy an object into another store.
    CopyObject(CopyObject),
    /// Make a volume in a pool from a snapshot.
    CreateVolume(CreateVolume),
    /// Remove what nobody uses from a store; engines do it by themselves, too.
    SweepStore(SweepStore),
    /// Read every byte of an object back and check it.
    VerifyObject(VerifyObject),
}

/// The body from a file.
#[derive(Debug, Args)]
pub(crate) struct Body {
    /// The command's body as JSON; - reads stdin. Flags replace its fields.
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
}

/// As in `longshore_engine::operation::backup_snapshot`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct BackupSnapshot {
    #[command(flatten)]
    #[serde(skip)]
    file: Body,
    /// The volume's zone.
    #[arg(long, required_unless_present = "body")]
    zone: Option<String>,
    /// The pool that has the volume.
    #[arg(long, required_unless_present = "body")]
    pool: Option<String>,
    /// The volume's name in the pool.
    #[arg(long, required_unless_present = "body")]
    volume: Option<String>,
    /// A named snapshot inside the volume, or snapshot.id=N; without, the volume as it is.
    #[arg(long)]
    snapshot: Option<String>,
    /// The volume's format; without, its name's suffix says it (.qcow2, .raw, .img), else it must be plain bytes.
    #[arg(long, value_parser = ["qcow2", "raw"])]
    format: Option<String>,
    /// The store that gets the object.
    #[arg(long, required_unless_present = "body")]
    store: Option<String>,
    /// What may be taken over instead of stored again: auto (the latest backup of this volume in this store), full
    /// (nothing), or an operation's id [default: auto].
    #[arg(long)]
    base: Option<String>,
    /// Which path; auto is direct where there is one, else staged [default: auto].
    #[arg(long, value_parser = ["auto", "direct", "staged"])]
    path: Option<String>,
    /// How it is kept [default: extents].
    #[arg(long, value_parser = ["extents", "vendor"])]
    layout: Option<String>,
    /// A name for people.
    #[arg(long)]
    name: Option<String>,
    /// What to do when the store is full: wait for room until the deadline, or fail [default: wait].
    #[arg(long, value_parser = ["wait", "refuse"])]
    when_full: Option<String>,
    /// Seconds from now until it is given up [default: 86400, a day].
    #[arg(long)]
    deadline_s: Option<u64>,
    /// Ask the guest for a consistent state first.
    #[arg(long)]
    quiesce: Option<bool>,
}

/// As in `longshore_engine::operation::copy_object`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct CopyObject {
    #[command(flatten)]
    #[serde(skip)]
    file: Body,
    /// The object to copy: its operation's id.
    #[arg(long, required_unless_present = "body")]
    from: Option<OperationId>,
    /// The store that gets the copy; another one than the object is in.
    #[arg(long, required_unless_present = "body")]
    store: Option<String>,
    /// What may be taken over in that store instead of stored again: auto (the latest object of the same volume there), full
    /// (nothing), or an operation's id [default: auto].
    #[arg(long)]
    base: Option<String>,
    /// The zone whose workers copy; without, the nearest to both stores with a worker that reaches both.
    #[arg(long)]
    zone: Option<String>,
    /// A name for people; without, the object's.
    #[arg(long)]
    name: Option<String>,
    /// What to do when the store is full: wait for room until the deadline, or fail [default: wait].
    #[arg(long, value_parser = ["wait", "refuse"])]
    when_full: Option<String>,
    /// Seconds from now until it is given up [default: 86400, a day].
    #[arg(long)]
    deadline_s: Option<u64>,
}

/// As in `longshore_engine::operation::create_volume`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct CreateVolume {
    #[command(flatten)]
    #[serde(skip)]
    file: Body,
    /// The pool's zone.
    #[arg(long, required_unless_present = "body")]
    zone: Option<String>,
    /// The snapshot to make it from: its operation's id.
    #[arg(long, required_unless_present = "body")]
    from: Option<OperationId>,
    /// The pool.
    #[arg(long, required_unless_present = "body")]
    pool: Option<String>,
    /// The new volume's name.
    #[arg(long, required_unless_present = "body")]
    volume: Option<String>,
    /// Its format [default: what the name's suffix says (.qcow2, .raw, .img), else qcow2].
    #[arg(long, value_parser = ["qcow2", "raw"])]
    format: Option<String>,
    /// Which path; auto is direct where there is one, else staged [default: auto].
    #[arg(long, value_parser = ["auto", "direct", "staged"])]
    path: Option<String>,
    /// A name for people.
    #[arg(long)]
    name: Option<String>,
    /// What to do when the pool is full: wait for room until the deadline, or fail [default: wait].
    #[arg(long, value_parser = ["wait", "refuse"])]
    when_full: Option<String>,
    /// Seconds from now until it is given up [default: 86400, a day].
    #[arg(long)]
    deadline_s: Option<u64>,
}

/// As in `longshore_engine::operation::sweep_store`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct SweepStore {
    #[command(flatten)]
    #[serde(skip)]
    file: Body,
    /// The store.
    #[arg(long, required_unless_present = "body")]
    store: Option<String>,
}

/// As in `longshore_engine::operation::verify_object`.
#[derive(Debug, Args, Serialize)]
pub(crate) struct VerifyObject {
    #[command(flatten)]
    #[serde(skip)]
    file: Body,
    /// The object: its operation's id.
    #[arg(long, required_unless_present = "body")]
    object: Option<OperationId>,
    /// Seconds from now until it is given up [default: 86400, a day].
    #[arg(long)]
    deadline_s: Option<u64>,
}

impl Kind {
    /// As in commands.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Kind::BackupSnapshot(_) => "backup-snapshot",
            Kind::CopyObject(_) => "copy-object",
            Kind::CreateVolume(_) => "create-volume",
            Kind::SweepStore(_) => "sweep-store",
            Kind::VerifyObject(_) => "verify-object",
        }
    }

    /// The command's body.
    pub(crate) fn body(&self) -> Result<Value, Ended> {
        match self {
            Kind::BackupSnapshot(it) => merge(&it.file, it),
            Kind::CopyObject(it) => merge(&it.file, it),
            Kind::CreateVolume(it) => merge(&it.file, it),
            Kind::SweepStore(it) => merge(&it.file, it),
            Kind::VerifyObject(it) => merge(&it.file, it),
        }
    }
}

fn merge(file: &Body, flags: &impl Serialize) -> Result<Value, Ended> {
    let mut body = file.body.as_deref().map_or_else(|| Ok(Map::new()), read)?;
    let flags = serde_json::to_value(flags).map_err(|error| Ended::Broken(error.into()))?;
    let given = flags.as_object().into_iter().flatten().filter(|(_, it)| !it.is_null());
    body.extend(given.map(|(name, it)| (name.clone(), it.clone())));
    Ok(Value::Object(body))
}

fn read(path: &Path) -> Result<Map<String, Value>, Ended> {
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().read_to_string(&mut text).context("read the body from stdin"),
        _ => std::fs::File::open(path)
            .and_then(|mut it| it.read_to_string(&mut text))
            .with_context(|| format!("read the body from {}", path.display())),
    };
    read.map_err(|error| Ended::usage(format!("{error:#}")))?;
    let malformed = |why: String| Ended::Refused(Fault::permanent(code::COMMAND_MALFORMED, format!("{}: {why}", path.display())));
    match body::read(text.as_bytes()) {
        Ok(Value::Object(body)) => Ok(body),
        Ok(_) => Err(malformed("the body is not a JSON object".into())),
        Err(error) => Err(malformed(format!("read the body as JSON: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::{CommandFactory, Parser};
    use longshore_engine::operation;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn body(line: &str) -> Value {
        let Command::Submit(submit) = Arguments::try_parse_from(line.split(' ')).unwrap().command else { panic!("{line}") };
        submit.kind.body().unwrap()
    }

    #[test]
    fn every_kind_has_a_subcommand_with_a_flag_for_each_field_of_its_body() {
        let arguments = Arguments::command();
        for parent in ["submit", "plan"] {
            let parent = arguments.find_subcommand(parent).unwrap();
            for kind in operation::ALL {
                let command = parent.find_subcommand(kind.name).unwrap_or_else(|| panic!("no {}", kind.name));
                let flags: BTreeSet<_> = command.get_arguments().map(|it| it.get_id().as_str().to_owned()).collect();
                let schema = serde_json::to_value(kind.schema()).unwrap();
                for field in schema["properties"].as_object().unwrap().keys() {
                    assert!(flags.contains(field), "{} has no flag for {field}", kind.name);
                }
            }
        }
    }

    #[test]
    fn the_help_says_the_defaults_that_the_engine_has() {
        let arguments = Arguments::command();
        let submit = arguments.find_subcommand("submit").unwrap();
        let deadline = longshore_engine::config::Config::default().deadline_s.to_string();
        for kind in operation::ALL {
            let schema = serde_json::to_value(kind.schema()).unwrap();
            for flag in submit.find_subcommand(kind.name).unwrap().get_arguments() {
                let name = flag.get_id().as_str();
                let default =
                    if name == "deadline_s" { Some(&*deadline) } else { schema["properties"][name]["default"].as_str() };
                let Some(default) = default else { continue };
                let help = flag.get_help().unwrap().to_string();
                assert!(help.contains(&format!("[default: {default}")), "{} {name}: {help}", kind.name);
            }
        }
    }

    #[test]
    fn flags_make_the_body_that_the_engine_reads() {
        let id = OperationId::new();
        for (line, wanted) in [
            (
                "longshore submit backup-snapshot --zone z1 --pool p --volume v --store s --snapshot one --base full".to_owned(),
                json!({"zone": "z1", "pool": "p", "volume": "v", "store": "s", "snapshot": "one", "base": "full"}),
            ),
            (
                format!("longshore submit copy-object --from {id} --store s --base {id} --when-full refuse"),
                json!({"from": id, "store": "s", "base": id, "when_full": "refuse"}),
            ),
            (
                format!("longshore submit create-volume --zone z1 --from {id} --pool p --volume w --format raw --deadline-s 60"),
                json!({"zone": "z1", "from": id, "pool": "p", "volume": "w", "format": "raw", "deadline_s": 60}),
            ),
            ("longshore submit sweep-store --store s".to_owned(), json!({"store": "s"})),
            (format!("longshore submit verify-object --object {id}"), json!({"object": id})),
        ] {
            let made = body(&line);
            assert_eq!(made, wanted, "{line}");
            let kind = line.split(' ').nth(2).unwrap();
            operation::find(kind).unwrap().touches(&made, "default").unwrap();
        }
    }

    #[test]
    fn flags_replace_fields_of_a_body_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("body.json");
        std::fs::write(&path, r#"{"store": "a", "zone": "z1", "pool": "p", "volume": "v", "name": "n"}"#).unwrap();
        let made = body(&format!("longshore submit backup-snapshot --body {} --store b", path.display()));
        assert_eq!(made, json!({"store": "b", "zone": "z1", "pool": "p", "volume": "v", "name": "n"}));
    }

    #[test]
    fn a_body_from_a_file_that_names_a_key_twice_is_refused_before_it_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("body.json");
        for (text, said) in [(r#"{"volume": "a", "volume": "b"}"#, "\"volume\" is given twice"), ("[]", "not a JSON object")] {
            std::fs::write(&path, text).unwrap();
            let Err(Ended::Refused(fault)) = read(&path) else { panic!("{text}") };
            assert!(fault.code == code::COMMAND_MALFORMED && fault.message.contains(said), "{fault}");
        }
    }

    #[test]
    fn a_kind_without_its_required_flags_is_refused_by_the_command_line() {
        for line in ["longshore submit backup-snapshot --zone z1", "longshore submit create-volume", "longshore submit no-such"] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
