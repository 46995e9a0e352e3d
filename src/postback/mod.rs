//! A postback's way: who sends it (`sender`), parameters to meanings (`mapping`), meanings to a
//! verdict (`decide`) with its price (`price`) or a refusal that helps (`hints`), verdict to a
//! conversion on disk (`flow`), by way of the offer's caps and tiers (`capped`). What had no exchange rate is priced when it comes (`reprice`).

mod body;
mod capped;
mod decide;
mod flow;
mod hints;
mod mapping;
mod price;
mod reprice;
mod sender;
mod timestamp;

pub use body::Body;
pub use decide::{Refused, Verdict, decide};
pub use flow::{Answer, Committing, PostbackRequest, Postbacks, Progress, Told};
pub use mapping::{Fields, Names};
pub use reprice::RepriceError;
pub use sender::{Address, Sender};
