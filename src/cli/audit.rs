//! `audit`: what was changed at a running server, by whom.

use jiff::Timestamp;
use serde_json::Value;

use super::EXIT_OK;
use super::out::{Ended, say};
use super::server::{ServerArguments, given};
use crate::model::period::named_moment;

/// Which entries.
#[derive(clap::Args)]
pub struct AuditArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// At or after this time: a date, which begins in UTC, or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = named_moment)]
    from: Option<Timestamp>,
    /// Before this time.
    #[arg(long, value_name = "TIME", value_parser = named_moment)]
    to: Option<Timestamp>,
    /// Only by this token; or `file`, `local`.
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Only this kind of change.
    #[arg(long, value_name = "WORD")]
    action: Option<String>,
    /// Prints the entries as they are, a JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Prints the entries, oldest first.
pub fn run(arguments: &AuditArguments) -> Result<u8, Ended> {
    let asked = given([
        ("from", arguments.from.map(|time| time.to_string())),
        ("to", arguments.to.map(|time| time.to_string())),
        ("who", arguments.who.clone()),
        ("action", arguments.action.clone()),
    ]);
    arguments.server.server()?.each_page(&format!("audit?limit=1000{asked}"), |page| {
        for entry in page["items"].as_array().into_iter().flatten() {
            if arguments.json {
                say!("{entry}");
            } else {
                say!("{}", line(entry));
            }
        }
        Ok(())
    })?;
    Ok(EXIT_OK)
}

/// Time, who, what, of what; then the details, as JSON.
fn line(entry: &Value) -> String {
    let word = |name: &str| match entry[name].as_str() {
        None | Some("") => "-".to_owned(),
        Some(word) => word.escape_debug().to_string(),
    };
    let words = ["time", "who", "action", "subject"].map(word);
    format!("{}  {}", words.join("  "), entry["details"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_is_one_line() {
        let entry = json!({
            "time": "2026-11-25T10:00:00.000Z", "who": "ops", "action": "verify", "call": "x",
            "subject": "", "details": {"job_id": "1"},
        });
        assert_eq!(line(&entry), "2026-11-25T10:00:00.000Z  ops  verify  -  {\"job_id\":\"1\"}");
        let entry = json!({"who": "a\nb", "details": {}});
        assert_eq!(line(&entry), "-  a\\nb  -  -  {}");
    }
}
