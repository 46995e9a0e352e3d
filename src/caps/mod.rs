//! Caps and tiers: how much of an offer is paid, and from which volume on at which rate.
//!
//! What is counted is the same for both: the conversions of an offer by event and affiliate, in
//! the current day and month of the network's time zone. An offer without caps or tiers is not
//! counted at all. The counts live in memory: a conversion takes its place in them before it goes
//! to the writer, and whoever settles its commit gives the place back if the disk did not take it.
//! They are derived from the conversions in the store and counted again from them at every start,
//! and when an offer gets its first cap or tier.

mod counts;
mod meter;
mod meters;
mod terms;

pub use counts::Counted;
pub use meter::{Asked, Meter, Place, Reserved};
pub use meters::{CountError, Meters, Still};
pub use terms::{Cap, Tier, Whose, tier_of};
