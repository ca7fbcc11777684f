// SPDX-License-Identifier: MIT OR Apache-2.0
//! One thread's devices, which join tables and leave them under the others.

use crate::arena::range;
use crate::counts::Met;
use crate::info::{SetCell, TableCell};
use crate::worker::Worker;
use pasid::{Attach, Error, PasidWidth, Pool, RequesterId};
use std::sync::Arc;

impl Worker<'_> {
    /// A device of few bits joins a table, and leaves it again. While it has joined, the
    /// table has no more bits than it: nothing is allocated or attached beyond.
    pub fn join_for_a_moment(&mut self) {
        let (table, device) = (self.table(), RequesterId(self.thread));
        let width = PasidWidth::new(self.random.u8(0..=8)).expect("at most 20 bits");
        if width != PasidWidth::ZERO {
            table.shadow.narrow(width.last().get());
        }
        match table.table.join(device, width) {
            Ok(()) => {}
            Err(Error::DoesNotFit {
                pasid,
                width: named,
            }) => {
                let named = named == width && pasid > width.last();
                assert!(named, "broken: {pasid} keeps {width} from joining");
                return self.counts.add(Met::JoinRefused);
            }
            Err(Error::Closing) => return self.met_closing(),
            Err(error) => panic!("broken: {error:?} for a device"),
        }
        if width != PasidWidth::ZERO {
            self.check_narrow(&table, width);
        }
        assert_eq!(table.table.leave(device), Ok(()), "broken: it had joined");
        let again = table.table.leave(device);
        assert_eq!(again, Err(Error::DeviceNotJoined(device)));
    }

    /// A device of that width has joined, and stays until this returns.
    fn check_narrow(&mut self, table: &Arc<TableCell>, width: PasidWidth) {
        let now = table.table.width();
        assert!(now <= width, "broken: {now}, and a device has {width}");
        let last = width.last().get();
        if last >= self.arena.last {
            return;
        }
        let beyond = range(last + 1, self.arena.last);
        let attached = table.table.attachments(beyond).next();
        assert_eq!(attached, None, "broken: attached beyond {width}");
        let counts_there = |cell: &&Arc<SetCell>| {
            let mut tables = cell.tables.iter();
            tables.any(|one| Arc::ptr_eq(one, table))
        };
        for cell in self.sets.iter().filter(counts_there) {
            match (&*cell.set).alloc(beyond, 0).map(drop) {
                Err(Error::DoesNotFit { .. } | Error::Closing) => {}
                other => panic!("broken: {other:?} for an allocation beyond {width}"),
            }
        }
        let mut owned = self.owned.iter();
        let one = owned.find(|one| one.owned.pasid().get() > last && counts_there(&&one.cell));
        if let Some(one) = one {
            match (&*table.table).attach(&one.owned, 0).map(drop) {
                Err(Error::DoesNotFit { .. } | Error::Paused | Error::Closing) => {}
                other => panic!("broken: {other:?} for an attachment beyond {width}"),
            }
        }
        self.counts.add(Met::Narrowed);
    }
}
