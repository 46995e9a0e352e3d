//! A body that holds on to something until it was sent, or nobody wants it any more.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};

use crate::limits::ADMIN_BODY_PIECE_BYTES;

/// A body and what is given back with its end. It is sent in pieces: hyper drops a body as soon as
/// it has all of it, however long the client takes, and an HTTP/2 connection stays only as long as
/// pieces are taken.
pub struct Held<P> {
    body: Body,
    /// What has come of it and is not sent yet.
    rest: Bytes,
    _held: P,
}

impl<P> Held<P> {
    /// Sends `body`, holding `held`.
    pub fn new(body: impl Into<Body>, held: P) -> Self {
        Self { body: body.into(), rest: Bytes::new(), _held: held }
    }
}

impl<P: Unpin> hyper::body::Body for Held<P> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        while self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let piece = self.rest.len().min(ADMIN_BODY_PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let whole = self.body.size_hint().exact();
        whole.map_or_else(SizeHint::default, |more| {
            SizeHint::with_exact(more + self.rest.len() as u64)
        })
    }
}
