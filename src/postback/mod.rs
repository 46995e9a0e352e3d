//! A postback's way: who sends it (`sender`) and whether it shows that (`admit`), parameters to
//! meanings (`mapping`) if no template left a `placeholder`, by whose names the click says (`meant`)
//! where the path does not, meanings to a verdict (`decide`) with
//! its price (`price`) or a refusal that helps (`hints`), verdict to a conversion on disk (`flow`,
//! and `wait` where it must), by way of the offer's fraud rules (`suspect`), caps and tiers
//! (`capped`); written down `as_received`. News of a known conversion (`transition`, pure) changes
//! it in turn (`update`); a negative event takes one back (`reversal`, pure, and `reverse`); what
//! names no click may name a customer or a known transaction instead (`bound`, `customer`); the
//! network says itself what became of many (`upload`). What had no exchange rate is priced when it
//! comes (`reprice`); what was refused is judged again from the log (`reprocess`), once, though it was
//! signed and may have been `sent_again`. What cannot be read is read as far as anybody can (`garbled`). Who only asks is told what would come of it
//! (`dry_run`). What is not even read, or too much, is `turned_away`. What the log names is found
//! again (`mention`); what told of a person is erased on request (`erase`).

mod admit;
mod answer;
mod as_received;
mod body;
mod bound;
mod capped;
mod customer;
mod decide;
mod dry_run;
mod effects;
mod erase;
mod flow;
mod garbled;
mod hints;
mod mapping;
mod meant;
mod mention;
mod passed_over;
mod placeholder;
mod price;
mod reprice;
mod reprocess;
mod reversal;
mod reverse;
mod sender;
mod sent_again;
mod suspect;
mod timestamp;
mod transition;
mod turned_away;
mod update;
mod upload;
mod wait;

pub use answer::{Answer, Told};
pub use as_received::KeptIp;
pub use body::{Body, json_scalar};
pub use decide::{Refused, Verdict, decide};
pub use effects::{Effects, Gained, Gains};
pub use erase::{DamagedRecord, Erased, patiently};
pub use flow::{Committing, PostbackRequest, Postbacks, Progress};
pub use mapping::{Fields, Names};
pub use mention::{Mention, mentions};
pub use passed_over::PassedOver;
pub use reprocess::{Again, Reprocessed, Selection};
pub use sender::{Address, Sender};
pub use upload::{Became, ConversionName, News};
