//! A server process on a folder, with ports and files of its own.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use postbackd::config::Config;
use serde_json::Value;
use tempfile::TempDir;

use super::{Connection, Disk, Ended, Response, binary, copy_tree, eventually, run};

/// How many commits a fresh server makes by itself, at least.
const OWN_COMMITS: f64 = 6.0;

/// Two advertisers, offers in every condition, affiliates, links.
pub const CATALOG: &str = include_str!("catalog.toml");

pub const TOKEN: &str = "an-admin-token-for-tests";

/// The binary, with SIGXFSZ ignored: what is ignored stays so across exec.
fn deaf_to_limits() -> Command {
    let mut command = Command::new("/bin/sh");
    command.env_clear().stdin(Stdio::null());
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_postbackd")]);
    command
}

/// What a server starts with.
pub struct Setup {
    catalog: String,
    source: &'static str,
    fallback: &'static str,
    keys: Vec<(String, String)>,
    lines: String,
    own_token: bool,
    files: Vec<(String, String)>,
    limit_is_an_error: bool,
    on_faulty_disk: bool,
    clock_off_ms: i64,
}

impl Setup {
    pub fn new() -> Self {
        let fallback = "fallback_url = \"https://network.example/unavailable\"\n";
        let source = "catalog = \"catalog.toml\"\n";
        Self {
            catalog: CATALOG.to_owned(),
            source,
            fallback,
            keys: Vec::new(),
            lines: String::new(),
            own_token: false,
            files: Vec::new(),
            limit_is_an_error: false,
            on_faulty_disk: false,
            clock_off_ms: 0,
        }
    }

    /// Starts with another catalog.
    pub fn catalog(mut self, text: String) -> Self {
        self.catalog = text;
        self
    }

    /// Leaves the network without a fallback URL.
    pub fn without_network_fallback(mut self) -> Self {
        self.fallback = "";
        self
    }

    /// Leaves the catalog to the API.
    pub fn without_catalog_file(mut self) -> Self {
        self.source = "";
        self
    }

    /// Sets a configuration key, by its environment variable.
    pub fn key(mut self, key: &str, value: &str) -> Self {
        self.keys.push((Config::variable(key), value.to_owned()));
        self
    }

    /// Adds lines to the end of the configuration.
    pub fn lines(mut self, lines: &str) -> Self {
        self.lines.push_str(lines);
        self
    }

    /// Has the server make its own admin token.
    pub fn without_admin_token(mut self) -> Self {
        self.own_token = true;
        self
    }

    /// Puts a file beside the configuration.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Writes beyond [`Server::limit_files`] fail, instead of ending the process by a signal.
    pub fn with_limit_of_files(mut self) -> Self {
        self.limit_is_an_error = true;
        self
    }

    /// Puts the server onto a disk that fails on command.
    pub fn on_faulty_disk(mut self) -> Self {
        self.on_faulty_disk = true;
        self
    }

    /// The same, and its clock is off by so much from the first start on.
    pub fn with_clock_off_by(self, ms: i64) -> Self {
        Self { clock_off_ms: ms, ..self.on_faulty_disk() }
    }

    /// Starts in a folder below this one.
    pub fn start_below(self, folder: &Path) -> Server {
        self.start_in(tempfile::tempdir_in(folder).expect("a folder"))
    }

    /// Starts on a copy of a store that is there already.
    pub fn start_on(self, store: &Path) -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        copy_tree(&store.join("db"), &folder.path().join("data/db"));
        self.start_in(folder)
    }

    pub fn start(self) -> Server {
        self.start_in(tempfile::tempdir().expect("a folder"))
    }

    fn start_in(self, folder: TempDir) -> Server {
        let (public, admin) = (free_address(), free_address());
        let token = if self.own_token { String::new() } else { format!("token = \"{TOKEN}\"\n") };
        let config = format!(
            "{}[server]\nlisten = \"{public}\"\nworkers = 2\n\
             [admin]\nlisten = \"{admin}\"\n{token}\
             [store]\npath = \"data\"\nblock_cache = \"8MiB\"\nfree_space_reserve = \"1MiB\"\n\
             log_files_ready = 0\n\
             [dedupe]\ncache_entries = 100000\n\
             [network]\n{}\
             [click]\nack_deadline = \"10s\"\n\
             [log]\nformat = \"text\"\n{}",
            self.source, self.fallback, self.lines,
        );
        std::fs::write(folder.path().join("postbackd.toml"), config).expect("writable");
        std::fs::write(folder.path().join("catalog.toml"), self.catalog).expect("writable");
        for (name, text) in self.files {
            std::fs::write(folder.path().join(name), text).expect("writable");
        }
        let (keys, limit_is_an_error) = (self.keys, self.limit_is_an_error);
        let disk = self.on_faulty_disk.then(|| Disk::new(folder.path()));
        disk.iter().for_each(|disk| disk.shift_clock(self.clock_off_ms));
        let run_by = Vec::new();
        let mut server =
            Server { folder, keys, run_by, limit_is_an_error, disk, public, admin, child: None };
        server.start_again();
        server
    }
}

