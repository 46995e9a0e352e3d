//! Rows of reports, as JSON and as CSV.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::currency::{Currency, code_text};
use crate::model::dimension::Dimension;
use crate::model::money::Sum;
use crate::model::status::Status;
use crate::report::{Line, RefusedRow, Row};

type Group = BTreeMap<&'static str, Option<String>>;

/// A group's sums in one currency.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReportRow)]
pub struct RowShape {
    /// By what the report is grouped. `null`: a click's event, an offer that a click did not name,
    /// an advertiser whose offer is not in the catalog any more. `sub1` is empty for clicks without
    /// one, and `(other)` for those that are not told apart.
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    group: Group,
    #[serde(flatten)]
    sums: Sums,
}

/// Sums in one currency.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReportSums)]
pub struct Sums {
    /// Of the amounts.
    currency: String,
    /// Redirected to an offer; of the group, whatever the event and the currency.
    clicks: i64,
    /// Clicks that went to a fallback; the same.
    fallbacks: i64,
    /// Pending and approved: those that count.
    conversions: i64,
    pending: i64,
    approved: i64,
    rejected: i64,
    reversed: i64,
    /// Events that took others back.
    negative: i64,
    /// Of those that count.
    revenue: String,
    payout: String,
    /// Revenue less payout.
    margin: String,
    pending_revenue: String,
    pending_payout: String,
    approved_revenue: String,
    approved_payout: String,
    rejected_revenue: String,
    rejected_payout: String,
    reversed_revenue: String,
    reversed_payout: String,
    /// Conversions that count, per click; `null` without clicks.
    cr: Option<String>,
    /// Payout per click.
    epc: Option<String>,
    /// Revenue per click.
    rpc: Option<String>,
}

/// What was refused for one reason.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RefusalsRow)]
pub struct RefusedShape {
    /// As in a report.
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    group: Group,
    /// `click`: went to a fallback; `postback`: was refused.
    what: &'static str,
    reason: String,
    count: i64,
}

impl RowShape {
    /// The shape of a row.
    pub fn of(row: &Row) -> Self {
        Self { group: group(&row.group), sums: Sums::of(&row.line) }
    }

    /// A table of such rows.
    pub fn csv(by: &[Dimension], rows: impl Iterator<Item = Self>) -> String {
        let mut out = header(by);
        out.push_str(Sums::COLUMNS);
        for row in rows {
            cells(&mut out, by, &row.group);
            row.sums.cells(&mut out);
        }
        out
    }
}

impl Sums {
    const COLUMNS: &str = "currency,clicks,fallbacks,conversions,pending,approved,rejected,reversed,\
        negative,revenue,payout,margin,pending_revenue,pending_payout,approved_revenue,\
        approved_payout,rejected_revenue,rejected_payout,reversed_revenue,reversed_payout,\
        cr,epc,rpc\n";

    /// The shape of sums.
    pub fn of(line: &Line) -> Self {
        let Line { clicks, fallbacks, conversions } = line;
        let tally = |status: Status| conversions.by_status[status.index()];
        let [pending, approved, rejected, reversed] =
            [Status::Pending, Status::Approved, Status::Rejected, Status::Reversed].map(tally);
        let currency = Currency::to_show(conversions.currency);
        let amount = |micros: i128| Sum::new(micros).display(currency).to_string();
        let counted = pending.conversions.wrapping_add(approved.conversions);
        let revenue = pending.revenue.wrapping_add(approved.revenue);
        let payout = pending.payout.wrapping_add(approved.payout);
        let per_click = |sum: i128| Sum::new(sum).per(*clicks);
        let money = |sum: Sum| sum.display(currency).to_string();
        Self {
            currency: code_text(conversions.currency),
            clicks: *clicks,
            fallbacks: *fallbacks,
            conversions: counted,
            pending: pending.conversions,
            approved: approved.conversions,
            rejected: rejected.conversions,
            reversed: reversed.conversions,
            negative: conversions.negative,
            revenue: amount(revenue),
            payout: amount(payout),
            margin: amount(revenue.wrapping_sub(payout)),
            pending_revenue: amount(pending.revenue),
            pending_payout: amount(pending.payout),
            approved_revenue: amount(approved.revenue),
            approved_payout: amount(approved.payout),
            rejected_revenue: amount(rejected.revenue),
            rejected_payout: amount(rejected.payout),
            reversed_revenue: amount(reversed.revenue),
            reversed_payout: amount(reversed.payout),
            cr: per_click(i128::from(counted) * 1_000_000).map(|cr| cr.plain().to_string()),
            epc: per_click(payout).map(money),
            rpc: per_click(revenue).map(money),
        }
    }

    fn cells(&self, out: &mut String) {
        let absent = |value: &Option<String>| value.clone().unwrap_or_default();
        let counts = [
            self.clicks,
            self.fallbacks,
            self.conversions,
            self.pending,
            self.approved,
            self.rejected,
            self.reversed,
            self.negative,
        ];
        let amounts = [
            &self.revenue,
            &self.payout,
            &self.margin,
            &self.pending_revenue,
            &self.pending_payout,
            &self.approved_revenue,
            &self.approved_payout,
            &self.rejected_revenue,
            &self.rejected_payout,
            &self.reversed_revenue,
            &self.reversed_payout,
        ];
        out.push_str(&self.currency);
        for count in counts {
            let _ = write!(out, ",{count}");
        }
        for amount in amounts {
            let _ = write!(out, ",{amount}");
        }
        let (cr, epc, rpc) = (absent(&self.cr), absent(&self.epc), absent(&self.rpc));
        let _ = writeln!(out, ",{cr},{epc},{rpc}");
    }
}

