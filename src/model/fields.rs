//! The meanings that a postback's parameters can have.

use super::words::words;

words! {
    /// One meaning, by its standard name.
    Field {
        /// The click the event belongs to.
        ClickId = "click_id",
        /// The advertiser's identifier of the conversion.
        TxnId = "txn_id",
        /// The advertiser's identifier of a negative event itself.
        ReversalId = "reversal_id",
        /// The kind of event.
        Event = "event",
        /// What the customer spent.
        Amount = "amount",
        /// What the network earns, as the advertiser says.
        Revenue = "revenue",
        /// What the affiliate earns, as the advertiser says.
        Payout = "payout",
        /// ISO 4217 code of the amounts.
        Currency = "currency",
        /// Status word.
        Status = "status",
        /// The advertiser's identifier of the person.
        CustomerId = "customer_id",
        /// Number of items.
        Quantity = "quantity",
        /// When it happened.
        Timestamp = "timestamp",
        /// Secret token.
        Token = "token",
        /// Signature.
        Sig = "sig",
        /// The signature's time.
        Ts = "ts",
        /// The signature's nonce.
        Nonce = "nonce",
        /// Ask without writing.
        DryRun = "dry_run",
        /// Passed through and stored.
        Sub1 = "sub1",
        /// See `Sub1`.
        Sub2 = "sub2",
        /// See `Sub1`.
        Sub3 = "sub3",
        /// See `Sub1`.
        Sub4 = "sub4",
        /// See `Sub1`.
        Sub5 = "sub5",
        /// See `Sub1`.
        Sub6 = "sub6",
        /// See `Sub1`.
        Sub7 = "sub7",
        /// See `Sub1`.
        Sub8 = "sub8",
        /// See `Sub1`.
        Sub9 = "sub9",
        /// See `Sub1`.
        Sub10 = "sub10",
    }
}

impl Field {
    /// How many meanings there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The ten subs in order; they are declared last.
    pub const SUBS: &'static [Self] = Self::ALL.split_at(Self::Sub1.index()).1;

    /// Whether its value must never be kept or shown.
    #[must_use]
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::Token | Self::Sig | Self::Ts | Self::Nonce)
    }

    /// Whether whoever knows its value could send postbacks: a time or a number used once is no such
    /// thing, and many URLs have one.
    #[must_use]
    pub const fn is_credential(self) -> bool {
        matches!(self, Self::Token | Self::Sig)
    }

    /// The meaning of a name in the `standard` preset, its aliases included.
    #[inline]
    #[must_use]
    pub fn standard(name: &str) -> Option<Self> {
        Self::parse(name).or(match name {
            "cid" | "clickid" => Some(Self::ClickId),
            "txid" | "transaction_id" => Some(Self::TxnId),
            "event_type" | "goal" => Some(Self::Event),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_meaning_has_its_place_and_its_standard_name() {
        for (place, field) in Field::ALL.iter().enumerate() {
            assert_eq!(field.index(), place);
            assert_eq!(Field::standard(field.as_str()), Some(*field));
        }
        assert_eq!((Field::SUBS.len(), Field::SUBS[9]), (10, Field::Sub10));
    }
}
