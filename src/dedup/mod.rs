//! Counting once: claims in memory in front of the store's dedupe table.
//!
//! A postback claims its keys in the cache; the claim is *pending* until the writer settles it.
//! An identical postback meanwhile waits for that outcome. The cache may forget settled claims;
//! the store decides. What the cache may never forget is a pending claim, so those live in a map
//! of their own, bounded by the requests in flight.
//!
//! A customer's claim is soft: whoever finds it held is a conversion all the same, and the customer
//! stays bound to the one who holds it.
//!
//! Whoever changes a known conversion holds its claims meanwhile, too, so that changes of one
//! conversion follow each other; memory follows when the disk has confirmed.

mod cache;
mod held;
mod pending;
mod repeats;
mod stored;
mod warming;

pub use cache::{Cache, Known, Original, filling_tables};
pub use held::{Changing, Held, Submitted};
pub use pending::{Acquired, Deduplicator};
pub use repeats::{ClaimError, Receipt, Signed};

pub use crate::store::claim::{Claim, ClaimSet, CustomerWindows};
