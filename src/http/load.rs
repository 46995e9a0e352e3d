// Hot path: without rate limits, two comparisons a request.
//! How much is let in: so many of one address, and so many that wait.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Metrics;
use crate::model::rate_limit::RateLimit;
use crate::throttle::{RetryAfter, Source, Throttle};

/// The limits of load, shared by all workers.
pub struct Load {
    throttle: Arc<Throttle>,
    clicks_per_ip: Option<RateLimit>,
    postbacks_per_ip: Option<RateLimit>,
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Load {
    /// Lets in what the limits give an address, if there are any, and `waiting_max` postbacks
    /// that wait.
    #[must_use]
    pub fn new(
        throttle: Arc<Throttle>,
        clicks_per_ip: Option<RateLimit>,
        postbacks_per_ip: Option<RateLimit>,
        waiting_max: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        let places = Arc::new(Semaphore::new(waiting_max));
        Self { throttle, clicks_per_ip, postbacks_per_ip, places, metrics }
    }

    /// Lets a click in; from nobody in particular (`None`) always.
    ///
    /// # Errors
    /// When its address has sent enough.
    pub fn click(
        &self,
        ip: impl FnOnce() -> Option<IpAddr>,
        now_ms: u64,
    ) -> Result<(), RetryAfter> {
        match self.clicks_per_ip {
            None => Ok(()),
            Some(limit) => match ip() {
                None => Ok(()),
                Some(ip) => self.throttle.pass(Source::Clicks(ip), limit, now_ms),
            },
        }
    }

    /// Lets a postback in, as [`Load::click`].
    ///
    /// # Errors
    /// When its address has sent enough.
    pub fn postback(
        &self,
        ip: impl FnOnce() -> Option<IpAddr>,
        now_ms: u64,
    ) -> Result<(), RetryAfter> {
        match self.postbacks_per_ip {
            None => Ok(()),
            Some(limit) => match ip() {
                None => Ok(()),
                Some(ip) => self.throttle.pass(Source::Postbacks(ip), limit, now_ms),
            },
        }
    }

    /// A place for a postback that waits: for its body, for a read, for another postback. `None`:
    /// too many do.
    pub fn place(&self) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        self.metrics.postbacks.waiting.increment(1.0);
        Some(Place { metrics: Arc::clone(&self.metrics), _permit: permit })
    }
}

/// The place of a postback that waits, given back when dropped.
pub struct Place {
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.postbacks.waiting.decrement(1.0);
    }
}
