//! What a proxy says of a connection that it passes on, before everything else: the PROXY
//! protocol, versions 1 (a line of text) and 2 (binary), as HAProxy's `doc/proxy-protocol.txt`
//! defines them in sections 2.1 and 2.2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::limits::PROXY_HEADER_BYTES_MAX;

const V1: &[u8] = b"PROXY ";
const V1_BYTES_MAX: usize = 107;
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_HEAD_BYTES: usize = V2.len() + 4;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header: all of them belong to it, and more.
    Incomplete,
    /// The header takes so many of them.
    Complete {
        /// How many.
        bytes: usize,
        /// Whose connection it is; `None`: the proxy's own, or it does not know.
        source: Option<IpAddr>,
    },
}

/// What the first bytes are, if they are no such header, or one that is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads a header from the first bytes of a connection.
///
/// # Errors
/// When they cannot become one.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, expected)| byte == expected);
    if begins(V2) {
        version_2(bytes)
    } else if begins(V1) {
        version_1(bytes)
    } else {
        Err(Malformed)
    }
}

/// `PROXY TCP4|TCP6 SOURCE DESTINATION PORT PORT`, or `PROXY UNKNOWN` and anything.
fn version_1(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let bytes = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() < V1_BYTES_MAX { Ok(Parsed::Incomplete) } else { Err(Malformed) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(Malformed)?;
    let line = std::str::from_utf8(line).map_err(|_| Malformed)?;
    let mut words = line.split(' ').skip(1);
    let mut word = || words.next().ok_or(Malformed);
    let source = match word()? {
        "UNKNOWN" => None,
        family @ ("TCP4" | "TCP6") => {
            let mut address = || word()?.parse::<IpAddr>().map_err(|_| Malformed);
            let (source, destination) = (address()?, address()?);
            let is_4 = family == "TCP4";
            if source.is_ipv4() != is_4 || destination.is_ipv4() != is_4 {
                return Err(Malformed);
            }
            for _ in 0..2 {
                let port = word()?;
                let digits = port.bytes().all(|byte| byte.is_ascii_digit());
                port.parse::<u16>().ok().filter(|_| digits).ok_or(Malformed)?;
            }
            if words.next().is_some() {
                return Err(Malformed);
            }
            Some(source)
        }
        _ => return Err(Malformed),
    };
    Ok(Parsed::Complete { bytes: end + 1, source })
}

/// Signature, version and command, family and protocol, length; then addresses, and what we skip.
fn version_2(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let Some((head, rest)) = bytes.split_at_checked(V2_HEAD_BYTES) else {
        return Ok(Parsed::Incomplete);
    };
    let &[version_and_command, family_and_protocol, high, low] = &head[V2.len()..] else {
        return Err(Malformed);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let whole = V2_HEAD_BYTES + length;
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed),
    };
    if whole > PROXY_HEADER_BYTES_MAX {
        return Err(Malformed);
    }
    // Source, destination, and two ports.
    let addresses = match family_and_protocol {
        TCP_OVER_IPV4 => 12,
        TCP_OVER_IPV6 => 36,
        // Known, but no address of TCP over IP: unspecified, datagrams, and Unix sockets.
        0x00..=0x02 | 0x10 | 0x12 | 0x20 | 0x22 | 0x30..=0x32 => 0,
        // The specification has receivers refuse what it does not define. The command for a
        // proxy's own connections says that the family is to be ignored.
        _ if is_local => 0,
        _ => return Err(Malformed),
    };
    if !is_local && length < addresses {
        return Err(Malformed);
    }
    if rest.len() < length {
        return Ok(Parsed::Incomplete);
    }
    let source = match family_and_protocol {
        TCP_OVER_IPV4 if !is_local => rest.first_chunk::<4>().map(|ip| Ipv4Addr::from(*ip).into()),
        TCP_OVER_IPV6 if !is_local => rest.first_chunk::<16>().map(|ip| Ipv6Addr::from(*ip).into()),
        _ => None,
    };
    Ok(Parsed::Complete { bytes: whole, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, length: usize, content: &[u8]) -> Vec<u8> {
        let length = (length as u16).to_be_bytes();
        [V2, &[command, family], &length, content].concat()
    }

    const IPV4: [u8; 12] = [203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

    /// The source (empty: none) and what is left, or `None` if it is refused.
    fn check(header: &[u8], expected: Option<&str>) {
        let request = b"GET / HTTP/1.1\r\n";
        let source = expected.map(|text| (!text.is_empty()).then(|| text.parse().expect("an IP")));
        let whole = source.map(|source| Parsed::Complete { bytes: header.len(), source });
        let shown = String::from_utf8_lossy(header).into_owned();
        assert_eq!(parse(&[header, request].concat()), whole.ok_or(Malformed), "{shown:?}");
        if expected.is_some() {
            for length in 0..header.len() {
                assert_eq!(parse(&header[..length]), Ok(Parsed::Incomplete), "{shown:?} {length}");
            }
        }
    }

    #[test]
    fn version_1_is_one_line() {
        check(b"PROXY TCP4 203.0.113.9 10.0.0.1 4660 80\r\n", Some("203.0.113.9"));
        check(b"PROXY TCP6 2001:db8::9 ::1 65535 0\r\n", Some("2001:db8::9"));
        check(b"PROXY UNKNOWN\r\n", Some(""));
        check(b"PROXY UNKNOWN 203.0.113.9 who knows\r\n", Some(""));
        check(b"PROXY TCP4 203.0.113.9 10.0.0.1 4660 80\n", None);
        check(b"PROXY TCP4 203.0.113.9 10.0.0.1 4660\r\n", None);
        check(b"PROXY TCP4 203.0.113.9 10.0.0.1 4660 80 \r\n", None);
        check(b"PROXY TCP4 203.0.113.9  10.0.0.1 4660 80\r\n", None);
        check(b"PROXY TCP4 203.0.113.9 10.0.0.1 4660 65536\r\n", None);
        check(b"PROXY TCP4 203.0.113.9 10.0.0.1 +660 80\r\n", None);
        check(b"PROXY TCP4 203.0.113.999 10.0.0.1 4660 80\r\n", None);
        check(b"PROXY TCP4 2001:db8::9 ::1 1 2\r\n", None);
        check(b"PROXY TCP6 2001:db8::9 10.0.0.1 1 2\r\n", None);
        check(b"PROXY TCP6 203.0.113.9 10.0.0.1 1 2\r\n", None);
        check(b"PROXY UDP4 203.0.113.9 10.0.0.1 1 2\r\n", None);
        check(b"PROXY\r\n", None);
        check(b"proxy UNKNOWN\r\n", None);
        check(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 91], b"\r\n"].concat(), Some(""));
        check(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 92], b"\r\n"].concat(), None);
        check(b"PROXY UNKNOWN \xff\r\n", None);
    }

    #[test]
    fn version_2_is_binary() {
        check(&v2(0x21, 0x11, 12, &IPV4), Some("203.0.113.9"));
        let ipv6 = "2001:db8::9".parse::<Ipv6Addr>().expect("an address").octets();
        let ipv6 = [ipv6.as_slice(), &[0; 20]].concat();
        check(&v2(0x21, 0x21, 36, &ipv6), Some("2001:db8::9"));
        // What proxies add of their own follows the addresses.
        let more = [&IPV4, b"\x04\x00\x03abc".as_slice()].concat();
        check(&v2(0x21, 0x11, 18, &more), Some("203.0.113.9"));
        // The proxy's own connection, whatever else it says.
        check(&v2(0x20, 0x00, 0, b""), Some(""));
        check(&v2(0x20, 0x11, 12, &IPV4), Some(""));
        check(&v2(0x20, 0x11, 3, b"abc"), Some(""));
        check(&v2(0x20, 0xff, 0, b""), Some(""));
        // Unknown to the proxy, or no TCP over IP.
        check(&v2(0x21, 0x00, 5, b"abcde"), Some(""));
        check(&v2(0x21, 0x12, 12, &IPV4), Some(""));
        check(&v2(0x21, 0x31, 216, &[0; 216]), Some(""));
        // What the specification does not define.
        check(&v2(0x11, 0x11, 12, &IPV4), None);
        check(&v2(0x22, 0x11, 12, &IPV4), None);
        check(&v2(0x21, 0x41, 12, &IPV4), None);
        check(&v2(0x21, 0x13, 12, &IPV4), None);
        // Too short for its addresses, too long for anybody.
        check(&v2(0x21, 0x11, 11, &IPV4[..11]), None);
        check(&v2(0x21, 0x21, 12, &IPV4), None);
        let longest = PROXY_HEADER_BYTES_MAX - V2_HEAD_BYTES;
        let longest = [&IPV4, vec![0; longest - 12].as_slice()].concat();
        check(&v2(0x21, 0x11, longest.len(), &longest), Some("203.0.113.9"));
        check(&v2(0x21, 0x11, longest.len() + 1, &longest), None);
        check(&v2(0x21, 0x11, 0xffff, b""), None);
    }

    #[test]
    fn what_is_no_header_is_refused_at_its_first_wrong_byte() {
        let first_wrong = |bytes: &[u8]| {
            let mut lengths = 0..=bytes.len();
            lengths.find(|length| parse(&bytes[..*length]) == Err(Malformed))
        };
        assert_eq!(first_wrong(b"GET / HTTP/1.1\r\n"), Some(1));
        assert_eq!(first_wrong(b"POST /"), Some(2));
        assert_eq!(first_wrong(b"\x16\x03\x01"), Some(1));
        assert_eq!(first_wrong(b"\r\n\r\n\0\r\nQUIX\n"), Some(11));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(bytes: Vec<u8>, command: u8, family: u8, length: u16) {
            let check = |bytes: &[u8]| match parse(bytes) {
                Ok(Parsed::Complete { bytes: used, .. }) => assert!(used <= bytes.len()),
                Ok(Parsed::Incomplete) => assert!(bytes.len() < PROXY_HEADER_BYTES_MAX),
                Err(Malformed) => {}
            };
            check(&bytes);
            check(&v2(command, family, length.into(), &bytes));
            check(&[V1, bytes.as_slice()].concat());
        }

        #[test]
        fn more_bytes_do_not_change_what_was_said(header: Vec<u8>, more: Vec<u8>) {
            for header in [v2(0x21, 0x11, header.len(), &header), [V1, &header].concat()] {
                if let Ok(whole @ Parsed::Complete { .. }) = parse(&header) {
                    assert_eq!(parse(&[header, more.clone()].concat()), Ok(whole));
                }
            }
        }
    }
}
