// Hot path: without rate limits, two comparisons a request.
//! How much is let in: so many of one address, and so many that wait, of one source a share.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::by_source::BySource;
use crate::limits::WAITING_SHARE_OF_SOURCE;
use crate::metrics::Metrics;
use crate::model::rate_limit::RateLimit;
use crate::throttle::{RetryAfter, Source, Throttle};

/// The limits of load, shared by all workers.
pub struct Load {
    throttle: Arc<Throttle>,
    clicks_per_ip: Option<RateLimit>,
    postbacks_per_ip: Option<RateLimit>,
    places: Arc<Semaphore>,
    places_of_source_max: usize,
    places_of: BySource,
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
        Self {
            throttle,
            clicks_per_ip,
            postbacks_per_ip,
            places: Arc::new(Semaphore::new(waiting_max)),
            places_of_source_max: waiting_max.div_ceil(WAITING_SHARE_OF_SOURCE),
            places_of: BySource::default(),
            metrics,
        }
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
        self.pass(self.clicks_per_ip, ip, Source::Clicks, now_ms)
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
        self.pass(self.postbacks_per_ip, ip, Source::Postbacks, now_ms)
    }

    /// Without a limit, `ip` is not asked.
    fn pass(
        &self,
        limit: Option<RateLimit>,
        ip: impl FnOnce() -> Option<IpAddr>,
        source: fn(IpAddr) -> Source<'static>,
        now_ms: u64,
    ) -> Result<(), RetryAfter> {
        let Some((limit, ip)) = limit.and_then(|limit| Some((limit, ip()?))) else {
            return Ok(());
        };
        self.throttle.pass(source(ip), limit, now_ms)
    }

    /// A place for a postback that waits: for its body, for a read, for another postback. One from
    /// nobody in particular (`None`) may have any.
    ///
    /// # Errors
    /// When too many wait, or too many of this address's source.
    pub fn place(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Place, NoPlace> {
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| NoPlace::AtAll)?;
        self.metrics.postbacks.waiting.increment(1.0);
        let place = Place { load: Arc::clone(self), address, _permit: permit };
        match address.map(|address| self.places_of.add(address)) {
            Some(held) if held > self.places_of_source_max => Err(NoPlace::ForSource),
            _ => Ok(place),
        }
    }
}

/// Why a postback cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// As many wait as may.
    AtAll,
    /// As many of its source wait as may.
    ForSource,
}

/// The place of a postback that waits, given back when dropped.
pub struct Place {
    load: Arc<Load>,
    address: Option<IpAddr>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(address) = self.address {
            self.load.places_of.remove(address);
        }
        self.load.metrics.postbacks.waiting.decrement(1.0);
    }
}
