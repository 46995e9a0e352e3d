//! `report`: sums of a running server, by its admin API.

use super::EXIT_OK;
use super::out::{Ended, for_terminal, put, say};
use super::server::{ServerArguments, encoded, given};
use crate::admin::Call;

/// What `report` is told.
#[derive(clap::Args)]
pub struct ReportArguments {
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
pub fn run(arguments: &ReportArguments) -> Result<u8, Ended> {
    let what = if arguments.refusals { "reports/refusals" } else { "reports" };
    let asked = given([
        ("group_by", Some(arguments.group_by.clone())),
        ("from", arguments.from.clone()),
        ("to", arguments.to.clone()),
        ("offer", arguments.offer.clone()),
        ("affiliate", arguments.affiliate.clone()),
        ("advertiser", arguments.advertiser.clone()),
        ("event", arguments.event.clone()),
        ("sub1", arguments.sub1.clone()),
    ]);
    let path = format!("{what}?format={}{asked}", encoded(&arguments.format));
    let text = arguments.server.server()?.call(&path, &Call::default())?;
    let is_json = arguments.format == "json";
    let text = if is_json { for_terminal(&text) } else { text };
    put!("{text}");
    if !text.ends_with('\n') {
        say!();
    }
    Ok(EXIT_OK)
}
