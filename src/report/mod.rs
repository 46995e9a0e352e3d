//! Reports: clicks, conversions and money by time, offer, affiliate and more, from the store's
//! sums. Everything here blocks.

mod buckets;
mod groups;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

pub use buckets::{day_begins, quarter_at};

use jiff::tz::TimeZone;

use crate::limits::REPORT_ROWS_MAX;
use crate::model::dimension::Dimension;
use crate::model::ids::{AffiliateNumber, OfferNumber};
use crate::model::period::Quarter;
use crate::store::engine::EngineError;
use crate::store::keys::Numbered;
use crate::store::records::EventCounts;
use crate::store::{OpenError, Store, Sums, SumsError, View};
use groups::{Group, Groups, Sub};

/// What is wanted.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Of which time, its end excluded.
    pub quarters: Range<Quarter>,
    /// By what; the currency of conversions always counts, too.
    pub by: Vec<Dimension>,
    /// Only these.
    pub only: Only,
}

/// Filters; each narrows further.
#[derive(Clone, Debug, Default)]
pub struct Only {
    /// An offer.
    pub offer: Option<OfferNumber>,
    /// An affiliate.
    pub affiliate: Option<AffiliateNumber>,
    /// An advertiser.
    pub advertiser: Option<String>,
    /// An event; narrows conversions, not clicks.
    pub event: Option<String>,
    /// A value of `sub1`; empty for clicks without.
    pub sub1: Option<String>,
}

/// What a report is told of the network.
pub struct Context<'c> {
    /// Whose hours and days count.
    pub time_zone: &'c TimeZone,
    /// The currency of rows without conversions.
    pub base: [u8; 3],
    /// Whose offer it is.
    pub advertiser_of: &'c dyn Fn(OfferNumber) -> Option<Arc<str>>,
}

/// Sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Clicks that were redirected to an offer.
    pub clicks: i64,
    /// Clicks that went to a fallback.
    pub fallbacks: i64,
    /// Conversions in one currency.
    pub conversions: EventCounts<'static>,
}

/// A group's sums in one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What the group has in common, in the order of the question; `None` if it has no name.
    pub group: Vec<(Dimension, Option<String>)>,
    /// The sums. Clicks are those of the group, whatever the event and the currency.
    pub line: Line,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// By group and currency, ascending.
    pub rows: Vec<Row>,
    /// Of all of them, by currency.
    pub totals: Vec<Line>,
}

/// What was refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRow {
    /// As [`Row::group`].
    pub group: Vec<(Dimension, Option<String>)>,
    /// Whether clicks went to a fallback, or postbacks were refused.
    pub clicks: bool,
    /// The reason's word.
    pub reason: String,
    /// How many.
    pub count: i64,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The sums have no answer.
    #[error(transparent)]
    Sums(#[from] SumsError),
    /// It would be too long.
    #[error("the report has more than {REPORT_ROWS_MAX} rows; ask for less time, or group by less")]
    TooManyRows,
}

impl From<EngineError> for ReportError {
    fn from(error: EngineError) -> Self {
        Self::Sums(error.into())
    }
}

impl From<OpenError> for ReportError {
    fn from(error: OpenError) -> Self {
        Self::Sums(error.into())
    }
}

/// Makes a report, exact to the last commit. Waits for counters that are behind, until `until`.
///
/// # Errors
/// When it would be too long, the store cannot be read, or the counters stay behind.
pub fn report(
    store: &Store,
    question: &Question,
    context: &Context<'_>,
    until: Instant,
) -> Result<Report, ReportError> {
    let groups = grouped(store, until, |sums| {
        let mut groups = Groups::new(question, context);
        groups.add_sums(sums)?;
        Ok(groups)
    })?;
    let names = Names::of(&store.view(), groups.keys())?;
    let totals = groups.totals(context.base);
    let mut rows = Vec::new();
    for (group, line) in groups.into_lines(context.base)? {
        let mut named = names.name(&group, question);
        if let Some(event) = named.iter_mut().find(|(by, _)| *by == Dimension::Event) {
            let id = &line.conversions.event;
            event.1 = (!id.is_empty()).then(|| id.to_string());
        }
        rows.push((group, Row { group: named, line }));
    }
    rows.sort_by(|(one, row), (other, its)| {
        let currency = |row: &Row| row.line.conversions.currency;
        order((one, &row.group), (other, &its.group)).then(currency(row).cmp(&currency(its)))
    });
    Ok(Report { rows: rows.into_iter().map(|(_, row)| row).collect(), totals })
}

