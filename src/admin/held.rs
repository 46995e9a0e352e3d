//! A body that holds on to something until it was sent, or nobody wants it any more.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::limits::ADMIN_BODY_PIECE_BYTES;

/// A body and what is given back with its end. It is sent in pieces: hyper drops a body as soon as
/// it has all of it, however long the client takes, and an HTTP/2 connection stays only as long as
/// pieces are taken.
pub struct Held<P> {
    rest: Bytes,
    _held: P,
}

impl<P> Held<P> {
    /// Sends `text`, holding `held`.
    pub fn new(text: String, held: P) -> Self {
        Self { rest: Bytes::from(text), _held: held }
    }
}

impl<P: Unpin> Body for Held<P> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let piece = self.rest.len().min(ADMIN_BODY_PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
