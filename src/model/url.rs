//! Absolute http and https URLs as operators write them: checked whole when they are loaded, so
//! that what is sent in a `Location` header later needs no check.

/// Longest URL or URL template, bytes: what browsers and proxies are sure to carry.
pub const URL_TEXT_BYTES_MAX: usize = 2048;

/// An absolute http or https URL with a literal host, printable ASCII only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl(Box<str>);

/// Why a text is no URL to send visitors to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Relative, or another scheme.
    #[error("must start with http:// or https://")]
    NotHttp,
    /// `https:///path`: browsers would take the path for a host.
    #[error("has no host")]
    NoHost,
    /// The host has characters that no host name has, or an empty label.
    #[error("the host is not a name or an address; write other alphabets in their xn-- form")]
    BadHost,
    /// Not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    BadPort,
    /// `user@`: it is sent to nobody and makes hosts hard to read.
    #[error("must not carry a user name or password before the host")]
    UserInfo,
    /// A character that RFC 3986 does not allow.
    #[error("has {shown:?} at byte {at}; write it as {escaped}", escaped = escaped(*.shown))]
    BadCharacter {
        /// The character.
        shown: char,
        /// Where, in bytes from 0.
        at: usize,
    },
    /// A `%` without two hex digits.
    #[error("has a % without two hex digits at byte {at}; write a plain % as %25")]
    BadEscape {
        /// Where, in bytes from 0.
        at: usize,
    },
    /// Over [`URL_TEXT_BYTES_MAX`].
    #[error("is longer than {URL_TEXT_BYTES_MAX} bytes")]
    TooLong,
}

impl HttpUrl {
    /// Checks and keeps a URL.
    ///
    /// # Errors
    /// When it could not be sent to a browser as it is.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        check_length(text)?;
        check_characters(text, 0)?;
        authority_end(text)?;
        Ok(Self(text.into()))
    }

    /// The URL, a valid header value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// # Errors
/// When the text is longer than [`URL_TEXT_BYTES_MAX`].
pub fn check_length(text: &str) -> Result<(), UrlError> {
    if text.len() > URL_TEXT_BYTES_MAX { Err(UrlError::TooLong) } else { Ok(()) }
}

/// Checks that `part`, which starts at byte `start` of what the operator wrote, has nothing but
/// the characters of RFC 3986 and whole percent-escapes.
///
/// # Errors
/// At the first byte that is neither.
pub fn check_characters(part: &str, start: usize) -> Result<(), UrlError> {
    for (place, shown) in part.char_indices() {
        let at = start + place;
        if shown == '%' {
            let digits = part.as_bytes().get(place + 1..place + 3);
            if !digits.is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit)) {
                return Err(UrlError::BadEscape { at });
            }
        } else if !shown.is_ascii_alphanumeric() && !"-._~:/?#[]@!$&'()*+,;=".contains(shown) {
            return Err(UrlError::BadCharacter { shown, at });
        }
    }
    Ok(())
}

/// Where the host and port of an absolute http or https URL end, bytes: at the first `/`, `?` or
/// `#` after them, or at the end of the text.
///
/// # Errors
/// When the scheme, host or port is not one to send visitors to.
pub fn authority_end(text: &str) -> Result<usize, UrlError> {
    let (scheme, rest) = text.split_once("://").ok_or(UrlError::NotHttp)?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(UrlError::NotHttp);
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    check_authority(authority)?;
    Ok(scheme.len() + "://".len() + authority.len())
}

fn check_authority(authority: &str) -> Result<(), UrlError> {
    if authority.contains('@') {
        return Err(UrlError::UserInfo);
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if host.is_empty() {
        return Err(UrlError::NoHost);
    }
    if !is_host(host) {
        return Err(UrlError::BadHost);
    }
    let good_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|n| n > 0)
    };
    if port.is_some_and(|port| !good_port(port)) { Err(UrlError::BadPort) } else { Ok(()) }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(allowed);
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(is_label)
}

fn escaped(shown: char) -> String {
    let mut buffer = [0; 4];
    let bytes = shown.encode_utf8(&mut buffer).bytes();
    bytes.map(|byte| format!("%{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_http_urls_with_a_literal_host_are_taken() {
        let check = |text: &str, expected: Result<(), &str>| {
            let actual = HttpUrl::parse(text).map(|url| assert_eq!(url.as_str(), text));
            assert_eq!(
                actual.map_err(|e| e.to_string()),
                expected.map_err(str::to_owned),
                "{text:?}"
            );
        };
        check("https://shop.example", Ok(()));
        check("HTTPS://Shop.Example:8443/a?b[]=c#d", Ok(()));
        check("http://127.0.0.1:9000/x%20y", Ok(()));
        check("http://[::1]:80/", Ok(()));
        check("", Err("must start with http:// or https://"));
        check("/unavailable", Err("must start with http:// or https://"));
        check("//shop.example/", Err("must start with http:// or https://"));
        check("javascript://shop.example/", Err("must start with http:// or https://"));
        check("https:///shop.example", Err("has no host"));
        check("https://:80/", Err("has no host"));
        check(
            "https://u:p@shop.example/",
            Err("must not carry a user name or password before the host"),
        );
        check(
            "https://a..b/",
            Err("the host is not a name or an address; write other alphabets in their xn-- form"),
        );
        check(
            "https://[::1/",
            Err("the host is not a name or an address; write other alphabets in their xn-- form"),
        );
        check(
            "https://a%2Fb/",
            Err("the host is not a name or an address; write other alphabets in their xn-- form"),
        );
        check("https://a:0/", Err("the port is not a number from 1 to 65535"));
        check("https://a:+80/", Err("the port is not a number from 1 to 65535"));
        check("https://a:/", Err("the port is not a number from 1 to 65535"));
        check("https://a/b c", Err("has ' ' at byte 11; write it as %20"));
        check("https://a\\@b/", Err("has '\\\\' at byte 9; write it as %5C"));
        check("https://a/ä", Err("has 'ä' at byte 10; write it as %C3%A4"));
        check("https://a/\r\nX: y", Err("has '\\r' at byte 10; write it as %0D"));
        check(
            "https://a/100%",
            Err("has a % without two hex digits at byte 13; write a plain % as %25"),
        );
        check(&format!("https://a/{}", "x".repeat(2048)), Err("is longer than 2048 bytes"));
    }
}
