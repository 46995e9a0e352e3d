// Hot path: pure. No clock, no randomness, no I/O.
//! Which offer and affiliate a click is for, or why it goes to a fallback.

use super::params::ClickParams;
use crate::catalog::{Affiliate, Catalog, Offer};
use crate::model::reasons::ClickFallback;

/// Where a click leads.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'c> {
    /// The offer, if there is one of that name.
    pub offer: Option<&'c Offer>,
    /// The affiliate, if there is one of that name.
    pub affiliate: Option<&'c Affiliate>,
    /// Why it goes to a fallback; `None` if it goes to the offer.
    pub fallback: Option<ClickFallback>,
}

/// Chooses by the parameters, or by `code`, the short link in the path. `is_full` is asked of
/// offers that take no clicks once a cap is full.
#[must_use]
pub fn decide<'c>(
    catalog: &'c Catalog,
    params: &ClickParams<'_>,
    code: Option<&str>,
    now_ms: u64,
    is_full: impl FnOnce(&Offer) -> bool,
) -> Choice<'c> {
    let named = |offer, affiliate, fallback| Choice { offer, affiliate, fallback: Some(fallback) };
    let by_code = code.or_else(|| params.link.as_deref().filter(|_| params.offer.is_none()));
    let (offer, affiliate) = match by_code {
        Some(code) => match catalog.link(code) {
            Some((offer, affiliate)) => (offer, affiliate),
            None => return named(None, None, ClickFallback::UnknownLink),
        },
        None => {
            let offer = params.offer.as_deref().map(|id| catalog.offer(id));
            let affiliate = params.affiliate.as_deref().map(|id| catalog.affiliate(id));
            match (offer, affiliate) {
                (Some(Some(offer)), Some(Some(affiliate))) => (offer, affiliate),
                (None, affiliate) => {
                    return named(None, affiliate.flatten(), ClickFallback::MissingOffer);
                }
                (Some(None), affiliate) => {
                    return named(None, affiliate.flatten(), ClickFallback::UnknownOffer);
                }
                (Some(offer), None) => return named(offer, None, ClickFallback::MissingAffiliate),
                (Some(offer), Some(None)) => {
                    return named(offer, None, ClickFallback::UnknownAffiliate);
                }
            }
        }
    };
    let fallback = if params.too_many {
        Some(ClickFallback::TooManyParameters)
    } else if !offer.active {
        Some(ClickFallback::PausedOffer)
    } else if offer.expires_ms.is_some_and(|expires| now_ms >= expires) {
        Some(ClickFallback::ExpiredOffer)
    } else if offer.redirects_when_full && is_full(offer) {
        Some(ClickFallback::CappedOffer)
    } else if !affiliate.active {
        Some(ClickFallback::BlockedAffiliate)
    } else {
        None
    };
    Choice { offer: Some(offer), affiliate: Some(affiliate), fallback }
}
