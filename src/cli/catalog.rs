//! `catalog diff`, `catalog apply` and `catalog show`: what a catalog would change, the change, and
//! what is in force or was, by the admin API of a running server.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::out::{put, say};
use super::report::encoded;
use super::{EXIT_DIFFERENT, EXIT_FAILED, EXIT_MISTAKES, EXIT_OK};
use crate::admin::{AdminClient, AdminToken, Answer, Call};
use crate::catalog::{Diff, Document};
use crate::checked_toml::{Format, Report};
use crate::tls::Trust;

/// A running server.
#[derive(clap::Args)]
pub struct ServerArguments {
    /// The file that holds the admin token, such as admin.token in the store's folder.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// Lets the token go to another machine, where whoever is on the way can read it.
    #[arg(long)]
    plain_text: bool,
    /// For https: the file of authorities (PEM) that the server's certificate must come from;
    /// without it those that the system trusts.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// What `catalog apply` is told.
#[derive(clap::Args)]
pub struct ApplyArguments {
    /// The catalog file; JSON if its name ends in .json.
    file: PathBuf,
    /// The admin listener, http://HOST:PORT or https://HOST:PORT.
    #[arg(long)]
    admin: String,
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
    /// The admin listener, http://HOST:PORT or https://HOST:PORT.
    #[arg(long)]
    admin: String,
    #[command(flatten)]
    server: ServerArguments,
    /// The version, as conversions, postbacks and the audit log name it; without it, the one in
    /// force.
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
}

/// Why a command ended, printed, and its exit code.
pub(super) type Ended = u8;

/// Compares a catalog file with another one, or with the one in force at a running server.
pub fn diff(file: &Path, against: &str, server: &ServerArguments) -> u8 {
    different(file, against, server).unwrap_or_else(|code| code)
}

fn different(file: &Path, against: &str, server: &ServerArguments) -> Result<u8, Ended> {
    let new = document(file)?;
    let (old, name) = if against.contains("://") {
        let text = text_of(&client(against, server)?, None)?;
        (Document { format: Format::Toml, text }, against.to_owned())
    } else {
        (document(Path::new(against))?, against.to_owned())
    };
    let new_source = new.source(&file.display().to_string()).map_err(mistakes)?;
    let old_source = old.source(&name).map_err(mistakes)?;
    let diff = Diff::between(old_source.tree(), new_source.tree());
    if diff.is_empty() {
        say!("no differences");
        return Ok(EXIT_OK);
    }
    put!("{diff}");
    Ok(EXIT_DIFFERENT)
}

/// Brings a catalog file into force at a running server, or says what would change.
pub fn apply(arguments: &ApplyArguments) -> u8 {
    applied(arguments).unwrap_or_else(|code| code)
}

fn applied(arguments: &ApplyArguments) -> Result<u8, Ended> {
    let document = document(&arguments.file)?;
    let client = client(&arguments.admin, &arguments.server)?;
    let in_force = match &arguments.if_match {
        Some(version) => format!("\"{}\"", version.trim_matches('"')),
        None => version_in_force(&client)?,
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
    let answer = client.call(path, &call).map_err(failed)?;
    if !answer.is_success() {
        return Err(refused(&answer, &arguments.file));
    }
    let said: Value = serde_json::from_str(&answer.text).map_err(failed)?;
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
pub fn show(arguments: &ShowArguments) -> u8 {
    shown(arguments).unwrap_or_else(|code| code)
}

fn shown(arguments: &ShowArguments) -> Result<u8, Ended> {
    let client = client(&arguments.admin, &arguments.server)?;
    put!("{}", text_of(&client, arguments.version.as_deref())?);
    Ok(EXIT_OK)
}

/// A catalog of a server, in TOML: of a version, or the one in force.
fn text_of(client: &AdminClient, version: Option<&str>) -> Result<String, Ended> {
    let call = Call { accept: Some("application/toml"), ..Call::default() };
    let path = match version {
        Some(version) => format!("catalog?version={}", encoded(version)),
        None => "catalog".to_owned(),
    };
    Ok(succeeded(client.call(&path, &call))?.text)
}

/// The tag of the version in force, without the catalog itself.
fn version_in_force(client: &AdminClient) -> Result<String, Ended> {
    let answer = succeeded(client.call("catalog/versions", &Call::default()))?;
    let said: Value = serde_json::from_str(&answer.text).map_err(failed)?;
    let version = said["in_force"].as_str().unwrap_or_default();
    Ok(format!("\"{version}\""))
}

fn document(file: &Path) -> Result<Document, Ended> {
    Document::read(file).map_err(|error| failed(format!("cannot read {}: {error}", file.display())))
}

/// A client of the server at an address.
pub(super) fn client(address: &str, server: &ServerArguments) -> Result<AdminClient, Ended> {
    let Some(path) = &server.token_file else {
        eprintln!("a server wants its token: --token-file FILE");
        return Err(EXIT_MISTAKES);
    };
    if server.ca.is_some() && !address.starts_with("https://") {
        eprintln!("--ca is for https://HOST:PORT; nothing is checked without TLS");
        return Err(EXIT_MISTAKES);
    }
    let token = std::fs::read_to_string(path)
        .map_err(|error| failed(format!("cannot read {}: {error}", path.display())))?;
    let trust = server.ca.as_deref().map_or(Trust::System, Trust::Authorities);
    let token = AdminToken::new(token.trim().to_owned());
    AdminClient::new(address, trust, token, server.plain_text).map_err(|error| {
        eprintln!("{error}");
        EXIT_MISTAKES
    })
}

fn succeeded(answer: Result<Answer, crate::admin::ClientError>) -> Result<Answer, Ended> {
    let answer = answer.map_err(failed)?;
    if answer.is_success() { Ok(answer) } else { Err(refused(&answer, Path::new("catalog"))) }
}

/// Prints what the server said; its mistakes by line, as a check prints them.
pub(super) fn refused(answer: &Answer, file: &Path) -> Ended {
    let said: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    let error = &said["error"];
    print_mistakes(&error["mistakes"], file);
    let word = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    eprintln!("the server answers {}: {}: {}", answer.status, word("code"), word("message"));
    match word("code").as_str() {
        "invalid_catalog" => EXIT_MISTAKES,
        "stale_version" => EXIT_DIFFERENT,
        _ => EXIT_FAILED,
    }
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

fn mistakes(report: Report) -> Ended {
    eprint!("{report}");
    EXIT_MISTAKES
}

/// Prints why a command ended.
pub(super) fn failed(error: impl std::fmt::Display) -> Ended {
    eprintln!("{error}");
    EXIT_FAILED
}
