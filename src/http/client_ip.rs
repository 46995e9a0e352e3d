//! Whose request it is, and from which country: the peer, or what a trusted proxy says.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::HeaderName;
use ipnet::IpNet;

use crate::model::country::Country;
use crate::model::network::canonical;

/// The proxies whose word about a visitor is believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Trusts the addresses in these networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks.into_iter().map(canonical).collect())
    }

    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Why an address may be a proxy's instead of the visitor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Before the last proxy's address stands none: whatever is left of that could be invented.
    Unreadable,
    /// A trusted proxy has named nobody else than trusted proxies.
    Unnamed,
    /// Somebody is named by a peer that is no trusted proxy.
    Untrusted,
}

/// The visitor's address: read from right to left, the first hop that is not a trusted proxy; the
/// last proxy's or the peer's where there is a doubt.
pub(super) fn client_ip(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &TrustedProxies,
) -> (IpAddr, Option<Doubt>) {
    let mut client = peer.to_canonical();
    if !trusted.trusts(client) {
        // Requests have few headers: comparing names is quicker than hashing one.
        let names_one = headers.keys().any(|name| *name == X_FORWARDED_FOR);
        return (client, names_one.then_some(Doubt::Untrusted));
    }
    let values = headers.get_all(X_FORWARDED_FOR);
    for value in values.iter().rev() {
        // Each by itself: what stands before the visitor's is the visitor's to write.
        for hop in value.as_bytes().rsplit(|byte| *byte == b',') {
            let hop = str::from_utf8(hop).ok().and_then(|hop| address(hop.trim()));
            let Some(hop) = hop else { return (client, Some(Doubt::Unreadable)) };
            client = hop.to_canonical();
            if !trusted.trusts(client) {
                return (client, None);
            }
        }
    }
    (client, Some(Doubt::Unnamed))
}

/// A hop's address, to which some proxies add the port, and brackets to one of IPv6.
fn address(hop: &str) -> Option<IpAddr> {
    if let Ok(address) = hop.parse() {
        return Some(address);
    }
    if let Ok(with_port) = hop.parse::<SocketAddr>() {
        return Some(with_port.ip());
    }
    let bracketed = hop.strip_prefix('[')?.strip_suffix(']')?;
    bracketed.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// The visitor's country, by the header in which a trusted proxy says it. If the header is there
/// more than once the last one counts: the nearest proxy has added it.
#[must_use]
pub fn country(
    peer: IpAddr,
    headers: &HeaderMap,
    header: &HeaderName,
    trusted: &TrustedProxies,
) -> Option<Country> {
    if !trusted.trusts(peer.to_canonical()) {
        return None;
    }
    let said = headers.get_all(header).iter().next_back()?;
    Country::parse(said.to_str().ok()?.trim())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn trusted() -> TrustedProxies {
        let networks = ["10.0.0.0/8", "::1/128"].map(|net| net.parse().expect("a network"));
        TrustedProxies::new(networks.to_vec())
    }

    fn read(peer: &str, forwarded: &[&str]) -> (IpAddr, Option<Doubt>) {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
            headers.append(X_FORWARDED_FOR, value);
        }
        client_ip(peer.parse().expect("an address"), &headers, &trusted())
    }

    fn check_doubt(peer: &str, forwarded: &[&str], expected: &str, doubt: Option<Doubt>) {
        let expected = expected.parse().expect("an address");
        assert_eq!(read(peer, forwarded), (expected, doubt), "{peer} {forwarded:?}");
    }

    fn check(peer: &str, forwarded: &[&str], expected: &str) {
        check_doubt(peer, forwarded, expected, None);
    }

    #[test]
    fn a_stranger_cannot_say_who_it_is() {
        let untrusted = Some(Doubt::Untrusted);
        check_doubt("203.0.113.9", &["198.51.100.1"], "203.0.113.9", untrusted);
        check("203.0.113.9", &[], "203.0.113.9");
    }

    #[test]
    fn a_proxy_that_names_no_visitor_leaves_a_doubt() {
        let check = |forwarded: &[&str], expected| {
            check_doubt("10.0.0.1", forwarded, expected, Some(Doubt::Unnamed));
        };
        check(&[], "10.0.0.1");
        check(&["10.0.0.2"], "10.0.0.2");
    }

    #[test]
    fn a_trusted_proxy_names_the_visitor() {
        check("10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        check("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        check("::1", &["2001:db8::7"], "2001:db8::7");
    }

    #[test]
    fn hops_are_read_from_right_to_left_and_inventions_ignored() {
        check("10.0.0.1", &["1.1.1.1, 198.51.100.1, 10.0.0.2"], "198.51.100.1");
        check("10.0.0.1", &["1.1.1.1", "198.51.100.1, 10.0.0.2"], "198.51.100.1");
        for invented in ["\u{e9}", "1.1.1.1, caf\u{e9} , 1.1.1.1", "nonsense,,", "\t"] {
            check("10.0.0.1", &[&format!("{invented}, 198.51.100.1")], "198.51.100.1");
            check("10.0.0.1", &[invented, "198.51.100.1, 10.0.0.2"], "198.51.100.1");
        }
    }

    #[test]
    fn a_port_and_brackets_are_no_part_of_an_address() {
        check("10.0.0.1", &["198.51.100.1:51234"], "198.51.100.1");
        check("10.0.0.1", &["1.1.1.1, 198.51.100.1:51234, 10.0.0.2:80"], "198.51.100.1");
        check("10.0.0.1", &["[2001:db8::7]:443"], "2001:db8::7");
        check("10.0.0.1", &["[2001:db8::7]"], "2001:db8::7");
        check("10.0.0.1", &["[::ffff:198.51.100.1]:443"], "198.51.100.1");
    }

    #[test]
    fn what_is_no_address_ends_the_walk_at_the_last_proxy() {
        let check = |forwarded: &[&str], last: &str| {
            check_doubt("10.0.0.1", forwarded, last, Some(Doubt::Unreadable));
        };
        check(&["1.1.1.1, nonsense, 10.0.0.2"], "10.0.0.2");
        check(&["198.51.100.1", "unknown"], "10.0.0.1");
        check(&["198.51.100.1, \u{e9}, 10.0.0.2"], "10.0.0.2");
        check(&[""], "10.0.0.1");
        for hop in ["198.51.100.1:", "198.51.100.1:65536", "[198.51.100.1]", "[2001:db8::7]443"] {
            check(&[hop], "10.0.0.1");
        }
    }

    #[test]
    fn only_a_trusted_proxy_names_the_country() {
        let check = |peer: &str, said: &[&str], expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.append("x-other-country", "FR".parse().expect("a header value"));
            for value in said {
                headers.append("x-country", value.parse().expect("a header value"));
            }
            let header = HeaderName::from_static("x-country");
            let peer_ip = peer.parse().expect("an address");
            let country = country(peer_ip, &headers, &header, &trusted());
            assert_eq!(country.as_ref().map(Country::as_str), expected, "{peer} {said:?}");
        };
        check("10.0.0.1", &["de"], Some("DE"));
        check("::ffff:10.0.0.1", &[" DE "], Some("DE"));
        check("203.0.113.9", &["DE"], None);
        check("10.0.0.1", &[], None);
        check("10.0.0.1", &["XX"], None);
        check("10.0.0.1", &["T1"], None);
        check("10.0.0.1", &["DE, FR"], None);
        check("10.0.0.1", &["FR", "DE"], Some("DE"));
        check("10.0.0.1", &["DE", "unknown"], None);
    }
}
