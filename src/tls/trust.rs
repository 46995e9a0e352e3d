//! Whom a client of ours trusts. There is no way to trust everybody.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::{TlsError, files, provider};

/// Whom to trust.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'p> {
    /// The authorities that the system trusts.
    System,
    /// The authorities in a file, and no others.
    Authorities(&'p Path),
    /// The server that shows the very certificate that is first in a file, by whatever name it is
    /// called: for a server on the same machine, whose configuration names the file.
    Certificate(&'p Path),
}

/// Opens TLS connections to servers that are trusted.
#[derive(Clone)]
pub struct Connector {
    connector: TlsConnector,
    /// The file of the one certificate that is trusted, if it is one.
    only: Option<PathBuf>,
}

impl Connector {
    /// Trusts so.
    ///
    /// # Errors
    /// When a file cannot be used, or the system trusts nobody.
    pub fn new(trust: Trust<'_>) -> Result<Self, TlsError> {
        let provider = provider();
        let unusable = |error| {
            let path = match trust {
                Trust::System => Path::new("the system's authorities"),
                Trust::Authorities(path) | Trust::Certificate(path) => path,
            };
            TlsError::Unusable { path: path.to_owned(), error }
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(unusable)?;
        let builder = match trust {
            Trust::System => builder.with_root_certificates(system()?),
            Trust::Authorities(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in files::certificates(path)? {
                    roots.add(certificate).map_err(unusable)?;
                }
                builder.with_root_certificates(roots)
            }
            Trust::Certificate(path) => {
                let certificate = files::certificates(path)?.swap_remove(0);
                let only = Arc::new(Only { certificate, provider });
                builder.dangerous().with_custom_certificate_verifier(only)
            }
        };
        let connector = TlsConnector::from(Arc::new(builder.with_no_client_auth()));
        let only = if let Trust::Certificate(path) = trust { Some(path.to_owned()) } else { None };
        Ok(Self { connector, only })
    }

    /// Shakes hands with the server that is called `host`, a name or an address.
    ///
    /// # Errors
    /// When it is not trusted, or does not speak TLS.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        stream: S,
    ) -> std::io::Result<TlsStream<S>> {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        self.connector.connect(name, stream).await.map_err(|error| match &self.only {
            Some(path) if is_of_another(&error) => std::io::Error::other(format!(
                "it shows another certificate than the first of {}; if the file was replaced, have \
                 the server read it: SIGHUP",
                path.display()
            )),
            _ => error,
        })
    }
}

/// Whether [`Only`] has refused a certificate.
fn is_of_another(error: &std::io::Error) -> bool {
    let refused = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
    refused == Some(&CertificateError::ApplicationVerificationFailure.into())
}

fn system() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    // Some systems list a few that nobody can read; the others count.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoAuthorities) } else { Ok(roots) }
}

/// Trusts one certificate.
#[derive(Debug)]
struct Only {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Only {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *shown == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    // That the server has the certificate's key is checked here.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
