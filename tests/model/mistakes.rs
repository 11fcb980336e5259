//! Wrong models. The tester is tested: with each of these, the comparison must find that store and model part.

/// What a model can be wrong about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// A stale etag matches like the current one.
    AnyEtagMatches,
    /// A document lives a millisecond longer.
    ExpiresLate,
    /// Retention keeps a version a millisecond longer.
    KeepsTooLong,
    /// Retention drops what a snapshot reads.
    ForgetsSnapshots,
    /// Retention drops what a cursor has yet to read.
    ForgetsCursors,
    /// The last write of a batch is lost.
    LosesTheEndOfABatch,
    /// A transaction commits though what it read has changed.
    ReadsAreNotValidated,
    /// A transaction commits though there is something new in a range that it read.
    PhantomsAreNotSeen,
    /// The feed passes over deletes.
    FeedForgetsDeletes,
    /// The feed tells the older versions of a document too.
    LatestTellsAll,
    /// A snapshot follows later writes.
    SnapshotsMove,
    /// A scan backwards goes forwards.
    ReverseIsIgnored,
    /// A crash loses the last commit.
    CrashLosesTheLast,
    /// An etag stays valid in the collection of the same name that is made after a drop.
    DropsNothing,
}

impl Mistake {
    pub(crate) const ALL: [Mistake; 14] = [
        Mistake::AnyEtagMatches,
        Mistake::ExpiresLate,
        Mistake::KeepsTooLong,
        Mistake::ForgetsSnapshots,
        Mistake::ForgetsCursors,
        Mistake::LosesTheEndOfABatch,
        Mistake::ReadsAreNotValidated,
        Mistake::PhantomsAreNotSeen,
        Mistake::FeedForgetsDeletes,
        Mistake::LatestTellsAll,
        Mistake::SnapshotsMove,
        Mistake::ReverseIsIgnored,
        Mistake::CrashLosesTheLast,
        Mistake::DropsNothing,
    ];
}
