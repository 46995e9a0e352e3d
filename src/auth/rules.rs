// Hot path of advertisers with credentials: pure. No clock, no randomness, no I/O.
//! What the catalog asks of an advertiser's senders, and whether they have shown it. All secrets
//! that are valid are looked at, whatever comes of the first, so that the time it takes tells
//! nothing about them.

use std::net::IpAddr;

use hmac::{Hmac, KeyInit, Mac};
use ipnet::IpNet;
use sha2::Sha256;

use crate::config::Secret;
use crate::model::reasons::AuthMode;

/// An advertiser's checks; `None` is off. All that are on have to be passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// `allow_ips`.
    pub addresses: Option<Addresses>,
    /// `tokens`.
    pub tokens: Option<Tokens>,
    /// `hmac`.
    pub signatures: Option<Signatures>,
}

/// A secret and when it is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated<T> {
    /// What it is compared with; `None` if it could not be read, and nothing matches it.
    pub secret: Option<T>,
    /// From when on, Unix milliseconds.
    pub from_ms: Option<u64>,
    /// Until when, Unix milliseconds; not valid any more at that moment.
    pub until_ms: Option<u64>,
}

impl<T> Dated<T> {
    /// Whether it is valid.
    #[must_use]
    pub fn is_valid(&self, now_ms: u64) -> bool {
        self.from_ms.is_none_or(|from| from <= now_ms)
            && self.until_ms.is_none_or(|until| now_ms < until)
    }
}

/// Whether one of those that are valid matches. It looks at all of them.
fn any<T>(secrets: &[Dated<T>], now_ms: u64, matches: impl Fn(&T) -> bool) -> bool {
    let valid = secrets.iter().filter(|dated| dated.is_valid(now_ms));
    valid.filter_map(|dated| dated.secret.as_ref()).fold(false, |any, one| any | matches(one))
}

/// When each of those that are valid, and could be read, became so, where that is known.
fn since<T>(secrets: &[Dated<T>], now_ms: u64) -> impl Iterator<Item = u64> {
    let valid =
        secrets.iter().filter(move |dated| dated.secret.is_some() && dated.is_valid(now_ms));
    valid.filter_map(|dated| dated.from_ms)
}

/// When a check that is enforced has no valid secret: then every postback is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Now, and until a secret begins, Unix milliseconds; `None`: for ever.
    Now(Option<u64>),
    /// From then on, Unix milliseconds, which is still to come.
    From(u64),
}

/// The first time from now on in which none of the secrets that could be read is valid; `None`: it
/// never comes. That a check has no secrets at all is a mistake of its own.
fn gap<T>(secrets: &[Dated<T>], now_ms: u64) -> Option<Gap> {
    if secrets.is_empty() {
        return None;
    }
    let readable = || secrets.iter().filter(|dated| dated.secret.is_some());
    let mut at_ms = now_ms;
    let lasting = |at_ms| {
        let valid = readable().filter(move |dated| dated.is_valid(at_ms));
        valid.map(|dated| dated.until_ms.unwrap_or(u64::MAX)).max()
    };
    while let Some(until_ms) = lasting(at_ms) {
        if until_ms == u64::MAX {
            return None;
        }
        at_ms = until_ms;
    }
    if now_ms < at_ms {
        return Some(Gap::From(at_ms));
    }
    let begins = readable().filter_map(|dated| dated.from_ms);
    Some(Gap::Now(begins.filter(|from| now_ms < *from).min()))
}

/// Addresses from which postbacks may come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// What becomes of others.
    pub mode: AuthMode,
    /// The networks, none of them of IPv4 addresses written as IPv6 ones.
    pub networks: Vec<IpNet>,
}

impl Addresses {
    /// Whether an address is in one of the networks.
    #[must_use]
    pub fn allow(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }
}

/// Tokens, kept as their hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// What becomes of a postback without one.
    pub mode: AuthMode,
    /// BLAKE3 of each.
    pub secrets: Vec<Dated<blake3::Hash>>,
}

impl Tokens {
    /// Whether this is one of them.
    #[must_use]
    pub fn accept(&self, token: &str, now_ms: u64) -> bool {
        let given = blake3::hash(token.as_bytes());
        // Comparing two BLAKE3 hashes is constant-time in that crate.
        any(&self.secrets, now_ms, |known| *known == given)
    }
}

