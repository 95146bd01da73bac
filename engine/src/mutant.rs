//! Faults put into the engine on purpose, to show that the simulation finds such faults (`tests/src/simulation`).
//! Without the feature `simulation` nothing is ever mutated; with it, only a thread that asked for it.

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// An object that is Ready can be abandoned.
    AbandonWhatIsReady,
    /// `cancel` of what is Ready is answered as if it had an effect.
    AcceptLateCancels,
    /// A report counts whatever attempt it is about.
    AcceptStaleReports,
    /// Space is granted only where twice as much is left.
    AskForTwice,
    /// Of the packs that were put, half the bytes are booked.
    BookHalfOfPacks,
    /// What was made, packs aside, isn't booked any more once it is Ready.
    BookNothingThatIsReady,
    /// A cancel during the commit turns back without asking whether it took effect.
    CancelWithoutProbe,
    /// A pack is condemned while somebody uses it.
    CondemnUsedPacks,
    /// An object that is being copied isn't held.
    CopyUnheld,
    /// A verification whose step failed is one that succeeded.
    CountFailedVerifies,
    /// Of deadlines that pass only those of operations that wait are seen.
    DeadlinesOfWaiters,
    /// A command is done again when its message comes again.
    DoCommandsAgain,
    /// A declined step counts as one that nobody started.
    DeclinedIsUnstarted,
    /// A new object doesn't take over its base's uses.
    ForgetInheritedUses,
    /// A word to start that is repeated gives no new time.
    GoAgainWithoutTime,
    /// Nobody is told that an operation failed.
    HideFailures,
    /// An object that is being destroyed can still be held.
    HoldWhatGoes,
    /// `abandon` is answered, and nothing else happens.
    IgnoreAbandons,
    /// A message id that is used again gets its answer whatever the body is.
    IgnoreBodies,
    /// `cancel` is answered, and nothing else happens.
    IgnoreCancels,
    /// Deadlines pass.
    IgnoreDeadlines,
    /// Queues of the broker take whatever comes.
    IgnoreDepths,
    /// `destroy` is answered, and nothing else happens.
    IgnoreDestroys,
    /// `retry` is answered, and nothing else happens.
    IgnoreRetries,
    /// Claims outlive their operation.
    KeepClaims,
    /// The packs of an operation that failed stay booked when they are gone.
    KeepFailedPacks,
    /// A command that is refused leaves an operation.
    KeepRefused,
    /// What was booked for an abandoned operation stays so, also when nothing of it is left.
    KeepRemains,
    /// Of those who wait, whoever should be the last is the first.
    LastComesFirst,
    /// A renewal is answered, and the lease ends when it would have ended without.
    LoseRenewals,
    /// Whatever fails, and however often: nobody is asked to look.
    NeverAttention,
    /// Messages of steps never expire.
    NeverExpire,
    /// Nobody is told that there is room.
    NeverWake,
    /// The clock finds nothing.
    NoClock,
    /// Nothing is tried twice.
    NoPatience,
    /// Nothing is ever swept.
    NoSweeps,
    /// Who is asked whether a commit took effect can't be given up.
    ProbeForEver,
    /// Whatever is asked of an operation, its state is wrong.
    RefuseRequests,
    /// A claim that somebody has is given to another one.
    RegrantClaims,
    /// What was granted is given back, whatever became of it meanwhile.
    ReleaseByCounter,
    /// What is to stop gets more time.
    RenewUnwanted,
    /// Workers aren't told to stop.
    StopWithoutWord,
    /// A sweep takes condemned packs before their grace is over.
    SweepAtOnce,
    /// A sweep takes what it finds, whoever is at work on it.
    SweepUnderWay,
    /// The engine acts before a lease is over.
    UndoBeforeLeaseEnd,
    /// A step that failed half-way isn't undone.
    UndoOnlyFinished,
}

#[cfg(feature = "simulation")]
thread_local! {
    static CURRENT: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// What runs on this thread has this fault from now on.
#[cfg(feature = "simulation")]
pub fn set(mutant: Option<Mutant>) {
    CURRENT.set(mutant);
}

/// Whether what runs on this thread has that fault.
#[cfg(feature = "simulation")]
pub(crate) fn is(mutant: Mutant) -> bool {
    CURRENT.get() == Some(mutant)
}

/// Nothing is mutated in production.
#[cfg(not(feature = "simulation"))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}
