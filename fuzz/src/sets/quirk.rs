// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ways to be wrong, for the tests that see whether each is noticed.

macro_rules! quirks {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One rule that a model breaks.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Quirk {
            $($(#[$doc])* $name,)*
        }

        impl Quirk {
            /// All of them.
            pub const ALL: [Quirk; [$(stringify!($name)),*].len()] = [$(Quirk::$name),*];
        }
    };
}

quirks! {
    /// Sets of different tables exclude each other.
    LocalSetsExcludeEachOther,
    /// A global set takes what a table's set holds.
    GlobalIgnoresLocal,
    /// A table's set takes what a global one holds.
    LocalIgnoresGlobal,
    /// A group counts on the first of its tables alone.
    GroupHoldsItsFirstTable,
    /// A global set takes what a table reserves.
    GlobalIgnoresTableReservations,
    /// `Space::reserve` is forgotten.
    SpaceReservationForgotten,
    /// `Table::reserve` is forgotten.
    TableReservationForgotten,
    /// What a set reserves of its range is handed out.
    SetReservationForgotten,
    /// The narrowest device does not count.
    WidthOfDevicesIgnored,
    /// A closed table's PASIDs still go to its groups.
    GroupOutlivesItsTable,
    /// The quota is one more than was said.
    QuotaOneMore,
    /// What is being freed costs no credit.
    FreeingCostsNothing,
    /// A set that is gone keeps its part of the capacity.
    CapacityLost,
    /// An attempt that fails raises no mark.
    HighWaterOfSuccesses,
    /// *next* and *preserve-narrow* start at the first.
    CursorForgotten,
    /// *preserve-narrow* knows no halves.
    HalvesForgotten,
    /// *spread* knows no CPU.
    CpuForgotten,
    /// A revocation is forgotten.
    RevocationForgotten,
    /// A free ends the allocation though others hold references.
    FreeAtOnce,
    /// Closing a set leaves its PASIDs live.
    CloseRevokesNothing,
    /// Closing a table leaves its sets open.
    TableCloseKeepsSets,
    /// A token is good for several sets.
    TokenTwice,
    /// Sets are told apart by nothing.
    WrongSetIgnored,
    /// An observer is not told of what an owner's drop revokes.
    RevocationUntold,
    /// A paused table takes attachments.
    PauseForgotten,
    /// What was reserved before a pause is committed after it.
    ResumeHeals,
    /// An attachment ends with faults in flight.
    FaultsUncounted,
    /// An attachment holds no reference.
    AttachmentHoldsNothing,
    /// *not attached* is *not found*.
    NotAttachedIsNotFound,
    /// What a group has revoked is *not attached* on its tables.
    GroupStateUnknown,
    /// A revoked PASID's faults are answered as before.
    FaultsOutliveRevocation,
    /// A narrow device joins though PASIDs beyond its width are attached.
    JoinIgnoresAttachments,
    /// The word of an attachment stays what it was.
    WordSticks,
    /// Everything has memory.
    MemoryEverywhere,
    /// What should wait for a flush is free at once (M7).
    ReuseAtOnce,
    /// What waits is free as soon as a flush has begun (M7).
    FreeWhenBegun,
    /// What waits costs no credit (M8).
    WaitingCostsNothing,
    /// A pinned PASID's end costs no credit (M8).
    KeptCostsNothing,
    /// What waits is exhausted, and not awaited.
    AwaitingIsExhausted,
    /// Every flush takes what waits anywhere.
    FlushTakesAll,
    /// A PASID belongs to each flush that begins while it waits.
    FlushesShare,
    /// A dropped ticket gives its PASIDs back.
    DroppedTicketCompletes,
    /// A flush whose invalidation failed gives its PASIDs back.
    FailedFlushCompletes,
    /// One table's failure keeps the whole batch.
    FailureOfOneIsOfAll,
    /// A batch is said to have been attached everywhere.
    RangesOnAll,
    /// What was attached in an earlier life is invalidated again.
    RangesOnOfEarlierLives,
    /// Where an attachment was backed out nothing is invalidated.
    BackedOutIsNotInvalidated,
    /// An allocation runs no flush.
    FlusherForgotten,
    /// A pin keeps nothing.
    PinForgotten,
    /// An observer is told of the end of what is pinned.
    ReclaimedDespitePin,
    /// A PASID has several pins.
    PinnedTwice,
    /// What was pinned needs no flush when the pin goes.
    UnpinnedNeedsNoFlush,
    /// A flush takes what is pinned.
    FlushTakesPinned,
    /// A set is gone while its PASIDs wait.
    GoneWhileWaiting,
}
