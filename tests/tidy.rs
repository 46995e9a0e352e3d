//! The repository's own rules, read from its files: who may know whom, what is absent, and that
//! documentation and code name the same things.
//!
//! A rule is a function from one file to its faults. Each stands beside a sample that it must
//! refuse, so that a rule which has gone blind is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use postbackd::admin::description;
use postbackd::catalog::{NetworkDefaults, parse};
use postbackd::config::Config;
use postbackd::metrics::{DESCRIPTIONS, Kind};
use postbackd::model::admin::{AdminResult, AuditAction};
use postbackd::model::currency::Currency;
use postbackd::model::fields::Field;
use postbackd::model::preset::{AnswerForm, Preset};
use postbackd::model::reasons::{
    AuthCheck, AuthResult, ClickFallback, Flag, FraudAction, PostbackResult, Refusal,
    Unavailability,
};
use postbackd::store::schema::Table;

/// Which module may use which others; what is not listed is refused. From the top of the house
/// to its ground, as in ARCHITECTURE.md: a module only ever lists modules that come after it.
const MAY_USE: &[(&str, &[&str])] = &[
    ("main", &[]),
    (
        "cli",
        &[
            "app",
            "admin",
            "backup",
            "verify",
            "catalog",
            "auth",
            "ledger",
            "rates",
            "audit",
            "checked_toml",
            "config",
            "store",
            "telemetry",
            "tls",
            "click_id",
            "query",
            "limits",
            "model",
            "time",
        ],
    ),
    (
        "app",
        &[
            "admin",
            "http",
            "click",
            "postback",
            "backup",
            "catalog",
            "auth",
            "caps",
            "fraud",
            "dedup",
            "ledger",
            "rates",
            "audit",
            "throttle",
            "readiness",
            "metrics",
            "telemetry",
            "config",
            "files",
            "store",
            "shutdown",
            "space",
            "tls",
            "click_id",
            "limits",
            "model",
            "time",
        ],
    ),
    (
        "admin",
        &[
            "backup",
            "verify",
            "files",
            "postback",
            "catalog",
            "auth",
            "fraud",
            "dedup",
            "ledger",
            "rates",
            "audit",
            "readiness",
            "metrics",
            "telemetry",
            "report",
            "http2",
            "store",
            "shutdown",
            "space",
            "tls",
            "checked_toml",
            "click_id",
            "query",
            "limits",
            "model",
            "time",
        ],
    ),
    (
        "http",
        &[
            "click", "postback", "throttle", "metrics", "http2", "shutdown", "tls", "limits",
            "model", "time",
        ],
    ),
    (
        "click",
        &["catalog", "caps", "fraud", "metrics", "store", "click_id", "query", "limits", "model"],
    ),
    (
        "postback",
        &[
            "catalog", "auth", "caps", "fraud", "dedup", "rates", "throttle", "metrics", "store",
            "click_id", "query", "limits", "model",
        ],
    ),
    ("report", &["store", "limits", "model"]),
    ("backup", &["verify", "audit", "config", "files", "store", "space", "limits", "model"]),
    ("verify", &["ledger", "store", "click_id", "limits", "model"]),
    (
        "catalog",
        &[
            "auth",
            "caps",
            "fraud",
            "audit",
            "config",
            "store",
            "checked_toml",
            "query",
            "limits",
            "model",
        ],
    ),
    ("auth", &["config", "query", "limits", "model"]),
    ("caps", &["store", "click_id", "model"]),
    ("throttle", &["fraud", "limits", "model"]),
    ("fraud", &["store", "click_id", "limits", "model"]),
    ("dedup", &["store", "click_id", "limits", "model"]),
    ("ledger", &["store", "click_id", "limits", "model"]),
    ("rates", &["audit", "config", "store", "checked_toml", "limits", "model"]),
    ("audit", &["store", "limits", "model"]),
    ("readiness", &["store", "shutdown"]),
    ("metrics", &["store", "model"]),
    ("telemetry", &["config", "limits"]),
    ("http2", &["shutdown", "limits"]),
    ("tls", &["config", "limits"]),
    ("config", &["checked_toml", "space", "click_id", "limits", "model"]),
    ("files", &[]),
    ("store", &["click_id", "limits", "model"]),
    ("shutdown", &[]),
    ("space", &[]),
    ("checked_toml", &[]),
    ("click_id", &["model"]),
    ("query", &[]),
    ("limits", &[]),
    ("model", &[]),
    ("time", &[]),
    ("lib", &[]),
];

/// The only files that name the storage engine.
const ROCKS: &[&str] = &["src/store/rocks.rs", "src/store/rocks/logs.rs", "src/store/options.rs"];
/// The only places that name the HTTP library.
const HTTP: &[&str] = &["src/http/", "src/admin/", "src/app.rs", "src/http2.rs"];
/// The only places that name the TLS library.
const TLS: &[&str] = &["src/tls/"];
/// What a pure file must not know: clock, chance, disk, network, threads, environment.
const IMPURE: &[&str] = &[
    "Instant",
    "SystemTime",
    "Clock",
    "Randomness",
    "getrandom",
    "tokio",
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "std::thread",
    "std::env",
    "std::process",
];
/// Lines of a file under `src/` at most.
const LINES_MAX: usize = 500;

// Written in halves, so that this file does not hold what it looks for.
const UNFINISHED: &[&str] = &[
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("#[ig", "nore"),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
];

/// All words of an enum of words.
macro_rules! all_words {
    ($words:ty) => {
        <$words>::ALL.iter().map(|word| word.as_str()).collect::<Vec<&'static str>>()
    };
}

