//! Version 2 of the click record: without flags.

use serde::Deserialize;

use super::{ClickRecord, RecordError, SUBS, StoredIp, read};

pub(super) const VERSION: u8 = 2;

#[derive(Deserialize)]
struct ClickV2<'a> {
    #[serde(borrow)]
    subs: [&'a str; SUBS],
    #[serde(borrow)]
    passed: Vec<(&'a str, &'a str)>,
    ip: StoredIp,
    user_agent: &'a str,
    referrer: &'a str,
    gdpr: &'a str,
    gdpr_consent: &'a str,
    us_privacy: &'a str,
    fallback: &'a str,
    country: Option<[u8; 2]>,
}

/// Reads what follows the version byte.
pub(super) fn decode(bytes: &[u8]) -> Result<ClickRecord<'_>, RecordError> {
    let old: ClickV2<'_> = read(bytes)?;
    Ok(ClickRecord {
        subs: old.subs,
        passed: old.passed,
        ip: old.ip,
        user_agent: old.user_agent,
        referrer: old.referrer,
        gdpr: old.gdpr,
        gdpr_consent: old.gdpr_consent,
        us_privacy: old.us_privacy,
        fallback: old.fallback,
        country: old.country,
        flags: 0,
    })
}
