// Hot path: one read and one write a request, no allocation.
//! One keep-alive connection: a request out, an answer in, buffers reused for its whole life.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::epoll;

use crate::answer::{self, Answer, BODY_BYTES_MAX, Frame};
use crate::tls::{ClientStream, TlsClient};

/// Loopback connects at once or not at all; a remote server gets this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Room for a usual answer; grows when one is larger.
const READ_BYTES_INITIAL: usize = 4096;

/// What is under a connection.
#[derive(Debug)]
enum Socket {
    Plain(TcpStream),
    Tls(Box<ClientStream>),
}

impl Socket {
    /// Connects and shakes hands; does not block afterwards.
    fn open(address: SocketAddr, tls: Option<&TlsClient>) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        let Some(tls) = tls else {
            stream.set_nonblocking(true)?;
            return Ok(Self::Plain(stream));
        };
        stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
        let stream = tls.open(stream)?;
        stream.sock.set_nonblocking(true)?;
        Ok(Self::Tls(Box::new(stream)))
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    /// Sends what was encrypted and did not fit; whether some of it still does not.
    fn flush(&mut self) -> io::Result<bool> {
        let Self::Tls(stream) = self else { return Ok(false) };
        while stream.conn.wants_write() {
            match stream.conn.write_tls(&mut stream.sock) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

/// A connection with at most one request on its way.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    /// The request being sent; `sent` bytes of it are out.
    request: Vec<u8>,
    sent: usize,
    /// Bytes read, of which `filled` are valid.
    buffer: Vec<u8>,
    filled: usize,
    /// Waiting for room to write, besides bytes to read.
    wants_room: bool,
}

impl Connection {
    /// Connects; the socket does not block afterwards.
    pub fn open(address: SocketAddr, tls: Option<&TlsClient>) -> io::Result<Self> {
        Ok(Self {
            socket: Socket::open(address, tls)?,
            request: Vec::with_capacity(1024),
            sent: 0,
            buffer: vec![0; READ_BYTES_INITIAL],
            filled: 0,
            wants_room: false,
        })
    }

    /// Replaces a dead socket and keeps the buffers. The dead one leaves `epoll` first: if no
    /// new one can be had, its end of file would be reported for ever.
    pub fn reopen(
        &mut self,
        epoll: impl AsFd,
        address: SocketAddr,
        tls: Option<&TlsClient>,
        token: u64,
    ) -> io::Result<()> {
        // It may have left already, when an earlier attempt failed.
        let _ = epoll::delete(&epoll, self.socket.tcp());
        self.socket = Socket::open(address, tls)?;
        (self.sent, self.filled, self.wants_room) = (0, 0, false);
        self.request.clear();
        self.register(epoll, token)
    }

    /// Has `epoll` report this connection's readiness under `token`.
    pub fn register(&self, epoll: impl AsFd, token: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        epoll::add(epoll, self.socket.tcp(), data, epoll::EventFlags::IN)?;
        Ok(())
    }

    /// The empty buffer that the next request is written into, before [`Self::send`].
    pub fn request_buffer(&mut self) -> &mut Vec<u8> {
        self.request.clear();
        self.sent = 0;
        &mut self.request
    }

    /// Sends as much as fits; the rest goes out when `epoll` reports room.
    pub fn send(&mut self, epoll: impl AsFd, token: u64) -> io::Result<()> {
        while self.sent < self.request.len() {
            match self.socket.write(&self.request[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let wants_room = self.socket.flush()? || self.sent < self.request.len();
        if wants_room != self.wants_room {
            self.wants_room = wants_room;
            let room = if wants_room { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
            let data = epoll::EventData::new_u64(token);
            epoll::modify(epoll, self.socket.tcp(), data, epoll::EventFlags::IN | room)?;
        }
        Ok(())
    }

    /// Whether part of the request still waits for room.
    pub const fn wants_room(&self) -> bool {
        self.wants_room
    }

    /// Reads once; `Some` when the answer is complete. An end of file is an error here, since
    /// the caller keeps connections open.
    pub fn receive(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if self.filled == self.buffer.len() {
                let larger = (self.buffer.len() * 2).min(2 * BODY_BYTES_MAX);
                self.buffer.resize(larger, 0);
            }
            match self.socket.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(None),
                Err(error) => return Err(error),
            }
            let answer = answer::parse(&self.buffer[..self.filled]).map_err(io::Error::other)?;
            // What TLS has decrypted already, epoll does not report again.
            let may_have_more = matches!(self.socket, Socket::Tls(_));
            if answer.is_some() || !may_have_more {
                return Ok(answer);
            }
        }
    }

    /// The answer that [`Self::receive`] found.
    pub fn answer(&self, frame: &Frame) -> Answer<'_> {
        Answer::of(frame, &self.buffer[..self.filled])
    }

    /// Forgets the answer; bytes beyond it would belong to a request never sent, an error.
    pub fn consume(&mut self, frame: &Frame) -> io::Result<()> {
        if self.filled != frame.total() {
            return Err(io::Error::other("more bytes than the answer announced"));
        }
        self.filled = 0;
        Ok(())
    }
}
