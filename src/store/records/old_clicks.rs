//! The click record as it was written before version 3.

use serde::Deserialize;

use super::{ClickRecord, RecordError, SUBS, StoredIp, behind, read};

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

/// Reads version 1 behind its version byte: without country and flags.
pub(super) fn decode_v1(bytes: &[u8]) -> Result<ClickRecord<'_>, RecordError> {
    first(bytes).map(|(record, _)| record)
}

/// Reads version 2 behind its version byte: version 1, and then the country.
pub(super) fn decode_v2(bytes: &[u8]) -> Result<ClickRecord<'_>, RecordError> {
    let (record, rest) = first(bytes)?;
    Ok(ClickRecord { country: read(rest)?, ..record })
}

fn first(bytes: &[u8]) -> Result<(ClickRecord<'_>, &[u8]), RecordError> {
    let (old, rest): (ClickV1<'_>, _) = behind(bytes)?;
    let record = ClickRecord {
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
    };
    Ok((record, rest))
}