/// A secret that signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey(Secret<String>);

impl SigningKey {
    /// A key, whose bytes are those of a text.
    #[must_use]
    pub const fn new(secret: Secret<String>) -> Self {
        Self(secret)
    }

    fn mac(&self, text: &[u8]) -> Hmac<Sha256> {
        let key = self.0.expose().as_bytes();
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(text);
        mac
    }

    /// The signature of a text.
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> [u8; 32] {
        self.mac(text).finalize().into_bytes().into()
    }

    /// Whether this is the signature of a text; in constant time.
    #[must_use]
    pub fn verify(&self, text: &[u8], signature: &[u8; 32]) -> bool {
        self.mac(text).verify_slice(signature).is_ok()
    }
}

/// Signatures, and what must be signed besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signatures {
    /// What becomes of a postback that is not signed well.
    pub mode: AuthMode,
    /// The secrets.
    pub secrets: Vec<Dated<SigningKey>>,
    /// How far the time of signing may be from ours, either way, milliseconds.
    pub ts_window_ms: u64,
    /// Whether a nonce must be there.
    pub needs_nonce: bool,
}

impl Signatures {
    /// Whether one of the secrets has signed the text so.
    #[must_use]
    pub fn accept(&self, text: &[u8], signature: &[u8; 32], now_ms: u64) -> bool {
        any(&self.secrets, now_ms, |key| key.verify(text, signature))
    }
}

impl Auth {
    /// When each secret that is valid, and could be read, became so, where that is known.
    pub fn valid_since(&self, now_ms: u64) -> impl Iterator<Item = u64> {
        let tokens = self.tokens.iter().flat_map(move |tokens| since(&tokens.secrets, now_ms));
        let keys = self.signatures.iter().flat_map(move |keys| since(&keys.secrets, now_ms));
        tokens.chain(keys)
    }

    /// The checks that are enforced and have no valid secret, or come to have none, by their keys.
    pub fn gaps(&self, now_ms: u64) -> impl Iterator<Item = (&'static str, Gap)> {
        let tokens = self.tokens.as_ref().filter(|tokens| tokens.mode == AuthMode::Enforce);
        let tokens = tokens.and_then(|tokens| gap(&tokens.secrets, now_ms));
        let keys = self.signatures.as_ref().filter(|keys| keys.mode == AuthMode::Enforce);
        let keys = keys.and_then(|keys| gap(&keys.secrets, now_ms));
        let checks = [("tokens", tokens), ("hmac", keys)];
        checks.into_iter().filter_map(|(check, gap)| Some((check, gap?)))
    }

