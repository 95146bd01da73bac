//! How long the questions take on a database, and what an operation takes on it from its submission until Ready.

use super::questions::{self, Question};
use crate::bench::{
    engine::{Bench, percentile},
    usage,
};
use anyhow::{Context, Result};
use longshore_schema::ids::OperationId;
use std::time::Instant;

/// How often each question is asked.
const ROUNDS: usize = 200;
/// How often before that, so that statements are prepared and plans are kept.
const WARM_UP: usize = 20;
/// Operations one after the other.
const ALONE: usize = 200;
/// Operations at once, before and after which memory is looked at.
const AT_ONCE: usize = 2000;

/// Milliseconds of one thing.
#[derive(Debug, Clone, PartialEq)]
pub struct Times {
    /// Of what.
    pub what: &'static str,
    /// The median.
    pub p50_ms: f64,
    /// Of a hundred, the slowest but one.
    pub p99_ms: f64,
}

impl Times {
    fn new(what: &'static str, mut took_ms: Vec<f64>) -> Times {
        Times { what, p50_ms: percentile(&mut took_ms, 0.5), p99_ms: percentile(&mut took_ms, 0.99) }
    }
}

/// All that is measured on one database.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) times: Vec<Times>,
    /// Memory of the engine, worker and control plane in one process, after two thousand operations.
    pub(super) resident: u64,
}

/// Measures; questions about one operation are about `about` in turn, and are left out if there is none.
pub(super) async fn measure(bench: &Bench, about: &[OperationId]) -> Result<Measured> {
    let mut times = vec![];
    let is_asked = |question: &Question| !about.is_empty() || !question.needs_operations();
    let nobody = [OperationId::new()];
    let in_turn = if about.is_empty() { &nobody[..] } else { about };
    for (what, question) in questions::all().into_iter().filter(|(_, question)| is_asked(question)) {
        let mut took_ms = vec![];
        for (round, about) in in_turn.iter().cycle().take(WARM_UP + ROUNDS).enumerate() {
            let started = Instant::now();
            question.ask(&bench.database, *about).await.with_context(|| what)?;
            if round >= WARM_UP {
                took_ms.push(started.elapsed().as_secs_f64() * 1000.0);
            }
        }
        times.push(Times::new(what, took_ms));
    }
    bench.submit_and_wait(WARM_UP).await?;
    times.push(Times::new("an operation until Ready", bench.alone(ALONE).await?));
    bench.submit_and_wait(AT_ONCE).await?;
    Ok(Measured { times, resident: usage::own_resident_bytes()? })
}
