//! `catalog diff`, `catalog apply` and `catalog show`: what a catalog would change, the change, and
//! what is in force or was, by the admin API of a running server.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::check::defaults;
use super::out::{Ended, failed, mistakes, put, say};
use super::serve::load_config;
use super::server::{Access, Server, ServerArguments, encoded, refused};
use super::{EXIT_DIFFERENT, EXIT_OK};
use crate::admin::Call;
use crate::catalog::{Diff, Document, compared};
use crate::checked_toml::Format;
use crate::time::Clock;

/// What `catalog apply` is told.
#[derive(clap::Args)]
pub struct ApplyArguments {
    /// The catalog file; JSON if its name ends in .json.
    file: PathBuf,
    #[command(flatten)]
    server: ServerArguments,
    /// Says what would change, and changes nothing.
    #[arg(long)]
    dry_run: bool,
    /// The version to replace; without it, the one that is in force when the command starts.
    #[arg(long, value_name = "VERSION")]
    if_match: Option<String>,
}

/// What `catalog show` is told.
#[derive(clap::Args)]
pub struct ShowArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// The version, as conversions, postbacks and the audit log name it; without it, the one in
    /// force.
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
}

/// Compares a catalog file with another one, or with the one in force at a running server, and
/// checks it.
pub fn diff(
    file: &Path,
    against: &str,
    access: &Access,
    config: Option<&Path>,
) -> Result<u8, Ended> {
    let (name, defaults) = (file.display().to_string(), defaults(&load_config(config)?));
    let new = document(file)?;
    let old = if against.contains("://") {
        let text = text_of(&access.server(against)?, None)?;
        Document { format: Format::Toml, text }
    } else {
        document(Path::new(against))?
    };
    let source = new.source(&name).map_err(|report| mistakes(&report))?;
    let old_source = old.source(against).map_err(|report| mistakes(&report))?;
    let diff = compared(old_source.tree(), &source, defaults.currency);
    let noted = source.into_report();
    if diff.is_empty() {
        say!("no differences");
    } else {
        put!("{diff}");
    }
    let checked = new.check(&name, &defaults, Clock::System.now_ms());
    let mut report = checked.map_or_else(|report| report, |(_, warnings)| warnings);
    report.add(noted);
    if report.has_errors() {
        return Err(mistakes(&report));
    }
    eprint!("{report}");
    Ok(if diff.is_empty() { EXIT_OK } else { EXIT_DIFFERENT })
}

/// Brings a catalog file into force at a running server, or says what would change.
pub fn apply(arguments: &ApplyArguments) -> Result<u8, Ended> {
    let document = document(&arguments.file)?;
    let server = arguments.server.server()?;
    let in_force = match &arguments.if_match {
        Some(version) => format!("\"{}\"", version.trim_matches('"')),
        None => version_in_force(&server)?,
    };
    let kind = match document.format {
        Format::Toml => "application/toml",
        Format::Json => "application/json",
    };
    let call = Call {
        content: Some((kind, &document.text)),
        if_match: Some(&in_force),
        ..Call::default()
    };
    let path = if arguments.dry_run { "catalog?dry_run=1" } else { "catalog" };
    let answer = server.answer(path, &call)?;
    let said: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    if !answer.is_success() {
        print_mistakes(&said["error"]["mistakes"], &arguments.file);
        return Err(refused(&answer));
    }
    print_mistakes(&said["warnings"], &arguments.file);
    let version = said["version"].as_str().unwrap_or_default();
    if arguments.dry_run {
        let changes = serde_json::from_value::<Diff>(said["changes"].clone()).map_err(failed)?;
        put!("{changes}");
        say!("dry run: nothing was changed; version {version} would replace {in_force}");
    } else {
        say!("version {version} is in force");
    }
    Ok(EXIT_OK)
}

/// Prints a catalog of a running server.
pub fn show(arguments: &ShowArguments) -> Result<u8, Ended> {
    put!("{}", text_of(&arguments.server.server()?, arguments.version.as_deref())?);
    Ok(EXIT_OK)
}

/// A catalog of a server, in TOML: of a version, or the one in force.
fn text_of(server: &Server, version: Option<&str>) -> Result<String, Ended> {
    let call = Call { accept: Some("application/toml"), ..Call::default() };
    let path = match version {
        Some(version) => format!("catalog?version={}", encoded(version)),
        None => "catalog".to_owned(),
    };
    server.call(&path, &call)
}

/// The tag of the version in force, without the catalog itself.
fn version_in_force(server: &Server) -> Result<String, Ended> {
    let said = server.ask("catalog/versions")?;
    let version = said["in_force"].as_str().unwrap_or_default();
    Ok(format!("\"{version}\""))
}

/// The text of a catalog file.
pub(super) fn document(file: &Path) -> Result<Document, Ended> {
    Document::read(file).map_err(|error| failed(format!("cannot read {}: {error}", file.display())))
}

fn print_mistakes(list: &Value, file: &Path) {
    for mistake in list.as_array().into_iter().flatten() {
        let word = |name: &str| mistake[name].as_str().unwrap_or_default();
        let warning = if word("severity") == "warning" { "warning: " } else { "" };
        let line = mistake["line"].as_u64().map_or(String::new(), |line| format!(":{line}"));
        let key = if word("key").is_empty() { String::new() } else { format!("{}: ", word("key")) };
        eprintln!("{warning}{}{line}: {key}{}", file.display(), word("message"));
    }
}