impl RefusedShape {
    /// The shape of a row.
    pub fn of(row: &RefusedRow) -> Self {
        let what = if row.clicks { "click" } else { "postback" };
        Self { group: group(&row.group), what, reason: row.reason.clone(), count: row.count }
    }

    /// A table of such rows.
    pub fn csv(by: &[Dimension], rows: impl Iterator<Item = Self>) -> String {
        let mut out = header(by);
        out.push_str("what,reason,count\n");
        for row in rows {
            cells(&mut out, by, &row.group);
            let _ = writeln!(out, "{},{},{}", row.what, row.reason, row.count);
        }
        out
    }
}

fn group(named: &[(Dimension, Option<String>)]) -> Group {
    named.iter().map(|(by, name)| (by.as_str(), name.clone())).collect()
}

fn header(by: &[Dimension]) -> String {
    by.iter().fold(String::new(), |header, by| header + by.as_str() + ",")
}

fn cells(out: &mut String, by: &[Dimension], group: &Group) {
    for by in by {
        let name = group.get(by.as_str()).and_then(Option::as_deref).unwrap_or_default();
        out.push_str(&cell(name, *by == Dimension::Sub1));
        out.push(',');
    }
}

/// A text as a cell.
fn cell(text: &str, visitors: bool) -> Cow<'_, str> {
    let text = if visitors { Cow::Owned(harmless(text)) } else { Cow::Borrowed(text) };
    if text.contains([',', '"', '\r', '\n', '\t']) {
        Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")))
    } else {
        text
    }
}

/// What a visitor chose must not be a formula where somebody opens the table: an apostrophe in front
/// makes it a text, and also where a cell begins for a spreadsheet that splits lines by semicolons,
/// to which quotes within one mean nothing. Nor may it speak to the terminal on which it is shown.
fn harmless(text: &str) -> String {
    let (mut harmless, mut begins) = (String::with_capacity(text.len()), true);
    for c in text.chars() {
        if begins && matches!(c, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n') {
            harmless.push('\'');
        }
        begins = matches!(c, ';' | '\t' | '\r' | '\n');
        harmless.push(if c.is_control() && !begins { '\u{fffd}' } else { c });
    }
    harmless
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::{EventCounts, Tally};

    #[test]
    fn what_visitors_chose_is_never_a_formula() {
        let check = |text: &str, expected: &str| assert_eq!(cell(text, true), expected, "{text:?}");
        check("plain", "plain");
        check("", "");
        check("=1+1", "'=1+1");
        check("@SUM(A1)", "'@SUM(A1)");
        check("-2", "'-2");
        check("+49", "'+49");
        check("\t=1", "\"'\t'=1\"");
        check("a;=1+1", "a;'=1+1");
        check("a;;@SUM(A1),b;-2;c", "\"a;;'@SUM(A1),b;'-2;c\"");
        check("a\n=1", "\"a\n'=1\"");
        check("a;b-c=d", "a;b-c=d");
        check("=HYPERLINK(\"x\",1)", "\"'=HYPERLINK(\"\"x\"\",1)\"");
        check("a,b", "\"a,b\"");
        check("a\nb", "\"a\nb\"");
        check("\x1b]0;x\x07\u{9b}1A", "\u{fffd}]0;x\u{fffd}\u{fffd}1A");
        check("\x1b,\t", "\"\u{fffd},\t\"");
        assert_eq!(cell("-offer", false), "-offer");
    }

    #[test]
    fn sums_of_what_counts_and_ratios_are_exact_decimals() {
        let tally = |conversions, revenue, payout| Tally { conversions, revenue, payout };
        let million = 1_000_000;
        let mut conversions = EventCounts { currency: *b"USD", ..EventCounts::default() };
        for status in Status::ALL {
            conversions.by_status[status.index()] = match status {
                Status::Pending => tally(1, 20 * million, 15 * million),
                Status::Approved => tally(2, 40 * million, 50 * million),
                Status::Rejected => tally(4, 1, 1),
                Status::Reversed => tally(8, 2, 2),
            };
        }
        let shape = Sums::of(&Line { clicks: 7, fallbacks: 1, conversions: conversions.clone() });
        let money = (&*shape.revenue, &*shape.payout, &*shape.margin);
        assert_eq!((shape.conversions, money), (3, ("60.00", "65.00", "-5.00")));
        let ratios = (shape.cr.as_deref(), shape.epc.as_deref(), shape.rpc.as_deref());
        assert_eq!(ratios, (Some("0.428571"), Some("9.285714"), Some("8.571429")));
        assert_eq!((shape.rejected, &*shape.reversed_payout), (4, "0.000002"));
        let shape = Sums::of(&Line { clicks: 0, fallbacks: 0, conversions });
        assert_eq!((shape.cr, shape.epc, shape.rpc), (None, None, None));
        let columns = Sums::COLUMNS.split(',').count();
        let line = Line { clicks: 1, fallbacks: 0, conversions: EventCounts::default() };
        let mut cells = String::new();
        Sums::of(&line).cells(&mut cells);
        assert_eq!(cells.split(',').count(), columns);
    }
}
