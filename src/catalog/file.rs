//! The catalog file's schema: which keys each table has, and how advertisers, affiliates and
//! shared kinds of values are read.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::file_auth::auth;
use super::snapshot::{Advertiser, Affiliate};
use crate::checked_toml::{Complaint, Input, Table, one_of, units};
use crate::config::rate_limit;
use crate::model::fields::Field;
use crate::model::ids::{AffiliateNumber, ID_BYTES_MAX, is_id};
use crate::model::preset::{AnswerForm, Preset, is_of_clicks};
use crate::model::status::Status;
use crate::model::url::HttpUrl;

/// Tables of the file.
pub const ROOT: &[&str] = &["advertisers", "offers", "affiliates", "links"];
/// Keys of `[[advertisers]]`.
pub const ADVERTISER: &[&str] = &[
    "id",
    "preset",
    "params",
    "statuses",
    "rejects_approved",
    "events",
    "default_event",
    "answer",
    "path",
    "auth",
    "rate_limit",
];
/// Keys of `[[affiliates]]`.
pub const AFFILIATE: &[&str] = &["id", "status"];
/// Keys of `[[links]]`.
pub const LINK: &[&str] = &["code", "offer", "affiliate"];

/// Longest word of an advertiser's own (parameter, status, event), bytes.
const WORD_BYTES_MAX: usize = 64;
/// Longest path of an advertiser's own, bytes.
const PATH_BYTES_MAX: usize = 128;
/// Longest window: about a century, so that no sum of times overflows.
const WINDOW_MAX: Duration = Duration::from_secs(36_500 * 86_400);

/// Reads an advertiser; mistakes are noted and what is wrong is left out.
pub fn advertiser(table: &Table<'_>, id: &str, time_zone: &TimeZone) -> Advertiser {
    let presets: Vec<_> = Preset::ALL.iter().map(|preset| (preset.as_str(), *preset)).collect();
    let forms: Vec<_> = AnswerForm::ALL.iter().map(|form| (form.as_str(), *form)).collect();
    let ours: Vec<_> = Status::ALL.iter().map(|status| (status.as_str(), *status)).collect();
    let preset = table.optional("preset", |input| one_of(input.text()?, &presets));
    let preset = preset.unwrap_or(Preset::Standard);
    let answer = table.optional("answer", |input| one_of(input.text()?, &forms));
    let rejects_approved = table.optional("rejects_approved", Input::boolean);
    let params = params(table);
    warn_of_taken_names(table, preset, &params);
    Advertiser {
        id: id.into(),
        preset,
        params,
        statuses: their_words(table, "statuses", |word| one_of(word, &ours)),
        rejects_approved: rejects_approved.unwrap_or(preset.dialect().rejects_approved),
        events: their_words(table, "events", |ours| id_text(ours).map(str::to_owned)),
        default_event: table.optional("default_event", self::id).map(str::to_owned),
        answer: answer.unwrap_or(preset.dialect().answer),
        path: table.optional("path", path).map(str::to_owned),
        auth: auth(table, time_zone),
        rate_limit: table.optional("rate_limit", |input| rate_limit(input.text()?)),
    }
}

/// A name that the preset gives one meaning and the overrides another is ambiguous to whoever
/// sends or reads such a postback, and the first meaning may have lost its only name.
fn warn_of_taken_names(table: &Table<'_>, preset: Preset, params: &[(Field, String)]) {
    for (ours, theirs) in params {
        let Some(lost) = preset.meaning(theirs).filter(|lost| lost != ours) else { continue };
        if params.iter().any(|(other, _)| *other == lost) {
            continue;
        }
        let taken = |name: &str| params.iter().any(|(_, theirs)| theirs == name);
        let left: Vec<_> = preset.names(lost).filter(|name| !taken(name)).collect();
        let then = match left.first() {
            Some(name) => format!("it is read as {ours}, and {lost} only as {name:?}"),
            None if lost == Field::ClickId => format!(
                "it is read as {ours}, and click_id has no name left: every postback will be refused; give it one in params"
            ),
            None => format!("it is read as {ours}, and {lost} has no name left"),
        };
        let what =
            format!("ambiguous: {theirs:?} is {lost} in the preset {:?}; {then}", preset.as_str());
        table.warning_in("params", ours.as_str(), what);
    }
}

