//! Logs: structured JSON, or text on a terminal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Starts logging to standard error at `level` (a word, such as `info`), of this program alone: what
/// libraries log is brought about by whoever sends something, as often as it likes, and holds what
/// was sent.
/// A second call changes nothing: the first one stays in force.
pub fn init(format: LogFormat, level: &str) {
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let filter = EnvFilter::new(format!("off,postbackd={level}"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that cannot be written is lost. To say so on standard error, where it cannot be
        // written either, would panic: in the writer's thread, when the disk is full.
        .log_internal_errors(false);
    // An error means that logging is on already, as in tests.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}
