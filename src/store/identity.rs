//! What a store knows of its own past.

use std::ops::ControlFlow;

use super::engine::{Batch, Direction, Engine, EngineError, Tier};
use super::keys::{self, RecordKey};
use super::rates::encode_to_price;
use super::schema::Table;
use super::{FORMAT_VERSION, OpenError, filing, own_ids, seals};
use crate::click_id::RecordId;
use crate::model::period::Day;

/// From this format on, `meta`'s `filed` says what it does today.
const FILED_SINCE_FORMAT: u32 = 4;
/// From this format on, a negative event's own ID is a claim of its own kind.
const OWN_IDS_SINCE_FORMAT: u32 = 4;
/// From this format on, no release seals without `meta`'s `unsealed`.
const UNSEALED_SINCE_FORMAT: u32 = 6;
/// From this format on, `meta` knows what is still to be priced; before, nobody knows.
const TO_PRICE_SINCE_FORMAT: u32 = 6;

/// What the store knows of its own past when a server opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// How often it has been opened for serving, this time included.
    pub starts: u64,
    /// The click ID key made at the first start.
    pub click_key: [u8; 32],
    /// When the newest click or conversion was minted, Unix milliseconds; 0 if there is none.
    pub newest_ms: u64,
    /// Index rows of all conversions below are filed: of all that were there.
    pub filed_below: RecordKey,
    /// The first day that may be posted to: none from it on is sealed.
    pub unsealed: Day,
}

/// Reads and advances what `meta` keeps; durable before it returns.
pub(super) fn identify(engine: &dyn Engine, fresh_key: [u8; 32]) -> Result<Identity, OpenError> {
    let format = meta::<4>(engine, keys::META_FORMAT, "format")?.map(u32::from_be_bytes);
    if let Some(found) = format.filter(|found| *found > FORMAT_VERSION) {
        return Err(OpenError::NewerFormat { found });
    }
    let starts = meta(engine, keys::META_STARTS, "starts")?.map_or(0, u64::from_be_bytes) + 1;
    let click_key = meta(engine, keys::META_CLICK_KEY, "click_key")?.unwrap_or(fresh_key);
    let newest_conversion = newest(engine, Table::Conversions)?;
    let newest_click = newest(engine, Table::Clicks)?;
    let newest_ms = newest_click.max(newest_conversion).map_or(0, |id| id.time_ms());
    let filed_below = newest_conversion.map_or(RecordKey::default(), keys::after);
    if format.is_some_and(|format| format < OWN_IDS_SINCE_FORMAT) {
        own_ids::set_apart(engine, &filed_below)?;
    }
    // Older formats have fewer rows. What is filed already is filed once more, the same.
    let filed = meta(engine, keys::META_FILED, "filed")?;
    let filed = filed.filter(|_| format >= Some(FILED_SINCE_FORMAT));
    filing::file(engine, filed.unwrap_or_default(), filed_below)?;
    // Builds of earlier formats may have sealed since it was written.
    let unsealed = match meta(engine, keys::META_UNSEALED, "unsealed")? {
        Some(kept) if format >= Some(UNSEALED_SINCE_FORMAT) => Day::new(u32::from_be_bytes(kept)),
        _ => seals::unsealed(engine)?,
    };
    let to_price = match format {
        Some(format) if format < TO_PRICE_SINCE_FORMAT => days_with_rates(engine)?,
        _ => Vec::new(),
    };
    let mut batch = Batch::default();
    let mut put = |key: &[u8], value: &[u8]| {
        batch.put(Table::Meta, key, |out| out.extend_from_slice(value));
    };
    put(keys::META_FORMAT, &FORMAT_VERSION.to_be_bytes());
    put(keys::META_STARTS, &starts.to_be_bytes());
    put(keys::META_CLICK_KEY, &click_key);
    put(keys::META_FILED, &filed_below);
    put(keys::META_UNSEALED, &seals::encoded(unsealed));
    if !to_price.is_empty() {
        put(&keys::to_price(0), &to_price);
    }
    engine.append(&batch)?;
    engine.sync()?;
    Ok(Identity { starts, click_key, newest_ms, filed_below, unsealed })
}

/// The days that have rates, as a row of what is to be priced.
fn days_with_rates(engine: &dyn Engine) -> Result<Vec<u8>, EngineError> {
    let (mut days, (from, to)) = (Vec::new(), keys::rates_range());
    engine.scan(Table::Catalog, &from, &to, Direction::Ascending, &mut |key, _| {
        encode_to_price(keys::rates_day(key), &mut days);
        ControlFlow::Continue(())
    })?;
    Ok(days)
}

pub(super) fn meta<const N: usize>(
    engine: &dyn Engine,
    key: &[u8],
    name: &'static str,
) -> Result<Option<[u8; N]>, OpenError> {
    let mut value = None;
    engine.get(Table::Meta, key, Tier::Disk, &mut |bytes| value = Some(bytes.try_into()))?;
    value.transpose().map_err(|_| OpenError::DamagedMeta(name))
}

/// The newest record of a table.
pub(super) fn newest(engine: &dyn Engine, table: Table) -> Result<Option<RecordId>, EngineError> {
    let (down, end) = (Direction::Descending, keys::KEY_END);
    Ok(engine.first(table, &[], &end, down, |key, _| keys::record(key))?.flatten())
}
