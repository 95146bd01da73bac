//! Waits for operations, with bars on stderr where that is a terminal, and a line on stderr for each new reason why a
//! step is tried again.

use crate::{ask::Line, ended::Ended, presence, session::Session, shutdown};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use longshore_engine::{audit::OperationView, database::Database};
use longshore_schema::{fault::Fault, ids::OperationId, text::printable};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(100);

/// Whether an operation, asked to be made, is over: Ready is its good end.
pub(crate) fn is_over(it: &OperationView) -> bool {
    matches!(it.state.as_str(), "ready" | "destroyed" | "failed") || it.needs_attention
}

/// Whether an operation that was asked to go away is gone.
pub(crate) fn is_gone(it: &OperationView) -> bool {
    matches!(it.state.as_str(), "destroyed" | "failed") || it.needs_attention
}

/// The same, or it goes by itself once its holders have.
pub(crate) fn is_gone_or_held(it: &OperationView) -> bool {
    is_gone(it) || it.state == "ready" && it.destroy_requested && !it.holders.is_empty()
}

/// The end of an operation that was to be made.
pub(crate) fn good(it: &OperationView) -> Result<(), Ended> {
    match it.state.as_str() {
        "ready" | "destroyed" if !it.needs_attention => Ok(()),
        state => {
            let state = if it.needs_attention { format!("{state} and needs attention") } else { state.to_owned() };
            Err(Ended::Failed { operation: it.id, state, fault: it.fault.clone() })
        }
    }
}

/// Waits until all are over, in the order of `ids`. If the engine that should do them is gone, `line` takes over, or who
/// waits is told.
pub(crate) async fn until(
    session: &Session,
    database: &Database,
    mut line: Option<&mut Line>,
    ids: &[OperationId],
    over: fn(&OperationView) -> bool,
) -> Result<Vec<OperationView>, Ended> {
    let stop = shutdown::on_signal().map_err(Ended::Broken)?;
    let bars = MultiProgress::new();
    let mut bars_of: Vec<_> = ids.iter().map(|_| None).collect();
    let mut told: Vec<Option<Fault>> = vec![None; ids.len()];
    let mut missing = None;
    let mut rounds = 0u32;
    loop {
        let mut found = vec![];
        for ((id, bar), told) in ids.iter().zip(&mut bars_of).zip(&mut told) {
            let operation = session.operation(database, *id).await?;
            show(&bars, bar, &operation);
            let again = why_again(&operation);
            if again.is_some() && again != *told {
                *told = again;
                if !session.out.json {
                    bars.suspend(|| tell(&operation));
                }
            }
            found.push(operation);
        }
        if found.iter().all(over) {
            let _ = bars.clear();
            return Ok(found);
        }
        if rounds.is_multiple_of(10) {
            let now = match line.as_deref_mut() {
                Some(line @ (Line::Socket(_) | Line::Here(_))) => {
                    line.keep(session).await?;
                    presence::no_room(session)
                }
                Some(Line::Broker { .. }) | None => presence::missing(session, database).await?,
            };
            if now.is_some() != missing.is_some() {
                bars.suspend(|| session.out.notice(now.as_deref().unwrap_or("it goes on")));
            }
            missing = now;
        }
        rounds += 1;
        let first = ids.first().copied().unwrap_or_default();
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => (),
            () = stop.cancelled() => return Err(Ended::Interrupted(Some(first))),
        }
    }
}

/// Why its step failed, if it is tried again.
fn why_again(operation: &OperationView) -> Option<Fault> {
    operation.progress.as_ref().filter(|it| it.state == "resting").and_then(|it| it.last_fault.clone())
}

fn tell(operation: &OperationView) {
    if let (Some(step), Some(fault)) = (&operation.progress, why_again(operation)) {
        let way = if step.way == "undo" { "undo " } else { "" };
        let fault = printable(&fault.to_string());
        eprintln!("{}: {way}{} failed and is tried again: {fault}", operation.id, step.step);
    }
}

fn show(bars: &MultiProgress, bar: &mut Option<ProgressBar>, operation: &OperationView) {
    let bar = bar.get_or_insert_with(|| {
        let bar = bars.add(ProgressBar::no_length());
        bar.set_prefix(operation.id.to_string());
        bar
    });
    let measured = operation.progress.as_ref().and_then(|it| Some((it.done_bytes, it.total_bytes.filter(|it| *it > 0)?)));
    let template = match measured {
        Some(_) => "{prefix} {bar:24} {bytes:>11}/{total_bytes:11} {binary_bytes_per_sec:>12} {msg}",
        None => "{prefix} {spinner} {msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    if let Some((done, total)) = measured {
        bar.set_length(total);
        bar.set_position(done);
    }
    let activity = crate::print::operation::activity(operation);
    let held = operation.state == "ready" && operation.destroy_requested && !operation.holders.is_empty();
    let waits = if held { format!("is held by {} others", operation.holders.len()) } else { String::new() };
    let message = [operation.state.as_str(), activity.as_str(), waits.as_str()].join(" ");
    bar.set_message(printable(message.trim_end()));
    bar.tick();
}
