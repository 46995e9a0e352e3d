// Hot path of offers with caps or tiers: no allocation but the place in the counts.
//! What a conversion of an offer with caps or tiers earns: by its volume so far, or nothing.

use std::sync::Arc;

use super::decide::{Refused, Verdict, said};
use super::mapping::Fields;
use super::price::{Price, price_by};
use crate::caps::{Asked, Meter, Place, Reserved, tier_of};
use crate::catalog::Terms;
use crate::click_id::RecordId;
use crate::model::rate::Day;
use crate::model::reasons::Flag;
use crate::model::status::Status;
use crate::rates::Market;

/// The reason of a conversion's first step where neither a cap nor a tier is.
pub const REASON: &str = "postback";

/// A verdict by what has been counted.
pub struct Counted<'a> {
    /// The verdict, with the price of the tier or without payout.
    pub verdict: Verdict<'a>,
    /// Why it earns what it does: the word of the tier or of the cap.
    pub reason: &'a str,
    /// Its place in the counts; `None` if it is not counted.
    pub place: Option<Reserved>,
}

/// Counts a conversion, if it is one that counts: not rejected, not late.
///
/// # Errors
/// When the tier's payout is too large to be kept.
// Not in line, so that it does not burden offers that are not counted.
#[inline(never)]
pub fn counted<'a>(
    verdict: &Verdict<'a>,
    fields: &Fields<'_>,
    market: &Market,
    meter: &Arc<Meter>,
    conversion: RecordId,
) -> Result<Counted<'a>, Refused> {
    let (mut verdict, mut reason) = (verdict.clone(), REASON);
    if verdict.status == Status::Rejected || verdict.flags & Flag::Late.bit() != 0 {
        return Ok(Counted { verdict, reason, place: None });
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
    let place = meter.take(&asked, |number| {
        let Some(tier) = tier_of(event.tiers_of(affiliate), number) else {
            return Ok(verdict.payout.get());
        };
        let terms = Terms { payout: tier.payout, revenue: event.terms.revenue };
        let day = Day::of_ms(verdict.event_time_ms);
        verdict.set_price(price_by(&terms, event, &said(fields)?, market, day)?);
        reason = &tier.word;
        Ok::<_, Refused>(verdict.payout.get())
    })?;
    let place = match place {
        Place::Taken(place) => Some(place),
        Place::Over(word) => {
            let mut price = verdict.take_price();
            price.forfeit_payout();
            price.flags |= Flag::OverCap.bit();
            verdict.set_price(price);
            reason = word;
            None
        }
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
        self.flags = price.flags;
        self.exchanged = price.exchanged;
    }
}
