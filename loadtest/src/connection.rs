// Hot path: one read and one write a request, no allocation.
//! One keep-alive connection: a request out, an answer in, buffers reused for its whole life.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::epoll;

use crate::answer::{self, Answer, BODY_BYTES_MAX, Frame};

/// Loopback connects at once or not at all; a remote server gets this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Room for a usual answer; grows when one is larger.
const READ_BYTES_INITIAL: usize = 4096;

/// A connection with at most one request on its way.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
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
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            stream: connect(address)?,
            request: Vec::with_capacity(1024),
            sent: 0,
            buffer: vec![0; READ_BYTES_INITIAL],
            filled: 0,
            wants_room: false,
        })
    }

    /// Replaces a dead socket and keeps the buffers. The dead one leaves `epoll` first: if no
    /// new one can be had, its end of file would be reported for ever.
    pub fn reopen(&mut self, epoll: impl AsFd, address: SocketAddr, token: u64) -> io::Result<()> {
        // It may have left already, when an earlier attempt failed.
        let _ = epoll::delete(&epoll, &self.stream);
        self.stream = connect(address)?;
        (self.sent, self.filled, self.wants_room) = (0, 0, false);
        self.request.clear();
        self.register(epoll, token)
    }

    /// Has `epoll` report this connection's readiness under `token`.
    pub fn register(&self, epoll: impl AsFd, token: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        epoll::add(epoll, &self.stream, data, epoll::EventFlags::IN)?;
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
            match self.stream.write(&self.request[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let wants_room = self.sent < self.request.len();
        if wants_room != self.wants_room {
            self.wants_room = wants_room;
            let room = if wants_room { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
            let data = epoll::EventData::new_u64(token);
            epoll::modify(epoll, &self.stream, data, epoll::EventFlags::IN | room)?;
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
        if self.filled == self.buffer.len() {
            let larger = (self.buffer.len() * 2).min(2 * BODY_BYTES_MAX);
            self.buffer.resize(larger, 0);
        }
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.filled += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(None),
            Err(error) => return Err(error),
        }
        answer::parse(&self.buffer[..self.filled]).map_err(io::Error::other)
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

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
