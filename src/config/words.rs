//! Settings that are one word of a fixed list.

/// What is kept of a click whose visitor has not consented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutConsent {
    /// The same as of any other.
    Keep,
    /// Neither address nor user agent nor referrer.
    Strip,
}

impl WithoutConsent {
    pub(super) const WORDS: [(&'static str, Self); 2] =
        [("keep", Self::Keep), ("strip", Self::Strip)];
}

/// A value of the `Referrer-Policy` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReferrerPolicy(&'static str);

impl ReferrerPolicy {
    /// Advertisers see where visitors come from, but not on which page they were. It is what
    /// browsers do by themselves, said aloud for those that do not.
    pub const DEFAULT: Self = Self("strict-origin-when-cross-origin");

    /// All values of the W3C's Referrer Policy.
    pub(super) const WORDS: [(&'static str, Self); 8] = {
        const fn word(word: &'static str) -> (&'static str, ReferrerPolicy) {
            (word, ReferrerPolicy(word))
        }
        [
            word("no-referrer"),
            word("no-referrer-when-downgrade"),
            word("same-origin"),
            word("origin"),
            word("strict-origin"),
            word("origin-when-cross-origin"),
            word("strict-origin-when-cross-origin"),
            word("unsafe-url"),
        ]
    };

    /// The header's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl LogFormat {
    pub(super) const WORDS: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("json", Self::Json), ("text", Self::Text)];
}

/// The least important lines that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLevel(&'static str);

impl LogLevel {
    /// What an operator acts on or asks for later.
    pub const DEFAULT: Self = Self("info");

    pub(super) const WORDS: [(&'static str, Self); 6] = [
        ("off", Self("off")),
        ("error", Self("error")),
        ("warn", Self("warn")),
        ("info", Self::DEFAULT),
        ("debug", Self("debug")),
        ("trace", Self("trace")),
    ];

    /// The level's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}
