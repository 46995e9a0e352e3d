//! `conversions status`: a file of statuses, by the admin API of a running server.

use std::path::PathBuf;

use serde_json::Value;

use super::out::{Ended, failed, put, read};
use super::server::ServerArguments;
use super::{EXIT_FAILED, EXIT_OK};
use crate::admin::Call;

/// What `conversions status` is told.
#[derive(clap::Args)]
pub struct StatusArguments {
    /// The file: NDJSON if its name ends in .ndjson or .jsonl, else CSV with a header. Columns:
    /// conversion_id, or advertiser, event and txn_id; status; amount, currency, event_time.
    file: PathBuf,
    #[command(flatten)]
    server: ServerArguments,
}

/// Sends the file and prints the server's line for each of its lines.
pub fn status(arguments: &StatusArguments) -> Result<u8, Ended> {
    let file = &arguments.file;
    let text = read(file)?;
    let is_json = file.extension().is_some_and(|kind| kind == "ndjson" || kind == "jsonl");
    let kind = if is_json { "application/x-ndjson" } else { "text/csv" };
    let call = Call { content: Some((kind, &text)), post: true, ..Call::default() };
    let lines = arguments.server.server()?.call("conversions/status", &call)?;
    put!("{lines}");
    if lines.is_empty() {
        return Err(failed(format!("{} has no line: no conversion was named", file.display())));
    }
    let is_taken = |line: &str| {
        let said: Value = serde_json::from_str(line).unwrap_or_default();
        matches!(said["result"].as_str(), Some("updated" | "duplicate"))
    };
    Ok(if lines.lines().all(is_taken) { EXIT_OK } else { EXIT_FAILED })
}
