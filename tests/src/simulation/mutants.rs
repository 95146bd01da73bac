//! What is made wrong on purpose, to see that the simulation finds it: in the engine (`longshore_engine::mutant`),
//! or in what stands around it here.

use super::choices::Focus;
use longshore_engine::mutant::Mutant;

/// Something wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Messages are acknowledged before what they ask for is committed.
    AckBeforeCommit,
    /// The relay deletes what wasn't confirmed.
    DeleteUnconfirmed,
    /// A worker may begin what it refused.
    ForgetRefusal,
    /// A worker starts steps however late it is.
    IgnoreStartBefore,
    /// The undo of a copy leaves everything.
    KeepDiscarded,
    /// The undo of a volume leaves it.
    KeepVolumes,
    /// A volume takes the name of another one.
    OverwriteVolumes,
    /// A sweep says that it removed everything.
    SweepRemovesNothing,
    /// The undo of a commit leaves nothing that stops a late one.
    UnlinkForgets,
    /// The engine is mutated.
    Engine(Mutant),
}

/// All of them, each found within two thousand schedules: a test says so.
pub const ALL: &[Bug] = &[
    Bug::AckBeforeCommit,
    Bug::DeleteUnconfirmed,
    Bug::ForgetRefusal,
    Bug::IgnoreStartBefore,
    Bug::KeepDiscarded,
    Bug::KeepVolumes,
    Bug::OverwriteVolumes,
    Bug::SweepRemovesNothing,
    Bug::UnlinkForgets,
    Bug::Engine(Mutant::AbandonWhatIsReady),
    Bug::Engine(Mutant::AcceptLateCancels),
    Bug::Engine(Mutant::AcceptStaleReports),
    Bug::Engine(Mutant::AskForTwice),
    Bug::Engine(Mutant::BookHalfOfPacks),
    Bug::Engine(Mutant::BookNothingThatIsReady),
    Bug::Engine(Mutant::CancelWithoutProbe),
    Bug::Engine(Mutant::CondemnUsedPacks),
    Bug::Engine(Mutant::CopyUnheld),
    Bug::Engine(Mutant::CountFailedVerifies),
    Bug::Engine(Mutant::DeadlinesOfWaiters),
    Bug::Engine(Mutant::DeclinedIsUnstarted),
    Bug::Engine(Mutant::DoCommandsAgain),
    Bug::Engine(Mutant::ForgetInheritedUses),
    Bug::Engine(Mutant::GoAgainWithoutTime),
    Bug::Engine(Mutant::HideFailures),
    Bug::Engine(Mutant::HoldWhatGoes),
    Bug::Engine(Mutant::IgnoreAbandons),
    Bug::Engine(Mutant::IgnoreBodies),
    Bug::Engine(Mutant::IgnoreCancels),
    Bug::Engine(Mutant::IgnoreDeadlines),
    Bug::Engine(Mutant::IgnoreDepths),
    Bug::Engine(Mutant::IgnoreDestroys),
    Bug::Engine(Mutant::IgnoreRetries),
    Bug::Engine(Mutant::KeepClaims),
    Bug::Engine(Mutant::KeepFailedPacks),
    Bug::Engine(Mutant::KeepRefused),
    Bug::Engine(Mutant::KeepRemains),
    Bug::Engine(Mutant::LastComesFirst),
    Bug::Engine(Mutant::LoseRenewals),
    Bug::Engine(Mutant::NeverAttention),
    Bug::Engine(Mutant::NeverExpire),
    Bug::Engine(Mutant::NeverWake),
    Bug::Engine(Mutant::NoClock),
    Bug::Engine(Mutant::NoPatience),
    Bug::Engine(Mutant::NoSweeps),
    Bug::Engine(Mutant::ProbeForEver),
    Bug::Engine(Mutant::RefuseRequests),
    Bug::Engine(Mutant::RegrantClaims),
    Bug::Engine(Mutant::ReleaseByCounter),
    Bug::Engine(Mutant::RenewUnwanted),
    Bug::Engine(Mutant::StopWithoutWord),
    Bug::Engine(Mutant::SweepAtOnce),
    Bug::Engine(Mutant::SweepUnderWay),
    Bug::Engine(Mutant::UndoBeforeLeaseEnd),
    Bug::Engine(Mutant::UndoOnlyFinished),
];

impl Bug {
    /// As the command line has it: `undo-only-finished`.
    pub fn name(self) -> String {
        let variant = self.in_engine().map_or_else(|| format!("{self:?}"), |mutant| format!("{mutant:?}"));
        let mut name = String::new();
        for letter in variant.chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }

    /// The one with that name; an error has the names of all.
    pub fn named(name: &str) -> Result<Bug, String> {
        ALL.iter().copied().find(|it| it.name() == name).ok_or_else(|| {
            let names: Vec<String> = ALL.iter().map(|it| it.name()).collect();
            format!("there are only: {}", names.join(", "))
        })
    }

    /// Of those that hardly ever show: where they do. All their schedules are about that.
    pub(super) fn shows_in(self) -> Option<Focus> {
        match self {
            Bug::UnlinkForgets | Bug::Engine(Mutant::ProbeForEver) => Some(Focus::Commits),
            Bug::Engine(Mutant::NeverAttention) => Some(Focus::Undos),
            Bug::Engine(Mutant::RenewUnwanted) => Some(Focus::Copies),
            Bug::IgnoreStartBefore | Bug::Engine(Mutant::DeclinedIsUnstarted) => Some(Focus::ShortSteps),
            Bug::ForgetRefusal | Bug::Engine(Mutant::GoAgainWithoutTime) => Some(Focus::Starts),
            Bug::Engine(Mutant::LastComesFirst) => Some(Focus::Waits),
            _ => None,
        }
    }

    /// If it is in the engine.
    pub(super) fn in_engine(self) -> Option<Mutant> {
        match self {
            Bug::Engine(mutant) => Some(mutant),
            Bug::AckBeforeCommit
            | Bug::DeleteUnconfirmed
            | Bug::ForgetRefusal
            | Bug::IgnoreStartBefore
            | Bug::KeepDiscarded
            | Bug::KeepVolumes
            | Bug::OverwriteVolumes
            | Bug::SweepRemovesNothing
            | Bug::UnlinkForgets => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_mutant_is_found_by_its_name_and_no_other_has_it() {
        assert!(ALL.iter().all(|bug| Bug::named(&bug.name()) == Ok(*bug)));
        assert_eq!(ALL.iter().map(|bug| bug.name()).collect::<BTreeSet<_>>().len(), ALL.len());
        assert_eq!(Bug::named("undo-only-finished"), Ok(Bug::Engine(Mutant::UndoOnlyFinished)));
        assert!(Bug::named("UndoOnlyFinished").unwrap_err().contains("undo-only-finished"));
    }
}
