// Hot path of offers with caps or tiers: no allocation but the place in the counts,
// and the reason of what is held back and has a tier or no room.
//! What a conversion of an offer with caps or tiers earns: by its volume so far, or nothing.

use std::borrow::Cow;
use std::sync::Arc;

use super::answer::Answer;
use super::decide::{Refused, Verdict};
use super::flow::{Committing, Postbacks, Received};
use super::price::{PRICE_FLAGS, Price, price_by};
use crate::caps::{Asked, Meter, Metered, Place, Reserved, Turn, tier_of};
use crate::catalog::Terms;
use crate::click_id::RecordId;
use crate::dedup::Held;
use crate::limits::METER_WAIT_MAX;
use crate::model::period::Day;
use crate::model::reasons::{Flag, HELD, Unavailability};
use crate::model::status::Status;
use crate::rates::Market;

impl Postbacks {
    /// What counts the offer's conversions, waited for while it is being made.
    pub(super) async fn meter(&self, offer: Metered) -> Result<Arc<Meter>, Answer> {
        if let Some(meter) = self.meters.of(offer) {
            return Ok(meter);
        }
        let counted = tokio::time::timeout(METER_WAIT_MAX, self.meters.counted(offer)).await;
        counted.map_err(|_| Answer::Unavailable(Unavailability::StoreBusy))
    }

    /// Hands a new conversion to the writer, counted where it must be.
    #[inline]
    pub(super) fn commit(
        &self,
        held: Held,
        verdict: &Verdict<'_>,
        received: &Received<'_>,
        has_click: bool,
    ) -> Result<Committing, Answer> {
        let committing = match &received.meter {
            None => {
                let reason = verdict.initial_reason();
                self.submit(held, verdict, received, has_click, &reason, None)?
            }
            Some(meter) => {
                let conversion = held.original().conversion;
                let turn = meter.turn();
                let Counted { verdict, reason, place } =
                    counted(verdict, &self.market, &turn, conversion)?;
                let committing =
                    self.submit(held, &verdict, received, has_click, &reason, place)?;
                drop(turn);
                committing
            }
        };
        // Only now: what the writer does not take is sent again, and would be counted again.
        self.count_for_fraud(verdict, received.as_received.request);
        Ok(committing)
    }
}

/// A verdict by what has been counted.
struct Counted<'a> {
    /// The verdict, with the price of the tier or without payout.
    verdict: Verdict<'a>,
    /// Why it earns what it does: the word of the tier or of the cap, after `held:` if the offer
    /// holds it back.
    reason: Cow<'a, str>,
    /// Its place in the counts; `None` if it is not counted.
    place: Option<Reserved>,
}

/// Counts a conversion, if it is one that counts: not rejected, not late.
///
/// # Errors
/// When the tier's payout is too large to be kept.
// Not in line, so that it does not burden offers that are not counted.
#[inline(never)]
fn counted<'a>(
    verdict: &Verdict<'a>,
    market: &Market,
    turn: &Turn<'_>,
    conversion: RecordId,
) -> Result<Counted<'a>, Refused> {
    let (mut verdict, begun, mut word) = (verdict.clone(), verdict.initial_reason(), None);
    if verdict.status == Status::Rejected || verdict.flags & Flag::Late.bit() != 0 {
        return Ok(Counted { verdict, reason: begun, place: None });
    }
    let (offer, event) = (verdict.offer, verdict.event);
    let affiliate = verdict.click.record().affiliate();
    let asked = Asked {
        caps: &offer.caps,
        minted_ms: conversion.time_ms(),
        event: &event.id,
        currency: event.currency.to_bytes(),
        affiliate,
    };
    let place = turn.take(&asked, |number| {
        let Some(tier) = tier_of(event.tiers_of(affiliate), number) else {
            return Ok(verdict.payout.get());
        };
        let terms = Terms { payout: tier.payout, revenue: event.terms.revenue };
        let day = Day::of_ms(verdict.event_time_ms);
        verdict.set_price(price_by(&terms, event, &verdict.said, market, day)?);
        word = Some(&*tier.word);
        Ok::<_, Refused>(verdict.payout.get())
    })?;
    let place = match place {
        Place::Taken(place) => Some(place),
        Place::Over(over) => {
            let mut price = verdict.take_price();
            price.forfeit_payout();
            price.flags |= Flag::OverCap.bit();
            verdict.set_price(price);
            word = Some(over);
            None
        }
    };
    let reason = match word {
        None => begun,
        Some(word) if begun == HELD => format!("{HELD}:{word}").into(),
        Some(word) => word.into(),
    };
    Ok(Counted { verdict, reason, place })
}

impl Verdict<'_> {
    fn take_price(&mut self) -> Price {
        let (payout, revenue, flags) = (self.payout, self.revenue, self.flags);
        Price { payout, revenue, flags, exchanged: self.exchanged.take() }
    }

    fn set_price(&mut self, price: Price) {
        self.payout = price.payout;
        self.revenue = price.revenue;
        // What is no matter of the price stays.
        self.flags = self.flags & !PRICE_FLAGS | price.flags;
        self.exchanged = price.exchanged;
    }
}
