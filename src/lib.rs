// SPDX-License-Identifier: MIT OR Apache-2.0
//! A lock-free, exact allocator for PASIDs (Process Address Space IDs), the
//! numbers of at most 20 bits that name an address space in front of an IOMMU.
//!
//! A [`Space`] has the PASID [tables](Table) of one machine. PASIDs are allocated from
//! [sets](IoasidSet): of one table, of a few, or of all, also of those added later. Sets
//! of different tables may hand out the same number, and what a global set hands out is
//! live nowhere else: the allocator sees to it at every instant, without a lock. What it
//! hands out is an [`Owned`], which frees on drop; whoever else needs the PASID to stay
//! takes a [`Ref`]. A freed PASID gets no new reference and no new owner until the last
//! reference is gone. A PASID that is written into a table's hardware is
//! [attached](Attach), and a page fault finds what is attached, and keeps it. Where hardware
//! may remember a number longer than its last reference, freed PASIDs wait for a
//! [flush](Flush). A [cell](PasidCell) in the object of an address space gives all devices that
//! are bound to it one PASID.
//!
//! ```
//! use pasid::limits::PasidCapability;
//! use pasid::{Attach, Error, Pool, Scope, SetConfig, Space, SpaceKind, TableConfig};
//!
//! // A space can be a `static`, and owns no memory until used. PASID 0 is reserved.
//! static SPACE: Space = Space::new(SpaceKind::Both);
//!
//! // What the device says: its PASID capability register, 20 bits, privileged mode.
//! let capability = PasidCapability::from_register(0x1404)?;
//! let table = SPACE.add_table(TableConfig::new(capability.width))?;
//!
//! // The driver's own PASIDs, and those of user processes on every device.
//! let driver = SPACE.add_set(SetConfig::new(Scope::Local(&table)))?;
//! let users = SPACE.add_set(SetConfig::new(Scope::Global))?;
//! let queue = driver.alloc(driver.range(), 0)?;
//! let process = users.alloc(users.range(), 0xFEED)?;
//! assert_ne!(queue.pasid(), process.pasid());
//!
//! // The process is bound to the device.
//! table.preload(process.pasid().into())?;
//! let attaching = table.attach(&process, 0xD0)?;
//! // ... the driver writes the hardware's entry ...
//! let attachment = attaching.commit()?;
//!
//! // A page fault brings the number alone. The reference keeps the PASID until the
//! // response is sent.
//! let fault = table.fault_get(process.pasid())?;
//! assert_eq!(fault.word(), 0xD0);
//!
//! // The process exits meanwhile: no new reference, and no new owner yet.
//! let number = process.pasid();
//! drop(process);
//! attachment.detach();
//! assert_eq!(table.fault_get(number).err(), Some(Error::BeingFreed(number)));
//! assert_ne!(users.alloc(users.range(), 0)?.pasid(), number);
//!
//! // The response is sent, the last reference goes, and the number is free again.
//! drop(fault);
//! assert_eq!(users.alloc(users.range(), 0)?.pasid(), number);
//! # Ok::<(), Error>(())
//! ```
//!
//! A guest numbers as it likes: an [`AliasMap`] says which host PASID stands behind each of
//! its numbers, and keeps it.
//!
//! An [`IdSpace`] is the same for the numbers of one table alone, without tables, sets
//! and attachments.
//!
//! # Which call in which context
//!
//! | calls | progress | memory | context |
//! | --- | --- | --- | --- |
//! | [`find`](IoasidSet::find), [`iter`](IoasidSet::iter), [`Ref::try_clone`], dropping a [`Ref`], `word`, [`Owned::replace`], [`Attachment::replace`] | wait-free | none | any |
//! | [`alloc_in_place`](Pool::alloc_in_place), [`alloc_at`](Pool::alloc_at), [`get`](Pool::get), [`get_at`](Pool::get_at), dropping an [`Owned`], [`revoke`](IoasidSet::revoke), [`put`](IoasidSet::put), [`free`](IoasidSet::free), [`attach`](Attach::attach), [`commit`](Attaching::commit), [`detach`](Attachment::detach), [`fault_get`](Attach::fault_get), dropping a [`Fault`] | lock-free | none | any |
//! | [`attach`](VirtualTable::attach), [`attach_below`](VirtualTable::attach_below), [`detach`](VirtualTable::detach), [`detach_all`](VirtualTable::detach_all), [`find`](VirtualTable::find), [`find_and_get`](VirtualTable::find_and_get) and [`aliases`](VirtualTable::aliases) of a guest's table | lock-free | none | any |
//! | [`begin_flush`](Flush::begin_flush), [`complete`](Ticket::complete), dropping a [`Ticket`] | wait-free | none | any |
//! | [`pin`](Owned::pin), dropping a [`Pinned`] | lock-free | none | any |
//! | [`bind_in_place`](PasidCell::bind_in_place), [`retire`](PasidCell::retire), dropping a [`PasidCell`] | lock-free | none | any |
//! | [`flush`](Flush::flush), and [`alloc`](Pool::alloc) and [`bind`](PasidCell::bind) where a [`Flusher`] is installed | that of the invalidation | | that of the invalidation |
//! | [`free_all`](IoasidSet::free_all), [`close`](IoasidSet::close) of a set, [`pause`](Table::pause), [`resume`](Table::resume) | lock-free | none | any |
//! | [`alloc`](Pool::alloc), [`bind`](PasidCell::bind), [`preload`](IoasidSet::preload) | lock-free | may grow | where memory may be allocated |
//! | [`Table::attachments`], [`width`](Table::width), `is_closing`, [`count_live`](IoasidSet::count_live), [`statistics`](IoasidSet::statistics), [`PasidCell::find`] | wait-free | none | any |
//! | [`Table::preload`], [`VirtualTable::preload`] | lock-free | may grow | where memory may be allocated |
//! | all of [`Space`] and of [`AliasMap`]; [`Restore::into_space`](snapshot::Restore::into_space); [`join`](Table::join), [`leave`](Table::leave), [`reserve`](Table::reserve), [`unreserve`](Table::unreserve) and [`close`](Table::close) of a table; [`set_quota`](IoasidSet::set_quota) | wait for each other | may grow, and give back | where these may wait and memory may be allocated and freed |
//! | [`snapshot`](IoasidSet::snapshot) of a set, [`Restored::alias_maps`](snapshot::Restored::alias_maps) | that of what they look at or build | may grow | where memory may be allocated |
//! | the claims of [`Restored`](snapshot::Restored) | lock-free | none | any |
//! | [`IdSpace::shrink`], dropping the last handle of anything | exclusive; the last handle of a group waits for control calls | gives back | where memory may be freed, and control calls made |
//!
//! What is in no line copies a value or a field: wait-free, without memory, in any context.
//!
//! The lines are for [plain](Plain) payloads. Where they are [dropped](Guarded):
//!
//! | calls | progress | memory | context |
//! | --- | --- | --- | --- |
//! | [`find_guarded`](IoasidSet::find_guarded), [`iter_guarded`](IoasidSet::iter_guarded), [`payload`](Owned::payload) | wait-free | none | any, for who has a [`Guard`] |
//! | those that may give back a reference or a pin: dropping an [`Owned`], a [`Ref`], a [`Pinned`], an [`Attaching`], an [`Attachment`] or a [`Fault`], [`put`](IoasidSet::put), [`free`](IoasidSet::free), and what gives one back when it is refused or others may be doing so: [`get`](Pool::get), [`get_at`](Pool::get_at), [`revoke`](IoasidSet::revoke), [`free_all`](IoasidSet::free_all), [`close`](IoasidSet::close), [`attach`](Attach::attach), [`commit`](Attaching::commit), [`fault_get`](Attach::fault_get), [`close`](Table::close) of a table, [`attach`](VirtualTable::attach), [`detach`](VirtualTable::detach) and [`find_and_get`](VirtualTable::find_and_get) of a guest's table, and what calls them; [`retire`](PasidCell::retire), dropping a [`PasidCell`]; [`replace_guarded`](Owned::replace_guarded), [`Guard::new`] | lock-free, but for the drops | may grow, and give back | where memory may be allocated and freed, and payloads dropped |
//! | those that allocate or bind | as above | as above | as above, and where a payload may be dropped that is refused or not needed |
//!
//! "Any" includes an interrupt or signal handler that interrupted the same call.
//! None of the calls of the lines "any" locks, waits for another thread, panics, prints,
//! or uses thread-local state. An [`Observer`] is called in the context of the call that it is
//! told of. No data call waits for a control call, and with plain payloads none frees memory,
//! as long as the space is there: what was closed is forgotten by the next control call.
//!
//! # Payloads
//!
//! Each PASID carries a word for its owner; that of a set may stand for something else. The
//! type of the set says for what, and with that what its calls need. A look-up copies
//! a [`Plain`] payload: a `u64`, a `&'static T`, or nothing, `()`. An `Arc<T>` or a `Box<T>` is
//! [`Guarded`]: a look-up under a [`Guard`] gives a reference, without a locked operation,
//! and the payload is dropped once, after the last reference to the PASID and after every
//! guard under which it may have been seen.
//!
//! # Exact answers
//!
//! [`Error::Exhausted`] is returned only if at some instant during the call no
//! PASID of the request was free. Where two sets race for one value, or two calls for the
//! last credit of a quota, an attempt in flight may count as holding it while it lasts; so
//! does an attachment of a PASID and the joining of a device that has no entry for it, and a
//! PASID that is just being bound to the same cell. A
//! thread that is stopped at any instruction withholds the one PASID that it is working
//! on and its credit, and nothing more; in a fault for which nothing is attached it keeps
//! the memory of groups of that table that go meanwhile. One that is stopped between the
//! beginning and the completion of a flush withholds the batch.
//!
//! Where PASIDs wait for a flush, [`Error::AwaitingFlush`] says that none of the request was
//! free, and some wait: in the set's own id space, for a local or group set also in the
//! global one, and for a group at its tables. So *exhausted* says that nothing waited there.
//! While a flush is just being completed it is also said of a request that has nothing of
//! that batch.
//!
//! # Features
//!
//! * `std` (default): links the standard library, for `epoch` and for what waits in control
//!   calls; without it the crate is `no_std` with `alloc`.
//! * `epoch` (default, with `std`): payloads that are [dropped](Guarded), by
//!   crossbeam-epoch. Without it the crate has no dependency, no build script and no
//!   procedural macro.
//! * `serde`: serialises the vocabulary types ([`Pasid`], [`PasidWidth`],
//!   [`PasidRange`], [`Handle`], [`Policy`], [`SpaceKind`], [`RequesterId`]) and
//!   [`Statistics`], and checks what it reads; and [snapshots](snapshot), which are checked
//!   when they are restored.
#![no_std]

