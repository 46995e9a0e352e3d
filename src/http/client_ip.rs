//! Whose request it is, and from which country: the peer, or what a trusted proxy says.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::HeaderName;
use ipnet::IpNet;

use crate::model::country::Country;

/// The proxies whose word about a visitor is believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Trusts the addresses in these networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The visitor's address: read from right to left, the first hop that is not a trusted proxy.
/// What is not an address ends the walk: whatever stands left of it could be invented.
#[must_use]
pub fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> IpAddr {
    let mut client = peer.to_canonical();
    if !trusted.trusts(client) {
        return client;
    }
    let values = headers.get_all(X_FORWARDED_FOR);
    for value in values.iter().rev() {
        let Ok(value) = value.to_str() else { return client };
        for hop in value.rsplit(',') {
            let Ok(address) = hop.trim().parse::<IpAddr>() else { return client };
            client = address.to_canonical();
            if !trusted.trusts(client) {
                return client;
            }
        }
    }
    client
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
    use super::*;

    fn trusted() -> TrustedProxies {
        let networks = ["10.0.0.0/8", "::1/128"].map(|net| net.parse().expect("a network"));
        TrustedProxies::new(networks.to_vec())
    }

    fn check(peer: &str, forwarded: &[&str], expected: &str) {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(X_FORWARDED_FOR, value.parse().expect("a header value"));
        }
        let client = client_ip(peer.parse().expect("an address"), &headers, &trusted());
        assert_eq!(client, expected.parse::<IpAddr>().expect("an address"), "{peer} {forwarded:?}");
    }

    #[test]
    fn a_stranger_cannot_say_who_it_is() {
        check("203.0.113.9", &["198.51.100.1"], "203.0.113.9");
        check("203.0.113.9", &[], "203.0.113.9");
    }

    #[test]
    fn a_trusted_proxy_names_the_visitor() {
        check("10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        check("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        check("::1", &["2001:db8::7"], "2001:db8::7");
        check("10.0.0.1", &[], "10.0.0.1");
    }

    #[test]
    fn hops_are_read_from_right_to_left_and_inventions_ignored() {
        check("10.0.0.1", &["1.1.1.1, 198.51.100.1, 10.0.0.2"], "198.51.100.1");
        check("10.0.0.1", &["1.1.1.1", "198.51.100.1, 10.0.0.2"], "198.51.100.1");
        check("10.0.0.1", &["1.1.1.1, nonsense, 10.0.0.2"], "10.0.0.2");
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
