//! A running server that a command asks by its admin API.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::out::{Ended, failed, mistake, read};
use super::{EXIT_DIFFERENT, EXIT_FAILED, EXIT_MISTAKES};
use crate::admin::{AdminClient, Answer, Call};
use crate::config::{Config, Secret};
use crate::query::encode_into;
use crate::tls::Trust;

/// How often a server is asked whether it is done.
const POLL_EVERY: Duration = Duration::from_millis(500);

/// Which server is asked, and how.
#[derive(clap::Args)]
pub struct ServerArguments {
    /// The admin listener, http://HOST:PORT or https://HOST:PORT.
    #[arg(long, value_name = "URL")]
    admin: String,
    #[command(flatten)]
    access: Access,
}

/// How a server is asked.
#[derive(clap::Args)]
pub struct Access {
    /// The file that holds the admin token, such as admin.token in the store's folder.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Lets the token go to another machine, where whoever is on the way can read it.
    #[arg(long)]
    plain_text: bool,
    /// For https: the file of authorities (PEM) that the server's certificate must come from;
    /// without it those that the system trusts.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl ServerArguments {
    /// The server.
    ///
    /// # Errors
    /// When the arguments make no sense, or the token cannot be read.
    pub fn server(&self) -> Result<Server, Ended> {
        self.access.server(&self.admin)
    }
}

impl Access {
    /// For a command that has found its server by the configuration, and shows that one's token.
    ///
    /// # Errors
    /// When something is given that would be passed over.
    pub fn refuse_without_address(&self) -> Result<(), Ended> {
        if self.token_file.is_none() && self.ca.is_none() && !self.plain_text {
            return Ok(());
        }
        Err(mistake(
            "--token-file, --ca and --plain-text go with --admin URL; without it the server is asked by the token of its configuration",
        ))
    }

    /// The server at an address.
    ///
    /// # Errors
    /// As [`ServerArguments::server`].
    pub fn server(&self, address: &str) -> Result<Server, Ended> {
        let Some(path) = &self.token_file else {
            return Err(mistake("a server wants its token: --token-file FILE"));
        };
        if self.ca.is_some() && !address.starts_with("https://") {
            return Err(mistake("--ca is for https://HOST:PORT; nothing is checked without TLS"));
        }
        let token = Secret::new(read(path)?.trim().to_owned());
        let trust = self.ca.as_deref().map_or(Trust::System, Trust::Authorities);
        AdminClient::new(address, trust, token, self.plain_text).map(Server).map_err(mistake)
    }
}

/// A server's admin API; what it refuses is printed and ends the command.
pub struct Server(AdminClient);

impl Server {
    /// The server of a configuration; `None` if nobody listens where it would.
    ///
    /// # Errors
    /// When it cannot be reached, or the token cannot be read.
    pub fn configured(config: &Config) -> Result<Option<Self>, Ended> {
        let mut address = config.admin.listen;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        match TcpStream::connect(address) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(None),
            Err(error) => return Err(failed(format!("cannot reach {address}: {error}"))),
        }
        let token = match &config.admin.token {
            Some(token) => token.expose().clone(),
            None => read(&config.admin_token_file())?,
        };
        // By the certificate itself: it is of another name than the address's.
        let (scheme, trust) = match &config.admin.tls {
            None => ("http", Trust::System),
            Some(tls) => ("https", Trust::Certificate(&tls.certificate)),
        };
        // What the configuration names is an address of this machine.
        let token = Secret::new(token.trim().to_owned());
        let client = AdminClient::new(&format!("{scheme}://{address}"), trust, token, false);
        client.map(|client| Some(Self(client))).map_err(failed)
    }

    /// The answer to a call, success or not.
    ///
    /// # Errors
    /// When there is none.
    pub fn answer(&self, path: &str, call: &Call<'_>) -> Result<Answer, Ended> {
        self.0.call(path, call).map_err(failed)
    }

    /// The text of a successful answer.
    ///
    /// # Errors
    /// When it is refused, or there is none.
    pub fn call(&self, path: &str, call: &Call<'_>) -> Result<String, Ended> {
        let answer = self.answer(path, call)?;
        if answer.is_success() { Ok(answer.text) } else { Err(refused(&answer)) }
    }

    /// What a successful call says.
    ///
    /// # Errors
    /// As [`Server::call`]; also when it is no JSON.
    pub fn ask(&self, path: &str) -> Result<Value, Ended> {
        serde_json::from_str(&self.call(path, &Call::default())?).map_err(failed)
    }

    /// Asks a call that answers in pages for all of them, and shows each to `visit`.
    ///
    /// # Errors
    /// As [`Server::ask`], and what `visit` says.
    pub fn each_page(
        &self,
        asked: &str,
        mut visit: impl FnMut(&Value) -> Result<(), Ended>,
    ) -> Result<(), Ended> {
        let mut cursor = String::new();
        loop {
            let page = self.ask(&format!("{asked}{cursor}"))?;
            visit(&page)?;
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(()),
            }
        }
    }

    /// The result of a job that the server is told to do, with what it is told, as JSON.
    ///
    /// # Errors
    /// As [`Server::ask`]; also when the job fails.
    pub fn work(&self, what: &str, told: Option<&str>) -> Result<Value, Ended> {
        let content = told.map(|told| ("application/json", told));
        let call = Call { post: true, content, ..Call::default() };
        let mut job: Value = serde_json::from_str(&self.call(what, &call)?).map_err(failed)?;
        let path = format!("jobs/{}", job["job_id"].as_str().unwrap_or_default());
        loop {
            match job["status"].as_str() {
                Some("running") => {}
                Some("succeeded") => return Ok(job["result"].take()),
                _ => return Err(failed(job["error"].as_str().unwrap_or("the job is lost"))),
            }
            std::thread::sleep(POLL_EVERY);
            job = self.ask(&path)?;
        }
    }
}

/// Prints why the server refused a call.
pub fn refused(answer: &Answer) -> Ended {
    let said: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    let word = |name: &str| said["error"][name].as_str().unwrap_or_default();
    if word("code").is_empty() {
        return failed(format!(
            "the server answers {}, and not as an admin listener does: --admin names admin.listen \
             of its configuration, not server.listen",
            answer.status
        ));
    }
    eprintln!("the server answers {}: {}: {}", answer.status, word("code"), word("message"));
    match word("code") {
        "invalid_catalog" => EXIT_MISTAKES,
        "stale_version" => EXIT_DIFFERENT,
        _ => EXIT_FAILED,
    }
}

/// The parameters that were given, each with `&` before it.
pub fn given<'p>(parameters: impl IntoIterator<Item = (&'p str, Option<String>)>) -> String {
    let given = parameters.into_iter().filter_map(|(name, value)| Some((name, value?)));
    given.map(|(name, value)| format!("&{name}={}", encoded(&value))).collect()
}

/// A value in a URL.
pub fn encoded(value: &str) -> String {
    let mut out = Vec::new();
    encode_into(value.as_bytes(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