struct File {
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file below a folder, in a stable order; none if the folder is not there.
fn rust_files(folder: &str) -> Vec<File> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("below the root");
                let text = std::fs::read_to_string(&path).expect("UTF-8");
                files.push(File { path: name.display().to_string(), text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

/// The lines that ship, with their numbers: no comments, no test modules.
fn shipped(text: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut test_only = false;
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.trim_start();
        if test_only && code.starts_with("mod ") && code.ends_with('{') {
            break;
        }
        if code.starts_with("#[cfg(test)]") {
            test_only = true;
        } else if test_only {
            test_only = code.starts_with("#[");
        } else if !code.starts_with("//") {
            lines.push((number, line));
        }
    }
    lines
}

/// Whether a line has `word`, not as part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(part_of_word) && !line[at + word.len()..].starts_with(part_of_word)
    })
}

fn lines_with(file: &File, what: &str, bad: impl Fn(&str) -> bool) -> Vec<String> {
    let fault = |(number, _)| format!("{}:{number}: {what}", file.path);
    shipped(&file.text).into_iter().filter(|(_, line)| bad(line)).map(fault).collect()
}

fn check(files: &[File], rule: impl Fn(&File) -> Vec<String>) {
    assert!(!files.is_empty(), "no files were read");
    let faults: Vec<_> = files.iter().flat_map(rule).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// A rule must find a fault in `text`, were it the file `path`.
fn must_refuse(path: &str, text: &str, rule: impl Fn(&File) -> Vec<String>) {
    let file = File { path: path.to_owned(), text: text.to_owned() };
    assert!(!rule(&file).is_empty(), "{path} was let through:\n{text}");
}

fn engine_is_named_in_one_place(file: &File) -> Vec<String> {
    if ROCKS.contains(&file.path.as_str()) {
        return Vec::new();
    }
    lines_with(file, "names the storage engine", |line| {
        has_word(line, "rocksdb") && !line.contains("postbackd_rocksdb")
    })
}

#[test]
fn only_the_engine_and_its_options_name_rocksdb() {
    must_refuse("src/store/reader.rs", "use rocksdb::DB;", engine_is_named_in_one_place);
    must_refuse("src/click/flow.rs", "fn f(db: &rocksdb::DB) {}", engine_is_named_in_one_place);
    check(&rust_files("src"), engine_is_named_in_one_place);
}

fn http_is_named_at_the_edge(file: &File) -> Vec<String> {
    if HTTP.iter().any(|place| file.path.starts_with(place)) {
        return Vec::new();
    }
    let words = ["hyper", "hyper_util", "axum", "http_body_util"];
    lines_with(file, "names HTTP", |line| words.iter().any(|word| has_word(line, word)))
}

#[test]
fn only_the_listeners_and_the_composition_root_name_http() {
    must_refuse("src/click/flow.rs", "use hyper::StatusCode;", http_is_named_at_the_edge);
    must_refuse("src/metrics/handles.rs", "use axum::Json;", http_is_named_at_the_edge);
    check(&rust_files("src"), http_is_named_at_the_edge);
}

fn tls_is_named_in_one_place(file: &File) -> Vec<String> {
    if TLS.iter().any(|place| file.path.starts_with(place)) {
        return Vec::new();
    }
    let words = ["rustls", "tokio_rustls", "rustls_native_certs", "aws_lc_rs"];
    lines_with(file, "names the TLS library", |line| words.iter().any(|word| has_word(line, word)))
}

#[test]
fn only_one_module_names_the_tls_library() {
    must_refuse(
        "src/http/listener.rs",
        "use tokio_rustls::TlsAcceptor;",
        tls_is_named_in_one_place,
    );
    must_refuse("src/admin/client.rs", "f(rustls::Error)", tls_is_named_in_one_place);
    check(&rust_files("src"), tls_is_named_in_one_place);
}

fn module_of(path: &str) -> &str {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    inner.split_once('/').map_or_else(|| inner.trim_end_matches(".rs"), |(module, _)| module)
}

/// The top-level modules a line names by `crate::…`.
fn modules_named(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("crate::").map(|(at, prefix)| {
        let rest = &line[at + prefix.len()..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

fn knows_only_what_it_may(file: &File) -> Vec<String> {
    let module = module_of(&file.path);
    let Some((_, may)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
        return vec![format!("{}: module {module} has no row in MAY_USE", file.path)];
    };
    let mut faults = Vec::new();
    for (number, line) in shipped(&file.text) {
        for named in modules_named(line) {
            if named != module && !may.contains(&named) {
                faults.push(format!("{}:{number}: {module} must not use {named:?}", file.path));
            }
        }
    }
    faults
}

#[test]
fn every_module_knows_only_what_it_may() {
    must_refuse("src/click/flow.rs", "use crate::postback::Answer;", knows_only_what_it_may);
    must_refuse("src/postback/flow.rs", "use crate::click::Clicks;", knows_only_what_it_may);
    must_refuse("src/query/raw.rs", "use crate::model::ids;", knows_only_what_it_may);
    must_refuse("src/store/mod.rs", "let x = crate::http::bind;", knows_only_what_it_may);
    must_refuse("src/catalog/mod.rs", "use crate::{limits, http};", knows_only_what_it_may);
    must_refuse("src/novelty/mod.rs", "", knows_only_what_it_may);
    check(&rust_files("src"), knows_only_what_it_may);
}

#[test]
fn modules_know_only_those_below_them_and_the_flows_not_each_other() {
    for (place, (module, may)) in MAY_USE.iter().enumerate() {
        for used in *may {
            let below = MAY_USE.iter().position(|(name, _)| name == used);
            assert!(below.is_some_and(|below| below > place), "{module} uses {used}, not below it");
        }
    }
    let may = |module: &str| MAY_USE.iter().find(|(name, _)| *name == module).expect("a row").1;
    assert!(!may("click").contains(&"postback") && !may("postback").contains(&"click"));
    assert!(may("query").is_empty() && may("model").is_empty());
    assert_eq!(may("click_id"), ["model"]);
    assert!(!may("http").contains(&"admin"), "the public listener has no way into admin");
}

fn is_pure(path: &str) -> bool {
    let listed = [
        "src/auth/canonical.rs",
        "src/auth/rules.rs",
        "src/http/proxy_protocol.rs",
        "src/tls/validity.rs",
        "src/catalog/template.rs",
        "src/postback/placeholder.rs",
        "src/postback/price.rs",
        "src/caps/counts.rs",
        "src/caps/terms.rs",
        "src/click/consent.rs",
        "src/fraud/agents.rs",
        "src/fraud/report.rs",
        "src/fraud/rules.rs",
        "src/fraud/sliding.rs",
        "src/postback/reversal.rs",
        "src/postback/transition.rs",
        "src/ledger/merkle.rs",
        "src/ledger/seal.rs",
        "src/store/counters.rs",
        "src/store/keys.rs",
        "src/store/postings.rs",
        "src/store/records.rs",
        "src/store/records/erased.rs",
        "src/store/retention_time.rs",
    ];
    listed.contains(&path)
        || path.starts_with("src/click_id/")
        || path.starts_with("src/query/")
        || path.starts_with("src/store/keys/")
        || path.starts_with("src/model/")
        || path.ends_with("/decide.rs")
}

fn pure_files_are_pure(file: &File) -> Vec<String> {
    if !is_pure(&file.path) {
        return Vec::new();
    }
    lines_with(file, "a pure file knows no clock, chance or I/O", |line| {
        IMPURE.iter().any(|word| has_word(line, word))
    })
}

#[test]
fn pure_files_know_neither_clock_nor_chance_nor_io() {
    must_refuse("src/click/decide.rs", "let t = Instant::now();", pure_files_are_pure);
    must_refuse("src/query/raw.rs", "use std::time::SystemTime;", pure_files_are_pure);
    must_refuse("src/store/keys.rs", "let x = std::fs::read(path);", pure_files_are_pure);
    must_refuse("src/ledger/merkle.rs", "let t = SystemTime::now();", pure_files_are_pure);
    must_refuse("src/store/postings.rs", "use crate::time::Clock;", pure_files_are_pure);
    must_refuse("src/store/records.rs", "getrandom::fill(&mut x);", pure_files_are_pure);
    must_refuse("src/catalog/template.rs", "use crate::time::Randomness;", pure_files_are_pure);
    must_refuse("src/click_id/mod.rs", "let s: std::net::TcpStream;", pure_files_are_pure);
    let files = rust_files("src");
    assert!(files.iter().filter(|file| is_pure(&file.path)).count() >= 10, "pure files were moved");
    check(&files, pure_files_are_pure);
}

fn holds_no_global_state(file: &File) -> Vec<String> {
    lines_with(file, "global state", |line| {
        let item = line.trim_start();
        let item = item.strip_prefix("pub ").unwrap_or(item);
        let item = item.strip_prefix("pub(crate) ").unwrap_or(item);
        item.starts_with("static ")
            || has_word(line, "lazy_static")
            || has_word(line, "thread_local")
    })
}

#[test]
fn there_is_no_global_state() {
    must_refuse(
        "src/app.rs",
        "static COUNT: AtomicU64 = AtomicU64::new(0);",
        holds_no_global_state,
    );
    must_refuse("src/app.rs", "    pub static mut X: u8 = 0;", holds_no_global_state);
    must_refuse(
        "src/app.rs",
        "pub(crate) static X: OnceLock<u8> = OnceLock::new();",
        holds_no_global_state,
    );
    must_refuse("src/app.rs", "lazy_static! {}", holds_no_global_state);
    must_refuse("src/app.rs", "thread_local! {}", holds_no_global_state);
    check(&rust_files("src"), holds_no_global_state);
}

fn bounds_its_queues(file: &File) -> Vec<String> {
    lines_with(file, "an unbounded queue", |line| {
        ["unbounded_channel", "unbounded", "UnboundedSender"]
            .iter()
            .any(|word| has_word(line, word))
            || (line.contains("std::sync::mpsc") && has_word(line, "channel"))
            || line.contains("std::sync::mpsc;")
    })
}

#[test]
fn every_queue_is_bounded() {
    must_refuse("src/app.rs", "let (a, b) = mpsc::unbounded_channel();", bounds_its_queues);
    must_refuse("src/app.rs", "use std::sync::mpsc::{Receiver, channel};", bounds_its_queues);
    must_refuse("src/app.rs", "let (a, b) = std::sync::mpsc::channel();", bounds_its_queues);
    must_refuse("src/app.rs", "use std::sync::mpsc;", bounds_its_queues);
    check(&rust_files("src"), bounds_its_queues);
}

fn says_why_it_cannot_fail(file: &File) -> Vec<String> {
    if is_test_file(&file.path) {
        return Vec::new();
    }
    lines_with(file, "unwrap says nothing; expect(\"why it cannot fail\")", |line| {
        line.contains(".unwrap()") || line.contains(".expect(\"\")")
    })
}

#[test]
fn nothing_that_ships_unwraps() {
    must_refuse("src/app.rs", "let x = y.unwrap();", says_why_it_cannot_fail);
    must_refuse("src/app.rs", "    .expect(\"\")", says_why_it_cannot_fail);
    must_refuse(
        "src/app.rs",
        "#[cfg(test)]\nmod tests;\n\nfn f() { y.unwrap(); }",
        says_why_it_cannot_fail,
    );
    let tested = "fn f() {}\n#[cfg(test)]\nmod tests {\n    fn g() { y.unwrap(); }\n}\n";
    let tested = File { path: "src/app.rs".to_owned(), text: tested.to_owned() };
    assert_eq!(says_why_it_cannot_fail(&tested), Vec::<String>::new());
    check(&rust_files("src"), says_why_it_cannot_fail);
}

/// Whether a line has a field in Rust's own notation, `?value` or `debug(value)`.
fn has_debug_field(line: &str) -> bool {
    let is_field = |at: usize, after: &str| {
        let starts = line[..at].chars().next_back().is_none_or(|c| c == ' ' || c == '(');
        let is_value = |c: char| c.is_ascii_lowercase() || c == '&' || c == '*';
        starts && (after.starts_with(is_value) || after.starts_with("Self::"))
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    line.match_indices('?').any(|(at, _)| is_field(at, &line[at + 1..]))
        || line.match_indices("debug(").any(|(at, _)| !line[..at].ends_with(is_name))
}

/// What an operator reads has plain fields, and no type's names.
fn logs_plain_fields(file: &File) -> Vec<String> {
    const CALLS: [&str; 5] = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];
    let (mut faults, mut depth) = (Vec::new(), 0);
    for (number, line) in shipped(&file.text) {
        let call = CALLS.iter().find_map(|call| line.find(call));
        let in_call = match (depth, call) {
            (0, None) => "",
            (0, Some(at)) => &line[at..],
            _ => line,
        };
        depth += in_call.matches('(').count();
        depth = depth.saturating_sub(in_call.matches(')').count());
        let in_message = in_call.contains(":?}") || in_call.contains(":#?}");
        if in_message || has_debug_field(line) {
            faults.push(format!("{}:{number}: a debug form in the log", file.path));
        }
    }
    faults
}

#[test]
fn log_lines_have_no_debug_forms() {
    for line in [
        "tracing::info!(?counts, \"x\");",
        "    ?most,",
        "error!(%error, days = ?days);",
        "info!(days = ?&days, \"x\");",
        "    last = ?*last,",
        "info!(as = ?Self::Drained, \"x\");",
        "info!(days = debug(days), \"x\");",
        "info!(days = field::debug(&days), \"x\");",
        "Err(error) => warn!(\"not done: {error:?}\"),",
        "warn!(\n    days,\n    \"not done (at all): {:#?}\",\n);",
    ] {
        must_refuse("src/app.rs", line, logs_plain_fields);
    }
    check(&rust_files("src"), logs_plain_fields);
}

fn is_finished(file: &File) -> Vec<String> {
    let unfinished = |line: &str| UNFINISHED.iter().any(|word| line.contains(word));
    let lines = (1..).zip(file.text.lines()).filter(|(_, line)| unfinished(line));
    lines.map(|(number, _)| format!("{}:{number}: left unfinished", file.path)).collect()
}

#[test]
fn nothing_is_left_unfinished_or_switched_off() {
    for word in UNFINISHED {
        must_refuse("src/app.rs", word, is_finished);
    }
    for folder in ["src", "tests", "benches", "loadtest/src", "fuzz/fuzz_targets"] {
        check(&rust_files(folder), is_finished);
    }
}

fn is_short(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    (lines > LINES_MAX).then(|| format!("{}: {lines} lines", file.path)).into_iter().collect()
}

#[test]
fn files_stay_short_enough_to_be_read() {
    must_refuse("src/app.rs", &"\n".repeat(LINES_MAX + 1), is_short);
    check(&rust_files("src"), is_short);
}

fn gives_reasons_for_dependencies(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    let mut dependencies = false;
    for (number, line) in (1..).zip(file.text.lines()) {
        if line.starts_with('[') {
            dependencies = line.trim_end().ends_with("dependencies]");
        } else if dependencies && line.contains('=') && !line.contains(" # ") {
            faults.push(format!("{}:{number}: why is it here?", file.path));
        }
    }
    faults
}

#[test]
fn every_dependency_says_why_it_is_here() {
    let rule = gives_reasons_for_dependencies;
    must_refuse("Cargo.toml", "[dependencies]\nserde = \"1.0\"\n", rule);
    must_refuse("Cargo.toml", "[dev-dependencies]\nserde = { version = \"1.0\" }\n", rule);
    let manifests = ["Cargo.toml", "loadtest/Cargo.toml", "fuzz/Cargo.toml"].into_iter();
    let there = manifests.filter(|path| root().join(path).exists());
    let files: Vec<_> =
        there.map(|path| File { path: path.to_owned(), text: read(path) }).collect();
    check(&files, rule);
}

/// The rows of the table under a heading, cells trimmed and out of their back-quotes.
fn table_under(text: &str, heading: &str) -> Vec<Vec<String>> {
    let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
    let section = text.lines().skip_while(|line| *line != heading).skip(1);
    let rows: Vec<_> = section
        .take_while(|line| !line.starts_with('#'))
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(cell).collect::<Vec<_>>())
        .collect();
    assert!(rows.len() > 2, "no table under {heading:?}");
    rows.into_iter().skip(2).collect()
}

/// The first cells of all tables of a page, if they are in back-quotes.
fn first_cells(text: &str) -> Vec<String> {
    let first = |line: &str| {
        let cell = line.strip_prefix("| `")?.split_once('`')?.0;
        Some(cell.to_owned())
    };
    text.lines().filter_map(first).collect()
}

#[test]
fn the_metrics_page_lists_exactly_the_metrics() {
    let expected: Vec<Vec<String>> = DESCRIPTIONS
        .iter()
        .map(|metric| [metric.name, metric.kind.as_str(), metric.labels, metric.help])
        .map(|row| row.map(str::to_owned).to_vec())
        .collect();
    assert_eq!(table_under(&read("docs/metrics.md"), "## The metrics"), expected);
}

#[test]
fn the_api_page_lists_exactly_the_words() {
    let page = read("docs/api.md");
    let check = |heading: &str, words: Vec<&str>| {
        let listed: Vec<_> =
            table_under(&page, heading).into_iter().map(|mut row| row.remove(0)).collect();
        assert_eq!(listed, words, "{heading}");
    };
    check("### Results", PostbackResult::ALL.iter().map(|word| word.as_str()).collect());
    check("### Refusals", Refusal::ALL.iter().map(|word| word.as_str()).collect());
    check("### Unavailable", Unavailability::ALL.iter().map(|word| word.as_str()).collect());
    check("### Flags", Flag::ALL.iter().map(|word| word.as_str()).collect());
    check("### Fallbacks", ClickFallback::ALL.iter().map(|word| word.as_str()).collect());
    for (row, refusal) in table_under(&page, "### Refusals").iter().zip(Refusal::ALL) {
        assert_eq!(row[1], refusal.http_status().to_string(), "{refusal}");
    }
}

/// The words of errors that a file of the admin API answers.
fn error_codes(file: &File) -> Vec<String> {
    let lines = shipped(&file.text).into_iter();
    let text: String = lines.flat_map(|(_, line)| line.split_whitespace()).collect();
    let after = |mark: &'static str| text.split(mark).skip(1).map(str::to_owned);
    let by_status = after("new(StatusCode::").filter_map(|rest| {
        let (_, rest) = rest.split_once(',')?;
        Some(rest.strip_prefix('"')?.to_owned())
    });
    let all = after("bad_request(\"").chain(by_status);
    all.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())).collect()
}

#[test]
fn the_api_page_lists_exactly_the_errors_of_the_admin_api() {
    let codes: BTreeSet<_> = rust_files("src/admin").iter().flat_map(error_codes).collect();
    let rows = table_under(&read("docs/api.md"), "### Errors");
    let listed: BTreeSet<_> = rows.iter().flat_map(|row| row[1].split("`, `")).collect();
    assert_eq!(listed, codes.iter().map(String::as_str).collect());
}

fn routes_are_described(file: &File) -> Vec<String> {
    let bare = [".route(", ".route_service(", ".nest_service(", "MethodRouter"];
    lines_with(file, "a route without its description", |line| {
        bare.iter().any(|call| line.contains(call))
    })
}

#[test]
fn every_admin_route_is_made_of_its_description() {
    must_refuse("src/admin/server.rs", "    .route(\"/x\", get(x))", routes_are_described);
    must_refuse("src/admin/server.rs", "    .nest_service(\"/x\", x)", routes_are_described);
    check(&rust_files("src/admin"), routes_are_described);
}

#[test]
fn the_api_page_lists_exactly_the_calls() {
    let page = read("docs/api.md");
    let mut listed = BTreeSet::new();
    for row in table_under(&page, "## Admin") {
        // Such as GET`, `PUT /path?…
        let words: Vec<_> = row[0].split([' ', '`', ',']).filter(|word| !word.is_empty()).collect();
        if let Some((path, methods)) = words.split_last().filter(|(path, _)| path.starts_with('/'))
        {
            let path = path.split('?').next().unwrap_or_default();
            listed.extend(methods.iter().map(|method| format!("{method} {path}")));
        }
    }
    let description: serde_json::Value = serde_json::from_str(&description()).expect("JSON");
    let paths = description["paths"].as_object().expect("paths").iter();
    let described: BTreeSet<_> = paths
        .flat_map(|(path, item)| {
            let methods = item.as_object().expect("a path item").keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    assert_eq!(listed, described);
}

#[test]
fn the_configuration_page_lists_exactly_the_keys() {
    let mut listed = first_cells(&read("docs/configuration.md"));
    listed.sort();
    let mut keys = Config::keys();
    keys.sort_unstable();
    assert_eq!(listed, keys);
}

#[test]
fn the_store_page_lists_every_table_with_its_profile() {
    let rows = table_under(&read("docs/store-format.md"), "## Tables");
    let listed: Vec<_> =
        rows.iter().map(|row| (row[0].clone(), row.last().cloned().unwrap_or_default())).collect();
    let tables =
        Table::ALL.map(|table| (table.name().to_owned(), format!("{:?}", table.profile())));
    assert_eq!(listed, tables);
}

#[test]
fn the_privacy_page_says_of_every_table_what_it_has_of_people() {
    let page = read("docs/privacy.md");
    let listed: Vec<_> =
        table_under(&page, "## Where it is").into_iter().map(|mut row| row.remove(0)).collect();
    assert_eq!(listed, Table::ALL.map(|table| table.name().to_owned()));
    for key in Config::keys().iter().filter(|key| key.starts_with("retention.")) {
        assert!(page.contains(&format!("`{key}`")), "{key}");
    }
    for key in ["click.ip", "privacy.without_consent"] {
        assert!(Config::keys().contains(&key), "{key}");
    }
}

/// The time series that a text names, in Prometheus' words.
fn series_named(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c: char| !is_part(c)).filter(|word| word.starts_with("postbackd_")).collect()
}

#[test]
fn alerts_and_dashboard_name_only_metrics_that_exist() {
    let mut known = BTreeMap::new();
    for metric in DESCRIPTIONS {
        let suffixes: &[&str] =
            if metric.kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
        known.extend(suffixes.iter().map(|suffix| (format!("{}{suffix}", metric.name), metric)));
    }
    for file in ["deploy/alerts.yml", "deploy/alerts_test.yml", "deploy/grafana.json"] {
        let text = read(file);
        let named = series_named(&text);
        assert!(named.len() > 3, "{file} names hardly any metric");
        let unknown: Vec<_> = named.iter().filter(|name| !known.contains_key(**name)).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}");
    }
    let _: serde_json::Value =
        serde_json::from_str(&read("deploy/grafana.json")).expect("the dashboard is JSON");
}

#[test]
fn each_alert_fires_in_a_test_of_its_own() {
    let (rules, tests) = (read("deploy/alerts.yml"), read("deploy/alerts_test.yml"));
    let alerts: Vec<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 20, "{alerts:?}");
    for alert in alerts {
        let fires = format!("exp_samples: [{{labels: '{{alertname=\"{alert}\",");
        assert!(tests.contains(&fires), "{alert}");
    }
}

/// What a query asks of a label of a metric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Matcher<'t> {
    metric: &'t str,
    label: &'t str,
    operator: &'t str,
    values: Vec<&'t str>,
}

