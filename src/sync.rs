// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one door to atomics: `core`'s, or `loom`'s under `--cfg loom`.
//!
//! Everything that differs between the shipped code and the modelled code is
//! in this file:
//!
//! * [`order_store_before_load`], because loom treats sequentially consistent
//!   accesses as acquire and release;
//! * [`Mutation`], the steps that a canary leaves out to show that a model can
//!   fail. Outside loom [`planted`] is a constant `false` and the compiler
//!   removes the branch;
//! * [`Event`], counters of lost races under `--cfg pasid_events`, by which the
//!   stress test knows that it really met them.

#[cfg(not(loom))]
pub(crate) use core::cell::UnsafeCell;
#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::cell::UnsafeCell;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
/// One for each thread of a model.
#[cfg(all(loom, feature = "epoch"))]
pub(crate) use loom::thread_local as model_thread_local;

#[cfg(not(target_has_atomic = "64"))]
compile_error!("pasid keeps a PASID's whole state in one 64-bit atomic word; this target has none");

/// A `const fn` outside loom, whose atomics cannot be built in constants.
macro_rules! const_unless_loom {
    ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => {
        #[cfg(not(loom))] $(#[$meta])* $vis const fn $($rest)*
        #[cfg(loom)] $(#[$meta])* $vis fn $($rest)*
    };
}
pub(crate) use const_unless_loom;

/// Orders an earlier sequentially consistent read-modify-write before a later
/// sequentially consistent load: the store-load pair of the full marks.
///
/// In the shipped code this is nothing. Both sides of the pair are `SeqCst`
/// read-modify-writes followed by `SeqCst` loads, and the single total order of
/// `SeqCst` operations says that at least one side sees the other. loom gives
/// `SeqCst` accesses only acquire and release, so the models of the marks need
/// the fence that the language does not. The other models run without it: a
/// fence synchronises all who pass one, and would hide a missing release.
#[inline(always)]
pub(crate) fn order_store_before_load() {
    #[cfg(loom)]
    if planting::total_order() && !planted(Mutation::MarkWithoutOrder) {
        // SeqCst: stands for the total order described above.
        fence(Ordering::SeqCst);
    }
}

/// A sequentially consistent fence: what came before it in this thread comes before
/// every such fence or operation that follows it in the total order.
///
/// For one side of a store-load pair whose loads are not sequentially consistent. Under
/// loom it is there in the models that have the total order, and missing in the others,
/// for the reason that [`order_store_before_load`] gives.
#[inline(always)]
pub(crate) fn fence_totally() {
    // SeqCst: argued for by the caller, who names the pair.
    #[cfg(not(loom))]
    fence(Ordering::SeqCst);
    #[cfg(loom)]
    order_store_before_load();
}

/// Lets others run for a moment, for a control call that has `looked` so often whether it
/// may go on. No data call does.
pub(crate) fn let_others_run(looked: u32) {
    // So often before the operating system is asked to run somebody else.
    #[cfg(all(feature = "std", not(loom)))]
    if looked > 128 {
        std::thread::yield_now();
    }
    #[cfg(loom)]
    loom::thread::yield_now();
    let _ = looked;
    core::hint::spin_loop();
}

