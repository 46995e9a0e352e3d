//! The column families: what each holds, who writes and reads it, how long it lives.

/// How a column family is used; decides its RocksDB options in `options`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Appended in key order, read by point look-ups of recent keys, dropped by range.
    TimeOrdered,
    /// Keys in no order, written in bulk. Most look-ups find nothing.
    Scattered,
    /// Written in bulk, in an order of its own, read by ranges.
    Ranges,
    /// Small, rarely written.
    Small,
}

/// One column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Click ID's first 16 bytes → click record. Written by clicks, read by postbacks and the
    /// admin API; lives for `retention.clicks`.
    Clicks,
    /// Conversion ID → conversion record. Written by postbacks, read by the admin API and for
    /// duplicates; lives for `retention.conversions`.
    Conversions,
    /// BLAKE3 of a claim → conversion ID. Filed behind the conversion, read by every postback
    /// that the claim cache does not know; expires with the conversion it names.
    Dedupe,
    /// Advertiser's customer → offer and affiliate, and to its conversions. Written by filing.
    Customers,
    /// Click key, conversion ID → nothing: the conversions of a click. Filed behind the
    /// conversion, read by traces; expires with the conversion.
    ByClick,
    /// Pages of postbacks as received, and what leads from a click to those that made nothing.
    /// Written with the conversion or behind the answer; read by the admin API; lives for
    /// `retention.inbound`.
    Inbound,
    /// Outbound postbacks by due time. No writer yet.
    Outbox,
    /// Attempts to deliver them. No writer yet.
    Deliveries,
    /// Affiliate, day, conversion, step → posting; affiliate, day → seal. Written in bulk behind the
    /// conversion, with later steps, and once a day is over; read by the admin API and `verify`;
    /// never expires.
    Ledger,
    /// Quarter of an hour, offer, affiliate → sums; and what is still to be added to them. Written
    /// behind clicks and conversions; read by reports and `verify`; sums by `sub1` live for
    /// `retention.clicks`, all else for ever.
    Counters,
    /// Offer and affiliate ID → number; offer ID → advertiser's, and its customer window; day → exchange rates; the texts of
    /// the last catalogs, and what is known of them. Written when the catalog loads and by the
    /// admin API; numbers, owners and rates never expire.
    Catalog,
    /// Format version, start counter, click ID key; how far filing, retention and sealing have
    /// come; from where on numbers are given after a restore; erasures under way, and days whose
    /// conversions are still to be priced; the audit log. Each is written by what it is of; the
    /// audit log lives for `retention.audit`, erasures and days until they are done, all else for
    /// ever.
    Meta,
}

impl Table {
    /// All column families, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Clicks,
        Self::Conversions,
        Self::Dedupe,
        Self::Customers,
        Self::ByClick,
        Self::Inbound,
        Self::Outbox,
        Self::Deliveries,
        Self::Ledger,
        Self::Counters,
        Self::Catalog,
        Self::Meta,
    ];

    /// The column family's name on disk and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clicks => "clicks",
            Self::Conversions => "conversions",
            Self::Dedupe => "dedupe",
            Self::Customers => "customers",
            Self::ByClick => "by_click",
            Self::Inbound => "inbound",
            Self::Outbox => "outbox",
            Self::Deliveries => "deliveries",
            Self::Ledger => "ledger",
            Self::Counters => "counters",
            Self::Catalog => "catalog",
            Self::Meta => "meta",
        }
    }

    /// How it is used.
    #[must_use]
    pub const fn profile(self) -> Profile {
        match self {
            Self::Clicks
            | Self::Conversions
            | Self::Inbound
            | Self::Outbox
            | Self::Deliveries
            | Self::Counters => Profile::TimeOrdered,
            Self::Dedupe | Self::Customers => Profile::Scattered,
            Self::ByClick | Self::Ledger => Profile::Ranges,
            Self::Catalog | Self::Meta => Profile::Small,
        }
    }
}
