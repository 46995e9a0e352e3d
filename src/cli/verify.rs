//! `verify`: looks through a store, or has a running server do so.

use serde_json::Value;

use super::ledger::{Source, StoreArguments};
use super::out::{Ended, failed, say};
use super::{EXIT_FAILED, EXIT_OK};
use crate::verify::verify;

/// Looks through a store, prints what is broken; succeeds if nothing is.
pub fn run(arguments: &StoreArguments) -> Result<u8, Ended> {
    let report = match arguments.open()? {
        Source::Archive(archive) => {
            let report = verify(&archive.view()).map_err(failed)?;
            serde_json::to_value(report).map_err(failed)?
        }
        Source::Server(server) => server.work("verify", None)?,
    };
    Ok(if print(&report)? { EXIT_OK } else { EXIT_FAILED })
}

/// Prints a report; whether it says that the store is sound.
///
/// # Errors
/// The exit code, if it is no report.
pub(super) fn print(report: &Value) -> Result<bool, Ended> {
    // Only a report that says so itself proves a store sound.
    let broken = report["broken"].as_array().ok_or_else(|| failed("the answer is no report"))?;
    let counted = report["checked"].as_object().into_iter().flatten();
    let checked: Vec<_> = counted.map(|(what, rows)| format!("{what} {rows}")).collect();
    say!("checked: {}", checked.join(", "));
    say!("unfiled: {}, expired: {}", report["unfiled"], report["expired"]);
    for record in broken {
        let word = |name: &str| record[name].as_str().unwrap_or_default();
        say!("broken: {} {}: {}", word("table"), word("key"), word("fault"));
    }
    if broken.is_empty() {
        say!("sound");
        return Ok(true);
    }
    let all = broken.len() as u64 + report["left_out"].as_u64().unwrap_or_default();
    say!("{all} faults");
    Ok(false)
}