/// A step or an ordering that a canary leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(loom),
    allow(dead_code, reason = "named by the code, planted by models alone")
)]
pub enum Mutation {
    /// A bit is looked at in one step and taken in another.
    TakeInTwoSteps,
    /// A bit is taken without acquire and release.
    TakeRelaxed,
    /// The allocation bit is given back without release.
    GiveBackRelaxed,
    /// The scan for exhaustion is believed after one round.
    ScanOnce,
    /// Scans of the bits do not acquire.
    ScanRelaxed,
    /// Two scans are compared without their versions.
    ScanForgetsVersions,
    /// Two scans are compared without the leaves that were missing.
    ScanForgetsMissing,
    /// A bit that is not set is seen without acquire by who lists allocations.
    ListRelaxed,
    /// An answer is remembered before the scan that decides.
    RememberAtOnce,
    /// An answer that is forgotten is not counted.
    ForgetUncounted,
    /// The store-load pair of the full marks is left unordered.
    MarkWithoutOrder,
    /// A full mark is set without looking again.
    MarkLooksOnce,
    /// A node's mark is looked at only by who saw all of its leaves marked.
    UnmarkStopsEarly,
    /// A node is published over one that another thread has published.
    PublishBlindly,
    /// The space's identity is written over one that another thread gave it.
    IdentifyBlindly,
    /// A state is read in one step and the next is written in another.
    AdvanceInTwoSteps,
    /// An allocation goes live without release.
    GoLiveRelaxed,
    /// An allocation is ended without release by the last of its holders.
    EndRelaxed,
    /// An allocation is revoked without release.
    RevokeRelaxed,
    /// `free` looks at the own-reference bit before its exchange, not in it.
    FreeJudgesEarly,
    /// `get` does not look at the reference count.
    GetFromNothing,
    /// `get` does not release.
    GetWithoutRelease,
    /// `get` adds first and repairs afterwards.
    GetByAddition,
    /// A reference is dropped without release.
    PutRelaxed,
    /// The owner's word is stored and loaded relaxed.
    WordRelaxed,
    /// `find` looks at the state again without acquire.
    FindRelaxed,
    /// The owner's word is read in one step and replaced in another.
    ReplaceInTwoSteps,
    /// A payload is dropped without regard to who may see it.
    PayloadDroppedAtOnce,
    /// A payload is retired before look-ups find it no longer.
    PayloadRetiredEarly,
    /// Who allocates is refused after the payload was published, and drops it too.
    PayloadRefusedLate,
    /// Whoever ends an allocation that is pinned retires its payload, and so does whoever
    /// takes the pin away.
    PayloadRetiredPinned,
    /// The word of an ended allocation is read after its bit was given back.
    PayloadReadLate,
    /// A counted reference is given back without release.
    CountedRelaxed,
    /// The lock of the control calls is given back without release.
    UnlockRelaxed,
    /// A credit is looked for in one step and taken in another.
    QuotaInTwoSteps,
    /// Credits are taken and given back without acquire and release.
    QuotaRelaxed,
    /// A quota's use is looked at in one step and its limit is written in another.
    AdjustForgetsUse,
    /// A round of the count of allocations is made before the last one is counted.
    RoundUnsettled,
    /// An attachment goes live without release.
    CommitRelaxed,
    /// An entry is found dead in one step and reserved in another.
    ReserveInTwoSteps,
    /// A fault looks an attachment up without counting itself.
    FaultGetWithoutCount,
    /// A group is entered in a table's list without release.
    GroupListedRelaxed,
    /// A fault comes to a table's list of groups without acquire.
    GroupsReadRelaxed,
    /// A fault leaves a table's list of groups without release.
    GroupsLeftRelaxed,
    /// What is left of a group is freed while faults may look at it.
    GroupFreedWhileRead,
    /// A set is laid aside without release.
    BuryRelaxed,
    /// The list of sets laid aside is read in one step and written in another.
    BuryInTwoSteps,
    /// Who reserves an entry, or commits it, does not look at the table's status again.
    StatusNotLookedAtAgain,
    /// A table gets as narrow as a joining device before its attachments are looked at.
    JoinNarrowsAtOnce,
    /// Who allocates does not look again whether the set is closing.
    ClosingNotLookedAtAgain,
    /// Who takes a reference, or asks a group about a PASID, goes by the phase alone, not by
    /// whether the set is closing.
    GetForgetsClosing,
    /// A closed set is forgotten while somebody has a handle or a PASID of it.
    ForgottenWhileHeld,
    /// Who counts PASIDs leaves out one whose last reference is just going.
    EndingNotCounted,
    /// An observer is told of a reclaimed PASID after its bit was given back.
    ReclaimedToldLate,
    /// An observer is told of a reclaimed PASID by whoever gives back the last reference,
    /// also where a pin keeps it.
    ReclaimedToldPinned,
    /// A revocation is told without a reference on what was revoked.
    RevokedToldLate,
    /// A claim is looked at in one step and entered in another.
    ClaimInTwoSteps,
    /// A claim is entered without acquire and release.
    ClaimRelaxed,
    /// A claim is given back without release.
    ClaimReleaseRelaxed,
    /// A claim is given back without advancing its version.
    ClaimReleaseUncounted,
    /// A local claim that is refused is not heeded: the bit is kept all the same.
    LocalClaimsFirstNotChecked,
    /// A global release gives back the claim first, and then the bit.
    GlobalClaimGivenBackFirst,
    /// A group that backs out forgets the bit of its first member.
    GroupKeepsBits,
    /// A group gives back the bit of its own tree after those of its members.
    GroupOwnBitLast,
    /// Two scans are compared without the versions of the claims.
    ScanForgetsClaims,
    /// A claim is hinted at without looking again.
    HideLooksOnce,
    /// The marks over a hint are looked at only by who saw its whole word set.
    UnhideStopsEarly,
    /// A pinned allocation is ended by a store, over whatever becomes of the pin.
    PinnedEndBlindly,
    /// A PASID is said to await a flush without release, and taken for one without acquire.
    WaitRelaxed,
    /// A leaf is marked to have something that waits before that is said to wait.
    LeafMarkedBeforeWaiting,
    /// PASIDs are said to wait by a load and a store.
    WaitInTwoSteps,
    /// What waits is taken by a load and an exchange.
    BatchTakenInTwoSteps,
    /// A flush in flight is counted after its batch is taken.
    FlushCountedLate,
    /// A completed flush is not counted.
    CompletionUncounted,
    /// A flush is not counted while it is being completed.
    CompletingUncounted,
    /// A flush that was put back is not counted.
    PutBackUncounted,
    /// Who found nothing beside a flush that is over meanwhile does not try again.
    NotTriedAgain,
    /// A flush gives back what waits when it completes beside what it took.
    FlushTakesLate,
    /// A flush gives back the credits before the PASIDs.
    CreditsGivenBackFirst,
    /// A closed set is forgotten while a flush is in flight that had PASIDs of it.
    ForgottenWhileFlushed,
    /// Who forgets sets looks for a flush in flight before the PASIDs.
    FlushLookedForFirst,
    /// A pin is taken away without acquire and release.
    UnpinRelaxed,
    /// What an address space is bound to is looked at in one step and written in another.
    BindInTwoSteps,
    /// What an address space is bound to is written without release and seen without acquire.
    BindRelaxed,
    /// Who binds and is refused does not look whether somebody has bound meanwhile.
    BindLooksOnce,
    /// Who binds to the PASID of another keeps the one that it has allocated too.
    BindLoserKeeps,
    /// What a cell has is looked at in one step, and the cell is retired in another.
    RetireInTwoSteps,
    /// An alias is entered without release.
    AliasEnteredRelaxed,
    /// An alias is entered before its reference is taken.
    AliasEnteredUncounted,
    /// No alias is found in one step and one is entered in another.
    AliasEnteredInTwoSteps,
    /// An alias is found in one step and ended in another.
    AliasLeftInTwoSteps,
    /// An alias gives its reference back before it ends.
    AliasPutFirst,
    /// Who was refused what an alias names does not look whether it still names it.
    AliasAskedOnce,
    /// A nested alias is read without a second look at its version.
    AliasReadOnce,
    /// A nested alias is believed without the one below.
    AliasBelowNotAsked,
    /// A nested alias is not looked at again after the one below.
    AliasNotLookedAtAgain,
}

