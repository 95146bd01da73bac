//! Kills or stops one part after another at random instants, counted in events of all operations, and brings it back.

use super::report::Report;
use crate::cloud::{Cloud, WORKER};
use longshore_engine::database::Database;
use longshore_schema::tables::history;
use longshore_tests::{broker::Broker, database_server::DatabaseServer};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustix::process::Signal;
use sea_orm::{EntityTrait, PaginatorTrait};
use std::time::Duration;

/// Nothing that is alive is quiet for longer.
const QUIET: Duration = Duration::from_secs(300);

/// What it works on.
pub(super) struct Killer<'c> {
    pub(super) cloud: &'c mut Cloud,
    pub(super) broker: &'c Broker,
    pub(super) server: &'c DatabaseServer,
    pub(super) database: &'c Database,
}

/// What may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Engine(&'static str),
    Worker(&'static str, &'static str),
    Broker,
    Database,
}

const PARTS: [Part; 6] = [
    Part::Engine("engine"),
    Part::Engine("second engine"),
    Part::Worker("worker", "h1-kvm"),
    Part::Worker("second worker", "h1-second"),
    Part::Broker,
    Part::Database,
];

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Engine(name) | Part::Worker(name, _) => name,
            Part::Broker => "broker",
            Part::Database => "database",
        }
    }
}

/// How often a part has said that it is up.
fn ups(cloud: &Cloud, part: &str) -> usize {
    cloud.log(part).lines().filter(|it| it.contains("the engine runs") || it.contains("the worker runs")).count()
}

/// Waits until a part is up once more than `before`.
pub(super) async fn up(cloud: &Cloud, part: &str, before: usize) {
    cloud.until(&format!("{part} is up"), async |it| (ups(it, part) > before).then_some(())).await;
}

impl Killer<'_> {
    pub(super) async fn run(mut self, seed: u64, kills: u64, report: &mut Report) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut seen = 0;
        // A quorum queue must be seconds old to survive a kill (RabbitMQ 3.10).
        let first = 60;
        for n in 1..=kills {
            let after = if n == 1 { first } else { rng.random_range(5..60) };
            let waited = tokio::time::timeout(QUIET, self.events(seen + after)).await;
            seen = match waited {
                Ok(events) => events,
                Err(_) => panic!("nothing happens any more\n{}\n{}", self.cloud.say(&["list"]), self.cloud.logs()),
            };
            self.cloud.assert_alive();
            let part = PARTS[rng.random_range(0..PARTS.len())];
            let (more, span) = (rng.random_range(1..40), Duration::from_millis(rng.random_range(10..15_000)));
            if rng.random_bool(0.6) {
                report.kills(n, "KILL", part.name(), seen);
                self.kill(part).await;
                if rng.random_bool(0.5) {
                    self.either(seen + more, span).await;
                }
                self.start_again(part).await;
                // Counted from here: what was started just now gets time to open its queues.
                seen = self.events(seen).await;
            } else {
                report.kills(n, "STOP", part.name(), seen);
                self.pause(part);
                self.either(seen + more, span).await;
                self.go_on(part);
            }
        }
        let _ = tokio::time::timeout(QUIET, self.events(seen + 20)).await.expect("it goes on after the last one");
        self.cloud.assert_alive();
    }

    /// Until there are so many events, or for so long: the others may have to wait for what is away.
    async fn either(&self, events: u64, span: Duration) {
        let _ = tokio::time::timeout(span, self.events(events)).await;
    }

    /// Waits until there are so many events; how many there are.
    async fn events(&self, wanted: u64) -> u64 {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            // The database may be the part that is away.
            if let Ok(events) = history::Entity::find().count(self.database.read()).await
                && events >= wanted
            {
                return events;
            }
        }
    }

    async fn kill(&mut self, part: Part) {
        match part {
            Part::Engine(name) | Part::Worker(name, _) => self.cloud.kill(name),
            Part::Broker => self.broker.kill().await,
            Part::Database => self.server.kill().await,
        }
    }

    async fn start_again(&mut self, part: Part) {
        let before = ups(self.cloud, part.name());
        match part {
            Part::Engine(name) => {
                self.cloud.run_engine(name, &[]);
                up(self.cloud, name, before).await;
            }
            Part::Worker(name, id) => {
                self.cloud.run(name, &[WORKER, &["--id", id]].concat());
                up(self.cloud, name, before).await;
            }
            Part::Broker => self.broker.start_again().await,
            Part::Database => self.server.start_again().await,
        }
    }

    fn pause(&self, part: Part) {
        match part {
            Part::Engine(name) | Part::Worker(name, _) => self.cloud.signal(name, Signal::STOP),
            Part::Broker => self.broker.pause(),
            Part::Database => self.server.pause(),
        }
    }

    fn go_on(&self, part: Part) {
        match part {
            Part::Engine(name) | Part::Worker(name, _) => self.cloud.signal(name, Signal::CONT),
            Part::Broker => self.broker.go_on(),
            Part::Database => self.server.go_on(),
        }
    }
}
