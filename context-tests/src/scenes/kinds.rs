// SPDX-License-Identifier: MIT OR Apache-2.0
//! What PASIDs are allocated from, in all its kinds: an id space, a set, and sets whose
//! payloads are not words.

use crate::calls::Call;
use crate::hand::Hand;
use crate::shadow::{FLIP, Id, Scope, Shadow};
use crate::world::{Lent, REQUEST, STATICS, SetCell, Turns};
use pasid::{
    Found, Handle, IdSpace, IoasidSet, Iter, Owned, Pasid, Pinned, Plain, Pool, Ref, Result,
};

/// The calls that they all have.
pub struct PoolCalls {
    pub alloc_in_place: Call,
    pub alloc_at: Call,
    pub get: Call,
    pub get_at: Call,
    pub put: Call,
    pub free: Call,
    pub revoke: Call,
    pub drop_owned: Call,
    pub drop_ref: Call,
    pub find: Call,
    pub iterate: Call,
}

const IDS: PoolCalls = PoolCalls {
    alloc_in_place: Call::AllocInPlace,
    alloc_at: Call::AllocAt,
    get: Call::Get,
    get_at: Call::GetAt,
    put: Call::Put,
    free: Call::Free,
    revoke: Call::Revoke,
    drop_owned: Call::DropOwned,
    drop_ref: Call::DropRef,
    find: Call::Find,
    iterate: Call::Iterate,
};

const SETS: PoolCalls = PoolCalls {
    alloc_in_place: Call::SetAllocInPlace,
    alloc_at: Call::SetAllocAt,
    get: Call::SetGet,
    get_at: Call::SetGetAt,
    put: Call::SetPut,
    free: Call::SetFree,
    revoke: Call::SetRevoke,
    drop_owned: Call::SetDropOwned,
    drop_ref: Call::SetDropRef,
    find: Call::SetFind,
    iterate: Call::SetIterate,
};

/// What PASIDs are allocated from: the id space of a hand's place, or a set there.
pub trait Kind: 'static {
    type Payload: Plain + PartialEq + std::fmt::Debug;
    type Pool: Pool<Payload = Self::Payload> + Copy + 'static;
    const CALLS: PoolCalls;
    /// Whether there is a call that is told a CPU.
    const HAS_CPU: bool;

    fn pool(hand: &Hand) -> Self::Pool;
    fn scope(hand: &Hand) -> &Scope;
    fn shadow(hand: &Hand) -> &Shadow;
    /// What each hand has lent.
    fn lent(hand: &Hand) -> &[Turns<Option<Lent>>; 2];
    /// Whether it is being closed, which explains much.
    fn is_closing(hand: &Hand) -> bool;
    /// Names a new allocation.
    fn new_id(hand: &Hand) -> Id {
        Self::scope(hand).id(hand.place.number())
    }
    /// The payload of that allocation.
    fn payload(word: u64) -> Self::Payload;
    /// Whose payload that is.
    fn id_of(hand: &Hand, pasid: Pasid, payload: Self::Payload) -> Id;

    fn alloc_in_place(pool: Self::Pool, word: u64) -> Result<Owned<Self::Pool>>;
    fn alloc_at(pool: Self::Pool, pasid: Pasid, word: u64) -> Result<Owned<Self::Pool>>;
    fn get(pool: Self::Pool, handle: Handle) -> Result<Ref<Self::Pool>>;
    fn get_at(pool: Self::Pool, pasid: Pasid) -> Result<Ref<Self::Pool>>;
    fn try_clone(reference: &Ref<Self::Pool>) -> Result<Ref<Self::Pool>>;
    fn pin(owned: &Owned<Self::Pool>) -> Result<Pinned<Self::Pool>>;
    fn find(pool: Self::Pool, pasid: Pasid) -> Result<Found<Self::Payload>>;
    fn revoke(pool: Self::Pool, handle: Handle) -> Result<()>;
    fn first_live(pool: Self::Pool) -> Option<Found<Self::Payload>>;
    /// # Safety
    /// As that of the call.
    unsafe fn put(pool: Self::Pool, handle: Handle) -> Result<()>;
    /// # Safety
    /// As that of the call.
    unsafe fn free(pool: Self::Pool, handle: Handle) -> Result<()>;
}

