//! What a step is, and the message that sends one attempt of it to a worker.

use crate::{ids::OperationId, time::Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// One verb that a worker can perform. The struct holds the arguments known when the plan is made.
/// **Invariant**: performing it twice leaves what performing it once leaves, whichever attempt did it.
pub trait Step: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Stable, unique: `volume.measure`.
    const NAME: &'static str;
    /// Outputs of earlier steps that it needs; `()` for none.
    type Input: Serialize + DeserializeOwned + Send;
    /// What it reports.
    type Output: Serialize + DeserializeOwned + Send;
}

/// Which way an attempt goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// The step itself.
    Do,
    /// Looks whether the commit step took effect; its answer decides whether the operation goes on or back.
    Probe,
    /// The step's undo.
    Undo,
}

/// Names one sending of one step. A message about any other than the current one changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// The operation.
    pub operation: OperationId,
    /// The step's place in the plan, from 0.
    pub seq: u16,
    /// Counts the sendings of this step, from 1, through doing, probing and undoing.
    pub n: u32,
    /// Which way.
    pub way: Way,
}

/// One attempt on its way to a worker: the body of a message on `longshore.steps`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepMessage {
    /// Which attempt this is.
    pub attempt: Attempt,
    /// The step's name, as in `longshore_schema::steps::NAMES`.
    pub step: String,
    /// The step's own struct.
    pub args: Value,
    /// Its input: what the earlier steps that it needs reported.
    pub input: Value,
    /// A worker never starts it later than this, by the database's clock.
    pub start_before: Timestamp,
    /// How the worker and the engine keep in touch while it runs.
    pub pace: Pace,
    /// Bytes that it may write, all attempts together; `None` if it writes nothing that is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_write: Option<u64>,
}

/// How an attempt is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// It ends within this many seconds of its start, or is stopped: one message each way, acknowledged
    /// after its report is confirmed.
    Short {
        /// Seconds.
        bound_s: u32,
    },
    /// It announces its start, waits for the engine's word, is acknowledged, and lives by its lease.
    Long {
        /// Seconds from the sending of a start or renewal that the engine answered.
        lease_s: u32,
    },
}
