//! What an engine can be told about times and limits. The defaults suit production; tests shorten them.

/// Times and limits of an engine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// Seconds within which a sent step must be started.
    pub start_window_s: u32,
    /// Seconds beyond a lease or bound before the engine acts: covers what is on its way.
    pub margin_s: u32,
    /// Seconds of a long step's lease.
    pub lease_s: u32,
    /// Unstarted steps in one queue of the broker, at least; up to sixteen times as many if they leave it within a
    /// second. The rest wait in the database.
    pub queue_depth: i32,
    /// Milliseconds before the first retry; doubled with each failure.
    pub backoff_ms: u64,
    /// Milliseconds that the pause before a retry never exceeds.
    pub backoff_cap_ms: u64,
    /// The part of a pause by which it may be shorter at random, so that many don't come back at once.
    pub jitter: f64,
    /// Commands and reports taken into one transaction at most.
    pub batch: usize,
    /// Milliseconds between two looks at what is due.
    pub tick_ms: u64,
    /// Seconds between two sweeps of a store in which something is to be swept.
    pub sweep_every_s: u32,
    /// Seconds from acceptance to the deadline, unless the command says otherwise.
    pub deadline_s: u64,
    /// Seconds that a worker may be silent before it doesn't count as live.
    pub worker_silence_s: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            start_window_s: 30,
            margin_s: 10,
            lease_s: 30,
            queue_depth: 64,
            backoff_ms: 1000,
            backoff_cap_ms: 60_000,
            jitter: 0.5,
            batch: 256,
            tick_ms: 500,
            sweep_every_s: 600,
            deadline_s: 86_400,
            worker_silence_s: 30,
        }
    }
}
