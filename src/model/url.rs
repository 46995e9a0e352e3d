//! What a redirect may lead to.

/// Whether a text is an absolute http or https URL of printable ASCII with a host and without
/// credentials: safe in a `Location` header.
#[must_use]
pub fn is_http_url(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return false;
    };
    text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'<' | b'>'))
        && is_authority(authority(rest))
}

/// What stands between `//` and the path, query or fragment.
fn authority(rest: &str) -> &str {
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

fn is_authority(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let host_is_sound = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        }
    };
    host_is_sound && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_http_urls_with_a_plain_host_pass() {
        for fine in [
            "http://a",
            "https://shop.example/x?y={click_id}#z",
            "https://shop.example:8443/",
            "http://[::1]:8080/x",
            "http://shop.example?x=1",
        ] {
            assert!(is_http_url(fine), "{fine}");
        }
        for wrong in [
            "",
            "shop.example/x",
            "//shop.example",
            "ftp://shop.example",
            "javascript:alert(1)",
            "http://",
            "http:///x",
            "http://{sub1}/x",
            "http://a{click_id}.example/",
            "http://user:pass@shop.example/",
            "http://shop.example:99999/",
            "http://shop.example/a b",
            "http://shop.example/\r\nX: y",
            "http://shop.example/ä",
            "http://shop.example\\@evil.example/",
        ] {
            assert!(!is_http_url(wrong), "{wrong}");
        }
    }
}
