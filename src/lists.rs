// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of the control calls, without the panics that the standard library's leave in a
//! program where it cannot prove that there is room.

use crate::error::{Error, Result};
use heap::vec::Vec;

/// An empty list with room for `count`.
pub(crate) fn with_room<T>(count: usize) -> Result<Vec<T>> {
    let mut list = Vec::new();
    let room = list.try_reserve_exact(count);
    room.map_err(|_| Error::OutOfMemory)?;
    Ok(list)
}

/// Adds one at the end, with memory for it if there is no room.
pub(crate) fn push<T>(list: &mut Vec<T>, value: T) -> Result<()> {
    list.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
    let Some(place) = list.spare_capacity_mut().first_mut() else {
        return Err(Error::OutOfMemory);
    };
    place.write(value);
    // SAFETY: the one after the last was written just now, within the capacity.
    unsafe { list.set_len(list.len() + 1) };
    Ok(())
}

/// Adds copies of all of `more` at the end.
pub(crate) fn push_all<T: Copy>(list: &mut Vec<T>, more: &[T]) -> Result<()> {
    more.iter().try_for_each(|&value| push(list, value))
}

/// Takes out the one at `index`, and leaves the others in their order.
pub(crate) fn take<T>(list: &mut Vec<T>, index: usize) -> Option<T> {
    (index < list.len()).then(|| list.remove(index))
}

/// Puts the last one where its key belongs among the others, which are in ascending order.
pub(crate) fn settle_last<T>(list: &mut [T], key: impl Fn(&T) -> u64) {
    let mut end = list.len();
    while let Some([.., before, last]) = list.get_mut(..end) {
        if key(before) <= key(last) {
            return;
        }
        core::mem::swap(before, last);
        end -= 1;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_what_they_are_given() {
        let mut list = with_room(2).expect("memory for a test");
        assert_eq!(push_all(&mut list, &[3, 1, 2]), Ok(()));
        assert_eq!(list, [3, 1, 2]);
        assert_eq!((take(&mut list, 0), take(&mut list, 2)), (Some(3), None));
        assert_eq!(push(&mut list, 9), Ok(()));
        assert_eq!(list, [1, 2, 9]);
    }

    #[test]
    fn the_last_is_settled_among_the_others() {
        let mut list: Vec<u64> = Vec::new();
        for value in [5, 1, 9, 5, 0, 7] {
            assert_eq!(push(&mut list, value), Ok(()));
            settle_last(&mut list, |&value| value);
        }
        assert_eq!(list, [0, 1, 5, 5, 7, 9]);
        settle_last(&mut list[..0], |&value| value);
        settle_last(&mut list[..1], |&value| value);
    }
}