/// Ports below those that the system gives to clients, so that no client takes one meanwhile.
fn free_address() -> SocketAddr {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 18_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 180) as u16 * 100;
    loop {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// A server; killed when dropped.
pub struct Server {
    folder: TempDir,
    keys: Vec<(String, String)>,
    run_by: Vec<String>,
    limit_is_an_error: bool,
    disk: Option<Disk>,
    pub public: SocketAddr,
    pub admin: SocketAddr,
    child: Option<Child>,
}

/// A postback's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub http: Response,
    pub json: Value,
}

impl Answer {
    pub fn of(http: Response) -> Self {
        let json = http.json();
        Self { http, json }
    }

    /// Status, `result` and `reason` (empty if there is none).
    pub fn verdict(&self) -> (u16, &str, &str) {
        (self.http.status, self.word("result"), self.word("reason"))
    }

    pub fn word(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or_default()
    }
}

impl Server {
    pub fn start() -> Self {
        Setup::new().start()
    }

    /// Starts the process, on the same folder as before, and waits until it is ready.
    pub fn start_again(&mut self) {
        self.launch();
        self.await_readiness(200);
    }

    /// Starts the process, on the same folder as before.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it is still running");
        let log = OpenOptions::new().create(true).append(true).open(self.log_path());
        let log: File = log.expect("a log file");
        let mut command = if self.limit_is_an_error { deaf_to_limits() } else { binary() };
        if let Some((first, rest)) = self.run_by.split_first() {
            command = Command::new(first);
            command.args(rest).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            command.stdin(Stdio::null());
        }
        let child = command
            .args(["serve", "--config"])
            .arg(self.path("postbackd.toml"))
            .envs(self.keys.iter().map(|(name, value)| (name, value)))
            .envs(self.disk.iter().flat_map(Disk::environment))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("the binary starts"));
    }

    /// Waits until `/readyz` answers with this status; returns what it says.
    pub fn await_readiness(&mut self, status: u16) -> String {
        eventually("readiness", || {
            assert!(self.exited().is_none(), "it does not start:\n{}", self.log());
            let ready =
                Connection::try_open(self.admin).ok()?.request("GET", "/readyz", "").ok()?;
            (ready.status == status).then(|| ready.text().to_owned())
        })
    }

    /// Sets a configuration key for the next start.
    pub fn set_key(&mut self, key: &str, value: &str) {
        self.keys.push((Config::variable(key), value.to_owned()));
    }

    /// Starts the process from now on by this command, which becomes the binary.
    pub fn run_by(&mut self, command: Vec<String>) {
        self.run_by = command;
    }

    /// Sets an environment variable for the next start.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.keys.push((name.to_owned(), value.to_owned()));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log_path(&self) -> PathBuf {
        self.path("log")
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        read(&self.log_path())
    }

    /// Stops it; all that it has logged. What is not to be in the log might only not be there yet
    /// while it runs.
    pub fn whole_log(&mut self) -> String {
        assert_eq!(self.stop().code(), Some(0));
        self.log()
    }

    /// The first line of its log that has this text: the log is written by a thread of its own,
    /// so what the server has done already may not be there yet.
    pub fn says(&self, text: &str) -> String {
        eventually(&format!("{text:?} in the log"), || {
            self.log().lines().find(|line| line.contains(text)).map(str::to_owned)
        })
    }

    pub fn write_catalog(&self, text: &str) {
        self.write("catalog.toml", text);
    }

    /// Writes a file into its folder.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("writable");
    }

    /// The disk of [`Setup::on_faulty_disk`].
    pub fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("a server on a faulty disk")
    }

    /// The same, to cut its power.
    pub fn disk_mut(&mut self) -> &mut Disk {
        self.disk.as_mut().expect("a server on a faulty disk")
    }

    /// Takes the store away: the next start is the first.
    pub fn forget_all(&mut self) {
        std::fs::remove_dir_all(self.path("data")).expect("removable");
        self.disk_mut().begin_anew();
    }

    /// Waits until it has ended by itself, or is ready and has not.
    pub fn ended_or_ready(&mut self) -> Option<ExitStatus> {
        let ended = eventually("a start or an end", || {
            if let Some(status) = self.exited() {
                return Some(Some(status));
            }
            let mut admin = Connection::try_open(self.admin).ok()?;
            let ready = admin.request("GET", "/readyz", "").ok()?.status == 200;
            ready.then_some(None)
        });
        if ended.is_some() {
            self.child = None;
        }
        ended
    }

    /// Brings another catalog into force.
    pub fn reload_catalog(&self, text: &str) {
        let version = self.catalog_version();
        self.write_catalog(text);
        self.signal("HUP");
        eventually("the reload", || (self.catalog_version() != version).then_some(()));
    }

    /// Runs a command that asks this server.
    pub fn command(&self, arguments: &[&str]) -> Ended {
        self.write("token", TOKEN);
        let url = format!("http://{}", self.admin);
        let access = ["--admin", &url, "--token-file", "token"];
        run(&self.path("."), &[arguments, &access].concat())
    }

    /// Has all memtables written out as tables, in the background; false if it is at it already,
    /// or is not there.
    pub fn try_flush(&self) -> bool {
        // A copy of the store is made of its tables.
        let headers = format!("Authorization: Bearer {TOKEN}\r\nConnection: close\r\n");
        let answer = Connection::try_open(self.admin)
            .and_then(|mut admin| admin.request("POST", "/api/v1/verify", &headers));
        answer.is_ok_and(|answer| answer.status == 202)
    }

    /// What became of the process, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("a child of ours")
    }

    /// Whether the process lives.
    pub fn is_alive(&mut self) -> bool {
        self.child.is_some() && self.exited().is_none()
    }

    /// SIGKILL, as a power cut would.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("running");
        child.kill().expect("a child of ours");
        child.wait().expect("a child of ours");
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("running").id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("kill(1)");
        assert!(sent.success(), "signal {name}");
    }

    /// From now on no file of the process may grow beyond `bytes`: the system refuses to write.
    pub fn limit_files(&self, bytes: u64) {
        assert!(self.limit_is_an_error, "it would be killed by a signal");
        let pid = self.child.as_ref().expect("running").id().to_string();
        // The soft limit only: lowering it asks for no privilege.
        let limit = format!("--fsize={bytes}:");
        let set = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        assert!(set.expect("prlimit(1)").success(), "limit {bytes}");
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let status = eventually("the end of the process", || self.exited());
        self.child = None;
        status
    }

    /// SIGTERM and wait.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.public)
    }

    /// One request on a connection of its own.
    pub fn request(&self, method: &str, target: &str, headers: &str) -> Response {
        let headers = format!("{headers}Connection: close\r\n");
        self.connect().request(method, target, &headers).expect("an answer")
    }

    pub fn get(&self, target: &str) -> Response {
        self.request("GET", target, "")
    }

    /// Mints a click by a query string; returns its ID.
    pub fn click(&self, query: &str) -> String {
        let answer = self.get(&format!("/click?{query}&redirect=false"));
        let json = answer.json();
        json["click_id"].as_str().unwrap_or_else(|| panic!("no click: {json}")).to_owned()
    }

    /// A GET postback by a query string.
    pub fn postback(&self, query: &str) -> Answer {
        Answer::of(self.get(&format!("/postback?{query}")))
    }

    /// A request to the admin listener with the token.
    pub fn admin(&self, target: &str) -> Response {
        self.admin_with(target, "")
    }

    /// The same with more headers.
    pub fn admin_with(&self, target: &str, headers: &str) -> Response {
        let headers = format!("Authorization: Bearer {TOKEN}\r\nConnection: close\r\n{headers}");
        Connection::open(self.admin).request("GET", target, &headers).expect("an answer")
    }

    /// A request to the admin listener without the token.
    pub fn admin_open(&self, target: &str) -> Response {
        let mut admin = Connection::open(self.admin);
        admin.request("GET", target, "Connection: close\r\n").expect("an answer")
    }

    /// A PUT of JSON to the admin API.
    pub fn put_api(&self, call: &str, body: &str) -> Response {
        self.send_api("PUT", call, "application/json", body)
    }

    /// A POST to the admin API of something of a kind.
    pub fn post_api(&self, call: &str, kind: &str, body: &str) -> Response {
        self.send_api("POST", call, kind, body)
    }

    fn send_api(&self, method: &str, call: &str, kind: &str, body: &str) -> Response {
        let headers = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: {kind}\r\n");
        let mut admin = Connection::open(self.admin);
        let target = format!("/api/v1/{call}");
        admin.send_body(method, &target, &headers, body.as_bytes()).expect("an answer")
    }

    /// The job that an answer says is begun, when it has ended.
    pub fn ended(&self, begun: &Response) -> Value {
        assert_eq!(begun.status, 202, "{begun:?}");
        let job = format!("jobs/{}", begun.json()["job_id"].as_str().expect("an ID"));
        eventually("the end of the job", || {
            Some(self.api(&job)).filter(|job| job["status"] != "running")
        })
    }

    /// The result of a job.
    pub fn work(&self, call: &str, body: &Value) -> Value {
        let begun = self.post_api(call, "application/json", &body.to_string());
        let job = self.ended(&begun);
        assert_eq!(job["status"], "succeeded", "{job}");
        job["result"].clone()
    }

    /// A successful call of the admin API.
    pub fn api(&self, call: &str) -> Value {
        let answer = self.admin(&format!("/api/v1/{call}"));
        assert_eq!(answer.status, 200, "{call}: {answer:?}");
        answer.json()
    }

    /// All conversions, by every page of the listing.
    pub fn conversions(&self, filter: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.api(&format!("conversions?limit=1000&{filter}{cursor}"));
            all.extend_from_slice(page["items"].as_array().expect("items"));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    /// The version of the catalog in force.
    pub fn catalog_version(&self) -> Value {
        self.api("catalog/versions")["in_force"].clone()
    }

    /// Replaces the catalog, or with a query tries to.
    pub fn put_catalog(&self, query: &str, kind: &str, headers: &str, text: &str) -> Response {
        let headers = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: {kind}\r\n{headers}");
        let target = format!("/api/v1/catalog{query}");
        let mut admin = Connection::open(self.admin);
        admin.send_body("PUT", &target, &headers, text.as_bytes()).expect("an answer")
    }

    /// The head of a request that replaces the catalog.
    pub fn put_head(&self, kind: &str, headers: &str) -> String {
        format!(
            "PUT /api/v1/catalog HTTP/1.1\r\nHost: t.example\r\n\
             Authorization: Bearer {TOKEN}\r\nContent-Type: {kind}\r\n{headers}\r\n"
        )
    }

    /// Waits for what a fresh server commits by itself (the numbers of its offers and affiliates,
    /// the catalog, the first letting go of what is old, the first look for days to seal), so that
    /// what comes after can be counted. Returns how many that are.
    pub fn await_own_commits(&self) -> u32 {
        let commits = || self.metric("postbackd_store_commits_total");
        eventually("its own commits", || {
            let before = commits();
            // The last of them waits for the others, by as many as it takes.
            std::thread::sleep(Duration::from_millis(100));
            (before >= OWN_COMMITS && commits() == before).then_some(before as u32)
        })
    }

    /// Waits until so many commits were made.
    pub fn await_commits(&self, count: u32) {
        eventually("commits", || {
            (self.metric("postbackd_store_commits_total") == f64::from(count)).then_some(())
        });
    }

    /// The value of a metric's time series, as `name` or `name{label="value"}`.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics");
        let value = text
            .text()
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("no series {series}"))
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).expect("readable")).into_owned()
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            if let (true, Ok(Some(ended))) = (std::thread::panicking(), child.try_wait()) {
                eprintln!("--- the server had ended by itself: {ended}");
            }
            // Errors mean that it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(20).collect();
            eprintln!("--- end of the server's log");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}
