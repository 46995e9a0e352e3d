//! Version 1 of the click record: without `country`.

use serde::Deserialize;

use super::{ClickRecord, RecordError, SUBS, StoredIp, read};

pub(super) const VERSION: u8 = 1;

#[derive(Deserialize)]
struct ClickV1<'a> {
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
}

/// Reads what follows the version byte.
pub(super) fn decode(bytes: &[u8]) -> Result<ClickRecord<'_>, RecordError> {
    let old: ClickV1<'_> = read(bytes)?;
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
        country: None,
        flags: 0,
    })
}
