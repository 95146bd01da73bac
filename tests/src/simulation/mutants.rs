//! What is made wrong on purpose, to see that the simulation finds it: in the engine (`longshore_engine::mutant`),
//! or in what stands around it here.

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

/// Those that are found soon: a test says so.
pub const ALL: &[Bug] = &[
    Bug::AckBeforeCommit,
    Bug::DeleteUnconfirmed,
    Bug::IgnoreStartBefore,
    Bug::KeepDiscarded,
    Bug::KeepVolumes,
    Bug::OverwriteVolumes,
    Bug::SweepRemovesNothing,
    Bug::Engine(Mutant::AcceptStaleReports),
    Bug::Engine(Mutant::BookHalfOfPacks),
    Bug::Engine(Mutant::BookNothingThatIsReady),
    Bug::Engine(Mutant::CancelWithoutProbe),
    Bug::Engine(Mutant::CondemnUsedPacks),
    Bug::Engine(Mutant::DoCommandsAgain),
    Bug::Engine(Mutant::ForgetInheritedUses),
    Bug::Engine(Mutant::HideFailures),
    Bug::Engine(Mutant::HoldWhatGoes),
    Bug::Engine(Mutant::IgnoreAbandons),
    Bug::Engine(Mutant::IgnoreCancels),
    Bug::Engine(Mutant::IgnoreDeadlines),
    Bug::Engine(Mutant::IgnoreDestroys),
    Bug::Engine(Mutant::IgnoreRetries),
    Bug::Engine(Mutant::KeepClaims),
    Bug::Engine(Mutant::KeepFailedPacks),
    Bug::Engine(Mutant::LoseRenewals),
    Bug::Engine(Mutant::NoClock),
    Bug::Engine(Mutant::NoSweeps),
    Bug::Engine(Mutant::RegrantClaims),
    Bug::Engine(Mutant::ReleaseByCounter),
    Bug::Engine(Mutant::SweepUnderWay),
    Bug::Engine(Mutant::UndoBeforeLeaseEnd),
    Bug::Engine(Mutant::UndoOnlyFinished),
];

/// Those that need several rare things at once, or that other rules make harmless: not found within a few thousand
/// schedules so far.
pub const RARE: &[Bug] =
    &[Bug::ForgetRefusal, Bug::UnlinkForgets, Bug::Engine(Mutant::DeclinedIsUnstarted), Bug::Engine(Mutant::GoAgainWithoutTime)];

impl Bug {
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
