//! `longshore workers`: who can do something, what they reach, and why not what they don't.

use crate::{
    ended::Ended,
    print::{human, table},
    session::{self, Session},
};
use clap::Args;
use longshore_engine::{
    audit::{self, WorkerView},
    config::Config,
};
use longshore_schema::text::printable;

/// `workers`
#[derive(Debug, Args)]
pub(crate) struct Workers {}

impl Workers {
    pub(crate) async fn run(self, session: &Session) -> Result<(), Ended> {
        let database = session.reading().await?;
        let now = session::now(&database).await?;
        let found = audit::workers(database.read(), now).await.map_err(Ended::Unreachable)?;
        session.out.list(&found, text)
    }
}

fn text(workers: &[WorkerView]) -> String {
    if workers.is_empty() {
        return "no worker has announced itself; start `longshore engine` (embedded) or `longshore worker`".into();
    }
    let mut rows = table::new(&["worker", "kind", "zone", "seen", "reaches", "tools", "version"]);
    let mut problems = vec![];
    for it in workers {
        let said = &it.announced;
        let silence = f64::from(Config::default().worker_silence_s);
        let seen = match (said.leaving, it.silent_s > silence) {
            (true, _) => format!("left {} ago", human::span(it.silent_s)),
            (false, true) => format!("silent for {}", human::span(it.silent_s)),
            (false, false) => "live".into(),
        };
        let reaches = said.pools.iter().chain(&said.stores).cloned().collect::<Vec<_>>().join(", ");
        let tools = said.tools.iter().map(|(tool, version)| format!("{tool} {version}")).collect::<Vec<_>>().join(", ");
        rows.add_row([
            table::cell(&said.worker),
            table::cell(said.kind.as_str()),
            table::cell(&said.zone),
            table::cell(seen),
            table::cell(reaches),
            table::cell(tools),
            table::cell(&said.version),
        ]);
        problems.extend(said.problems.iter().map(|(place, why)| format!("{} doesn't reach {place}: {why}", said.worker)));
    }
    let problems: Vec<_> = problems.iter().map(|it| printable(it)).collect();
    [vec![table::text(rows, &[4, 5])], problems].concat().join("\n")
}
