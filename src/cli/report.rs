//! `report`: sums of a running server, by its admin API.

use serde_json::Value;

use super::EXIT_OK;
use super::catalog::{Ended, ServerArguments, client, failed};
use super::ledger::succeeded;
use super::out::{put, say};
use crate::admin::{AdminClient, Call};
use crate::query::encode_into;

/// What `report` is told.
#[derive(clap::Args)]
pub struct ReportArguments {
    /// The admin listener, http://HOST:PORT or https://HOST:PORT.
    #[arg(long, value_name = "URL")]
    admin: String,
    #[command(flatten)]
    server: ServerArguments,
    /// By what, separated by commas: hour, day, offer, affiliate, advertiser, event, sub1.
    #[arg(long, value_name = "WORDS", default_value = "day")]
    group_by: String,
    /// From the beginning of this day, or from this time on; today if absent.
    #[arg(long, value_name = "DAY|TIME")]
    from: Option<String>,
    /// Up to this day or time, which is not part of it; tomorrow if absent.
    #[arg(long, value_name = "DAY|TIME")]
    to: Option<String>,
    /// Only this offer.
    #[arg(long, value_name = "ID")]
    offer: Option<String>,
    /// Only this affiliate.
    #[arg(long, value_name = "ID")]
    affiliate: Option<String>,
    /// Only this advertiser.
    #[arg(long, value_name = "ID")]
    advertiser: Option<String>,
    /// Only conversions of this event.
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// Only clicks with this sub1; empty for those without.
    #[arg(long, value_name = "VALUE")]
    sub1: Option<String>,
    /// csv or json.
    #[arg(long, default_value = "csv")]
    format: String,
    /// What was refused, by reason, in place of clicks, conversions and money.
    #[arg(long)]
    refusals: bool,
}

/// Prints a report.
pub fn run(arguments: &ReportArguments) -> u8 {
    printed(arguments).unwrap_or_else(|code| code)
}

fn printed(arguments: &ReportArguments) -> Result<u8, u8> {
    let client = client(&arguments.admin, &arguments.server)?;
    let answer = client.call(&arguments.call(), &Call::default()).map_err(failed)?;
    let text = succeeded(answer)?.text;
    put!("{text}");
    if !text.ends_with('\n') {
        say!();
    }
    Ok(EXIT_OK)
}

impl ReportArguments {
    fn call(&self) -> String {
        let what = if self.refusals { "reports/refusals" } else { "reports" };
        let mut call = format!("{what}?format={}", encoded(&self.format));
        for (name, value) in [
            ("group_by", Some(&self.group_by)),
            ("from", self.from.as_ref()),
            ("to", self.to.as_ref()),
            ("offer", self.offer.as_ref()),
            ("affiliate", self.affiliate.as_ref()),
            ("advertiser", self.advertiser.as_ref()),
            ("event", self.event.as_ref()),
            ("sub1", self.sub1.as_ref()),
        ] {
            if let Some(value) = value {
                call.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        call
    }
}

/// Asks a call of the API that answers in pages for all of them, and shows each to `visit`.
pub(super) fn each_page(
    client: &AdminClient,
    asked: &str,
    mut visit: impl FnMut(&Value) -> Result<(), Ended>,
) -> Result<(), Ended> {
    let mut cursor = String::new();
    loop {
        let path = format!("{asked}{cursor}");
        let answer = succeeded(client.call(&path, &Call::default()).map_err(failed)?)?;
        let page: Value = serde_json::from_str(&answer.text).map_err(failed)?;
        visit(&page)?;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(()),
        }
    }
}

pub(super) fn encoded(value: &str) -> String {
    let mut out = Vec::new();
    encode_into(value.as_bytes(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
