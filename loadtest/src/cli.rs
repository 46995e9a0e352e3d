//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Load generator and book checker for postbackd.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve constant answers with the product's HTTP set-up: what any server could reach at most.
    Floor(FloorArgs),
    /// Print the catalog that runs are spread over, for the server to use.
    Catalog(CatalogArgs),
    /// Load a running server with one scenario; exits 1 if the books do not match.
    Run(RunArgs),
    /// Measure a server binary against the floor, the whole table; writes table.json and table.html.
    Table(TableArgs),
    /// Load a server binary for a long time, sample its memory, check everything at the end; writes
    /// soak.csv. Exits 1 if memory still grows in the last quarter, as it does while caches fill:
    /// half an hour is enough for that.
    Soak(SoakArgs),
}

#[derive(Debug, Args)]
pub struct FloorArgs {
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Worker threads; 0: one per core.
    #[arg(long, default_value_t = 0)]
    pub workers: usize,
    /// Speak TLS with this certificate (PEM).
    #[arg(long, requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// The certificate's key (PEM).
    #[arg(long, requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// Answer when 200 bytes for each request are on disk in this file, which is made anew.
    #[arg(long)]
    pub journal: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScenarioName {
    /// Clicks with varied subs.
    Click,
    /// Sales with distinct transaction IDs.
    Postback,
    /// Sales sent once, then only repeats of them.
    Duplicate,
    /// Sales whose click IDs carry a flipped character in the MAC.
    Forged,
    /// Clicks, sales, retries and repeats at the same moment, out of order; checks the books.
    Funnel,
}

/// What the advertiser asks of its senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// Nothing: a genuine click ID is enough.
    None,
    /// A token.
    Token,
    /// A signature, HMAC-SHA256.
    Hmac,
}

/// What requests are spread over. A server that is not started here needs this catalog.
#[derive(Clone, Debug, Args)]
pub struct CatalogArgs {
    /// The first offer; further ones are called OFFER-1, OFFER-2 and so on.
    #[arg(long, default_value = "spring")]
    pub offer: String,
    /// The first affiliate, and the start of further ones' names.
    #[arg(long, default_value = "pub-7")]
    pub affiliate: String,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub offers: u32,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub affiliates: u32,
    /// What postbacks show. A server that is not started here needs the secret, which is
    /// `loadtest-secret`, in its environment as LOADTEST_SECRET.
    #[arg(long, value_enum, default_value_t = Auth::None)]
    pub auth: Auth,
}

/// How hard to push.
#[derive(Clone, Debug, Args)]
pub struct LoadArgs {
    /// Keep-alive connections, one request on each at a time.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub connections: u32,
    /// Generator threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Measured seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Seconds before measuring.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub warmup: u64,
    /// Clicks made beforehand, whose IDs the postbacks use in turn.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub clicks_pool: u64,
    /// Distinct postbacks of the duplicate scenario, sent once before they are repeated.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub originals: u64,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    pub scenario: ScenarioName,
    /// The public listener, http://HOST:PORT or https://HOST:PORT.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// For https: the authorities that the server's certificate must come from, PEM.
    #[arg(long)]
    pub ca: Option<PathBuf>,
    /// The admin listener, http://HOST:PORT; needed for the book check.
    #[arg(long, default_value = "http://127.0.0.1:9090")]
    pub admin: String,
    /// File that holds the admin token.
    #[arg(long)]
    pub admin_token_file: Option<PathBuf>,
    #[command(flatten)]
    pub load: LoadArgs,
    #[command(flatten)]
    pub catalog: CatalogArgs,
    /// Open loop: so many requests a second, latency from the intended send time.
    #[arg(long)]
    pub rate: Option<NonZeroU64>,
    /// Postback and funnel: so many accepted sales a second are taken back, on a further
    /// connection, whenever there are any, and counted apart. 0: none.
    #[arg(long, default_value_t = 0)]
    pub changes_per_second: u64,
    /// How old a sale is when it is taken back, seconds.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub changes_after: u64,
    /// Hold all answers against the stored conversions afterwards; funnel always does.
    #[arg(long)]
    pub check_books: bool,
    /// Hold money, too, against what the catalog that `loadtest catalog` prints makes of each
    /// accepted sale: in the conversions, the ledger and the totals. Checks the books besides.
    #[arg(long)]
    pub check_money: bool,
    /// Start of all transaction IDs; a new one each time unless given. No `-`.
    #[arg(long)]
    pub run_id: Option<String>,
    /// Seed of the funnel's chances.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Share of the funnel's clicks that convert, percent.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub converts: u32,
    /// Share of the funnel's answered postbacks sent again, percent.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(0..=90))]
    pub retried: u32,
    /// Share of the funnel's postbacks sent twice at the same moment, percent.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub doubled: u32,
    /// The address is a floor: any 2xx or 3xx counts as the wanted answer.
    #[arg(long)]
    pub lenient: bool,
    /// Print the result as JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct TableArgs {
    /// The postbackd binary, a release build.
    #[arg(long)]
    pub server_bin: PathBuf,
    /// Rounds of floor and server per scenario, taken in turns.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Measured seconds a round.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Seconds before measuring, each round.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=60))]
    pub warmup: u64,
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub connections: u32,
    /// Generator threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Workers of both servers; 0: one per core.
    #[arg(long, default_value_t = 0)]
    pub workers: usize,
    /// Sales of an earlier round that are taken back a second in the open loop of postbacks. 0:
    /// none.
    #[arg(long, default_value_t = 10)]
    pub changes_per_second: u64,
    /// Speak TLS to both servers, with a certificate made for it.
    #[arg(long)]
    pub tls: bool,
    #[command(flatten)]
    pub catalog: CatalogArgs,
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub clicks_pool: u64,
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub originals: u64,
    /// Where table.json and table.html go; stores are made here too, so it should be the disk
    /// the product would use.
    #[arg(long, default_value = "target/load")]
    pub out_dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct SoakArgs {
    /// The postbackd binary, a release build.
    #[arg(long)]
    pub server_bin: PathBuf,
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=1440))]
    pub minutes: u64,
    /// Requests a second; half of what a first run of 20 seconds reaches unless given.
    #[arg(long)]
    pub rate: Option<NonZeroU64>,
    /// Memory that the server may have in use at any second.
    #[arg(long, default_value_t = 1536)]
    pub resident_mib_max: u32,
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub connections: u32,
    /// Generator threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Workers of the server; 0: one per core.
    #[arg(long, default_value_t = 0)]
    pub workers: usize,
    /// Sales that are taken back a second. 0: none.
    #[arg(long, default_value_t = 10)]
    pub changes_per_second: u64,
    #[command(flatten)]
    pub catalog: CatalogArgs,
    /// Seed of the funnel's chances.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where soak.csv goes; the store is made here too, so it should be the disk the product would
    /// use.
    #[arg(long, default_value = "target/load")]
    pub out_dir: PathBuf,
}
