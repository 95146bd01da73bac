//! `longshore plan KIND`: what an operation would do, and why. It changes nothing.

use super::kind::Kind;
use crate::{
    ended::Ended,
    print::{human, table},
    session::{self, Session},
    settings::Broker,
};
use anyhow::Context;
use clap::Args;
use longshore_engine::{
    config::Config,
    database::{Database, Failed},
    operation,
    plan::{Amount, EngineStep, Plan as PlanData, UndoWhen, Work},
    world::{Asked, Worker, World},
    world_read,
};
use longshore_schema::{
    ids::OperationId,
    tables::place,
    wire::{Announce, WorkerKind},
};
use sea_orm::EntityTrait;
use serde_json::json;
use std::sync::Arc;

/// `plan`
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// What would be done.
    #[command(subcommand)]
    kind: Kind,
    /// Whom you would act for.
    #[arg(long, global = true, default_value = "default")]
    tenant: String,
}

impl Plan {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let body = self.kind.body()?;
        let database = session.reading().await?;
        let kind = operation::find(self.kind.name()).map_err(Ended::Refused)?;
        let touches = kind.touches(&body, &self.tenant).map_err(Ended::Refused)?;
        let at = session::now(&database).await?;
        let world = async {
            let around = world_read::surroundings(database.read(), at, Config::default()).await?;
            world_read::read(database.read(), around, touches).await
        };
        let world = world.await;
        let mut world = world.map_err(|failed| match failed {
            Failed::Internal(error) => Ended::Broken(error),
            other => Ended::unreachable(other),
        })?;
        if session.settings.broker == Broker::Embedded && !world.workers.iter().any(|it| it.live) {
            world.workers = Arc::new(expected(&database, &world).await.map_err(Ended::Unreachable)?);
        }
        let asked = Asked { operation: OperationId::new(), tenant: self.tenant, at };
        let (plan, about) = kind.plan(&body, &world, &asked).map_err(Ended::Refused)?;
        if session.out.json {
            return session.out.json(&json!({"kind": kind.name, "zone": about.zone, "plan": plan}));
        }
        session.out.text(text(kind.name, &plan))
    }
}

/// When no embedded engine runs, the plan is for the workers that it would have: one in each zone, and one for the stores
/// of all if there are several (`embedded.rs`).
async fn expected(database: &Database, world: &World) -> anyhow::Result<Vec<Worker>> {
    let places = place::Entity::find().all(database.read()).await.context("read the places")?;
    let names = |role: &str, near: &dyn Fn(&place::Model) -> bool| {
        places.iter().filter(|it| it.role == role && near(it)).map(|it| it.name.clone()).collect::<Vec<_>>()
    };
    let of_zone = |(name, zone): (&String, &longshore_engine::world::Zone)| {
        let near = |it: &place::Model| it.zone.as_ref() == Some(name) || it.region.as_ref() == Some(&zone.region);
        worker(WorkerKind::Kvm, name, names("pool", &near), names("store", &near))
    };
    let between = world.zones.keys().nth(1).map(|zone| worker(WorkerKind::Transfer, zone, vec![], names("store", &|_| true)));
    Ok(world.zones.iter().map(of_zone).chain(between).collect())
}

fn worker(kind: WorkerKind, zone: &str, pools: Vec<String>, stores: Vec<String>) -> Worker {
    let announced = Announce {
        worker: format!("{zone}-embedded-{}", kind.as_str()),
        incarnation: uuid::Uuid::nil(),
        kind,
        host: zone.to_owned(),
        zone: zone.to_owned(),
        version: env!("CARGO_PKG_VERSION").into(),
        tools: std::collections::BTreeMap::new(),
        pools,
        stores,
        concurrency: 1,
        problems: std::collections::BTreeMap::new(),
        leaving: false,
    };
    Worker { announced, live: true }
}

fn text(kind: &str, plan: &PlanData) -> String {
    let mut lines = vec![format!("{kind} would")];
    if let Some(path) = &plan.path {
        lines.push(format!("  take the {} path, because of: {}", path.chosen, path.because));
    }
    lines.extend(plan.claims.iter().map(|it| format!("  claim {it}")));
    lines.extend(plan.uses.iter().map(|it| format!("  hold object {it}")));
    let mut rows = table::new(&["", "step", "by", "undo"]);
    for (seq, step) in plan.steps.iter().enumerate() {
        let (by, name) = match &step.work {
            Work::Engine(step) => ("engine".to_owned(), engine_step(step)),
            Work::Worker(call) => (call.queue.clone(), step.name.clone()),
        };
        let name = if plan.commit == Some(seq as u16) { format!("{name} (point of no return)") } else { name };
        let undo = step.undo.as_ref().map_or_else(String::new, |undo| match undo.when {
            UndoWhen::Always => undo.call.step.clone(),
            UndoWhen::NeverReady => format!("{} (unless it was Ready)", undo.call.step),
        });
        rows.add_row([table::right(seq), table::cell(name), table::cell(by), table::cell(undo)]);
    }
    lines.push(table::text(rows, &[1, 2, 3]));
    lines.join("\n")
}

fn engine_step(step: &EngineStep) -> String {
    match step {
        EngineStep::Reserve(needs) => {
            let need = |need: &longshore_engine::plan::Need| {
                let amount = match &need.amount {
                    Amount::Known { bytes, .. } => human::bytes(*bytes),
                    Amount::CopyOf { measured, .. } => format!("what step {measured} finds"),
                };
                format!("{amount} in {}{}", need.place, if need.wait { ", or wait" } else { ", or fail" })
            };
            format!("reserve {}", needs.iter().map(need).collect::<Vec<_>>().join(" and "))
        }
        EngineStep::Publish => "publish".into(),
        EngineStep::Choose { store, listed } => format!("choose what goes from {store}, of what step {listed} lists"),
        EngineStep::Forget { store, chosen } => format!("forget what went from {store}, of what step {chosen} chose"),
    }
}
