//! Sealing the days that are over.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::merkle::Tree;
use super::seal::{Blinding, leaf, seal_hash};
use crate::limits::{SEAL_AFTER_MS, SEALS_PER_COMMIT_MAX};
use crate::model::ids::AffiliateNumber;
use crate::model::period::Day;
use crate::store::postings::Balances;
use crate::store::records::SealRecord;
use crate::store::{OpenError, ReadError, Store, View, WriteError, keys};

/// Why days were not sealed; those before the failure were.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The ledger could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store's own key could not be read.
    #[error(transparent)]
    Key(#[from] OpenError),
    /// The store did not take the seals.
    #[error(transparent)]
    Change(#[from] WriteError),
    /// The walk ended badly.
    #[error("the walk over the ledger ended badly: {0}")]
    Walk(#[from] tokio::task::JoinError),
}

/// Seals of one affiliate's days, oldest first.
type Seals = Vec<(AffiliateNumber, Day, SealRecord)>;

/// Seals every day of every affiliate that was over an hour ago, if all that happened on it is
/// filed; returns how many seals were made. Only one task may do so at a time.
///
/// The clock may be wrong: what comes when its day is sealed is posted to a later one.
///
/// # Errors
/// When the ledger cannot be read or the seals were not kept.
pub async fn seal_due(store: &Arc<Store>, now_ms: u64) -> Result<usize, SealError> {
    let sealed = seal_before(store, Day::of_ms(now_ms.saturating_sub(SEAL_AFTER_MS))).await;
    // Also if it has failed: seals that are on the disk are known, and no others will be.
    store.open_days();
    sealed
}

async fn seal_before(store: &Arc<Store>, today: Day) -> Result<usize, SealError> {
    store.close_days(today).await?;
    let (mut sealed, mut next) = (0, Some(0));
    while let Some(number) = next {
        let store_there = Arc::clone(store);
        let walk = move || due_from(&store_there.view(), number, today);
        let (seals, after) = tokio::task::spawn_blocking(walk).await??;
        if !seals.is_empty() {
            store.keep_seals(&seals).await?;
        }
        (sealed, next) = (sealed + seals.len(), after);
    }
    Ok(sealed)
}

/// Seals that are due for affiliates from a number on, and the number to go on with.
fn due_from(
    view: &View<'_>,
    mut number: u32,
    today: Day,
) -> Result<(Seals, Option<u32>), SealError> {
    let mut seals = Vec::new();
    if view.is_unfiled_before(today).map_err(ReadError::from)? {
        return Ok((seals, None));
    }
    let blinding = Blinding::new(&view.click_key()?);
    while seals.len() < SEALS_PER_COMMIT_MAX {
        let affiliate = view.affiliate_from(number).map_err(ReadError::from)?;
        let Some(affiliate) = affiliate else { return Ok((seals, None)) };
        let before = view.seal_before(affiliate, Day::new(u32::MAX))?;
        let mut days = Days::after(affiliate, before);
        let from = keys::postings_from(affiliate, days.next_day);
        view.postings(affiliate, &from, today, &mut |posting| {
            days.day_is(posting.key.day);
            days.tree.push(leaf(&posting, &blinding).hash());
            days.balances.add(&posting.record);
            ControlFlow::Continue(())
        })?;
        days.end_day();
        seals.append(&mut days.sealed);
        number = affiliate.get() + 1;
    }
    Ok((seals, Some(number)))
}

/// One affiliate's days, one after the other.
struct Days {
    affiliate: AffiliateNumber,
    /// The newest seal's day and hash.
    newest: Option<(Day, [u8; 32])>,
    next_day: Day,
    day: Option<Day>,
    /// Of the day under way.
    tree: Tree,
    /// At the end of the day under way.
    balances: Balances,
    /// The days that are over.
    sealed: Seals,
}

impl Days {
    /// The days after a seal.
    fn after(affiliate: AffiliateNumber, seal: Option<(Day, SealRecord)>) -> Self {
        let mut days = Self {
            affiliate,
            newest: None,
            next_day: Day::new(0),
            day: None,
            tree: Tree::default(),
            balances: Balances::default(),
            sealed: Vec::new(),
        };
        if let Some((day, seal)) = seal {
            days.newest = Some((day, seal_hash(affiliate, day, &seal)));
            days.next_day = day.next();
            days.balances = Balances::of_seal(&seal);
        }
        days
    }

    /// Says of which day the next posting is.
    fn day_is(&mut self, day: Day) {
        if self.day != Some(day) {
            self.end_day();
            self.day = Some(day);
        }
    }

    /// Seals the day under way.
    fn end_day(&mut self) {
        let Some(day) = self.day.take() else { return };
        let tree = std::mem::take(&mut self.tree);
        let postings = tree.leaves();
        let seal = SealRecord {
            previous_day: self.newest.map(|(day, _)| day.get()),
            previous: self.newest.map_or([0; 32], |(_, hash)| hash),
            postings,
            root: tree.finish().0,
            balances: self.balances.to_vec(),
            converted: self.balances.converted(),
        };
        self.newest = Some((day, seal_hash(self.affiliate, day, &seal)));
        self.sealed.push((self.affiliate, day, seal));
    }
}
