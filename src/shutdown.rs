//! The end of serving: begun once, heard by everybody.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Waker;

use tokio::sync::watch;

/// Hears when the drain begins.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<bool>);

/// Begins the drain.
#[derive(Debug)]
pub struct DrainTrigger(watch::Sender<bool>);

/// A drain that has not begun. Dropping the trigger begins it, too.
#[must_use]
pub fn drain() -> (DrainTrigger, Drain) {
    let (sender, receiver) = watch::channel(false);
    (DrainTrigger(sender), Drain(receiver))
}

impl DrainTrigger {
    /// Begins the drain; every time but the first does nothing.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl Drain {
    /// Waits until the drain begins.
    pub async fn begun(&self) {
        let mut receiver = self.0.clone();
        // An error means that the trigger is gone: the process is ending.
        let _ = receiver.wait_for(|begun| *begun).await;
    }

    /// Drives `serving` to its end. When the drain begins, `finish` tells it once to come to one.
    pub async fn serve<S: Future>(
        &self,
        mut serving: Pin<&mut S>,
        finish: impl FnOnce(Pin<&mut S>),
    ) -> S::Output {
        let mut begun = pin!(self.begun());
        let mut has_begun = false;
        let mut enlisted: Option<Waker> = None;
        let mut finish = Some(finish);
        poll_fn(|context| {
            // One question enlists the task; every later poll, one a request, looks at a version
            // number only.
            let waker = context.waker();
            let known = enlisted.as_ref().is_some_and(|enlisted| enlisted.will_wake(waker));
            if !known {
                enlisted = Some(waker.clone());
            }
            if !has_begun && (!known || self.0.has_changed().unwrap_or(true)) {
                has_begun = begun.as_mut().poll(context).is_ready();
            }
            // First what has arrived already: a request that waits to be read is answered.
            let served = serving.as_mut().poll(context);
            if served.is_pending()
                && has_begun
                && let Some(finish) = finish.take()
            {
                finish(serving.as_mut());
                return serving.as_mut().poll(context);
            }
            served
        })
        .await
    }

    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }
}
