//! From text and environment to the checked configuration.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use jiff::tz::TimeZone;

use super::settings::Settings;
use super::tokens::tokens;
use super::{
    Admin, Backup, Click, Config, Dedupe, Inbound, Limits, Log, LogFormat, LogLevel, Network,
    Privacy, RatesFile, ReferrerPolicy, Retention, Secret, Server, Store, Tls, WithoutConsent,
};
use crate::checked_toml::{Complaint, Report, Source, units};
use crate::limits::{
    BACKUPS_KEPT_MAX, INBOUND_REFUSED_BYTES_PER_DAY, LOG_FILES_READY_MAX, TOKEN_CHARS_MIN,
};
use crate::model::currency::Currency;
use crate::model::hex::unhex;
use crate::model::ip::IpStorage;
use crate::model::rate_limit::RateLimit;
use crate::model::url::HttpUrl;
use crate::space::memory_bytes;

/// A header name longer than this is a mistake.
const HEADER_NAME_BYTES_MAX: usize = 64;
/// The most that a rate limit can count: what a slice of its time holds.
const RATE_COUNT_MAX: u64 = 1_000_000_000;
/// The time of a rate limit, milliseconds.
const RATE_PERIOD_MS: RangeInclusive<u64> = 1000..=24 * 60 * 60 * 1000;
/// Highest node number: ten bits of a click ID.
const NODE_MAX: u32 = crate::click_id::NODE_MAX as u32;

impl Config {
    /// Reads `text`, the file called `file_name` (`None`: there is no file), and the environment
    /// over it. The report beside the configuration holds warnings only.
    ///
    /// # Errors
    /// The report of all mistakes and warnings.
    pub fn load(
        text: Option<&str>,
        file_name: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Self, Report), Report> {
        let (config, report) = Self::read_below(Path::new(""), text, file_name, env)?;
        if report.has_errors() { Err(report) } else { Ok((config, report)) }
    }

    /// As [`Self::load`], with relative paths that start at `folder`, and with mistakes too, where
    /// defaults stand for what cannot be read; an error if the text is no TOML.
    pub(super) fn read_below(
        folder: &Path,
        text: Option<&str>,
        file_name: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Self, Report), Report> {
        let environment: BTreeMap<String, String> = env.into_iter().collect();
        let source = Source::parse(text.unwrap_or_default(), file_name)?;
        let mut settings = Settings::new(&source, &environment);
        let mut config = Self::read(&mut settings);
        config.begin_paths_at(folder);
        config.check_relations(&settings);
        settings.finish();
        Ok((config, source.into_report()))
    }

    /// Where the admin token is that the server made itself, if none is configured.
    #[must_use]
    pub fn admin_token_file(&self) -> PathBuf {
        self.store.path.join("admin.token")
    }