/// Whether the running model has planted `mutation`. Always `false` outside loom.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) const fn planted(_mutation: Mutation) -> bool {
    false
}

/// Whether the running model has planted any mutation. The code's own checks of
/// its invariants are silent then: it is the model that must notice.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) const fn mutated() -> bool {
    false
}

#[cfg(loom)]
pub(crate) use planting::{mutated, planted};

/// `ordering`, or `Relaxed` where the running model has planted `mutation`.
#[inline(always)]
pub(crate) fn unless(mutation: Mutation, ordering: Ordering) -> Ordering {
    // Relaxed: only under loom and only in a canary, to see the model fail.
    if planted(mutation) {
        Ordering::Relaxed
    } else {
        ordering
    }
}

/// Planting of mutations by the models. loom runs all threads of a model as
/// coroutines of one system thread, so a thread-local reaches them all and
/// models that run side by side do not meet.
#[cfg(loom)]
pub mod planting {
    use super::Mutation;
    use core::cell::Cell;

    std::thread_local! {
        static PLANTED: Cell<Option<Mutation>> = const { Cell::new(None) };
        static TOTAL_ORDER: Cell<bool> = const { Cell::new(false) };
    }

    /// Plants `mutation` (or none) for the models that this thread runs next.
    pub fn plant(mutation: Option<Mutation>) {
        PLANTED.with(|planted| planted.set(mutation));
    }

