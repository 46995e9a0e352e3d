//! The configuration: one TOML file, every key overridable by an environment variable, every key
//! with a default, every mistake reported at once. `docs/configuration.md` lists the keys.

mod differing;
mod file;
mod load;
mod secret_source;
mod settings;
mod tokens;
mod words;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use jiff::tz::TimeZone;

use crate::model::admin::KnownToken;
use crate::model::currency::Currency;
use crate::model::ip::IpStorage;
use crate::model::rate_limit::RateLimit;
use crate::model::url::HttpUrl;

pub use crate::model::secret::Secret;
pub use file::ReadError;
pub use load::rate_limit;
pub use secret_source::{SecretError, SecretSource, hash_text};
pub use words::{LogFormat, LogLevel, ReferrerPolicy, WithoutConsent};

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The catalog file; `None` (default): the catalog is managed by the API.
    pub catalog: Option<PathBuf>,
    /// The file of exchange rates; `None` (default): rates come by the API alone.
    pub rates: Option<RatesFile>,
    /// `[server]`
    pub server: Server,
    /// `[admin]`
    pub admin: Admin,
    /// `[store]`
    pub store: Store,
    /// `[backup]`
    pub backup: Backup,
    /// `[dedupe]`
    pub dedupe: Dedupe,
    /// `[limits]`
    pub limits: Limits,
    /// `[network]`
    pub network: Network,
    /// `[click]`
    pub click: Click,
    /// `[inbound]`
    pub inbound: Inbound,
    /// `[privacy]`
    pub privacy: Privacy,
    /// `[retention]`
    pub retention: Retention,
    /// `[log]`
    pub log: Log,
}

/// A file of exchange rates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RatesFile {
    /// Where it is.
    pub path: PathBuf,
    /// The currency that the rates of a CSV table are of; `None` of a TOML file, which says it.
    pub table_base: Option<Currency>,
}

/// The public listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Address of the public listener. Default 127.0.0.1:8080: nothing is open by accident.
    pub listen: SocketAddr,
    /// Worker threads; 0 (default): one per core.
    pub workers: u32,
    /// 0..=1023, unique per tracker node: it is part of every click ID. Default 0.
    pub node: u16,
    /// Certificates; `None` (default): HTTP in clear text.
    pub tls: Option<Tls>,
    /// Who may say in headers where a visitor comes from. Default nobody.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether every connection is of a trusted proxy and begins with a PROXY header. Default no.
    pub proxy_protocol: bool,
    /// How long open requests may take after a stop signal. Default 10 s: below the 30 s after
    /// which most supervisors kill.
    pub drain_deadline: Duration,
    /// Connections open at once. Default 10,000: below common limits of file descriptors.
    pub connections_max: u32,
    /// Connections open at once from one address. Default 1,000: many visitors share one address
    /// behind carriers' NAT and proxies.
    pub connections_per_ip_max: u32,
    /// How long a connection may wait for the end of a request's headers, idle time between
    /// requests included. Default 75 s: longer than the 60 s of common load balancers, so that
    /// they close first.
    pub header_read_timeout: Duration,
}

/// The files of a listener's certificates, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The listener's certificate, and after it those that lead to an authority.
    pub certificate: PathBuf,
    /// The private key of the first.
    pub key: PathBuf,
}

/// The admin listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Address of the admin listener. Default 127.0.0.1:9090.
    pub listen: SocketAddr,
    /// Certificates; `None` (default): HTTP in clear text.
    pub tls: Option<Tls>,
    /// The bearer token; `None` (default): one is created in the store's folder.
    pub token: Option<Secret<String>>,
    /// Further tokens, by name. Default none.
    pub tokens: Vec<KnownToken>,
}