/// The calls themselves. None is inlined: where one begins and ends is plain then, and the
/// answer is written where it is needed.
macro_rules! of_pool {
    ($pool:ty, $payload:ty, $iter:ty) => {
        type Payload = $payload;
        type Pool = &'static $pool;

        #[inline(never)]
        fn alloc_in_place(pool: Self::Pool, word: u64) -> Result<Owned<Self::Pool>> {
            pool.alloc_in_place(REQUEST, Self::payload(word))
        }

        #[inline(never)]
        fn alloc_at(pool: Self::Pool, pasid: Pasid, word: u64) -> Result<Owned<Self::Pool>> {
            pool.alloc_at(pasid, Self::payload(word))
        }

        #[inline(never)]
        fn get(pool: Self::Pool, handle: Handle) -> Result<Ref<Self::Pool>> {
            pool.get(handle)
        }

        #[inline(never)]
        fn get_at(pool: Self::Pool, pasid: Pasid) -> Result<Ref<Self::Pool>> {
            pool.get_at(pasid)
        }

        #[inline(never)]
        fn try_clone(reference: &Ref<Self::Pool>) -> Result<Ref<Self::Pool>> {
            reference.try_clone()
        }

        #[inline(never)]
        fn pin(owned: &Owned<Self::Pool>) -> Result<Pinned<Self::Pool>> {
            owned.pin()
        }

        #[inline(never)]
        fn find(pool: Self::Pool, pasid: Pasid) -> Result<Found<Self::Payload>> {
            pool.find(pasid)
        }

        #[inline(never)]
        fn revoke(pool: Self::Pool, handle: Handle) -> Result<()> {
            pool.revoke(handle)
        }

        #[inline(never)]
        fn first_live(pool: Self::Pool) -> Option<Found<Self::Payload>> {
            let mut live: $iter = pool.iter(REQUEST);
            live.next()
        }

        #[inline(never)]
        unsafe fn put(pool: Self::Pool, handle: Handle) -> Result<()> {
            // SAFETY: the caller's promise, word for word.
            unsafe { pool.put(handle) }
        }

        #[inline(never)]
        unsafe fn free(pool: Self::Pool, handle: Handle) -> Result<()> {
            // SAFETY: the caller's promise, word for word.
            unsafe { pool.free(handle) }
        }
    };
}

/// The id space of a hand's place.
pub struct Ids;

impl Kind for Ids {
    of_pool!(IdSpace, u64, Iter<'_>);

    const CALLS: PoolCalls = IDS;
    const HAS_CPU: bool = false;

    fn pool(hand: &Hand) -> &'static IdSpace {
        hand.place.ids.ids
    }

    fn scope(hand: &Hand) -> &Scope {
        &hand.place.ids.scope
    }

    fn shadow(hand: &Hand) -> &Shadow {
        &hand.place.ids.shadow
    }

    fn lent(hand: &Hand) -> &[Turns<Option<Lent>>; 2] {
        &hand.place.ids.lent
    }

    fn is_closing(_: &Hand) -> bool {
        false
    }

    #[inline(always)]
    fn payload(word: u64) -> u64 {
        word
    }

    #[inline(always)]
    fn id_of(_: &Hand, _: Pasid, payload: u64) -> Id {
        Id::of(payload)
    }
}

/// What the sets of one payload have in common: where a hand finds its one.
macro_rules! of_set {
    ($payload:ty, $cell:expr) => {
        of_pool!(IoasidSet<$payload>, $payload, Iter<'_, $payload>);

        const CALLS: PoolCalls = SETS;

        fn pool(hand: &Hand) -> &'static IoasidSet<$payload> {
            let cell: fn(&Hand) -> &'static SetCell<$payload> = $cell;
            cell(hand).set()
        }

        fn scope(hand: &Hand) -> &Scope {
            let cell: fn(&Hand) -> &'static SetCell<$payload> = $cell;
            &cell(hand).scope
        }

        fn shadow(hand: &Hand) -> &Shadow {
            &hand.place.space.shadow
        }

        fn lent(hand: &Hand) -> &[Turns<Option<Lent>>; 2] {
            let cell: fn(&Hand) -> &'static SetCell<$payload> = $cell;
            &cell(hand).lent
        }

        fn is_closing(hand: &Hand) -> bool {
            Self::pool(hand).is_closing()
        }
    };
}

/// The set of a hand.
pub struct Sets;

impl Kind for Sets {
    of_set!(u64, |hand| hand.set);

    const HAS_CPU: bool = true;

    #[inline(always)]
    fn payload(word: u64) -> u64 {
        word
    }

    #[inline(always)]
    fn id_of(_: &Hand, _: Pasid, payload: u64) -> Id {
        Id::of(payload)
    }
}

/// The set of the space whose payloads are references.
pub struct Statics;

/// So many words there are to refer to.
const WORDS: u64 = 1 << 12;

/// They: each with what it is when it is flipped.
static REFERRED: [[u64; 2]; WORDS as usize] = {
    let mut words = [[0; 2]; WORDS as usize];
    let mut number = 0;
    while number < WORDS {
        let word = Id::new(STATICS, number).word();
        words[number as usize] = [word, word | FLIP];
        number += 1;
    }
    words
};

impl Kind for Statics {
    of_set!(&'static u64, |hand| &hand.place.space.statics);

    const HAS_CPU: bool = false;

    fn new_id(hand: &Hand) -> Id {
        Id::new(STATICS, hand.place.number() % WORDS)
    }

    #[inline(always)]
    fn payload(word: u64) -> &'static u64 {
        let number = Id::of(word).number();
        &REFERRED[(number % WORDS) as usize][(word & FLIP) as usize]
    }

    #[inline(always)]
    fn id_of(_: &Hand, _: Pasid, payload: &'static u64) -> Id {
        Id::of(*payload)
    }
}

/// The set of the space whose payloads are nothing.
pub struct Nothings;

impl Kind for Nothings {
    of_set!((), |hand| &hand.place.space.nothings);

    const HAS_CPU: bool = false;

    #[inline(always)]
    fn payload(_: u64) {}

    /// The newest that is known of.
    fn id_of(hand: &Hand, pasid: Pasid, (): ()) -> Id {
        let (scope, shadow) = (Self::scope(hand), Self::shadow(hand));
        let newest = shadow.newest(scope.side, pasid.get());
        if newest.set() == scope.key() {
            newest
        } else {
            scope.id(0)
        }
    }
}
