//! The vocabulary: what the words of the field mean here. No I/O, no clock, no randomness.

pub mod admin;
pub mod country;
pub mod currency;
pub mod dimension;
pub mod fields;
pub mod hex;
pub mod ids;
pub mod ip;
pub mod mask;
pub mod money;
pub mod network;
pub mod period;
pub mod preset;
pub mod rate;
pub mod rate_limit;
pub mod reasons;
pub mod rule;
pub mod secret;
pub mod status;
pub mod url;

mod words;
