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
    /// A revoked PASID's faults are answered as before.
    FaultsOutliveRevocation,
    /// A narrow device joins though PASIDs beyond its width are attached.
    JoinIgnoresAttachments,
    /// The word of an attachment stays what it was.
    WordSticks,
    /// Everything has memory.
    MemoryEverywhere,
}
