//! By what a report is grouped.

use super::words::words;

words! {
    /// What the rows of a report tell apart.
    Dimension {
        /// An hour of the network's time zone.
        Hour = "hour",
        /// A day of the network's time zone.
        Day = "day",
        /// The offer.
        Offer = "offer",
        /// The affiliate.
        Affiliate = "affiliate",
        /// Whose offer it is today.
        Advertiser = "advertiser",
        /// The event; of conversions only.
        Event = "event",
        /// The click's `sub1`.
        Sub1 = "sub1",
    }
}
