//! Caps and tiers: how much of an offer is paid, and from which volume on at which rate.
//!
//! What is counted is the same for both: the conversions of an offer by event and affiliate, in
//! the current day and month of the network's time zone, and in total where there is such a cap. An
//! offer without caps or tiers is not counted at all. The counts live in memory: a conversion takes
//! its place in them before it goes to the writer, and whoever settles its commit gives the place
//! back if the disk did not take it. They are derived from what the store has and counted again
//! from it at every start, and when an offer gets its first cap or tier, or its first total: a month
//! from the conversions, a total from the sums that outlive them, and from those that are not in
//! these sums yet.

mod counts;
mod meter;
mod meters;
mod terms;

pub use counts::Counted;
pub use meter::{Asked, Meter, Place, Reserved, Turn};
pub use meters::{CountError, Meters, Still};
pub use terms::{Cap, Metered, Tier, Whose, tier_of};