    /// How many secrets could not be read.
    #[must_use]
    pub fn unreadable(&self) -> usize {
        let tokens = self.tokens.iter().flat_map(|tokens| &tokens.secrets);
        let keys = self.signatures.iter().flat_map(|signatures| &signatures.secrets);
        tokens.filter(|dated| dated.secret.is_none()).count()
            + keys.filter(|dated| dated.secret.is_none()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hex::hex;

    fn dated<T>(secret: T, from_ms: Option<u64>, until_ms: Option<u64>) -> Dated<T> {
        Dated { secret: Some(secret), from_ms, until_ms }
    }

    fn key(text: &str) -> SigningKey {
        SigningKey::new(Secret::new(text.to_owned()))
    }

    #[test]
    fn a_secret_is_valid_from_its_start_until_just_before_its_end() {
        let check = |from, until, now, expected| {
            assert_eq!(dated((), from, until).is_valid(now), expected, "{from:?} {until:?} {now}");
        };
        check(None, None, 0, true);
        check(Some(10), None, 9, false);
        check(Some(10), None, 10, true);
        check(None, Some(20), 19, true);
        check(None, Some(20), 20, false);
        check(Some(10), Some(20), 15, true);
    }

    #[test]
    fn of_several_tokens_each_counts_in_its_time() {
        let hash = |text: &str| blake3::hash(text.as_bytes());
        let tokens = Tokens {
            mode: AuthMode::Enforce,
            secrets: vec![
                dated(hash("old"), None, Some(20)),
                dated(hash("new"), Some(10), None),
                Dated { secret: None, from_ms: None, until_ms: None },
            ],
        };
        let at = |now| ["old", "new", "", "olds"].map(|token| tokens.accept(token, now));
        assert_eq!(at(5), [true, false, false, false]);
        assert_eq!(at(15), [true, true, false, false]);
        assert_eq!(at(20), [false, true, false, false]);
    }

    #[test]
    fn an_enforced_check_has_a_gap_where_no_secret_is_valid() {
        let check = |times: &[(Option<u64>, Option<u64>)], now_ms, expected: Option<Gap>| {
            let secrets = times.iter().map(|(from, until)| dated(blake3::hash(b""), *from, *until));
            let tokens = Tokens { mode: AuthMode::Enforce, secrets: secrets.collect() };
            let mut auth = Auth { tokens: Some(tokens), ..Auth::default() };
            let expected = expected.map(|gap| ("tokens", gap));
            assert_eq!(auth.gaps(now_ms).next(), expected, "{times:?} {now_ms}");
            auth.tokens.as_mut().expect("just set").mode = AuthMode::Shadow;
            assert_eq!(auth.gaps(now_ms).next(), None, "in shadow nothing is refused");
        };
        check(&[(None, None)], 5, None);
        check(&[(None, Some(20))], 5, Some(Gap::From(20)));
        check(&[(None, Some(20)), (Some(10), None)], 5, None);
        check(&[(Some(20), None), (None, Some(20))], 5, None);
        let three = [(Some(10), Some(30)), (None, Some(20)), (Some(30), Some(40))];
        check(&three, 5, Some(Gap::From(40)));
        // A gap, and what is over.
        check(&[(None, Some(20)), (Some(21), None)], 5, Some(Gap::From(20)));
        check(&[(None, Some(20)), (Some(21), None)], 20, Some(Gap::Now(Some(21))));
        check(&[(None, Some(20)), (Some(21), None)], 21, None);
        check(&[(None, Some(20)), (None, Some(10))], 25, Some(Gap::Now(None)));
        // Not begun yet.
        check(&[(Some(30), None)], 5, Some(Gap::Now(Some(30))));
        check(&[(Some(40), None), (Some(30), Some(40))], 5, Some(Gap::Now(Some(30))));
        check(&[(Some(30), None)], 30, None);
        check(&[], 5, None);
    }

    #[test]
    fn a_secret_that_could_not_be_read_fills_no_gap_and_has_no_age() {
        let lost = |from_ms, until_ms| Dated { secret: None, from_ms, until_ms };
        let check = |secrets: Vec<Dated<()>>, expected: Option<Gap>, ages: &[u64]| {
            assert_eq!(gap(&secrets, 5), expected, "{secrets:?}");
            assert_eq!(since(&secrets, 5).collect::<Vec<_>>(), ages, "{secrets:?}");
        };
        check(vec![lost(Some(1), None)], Some(Gap::Now(None)), &[]);
        check(vec![lost(Some(9), None)], Some(Gap::Now(None)), &[]);
        let ending = || dated((), Some(2), Some(20));
        check(vec![lost(Some(1), None), ending()], Some(Gap::From(20)), &[2]);
        check(vec![ending(), lost(Some(10), None)], Some(Gap::From(20)), &[2]);
    }

    /// RFC 4231, test cases 2 and 6.
    #[test]
    fn signatures_are_hmac_sha256() {
        assert_eq!(
            hex(&key("Jefe").sign(b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let long = key(&"\u{2a}".repeat(131));
        let signature = long.sign(b"text");
        assert!(long.verify(b"text", &signature) && !long.verify(b"test", &signature));
        for at in 0..32 {
            let mut other = signature;
            other[at] ^= 1;
            assert!(!long.verify(b"text", &other), "byte {at}");
        }
    }

    #[test]
    fn addresses_are_compared_in_one_family() {
        let networks = ["203.0.113.0/24", "2001:db8::/32"].map(|net| net.parse().expect("fine"));
        let addresses = Addresses { mode: AuthMode::Enforce, networks: networks.to_vec() };
        let check = |address: &str, expected| {
            assert_eq!(addresses.allow(address.parse().expect("fine")), expected, "{address}");
        };
        check("203.0.113.9", true);
        check("::ffff:203.0.113.9", true);
        check("203.0.114.9", false);
        check("2001:db8::1", true);
        check("2001:db9::1", false);
    }

    #[test]
    fn debug_output_gives_away_no_secret() {
        assert!(!format!("{:?}", dated(key("hunter2"), None, None)).contains("hunter2"));
    }
}
