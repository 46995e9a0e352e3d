//! Ready means that nothing stands against it: each reason is a latch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::shutdown::Drain;
use crate::store::Health;

/// What may keep the server from being ready.
#[derive(Clone, Debug)]
pub struct Readiness {
    started: Arc<AtomicBool>,
    health: Arc<Health>,
    drain: Drain,
}

impl Readiness {
    /// Not ready before [`Readiness::started`].
    #[must_use]
    pub fn new(health: Arc<Health>, drain: Drain) -> Self {
        Self { started: Arc::default(), health, drain }
    }

    /// The listeners are open.
    pub fn started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// Why the server is not ready; empty if it is.
    #[must_use]
    pub fn obstacles(&self) -> Vec<String> {
        let mut obstacles = Vec::new();
        if !self.started.load(Ordering::Acquire) {
            obstacles.push("starting".to_owned());
        }
        if let Some(reason) = self.health.poison_reason() {
            obstacles.push(format!("store poisoned: {reason}"));
        }
        if self.drain.has_begun() {
            obstacles.push("draining".to_owned());
        }
        obstacles
    }
}
