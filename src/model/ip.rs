//! How much of a visitor's address is kept.

/// How an address is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpStorage {
    /// As it is.
    Full,
    /// The first 24 bits of IPv4, the first 48 of IPv6.
    Truncated,
    /// 64 bits of a keyed BLAKE3: equal addresses stay equal.
    Hashed,
    /// Not at all.
    None,
}

impl IpStorage {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Self); 4] = [
        ("full", Self::Full),
        ("truncated", Self::Truncated),
        ("hashed", Self::Hashed),
        ("none", Self::None),
    ];
}
