//! A body that holds on to something until it was sent, nobody wants it any more, or it has taken
//! too long.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::error::ApiError;
use crate::limits::{ADMIN_BODY_PIECE_BYTES, ADMIN_BODY_SENT_MAX};

/// A place among so many, or what to answer if all are taken: nobody waits for one.
pub fn place(
    places: &Arc<Semaphore>,
    busy: fn() -> ApiError,
) -> Result<OwnedSemaphorePermit, ApiError> {
    Arc::clone(places).try_acquire_owned().map_err(|_| busy())
}

/// A body and what is given back with its end. It is sent in pieces: hyper drops a body as soon as
/// it has all of it, however long the client takes, and an HTTP/2 connection stays only as long as
/// pieces are taken.
pub struct Held<P> {
    /// Shared with the timer: of an HTTP/2 stream that takes nothing nobody asks for a piece.
    kept: Arc<Mutex<Option<Kept<P>>>>,
    timer: AbortHandle,
}

struct Kept<P> {
    body: Body,
    /// What has come of it and is not sent yet.
    rest: Bytes,
    _held: P,
}

impl<P: Send + 'static> Held<P> {
    /// Sends `body`, holding `held`; to be called where there is a runtime.
    pub fn new(body: impl Into<Body>, held: P) -> Self {
        Self::within(body, held, ADMIN_BODY_SENT_MAX)
    }

    fn within(body: impl Into<Body>, held: P, most: Duration) -> Self {
        let kept = Kept { body: body.into(), rest: Bytes::new(), _held: held };
        let kept = Arc::new(Mutex::new(Some(kept)));
        let late = Arc::clone(&kept);
        let timer = tokio::spawn(async move {
            tokio::time::sleep(most).await;
            drop(lock(&late).take());
            tracing::warn!(
                seconds = most.as_secs_f64(),
                "an answer of the admin API was not taken in time and is cut off"
            );
        });
        Self { kept, timer: timer.abort_handle() }
    }
}

fn lock<P>(kept: &Mutex<Option<Kept<P>>>) -> MutexGuard<'_, Option<Kept<P>>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<P> Drop for Held<P> {
    fn drop(&mut self) {
        self.timer.abort();
        // The timer goes when its runtime has time for it.
        drop(lock(&self.kept).take());
    }
}

impl<P> hyper::body::Body for Held<P> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut kept = lock(&self.kept);
        let Some(Kept { body, rest, .. }) = &mut *kept else {
            let late = io::Error::from(io::ErrorKind::TimedOut);
            return Poll::Ready(Some(Err(axum::Error::new(late))));
        };
        while rest.is_empty() {
            let frame = match ready!(Pin::new(&mut *body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) => *rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let piece = rest.len().min(ADMIN_BODY_PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.kept)
            .as_ref()
            .is_some_and(|kept| kept.rest.is_empty() && kept.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let whole = |kept: &Kept<P>| {
            kept.body.size_hint().exact().map(|more| more + kept.rest.len() as u64)
        };
        let whole = lock(&self.kept).as_ref().and_then(whole);
        whole.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn what_is_not_taken_in_time_gives_its_place_back() {
        let places = Arc::new(Semaphore::new(1));
        let place = || Arc::clone(&places).try_acquire_owned();
        let text = "x".repeat(ADMIN_BODY_PIECE_BYTES + 1);
        let all = Held::new(text.clone(), place().expect("free")).collect().await;
        assert_eq!(all.expect("sent").to_bytes(), text);
        let mut slow = Held::within(text, place().expect("free"), Duration::from_millis(20));
        assert!(slow.frame().await.expect("a first piece").is_ok());
        assert!(place().is_err(), "it is being sent");
        // Nobody asks for the next piece.
        drop(places.acquire().await.expect("open"));
        assert!(slow.frame().await.expect("an end").is_err(), "and not a shorter answer");
    }
}
