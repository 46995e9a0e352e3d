use std::borrow::Cow;

use serde::Deserialize;

use super::{ChangeRecord, Contribution, RecordError, read};

pub const VERSION: u8 = 1;

/// As [`Contribution`], without what caps count.
#[derive(Deserialize)]
struct ContributionV1<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    currency: [u8; 3],
    standing: u8,
    revenue: i64,
    payout: i64,
}

#[derive(Deserialize)]
struct ChangeV1<'a> {
    click: [u8; 16],
    #[serde(borrow)]
    before: Option<ContributionV1<'a>>,
    #[serde(borrow)]
    after: ContributionV1<'a>,
}

impl<'a> From<ContributionV1<'a>> for Contribution<'a> {
    fn from(old: ContributionV1<'a>) -> Self {
        let ContributionV1 { event, currency, standing, revenue, payout } = old;
        Self { event, currency, standing, revenue, payout, in_caps: None }
    }
}

pub fn decode(bytes: &[u8]) -> Result<ChangeRecord<'_>, RecordError> {
    let ChangeV1 { click, before, after } = read(bytes)?;
    Ok(ChangeRecord { click, before: before.map(Contribution::from), after: after.into() })
}
