//! Messages. Names and shapes are promises (`docs/asyncapi.yaml`, generated from here): they may grow, they don't change.

use crate::{
    fault::Fault,
    ids::OperationId,
    site::Place,
    step::{Attempt, Pace},
    steps::object::Sealed,
    time::Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;

/// Exchanges, queues and limits of the broker, and users that are none of its own.
pub mod names {
    /// The user over the unix socket: whoever may open it owns the database.
    pub const LOCAL_USER: &str = "local";
    /// The user of what the engine asks for by itself, such as sweeps: whoever the site's users are, it may.
    pub const ENGINE_USER: &str = "engine";
    /// Topic; routing key: the command's kind.
    pub const COMMANDS: &str = "longshore.commands";
    /// Topic; routing key: `zone.{zone}.{worker kind}` or `host.{host}`.
    pub const STEPS: &str = "longshore.steps";
    /// Topic; routing key: the worker's id.
    pub const REPORTS: &str = "longshore.reports";
    /// Direct; routing key: a worker's id, or `all`.
    pub const CONTROL: &str = "longshore.control";
    /// Topic; routing key: `{kind}.{state}` or `{kind}.progress`.
    pub const EVENTS: &str = "longshore.events";
    /// The queue of what nobody could take; and an exchange of headers that leads dead letters of step queues there,
    /// but for those that expired: they were sent again.
    pub const DEAD: &str = "longshore.dead";
    /// Says why a message is in `longshore.dead`.
    pub const FAULT_HEADER: &str = "x-longshore-fault";
    /// Messages that `longshore.dead` keeps; then the oldest go.
    pub const DEAD_LIMIT: u32 = 10_000;
    /// Bytes of bodies that `longshore.dead` keeps; then the oldest go.
    pub const DEAD_LIMIT_BYTES: u32 = 256 << 20;
    /// A body over this many bytes is refused.
    pub const BODY_LIMIT: usize = 1 << 20;
    /// Attempts of a broker to deliver one message before it goes to `longshore.dead`.
    pub const DELIVERY_LIMIT: i64 = 20;

    /// Routing key of the workers of a kind in a zone.
    pub fn zone_queue(zone: &str, kind: &str) -> String {
        format!("zone.{zone}.{kind}")
    }

    /// Routing key of one host's workers.
    pub fn host_queue(host: &str) -> String {
        format!("host.{host}")
    }

    /// The queue bound to a routing key of `longshore.steps`.
    pub fn steps_queue(routing_key: &str) -> String {
        format!("{STEPS}.{routing_key}")
    }

    /// The control queue of a worker.
    pub fn control_queue(worker: &str) -> String {
        format!("{CONTROL}.{worker}")
    }
}

/// What kind of host a worker runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorkerKind {
    /// Pools that are directories of disk images.
    Kvm,
    /// Reaches stores and staging areas only.
    Transfer,
}

impl WorkerKind {
    /// All of them, alphabetical. Ceph and Xen come as lines here.
    pub const ALL: &[WorkerKind] = &[WorkerKind::Kvm, WorkerKind::Transfer];

    /// As in routing keys.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkerKind::Kvm => "kvm",
            WorkerKind::Transfer => "transfer",
        }
    }
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reply {
    /// Whether the command was taken.
    pub accepted: bool,
    /// The operation that it made, or, for a request, that it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
    /// Whether the same message was answered before.
    #[serde(default)]
    pub duplicate: bool,
    /// The operation's state when the command was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What the operation waits for, if it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// Why the command was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// What workers tell the engine, on `longshore.reports`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "report", rename_all = "snake_case")]
pub enum Report {
    /// At start, every ten seconds, and when something changed. Answered by `Control::Welcome`.
    Announce(Announce),
    /// A long step is about to start. Answered by `Control::Go` or `Control::Stop`; until then it isn't started.
    Started {
        /// Which.
        attempt: Attempt,
        /// Who.
        worker: String,
        /// Chosen by the worker for each time that it has the attempt in hand, returned in the answer: a lease counts from the
        /// start that it answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<u64>,
    },
    /// Long steps under way at one worker. Answered by one `Control::Renewed`.
    Renew {
        /// Who.
        worker: String,
        /// Chosen by the worker, returned in the answer: tells it which renewal was answered.
        token: u64,
        /// One for each long step under way.
        running: Vec<Running>,
    },
    /// An attempt ended.
    Done {
        /// Which.
        attempt: Attempt,
        /// Who.
        worker: String,
        /// The step's output, or why it has none.
        result: Outcome,
    },
    /// A redelivered short step that this worker can't know not to have been started elsewhere; it wasn't started.
    Declined {
        /// Which.
        attempt: Attempt,
        /// Who.
        worker: String,
    },
}

impl Report {
    /// What a message says instead of a kind when its `reports` go together. None of them has others in it.
    pub const SEVERAL: &str = "several";

    /// Those of a message, one or several, in the order of their making.
    pub fn of_message(body: &[u8]) -> Result<Vec<Report>, serde_json::Error> {
        #[derive(Deserialize)]
        struct Kind<'b> {
            #[serde(borrow)]
            report: Cow<'b, str>,
        }
        #[derive(Deserialize)]
        struct Several {
            reports: Vec<Report>,
        }
        match serde_json::from_slice::<Kind<'_>>(body)?.report == Report::SEVERAL {
            true => serde_json::from_slice(body).map(|it: Several| it.reports),
            false => serde_json::from_slice(body).map(|it: Report| vec![it]),
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The step's output.
    Output(Value),
    /// Why it has none.
    Fault(Fault),
}

/// One long step under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Running {
    /// Which.
    pub attempt: Attempt,
    /// Bytes of the work that are done.
    pub done_bytes: u64,
    /// Bytes of the work in all, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// Packs sealed since the last renewal that was answered, at most a few hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sealed: Vec<Sealed>,
}

