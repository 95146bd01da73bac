//! What the control plane asks for: commands of every kind, about what it knows by then, some of them twice.

use super::{
    choices::{At, Focus},
    judge::key,
    schedule::{Happening, Options, Simulation},
    setup::STORES,
    world::CONTENTS,
};
use longshore_engine::{command::Command, journal::Item};
use longshore_schema::{ids::OperationId, wire::Reply};
use serde_json::{Value, json};
use std::sync::Arc;

/// Where the control plane listens.
pub(super) const REPLIES: &str = "replies";
/// It asks again after this time without an answer, microseconds.
const AGAIN_US: i64 = 60_000_000;
/// After this time it looks again whether there is what it wants to ask for something about, microseconds.
const LATER_US: i64 = 15_000_000;
/// So often.
const LOOKS: u32 = 5;

/// One command.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    what: What,
    priority: u8,
    deadline_s: Option<u64>,
    /// How often there was nothing yet that it could be about.
    looked: u32,
    /// Whose message id it has, if not one of its own.
    id: Reused,
    /// What was sent, once it was.
    pub(super) sent: Option<Arc<Command>>,
}

/// Where a command's message id comes from.
#[derive(Debug, Clone, Copy)]
enum Reused {
    /// It is its own.
    Never,
    /// An earlier command of the same user had it.
    BySame(u64),
    /// An earlier command of another user had it: that is no reuse.
    ByOther(u64),
}

/// Of what kind. Numbers choose among what is known by then.
#[derive(Debug, Clone, Copy)]
enum What {
    Backup {
        volume: u64,
        full: bool,
        wait: bool,
    },
    /// From the store that has it into the other one.
    Copy {
        from: u64,
        full: bool,
        wait: bool,
    },
    Create {
        from: u64,
        volume: u64,
        wait: bool,
    },
    Verify {
        object: u64,
    },
    Sweep {
        store: u64,
    },
    About {
        operation: u64,
        request: &'static str,
    },
    /// A request about something that is undone, or probed.
    Abandon {
        operation: u64,
    },
    /// A request about something that is Ready.
    Destroy {
        made: u64,
    },
    /// At the end of a schedule: it is sent as it is.
    AtLast,
}

impl Simulation<'_> {
    /// Chooses all commands and their times.
    pub(super) fn ask_for(&mut self, options: &Options) {
        let about_waits = self.choices.is_about(Focus::Waits);
        let least = if about_waits { 6 } else { 2 };
        let count = options.operations.unwrap_or_else(|| least + self.choices.below(At::Plan, 7));
        let mut at = 0;
        for which in 0..count {
            let mut pick = |n| self.choices.below(At::Plan, n);
            let (a, b, c) = (pick(64), pick(3), pick(4) > 0);
            let kind = pick(27);
            let about_commits = self.choices.is_about(Focus::Commits);
            let about_copies = self.choices.is_about(Focus::Copies);
            let mut pick = |n| self.choices.below(At::Plan, n);
            let what = match if which == 0 { 0 } else { kind } {
                // A commit shows what it is worth when somebody stops it, or removes what it made.
                1 | 2 if about_commits => What::About { operation: a, request: "cancel" },
                3..6 if about_commits => What::Abandon { operation: a },
                7..11 if about_commits => What::Destroy { made: a },
                // A copy shows whether it can be stopped.
                5 | 6 | 10 | 11 if about_copies => What::About { operation: a, request: "cancel" },
                // Other names: none of them is refused since somebody else makes it.
                3..12 if about_waits => What::Create { from: a, volume: which, wait: true },
                12..14 if about_waits => What::Destroy { made: a },
                0..7 => What::Backup { volume: a % 2, full: a % 8 < 2, wait: c },
                7..12 => What::Create { from: a, volume: b, wait: c },
                12 | 22 => What::Verify { object: a },
                13 => What::Sweep { store: a },
                14..16 => What::About { operation: a, request: "destroy" },
                16..19 => What::Destroy { made: a },
                19..21 => What::About { operation: a, request: "cancel" },
                21 => What::About { operation: a, request: "abandon" },
                23 => What::About { operation: a, request: "retry" },
                _ => What::Copy { from: a, full: b == 0, wait: c },
            };
            let deadline_s = (pick(6) == 0).then(|| 5 + pick(60));
            let priority = pick(3) as u8;
            at += match pick(3) {
                0 => pick(100),
                1 => pick(5_000),
                _ => pick(60_000),
            };
            let id = match pick(32) {
                0 if which > 0 => Reused::BySame(pick(which)),
                1 if which > 0 => Reused::ByOther(pick(which)),
                _ => Reused::Never,
            };
            self.asks.push(Ask { what, priority, deadline_s, looked: 0, id, sent: None });
            if !options.without_commands.contains(&(which as usize)) {
                self.after(at as i64 * 1000, Happening::Asks(which as usize));
            }
        }
    }

    /// Publishes a command, if there is what it is about.
    pub(super) fn asks(&mut self, which: usize) {
        let ask = self.asks[which].clone();
        let known: Vec<OperationId> = self.known.accepted.clone();
        let objects: Vec<OperationId> = known.iter().copied().filter(|it| self.known.is_object(*it)).collect();
        let choose = |from: &[OperationId], n: u64| from.get((n as usize) % from.len().max(1)).copied();
        let wait = |wait: bool| if wait { "wait" } else { "refuse" };
        let body = match ask.what {
            What::Backup { volume, full, wait: waits } => Some(json!({
                "zone": "z1", "pool": "fast", "volume": format!("source{volume}"), "store": STORES[0],
                "base": if full { "full" } else { "auto" }, "when_full": wait(waits), "deadline_s": ask.deadline_s,
            })),
            What::Copy { from, full, wait: waits } => choose(&objects, from).map(|from| {
                let store = STORES[usize::from(self.world.is_in(from, STORES[0]))];
                json!({
                    "from": from, "store": store, "base": if full { "full" } else { "auto" }, "when_full": wait(waits),
                    "deadline_s": ask.deadline_s,
                })
            }),
            What::Create { from, volume, wait: waits } => choose(&objects, from).map(|from| {
                json!({
                    "zone": "z1", "from": from, "pool": "fast", "volume": format!("made{volume}"),
                    "when_full": wait(waits), "deadline_s": ask.deadline_s,
                })
            }),
            What::Verify { object } => choose(&objects, object).map(|it| json!({"object": it, "deadline_s": ask.deadline_s})),
            What::Sweep { store } => Some(json!({"store": STORES[usize::from(store % 4 == 0)]})),
            What::AtLast => None,
            What::Destroy { made } => {
                let made_of = |it: &&OperationId| self.known.told.get(it).is_some_and(|it| it.state == "ready");
                let ready: Vec<OperationId> = known.iter().filter(made_of).copied().collect();
                choose(&ready, made).map(|it| json!({"operation": it}))
            }
            What::Abandon { operation } => {
                let hangs =
                    |it: &&OperationId| self.known.told.get(it).is_some_and(|it| it.state == "destroying" || it.is_probed());
                let hanging: Vec<OperationId> = known.iter().filter(hangs).copied().collect();
                choose(&hanging, operation).map(|it| json!({"operation": it, "reason": "the simulation says so"}))
            }
            What::About { operation, request } => choose(&self.known.open_or_all(), operation).map(|it| match request {
                "abandon" => json!({"operation": it, "reason": "the simulation says so"}),
                _ => json!({"operation": it}),
            }),
        };
        let Some(body) = body else { return self.asks_later(which) };
        let kind = match ask.what {
            What::Backup { volume, .. } => {
                *self.world.sources.entry(format!("source{volume}")).or_insert(volume * CONTENTS) += 1;
                "backup-snapshot"
            }
            What::Copy { .. } => "copy-object",
            What::Create { .. } => "create-volume",
            What::Verify { .. } => "verify-object",
            What::Sweep { .. } | What::AtLast => "sweep-store",
            What::Destroy { .. } => "destroy",
            What::Abandon { .. } => "abandon",
            What::About { request, .. } => request,
        };
        let mut command = command(which, kind, ask.priority, without_nulls(body));
        match ask.id {
            Reused::Never => (),
            Reused::BySame(earlier) => command.message_id = format!("m{earlier}"),
            Reused::ByOther(earlier) => {
                command.message_id = format!("m{earlier}");
                command.user = "other".into();
            }
        }
        let command = Arc::new(command);
        self.say(|| format!("asked: {kind} {}", command.body));
        self.asks[which].sent = Some(command.clone());
        self.soon(Happening::Inbound(Item::Command(command.clone()), false));
        if let Some(fault) = self.choices.fault("command twice", 6) {
            self.say(|| format!("fault {fault}: the command comes twice"));
            self.soon(Happening::Inbound(Item::Command(command), false));
        }
    }
}