/// What a group's members are called.
type Named = [(Dimension, Option<String>)];

/// Groups ascend by what they are called, hours by when they begin.
fn order(one: (&Group, &Named), other: (&Group, &Named)) -> Ordering {
    let members = one.1.iter().zip(other.1).map(|((by, name), (_, its))| match by {
        Dimension::Hour => one.0.hour.cmp(&other.0.hour),
        _ => name.cmp(its),
    });
    members.fold(Ordering::Equal, Ordering::then)
}

/// Makes a report of refused postbacks, and of clicks that went to a fallback, by reason.
///
/// # Errors
/// As [`report`].
pub fn refusals(
    store: &Store,
    question: &Question,
    context: &Context<'_>,
    until: Instant,
) -> Result<Vec<RefusedRow>, ReportError> {
    let (clicks, postbacks) = grouped(store, until, |sums| {
        let mut clicks = Groups::new(question, context);
        clicks.add_sums(sums)?;
        let mut postbacks = Groups::new(question, context);
        postbacks.add_refused(sums)?;
        Ok((clicks, postbacks))
    })?;
    let names = Names::of(&store.view(), clicks.keys().chain(postbacks.keys()))?;
    let mut rows = Vec::new();
    for (of_clicks, groups) in [(true, clicks), (false, postbacks)] {
        for (group, counts) in groups.into_counts() {
            let named = names.name(&group, question);
            let of_reason = |(reason, count): (String, i64)| {
                let row = RefusedRow { group: named.clone(), clicks: of_clicks, reason, count };
                (group.clone(), row)
            };
            let fallen = counts.fallbacks.into_iter().filter(|fallback| fallback.clicks != 0);
            rows.extend(fallen.map(|it| of_reason((it.reason.into_owned(), it.clicks))));
        }
    }
    if rows.len() > REPORT_ROWS_MAX {
        return Err(ReportError::TooManyRows);
    }
    rows.sort_by(|(one, row), (other, its)| {
        let by_reason = (!row.clicks, &row.reason).cmp(&(!its.clicks, &its.reason));
        order((one, &row.group), (other, &its.group)).then(by_reason)
    });
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// Shows the sums to `look`, as soon as little enough is to be added to them.
fn grouped<T>(
    store: &Store,
    until: Instant,
    look: impl Fn(&Sums<'_>) -> Result<T, ReportError>,
) -> Result<T, ReportError> {
    loop {
        let sums = store.sums_by(until)?;
        match look(&sums) {
            Err(ReportError::Sums(SumsError::Behind)) => {
                drop(sums);
                store.catch_up(until)?;
            }
            looked => return looked,
        }
    }
}

/// The IDs of offers and affiliates that a report names.
struct Names {
    offers: HashMap<u32, Option<String>>,
    affiliates: HashMap<u32, Option<String>>,
}

impl Names {
    fn of<'g>(
        view: &View<'_>,
        groups: impl Iterator<Item = &'g Group>,
    ) -> Result<Self, EngineError> {
        let mut names = Self { offers: HashMap::new(), affiliates: HashMap::new() };
        for group in groups {
            names.offers.extend(group.offer.map(|number| (number.get(), None)));
            names.affiliates.extend(group.affiliate.map(|number| (number.get(), None)));
        }
        view.names(Numbered::Offer, &mut names.offers)?;
        view.names(Numbered::Affiliate, &mut names.affiliates)?;
        Ok(names)
    }

    fn name(&self, group: &Group, question: &Question) -> Vec<(Dimension, Option<String>)> {
        let name = |by: Dimension| match by {
            Dimension::Hour => group.hour.map(|hour| hour.to_string()),
            Dimension::Day => group.day.map(|day| day.to_string()),
            Dimension::Offer => self.offers.get(&group.offer?.get())?.clone(),
            Dimension::Affiliate => self.affiliates.get(&group.affiliate?.get())?.clone(),
            Dimension::Advertiser => group.advertiser.as_deref().map(str::to_owned),
            Dimension::Event => None,
            Dimension::Sub1 => group.sub1.as_ref().map(Sub::to_string),
        };
        question.by.iter().map(|by| (*by, name(*by))).collect()
    }
}
