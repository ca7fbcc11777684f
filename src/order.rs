// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order in which free PASIDs are handed out: in which spans of a request a search
//! looks, and in which order.
//!
//! The cursors are hints. Of two stores to one of them either may last, and nothing but
//! the order of handing out rests on them.

use crate::pasid::Pasid;
use crate::sync::{AtomicU32, Ordering, const_unless_loom};

/// The order in which PASIDs are handed out.
///
/// ```
/// use pasid::{Error, Policy, Pool, Scope, SetConfig, Space, SpaceKind};
///
/// let first_two = |policy| {
///     let space = Space::new(SpaceKind::Global);
///     let set = space.add_set(SetConfig::new(Scope::Global).policy(policy))?;
///     let first = set.alloc(set.range(), 0)?.pasid().get();
///     // It is free again.
///     let second = set.alloc(set.range(), 0)?.pasid().get();
///     Ok::<_, Error>([first, second])
/// };
/// assert_eq!(first_two(Policy::Lowest)?, [1, 1]);
/// assert_eq!(first_two(Policy::Next)?, [1, 2]);
/// assert_eq!(first_two(Policy::PreserveNarrow)?, [1 << 19, (1 << 19) + 1]);
/// assert_eq!(first_two(Policy::Spread)?, [1, 1]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Policy {
    /// The lowest free PASID of the request; exactly that while no other call
    /// runs. Keeps tables dense and memory small. Threads that allocate at the
    /// same time contend for the same word.
    #[default]
    Lowest,
    /// The first free PASID after the last one handed out, wrapping within the
    /// request. Where requests are for one range, a freed PASID stays unused for as
    /// long as possible; a request for another range takes the place to go on from
    /// with it. In time the whole range has memory.
    Next,
    /// The upper half of the PASIDs first (those with one bit more than the rest of the
    /// request), then the upper half of what is below it, and so on down; inside a half
    /// like [`Policy::Next`]. Wide devices so leave the small PASIDs to narrow ones, and
    /// reuse is late.
    PreserveNarrow,
    /// The first free PASID from where the caller's CPU belongs, wrapping within the
    /// request: 256 PASIDs for each CPU, so that CPUs share no cache lines. The CPU is an
    /// argument of [`Pool::alloc_near`](crate::Pool::alloc_near); calls without one are for CPU 0.
    Spread,
}

/// PASIDs from one CPU's start under [`Policy::Spread`] to the next's: those of one leaf.
const SPREAD: u32 = 256;

/// As many as PASIDs have bits.
const HALVES: usize = 20;

/// Which half `number` is in: the position of its highest bit. 0 and 1 share the last.
const fn half(number: u32) -> u32 {
    (number | 1).ilog2()
}

/// A policy, and where it goes on.
pub(crate) struct Order {
    policy: Policy,
    /// The PASID after the last one handed out, for each half; the first alone where
    /// there are no halves.
    cursors: [AtomicU32; HALVES],
}

impl Order {
    const_unless_loom! {
        pub(crate) fn new(policy: Policy) -> Order {
            Order {
                policy,
                #[cfg(not(loom))]
                cursors: [const { AtomicU32::new(0) }; HALVES],
                #[cfg(loom)]
                cursors: core::array::from_fn(|_| AtomicU32::new(0)),
            }
        }
    }

    #[inline(always)]
    pub(crate) const fn policy(&self) -> Policy {
        self.policy
    }