// The crate has a module of the name `alloc`.
extern crate alloc as heap;
#[cfg(any(feature = "std", loom, test))]
extern crate std;

mod alias;
mod alloc;
mod attach;
mod attachments;
mod bitmap;
mod claims;
mod contest;
mod control;
mod counted;
mod credits;
#[cfg(feature = "epoch")]
mod epoch;
mod error;
mod flush;
mod grant;
mod graveyard;
mod groups;
#[cfg(feature = "epoch")]
mod guarded;
mod handle;
mod kind;
pub mod limits;
mod link;
mod listing;
mod lists;
mod lock;
mod marks;
mod memo;
mod observer;
mod order;
mod owned;
#[cfg(all(doctest, feature = "epoch"))]
mod pages;
mod pasid;
mod payload;
mod pinned;
mod pool;
mod quarantine;
mod quota;
mod radix;
mod range;
mod requester;
mod reuse;
mod search;
mod set;
mod shared;
mod slot;
pub mod snapshot;
mod source;
mod space;
mod sparse;
mod state;
mod statistics;
mod status;
mod sva;
mod sync;
mod table;

pub use alias::{Alias, AliasMap, Aliases, VirtualTable};
pub use alloc::{Found, IdSpace};
pub use attach::{Attach, Attached, Attaching, Attachment, Attachments, Fault, Holder};
#[cfg(feature = "epoch")]
pub use epoch::Guard;
pub use error::{Error, Result};
pub use flush::{Flush, FlushRanges, Ticket};
#[cfg(feature = "epoch")]
pub use guarded::{FoundGuarded, Guarded, IterGuarded};
pub use handle::Handle;
pub use kind::SpaceKind;
pub use listing::Iter;
pub use observer::Observer;
pub use order::Policy;
pub use owned::{Owned, Ref};
pub use pasid::{Pasid, PasidWidth};
pub use payload::{Payload, Plain};
pub use pinned::Pinned;
pub use pool::Pool;
pub use quarantine::FlushStatistics;
pub use range::PasidRange;
pub use requester::RequesterId;
pub use reuse::{Flusher, Reuse};
pub use set::{IoasidSet, Scope, SetConfig};
pub use space::Space;
pub use statistics::{FailureStatistics, QuotaStatistics, Statistics};
pub use sva::PasidCell;
pub use table::{Table, TableConfig};

/// What the loom models plant in the code that they run.
#[cfg(loom)]
pub mod model {
    #[cfg(feature = "epoch")]
    pub use crate::epoch::participants::Participant;
    pub use crate::sync::Mutation;
    pub use crate::sync::planting::{order_totally, plant};
}

/// Counters of the races that were met, for the stress test.
#[cfg(pasid_events)]
pub mod events {
    pub use crate::sync::Event;
    pub use crate::sync::events::count;
}
