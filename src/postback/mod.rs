//! A postback's way: parameters to meanings (`mapping`), meanings to a verdict (`decide`) with
//! its price (`price`), verdict to a conversion on disk (`flow`). What had no
//! exchange rate is priced when it comes (`reprice`).

mod body;
mod decide;
mod flow;
mod mapping;
mod price;
mod reprice;
mod timestamp;

pub use body::Body;
pub use decide::{Refused, Verdict, decide};
pub use flow::{Answer, Committing, PostbackRequest, Postbacks, Progress};
pub use mapping::Fields;
pub use reprice::RepriceError;
