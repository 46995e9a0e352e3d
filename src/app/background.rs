//! What goes on beside the traffic: each a task of the background runtime, for as long as it lives.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::field::display;

use crate::admin::{self, AdminState};
use crate::config::{self, Config};
use crate::ledger;
use crate::limits::{BACKUP_AGAIN_AFTER, BACKUP_LOOK_EVERY, WARM_CONVERSIONS_MAX};
use crate::metrics::Metrics;
use crate::model::period::Day;
use crate::postback::{PassedOver, Postbacks};
use crate::rates::Reprice;
use crate::space::free_bytes;
use crate::store::{Retention, Store, ToPrice};
use crate::time::Clock;

/// How often free space is looked at, recorded samples are sorted into buckets, and the sums of
/// refused postbacks are kept.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);
/// How often old records are let go.
const RETENTION_EVERY: Duration = Duration::from_secs(60 * 60);
/// How often days that are over are looked for.
const SEALING_EVERY: Duration = Duration::from_secs(10 * 60);
/// How long after a change of rates their day is looked at again, for postbacks that were under
/// way meanwhile; at the most twice this.
const REPRICE_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Looks at the free space, sorts recorded samples into buckets, keeps what was refused.
pub(super) async fn housekeeping(config: Config, store: Arc<Store>, metrics: Arc<Metrics>) {
    let mut tick = tokio::time::interval(HOUSEKEEPING_EVERY);
    loop {
        tick.tick().await;
        match free_bytes(&config.store.path) {
            Ok(free) => store.health().set_free_space(free, config.store.free_space_reserve_bytes),
            Err(error) => tracing::warn!(%error, "cannot tell the free disk space"),
        }
        metrics.upkeep();
        // A store that takes nothing now takes them another time.
        let _ = store.keep_refusals(Clock::System.now_ms());
    }
}

/// Lets go of what is old.
pub(super) async fn retention(config: Config, store: Arc<Store>) {
    let config::Retention { clicks, conversions, audit, inbound, .. } = config.retention;
    let kept = Retention { clicks, conversions, audit, inbound };
    let mut tick = tokio::time::interval(RETENTION_EVERY);
    let mut last = Instant::now();
    loop {
        tick.tick().await;
        let passed = std::mem::replace(&mut last, Instant::now()).elapsed();
        let outcome = store.expire(Clock::System.now_ms(), passed, kept).await;
        let ahead_ms = store.clock_disbelieved_ms();
        if ahead_ms > 0 {
            tracing::warn!(
                ahead_ms,
                "the clock is ahead of the time that has passed: old records are kept for longer, \
                 until it is corrected or has been so for a day"
            );
        }
        match outcome {
            Ok(true) => {}
            Ok(false) => tracing::warn!("old records were not let go"),
            Err(error) => tracing::warn!(%error, "old records were not let go"),
        }
    }
}

/// Looks for backups that are there, and removes what is left of others.
pub(super) async fn look_for_backups(admin: &Arc<AdminState>) {
    if admin.backups.is_none() {
        return;
    }
    admin.metrics.backed_up(None);
    let state = Arc::clone(admin);
    let looked = tokio::task::spawn_blocking(move || {
        state.backups.as_ref().map(|backups| backups.look(state.clock.now_ms()))
    });
    if let Ok(Some(Err(error))) = looked.await {
        tracing::warn!(%error, "cannot look for backups");
    }
}

/// Makes backups: every so often, counted from the newest that is there.
pub(super) async fn backups(admin: &Arc<AdminState>, every: Option<Duration>) {
    if admin.backups.is_none() {
        return;
    }
    let Some(every) = every else { return };
    let mut tick = tokio::time::interval(BACKUP_LOOK_EVERY);
    loop {
        tick.tick().await;
        let backups = admin.backups.as_ref();
        let is_due = || backups.is_some_and(|kept| kept.is_due(every, admin.clock.now_ms()));
        if is_due() && admin::back_up(admin).await && is_due() {
            // It failed, and will not succeed at once.
            tokio::time::sleep(BACKUP_AGAIN_AFTER).await;
        }
    }
}

/// Seals the ledger's days that are over.
pub(super) async fn sealing(store: Arc<Store>) {
    let mut tick = tokio::time::interval(SEALING_EVERY);
    loop {
        tick.tick().await;
        match ledger::seal_due(&store, Clock::System.now_ms()).await {
            Ok(0) => {}
            Ok(seals) => tracing::info!(seals, "days of the ledger were sealed"),
            Err(error) => tracing::warn!(%error, "days of the ledger were not sealed"),
        }
    }
}

/// Prices conversions that had no rate: at once when rates have come, and again later; what the
/// catalog cannot price, when that has changed.
pub(super) async fn reprice(postbacks: Postbacks, mut changed: Reprice) {
    let mut again = tokio::time::interval(REPRICE_AGAIN_AFTER);
    let (mut fresh, mut settled) = (ToPrice::new(), ToPrice::new());
    let mut passed_over = PassedOver::default();
    let days_of = |round: &ToPrice| round.values().flatten().copied().collect::<BTreeSet<Day>>();
    loop {
        let (round, days, left, is_last) = tokio::select! {
            Some(mut to_price) = changed.recv() => {
                // A year's rates, day by day, are not as many walks.
                while let Ok(more) = changed.try_recv() {
                    to_price.extend(more);
                }
                fresh.extend(to_price.clone());
                let days = days_of(&to_price);
                (to_price, days, BTreeSet::new(), false)
            }
            _ = again.tick() => {
                let mut round = std::mem::replace(&mut settled, std::mem::take(&mut fresh));
                let days = days_of(&round);
                let catalog = postbacks.catalog.load().version();
                match passed_over.try_again(&mut round, catalog) {
                    Some(left) => (round, days, left, true),
                    None => {
                        let days = days_of(&round);
                        (round, days, BTreeSet::new(), true)
                    }
                }
            }
        };
        let (known, now_ms) = (passed_over.known(), || Clock::System.now_ms());
        let (from, to) = (days.first().map(display), days.last().map(display));
        let repriced = match postbacks.reprice(&days, &left, &known, now_ms).await {
            Ok(repriced) => repriced,
            Err(error) => {
                tracing::warn!(%error, from, to, "conversions without a rate were not priced");
                fresh.extend(round);
                continue;
            }
        };
        if repriced.changed > 0 {
            tracing::info!(conversions = repriced.changed, from, to, "priced by new rates");
        }
        if !is_last {
            passed_over.heard_of(repriced.left);
        } else {
            let done = passed_over.settle(round, repriced.left, repriced.are_more);
            if !done.is_empty() {
                // What is not noted as done the next start does once more.
                let _ = postbacks.store.priced(done.into_iter()).await;
            }
        }
    }
}

/// Fills the claim cache with the newest conversions.
pub(super) async fn warm(postbacks: &Postbacks) {
    match postbacks.warm(WARM_CONVERSIONS_MAX).await {
        Ok(conversions) => tracing::info!(conversions, "claim cache is warm"),
        Err(error) => tracing::warn!(%error, "claim cache stays cold"),
    }
}