/// A path of an advertiser's own: one that no route has, and that leads to none once it is nobody's.
fn path<'t>(input: Input<'t>) -> Result<&'t str, Complaint> {
    let path = input.text()?;
    let in_path = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let mut segments = path.strip_prefix('/').unwrap_or_default().split('/');
    let whole = segments.all(|segment| !matches!(segment, "" | "." | ".."));
    if !whole || path.len() > PATH_BYTES_MAX || !path.bytes().all(in_path) {
        return Err(Complaint::new(format!(
            "{path:?} is not a path such as \"/key/postback\": at most {PATH_BYTES_MAX} of A-Z a-z 0-9 . _ ~ - /, no / at its end"
        )));
    }
    if Preset::at(path).is_some() {
        return Err(Complaint::new(format!("{path:?} leads somewhere else already")));
    }
    if is_of_clicks(path) {
        let other = format!("/in{path}");
        return Err(Complaint::new(format!(
            "{path:?} begins as visitors' links do, and would be taken for one wherever it is no \
             advertiser's; {other:?} would not"
        )));
    }
    Ok(path)
}

/// Reads an affiliate.
pub fn affiliate(table: &Table<'_>, id: &str) -> Affiliate {
    let words = [("active", true), ("blocked", false)];
    let active = table.optional("status", |input| one_of(input.text()?, &words));
    Affiliate { id: id.into(), number: AffiliateNumber::NONE, active: active.unwrap_or(true) }
}

/// `params`: our name = theirs.
fn params(table: &Table<'_>) -> Vec<(Field, String)> {
    let mut params: Vec<(Field, String)> = Vec::new();
    for (ours, theirs) in table.words("params") {
        let Some(field) = Field::parse(ours) else {
            let hint = table.suggest(ours, Field::ALL.iter().map(|field| field.as_str()));
            table.error_in("params", ours, format_args!("unknown parameter{hint}"));
            continue;
        };
        if let Err(complaint) = word(theirs) {
            table.error_in("params", ours, complaint);
        } else if let Some((other, _)) = params.iter().find(|(_, known)| known == theirs) {
            let other = other.as_str();
            table.error_in(
                "params",
                ours,
                format_args!("{theirs:?} is the name of {other} already"),
            );
        } else {
            params.push((field, theirs.to_owned()));
        }
    }
    params
}

/// `statuses` and `events`: their word = ours.
fn their_words<T>(
    table: &Table<'_>,
    key: &str,
    read: impl Fn(&str) -> Result<T, Complaint>,
) -> Vec<(String, T)> {
    let mut words = Vec::new();
    for (theirs, ours) in table.words(key) {
        match word(theirs).and_then(|()| read(ours)) {
            Ok(ours) => words.push((theirs.to_owned(), ours)),
            Err(complaint) => table.error_in(key, theirs, complaint),
        }
    }
    words
}

fn word(text: &str) -> Result<(), Complaint> {
    if (1..=WORD_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Complaint::new(format!("must be a word of 1 to {WORD_BYTES_MAX} bytes")))
}

/// Reads a catalog ID.
pub fn id<'t>(input: Input<'t>) -> Result<&'t str, Complaint> {
    id_text(input.text()?)
}

fn id_text(text: &str) -> Result<&str, Complaint> {
    if is_id(text) {
        return Ok(text);
    }
    Err(Complaint::new(format!("{text:?} is not an ID: 1 to {ID_BYTES_MAX} of A-Z a-z 0-9 . _ -")))
}

/// Reads a tracking link's code.
pub fn code<'t>(input: Input<'t>) -> Result<&'t str, Complaint> {
    let text = input.text()?;
    if is_id(text) && !text.contains('.') {
        return Ok(text);
    }
    Err(Complaint::new(format!("{text:?} is not a code: 1 to {ID_BYTES_MAX} of A-Z a-z 0-9 _ -")))
}

/// Reads a URL without macros.
pub fn url(input: Input<'_>) -> Result<HttpUrl, Complaint> {
    let text = input.text()?;
    if text.contains(['{', '}']) {
        return Err(Complaint::new("is a plain URL; macros are filled in only in url"));
    }
    Ok(HttpUrl::parse(text)?)
}

/// Reads a time span, milliseconds.
pub fn window(input: Input<'_>) -> Result<u64, Complaint> {
    let duration = units::duration(input.text()?)?;
    if duration.is_zero() || duration > WINDOW_MAX {
        return Err(Complaint::new("must be from \"1ms\" to \"36500d\""));
    }
    Ok(u64::try_from(duration.as_millis()).expect("a century fits"))
}
