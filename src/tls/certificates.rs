//! A listener's certificates: checked whole, in force until others are.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::Ticketer;
use tokio_rustls::rustls::server::NoServerSessionStorage;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{Error, InconsistentKeys, ServerConfig};

use super::validity::{Validity, validity};
use super::{ServerStream, TlsError, files, provider};
use crate::config::Tls;
use crate::limits::HANDSHAKE_TIME_MAX;

/// What clients may choose to speak, the better one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The certificates of one listener and their key.
pub struct Certificates {
    listener: &'static str,
    files: Tls,
    in_force: ArcSwap<ServerConfig>,
}

/// What was read, and what should be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// When the first certificate is valid.
    pub validity: Validity,
    /// What is strange, but no reason to refuse it.
    pub warnings: Vec<String>,
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client does not speak TLS, not ours, or has gone.
    #[error(transparent)]
    Failed(std::io::Error),
    /// It took too long.
    #[error("no handshake within {} seconds", HANDSHAKE_TIME_MAX.as_secs())]
    Late,
}

impl Certificates {
    /// Reads the files of the listener that metrics and log call `listener`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn load(
        listener: &'static str,
        files: &Tls,
        now_ms: u64,
    ) -> Result<(Self, Loaded), TlsError> {
        let (config, loaded) = read(files, now_ms)?;
        let in_force = ArcSwap::from_pointee(config);
        Ok((Self { listener, files: files.clone(), in_force }, loaded))
    }

    /// Reads the files again; what they hold counts from the next handshake on. Connections that
    /// are open stay as they are.
    ///
    /// # Errors
    /// What is wrong with the files; what was in force stays.
    pub fn reload(&self, now_ms: u64) -> Result<Loaded, TlsError> {
        let (config, loaded) = read(&self.files, now_ms)?;
        self.in_force.store(Arc::new(config));
        Ok(loaded)
    }

    /// What the next handshake shows.
    pub(super) fn in_force(&self) -> Arc<ServerConfig> {
        self.in_force.load_full()
    }

    /// Whose they are.
    #[must_use]
    pub fn listener(&self) -> &'static str {
        self.listener
    }

    /// Shakes hands with a client, in limited time.
    ///
    /// # Errors
    /// When nothing comes of it. The client has been told why, if that was possible.
    pub async fn accept(&self, stream: TcpStream) -> Result<ServerStream, HandshakeError> {
        let handshake = TlsAcceptor::from(self.in_force()).accept(stream);
        match tokio::time::timeout(HANDSHAKE_TIME_MAX, handshake).await {
            Ok(shaken) => shaken.map_err(HandshakeError::Failed),
            Err(_) => Err(HandshakeError::Late),
        }
    }
}

/// Whether client and server have agreed on HTTP/2.
#[must_use]
pub fn is_http2(stream: &ServerStream) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(PROTOCOLS[0])
}

fn read(files: &Tls, now_ms: u64) -> Result<(ServerConfig, Loaded), TlsError> {
    let chain = files::certificates(&files.certificate)?;
    let key = files::key(&files.key)?;
    let provider = provider();
    // Asked for itself, so that a bad key is not called a bad certificate.
    let bad_key = |error| TlsError::BadKey { path: files.key.clone(), error };
    provider.key_provider.load_private_key(key.clone_key()).map_err(bad_key)?;
    let validity = chain.first().and_then(|first| validity(first));
    let validity = validity.ok_or_else(|| TlsError::NoCertificate(files.certificate.clone()))?;
    let unusable = |error| TlsError::Unusable { path: files.certificate.clone(), error };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch {
                certificate: files.certificate.clone(),
                key: files.key.clone(),
            },
            error => unusable(error),
        })?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    // Sessions are kept by the clients, in tickets that only this configuration opens: nothing is
    // shared between workers, and whoever resumes has seen these certificates. There is no early
    // data: it could be sent again by others.
    config.ticketer = Ticketer::new().map_err(unusable)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    let warnings = warnings(files, validity, now_ms);
    Ok((config, Loaded { validity, warnings }))
}

fn warnings(files: &Tls, validity: Validity, now_ms: u64) -> Vec<String> {
    let now_s = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    let mut warnings = Vec::new();
    let (certificate, key) = (files.certificate.display(), files.key.display());
    if validity.until_s < now_s {
        warnings.push(format!("{certificate}: the certificate has expired"));
    }
    if validity.from_s > now_s {
        warnings.push(format!("{certificate}: the certificate is not valid yet"));
    }
    if files::is_readable_by_others(&files.key) {
        warnings.push(format!("{key}: everybody on this machine may read the key: chmod o= FILE"));
    }
    warnings
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}
