//! How much one source may send.

/// So many in a time that slides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many; at least one.
    pub count: u64,
    /// In how long, milliseconds.
    pub period_ms: u64,
}
