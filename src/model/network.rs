//! Networks of addresses, in one family for one machine.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// The bits of an IPv6 address that say that it stands for an IPv4 address, `::ffff:0:0/96`.
const MAPPED_BITS: u8 = 96;

/// A network of IPv4 addresses written as IPv6 ones as what it is: addresses are compared so.
#[must_use]
pub fn canonical(network: IpNet) -> IpNet {
    let mapped = network.prefix_len().checked_sub(MAPPED_BITS);
    let v4 = match (network, network.addr().to_canonical(), mapped) {
        (IpNet::V6(_), IpAddr::V4(address), Some(bits)) => Ipv4Net::new(address, bits).ok(),
        _ => None,
    };
    v4.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_mapped_addresses_is_one_of_ipv4() {
        let check = |text: &str, expected: &str| {
            let network = canonical(text.parse().expect("a network"));
            assert_eq!(network, expected.parse().expect("a network"), "{text}");
        };
        check("::ffff:203.0.113.0/120", "203.0.113.0/24");
        check("::ffff:203.0.113.9/128", "203.0.113.9/32");
        check("::ffff:0:0/96", "0.0.0.0/0");
        check("203.0.113.0/24", "203.0.113.0/24");
        check("2001:db8::/32", "2001:db8::/32");
        // Others are in it, too.
        check("::ffff:0:0/95", "::ffff:0:0/95");
        check("::/0", "::/0");
    }
}
