//! A body that holds on to something until it was sent, or nobody wants it any more.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

/// A whole body and what is given back with its end.
pub struct Held<P> {
    body: Full<Bytes>,
    _held: P,
}

impl<P> Held<P> {
    /// Sends `text`, holding `held`.
    pub fn new(text: String, held: P) -> Self {
        Self { body: Full::new(Bytes::from(text)), _held: held }
    }
}

impl<P: Unpin> Body for Held<P> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