    /// Whether the models that this thread runs next get fences in the place of
    /// the total order of sequentially consistent operations.
    pub fn order_totally(yes: bool) {
        TOTAL_ORDER.with(|order| order.set(yes));
    }

    pub(crate) fn total_order() -> bool {
        TOTAL_ORDER.with(Cell::get)
    }

    pub(crate) fn mutated() -> bool {
        PLANTED.with(Cell::get).is_some()
    }

    pub(crate) fn planted(mutation: Mutation) -> bool {
        PLANTED.with(Cell::get) == Some(mutation)
    }
}

/// A race that was met and lost, or a search that took its slow way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(pasid_events),
    allow(dead_code, reason = "read by the stress test alone")
)]
pub enum Event {
    /// Another thread took the chosen bit first.
    BitLost,
    /// Another thread published the missing node first.
    GrowthLost,
    /// A scan for exhaustion was not confirmed by the next.
    ScanRepeated,
    /// A local or group attempt has taken a bit, and not yet all that it needs. Where
    /// events are counted, others are let run here now and then, so that they come in
    /// between also on one CPU.
    HalfTaken,
    /// A local or group attempt had taken bits, and gave them back because the claim or
    /// another bit was somebody else's.
    BackedOut,
}

/// Counts `event`, where that is compiled in.
#[inline(always)]
pub(crate) fn met(event: Event) {
    #[cfg(pasid_events)]
    events::add(event);
    #[cfg(not(pasid_events))]
    let _ = event;
}

/// Counters of met events, for the stress test.
#[cfg(pasid_events)]
pub mod events {
    use super::Event;
    use core::sync::atomic::{AtomicU64, Ordering};

    static MET: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];

    /// So many attempts go on before one lets others run.
    #[cfg(feature = "std")]
    const HALF_TAKEN_TOGETHER: u64 = 32;

    pub(super) fn add(event: Event) {
        // Relaxed: a statistic, which publishes nothing.
        let before = MET[event as usize].fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "std")]
        if event == Event::HalfTaken && before % HALF_TAKEN_TOGETHER == 0 {
            std::thread::yield_now();
        }
        let _ = before;
    }

    /// How often `event` was met in this process.
    pub fn count(event: Event) -> u64 {
        // Relaxed: as above; the reader has joined the threads it asks about.
        MET[event as usize].load(Ordering::Relaxed)
    }
}

/// What a space's handles know it by: a tag, and where its generations begin.
///
/// ```text
///  31             12 11           0
/// +-----------------+--------------+
/// |      round      |     tag      |
/// +-----------------+--------------+
/// ```
///
/// Tags go from 1 to 4095 and come again in the next round, with generations that begin
/// elsewhere. So a handle of another space is refused for certain where fewer than 4094
/// spaces came into use in between, and otherwise unless the generations happen to meet.
///
/// The count is process-wide and not part of any modelled protocol, so it is `core`'s
/// atomic also under loom.
pub(crate) mod identity {
    use core::sync::atomic::{AtomicU32, Ordering};

    const TAG_BITS: u32 = 12;
    const TAGS: u32 = (1 << TAG_BITS) - 1;
    /// Generations begin in the first sixteenth, so that enough are left.
    const FIRST_GENERATION_BITS: u32 = 28;

    /// The identity of a new space. Never 0.
    pub(crate) fn next() -> u32 {
        static MADE: AtomicU32 = AtomicU32::new(0);
        // Relaxed: only the atomicity of the count matters; nothing is published by it.
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        ((made / TAGS) << TAG_BITS) | (made % TAGS + 1)
    }

    pub(crate) const fn tag(identity: u32) -> u16 {
        (identity & TAGS) as u16
    }

    /// Spread by a multiplication, 0 in the first round.
    pub(crate) const fn first_generation(identity: u32) -> u32 {
        (identity >> TAG_BITS).wrapping_mul(0x9E37_79B9) >> (32 - FIRST_GENERATION_BITS)
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn tags_are_never_0_and_rounds_begin_apart() {
            let identities: std::vec::Vec<u32> = (0..3 * 4095).map(|_| super::next()).collect();
            assert!(identities.iter().all(|&identity| super::tag(identity) != 0));
            for pair in identities.windows(4096) {
                assert_eq!(super::tag(pair[0]), super::tag(pair[4095]));
                let [one, other] = [pair[0], pair[4095]].map(super::first_generation);
                assert!(one.abs_diff(other) > 1 << 24);
            }
        }
    }
}
