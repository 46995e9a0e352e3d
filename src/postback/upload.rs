//! News of known conversions from the network itself: by the admin API, many at once.

use std::borrow::Cow;

use super::answer::Answer;
use super::decide::Refused;
use super::flow::Postbacks;
use super::hints;
use super::price::Said;
use super::timestamp;
use super::transition::{Heard, Speaker, changed, older_than};
use super::update::{current, read};
use crate::catalog::Catalog;
use crate::click_id::RecordId;
use crate::dedup::{Changing, Claim, ClaimSet, Original, Receipt};
use crate::limits::TXN_ID_BYTES_MAX;
use crate::model::currency::Currency;
use crate::model::ids::ID_BYTES_MAX;
use crate::model::money::Micros;
use crate::model::reasons::{BY_UPLOAD, Refusal, Unavailability};
use crate::model::status::Status;

/// Which conversion is meant.
#[derive(Clone, Copy, Debug)]
pub enum ConversionName<'a> {
    /// By its ID.
    Conversion(&'a str),
    /// By what its advertiser calls it.
    Transaction {
        /// Advertiser's ID.
        advertiser: &'a str,
        /// Event's ID, or the advertiser's name for it.
        event: &'a str,
        /// Transaction ID.
        txn_id: &'a str,
    },
}

/// What is said of one conversion.
#[derive(Clone, Copy, Debug)]
pub struct News<'a> {
    /// Which.
    pub of: ConversionName<'a>,
    /// Its status: our word or its advertiser's.
    pub status: &'a str,
    /// Its amount, if another.
    pub amount: Option<&'a str>,
    /// The amount's currency; without it, the event's.
    pub currency: Option<&'a str>,
    /// When it happened, in any form that a postback may use.
    pub event_time: Option<&'a str>,
}

/// What news makes of a conversion.
pub enum Became {
    /// Another, whose change is on its way to the disk, and somebody has to flush it.
    Changed {
        /// The status that it had.
        before: Status,
        /// Hears when it is there.
        changing: Changing,
    },
    /// Nothing new; why, if that may not be what was meant.
    AsItWas(Option<Cow<'static, str>>),
}

impl Postbacks {
    /// Takes one piece of news: the conversion as it is then, and what becomes of it.
    ///
    /// # Errors
    /// Refused or unavailable.
    pub async fn hear(&self, news: &News<'_>, now_ms: u64) -> Result<(Original, Became), Answer> {
        let catalog = self.catalog.load_full();
        let unknown = || Answer::from(unknown(news.of, &catalog));
        let id = self.named(news.of, &catalog, now_ms).await?.ok_or_else(unknown)?;
        let (mine, stored) = self.hold(id, &catalog).await?.ok_or_else(unknown)?;
        let record = read(&stored)?;
        let advertiser = catalog.advertiser(record.advertiser);
        let word = news.status;
        let status = advertiser.map_or_else(|| Status::parse(word), |known| known.status(word));
        let heard = heard(news, status.ok_or(Refusal::BadStatus)?, now_ms)?;
        let Some(anew) = changed(&record, &heard, &catalog, &self.market)? else {
            let older = older_than(heard.said_ms, &record);
            let hint = older.map(|known_ms| hints::older(known_ms, None));
            return Ok((current(&stored, &record)?, Became::AsItWas(hint)));
        };
        if self.store.health().is_disk_full() {
            return Err(Answer::Unavailable(Unavailability::DiskFull));
        }
        let before = current(&stored, &record)?.status;
        let changing = self.change(mine, id, &record, &anew, None)?;
        Ok((current(&stored, &anew)?, Became::Changed { before, changing }))
    }

    async fn named(
        &self,
        name: ConversionName<'_>,
        catalog: &Catalog,
        now_ms: u64,
    ) -> Result<Option<RecordId>, Answer> {
        match name {
            ConversionName::Conversion(id) => Ok(RecordId::parse(id.as_bytes())),
            ConversionName::Transaction { advertiser, event, txn_id } => {
                if advertiser.len().max(event.len()) > ID_BYTES_MAX
                    || txn_id.len() > TXN_ID_BYTES_MAX
                {
                    return Ok(None);
                }
                let known = catalog.advertiser(advertiser);
                let meant = known.map_or(event, |known| known.event_name(event));
                // Whoever writes our names means them, whatever the advertiser calls so.
                for event in [event, meant] {
                    let claim = Claim::Transaction { advertiser, event, txn_id };
                    let (claims, now) = (ClaimSet::new(claim, None), Receipt::Now(now_ms));
                    if let Some(known) = self.dedup.find(&self.store, claims, now).await? {
                        return Ok(Some(known.conversion));
                    }
                }
                Ok(None)
            }
        }
    }
}

fn heard(news: &News<'_>, status: Status, now_ms: u64) -> Result<Heard<'static>, Refusal> {
    let amount = news.amount.map(|text| Micros::parse(text).map_err(|_| Refusal::BadAmount));
    let currency =
        news.currency.map(|text| Currency::parse(text).map_err(|_| Refusal::BadCurrency));
    let (amount, currency) = (amount.transpose()?, currency.transpose()?);
    let time_ms =
        news.event_time.map(|text| timestamp::parse(text, now_ms).ok_or(Refusal::BadTimestamp));
    let time_ms = time_ms.transpose()?;
    Ok(Heard {
        status,
        said: Said { amount, currency, ..Said::default() },
        said_ms: time_ms,
        now_ms,
        by: Speaker::Network,
        reason: BY_UPLOAD,
    })
}

/// What of a conversion's name is not known. One whose advertiser or event has left the catalog may
/// be, so this is asked of those only that are not found.
fn unknown(name: ConversionName<'_>, catalog: &Catalog) -> Refused {
    if let ConversionName::Transaction { advertiser, event, .. } = name {
        let Some(known) = catalog.advertiser(advertiser) else {
            let hint =
                "no advertiser of this name is in the catalog, and no conversion of it known";
            return Refused::with(Refusal::UnknownAdvertiser, hint);
        };
        if [event, known.event_name(event)].iter().all(|event| !catalog.has_event(&known.id, event))
        {
            let hint = "none of the advertiser's offers has an event of this name, and no conversion of it is known";
            return Refused::with(Refusal::UnknownEvent, hint);
        }
    }
    Refused::with(Refusal::UnknownConversion, "no conversion of this name is known")
}
