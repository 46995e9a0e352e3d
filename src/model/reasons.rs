//! Every word that explains an outcome: one list for answers, metric labels, API and docs.

use super::words::words;

words! {
    /// What became of a postback.
    PostbackResult {
        /// A new conversion, on disk.
        Accepted = "accepted",
        /// Known already; the original's conversion is named.
        Duplicate = "duplicate",
        /// A known conversion has another status or amount now, on disk.
        Updated = "updated",
        /// Will never succeed as sent.
        Refused = "refused",
        /// Nothing was kept; the sender should try again.
        Unavailable = "unavailable",
    }
}

impl PostbackResult {
    /// Whether it has made or changed a conversion.
    #[must_use]
    pub const fn is_effective(self) -> bool {
        matches!(self, Self::Accepted | Self::Updated)
    }
}

words! {
    /// Why a postback was refused or could not be taken.
    Refusal {
        /// No click ID in any of the names the advertiser may use.
        MissingClickId = "missing_click_id",
        /// Not 33 base62 characters, or a version this release does not know.
        MalformedClickId = "malformed_click_id",
        /// A template's placeholder arrived instead of its value.
        UnresolvedMacro = "unresolved_macro",
        /// No event named.
        MissingEvent = "missing_event",
        /// Not an exact decimal amount.
        BadAmount = "bad_amount",
        /// Not an ISO 4217 code.
        BadCurrency = "bad_currency",
        /// Not Unix seconds, Unix milliseconds or RFC 3339, or more than a day ahead.
        BadTimestamp = "bad_timestamp",
        /// Not one of the known status words.
        BadStatus = "bad_status",
        /// Not a whole number of items.
        BadQuantity = "bad_quantity",
        /// Broken percent-escapes, UTF-8 or JSON, or a value too long to keep.
        BadEncoding = "bad_encoding",
        /// One meaning given twice with different values.
        AmbiguousParameter = "ambiguous_parameter",
        /// More parameters than are accepted.
        TooManyParameters = "too_many_parameters",
        /// The advertiser's token is missing, or it is not one that is valid now.
        BadToken = "bad_token",
        /// The signature is missing, or no secret that is valid now has signed these parameters so.
        BadSignature = "bad_signature",
        /// Signed too long ago or in the future, or nobody knows when.
        StaleSignature = "stale_signature",
        /// The nonce came with another signature before.
        ReplayedNonce = "replayed_nonce",
        /// The advertiser's postbacks do not come from this address.
        IpNotAllowed = "ip_not_allowed",
        /// The click's offer belongs to another advertiser.
        WrongAdvertiser = "wrong_advertiser",
        /// Well-formed, but no key of this network signed it.
        ForgedClickId = "forged_click_id",
        /// No advertiser of that name in the catalog.
        UnknownAdvertiser = "unknown_advertiser",
        /// The click's offer is no longer in the catalog.
        UnknownOffer = "unknown_offer",
        /// The offer defines no such event.
        UnknownEvent = "unknown_event",
        /// No click ID, and the customer is bound to no click, or was for too long.
        UnknownCustomer = "unknown_customer",
        /// A negative event that takes back no conversion that is known.
        UnknownConversion = "unknown_conversion",
        /// The conversion's status cannot become what was sent.
        IllegalTransition = "illegal_transition",
        /// The click is older than the event's window.
        ClickExpired = "click_expired",
        /// No such path on the public listener.
        UnknownPath = "unknown_path",
        /// Only GET, HEAD and POST are spoken.
        MethodNotAllowed = "method_not_allowed",
        /// The body is over the limit.
        BodyTooLarge = "body_too_large",
        /// The URL is over the limit.
        UrlTooLong = "url_too_long",
        /// Neither a form nor JSON.
        UnsupportedMediaType = "unsupported_media_type",
        /// The body did not arrive in time or broke off.
        BodyIncomplete = "body_incomplete",
        /// Not exactly one `Host`, as HTTP/1.1 asks for.
        BadHost = "bad_host",
    }
}

impl Refusal {
    /// Whether the sender did not show who it is.
    #[must_use]
    pub const fn is_of_sender(self) -> bool {
        matches!(
            self,
            Self::BadToken
                | Self::BadSignature
                | Self::StaleSignature
                | Self::ReplayedNonce
                | Self::IpNotAllowed
        )
    }

    /// Whether it leads to no click: what the match rate of postbacks counts against them.
    #[must_use]
    pub const fn is_unmatched(self) -> bool {
        matches!(
            self,
            Self::MissingClickId
                | Self::MalformedClickId
                | Self::UnresolvedMacro
                | Self::ForgedClickId
                | Self::UnknownCustomer
        )
    }

