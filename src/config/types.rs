//! The configuration's keys, typed. Defaults stand in [`super::load`].

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::money::Currency;

/// Everything that can be configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// The catalog file.
    pub catalog: Option<PathBuf>,
    /// The public listener.
    pub server: ServerConfig,
    /// The admin listener.
    pub admin: AdminConfig,
    /// The store.
    pub store: StoreConfig,
    /// The claim cache: settled claims per generation, two generations.
    pub dedupe_cache_entries: usize,
    /// The network itself.
    pub network: NetworkConfig,
    /// Clicks.
    pub click: ClickConfig,
    /// How long records live.
    pub retention: RetentionConfig,
    /// Logs.
    pub log: LogConfig,
}

/// `[server]`
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Address of the public listener.
    pub listen: SocketAddr,
    /// Worker threads; 0 means one per core.
    pub workers: usize,
    /// Number of this tracker node.
    pub node: u16,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long requests under way may take to finish after SIGTERM.
    pub drain_deadline: Duration,
    /// Connections in total.
    pub connections_max: usize,
    /// Connections from one address.
    pub connections_per_ip_max: usize,
    /// How long a request's head may take, and a kept-alive connection idle.
    pub header_read_timeout: Duration,
}

/// `[admin]`
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Address of the admin listener.
    pub listen: SocketAddr,
    /// Bearer token; created in the store's folder if absent.
    pub token: Option<Secret<String>>,
}

/// `[store]`
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The store's folder.
    pub path: PathBuf,
    /// Threads for reads that memory cannot answer.
    pub reader_threads: usize,
    /// Block cache, bytes.
    pub block_cache: u64,
    /// Free space below which postbacks are refused, bytes.
    pub free_space_reserve: u64,
}

/// `[network]`
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// IANA name of the time zone that days are counted in.
    pub time_zone: String,
    /// Currency of amounts that name none.
    pub currency: Currency,
    /// Where clicks go whose offer has no fallback.
    pub fallback_url: Option<String>,
}

/// `[click]`
#[derive(Clone, Debug)]
pub struct ClickConfig {
    /// How long a redirect waits for the disk.
    pub ack_deadline: Duration,
    /// What is kept of a visitor's address.
    pub ip: KeptIp,
    /// `Referrer-Policy` of redirects.
    pub referrer_policy: &'static str,
    /// Signs click IDs instead of the store's own key.
    pub signing_key: Option<Secret<[u8; 32]>>,
    /// Verify click IDs, too.
    pub verification_keys: Vec<Secret<[u8; 32]>>,
}

/// What is kept of a visitor's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptIp {
    /// All of it.
    Full,
    /// /24 or /48.
    Truncated,
    /// A keyed hash.
    Hashed,
    /// Nothing.
    None,
}

/// `[retention]`
#[derive(Clone, Copy, Debug)]
pub struct RetentionConfig {
    /// Clicks.
    pub clicks: Duration,
    /// Postbacks as received.
    pub inbound: Duration,
    /// Conversions and their dedupe entries.
    pub conversions: Duration,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Form of the lines.
    pub format: LogFormat,
    /// Level, or a filter such as `postbackd=debug`.
    pub level: String,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// JSON.
    Json,
    /// Text.
    Text,
}

/// Something that never shows in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Hides a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value.
    pub const fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
