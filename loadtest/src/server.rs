//! The child processes: the product on a fresh store, and this binary as the floor.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{self, Path};
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::admin::Admin;
use crate::catalog::{Catalog, SECRET, SECRET_VARIABLE};
use crate::tls::TlsFiles;

/// For a server that lives a minute on the loopback interface.
const ADMIN_TOKEN: &str = "loadtest-token-for-one-run-only";
/// From start to ready, an empty store.
const START_PATIENCE: Duration = Duration::from_secs(30);
const START_POLL: Duration = Duration::from_millis(20);
/// How long a server may work on what a round has left it to do.
const IDLE_PATIENCE: Duration = Duration::from_secs(20);
const IDLE_POLL: Duration = Duration::from_millis(200);
/// Processor time in one such poll below which a server is idle, in ticks of 10 ms.
const IDLE_TICKS: u64 = 2;
/// How much of a dead server's last words is shown.
const LOG_TAIL_LINES: usize = 20;

/// A server process, killed when dropped: its store is thrown away anyway.
#[derive(Debug)]
pub struct Child {
    process: process::Child,
    address: SocketAddr,
    admin: Admin,
}

impl Child {
    /// Where it answers the public.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its admin listener; that of a floor is its only one.
    pub const fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Waits until the process takes less than a tenth of a core: what it has put off is done then,
    /// and burdens nobody who is measured next. Gives up after a while.
    pub fn wait_idle(&self) -> io::Result<()> {
        let deadline = Instant::now() + IDLE_PATIENCE;
        let mut before = self.processor_ticks()?;
        loop {
            thread::sleep(IDLE_POLL);
            let now = self.processor_ticks()?;
            if now - before < IDLE_TICKS || Instant::now() >= deadline {
                return Ok(());
            }
            before = now;
        }
    }

    fn processor_ticks(&self) -> io::Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        processor_ticks(&stat).ok_or_else(|| io::Error::other("/proc/PID/stat cannot be read"))
    }
}

/// User and system time of a process, from its `stat` (proc_pid_stat(5)): fields 14 and 15. The
/// second is a name in parentheses, which may hold anything.
fn processor_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(ticks()? + ticks()?)
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts this binary as the floor; one that waits for `journal`, if there is one.
pub fn floor(workers: usize, tls: Option<&TlsFiles>, journal: Option<&Path>) -> io::Result<Child> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["floor", "--listen", &address.to_string(), "--workers", &workers.to_string()]);
    if let Some(TlsFiles { certificate, key }) = tls {
        command.arg("--tls-certificate").arg(certificate).arg("--tls-key").arg(key);
    }
    if let Some(journal) = journal {
        command.arg("--journal").arg(journal);
    }
    let process = command.stdout(Stdio::null()).spawn()?;
    let child = Child { process, address, admin: Admin::new(address, "") };
    let deadline = Instant::now() + START_PATIENCE;
    while let Err(error) = TcpStream::connect(address) {
        if Instant::now() >= deadline {
            return Err(error);
        }
        thread::sleep(START_POLL);
    }
    Ok(child)
}

/// Starts the product with its files in `folder`, and waits until it is ready.
pub fn tracker(
    binary: &Path,
    folder: &Path,
    workers: usize,
    catalog: &Catalog,
    tls: Option<&TlsFiles>,
) -> io::Result<Child> {
    let folder = path::absolute(folder)?;
    let (address, admin_address) = (free_address()?, free_address()?);
    let config_path = folder.join("postbackd.toml");
    fs::write(&config_path, config(&folder, address, admin_address, workers))?;
    fs::write(folder.join("catalog.toml"), catalog.toml())?;
    let log_path = folder.join("server.log");
    let log = File::create(&log_path)?;
    let mut command = Command::new(path::absolute(binary)?);
    if let Some(TlsFiles { certificate, key }) = tls {
        command.env("POSTBACKD_SERVER__TLS_CERTIFICATE", path::absolute(certificate)?);
        command.env("POSTBACKD_SERVER__TLS_KEY", path::absolute(key)?);
    }
    let process = command
        .env(SECRET_VARIABLE, SECRET)
        .arg("serve")
        .arg("--config")
        .arg(&config_path)
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", binary.display())))?;
    let child = Child { process, address, admin: Admin::new(admin_address, ADMIN_TOKEN) };
    child.admin.wait_ready(START_PATIENCE).map_err(|error| {
        let log = fs::read_to_string(&log_path).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n");
        io::Error::new(error.kind(), format!("{error}; its last words:\n{tail}"))
    })?;
    Ok(child)
}

/// What the binary calls itself.
pub fn version(binary: &Path) -> String {
    let output =
        path::absolute(binary).and_then(|path| Command::new(path).arg("--version").output());
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

fn config(folder: &Path, listen: SocketAddr, admin: SocketAddr, workers: usize) -> String {
    // Literal strings: a path may hold backslashes, but hardly ever an apostrophe.
    let (catalog, store) = (folder.join("catalog.toml"), folder.join("data"));
    format!(
        "catalog = '{}'\n\n[server]\nlisten = \"{listen}\"\nworkers = {workers}\n\n\
         [admin]\nlisten = \"{admin}\"\ntoken = \"{ADMIN_TOKEN}\"\n\n[store]\npath = '{}'\n\n\
         [network]\ntime_zone = \"UTC\"\ncurrency = \"USD\"\n\
         fallback_url = \"https://network.example/unavailable\"\n",
        catalog.display(),
        store.display(),
    )
}

/// A port that was free a moment ago.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 12 30 0 0 20 0 9 0 8000 1 2 3";
        assert_eq!(processor_ticks(stat), Some(42));
        assert_eq!(processor_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn the_config_names_every_key_it_sets_once() {
        let text =
            config(Path::new("/x"), ([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into(), 3);
        for line in [
            "catalog = '/x/catalog.toml'",
            "listen = \"127.0.0.1:1\"",
            "workers = 3",
            "listen = \"127.0.0.1:2\"",
            "path = '/x/data'",
        ] {
            assert_eq!(text.lines().filter(|own| *own == line).count(), 1, "{line} in\n{text}");
        }
    }

    #[test]
    fn a_server_that_cannot_start_is_an_error_with_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = tracker(
            Path::new("/nonexistent/postbackd"),
            folder.path(),
            1,
            &Catalog::of(1, 1),
            None,
        )
        .expect_err("no such file");
        assert!(error.to_string().contains("/nonexistent/postbackd"), "{error}");
    }
}