    /// The HTTP status that goes with the refusal.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::MissingClickId
            | Self::MalformedClickId
            | Self::UnresolvedMacro
            | Self::MissingEvent
            | Self::BadAmount
            | Self::BadCurrency
            | Self::BadTimestamp
            | Self::BadStatus
            | Self::BadQuantity
            | Self::BadEncoding
            | Self::AmbiguousParameter
            | Self::TooManyParameters
            | Self::BadHost => 400,
            Self::BadToken | Self::BadSignature | Self::StaleSignature | Self::ReplayedNonce => 401,
            Self::WrongAdvertiser | Self::IpNotAllowed => 403,
            Self::ForgedClickId
            | Self::UnknownAdvertiser
            | Self::UnknownOffer
            | Self::UnknownEvent
            | Self::UnknownCustomer
            | Self::UnknownConversion
            | Self::UnknownPath => 404,
            Self::MethodNotAllowed => 405,
            Self::BodyIncomplete => 408,
            Self::IllegalTransition => 409,
            Self::ClickExpired => 410,
            Self::BodyTooLarge => 413,
            Self::UrlTooLong => 414,
            Self::UnsupportedMediaType => 415,
        }
    }
}

words! {
    /// Why a postback that might succeed later was not taken now.
    Unavailability {
        /// The writer's queue is full.
        Overloaded = "overloaded",
        /// The server is shutting down.
        Draining = "draining",
        /// A write or fsync failed; the store takes nothing more.
        StorePoisoned = "store_poisoned",
        /// Less free disk space than the reserve.
        DiskFull = "disk_full",
        /// The store could not be read in time.
        StoreBusy = "store_busy",
        /// As many of the sender's source wait as one source may have waiting.
        SourceBusy = "source_busy",
        /// The sender's address, or its advertiser, has sent what its limit gives it.
        RateLimited = "rate_limited",
    }
}

words! {
    /// Why a refused postback cannot be judged again from the log.
    Unfit {
        /// Its sender did not show who it is, or nobody looked; credentials are not kept.
        NotAuthenticated = "not_authenticated",
        /// What it says of money or identity was masked.
        Masked = "masked",
        /// It was too long to be kept whole.
        Cut = "cut",
        /// It was not well encoded.
        Garbled = "garbled",
        /// What it said was erased.
        Erased = "erased",
        /// It only asked.
        DryRun = "dry_run",
    }
}

words! {
    /// Why a click went to a fallback, or nowhere.
    ClickFallback {
        /// Neither an offer nor a link was named.
        MissingOffer = "missing_offer",
        /// No such offer.
        UnknownOffer = "unknown_offer",
        /// The offer is paused.
        PausedOffer = "paused_offer",
        /// The offer has ended.
        ExpiredOffer = "expired_offer",
        /// A cap of the offer is full.
        CappedOffer = "capped_offer",
        /// No affiliate was named.
        MissingAffiliate = "missing_affiliate",
        /// No such affiliate.
        UnknownAffiliate = "unknown_affiliate",
        /// The affiliate is blocked.
        BlockedAffiliate = "blocked_affiliate",
        /// No such short code.
        UnknownLink = "unknown_link",
        /// More parameters than are accepted.
        TooManyParameters = "too_many_parameters",
        /// The URL is over the limit.
        UrlTooLong = "url_too_long",
        /// The visitor's address has sent what its limit gives it.
        RateLimited = "rate_limited",
    }
}

words! {
    /// Something noteworthy about an accepted conversion, kept with it.
    Flag {
        /// The click ID is genuine, but its record is not in the store.
        ClickRecordMissing = "click_record_missing",
        /// Reported after the window; kept with zero payout, as the offer says.
        Late = "late",
        /// The event pays a share of the amount, and none was sent; the share counts as zero.
        AmountMissing = "amount_missing",
        /// An amount came in a currency without a rate to the event's; what depends on it is zero.
        RateMissing = "rate_missing",
        /// A cap was full; kept with zero payout.
        OverCap = "over_cap",
        /// Fraud rule: it came sooner after its click than the offer finds likely.
        TooFast = "too_fast",
        /// Fraud rule: it came later after its click than the offer finds likely.
        TooSlow = "too_slow",
        /// Fraud rule: the affiliate's share of clicks that convert is out of the offer's range.
        ConversionRate = "conversion_rate",
        /// Fraud rule: its click was one of too many from neighbouring addresses.
        ClickFlood = "click_flood",
        /// Fraud rule: its click was one of too many from one address.
        RepeatedIp = "repeated_ip",
        /// Fraud rule: its click came from a program, by its user agent.
        BotUserAgent = "bot_user_agent",
        /// Fraud rule: the same customer has converted through another click.
        RepeatedCustomer = "repeated_customer",
        /// Its postback named no click: its customer's binding said which.
        ByCustomer = "by_customer",
        /// Its customer is bound to a click of another affiliate.
        BoundElsewhere = "bound_elsewhere",
        /// A check of its advertiser's credentials that only looks on would have refused it.
        Unauthenticated = "unauthenticated",
        /// What told of its visitor or customer was erased on request.
        Erased = "erased",
        /// Its visitor has not consented: address, user agent and referrer were never kept.
        WithoutConsent = "without_consent",
        /// It earned in a currency without a rate to the network's; its worth there is not known.
        BaseRateMissing = "base_rate_missing",
        /// Its postback had more parameters without a meaning than are kept.
        ParametersLeftOut = "parameters_left_out",
    }
}

