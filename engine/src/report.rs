//! Reports of workers: announcements, starts, renewals and ends of attempts.

use crate::{
    database::Failed,
    journal::unit::{HowFar, Unit},
    machine::{Event, StepState},
    mutant::{self, Mutant},
    packs::{self, to_i64},
};
use longshore_schema::{
    ids::OperationId,
    site::{Place, Role},
    step::{Attempt, Pace},
    tables::{place, site, step, worker, zone},
    wire::{Announce, Control, Progress, Report, Running, WorkerKind, names},
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, ExprTrait, QueryFilter,
    sea_query::{Expr, OnConflict},
};

/// Absorbs one report. A stale one changes nothing; its sender is told.
pub async fn absorb(unit: &mut Unit<'_>, report: &Report) -> Result<(), Failed> {
    match report {
        Report::Announce(announce) => announced(unit, announce).await,
        Report::Started { attempt, worker, token } => started(unit, *attempt, worker, *token).await,
        Report::Renew { worker, token, running } => renewed(unit, worker, *token, running).await,
        Report::Done { attempt, worker, result } => {
            let event = Event::Reported { attempt: *attempt, worker: worker.clone(), result: result.clone() };
            if let Err(ignored) = unit.apply(attempt.operation, event, &format!("worker:{worker}")).await? {
                tracing::debug!(operation.id = %attempt.operation, attempt = attempt.n, %ignored, "a stale report");
            }
            Ok(())
        }
        Report::Declined { attempt, worker } => {
            tracing::info!(operation.id = %attempt.operation, attempt = attempt.n, worker, "a redelivered step was declined; the next attempt follows");
            if mutant::is(Mutant::DeclinedIsUnstarted) {
                unit.load([attempt.operation]).await?;
                let _ = unit.apply(attempt.operation, Event::Unstarted { attempt: *attempt }, worker).await?;
            }
            Ok(())
        }
    }
}

async fn announced(unit: &mut Unit<'_>, announce: &Announce) -> Result<(), Failed> {
    let row = worker::Model {
        id: announce.worker.clone(),
        incarnation: announce.incarnation,
        kind: announce.kind.as_str().to_owned(),
        host: announce.host.clone(),
        zone: announce.zone.clone(),
        announced: serde_json::to_value(announce)?,
        leaving: announce.leaving,
        seen_at: unit.now().0,
    };
    let columns = [
        worker::Column::Incarnation,
        worker::Column::Kind,
        worker::Column::Host,
        worker::Column::Zone,
        worker::Column::Announced,
        worker::Column::Leaving,
        worker::Column::SeenAt,
    ];
    worker::Entity::insert(worker::ActiveModel::from(row).reset_all())
        .on_conflict(OnConflict::column(worker::Column::Id).update_columns(columns).to_owned())
        .exec_without_returning(unit.tx())
        .await?;
    let region = zone::Entity::find_by_id(&announce.zone).one(unit.tx()).await?.map(|it| it.region);
    let mut near = place::Column::Zone.eq(&announce.zone);
    if let Some(region) = region {
        near = near.or(place::Column::Region.eq(region));
    }
    if announce.kind == WorkerKind::Transfer {
        // Objects are copied from region to region.
        near = near.or(place::Column::Role.eq(Role::Store.as_str()));
    }
    let places = place::Entity::find().filter(near).all(unit.tx()).await?;
    let places: Vec<Place> = places.into_iter().filter_map(|it| serde_json::from_value(it.definition).ok()).collect();
    let site_version = site::Entity::find_by_id(1).one(unit.tx()).await?.map_or(0, |it| it.version);
    unit.control(&announce.worker, &Control::Welcome { now: unit.now(), site_version, places })
}

