// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the configuration of a set means in a space.

use crate::alloc::IdSpace;
use crate::counted::Counted;
use crate::error::{Error, Result};
use crate::groups::GroupIds;
use crate::kind::SpaceKind;
use crate::lists;
use crate::pasid::{Pasid, PasidWidth};
use crate::range::PasidRange;
use crate::set::Scope;
use crate::shared::{Shared, TableIds};
use crate::source::Reach;
use crate::table::Table;
use heap::borrow::Cow;
use heap::vec::Vec;

/// What a scope means in this space.
pub(super) fn reach(shared: &Counted<Shared>, scope: Scope<'_>) -> Result<Reach> {
    let kind = shared.kind;
    let only = match scope {
        Scope::Global => SpaceKind::Global,
        Scope::Local(_) | Scope::Group(_) => SpaceKind::Tables,
    };
    if kind != SpaceKind::Both && kind != only {
        return Err(Error::WrongKind { kind });
    }
    let ids_of = |table: &Table| -> Result<Counted<TableIds>> {
        let core = table.core();
        if !core.shared.ptr_eq(shared) {
            return Err(Error::InvalidScope);
        }
        if table.is_closing() {
            return Err(Error::Closing);
        }
        Ok(core.table.clone())
    };
    match scope {
        Scope::Global => Ok(Reach::Global),
        Scope::Local(table) => Ok(Reach::Local(ids_of(table)?)),
        Scope::Group(tables) => {
            let mut members = lists::with_room(tables.len())?;
            for table in tables {
                lists::push(&mut members, ids_of(table)?)?;
                lists::settle_last(&mut members, |table| table.number);
            }
            let mut pairs = members.iter().zip(members.iter().skip(1));
            let twice = pairs.any(|(one, next)| one.number == next.number);
            let widths = members.iter().map(|table| table.ids.width());
            match widths.min() {
                Some(width) if !twice => {
                    let own = IdSpace::holding(width, Cow::Borrowed(&[]));
                    Ok(Reach::Group {
                        members,
                        own: GroupIds::new(own).ok_or(Error::OutOfMemory)?,
                    })
                }
                _ => Err(Error::InvalidScope),
            }
        }
    }
}

/// `range` within `width` without what is reserved, in ascending order.
pub(super) fn pieces(
    range: PasidRange,
    reserved: &[PasidRange],
    width: PasidWidth,
) -> Result<Vec<PasidRange>> {
    let whole = range.intersect(width.range()).ok_or(Error::DoesNotFit {
        pasid: range.first(),
        width,
    })?;
    let mut pieces = lists::with_room(reserved.len() + 1)?;
    let mut next = Some(whole.first());
    while let Some(first) = next {
        // What is reserved around `first` is passed over, and then what is not taken.
        if let Some(around) = reserved.iter().find(|held| held.contains(first)) {
            next = after(around.last(), whole);
            continue;
        }
        let ahead = reserved.iter().map(|held| held.first());
        let ahead = ahead.filter(|&begin| begin > first && begin <= whole.last());
        let last = match ahead.min() {
            Some(begin) => Pasid::from_index(begin.get() - 1),
            None => whole.last(),
        };
        lists::push(&mut pieces, PasidRange::new(first, last)?)?;
        next = after(last, whole);
    }
    if pieces.is_empty() {
        return Err(Error::OutsideSet { range });
    }
    Ok(pieces)
}

/// The PASID after `pasid`, if it is in `whole`.
fn after(pasid: Pasid, whole: PasidRange) -> Option<Pasid> {
    (pasid < whole.last()).then(|| Pasid::from_index(pasid.get() + 1))
}