words! {
    /// A check of what a postback's sender shows, by which it was passed or not.
    AuthCheck {
        /// Where it comes from.
        Ip = "ip",
        /// Its token.
        Token = "token",
        /// Its signature, with its time and nonce.
        Signature = "signature",
    }
}

words! {
    /// What a check does with who does not pass it.
    AuthMode {
        /// Counts and flags.
        Shadow = "shadow",
        /// Refuses.
        Enforce = "enforce",
    }
}

words! {
    /// What came of a check.
    AuthResult {
        /// Passed.
        Passed = "passed",
        /// Not passed, and let through all the same.
        Shadowed = "shadowed",
        /// Not passed, and refused.
        Refused = "refused",
    }
}

/// What came of each check of one postback, in the order of [`AuthCheck`]; `None`: not made.
pub type AuthOutcome = [Option<AuthResult>; AuthCheck::ALL.len()];

words! {
    /// What a fraud rule does with what it hits.
    FraudAction {
        /// Marks it.
        Flag = "flag",
        /// Marks and rejects it.
        Reject = "reject",
    }
}

/// Why a step is in a history that an advertiser's postback made, where there is no reason in
/// particular.
pub const BY_POSTBACK: &str = "postback";
/// Why a step is in a history that the network's own word made.
pub const BY_UPLOAD: &str = "upload";
/// Why a conversion that the advertiser approves at once is pending, in its history: so the offer
/// wants it.
pub const HELD: &str = "held";
/// Why a negative event is there, in its history: so that its record alone tells that it is one.
pub const NEGATIVE_EVENT: &str = "negative_event";
/// Why a conversion was written anew without what told of its customer, in its history.
pub const ERASED: &str = "erased";
/// Why only a conversion's price was made anew, in its history.
pub const REPRICED: &str = "repriced";
/// Why fraud rules have rejected a conversion, in its history, before a colon and the rules.
pub const FRAUD: &str = "fraud";
/// Words of histories that no negative event may be called: its name is the reason of what it has
/// taken back.
pub const RESERVED: [&str; 7] =
    [BY_POSTBACK, BY_UPLOAD, HELD, NEGATIVE_EVENT, ERASED, REPRICED, FRAUD];

impl Flag {
    /// Those that are fraud rules.
    pub const FRAUD_RULES: [Self; 7] = [
        Self::TooFast,
        Self::TooSlow,
        Self::ConversionRate,
        Self::ClickFlood,
        Self::RepeatedIp,
        Self::BotUserAgent,
        Self::RepeatedCustomer,
    ];
    /// Those of them that judge clicks.
    pub const CLICK_RULES: [Self; 3] = [Self::ClickFlood, Self::RepeatedIp, Self::BotUserAgent];

    /// The flag's bit in a record; part of the store format.
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self.index()
    }

    /// The flag's bit, if it is set.
    #[must_use]
    pub const fn bit_if(self, is_set: bool) -> u32 {
        if is_set { self.bit() } else { 0 }
    }

    /// The flags whose bits are set.
    pub fn in_bits(bits: u32) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |flag| bits & flag.bit() != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_snake_case_and_unique() {
        fn check(words: &[&str]) {
            for (i, word) in words.iter().enumerate() {
                assert!(word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{word}");
                assert!(!words[..i].contains(word), "{word} twice");
            }
        }
        check(&Refusal::ALL.iter().map(|w| w.as_str()).collect::<Vec<_>>());
        check(&PostbackResult::ALL.iter().map(|w| w.as_str()).collect::<Vec<_>>());
        check(&Unavailability::ALL.iter().map(|w| w.as_str()).collect::<Vec<_>>());
        check(&ClickFallback::ALL.iter().map(|w| w.as_str()).collect::<Vec<_>>());
        check(&Flag::ALL.iter().map(|w| w.as_str()).collect::<Vec<_>>());
    }

    #[test]
    fn every_refusal_is_a_client_error() {
        for refusal in Refusal::ALL {
            assert!((400..500).contains(&refusal.http_status()), "{refusal}");
        }
    }

    #[test]
    fn an_index_leads_back_to_its_word() {
        for (i, refusal) in Refusal::ALL.iter().enumerate() {
            assert_eq!(refusal.index(), i);
        }
    }
}
