// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reservations at run time.

use super::{Model, Place, Reach, Table, lists};
use crate::sets::quirk::Quirk;
use pasid::{Error, Pasid, SpaceKind};

impl Model {
    /// `Space::reserve`.
    pub fn reserve(&mut self, pasid: Pasid) -> Result<(), Error> {
        let (kind, number) = (self.kind, pasid.get());
        self.forget_gone();
        if kind == SpaceKind::Tables {
            return Err(Error::WrongKind { kind });
        }
        self.grow_at(Place::Globals, number);
        if kind == SpaceKind::Both {
            self.grow_at(Place::Claims, number);
        }
        match self.why_not_free(&Reach::Global, pasid) {
            Some(Error::InUse(_)) => return Err(Error::HeldGlobally(pasid)),
            Some(why) => return Err(why),
            None => {}
        }
        if !self.is(Quirk::SpaceReservationForgotten) {
            self.added.insert(number);
        }
        Ok(())
    }

    /// `Space::unreserve`.
    pub fn unreserve(&mut self, pasid: Pasid) -> Result<(), Error> {
        let kind = self.kind;
        self.forget_gone();
        if kind == SpaceKind::Tables {
            return Err(Error::WrongKind { kind });
        }
        let number = pasid.get();
        let rests = |table: &Table| {
            let fits = number <= table.built.last().get();
            !table.gone && fits && lists(&table.listed, number)
        };
        if !self.added.contains(&number) {
            Err(Error::NotFound(pasid))
        } else if self.tables.iter().any(rests) {
            Err(Error::HeldLocally(pasid))
        } else {
            self.added.remove(&number);
            Ok(())
        }
    }

    fn check_built(&self, table: usize, pasid: Pasid) -> Result<(), Error> {
        let width = self.tables[table].built;
        match pasid > width.last() {
            true => Err(Error::DoesNotFit { pasid, width }),
            false => Ok(()),
        }
    }

    /// `Table::reserve`.
    pub fn reserve_on(&mut self, table: usize, pasid: Pasid) -> Result<(), Error> {
        if self.tables[table].closing {
            return Err(Error::Closing);
        }
        self.check_built(table, pasid)?;
        let (number, here) = (pasid.get(), Reach::Local(table));
        let by_table = self.table_reserves(&Reach::Global, number);
        if self.kind == SpaceKind::Global && !lists(&self.listed, number) && !by_table {
            self.keep_global_sets_off(number)?;
        }
        self.grow_at(Place::Table(table), number);
        if self.kind == SpaceKind::Both {
            self.grow_at(Place::Claims, number);
        }
        if let Some(why) = self.why_not_free(&here, pasid) {
            return Err(why);
        }
        if !self.is(Quirk::TableReservationForgotten) {
            self.tables[table].added.insert(number);
        }
        Ok(())
    }

    /// `Table::unreserve`.
    pub fn unreserve_on(&mut self, table: usize, pasid: Pasid) -> Result<(), Error> {
        self.check_built(table, pasid)?;
        match self.tables[table].added.remove(&pasid.get()) {
            true => Ok(()),
            false => Err(Error::NotFound(pasid)),
        }
    }
}