async fn started(unit: &mut Unit<'_>, attempt: Attempt, worker: &str, token: Option<u64>) -> Result<(), Failed> {
    let known = unit.get(attempt.operation).and_then(|it| {
        let track = it.operation().steps.get(usize::from(attempt.seq))?;
        (track.n == attempt.n && track.state.way() == Some(attempt.way)).then(|| track.state.clone())
    });
    if let Some(StepState::Running { worker: owner, .. }) = &known
        && owner == worker
        && unit.wants(attempt)
    {
        // The word that it may start was lost on the way, or came to a process that died. Whoever asks again counts
        // its lease from now, so the engine must too.
        let (far, until) = (unit.progress(attempt), unit.lease_end());
        if mutant::is(Mutant::GoAgainWithoutTime) || renew(unit, attempt, until, far).await? {
            let pace = Pace::Long { lease_s: unit.config().lease_s };
            return unit.control(worker, &Control::Go { attempt, pace, token });
        }
    }
    let in_time = unit.start_before(attempt).is_some_and(|it| it >= unit.now().0);
    let event = Event::Started { attempt, worker: worker.to_owned() };
    unit.start_token = token;
    let applied = if in_time { unit.apply(attempt.operation, event, &format!("worker:{worker}")).await?.is_ok() } else { false };
    if !applied || !unit.runs(attempt, worker) {
        unit.control(worker, &Control::Stop { attempt })?;
    }
    Ok(())
}

/// Extends leases, and records progress and sealed packs. No transition: guarded updates of the step.
async fn renewed(unit: &mut Unit<'_>, worker: &str, token: u64, running: &[Running]) -> Result<(), Failed> {
    let until = unit.lease_end();
    let mut stop = vec![];
    for it in running {
        let attempt = it.attempt;
        // One that was cancelled has been told to stop, perhaps by an engine that died before it said so.
        let runs = unit.runs(attempt, worker) && unit.wants(attempt);
        let far = HowFar { done: to_i64(it.done_bytes), total: it.total_bytes.map(to_i64) };
        let renewed = runs && (mutant::is(Mutant::LoseRenewals) || renew(unit, attempt, until, far).await?);
        if !renewed {
            stop.push(attempt);
            continue;
        }
        if let Err(error) = packs::record(unit.tx, &mut unit.ledger, attempt.operation, &it.sealed).await? {
            // Its books are wrong, and nobody else's: the others of its worker are renewed.
            tracing::error!(operation.id = %attempt.operation, attempt = attempt.n, error = format!("{error:#}"), "could not record packs; their writer is stopped");
            stop.push(attempt);
            continue;
        }
        tell(unit, it)?;
    }
    unit.control(worker, &Control::Renewed { token, stop })
}

async fn renew(unit: &mut Unit<'_>, attempt: Attempt, until: i64, far: HowFar) -> Result<bool, Failed> {
    if unit.renew_unwritten(attempt, until, far) {
        return Ok(true);
    }
    let update = step::Entity::update_many()
        .col_expr(step::Column::DueAt, Expr::val(until))
        .col_expr(step::Column::DoneBytes, Expr::val(far.done))
        .col_expr(step::Column::TotalBytes, Expr::val(far.total))
        .filter(step::Column::OperationId.eq(attempt.operation.0))
        .filter(step::Column::Seq.eq(attempt.seq as i16))
        .filter(step::Column::Attempt.eq(attempt.n as i32))
        .filter(step::Column::State.eq("running"));
    let renewed = update.exec(unit.tx).await?.rows_affected == 1;
    if renewed {
        unit.was_renewed(attempt, until, far);
    }
    Ok(renewed)
}

/// Tells the world how far it is.
fn tell(unit: &mut Unit<'_>, running: &Running) -> Result<(), Failed> {
    let id: OperationId = running.attempt.operation;
    let Some(loaded) = unit.get(id) else { return Ok(()) };
    let key = format!("{}.progress", loaded.row().kind);
    let step = loaded.operation().plan.steps.get(usize::from(running.attempt.seq)).map(|it| it.name.clone());
    let progress = Progress {
        operation: id,
        step: step.unwrap_or_default(),
        done_bytes: running.done_bytes,
        total_bytes: running.total_bytes,
    };
    unit.pass(names::EVENTS, &key, serde_json::to_string(&progress)?);
    Ok(())
}

#[cfg(test)]
mod tests;