    /// Every key, dotted, in the order of the documentation.
    #[must_use]
    pub fn keys() -> Vec<&'static str> {
        let source = Source::parse("", "").expect("nothing has no mistakes");
        let environment = BTreeMap::new();
        let mut settings = Settings::new(&source, &environment);
        let _ = Self::read(&mut settings);
        settings.finish()
    }

    /// The environment variable that overrides a key.
    #[must_use]
    pub fn variable(key: &str) -> String {
        super::settings::variable(key)
    }

    fn read(settings: &mut Settings<'_>) -> Self {
        let time_zone = settings.text("network.time_zone", TimeZone::UTC, time_zone);
        Self {
            catalog: settings.optional("catalog", |input| path(input.text()?)),
            rates: rates(settings),
            server: server(settings),
            admin: admin(settings, &time_zone),
            store: store(settings),
            backup: backup(settings),
            dedupe: Dedupe {
                cache_entries: settings.integer(
                    "dedupe.cache_entries",
                    1_750_000,
                    1_000..=500_000_000,
                ),
            },
            limits: limits(settings),
            network: Network {
                time_zone,
                currency: settings
                    .text("network.currency", Currency::USD, |text| Ok(Currency::parse(text)?)),
                fallback_url: settings
                    .optional("network.fallback_url", |i| Ok(HttpUrl::parse(i.text()?)?)),
            },
            click: click(settings),
            inbound: Inbound {
                refused_bytes_per_day: settings.text(
                    "inbound.refused_per_day",
                    INBOUND_REFUSED_BYTES_PER_DAY,
                    units::size,
                ),
                ip: settings.word("inbound.ip", IpStorage::Full, &IpStorage::WORDS),
            },
            privacy: Privacy {
                without_consent: settings.word(
                    "privacy.without_consent",
                    WithoutConsent::Keep,
                    &WithoutConsent::WORDS,
                ),
            },
            retention: Retention {
                clicks: settings.duration("retention.clicks", "90d", ["1d", "36500d"]),
                inbound: settings.duration("retention.inbound", "30d", ["1d", "36500d"]),
                conversions: settings.duration("retention.conversions", "400d", ["1d", "36500d"]),
                audit: settings.duration("retention.audit", "400d", ["1d", "36500d"]),
            },
            log: Log {
                format: settings.word("log.format", LogFormat::Auto, &LogFormat::WORDS),
                level: settings.word("log.level", LogLevel::DEFAULT, &LogLevel::WORDS),
            },
        }
    }

    fn check_relations(&self, settings: &Settings<'_>) {
        let (public, admin) = (self.server.listen, self.admin.listen);
        let same_ip = public.ip() == admin.ip()
            || public.ip().is_unspecified()
            || admin.ip().is_unspecified();
        if public.port() != 0 && public.port() == admin.port() && same_ip {
            settings
                .error("admin.listen", "is the public listener's address too; choose another port");
        }
        if !admin.ip().is_loopback() && self.admin.tls.is_none() {
            settings.warning(
                "admin.listen",
                "other machines can reach the admin listener; its token travels unencrypted",
            );
        }
        let behind_proxy = !self.server.trusted_proxies.is_empty();
        if !public.ip().is_loopback() && self.server.tls.is_none() && !behind_proxy {
            let what = "other machines can reach the public listener, and nothing is encrypted: \
                        set server.tls_certificate, or name the proxy that encrypts in \
                        server.trusted_proxies";
            settings.warning("server.listen", what);
        }
        if self.server.proxy_protocol && !behind_proxy {
            let what = "nobody could connect: server.trusted_proxies names no proxy";
            settings.error("server.proxy_protocol", what);
        }
        if self.server.connections_per_ip_max > self.server.connections_max {
            settings.warning(
                "server.connections_per_ip_max",
                "is above server.connections_max and has no effect",
            );
        }
        if self.retention.conversions < self.retention.clicks {
            let what =
                "is shorter than retention.clicks: a postback repeated after it counts again";
            settings.warning("retention.conversions", what);
        }
        if self.backup.every.is_some() && self.backup.path.is_none() {
            settings.error("backup.every", "has no effect: backup.path names no folder");
        }
        if let Some(backups) = self.backup.path.as_deref().map(resolved) {
            let store = resolved(&self.store.path);
            if backups.starts_with(&store) || store.starts_with(&backups) {
                let what = "is the store's folder, in it or around it; choose another";
                settings.error("backup.path", what);
            }
        }
        if self.click.country_header.is_some() && self.server.trusted_proxies.is_empty() {
            let what = "has no effect: server.trusted_proxies names nobody who may send it";
            settings.warning("click.country_header", what);
        }
        let short = |token: &Secret<String>| token.expose().len() < TOKEN_CHARS_MIN;
        if self.admin.token.as_ref().is_some_and(short) {
            settings.warning(
                "admin.token",
                format!("has fewer than {TOKEN_CHARS_MIN} characters and can be guessed"),
            );
        }
    }
}

/// The file of rates; without a base where one is missing, which is noted.
fn rates(settings: &mut Settings<'_>) -> Option<RatesFile> {
    let path = settings.optional("rates", |input| path(input.text()?));
    let base = settings.optional("rates_base", |input| Ok(Currency::parse(input.text()?)?));
    let is_table = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
    };
    let is_table = path.as_ref().is_some_and(is_table);
    if is_table && base.is_none() {
        let what = "does not say of which currency its rates are: set rates_base, such as \"EUR\" \
                    for the tables of the European Central Bank";
        settings.error("rates", what);
        return None;
    }
    if !is_table && base.is_some() {
        settings.warning("rates_base", "has no effect: rates names no CSV file");
    }
    Some(RatesFile { path: path?, table_base: base.filter(|_| is_table) })
}

