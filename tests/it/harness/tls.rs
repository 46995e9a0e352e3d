//! Certificates that tests make, and clients of TLS and HTTP/2: hyper's, and one that sends any
//! frames.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::SendRequest;
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{PATIENCE, Response, Setup};

const NAME: &str = "track.example";

/// Who signs a test's certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("signed"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate of `track.example` and its key.
    pub fn issue(&self) -> (String, String) {
        self.issue_until(2090)
    }

    /// The same, valid until this year begins.
    pub fn issue_until(&self, year: i32) -> (String, String) {
        let names = vec![NAME.to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        (certificate.pem(), key.serialize_pem())
    }

    /// A server with TLS on the listener that `section` configures.
    pub fn setup(&self, section: &str) -> Setup {
        let (certificate, key) = self.issue();
        Setup::new()
            .file("cert.pem", &certificate)
            .file("key.pem", &key)
            .key(&format!("{section}.tls_certificate"), "cert.pem")
            .key(&format!("{section}.tls_key"), "key.pem")
    }

    /// A client that trusts this authority, offers these protocols, and speaks TLS 1.2 and 1.3.
    pub fn client(&self, protocols: &[&str]) -> TlsClient {
        self.client_of(protocols, &[&TLS13, &TLS12])
    }

    /// The same with chosen versions.
    pub fn client_of(
        &self,
        protocols: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsClient {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.pem().as_bytes()).expect("a certificate");
        roots.add(root).expect("an authority");
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsClient(Arc::new(config))
    }
}

/// Opens TLS connections.
#[derive(Clone)]
pub struct TlsClient(Arc<ClientConfig>);

pub type Stream = StreamOwned<ClientConnection, TcpStream>;

impl TlsClient {
    fn name() -> ServerName<'static> {
        ServerName::try_from(NAME).expect("a name")
    }

    /// A connection that blocks, on which `begin` is said before the handshake.
    pub fn try_open(&self, address: SocketAddr, begin: &[u8]) -> std::io::Result<Stream> {
        let mut tcp = TcpStream::connect(address)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        tcp.write_all(begin)?;
        let tls = ClientConnection::new(Arc::clone(&self.0), Self::name());
        let mut stream = StreamOwned::new(tls.map_err(std::io::Error::other)?, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }

    pub fn open(&self, address: SocketAddr) -> Stream {
        self.try_open(address, b"").expect("a handshake")
    }

    pub async fn connect(&self, address: SocketAddr) -> TlsStream<tokio::net::TcpStream> {
        let stream = tokio::net::TcpStream::connect(address).await.expect("accepted");
        let connector = TlsConnector::from(Arc::clone(&self.0));
        connector.connect(Self::name(), stream).await.expect("a handshake")
    }
}

/// The certificate that a server has shown.
pub fn shown(stream: &Stream) -> Vec<u8> {
    stream.conn.peer_certificates().expect("shown")[0].to_vec()
}

/// A request without a body in HTTP/1.1; its status.
pub fn get(stream: &mut Stream, target: &str) -> std::io::Result<u16> {
    Ok(get_text(stream, target)?.0)
}

/// The same, and the body of the answer.
pub fn get_text(stream: &mut Stream, target: &str) -> std::io::Result<(u16, String)> {
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {NAME}\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        let read = stream.read(&mut part)?;
        answer.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.unwrap_or("0").parse().map_err(std::io::Error::other)?;
            if body.len() == length {
                let status = head[9..12].parse().map_err(std::io::Error::other)?;
                return Ok((status, body.to_owned()));
            }
        }
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A connection of HTTP/2.
#[derive(Clone)]
pub struct Http2(SendRequest<Full<Bytes>>);

impl Http2 {
    pub async fn open(client: &TlsClient, address: SocketAddr) -> Self {
        let stream = client.connect(address).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let executor = TokioExecutor::new();
        let shaken = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await;
        let (sender, connection) = shaken.expect("a preface");
        tokio::spawn(connection);
        Self(sender)
    }

    pub async fn get(&mut self, target: &str) -> hyper::Result<Response> {
        self.request(Method::GET, target, &[], "").await
    }

    pub async fn request(
        &mut self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> hyper::Result<Response> {
        let mut request = Request::builder().method(method).uri(format!("https://{NAME}{target}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
        self.0.ready().await?;
        let (head, body) = self.0.send_request(request).await?.into_parts();
        let headers = head.headers.iter().map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        Ok(Response {
            status: head.status.as_u16(),
            headers: headers.collect(),
            body: body.collect().await?.to_bytes().into(),
        })
    }
}

/// A connection of HTTP/2 on which any frames are sent.
pub struct RawHttp2(pub Stream);

/// Kinds of frames, and the flag that headers or a body end.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header without compression.
pub fn header(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let length = text.len();
        let length = if length < 127 {
            vec![length as u8]
        } else {
            let rest = length - 127;
            vec![
                127,
                (rest & 0x7f) as u8 | 0x80,
                (rest >> 7 & 0x7f) as u8 | 0x80,
                (rest >> 14) as u8,
            ]
        };
        [&length, text.as_bytes()].concat()
    };
    [vec![0], text(name), text(value)].concat()
}

/// The headers of a request.
pub fn request_headers(method: &str, target: &str) -> Vec<u8> {
    let pairs =
        [(":method", method), (":scheme", "https"), (":authority", NAME), (":path", target)];
    pairs.map(|(name, value)| header(name, value)).concat()
}

impl RawHttp2 {
    /// Opens a connection and says the least that begins one; `settings` is what its client wants.
    pub fn open(client: &TlsClient, address: SocketAddr, settings: &[u8]) -> Self {
        let mut stream = client.open(address);
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("sent");
        stream.write_all(&frame(SETTINGS, 0, 0, settings)).expect("sent");
        Self(stream)
    }

    pub fn send(&mut self, frames: &[u8]) -> std::io::Result<()> {
        self.0.write_all(frames)?;
        self.0.flush()
    }

    /// The next frame: kind, flags, stream, payload.
    pub fn receive(&mut self) -> std::io::Result<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Ok((head[3], head[4], stream, payload))
    }

    /// Reads without sending what could not be sent: what came before a reset can still be read.
    fn read_exact(&mut self, mut buffer: &mut [u8]) -> std::io::Result<()> {
        let Stream { conn, sock } = &mut self.0;
        while !buffer.is_empty() {
            match conn.reader().read(buffer) {
                Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => buffer = &mut buffer[read..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if conn.read_tls(sock)? == 0 {
                        return Err(std::io::ErrorKind::UnexpectedEof.into());
                    }
                    conn.process_new_packets().map_err(std::io::Error::other)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads until the server says goodbye; its reason.
    pub fn goodbye(&mut self) -> std::io::Result<u32> {
        loop {
            let (kind, _, _, payload) = self.receive()?;
            if kind == GOAWAY {
                return Ok(u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]));
            }
        }
    }

    /// Reads until the connection ends.
    pub fn end(&mut self) {
        while self.receive().is_ok() {}
    }
}