/// What a worker is and can do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Announce {
    /// Its id: unique, chosen by its configuration or `{host}-{kind}`.
    pub worker: String,
    /// New at each start.
    pub incarnation: uuid::Uuid,
    /// Its kind.
    pub kind: WorkerKind,
    /// Its host, for `host.{host}` queues.
    pub host: String,
    /// Its zone.
    pub zone: String,
    /// Its version.
    pub version: String,
    /// Tools found, with versions: `qemu-img` -> `10.0.2`.
    pub tools: std::collections::BTreeMap<String, String>,
    /// Names of pools that it reaches.
    pub pools: Vec<String>,
    /// Names of stores that it reaches.
    pub stores: Vec<String>,
    /// Long steps that it does at once.
    pub concurrency: u32,
    /// Places that it should reach and doesn't, with the reason. No secrets.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub problems: std::collections::BTreeMap<String, String>,
    /// Whether it is leaving: nothing new is sent to it.
    #[serde(default)]
    pub leaving: bool,
}

/// What the engine tells workers, on `longshore.control`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "control", rename_all = "snake_case")]
pub enum Control {
    /// Answers an announcement: the places that the worker should try to reach. Secrets are references.
    Welcome {
        /// The database's clock.
        now: Timestamp,
        /// Changes with every change of the site.
        site_version: i64,
        /// Places of the worker's zone and region.
        places: Vec<Place>,
    },
    /// The site changed: announce again.
    SiteChanged {
        /// The new version.
        site_version: i64,
    },
    /// The attempt is this worker's, and starts now.
    Go {
        /// Which.
        attempt: Attempt,
        /// The pace that counts.
        pace: Pace,
        /// The token of the start that this answers, if it had one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<u64>,
    },
    /// Answers a renewal: all that were in it are renewed, but those.
    Renewed {
        /// The renewal's token.
        token: u64,
        /// Attempts that aren't current any more, with the reason.
        stop: Vec<Attempt>,
    },
    /// Stop this attempt: it was cancelled, or isn't current.
    Stop {
        /// Which.
        attempt: Attempt,
    },
}

/// The data of a CloudEvent about an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventData {
    /// The operation.
    pub operation: OperationId,
    /// Its kind.
    pub kind: String,
    /// Its zone, or region for what has none.
    pub zone: String,
    /// Whose.
    pub tenant: String,
    /// State before; `null` for a new one.
    pub from: Option<String>,
    /// State after.
    pub to: String,
    /// The history's number of the event.
    pub seq: i64,
    /// When, by the database's clock.
    pub at: Timestamp,
    /// Why it failed, if it did.
    pub fault: Option<Fault>,
    /// What it made, once it is Ready.
    pub object: Option<Value>,
}

/// A CloudEvents 1.0 envelope, structured JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CloudEvent {
    /// `1.0`.
    pub specversion: String,
    /// Unique: `{operation}/{seq}`.
    pub id: String,
    /// `/longshore`.
    pub source: String,
    /// `io.longshore.operation.{state}`.
    pub r#type: String,
    /// The operation's id.
    pub subject: String,
    /// When.
    pub time: Timestamp,
    /// `application/json`.
    pub datacontenttype: String,
    /// About the operation.
    pub data: EventData,
}

/// Progress of an operation, to `{kind}.progress`, not persistent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// The operation.
    pub operation: OperationId,
    /// The step under way.
    pub step: String,
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes in all, where known.
    pub total_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Way;
    use serde_json::json;

    #[test]
    fn a_message_has_one_report_or_several_and_none_of_these_has_more() {
        let attempt = Attempt { operation: OperationId::new(), seq: 1, n: 2, way: Way::Do };
        let declined = |worker: &str| Report::Declined { attempt, worker: worker.into() };
        let several = |reports: Value| json!({"report": "several", "reports": reports});
        let read = |body: &Value| Report::of_message(body.to_string().as_bytes());
        let both = [declined("a"), declined("b")];
        assert_eq!(read(&json!(both[0])).unwrap(), both[..1]);
        assert_eq!(read(&several(json!(both))).unwrap(), both);
        assert!(read(&several(json!([]))).unwrap().is_empty());
        for (body, why) in [
            (several(json!([several(json!(both))])), "unknown variant `several`"),
            (json!({"report": "several"}), "missing field `reports`"),
            (json!({"report": "else"}), "unknown variant `else`"),
            (json!({"report": "declined", "worker": "a"}), "missing field `attempt`"),
            (json!({"worker": "a"}), "missing field `report`"),
        ] {
            let said = read(&body).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
    }
}