/// All matchers of the queries in a text, such as `metric{label=~"one|other"}`.
fn matchers(text: &str) -> Vec<Matcher<'_>> {
    let mut found = Vec::new();
    let starts = text.match_indices("postbackd_").map(|(at, _)| &text[at..]);
    for rest in starts {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (metric, rest) = rest.split_at(rest.find(|c| !is_part(c)).unwrap_or(rest.len()));
        let inside = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        for matcher in inside.map_or("", |(inside, _)| inside).split(',') {
            let Some((asked, value)) = matcher.trim().split_once('"') else { continue };
            let label = asked.trim_end_matches(['=', '!', '~']);
            let (operator, value) = (&asked[label.len()..], value.trim_end_matches('"'));
            found.push(Matcher { metric, label, operator, values: value.split('|').collect() });
        }
    }
    found
}

/// The queries of the alerts and of the dashboard, as text.
fn queries() -> [(&'static str, String); 2] {
    // In JSON, quotes are escaped.
    let dashboard = read("deploy/grafana.json").replace("\\\"", "\"");
    [("deploy/alerts.yml", read("deploy/alerts.yml")), ("deploy/grafana.json", dashboard)]
}

#[test]
fn alerts_and_dashboard_ask_only_for_values_that_labels_have() {
    let sample = "sum(rate(postbackd_x{a=~\"b|c\", d!=\"e\"}[5m])) / postbackd_y";
    let expected = [("a", "=~", vec!["b", "c"]), ("d", "!=", vec!["e"])];
    let expected = expected.map(|(label, operator, values)| {
        let metric = "postbackd_x";
        Matcher { metric, label, operator, values }
    });
    assert_eq!(matchers(sample), expected);
    let documented = documented_values();
    for (file, text) in queries() {
        let all = matchers(&text);
        assert!(all.len() > 3, "{file}: {all:?}");
        for Matcher { metric, label, values, .. } in all.iter().filter(|it| it.label != "instance")
        {
            let known = documented.get(&((*metric).to_owned(), (*label).to_owned()));
            let known = known.unwrap_or_else(|| panic!("{file}: {metric} has no label {label}"));
            let unknown: Vec<_> = values.iter().filter(|value| !known.contains(**value)).collect();
            assert!(unknown.is_empty(), "{file}: {label} of {metric} is never {unknown:?}");
        }
    }
}

#[test]
fn the_match_rate_is_of_all_refusals_that_lead_to_no_click_and_of_no_others() {
    let words = |is_it: fn(&Refusal) -> bool| -> Vec<_> {
        Refusal::ALL.iter().filter(|word| is_it(word)).map(|word| word.as_str()).collect()
    };
    let unmatched = words(|reason| reason.is_unmatched());
    let senders = words(is_of_the_sender);
    let matched = ["accepted", "duplicate", "updated"];
    for (file, text) in queries() {
        let all = matchers(&text);
        let of = |metric: &str| -> Vec<_> {
            let is_it = |it: &&Matcher<'_>| it.metric == metric && it.operator == "=~";
            all.iter().filter(is_it).filter(|it| it.label != "instance").collect()
        };
        let refused = of("postbackd_postback_refusals_total");
        // Who sent it has an alert of its own.
        let refused: Vec<_> = refused.iter().filter(|it| it.values != senders).collect();
        assert!(!refused.is_empty(), "{file}");
        assert!(refused.iter().all(|it| it.values == unmatched), "{file}: {refused:?}");
        let answered = of("postbackd_postbacks_total");
        assert!(answered.len() > 1, "{file}: above and below the line");
        assert!(answered.iter().all(|it| it.values == matched), "{file}: {answered:?}");
    }
    let page = read("docs/metrics.md");
    let paragraph = page.lines().find(|line| line.contains("**match rate**")).expect("its words");
    for word in words(|_| true) {
        let is_named = paragraph.contains(&format!("`{word}`"));
        assert_eq!(is_named, unmatched.contains(&word), "{word}");
    }
}

#[test]
fn the_alert_of_failing_postbacks_counts_what_is_not_the_senders_doing() {
    let alerts = read("deploy/alerts.yml");
    let mut rules = alerts.split("- alert: ");
    let rule = rules.find(|rule| rule.starts_with("PostbackdPostbacksUnavailable\n"));
    let asked = matchers(rule.expect("the rule"));
    let expected = Matcher {
        metric: "postbackd_postback_unavailable_total",
        label: "reason",
        operator: "!~",
        values: vec![Unavailability::RateLimited.as_str(), Unavailability::SourceBusy.as_str()],
    };
    assert_eq!(asked, [expected]);
}

/// Whether a refusal says that the sender may not speak for the advertiser.
fn is_of_the_sender(refusal: &Refusal) -> bool {
    matches!(refusal.http_status(), 401 | 403)
}

#[test]
fn the_alert_of_refused_senders_counts_all_refusals_of_who_sent_it() {
    let alerts = read("deploy/alerts.yml");
    let mut rules = alerts.split("- alert: ");
    let rule = rules.find(|rule| rule.starts_with("PostbackdSendersRefused\n"));
    let asked = matchers(rule.expect("the rule"));
    let senders = Refusal::ALL.iter().filter(|word| is_of_the_sender(word));
    let senders: Vec<_> = senders.map(|word| word.as_str()).collect();
    assert_eq!(asked.len(), 2, "above the line, and how many: {asked:?}");
    assert!(asked.iter().all(|it| it.values == senders), "{asked:?}");
}

/// What is in back-quotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The values that the metrics page gives to each metric's labels.
fn documented_values() -> BTreeMap<(String, String), BTreeSet<String>> {
    let page = read("docs/metrics.md");
    let rows = section(&page, "Values of labels");
    let rows = rows.iter().filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
    let mut documented = BTreeMap::new();
    for (names, values) in rows {
        let (label, of) = names.split_once('`').expect("a label");
        let of = quoted(of);
        let (linked, values) = (linked_words(values), quoted(values));
        let values = if linked.is_empty() { values } else { linked };
        let values: BTreeSet<_> = values.into_iter().map(str::to_owned).collect();
        let has_it = |metric: &&postbackd::metrics::Description| {
            metric.labels.split(',').any(|its| its == label)
                && (of.is_empty() || of.contains(&metric.name))
        };
        let metrics: Vec<_> = DESCRIPTIONS.iter().filter(has_it).collect();
        assert!(metrics.len() >= of.len().max(1), "{names}: a metric that has no such label");
        for metric in metrics {
            let key = (metric.name.to_owned(), label.to_owned());
            let known = documented.insert(key, values.clone());
            assert!(known.is_none(), "{label} of {} is there twice", metric.name);
        }
    }
    documented
}

/// The words of the list to which values of labels are linked; the page of each is held to it.
fn linked_words(values: &str) -> Vec<&'static str> {
    let lists: [(&str, Vec<&'static str>); 6] = [
        ("api.md#results", all_words!(PostbackResult)),
        ("api.md#refusals", all_words!(Refusal)),
        ("api.md#unavailable", all_words!(Unavailability)),
        ("api.md#flags", all_words!(Flag)),
        ("api.md#fallbacks", all_words!(ClickFallback)),
        ("store-format.md#tables", Table::ALL.iter().map(|table| table.name()).collect()),
    ];
    let is_linked = |(page, _): &(&str, _)| values.contains(&format!("]({page})"));
    lists.into_iter().find(is_linked).map(|(_, words)| words).unwrap_or_default()
}

#[test]
fn the_metrics_page_lists_exactly_the_values_of_labels() {
    let documented = documented_values();
    for metric in DESCRIPTIONS {
        for label in metric.labels.split(',').filter(|label| !matches!(*label, "" | "version")) {
            let key = (metric.name.to_owned(), label.to_owned());
            assert!(documented.contains_key(&key), "{label} of {}", metric.name);
        }
    }
    let rules = |rules: &[Flag]| rules.iter().map(|rule| rule.as_str()).collect::<Vec<_>>();
    for (metric, label, words) in [
        ("postbackd_click_fallbacks_total", "reason", all_words!(ClickFallback)),
        ("postbackd_click_flags_total", "rule", rules(&Flag::CLICK_RULES)),
        ("postbackd_postbacks_total", "result", all_words!(PostbackResult)),
        ("postbackd_postback_refusals_total", "reason", all_words!(Refusal)),
        ("postbackd_postback_unavailable_total", "reason", all_words!(Unavailability)),
        ("postbackd_auth_checks_total", "check", all_words!(AuthCheck)),
        ("postbackd_auth_checks_total", "result", all_words!(AuthResult)),
        ("postbackd_conversion_flags_total", "flag", all_words!(Flag)),
        ("postbackd_fraud_total", "rule", rules(&Flag::FRAUD_RULES)),
        ("postbackd_fraud_total", "action", all_words!(FraudAction)),
        ("postbackd_admin_requests_total", "result", all_words!(AdminResult)),
    ] {
        let listed = &documented[&(metric.to_owned(), label.to_owned())];
        let words: BTreeSet<_> = words.into_iter().map(str::to_owned).collect();
        assert_eq!(*listed, words, "{label} of {metric}");
    }
}

/// The blocks of a page that are marked as TOML.
fn toml_blocks(text: &str) -> Vec<&str> {
    text.split("```toml\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0)).collect()
}

#[test]
fn what_the_examples_and_the_documentation_configure_is_accepted() {
    let config = |name: &str, text: &str| {
        if let Err(report) = Config::load(Some(text), name, std::iter::empty()) {
            panic!("{report}");
        }
    };
    let defaults = NetworkDefaults { currency: Currency::USD, time_zone: jiff::tz::TimeZone::UTC };
    let catalog = |name: &str, text: &str| match parse(text, name, &defaults) {
        Ok((_, warnings)) => assert!(warnings.is_empty(), "{warnings}"),
        Err(report) => panic!("{report}"),
    };
    config("examples/postbackd.toml", &read("examples/postbackd.toml"));
    catalog("examples/catalog.toml", &read("examples/catalog.toml"));
    let page = read("docs/configuration.md");
    assert!(!toml_blocks(&page).is_empty());
    toml_blocks(&page).into_iter().for_each(|block| config("docs/configuration.md", block));
    toml_blocks(&read("docs/privacy.md"))
        .into_iter()
        .for_each(|block| config("docs/privacy.md", block));
    let page = read("docs/catalog.md");
    assert!(!toml_blocks(&page).is_empty());
    toml_blocks(&page).into_iter().for_each(|block| catalog("docs/catalog.md", block));
    let page = read("docs/presets.md");
    assert!(!toml_blocks(&page).is_empty());
    toml_blocks(&page).into_iter().for_each(|block| catalog("docs/presets.md", block));
}

/// The lines of a page under `## name`.
fn section<'p>(page: &'p str, name: &str) -> Vec<&'p str> {
    let heading = format!("## {name}");
    let lines = page.lines().skip_while(|line| *line != heading).skip(1);
    let lines: Vec<_> = lines.take_while(|line| !line.starts_with("## ")).collect();
    assert!(!lines.is_empty(), "no section {heading:?}");
    lines
}