fn server(settings: &mut Settings<'_>) -> Server {
    let node = settings.integer("server.node", 0, 0..=NODE_MAX);
    Server {
        listen: settings.text("server.listen", ([127, 0, 0, 1], 8080).into(), address),
        workers: settings.integer("server.workers", 0, 0..=1024),
        node: u16::try_from(node).expect("at most NODE_MAX"),
        trusted_proxies: settings.list("server.trusted_proxies", |text| {
            let hint = "is not a network such as \"10.0.0.0/8\" or \"2001:db8::/32\"";
            parsed(text, hint)
        }),
        proxy_protocol: settings
            .optional("server.proxy_protocol", |input| input.boolean())
            .unwrap_or(false),
        tls: tls(settings, ["server.tls_certificate", "server.tls_key"]),
        drain_deadline: settings.duration("server.drain_deadline", "10s", ["100ms", "10m"]),
        connections_max: settings.integer("server.connections_max", 10_000, 1..=1_000_000),
        connections_per_ip_max: settings.integer(
            "server.connections_per_ip_max",
            1_000,
            1..=1_000_000,
        ),
        header_read_timeout: settings.duration(
            "server.header_read_timeout",
            "75s",
            ["100ms", "10m"],
        ),
    }
}

/// Both files or none.
fn tls(settings: &mut Settings<'_>, keys: [&'static str; 2]) -> Option<Tls> {
    let files = keys.map(|key| settings.optional(key, |input| path(input.text()?)));
    let [certificate, key] = keys;
    match files {
        [None, None] => None,
        [Some(certificate), Some(key)] => Some(Tls { certificate, key }),
        [Some(_), None] => {
            settings.error(certificate, format!("is of no use without {key}"));
            None
        }
        [None, Some(_)] => {
            settings.error(key, format!("is of no use without {certificate}"));
            None
        }
    }
}

fn admin(settings: &mut Settings<'_>, time_zone: &TimeZone) -> Admin {
    let listen = settings.text("admin.listen", ([127, 0, 0, 1], 9090).into(), address);
    let token = settings.optional("admin.token", |input| token(input.text()?));
    let tokens = tokens(settings, time_zone, token.as_ref());
    let tls = tls(settings, ["admin.tls_certificate", "admin.tls_key"]);
    Admin { listen, tls, token, tokens }
}

fn store(settings: &mut Settings<'_>) -> Store {
    let (block_cache, reserve) = (256 << 20, 1 << 30);
    Store {
        path: settings.text("store.path", PathBuf::from("data"), path),
        create: settings.optional("store.create", |input| input.boolean()).unwrap_or(true),
        reader_threads: settings.integer("store.reader_threads", 2, 1..=64),
        block_cache_bytes: settings.text(
            "store.block_cache",
            block_cache,
            |text| match units::size(text)? {
                0..0x80_0000 => Err(Complaint::new("must be at least \"8MiB\"")),
                // Some of it is made at once, and a process that does not get it is aborted.
                bytes => match memory_bytes().filter(|memory| bytes > *memory) {
                    Some(memory) => Err(Complaint::new(format!(
                        "must be less than this machine's memory, {} MiB",
                        memory >> 20
                    ))),
                    None => Ok(bytes),
                },
            },
        ),
        free_space_reserve_bytes: settings.text("store.free_space_reserve", reserve, units::size),
        log_files_ready: settings.integer("store.log_files_ready", 3, 0..=LOG_FILES_READY_MAX),
    }
}

fn backup(settings: &mut Settings<'_>) -> Backup {
    Backup {
        path: settings.optional("backup.path", |input| path(input.text()?)),
        keep: settings.integer("backup.keep", 7, 1..=BACKUPS_KEPT_MAX),
        every: settings.optional_duration("backup.every", ["1m", "30d"]),
        verify: settings.optional("backup.verify", |input| input.boolean()).unwrap_or(true),
    }
}

