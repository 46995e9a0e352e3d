//! The ledger: what affiliates have earned, sealed day by day so that it can be proved.
//!
//! The store posts each conversion's steps by itself ([`crate::store::postings`]). Here are the
//! sums over postings, the Merkle trees over an affiliate's days and the proofs from them.

mod account;
mod merkle;
mod proof;
mod seal;
mod sealing;

pub use account::{Line, Statement, balances, page, statement};
pub use merkle::Tree;
pub use proof::{CheckError, Checked, CheckedPosting, Proof, ProveError, Sealed, check, prove};
pub use seal::{Blinding, leaf, seal_hash};
pub use sealing::{SealError, seal_due};
