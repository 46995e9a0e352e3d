//! The meanings that a postback's parameters can have.

/// One meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Field {
    /// The click the event belongs to.
    ClickId,
    /// The advertiser's identifier of the conversion.
    TxnId,
    /// The kind of event.
    Event,
    /// What the customer spent.
    Amount,
    /// What the network earns, as the advertiser says.
    Revenue,
    /// What the affiliate earns, as the advertiser says.
    Payout,
    /// ISO 4217 code of the amounts.
    Currency,
    /// Status word.
    Status,
    /// The advertiser's identifier of the person.
    CustomerId,
    /// Number of items.
    Quantity,
    /// When it happened.
    Timestamp,
    /// Secret token.
    Token,
    /// Signature.
    Sig,
    /// The signature's time.
    Ts,
    /// The signature's nonce.
    Nonce,
    /// Ask without writing.
    DryRun,
    /// Passed through and stored.
    Sub1,
    /// See `Sub1`.
    Sub2,
    /// See `Sub1`.
    Sub3,
    /// See `Sub1`.
    Sub4,
    /// See `Sub1`.
    Sub5,
    /// See `Sub1`.
    Sub6,
    /// See `Sub1`.
    Sub7,
    /// See `Sub1`.
    Sub8,
    /// See `Sub1`.
    Sub9,
    /// See `Sub1`.
    Sub10,
}

impl Field {
    /// How many meanings there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All meanings.
    pub const ALL: [Self; 26] = [
        Self::ClickId,
        Self::TxnId,
        Self::Event,
        Self::Amount,
        Self::Revenue,
        Self::Payout,
        Self::Currency,
        Self::Status,
        Self::CustomerId,
        Self::Quantity,
        Self::Timestamp,
        Self::Token,
        Self::Sig,
        Self::Ts,
        Self::Nonce,
        Self::DryRun,
        Self::Sub1,
        Self::Sub2,
        Self::Sub3,
        Self::Sub4,
        Self::Sub5,
        Self::Sub6,
        Self::Sub7,
        Self::Sub8,
        Self::Sub9,
        Self::Sub10,
    ];

    /// The ten subs in order.
    pub const SUBS: [Self; 10] = [
        Self::Sub1,
        Self::Sub2,
        Self::Sub3,
        Self::Sub4,
        Self::Sub5,
        Self::Sub6,
        Self::Sub7,
        Self::Sub8,
        Self::Sub9,
        Self::Sub10,
    ];

    /// Place in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The standard name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClickId => "click_id",
            Self::TxnId => "txn_id",
            Self::Event => "event",
            Self::Amount => "amount",
            Self::Revenue => "revenue",
            Self::Payout => "payout",
            Self::Currency => "currency",
            Self::Status => "status",
            Self::CustomerId => "customer_id",
            Self::Quantity => "quantity",
            Self::Timestamp => "timestamp",
            Self::Token => "token",
            Self::Sig => "sig",
            Self::Ts => "ts",
            Self::Nonce => "nonce",
            Self::DryRun => "dry_run",
            Self::Sub1 => "sub1",
            Self::Sub2 => "sub2",
            Self::Sub3 => "sub3",
            Self::Sub4 => "sub4",
            Self::Sub5 => "sub5",
            Self::Sub6 => "sub6",
            Self::Sub7 => "sub7",
            Self::Sub8 => "sub8",
            Self::Sub9 => "sub9",
            Self::Sub10 => "sub10",
        }
    }

    /// The meaning of a name in the `standard` preset, its aliases included.
    #[must_use]
    pub fn standard(name: &str) -> Option<Self> {
        Some(match name {
            "click_id" | "cid" | "clickid" => Self::ClickId,
            "txn_id" | "txid" | "transaction_id" => Self::TxnId,
            "event" | "event_type" | "goal" => Self::Event,
            "amount" => Self::Amount,
            "revenue" => Self::Revenue,
            "payout" => Self::Payout,
            "currency" => Self::Currency,
            "status" => Self::Status,
            "customer_id" => Self::CustomerId,
            "quantity" => Self::Quantity,
            "timestamp" => Self::Timestamp,
            "token" => Self::Token,
            "sig" => Self::Sig,
            "ts" => Self::Ts,
            "nonce" => Self::Nonce,
            "dry_run" => Self::DryRun,
            "sub1" => Self::Sub1,
            "sub2" => Self::Sub2,
            "sub3" => Self::Sub3,
            "sub4" => Self::Sub4,
            "sub5" => Self::Sub5,
            "sub6" => Self::Sub6,
            "sub7" => Self::Sub7,
            "sub8" => Self::Sub8,
            "sub9" => Self::Sub9,
            "sub10" => Self::Sub10,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_meaning_has_its_place_and_its_standard_name() {
        for (place, field) in Field::ALL.into_iter().enumerate() {
            assert_eq!(field.index(), place);
            assert_eq!(Field::standard(field.as_str()), Some(field));
        }
    }
}
