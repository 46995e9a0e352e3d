//! TLS: the certificates of our listeners, read again without a restart, and whom the command
//! line trusts. The only place that names the TLS library.

mod certificates;
mod files;
mod trust;
pub mod validity;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use certificates::{Certificates, HandshakeError, Loaded, is_http2};
pub use trust::{Connector, Trust};

/// A listener's connection after its handshake.
pub type ServerStream = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;

/// Why certificates or a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is no PEM.
    #[error("{}: {error}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// Where it breaks off.
        error: rustls::pki_types::pem::Error,
    },
    /// The file has something else in it.
    #[error("{}: there is no certificate in it that begins with -----BEGIN CERTIFICATE-----", .0.display())]
    NoCertificate(PathBuf),
    /// What the file holds is called a certificate, but is none.
    #[error("{}: certificate {number} is not one of X.509", path.display())]
    NotX509 {
        /// Which.
        path: PathBuf,
        /// Counted from 1.
        number: usize,
    },
    /// The file has something else in it.
    #[error("{}: there is no private key in it that begins with -----BEGIN PRIVATE KEY-----", .0.display())]
    NoKey(PathBuf),
    /// Nobody is there to type the password.
    #[error("{}: the key is encrypted; decrypt it: openssl pkey -in FILE -out FILE", .0.display())]
    EncryptedKey(PathBuf),
    /// The key is of a kind that is not supported, or broken.
    #[error("{}: the key cannot be used: {error}", path.display())]
    BadKey {
        /// Which.
        path: PathBuf,
        /// Why.
        error: rustls::Error,
    },
    /// They are of different pairs.
    #[error(
        "the key in {} is not that of the first certificate in {}",
        key.display(),
        certificate.display()
    )]
    Mismatch {
        /// The certificates' file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Something else is wrong with them.
    #[error("{}: {error}", path.display())]
    Unusable {
        /// The certificates' file.
        path: PathBuf,
        /// What.
        error: rustls::Error,
    },
    /// The system has no list of authorities.
    #[error("the system names no authorities to trust; name a file of them: --ca FILE")]
    NoAuthorities,
}

/// The cryptography: explicit, so that nothing depends on a default of the process.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
