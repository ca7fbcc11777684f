// SPDX-License-Identifier: MIT OR Apache-2.0
//! What only the module itself can look at: the words of an entry.

use super::entries::Entries;
use crate::handle::Handle;
use crate::pasid::Pasid;
use crate::range::PasidRange;

fn handle(number: u16, generation: u32) -> Handle {
    Handle::new(Pasid::from_u16(number), 1, generation)
}

fn entries(nested: bool) -> Entries {
    let entries = Entries::new(nested);
    assert!(entries.grow(PasidRange::single(Pasid::from_u16(300))));
    entries
}

#[test]
fn an_entry_is_made_once_and_ended_once() {
    for nested in [false, true] {
        let entries = entries(nested);
        assert_eq!((entries.find(300), entries.leave(300)), (None, None));
        assert!(entries.enter(300, None, handle(7, 1)));
        assert!(!entries.enter(300, None, handle(8, 1)));
        let seen = entries.find(300).expect("it was entered");
        assert_eq!((seen.handle(), seen.below()), (handle(7, 1), None));
        assert_eq!(entries.first(0, 999), Some((300, seen)));
        assert_eq!((entries.find(299), entries.find(44)), (None, None));
        assert_eq!(entries.leave(300), Some(handle(7, 1)));
        assert_eq!((entries.find(300), entries.leave(300)), (None, None));
        assert_eq!(entries.first(0, 0xf_ffff), None);
    }
}

#[test]
fn the_same_entry_made_again_is_told_from_the_first() {
    let entries = entries(true);
    let zero = Some(Pasid::ZERO);
    for below in [None, zero, Some(Pasid::MAX)] {
        assert!(entries.enter(300, below, handle(7, 1)));
        let first = entries.find(300).expect("it was entered");
        assert_eq!(first.below(), below);
        assert!(entries.leave(300).is_some());
        assert!(entries.enter(300, below, handle(7, 1)));
        let second = entries.find(300).expect("it was entered");
        assert_eq!((second.handle(), second.below()), (first.handle(), below));
        assert_ne!(first, second);
        assert!(entries.leave(300).is_some());
    }
}

#[test]
fn without_memory_there_is_no_entry() {
    for nested in [false, true] {
        let entries = entries(nested);
        assert!(entries.has_place(256) && !entries.has_place(255));
        assert!(!entries.enter(255, None, handle(7, 1)));
        assert_eq!((entries.find(255), entries.leave(255)), (None, None));
        let leaves = if nested { 2 } else { 1 };
        let leaf = 256 * 8;
        let bytes = entries.memory_bytes();
        assert!(entries.grow(PasidRange::single(Pasid::ZERO)));
        assert_eq!(entries.memory_bytes() - bytes, leaves * leaf);
    }
}