#[test]
fn the_presets_page_says_of_each_preset_what_its_table_says() {
    let page = read("docs/presets.md");
    for preset in Preset::ALL {
        let (lines, dialect) = (section(&page, preset.as_str()), preset.dialect());
        for (name, field) in dialect.params {
            // Ten subs share a row.
            let meaning =
                if Field::SUBS.contains(field) { "sub1` to `sub10" } else { field.as_str() };
            let (name, meaning) = (format!("`{name}`"), format!("| `{meaning}` |"));
            let says = |line: &&str| line.contains(&name) && line.ends_with(&meaning);
            assert!(lines.iter().any(says), "{preset}: {name} is {meaning}");
        }
        let statuses = dialect.statuses.iter().map(|(word, _)| *word);
        let paths = dialect.paths.iter().copied();
        for word in statuses.chain(paths).chain([dialect.answer.as_str()]) {
            assert!(lines.concat().contains(&format!("`{word}`")), "{preset}: {word}");
        }
    }
    let forms: Vec<_> = AnswerForm::ALL.iter().map(|form| form.as_str().to_owned()).collect();
    let listed = table_under(&page, "## Answer forms").into_iter();
    assert_eq!(listed.map(|mut row| row.remove(0)).collect::<Vec<_>>(), forms);
}

