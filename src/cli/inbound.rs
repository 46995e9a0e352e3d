//! `trace`, `inbound` and `reprocess`: postbacks as a running server received them, by its admin API.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::fraud::id;
use super::out::{Ended, failed, for_terminal, say};
use super::server::{ServerArguments, encoded, given};
use super::{EXIT_FAILED, EXIT_OK};
use crate::model::period::named_moment;

/// What `trace` is told.
#[derive(clap::Args)]
pub struct TraceArguments {
    /// A click ID, a conversion ID, a txn_id or a customer's ID.
    id: String,
    #[command(flatten)]
    server: ServerArguments,
}

/// Of which time, and whose.
#[derive(clap::Args)]
pub struct InboundArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// Received at or after this time: a date, which begins in UTC, or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = named_moment)]
    from: Option<Timestamp>,
    /// Received before this time.
    #[arg(long, value_name = "TIME", value_parser = named_moment)]
    to: Option<Timestamp>,
    /// Only with this result: accepted, duplicate, updated or refused.
    #[arg(long, value_name = "WORD")]
    result: Option<String>,
    /// Only refused for this reason.
    #[arg(long, value_name = "WORD")]
    reason: Option<String>,
    /// Only of this advertiser.
    #[arg(long, value_name = "ID", value_parser = id)]
    advertiser: Option<String>,
    /// Only those that name this transaction, by the parameter names that their sender has today.
    #[arg(long, value_name = "ID")]
    txn_id: Option<String>,
    /// Only those that name this customer.
    #[arg(long, value_name = "ID")]
    customer_id: Option<String>,
    /// Only those that name this click: the text that was sent, genuine or not.
    #[arg(long, value_name = "ID")]
    click_id: Option<String>,
}

/// Which refused postbacks are judged again.
#[derive(clap::Args)]
pub struct ReprocessArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// Received at or after this time: a date, which begins in UTC, or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = named_moment)]
    from: Timestamp,
    /// Received before this time; now if absent.
    #[arg(long, value_name = "TIME", value_parser = named_moment)]
    to: Option<Timestamp>,
    /// Only those of this advertiser.
    #[arg(long, value_name = "ID", value_parser = id)]
    advertiser: Option<String>,
    /// Only those refused for this reason.
    #[arg(long, value_name = "WORD")]
    reason: Option<String>,
    /// For real; without it, the command says what would come of them, caps and tiers aside.
    #[arg(long)]
    apply: bool,
}

/// Prints all that is known by an ID.
pub fn trace(arguments: &TraceArguments) -> Result<u8, Ended> {
    let trace = arguments.server.server()?.ask(&format!("trace/{}", encoded(&arguments.id)))?;
    say!("{}", for_terminal(&serde_json::to_string_pretty(&trace).map_err(failed)?));
    Ok(EXIT_OK)
}

/// Prints postbacks as received.
pub fn list(arguments: &InboundArguments) -> Result<u8, Ended> {
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let asked = given([
        ("from", time(arguments.from)),
        ("to", time(arguments.to)),
        ("result", arguments.result.clone()),
        ("reason", arguments.reason.clone()),
        ("advertiser", arguments.advertiser.clone()),
        ("txn_id", arguments.txn_id.clone()),
        ("customer_id", arguments.customer_id.clone()),
        ("click_id", arguments.click_id.clone()),
    ]);
    arguments.server.server()?.each_page(&format!("inbound?limit=1000{asked}"), |page| {
        let items = page["items"].as_array().ok_or_else(|| failed("the answer is no page"))?;
        items.iter().for_each(|item| say!("{}", for_terminal(&item.to_string())));
        let damaged = page["damaged"].as_array().into_iter().flatten();
        damaged.for_each(|key| eprintln!("passed over, because it is damaged: inbound {key}"));
        Ok(())
    })?;
    Ok(EXIT_OK)
}

/// Has refused postbacks judged again, and prints what came of them.
pub fn reprocess(arguments: &ReprocessArguments) -> Result<u8, Ended> {
    let server = arguments.server.server()?;
    // The end is the same for all jobs, so that the last one ends.
    let to = arguments.to.unwrap_or_else(Timestamp::now);
    let mut asked = json!({
        "from": arguments.from.to_string(),
        "to": to.to_string(),
        "advertiser": arguments.advertiser,
        "reason": arguments.reason,
        "apply": arguments.apply,
    });
    let mut is_whole = true;
    loop {
        let result = server.work("reprocess", Some(&asked.to_string()))?;
        print(&result);
        let damaged = result["damaged"].as_u64().unwrap_or_default();
        if damaged > 0 {
            eprintln!("passed over, because they are damaged: {damaged} pages of the log");
            is_whole = false;
        }
        if let Some(why) = result["stopped"].as_str() {
            eprintln!("stopped: {why}; run it again to go on");
            return Ok(EXIT_FAILED);
        }
        if result["next_cursor"].is_null() {
            break;
        }
        say!("going on");
        asked["cursor"] = result["next_cursor"].clone();
    }
    if !arguments.apply {
        say!("nothing was changed, and caps and tiers were not looked at; --apply does it");
    }
    say!("none of them is judged by the fraud rule conversion_rate, or counts for it");
    Ok(if is_whole { EXIT_OK } else { EXIT_FAILED })
}

fn print(result: &Value) {
    say!("{} refused postbacks", result["postbacks"]);
    for what in ["accepted", "updated", "duplicate"] {
        say!("{what}: {}", result[what]);
    }
    for what in ["refused", "not_judged"] {
        let reasons = result[what].as_object().into_iter().flatten();
        reasons.for_each(|(reason, count)| say!("{what} {reason}: {count}"));
    }
    for sum in result["affiliates"].as_array().into_iter().flatten() {
        let word = |name: &str| sum[name].as_str().unwrap_or_default();
        let affiliate = if word("affiliate").is_empty() { "-" } else { word("affiliate") };
        say!(
            "affiliate {affiliate}: {} new conversions, revenue {} {currency} (approved {}), \
             payout {} {currency} (approved {})",
            sum["conversions"],
            word("revenue"),
            word("approved_revenue"),
            word("payout"),
            word("approved_payout"),
            currency = word("currency"),
        );
    }
}
