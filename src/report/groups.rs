//! Sums added up by group.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use jiff::civil::Date;

use super::buckets::{Buckets, Hour};
use super::{Context, Line, Question, ReportError};
use crate::limits::REPORT_ROWS_MAX;
use crate::model::dimension::Dimension;
use crate::model::ids::{AffiliateNumber, OfferNumber};
use crate::store::counters::Sign;
use crate::store::keys::Place;
use crate::store::records::{Counts, EventCounts};
use crate::store::{Part, Sums, Wanted};

/// What clicks of many values of `sub1` stand under.
const OTHER: &str = "(other)";

/// A value of `sub1` as a report tells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sub {
    /// Of clicks without one.
    None,
    /// It is.
    Named(Arc<str>),
    /// One of those that are counted together.
    Other,
}

impl fmt::Display for Sub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Sub {
    fn as_str(&self) -> &str {
        match self {
            Self::None => "",
            Self::Named(value) => value,
            Self::Other => OTHER,
        }
    }
}

/// What is added up together; `None` where the question does not ask, or where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    pub hour: Option<Hour>,
    pub day: Option<Date>,
    pub offer: Option<OfferNumber>,
    pub affiliate: Option<AffiliateNumber>,
    pub advertiser: Option<Arc<str>>,
    pub sub1: Option<Sub>,
}

/// The groups of a question and what they come to.
pub struct Groups<'q> {
    question: &'q Question,
    context: &'q Context<'q>,
    buckets: Buckets<'q>,
    groups: HashMap<Group, Counts<'static>>,
    /// Of the last offer that was looked up.
    advertiser: Option<(OfferNumber, Option<Arc<str>>)>,
}

impl<'q> Groups<'q> {
    pub fn new(question: &'q Question, context: &'q Context<'q>) -> Self {
        let buckets = Buckets::new(context.time_zone);
        Self { question, context, buckets, groups: HashMap::new(), advertiser: None }
    }

    /// Adds the sums of clicks and conversions.
    ///
    /// # Errors
    /// When there are too many groups, or the sums have no answer.
    pub fn add_sums(&mut self, sums: &Sums<'_>) -> Result<(), ReportError> {
        let Question { quarters, only, .. } = self.question;
        let subs = self.asks(Dimension::Sub1) || only.sub1.is_some();
        let wanted = Wanted { quarters: quarters.clone(), subs };
        let subs_from = sums.subs_from();
        sums.each(&wanted, &mut |place, part, counts| {
            match part {
                _ if !subs => self.add(place, None, counts, Sign::Plus),
                // Its values of `sub1` are gone.
                Part::Whole if place.quarter < subs_from => {
                    self.add(place, Some(Sub::Other), counts, Sign::Plus);
                }
                Part::Sub(_) if place.quarter < subs_from => {}
                Part::Whole => self.add(place, Some(Sub::None), counts, Sign::Plus),
                Part::Sub(sub) => {
                    let sub = sub.map_or(Sub::Other, |sub| Sub::Named(sub.into()));
                    self.add(place, Some(sub), counts, Sign::Plus);
                    self.add(place, Some(Sub::None), counts, Sign::Minus);
                }
            }
            self.room()
        })?;
        self.checked()
    }

    /// Adds refused postbacks, as [`Counts::fallbacks`].
    ///
    /// # Errors
    /// As [`Groups::add_sums`].
    pub fn add_refused(&mut self, sums: &Sums<'_>) -> Result<(), ReportError> {
        let quarters = self.question.quarters.clone();
        sums.refused(&quarters, &mut |place, refused| {
            let mut counts = Counts::default();
            for one in &refused.refused {
                counts.fallen(one.reason, i64::try_from(one.postbacks).unwrap_or(i64::MAX));
            }
            self.add(place, None, &counts, Sign::Plus);
            self.room()
        })?;
        self.checked()
    }

    fn is_full(&self) -> bool {
        self.groups.len() > REPORT_ROWS_MAX
    }

