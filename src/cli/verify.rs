//! `verify`: looks through a store, or has a running server do so.

use std::time::Duration;

use serde_json::Value;

use super::catalog::failed;
use super::ledger::{Source, StoreArguments, succeeded};
use super::out::say;
use super::{EXIT_FAILED, EXIT_OK};
use crate::admin::{AdminClient, Call};
use crate::verify::verify;

/// How often a server is asked whether it is done.
const POLL_EVERY: Duration = Duration::from_millis(500);

/// Looks through a store, prints what is broken; succeeds if nothing is.
pub fn run(arguments: &StoreArguments) -> u8 {
    verified(arguments).unwrap_or_else(|code| code)
}

fn verified(arguments: &StoreArguments) -> Result<u8, u8> {
    let report = match arguments.open()? {
        Source::Archive(archive) => {
            let report = verify(&archive.view()).map_err(failed)?;
            serde_json::to_value(report).map_err(failed)?
        }
        Source::Server(client) => by_server(&client, "verify")?,
    };
    Ok(if print(&report)? { EXIT_OK } else { EXIT_FAILED })
}

/// Prints a report; whether it says that the store is sound.
///
/// # Errors
/// The exit code, if it is no report.
pub(super) fn print(report: &Value) -> Result<bool, u8> {
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

/// The result of a job that a server is told to do.
pub(super) fn by_server(client: &AdminClient, what: &str) -> Result<Value, u8> {
    by_server_with(client, what, None)
}

/// As [`by_server`], for a job that is told something: its type and text.
pub(super) fn by_server_with(
    client: &AdminClient,
    what: &str,
    content: Option<(&'static str, &str)>,
) -> Result<Value, u8> {
    let call = Call { post: true, content, ..Call::default() };
    let begun = client.call(what, &call).map_err(failed)?;
    let mut job: Value = serde_json::from_str(&succeeded(begun)?.text).map_err(failed)?;
    let path = format!("jobs/{}", job["job_id"].as_str().unwrap_or_default());
    loop {
        match job["status"].as_str() {
            Some("running") => {}
            Some("succeeded") => return Ok(job["result"].take()),
            _ => return Err(failed(job["error"].as_str().unwrap_or("the job is lost"))),
        }
        std::thread::sleep(POLL_EVERY);
        let answer = succeeded(client.call(&path, &Call::default()).map_err(failed)?)?;
        job = serde_json::from_str(&answer.text).map_err(failed)?;
    }
}