#[test]
fn every_preset_has_a_url_to_paste_that_means_what_it_should() {
    let page = read("docs/presets.md");
    for preset in Preset::ALL {
        let lines = section(&page, preset.as_str());
        let mut urls = lines.iter().filter_map(|line| line.strip_prefix("https://track.example"));
        let url = urls.next().unwrap_or_else(|| panic!("{preset} has no URL"));
        let (path, query) = url.split_once('?').expect("with parameters");
        let to_advertiser = path == "/postback/acme" || *preset == Preset::Standard;
        assert!(to_advertiser || Preset::at(path) == Some((*preset, Some("acme"))), "{path}");
        let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
        let meanings: Vec<_> = names.filter_map(|name| preset.meaning(name)).collect();
        let of = |field| meanings.iter().filter(|known| **known == field).count();
        assert_eq!(of(Field::ClickId), 1, "{preset}: one click ID in {query}");
        assert!(meanings.iter().all(|field| of(*field) == 1), "{preset}: {query}");
    }
}

#[test]
fn every_page_that_is_linked_is_there() {
    for page in [
        "README.md",
        "SECURITY.md",
        "ARCHITECTURE.md",
        "docs/configuration.md",
        "docs/operations.md",
        "docs/api.md",
        "docs/store-format.md",
        "docs/presets.md",
        "docs/catalog.md",
        "docs/ledger.md",
        "docs/privacy.md",
    ] {
        let folder = Path::new(page).parent().expect("a file");
        for link in read(page).split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0))
        {
            let target = link.split('#').next().unwrap_or_default();
            let outside = target.is_empty() || target.contains("://");
            assert!(outside || root().join(folder).join(target).exists(), "{page} links to {link}");
        }
    }
}