    fn room(&self) -> ControlFlow<()> {
        if self.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn checked(&self) -> Result<(), ReportError> {
        if self.is_full() { Err(ReportError::TooManyRows) } else { Ok(()) }
    }

    fn asks(&self, by: Dimension) -> bool {
        self.question.by.contains(&by)
    }

    fn advertiser(&mut self, offer: OfferNumber) -> Option<Arc<str>> {
        match &self.advertiser {
            Some((last, advertiser)) if *last == offer => advertiser.clone(),
            _ => {
                let advertiser = (self.context.advertiser_of)(offer);
                self.advertiser = Some((offer, advertiser.clone()));
                advertiser
            }
        }
    }

    fn add(&mut self, place: Place, sub: Option<Sub>, counts: &Counts<'_>, sign: Sign) {
        let only = &self.question.only;
        let is = |wanted: Option<u32>, number: u32| wanted.is_none_or(|wanted| wanted == number);
        let wanted_sub = only.sub1.as_deref().zip(sub.as_ref());
        if !is(only.offer.map(OfferNumber::get), place.offer.get())
            || !is(only.affiliate.map(AffiliateNumber::get), place.affiliate.get())
            || wanted_sub.is_some_and(|(wanted, sub)| wanted != sub.as_str())
        {
            return;
        }
        let mut advertiser = None;
        if self.asks(Dimension::Advertiser) || only.advertiser.is_some() {
            advertiser = self.advertiser(place.offer);
            let wanted = self.question.only.advertiser.as_deref();
            if wanted.is_some_and(|wanted| Some(wanted) != advertiser.as_deref()) {
                return;
            }
        }
        let group = self.group(place, advertiser, sub);
        let by_event = self.asks(Dimension::Event);
        let only_event = self.question.only.event.as_deref();
        let sums = self.groups.entry(group).or_default();
        sums.clicks = sums.clicks.wrapping_add(sign.of(counts.clicks));
        for fallback in &counts.fallbacks {
            sums.fallen(&fallback.reason, sign.of(fallback.clicks));
        }
        for event in &counts.events {
            if only_event.is_none_or(|only| only == event.event) {
                let name = if by_event { &*event.event } else { "" };
                sums.event(name, event.currency).add(event, sign);
            }
        }
    }

    fn group(&mut self, place: Place, advertiser: Option<Arc<str>>, sub: Option<Sub>) -> Group {
        let (by_hour, by_day) = (self.asks(Dimension::Hour), self.asks(Dimension::Day));
        let mut group = Group::default();
        if by_hour || by_day {
            let (hour, day) = self.buckets.of(place.quarter);
            group.hour = by_hour.then_some(hour);
            group.day = by_day.then_some(day);
        }
        group.offer = self.asks(Dimension::Offer).then_some(place.offer);
        group.affiliate = self.asks(Dimension::Affiliate).then_some(place.affiliate);
        group.advertiser = advertiser.filter(|_| self.asks(Dimension::Advertiser));
        group.sub1 = sub.filter(|_| self.asks(Dimension::Sub1));
        group
    }

    /// The groups.
    pub fn keys(&self) -> impl Iterator<Item = &Group> {
        self.groups.keys()
    }

    /// What each group comes to.
    pub fn into_counts(self) -> impl Iterator<Item = (Group, Counts<'static>)> {
        self.groups.into_iter()
    }

    /// All groups together, by currency.
    pub fn totals(&self, base: [u8; 3]) -> Vec<Line> {
        let (mut clicks, mut fallbacks) = (0_i64, 0_i64);
        let mut conversions: BTreeMap<[u8; 3], EventCounts<'static>> = BTreeMap::new();
        for counts in self.groups.values() {
            clicks = clicks.wrapping_add(counts.clicks);
            fallbacks = fallbacks.wrapping_add(fallen(counts));
            for event in counts.events.iter().filter(|event| !event.is_zero()) {
                let currency = event.currency;
                let none = || EventCounts { currency, ..EventCounts::default() };
                conversions.entry(currency).or_insert_with(none).add(event, Sign::Plus);
            }
        }
        if conversions.is_empty() {
            conversions.insert(base, EventCounts { currency: base, ..EventCounts::default() });
        }
        let line = |conversions| Line { clicks, fallbacks, conversions };
        conversions.into_values().map(line).collect()
    }

    /// A line for each group, event that is asked for, and currency.
    ///
    /// # Errors
    /// When there are too many.
    pub fn into_lines(self, base: [u8; 3]) -> Result<Vec<(Group, Line)>, ReportError> {
        let mut lines = Vec::with_capacity(self.groups.len());
        for (group, counts) in self.groups {
            let (clicks, fallbacks) = (counts.clicks, fallen(&counts));
            let before = lines.len();
            for conversions in counts.events.into_iter().filter(|event| !event.is_zero()) {
                lines.push((group.clone(), Line { clicks, fallbacks, conversions }));
            }
            if lines.len() == before && (clicks, fallbacks) != (0, 0) {
                let event = Cow::Borrowed("");
                let conversions = EventCounts { event, currency: base, ..EventCounts::default() };
                lines.push((group, Line { clicks, fallbacks, conversions }));
            }
            if lines.len() > REPORT_ROWS_MAX {
                return Err(ReportError::TooManyRows);
            }
        }
        Ok(lines)
    }
}

fn fallen(counts: &Counts<'_>) -> i64 {
    counts.fallbacks.iter().fold(0, |sum, fallback| sum.wrapping_add(fallback.clicks))
}
