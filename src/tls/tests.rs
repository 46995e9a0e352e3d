use std::path::{Path, PathBuf};

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_RSA_SHA256,
    date_time_ymd,
};
use tempfile::TempDir;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion};

use super::{Certificates, Connector, Loaded, TlsError, Trust, provider};
use crate::config::Tls;

/// Some day in 2026.
const NOW_MS: u64 = 1_790_000_000_000;

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file that its owner alone may read.
    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(self.path(name), text).expect("writable");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(self.path(name), mode).expect("ours");
    }

    fn load(&self, certificate: &str, key: &str) -> Result<Loaded, TlsError> {
        let files = Tls { certificate: self.path(certificate), key: self.path(key) };
        Certificates::load("public", &files, NOW_MS).map(|(_, loaded)| loaded)
    }

    fn refused(&self, certificate: &str, key: &str) -> String {
        let error = self.load(certificate, key).expect_err("refused").to_string();
        error.replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// A certificate and its key, valid over these years.
fn pair(key: &KeyPair, years: [i32; 2]) -> (String, String) {
    let mut params = CertificateParams::new(vec!["track.example".to_owned()]).expect("a name");
    let [from, until] = years.map(|year| date_time_ymd(year, 1, 1));
    (params.not_before, params.not_after) = (from, until);
    (params.self_signed(key).expect("signed").pem(), key.serialize_pem())
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

#[test]
fn a_certificate_is_taken_with_its_key_whatever_the_kind() {
    let files = Files::new();
    for key in [key(), KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key")] {
        let (certificate, key) = pair(&key, [2026, 2027]);
        files.write("cert.pem", &certificate);
        files.write("key.pem", &key);
        let loaded = files.load("cert.pem", "key.pem").expect("taken");
        assert_eq!(loaded.validity.to_string(), "2027-01-01T00:00:00Z");
        assert_eq!(loaded.warnings, Vec::<String>::new());
        // Both in one file, as some tools write them.
        files.write("both.pem", &format!("{key}{certificate}"));
        files.load("both.pem", "both.pem").expect("taken");
    }
}

#[test]
fn what_is_strange_is_warned_of_and_taken() {
    use std::os::unix::fs::PermissionsExt as _;
    let files = Files::new();
    let warnings = |years| {
        let (certificate, key) = pair(&key(), years);
        files.write("cert.pem", &certificate);
        files.write("key.pem", &key);
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(files.path("cert.pem"), open).expect("ours");
        files.load("cert.pem", "key.pem").expect("taken").warnings
    };
    let cert = files.path("cert.pem").display().to_string();
    assert_eq!(warnings([2020, 2026]), [format!("{cert}: the certificate has expired")]);
    assert_eq!(warnings([2027, 2028]), [format!("{cert}: the certificate is not valid yet")]);
    assert_eq!(warnings([2026, 2027]), [""; 0]);
    let open = std::fs::Permissions::from_mode(0o604);
    std::fs::set_permissions(files.path("key.pem"), open).expect("ours");
    let warnings = files.load("cert.pem", "key.pem").expect("taken").warnings;
    assert!(warnings[0].ends_with("everybody on this machine may read the key: chmod o= FILE"));
}

#[test]
fn what_cannot_be_used_is_called_by_its_name() {
    let files = Files::new();
    let (certificate, first_key) = pair(&key(), [2026, 2027]);
    files.write("cert.pem", &certificate);
    files.write("key.pem", &first_key);
    files.write("other.pem", &pair(&key(), [2026, 2027]).1);
    files.write("empty.pem", "");
    files.write("cut.pem", &certificate[..200]);
    files.write("cut-key.pem", &first_key[..100]);
    let begin_end =
        |what: &str, body: &str| format!("-----BEGIN {what}-----\n{body}\n-----END {what}-----\n");
    files.write("no-x509.pem", &[&*certificate, &begin_end("CERTIFICATE", "AAAA")].concat());
    files.write("bad-key.pem", &begin_end("PRIVATE KEY", "AAAA"));
    files.write("encrypted.pem", &begin_end("ENCRYPTED PRIVATE KEY", "AAAA"));
    let old = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA";
    files.write("encrypted-rsa.pem", &begin_end("RSA PRIVATE KEY", old));
    files.write("large.pem", &"-".repeat((1 << 20) + 1));
    let check = |certificate: &str, key: &str, expected: &str| {
        assert_eq!(files.refused(certificate, key), expected);
    };
    let mismatch = "the key in other.pem is not that of the first certificate in cert.pem";
    check("cert.pem", "other.pem", mismatch);
    let nothing = "cannot read nothing.pem: No such file or directory (os error 2)";
    check("nothing.pem", "key.pem", nothing);
    check("cert.pem", "nothing.pem", nothing);
    check("cert.pem", "large.pem", "cannot read large.pem: it has more than 1048576 bytes");
    let none = "there is no certificate in it that begins with -----BEGIN CERTIFICATE-----";
    check("empty.pem", "key.pem", &format!("empty.pem: {none}"));
    check("key.pem", "key.pem", &format!("key.pem: {none}"));
    let none = "there is no private key in it that begins with -----BEGIN PRIVATE KEY-----";
    check("cert.pem", "cert.pem", &format!("cert.pem: {none}"));
    check("no-x509.pem", "key.pem", "no-x509.pem: certificate 2 is not one of X.509");
    let encrypted = "the key is encrypted; decrypt it: openssl pkey -in FILE -out FILE";
    check("cert.pem", "encrypted.pem", &format!("encrypted.pem: {encrypted}"));
    check("cert.pem", "encrypted-rsa.pem", &format!("encrypted-rsa.pem: {encrypted}"));
    assert!(files.refused("cert.pem", "bad-key.pem").starts_with("bad-key.pem: the key cannot"));
    assert!(files.refused("cut.pem", "key.pem").starts_with("cut.pem: missing section end"));
    assert!(files.refused("cert.pem", "cut-key.pem").starts_with("cut-key.pem: "));
    // A key is never quoted.
    for name in ["cut-key.pem", "other.pem", "bad-key.pem"] {
        let said = files.refused("cert.pem", name);
        assert!(!said.contains(&first_key[30..60]) && !said.contains("AAAA"), "{said}");
    }
}

#[test]
fn a_bad_pair_leaves_the_old_one_in_force() {
    let files = Files::new();
    let (certificate, first_key) = pair(&key(), [2026, 2027]);
    files.write("cert.pem", &certificate);
    files.write("key.pem", &first_key);
    let named = Tls { certificate: files.path("cert.pem"), key: files.path("key.pem") };
    let (certificates, _) = Certificates::load("public", &named, NOW_MS).expect("taken");
    let before = certificates.in_force();
    files.write("key.pem", &pair(&key(), [2026, 2027]).1);
    assert!(matches!(certificates.reload(NOW_MS), Err(TlsError::Mismatch { .. })));
    assert!(Arc::ptr_eq(&before, &certificates.in_force()));
    files.write("key.pem", &first_key);
    certificates.reload(NOW_MS).expect("taken");
    assert!(!Arc::ptr_eq(&before, &certificates.in_force()));
}

/// What a client that trusts so finds at a server that shows the certificate in a file.
async fn meets(trust: Trust<'_>, host: &str, server: &Tls) -> Result<(), String> {
    let (certificates, _) = Certificates::load("admin", server, NOW_MS).expect("taken");
    finds(trust, host, async |stream| _ = certificates.accept(stream).await).await
}

/// What a client that trusts so finds where somebody accepts it.
async fn finds(
    trust: Trust<'_>,
    host: &str,
    accept: impl AsyncFnOnce(TcpStream),
) -> Result<(), String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("bound");
    let serving = async {
        let (stream, _) = listener.accept().await.expect("accepted");
        accept(stream).await;
    };
    let connecting = async {
        let stream = TcpStream::connect(address).await.expect("connected");
        let connector = Connector::new(trust).expect("somebody to trust");
        connector.connect(host, stream).await.map(drop).map_err(|error| error.to_string())
    };
    tokio::join!(serving, connecting).1
}

#[tokio::test]
async fn a_client_trusts_whom_it_is_told_and_nobody_else() {
    let files = Files::new();
    let mut params = CertificateParams::new(Vec::new()).expect("no name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, key()).expect("signed");
    files.write("ca.pem", &authority.pem());
    let own = key();
    let names = ["admin.example", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let params = CertificateParams::new(names).expect("names");
    let certificate = params.signed_by(&own, &authority).expect("signed").pem();
    files.write("cert.pem", &certificate);
    files.write("key.pem", &own.serialize_pem());
    let server = Tls { certificate: files.path("cert.pem"), key: files.path("key.pem") };
    let (other, other_key) = pair(&key(), [2020, 2090]);
    files.write("other.pem", &other);
    files.write("other-key.pem", &other_key);
    let other = Tls { certificate: files.path("other.pem"), key: files.path("other-key.pem") };
    let (ca, cert) = (files.path("ca.pem"), files.path("cert.pem"));
    let authorities = Trust::Authorities(Path::new(&ca));
    for host in ["admin.example", "127.0.0.1", "[::1]"] {
        assert_eq!(meets(authorities, host, &server).await, Ok(()), "{host}");
    }
    for host in ["other.example", "127.0.0.2"] {
        let error = meets(authorities, host, &server).await.expect_err("another name");
        assert!(error.contains("not valid for name"), "{error}");
    }
    let error = meets(authorities, "track.example", &other).await.expect_err("a stranger");
    assert!(error.contains("invalid peer certificate"), "{error}");
    if let Ok(connector) = Connector::new(Trust::System) {
        drop(connector);
        assert!(meets(Trust::System, "admin.example", &server).await.is_err());
    }
    // The very certificate, by whatever name.
    assert_eq!(meets(Trust::Certificate(&cert), "10.9.8.7", &server).await, Ok(()));
    let error = meets(Trust::Certificate(&cert), "track.example", &other).await;
    let error = error.expect_err("another certificate");
    assert!(error.contains("it shows another certificate than the first of "), "{error}");
    assert!(error.contains("cert.pem; if the file was replaced"), "{error}");
    assert!(meets(Trust::Certificate(&ca), "admin.example", &server).await.is_err());
}

#[tokio::test]
async fn what_leads_from_a_certificate_to_its_authority_is_shown_with_it() {
    let files = Files::new();
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).expect("no name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let root = CertifiedIssuer::self_signed(authority("root"), key()).expect("signed");
    let between = CertifiedIssuer::signed_by(authority("between"), key(), &root).expect("signed");
    let own = key();
    let params = CertificateParams::new(vec!["track.example".to_owned()]).expect("a name");
    let certificate = params.signed_by(&own, &between).expect("signed").pem();
    files.write("ca.pem", &root.pem());
    files.write("key.pem", &own.serialize_pem());
    files.write("alone.pem", &certificate);
    files.write("chain.pem", &(certificate + &between.pem()));
    let shown = |name: &str| Tls { certificate: files.path(name), key: files.path("key.pem") };
    let ca = files.path("ca.pem");
    let trust = Trust::Authorities(&ca);
    assert_eq!(meets(trust, "track.example", &shown("chain.pem")).await, Ok(()));
    let error = meets(trust, "track.example", &shown("alone.pem")).await.expect_err("no way to it");
    assert!(error.contains("invalid peer certificate"), "{error}");
}

/// Shows whatever certificate it likes.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[tokio::test]
async fn who_shows_the_very_certificate_without_its_key_is_not_trusted() {
    let files = Files::new();
    let (certificate, own) = pair(&key(), [2020, 2090]);
    files.write("cert.pem", &certificate);
    files.write("key.pem", &own);
    files.write("stolen.pem", &pair(&key(), [2020, 2090]).1);
    let cert = files.path("cert.pem");
    let meets = async |key: &str, version: &'static SupportedProtocolVersion| {
        let chain = super::files::certificates(&cert).expect("a certificate");
        let key = super::files::key(&files.path(key)).expect("a key");
        let key = provider().key_provider.load_private_key(key).expect("a key of ours");
        let shows = Arc::new(Shows(Arc::new(CertifiedKey::new(chain, key))));
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_no_client_auth()
            .with_cert_resolver(shows);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let trust = Trust::Certificate(&cert);
        finds(trust, "10.9.8.7", async |stream| _ = acceptor.accept(stream).await).await
    };
    for version in [&TLS12, &TLS13] {
        assert_eq!(meets("key.pem", version).await, Ok(()), "{version:?}");
        assert!(meets("stolen.pem", version).await.is_err(), "{version:?}");
    }
}
