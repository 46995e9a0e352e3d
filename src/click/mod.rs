//! A click's way: parameters (`params`), which offer and affiliate (`decide`), the redirect
//! and the record (`flow`), of what the visitor lets be kept (`consent`).

mod consent;
mod decide;
mod flow;
mod ip;
mod params;

pub use flow::{ClickAnswer, ClickRequest, Clicks, Recording};
pub use ip::Visitor;
