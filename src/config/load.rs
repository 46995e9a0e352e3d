//! From text and environment to the checked configuration.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use jiff::tz::TimeZone;

use super::settings::Settings;
use super::{
    Admin, Backup, Click, Config, Dedupe, IpStorage, Log, LogFormat, LogLevel, Network, Privacy,
    RatesFile, ReferrerPolicy, Retention, Secret, Server, Store, WithoutConsent,
};
use crate::checked_toml::{Complaint, Report, Source, units};
use crate::limits::BACKUPS_KEPT_MAX;
use crate::model::currency::Currency;
use crate::model::url::HttpUrl;

/// A token shorter than this can be guessed in time.
const TOKEN_CHARS_MIN: usize = 16;
/// A header name longer than this is a mistake.
const HEADER_NAME_BYTES_MAX: usize = 64;
/// Highest node number: ten bits of a click ID.
const NODE_MAX: u32 = crate::click_id::NODE_MAX as u32;

impl Config {
    /// Reads `text`, the file called `file_name` (`None`: there is no file), and the environment
    /// over it. The report beside the configuration holds warnings only.
    ///
    /// # Errors
    /// The report of all mistakes and warnings.
    pub fn load_with_warnings(
        text: Option<&str>,
        file_name: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Self, Report), Report> {
        let environment: BTreeMap<String, String> = env.into_iter().collect();
        let source = Source::parse(text.unwrap_or_default(), file_name)?;
        let mut settings = Settings::new(&source, &environment);
        let config = Self::read(&mut settings);
        config.check_relations(&settings);
        settings.finish();
        let report = source.into_report();
        if report.has_errors() { Err(report) } else { Ok((config, report)) }
    }

    /// As [`Self::load_with_warnings`], without the warnings.
    ///
    /// # Errors
    /// The report of all mistakes and warnings.
    pub fn load(
        text: Option<&str>,
        file_name: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Report> {
        Self::load_with_warnings(text, file_name, env).map(|(config, _)| config)
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
        Self {
            catalog: settings.optional("catalog", |input| path(input.text()?)),
            rates: rates(settings),
            server: server(settings),
            admin: Admin {
                listen: settings.text("admin.listen", ([127, 0, 0, 1], 9090).into(), address),
                token: settings.optional("admin.token", |input| token(input.text()?)),
            },
            store: store(settings),
            backup: backup(settings),
            dedupe: Dedupe {
                cache_entries: settings.integer(
                    "dedupe.cache_entries",
                    1_750_000,
                    1_000..=500_000_000,
                ),
            },
            network: Network {
                time_zone: settings.text("network.time_zone", TimeZone::UTC, time_zone),
                currency: settings
                    .text("network.currency", Currency::USD, |text| Ok(Currency::parse(text)?)),
                fallback_url: settings
                    .optional("network.fallback_url", |i| Ok(HttpUrl::parse(i.text()?)?)),
            },
            click: click(settings),
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
        if !admin.ip().is_loopback() {
            settings.warning(
                "admin.listen",
                "other machines can reach the admin listener; its token travels unencrypted",
            );
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

fn store(settings: &mut Settings<'_>) -> Store {
    let (block_cache, reserve) = (256 << 20, 1 << 30);
    Store {
        path: settings.text("store.path", PathBuf::from("data"), path),
        reader_threads: settings.integer("store.reader_threads", 2, 1..=64),
        block_cache_bytes: settings.text(
            "store.block_cache",
            block_cache,
            |text| match units::size(text)? {
                0..0x80_0000 => Err(Complaint::new("must be at least \"8MiB\"")),
                bytes => Ok(bytes),
            },
        ),
        free_space_reserve_bytes: settings.text("store.free_space_reserve", reserve, units::size),
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

fn address(text: &str) -> Result<SocketAddr, Complaint> {
    parsed(text, "is not an address and port such as \"127.0.0.1:8080\" or \"[::]:8080\"")
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
    let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| wrong())?;
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(digits.as_chunks::<2>().0) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        let value = high.zip(low).map(|(high, low)| high << 4 | low).ok_or_else(wrong)?;
        *byte = u8::try_from(value).expect("two hex digits");
    }
    Ok(Secret::new(key))
}