/// What a page names in back-quotes that begins with one of these.
fn named_with<'p>(page: &'p str, starts: &[&str]) -> Vec<&'p str> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter(|word| starts.iter().any(|start| word.starts_with(start))).collect()
}

#[test]
fn the_tests_that_the_security_page_names_are_there() {
    let page = read("SECURITY.md");
    let files = named_with(&page, &["tests/", "src/", "fuzz/", "deploy/"]);
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        assert!(root().join(file).exists(), "{file}");
    }
    for line in page.lines().filter(|line| line.starts_with('|')) {
        // A test's name follows its file.
        for (file, test) in line.split('`').zip(line.split('`').skip(2)).skip(1).step_by(2) {
            let is_test = file.starts_with("tests/") && test.contains('_');
            assert!(!is_test || read(file).contains(&format!("fn {test}()")), "{file}: {test}");
        }
    }
}

/// What is wrong with the tests that a row of limits names: they are there, and each reason in the
/// row is in one of them.
fn names_its_tests(row: &str) -> Vec<String> {
    let quoted: Vec<_> = row.split('`').skip(1).step_by(2).collect();
    let mut faults = Vec::new();
    let mut tests = String::new();
    for file in quoted.iter().filter(|word| word.ends_with(".rs")) {
        let path = if file.contains('/') { (*file).to_owned() } else { format!("tests/it/{file}") };
        match std::fs::read_to_string(root().join(path)) {
            Ok(text) => tests += &text,
            Err(error) => faults.push(format!("{file}: {error}")),
        }
    }
    let is_reason = |word: &str| {
        Refusal::ALL.iter().any(|it| it.as_str() == word)
            || Unavailability::ALL.iter().any(|it| it.as_str() == word)
            || Flag::ALL.iter().any(|it| it.as_str() == word)
    };
    let reasons = quoted.iter().filter(|word| !tests.is_empty() && is_reason(word));
    faults.extend(reasons.filter(|it| !has_word(&tests, it)).map(|it| format!("{it}: no test")));
    faults
}

#[test]
fn the_tests_that_the_table_of_limits_names_are_there() {
    let page = read("docs/operations.md");
    let section = page.split_once("\n## Limits\n").expect("a section").1;
    let section = section.split_once("\n## ").expect("more behind it").0;
    let rows: Vec<_> = section.lines().filter(|line| line.contains(".rs` |")).collect();
    assert!(rows.len() > 30, "{rows:?}");
    let faults: Vec<_> = rows.into_iter().flat_map(names_its_tests).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    for sample in
        ["| x | reason `store_busy` | `tests/tidied.rs` |", "| x | `too_fast` | `main.rs` |"]
    {
        assert_eq!(names_its_tests(sample).len(), 1, "{sample}");
    }
}

#[test]
fn the_api_page_lists_exactly_what_the_audit_log_keeps() {
    let rows = table_under(&read("docs/api.md"), "### Audit log");
    let listed: Vec<_> = rows.iter().flat_map(|row| row[0].split("`, `")).collect();
    let actions: Vec<_> = AuditAction::ALL.iter().map(|action| action.as_str()).collect();
    assert_eq!(listed, actions);
}
