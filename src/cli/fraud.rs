//! `fraud`: what a running server's fraud rules have hit, as a table.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::out::{Ended, failed, say};
use super::server::{ServerArguments, given};
use super::{EXIT_FAILED, EXIT_OK};
use crate::model::currency::Currency;
use crate::model::ids::is_id;
use crate::model::money::{Micros, Sum};
use crate::model::period::named_moment;

/// What has become of what a rule has hit, in the order of the table.
const OUTCOMES: [&str; 4] = ["would_reject", "rejected", "reinstated", "confirmed"];
/// Columns whose values are numbers.
const NUMBERS_FROM: usize = 4;

/// Whose conversions, and of which time.
#[derive(clap::Args)]
pub struct FraudArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// Reported at or after this time: a date, which begins in UTC, or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = named_moment)]
    from: Option<Timestamp>,
    /// Reported before this time.
    #[arg(long, value_name = "TIME", value_parser = named_moment)]
    to: Option<Timestamp>,
    /// Only this offer.
    #[arg(long, value_name = "ID", value_parser = id)]
    offer: Option<String>,
    /// Only this affiliate.
    #[arg(long, value_name = "ID", value_parser = id)]
    affiliate: Option<String>,
}

pub(super) fn id(text: &str) -> Result<String, String> {
    if is_id(text) { Ok(text.to_owned()) } else { Err("not an ID of the catalog".to_owned()) }
}

/// Conversions, revenue and payout.
#[derive(Clone, Copy, Default)]
struct Worth {
    conversions: u64,
    revenue: Sum,
    payout: Sum,
}

/// What the pages of a report add up to: by rule (empty: any), offer, currency and outcome.
#[derive(Default)]
struct Table {
    conversions: u64,
    left_out: u64,
    rows: BTreeMap<(String, String, String, usize), Worth>,
}

/// Prints the report.
pub fn run(arguments: &FraudArguments) -> Result<u8, Ended> {
    let asked = given([
        ("from", arguments.from.map(|time| time.to_string())),
        ("to", arguments.to.map(|time| time.to_string())),
        ("offer", arguments.offer.clone()),
        ("affiliate", arguments.affiliate.clone()),
    ]);
    let mut table = Table::default();
    arguments.server.server()?.each_page(&format!("fraud?{asked}"), |page| {
        table.add(page).ok_or_else(|| failed("the answer is no report"))
    })?;
    table.print();
    if table.left_out > 0 {
        eprintln!("not in the table: {}; ask for one offer", table.left_out);
        return Ok(EXIT_FAILED);
    }
    Ok(EXIT_OK)
}

impl Table {
    /// Adds a page; `None` if it is none.
    fn add(&mut self, page: &Value) -> Option<()> {
        self.conversions += page["conversions"].as_u64()?;
        self.left_out += page["left_out"].as_u64()?;
        for row in page["rules"].as_array()?.iter().chain(page["totals"].as_array()?) {
            let word = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            for (place, outcome) in OUTCOMES.iter().enumerate() {
                let (found, key) =
                    (&row[*outcome], (word("rule"), word("offer"), word("currency")));
                let conversions = found["conversions"].as_u64()?;
                if conversions > 0 {
                    let worth = self.rows.entry((key.0, key.1, key.2, place)).or_default();
                    worth.conversions += conversions;
                    worth.revenue.add(Micros::parse(found["revenue"].as_str()?).ok()?);
                    worth.payout.add(Micros::parse(found["payout"].as_str()?).ok()?);
                }
            }
        }
        Some(())
    }

    fn print(&self) {
        say!("{} conversions looked at", self.conversions);
        let titles = ["rule", "offer", "currency", "outcome", "conversions", "revenue", "payout"];
        let mut lines = vec![titles.map(str::to_owned)];
        for ((rule, offer, currency, outcome), worth) in &self.rows {
            let known = Currency::parse(currency).unwrap_or(Currency::USD);
            let or =
                |text: &str, other: &str| if text.is_empty() { other } else { text }.to_owned();
            lines.push([
                or(rule, "any"),
                or(offer, "-"),
                currency.clone(),
                OUTCOMES[*outcome].to_owned(),
                worth.conversions.to_string(),
                worth.revenue.display(known).to_string(),
                worth.payout.display(known).to_string(),
            ]);
        }
        let widths: Vec<_> = (0..titles.len())
            .map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or_default())
            .collect();
        for line in &lines {
            let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column < NUMBERS_FROM {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            });
            say!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
    }
}
