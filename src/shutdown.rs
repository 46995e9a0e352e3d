//! The end of serving: begun once, heard by everybody.

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

    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }
}