/// The store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The data folder. Default `data`.
    pub path: PathBuf,
    /// Whether a store is made where there is none. Default true.
    pub create: bool,
    /// Threads that read what is not in memory. Default 2: reads are rare, disks like few.
    pub reader_threads: u32,
    /// Memory for blocks read from disk, bytes. Default 256 MiB.
    pub block_cache_bytes: u64,
    /// Free disk space, bytes, under which postbacks are refused, and clicks not recorded under twice
    /// as much. Default 1 GiB: room for compaction, and time to act.
    pub free_space_reserve_bytes: u64,
    /// Log files made ready at the start, 64 MiB each. Default 3: two in use, one being written out.
    pub log_files_ready: u32,
}

/// Backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The folder of all backups, of this store alone; `None` (default): there are none.
    pub path: Option<PathBuf>,
    /// How many are kept. Default 7.
    pub keep: u32,
    /// How often one is made; `None` (default): when told.
    pub every: Option<Duration>,
    /// Whether each is verified before it counts. Default true.
    pub verify: bool,
}

impl Backup {
    /// How often there should be one, if there are any: a day where none is planned, as whoever
    /// has them made from outside is likely to.
    #[must_use]
    pub fn expected_every(&self) -> Option<Duration> {
        let every = self.every.unwrap_or(Duration::from_secs(24 * 60 * 60));
        self.path.is_some().then_some(every)
    }
}

/// The claims kept in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dedupe {
    /// Entries of one generation at least; two are kept. Default 1,750,000: 143 MB when both are
    /// full.
    pub cache_entries: u32,
}

/// How much is let in, beside the connections of `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Clicks of one address; `None` (default): any number. Many visitors share one address.
    pub clicks_per_ip: Option<RateLimit>,
    /// Postbacks of one address; `None` (default): any number.
    pub postbacks_per_ip: Option<RateLimit>,
    /// Postbacks that wait at once for their body, for a read or for each other. Default 4,096:
    /// with bodies of 64 KiB they take 256 MiB. One source has an eighth of them at most.
    pub postbacks_waiting_max: u32,
}

/// What holds for the whole network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Where days begin, an IANA name. Default UTC.
    pub time_zone: TimeZone,
    /// Currency of payouts that name none. Default USD.
    pub currency: Currency,
    /// Where clicks go that have no other place to go; `None` (default): they get a 404.
    pub fallback_url: Option<HttpUrl>,
}

/// How clicks are answered and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Click {
    /// How long a redirect waits for the disk before it goes out anyway. Default 50 ms: a
    /// visitor does not notice it.
    pub ack_deadline: Duration,
    /// How visitors' addresses are kept. Default truncated.
    pub ip: IpStorage,
    /// The header in which trusted proxies say the visitor's country, letters, digits, `-` and
    /// `_` only; `None` (default): none does.
    pub country_header: Option<String>,
    /// The redirect's `Referrer-Policy`.
    pub referrer_policy: ReferrerPolicy,
    /// Signs click IDs; `None` (default): the key created on first start, kept in the store.
    pub signing_key: Option<Secret<[u8; 32]>>,
    /// Earlier keys, whose click IDs are still accepted. Default none.
    pub verification_keys: Vec<Secret<[u8; 32]>>,
}

/// How postbacks are kept as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Bytes of refused ones and duplicates that are written down in a day, before compression.
    /// Default 2 GiB: some 80 a second, all day, and a month of it in 60 GiB at the worst.
    pub refused_bytes_per_day: u64,
    /// How the addresses of their senders are kept. Default full: they are advertisers' servers.
    pub ip: IpStorage,
}

/// What is kept of people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privacy {
    /// What is kept of a click whose visitor has not consented. Default keep.
    pub without_consent: WithoutConsent,
}

/// How long records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Clicks. Default 90 days.
    pub clicks: Duration,
    /// Postbacks as received. Default 30 days.
    pub inbound: Duration,
    /// Conversions and what makes them count once. Default 400 days: a year and the audit of it.
    pub conversions: Duration,
    /// The audit log. Default 400 days, as conversions.
    pub audit: Duration,
}

/// Log output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Default auto.
    pub format: LogFormat,
    /// Default info.
    pub level: LogLevel,
}