impl Simulation<'_> {
    /// There is nothing yet that it could be about.
    fn asks_later(&mut self, which: usize) {
        self.asks[which].looked += 1;
        if self.asks[which].looked < LOOKS {
            self.after(LATER_US, Happening::Asks(which));
        }
    }

    /// A command at the end of a schedule. What names it in answers.
    pub(super) fn asks_at_last(&mut self, kind: &str, body: Value) -> String {
        let command = Arc::new(command(self.asks.len(), kind, 0, body));
        self.say(|| format!("asked at last: {kind} {}", command.body));
        self.asks.push(Ask {
            what: What::AtLast,
            priority: 0,
            deadline_s: None,
            looked: 0,
            id: Reused::Never,
            sent: Some(command.clone()),
        });
        self.soon(Happening::Inbound(Item::Command(command.clone()), false));
        key(&command)
    }

    /// The broker lost what answers it, or the command itself. Nobody asks again otherwise: what the broker has taken
    /// must not get lost.
    pub(super) fn will_ask_again(&mut self, which: usize) {
        self.after(AGAIN_US, Happening::AsksAgain(which));
    }

    /// The same message.
    pub(super) fn asks_again(&mut self, which: usize) {
        let unheard = self.asks[which].sent.clone().filter(|it| !self.known.heard.contains(&key(it)));
        if let Some(command) = unheard {
            self.soon(Happening::Inbound(Item::Command(command), false));
        }
    }

    /// An answer arrives: it is the one that was committed.
    pub(super) fn hears(&mut self, message_id: String, reply: &Reply) {
        let committed = self.known.replies.get(&message_id);
        if committed != Some(&Reply { duplicate: false, ..reply.clone() }) {
            self.wrong.push(format!("command {message_id} was answered {reply:?}; committed is {committed:?}"));
        }
        self.known.heard.insert(message_id);
    }
}

fn command(which: usize, kind: &str, priority: u8, body: Value) -> Command {
    Command {
        kind: kind.into(),
        message_id: format!("m{which}"),
        user: "control".into(),
        tenant: None,
        reply_to: Some(REPLIES.into()),
        correlation_id: Some(format!("m{which}")),
        priority,
        body,
    }
}

fn without_nulls(mut body: Value) -> Value {
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    body
}