fn limits(settings: &mut Settings<'_>) -> Limits {
    Limits {
        clicks_per_ip: settings.optional("limits.clicks_per_ip", |i| rate_limit(i.text()?)),
        postbacks_per_ip: settings.optional("limits.postbacks_per_ip", |i| rate_limit(i.text()?)),
        postbacks_waiting_max: settings.integer(
            "limits.postbacks_waiting_max",
            4096,
            1..=1_000_000,
        ),
    }
}

fn click(settings: &mut Settings<'_>) -> Click {
    Click {
        ack_deadline: settings.duration("click.ack_deadline", "50ms", ["1ms", "10s"]),
        ip: settings.word("click.ip", IpStorage::Truncated, &IpStorage::WORDS),
        country_header: settings.optional("click.country_header", |i| header(i.text()?)),
        referrer_policy: settings.word(
            "click.referrer_policy",
            ReferrerPolicy::DEFAULT,
            &ReferrerPolicy::WORDS,
        ),
        signing_key: settings.optional("click.signing_key", |input| key(input.text()?)),
        verification_keys: settings.list("click.verification_keys", key),
    }
}

/// Reads a rate limit as people write it: `"600/1m"` are 600 in a minute.
///
/// # Errors
/// When the text has another form, or says what cannot be counted.
pub fn rate_limit(text: &str) -> Result<RateLimit, Complaint> {
    let form = || Complaint::new(format!("{text:?} is not a rate limit such as \"600/1m\""));
    let (count, period) = text.split_once('/').ok_or_else(form)?;
    let count = Some(count).filter(|count| count.bytes().all(|byte| byte.is_ascii_digit()));
    let count = count.and_then(|count| count.parse::<u64>().ok()).ok_or_else(form)?;
    let period_ms = u64::try_from(units::duration(period).map_err(|_| form())?.as_millis());
    let period_ms = period_ms.map_err(|_| form())?;
    if !(1..=RATE_COUNT_MAX).contains(&count) || !RATE_PERIOD_MS.contains(&period_ms) {
        return Err(Complaint::new("must be from 1 to 1000000000, in \"1s\" to \"1d\""));
    }
    Ok(RateLimit { count, period_ms })
}

fn address(text: &str) -> Result<SocketAddr, Complaint> {
    parsed(text, "is not an address and port such as \"127.0.0.1:8080\" or \"[::]:8080\"")
}

/// A path without detours: absolute, with `..` and links resolved as far as there is something.
fn resolved(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for part in std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components() {
        match part {
            Component::ParentDir => _ = resolved.pop(),
            part => resolved.push(part),
        }
        if let Ok(real) = resolved.canonicalize() {
            resolved = real;
        }
    }
    resolved
}

fn path(text: &str) -> Result<PathBuf, Complaint> {
    if text.is_empty() { Err(Complaint::new("must not be empty")) } else { Ok(text.into()) }
}

/// Headers may have other characters, but those that carry a country do not.
fn header(text: &str) -> Result<String, Complaint> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !(1..=HEADER_NAME_BYTES_MAX).contains(&text.len()) || !text.bytes().all(valid) {
        return Err(Complaint::new("is not the name of a header such as \"CF-IPCountry\""));
    }
    Ok(text.to_owned())
}

fn time_zone(text: &str) -> Result<TimeZone, Complaint> {
    let unknown =
        |_| Complaint::new(format!("{text:?} is not an IANA time zone such as \"Europe/Berlin\""));
    TimeZone::get(text).map_err(unknown)
}

fn parsed<T: FromStr>(text: &str, hint: &str) -> Result<T, Complaint> {
    text.parse().map_err(|_| Complaint::new(format!("{text:?} {hint}")))
}

/// What is wrong with a secret is said without quoting it.
fn token(text: &str) -> Result<Secret<String>, Complaint> {
    if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Complaint::new(
            "must be a text without spaces; leave it out to have one created",
        ));
    }
    Ok(Secret::new(text.to_owned()))
}

/// See [`token`].
fn key(text: &str) -> Result<Secret<[u8; 32]>, Complaint> {
    let wrong = || Complaint::new("must be 64 hex digits, such as `openssl rand -hex 32` prints");
    unhex(text).map(Secret::new).ok_or_else(wrong)
}