    pub(crate) const fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// The spans of `first ..= last` in the order in which a search goes through them,
    /// for a caller on `cpu`. Each number is in one of them.
    pub(crate) fn spans(&self, first: u32, last: u32, cpu: u32) -> Spans<'_> {
        Spans {
            order: self,
            cpu,
            first,
            left: Some(last),
            wrapped: None,
        }
    }

    /// Takes note of what was handed out.
    #[inline(always)]
    pub(crate) fn handed_out(&self, pasid: Pasid) {
        let cursor = match self.policy {
            Policy::Lowest | Policy::Spread => return,
            Policy::Next => &self.cursors[0],
            Policy::PreserveNarrow => self.cursor_of(pasid.get()),
        };
        // Release: pairs with the acquire of `start`.
        cursor.store(pasid.get() + 1, Ordering::Release);
    }

    /// Where the policy goes on, from the lowest half upwards where there are halves.
    pub(crate) fn cursors(&self) -> impl Iterator<Item = u32> + '_ {
        let used = match self.policy {
            Policy::Lowest | Policy::Spread => 0,
            Policy::Next => 1,
            Policy::PreserveNarrow => HALVES,
        };
        // Relaxed: nothing is read by it.
        let cursors = self.cursors.iter().take(used);
        cursors.map(|cursor| cursor.load(Ordering::Relaxed))
    }

    /// Goes on from there.
    pub(crate) fn go_on_from(&self, cursors: &[u32]) {
        for (cursor, &number) in self.cursors.iter().zip(cursors) {
            // Relaxed: nobody's work lies behind it.
            cursor.store(number, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    fn cursor_of(&self, number: u32) -> &AtomicU32 {
        // The remainder changes nothing, and leaves no panic behind.
        &self.cursors[half(number) as usize % HALVES]
    }

    /// Where a search of `first ..= last` starts, which lies in one half where there
    /// are halves.
    #[inline(always)]
    fn start(&self, first: u32, last: u32, cpu: u32) -> u32 {
        let cursor = match self.policy {
            Policy::Lowest => return first,
            Policy::Spread => {
                let count = last - first + 1;
                let offset = cpu.wrapping_mul(SPREAD);
                // A request is not empty; the check leaves no panic behind.
                let within = if offset < count {
                    Some(offset)
                } else {
                    offset.checked_rem(count)
                };
                return first + within.unwrap_or(0);
            }
            Policy::Next => &self.cursors[0],
            Policy::PreserveNarrow => self.cursor_of(last),
        };
        // Acquire: pairs with the release of `handed_out`: who goes on from a PASID sees
        // what was done before it was taken, as a scan must.
        let cursor = cursor.load(Ordering::Acquire);
        if first <= cursor && cursor <= last {
            cursor
        } else {
            first
        }
    }
}

/// The spans of a request, inclusive; see [`Order::spans`].
#[derive(Clone)]
pub(crate) struct Spans<'a> {
    order: &'a Order,
    cpu: u32,
    first: u32,
    /// The last number that is not in a span yet.
    left: Option<u32>,
    /// What lies before the start of the span given out last.
    wrapped: Option<(u32, u32)>,
}

impl Iterator for Spans<'_> {
    type Item = (u32, u32);

    #[inline(always)]
    fn next(&mut self) -> Option<(u32, u32)> {
        if let Some(wrapped) = self.wrapped.take() {
            return Some(wrapped);
        }
        let last = self.left.take()?;
        let mut first = self.first;
        if self.order.policy == Policy::PreserveNarrow && half(last) > 0 {
            first = first.max(1 << half(last));
            if first > self.first {
                self.left = Some(first - 1);
            }
        }
        let start = self.order.start(first, last, self.cpu);
        if start > first {
            self.wrapped = Some((first, start - 1));
        }
        Some((start, last))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn spans(order: &Order, first: u32, last: u32, cpu: u32) -> Vec<(u32, u32)> {
        order.spans(first, last, cpu).collect()
    }

    #[test]
    fn lowest_is_one_span() {
        let order = Order::new(Policy::Lowest);
        order.handed_out(Pasid::from_u16(7));
        assert_eq!(spans(&order, 3, 900, 5), [(3, 900)]);
    }

    #[test]
    fn next_goes_on_and_wraps_inside_the_request() {
        let order = Order::new(Policy::Next);
        assert_eq!(spans(&order, 0, 9, 0), [(0, 9)]);
        order.handed_out(Pasid::from_u16(3));
        assert_eq!(spans(&order, 0, 9, 0), [(4, 9), (0, 3)]);
        assert_eq!(spans(&order, 5, 9, 0), [(5, 9)]);
        order.handed_out(Pasid::from_u16(9));
        assert_eq!(spans(&order, 0, 9, 0), [(0, 9)]);
    }

    #[test]
    fn preserve_narrow_goes_down_by_halves_and_like_next_inside() {
        let order = Order::new(Policy::PreserveNarrow);
        let all = [(8, 9), (4, 7), (2, 3), (0, 1)];
        assert_eq!(spans(&order, 0, 9, 0), all);
        order.handed_out(Pasid::from_u16(8));
        order.handed_out(Pasid::from_u16(5));
        let from_cursors = [(9, 9), (8, 8), (6, 7), (4, 5), (2, 3), (0, 1)];
        assert_eq!(spans(&order, 0, 9, 0), from_cursors);
        assert_eq!(spans(&order, 5, 8, 0), [(8, 8), (6, 7), (5, 5)]);
        assert_eq!(spans(&order, 1, 1, 0), [(1, 1)]);
    }

    #[test]
    fn spread_starts_256_further_for_each_cpu() {
        let order = Order::new(Policy::Spread);
        assert_eq!(spans(&order, 1, 1024, 0), [(1, 1024)]);
        assert_eq!(spans(&order, 1, 1024, 3), [(769, 1024), (1, 768)]);
        assert_eq!(spans(&order, 1, 1024, 5), [(257, 1024), (1, 256)]);
        assert_eq!(spans(&order, 10, 12, u32::MAX)[0].1, 12);
    }

    #[test]
    fn every_number_is_in_exactly_one_span() {
        for policy in [
            Policy::Lowest,
            Policy::Next,
            Policy::PreserveNarrow,
            Policy::Spread,
        ] {
            let order = Order::new(policy);
            for (first, last, cpu) in [(0, 1023, 3), (5, 700, 1), (511, 513, 9), (0, 0, 0)] {
                for handed in [0, 600, 130, 512] {
                    order.handed_out(Pasid::from_u16(handed));
                    let mut numbers: Vec<u32> = order
                        .spans(first, last, cpu)
                        .flat_map(|(first, last)| first..=last)
                        .collect();
                    numbers.sort_unstable();
                    assert_eq!(numbers, (first..=last).collect::<Vec<_>>(), "{policy:?}");
                }
            }
        }
    }
}
