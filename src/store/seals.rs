//! Keeping the ledger's seals, and nothing from being posted behind them.
//!
//! A posting's day is that of a clock, and clocks are set. So before days are sealed they are
//! *closed*: the writer defers whatever is submitted from then on to the first day that is not,
//! under its lock and before anything is derived, so that the record says so itself; and sealing
//! waits for what was submitted before. Which days are closed is known to the process alone; up to
//! which they are sealed is kept with the seals.

use std::sync::atomic::Ordering;

use super::engine::{Batch, Direction, Engine, EngineError};
use super::records::SealRecord;
use super::schema::Table;
use super::{Store, WriteError, keys};
use crate::model::ids::AffiliateNumber;
use crate::model::period::Day;

impl Store {
    /// Closes the days before `today`: when this returns, whatever is posted to them is there to be
    /// read, if it is filed, and nothing follows. They stay closed until [`Store::open_days`].
    ///
    /// # Errors
    /// When the store takes no writes or the disk did not confirm.
    pub async fn close_days(&self, today: Day) -> Result<(), WriteError> {
        self.writer.close_days(self.unsealed().max(today));
        self.all_appended().await
    }

    /// Opens the days after the newest seal again: under a clock that is far ahead that may be
    /// many, and until it is right, postings would be of none of them.
    pub fn open_days(&self) {
        self.writer.close_days(self.unsealed());
    }

    /// Keeps seals of days that are closed; durable when this returns. The same seals again change
    /// nothing.
    ///
    /// # Errors
    /// When the store takes no writes or the disk did not confirm.
    pub async fn keep_seals(
        &self,
        seals: &[(AffiliateNumber, Day, SealRecord)],
    ) -> Result<(), WriteError> {
        let unsealed = seals.iter().map(|(_, day, _)| day.next()).fold(self.unsealed(), Day::max);
        let put = |batch: &mut Batch| {
            for (affiliate, day, seal) in seals {
                batch.put(Table::Ledger, &keys::seal(*affiliate, *day), |out| seal.encode(out));
            }
            batch.put(Table::Meta, keys::META_UNSEALED, |out| out.extend(encoded(unsealed)));
        };
        self.change(put).await?;
        self.unsealed_from.fetch_max(unsealed.get(), Ordering::AcqRel);
        Ok(())
    }

    /// The day after the newest seal of all.
    fn unsealed(&self) -> Day {
        Day::new(self.unsealed_from.load(Ordering::Acquire))
    }
}

/// The day after the newest seal of all, as the seals of each affiliate say.
pub(super) fn unsealed(engine: &dyn Engine) -> Result<Day, EngineError> {
    let ([from], [to]) = keys::all_seals();
    let (mut unsealed, mut to) = (Day::new(0), vec![to]);
    loop {
        let down = Direction::Descending;
        let newest =
            engine.first(Table::Ledger, &[from], &to, down, |key, _| keys::seal_of(key))?;
        let Some((affiliate, day)) = newest.flatten() else { return Ok(unsealed) };
        unsealed = unsealed.max(day.next());
        to = keys::seal(affiliate, Day::new(0)).to_vec();
    }
}

/// How the day after the newest seal is kept.
pub(super) fn encoded(unsealed: Day) -> [u8; 4] {
    unsealed.get().to_be_bytes()
}
