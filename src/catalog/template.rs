// Hot path: `expand` runs for every redirect. No allocation beyond the growth of the caller's
// buffer, no locks, no clock, no randomness.

//! Landing URL templates: compiled when the catalog loads, expanded per click.
//!
//! A template's host is literal and everything that is filled in is percent-encoded, so whatever
//! a visitor sends, the redirect goes to the advertiser's host and the header line stays one line.
//! In the path, a value that would lead out of its folder is left out: `..` does so however it is
//! encoded.

use std::fmt;
use std::hint::black_box;

use crate::model::url::{UrlError, authority_end, check_characters, check_length};
use crate::query::encode_into;

/// Room reserved for each macro's value, bytes: a click ID has 33.
const VALUE_BYTES_EXPECTED: usize = 36;

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Macro {
    /// `{click_id}`: the click ID's 33 characters.
    ClickId,
    /// `{offer_id}`: the offer's catalog ID.
    OfferId,
    /// `{affiliate_id}`: the affiliate's catalog ID.
    AffiliateId,
    /// `{sub1}` to `{sub10}`: 1 to 10.
    Sub(u8),
    /// `{country}`: ISO 3166 code, empty if unknown.
    Country,
    /// `{timestamp}`: Unix seconds of the click.
    Timestamp,
    /// `{random}`: a number that defeats caches.
    Random,
    /// One of the offer's passed parameters, by its place in `pass_params`.
    Passed(u8),
}

impl Macro {
    /// Every macro that any template may use, by name.
    pub const BUILT_IN: [(&'static str, Self); 16] = [
        ("click_id", Self::ClickId),
        ("offer_id", Self::OfferId),
        ("affiliate_id", Self::AffiliateId),
        ("country", Self::Country),
        ("timestamp", Self::Timestamp),
        ("random", Self::Random),
        ("sub1", Self::Sub(1)),
        ("sub2", Self::Sub(2)),
        ("sub3", Self::Sub(3)),
        ("sub4", Self::Sub(4)),
        ("sub5", Self::Sub(5)),
        ("sub6", Self::Sub(6)),
        ("sub7", Self::Sub(7)),
        ("sub8", Self::Sub(8)),
        ("sub9", Self::Sub(9)),
        ("sub10", Self::Sub(10)),
    ];

    fn named(name: &str, pass_params: &[String]) -> Option<Self> {
        if let Some((_, built_in)) = Self::BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Some(*built_in);
        }
        let place = pass_params.iter().position(|param| param == name)?;
        u8::try_from(place).ok().map(Self::Passed)
    }
}

/// Fills macros in.
pub trait MacroValues {
    /// Puts the value of `which` into `slot`; nothing, if there is none. Numbers are formatted
    /// here, on the stack, and only if the template asks for them.
    fn fill(&self, which: Macro, slot: &mut Slot<'_>);
}

/// Takes one macro's value, percent-encoding it.
#[derive(Debug)]
pub struct Slot<'o>(&'o mut Vec<u8>);

impl Slot<'_> {
    /// Appends to the value.
    #[inline]
    pub fn put(&mut self, value: impl AsRef<[u8]>) {
        encode_into(value.as_ref(), self.0);
    }
}

/// Why a text is no landing URL template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The text around the macros is no URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// No macro carries the click to the advertiser.
    #[error("has no {{click_id}}: no conversion could ever be matched to its click")]
    NoClickId,
    /// A macro that is neither built in nor passed.
    #[error("unknown macro {{{name}}}")]
    UnknownMacro {
        /// What stands between the braces.
        name: String,
    },
    /// A macro before the first `/`, `?` or `#` after the host.
    #[error("has a macro in the host: the host must be literal and end in /, ? or # before it")]
    MacroInHost,
    /// A brace without its partner.
    #[error("has a brace without its partner at byte {at}; write plain braces as %7B and %7D")]
    LoneBrace {
        /// Where, in bytes from 0.
        at: usize,
    },
}

/// A compiled template.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    /// All literal text, without the macros.
    literals: Box<str>,
    /// For each macro, how much of `literals` comes before it; ascending.
    macros: Box<[(usize, Macro)]>,
    /// How much of `literals` comes before the query or fragment.
    path_end: usize,
}

impl Template {
    /// Compiles the template of an offer that passes `pass_params`.
    ///
    /// # Errors
    /// When it is no absolute http or https URL with a literal host and `{click_id}`, or uses a
    /// macro that is neither built in nor passed.
    pub fn compile(text: &str, pass_params: &[String]) -> Result<Self, TemplateError> {
        check_length(text)?;
        let (mut literals, mut macros) = (String::with_capacity(text.len()), Vec::new());
        let mut from = 0;
        while let Some(open) = text[from..].find(['{', '}']).map(|place| from + place) {
            let lone = TemplateError::LoneBrace { at: open };
            let inner = text[open..].strip_prefix('{').ok_or_else(|| lone.clone())?;
            let (name, _) = inner.split_once('}').ok_or_else(|| lone.clone())?;
            if name.contains('{') {
                return Err(lone);
            }
            check_characters(&text[from..open], from)?;
            literals.push_str(&text[from..open]);
            let unknown = || TemplateError::UnknownMacro { name: name.to_owned() };
            macros.push((literals.len(), Macro::named(name, pass_params).ok_or_else(unknown)?));
            from = open + name.len() + 2;
        }
        check_characters(&text[from..], from)?;
        literals.push_str(&text[from..]);
        Self::check(&literals, &macros)?;
        let path_end = literals.find(['?', '#']).unwrap_or(literals.len());
        Ok(Self { literals: literals.into(), macros: macros.into(), path_end })
    }

    fn check(literals: &str, macros: &[(usize, Macro)]) -> Result<(), TemplateError> {
        let host_end = match (authority_end(literals), macros.first()) {
            (Ok(end), _) => end,
            // `https://{sub1}/`: what is wrong with the host is the macro.
            (Err(_), Some((place, _)))
                if literals.find("://").is_some_and(|at| *place == at + 3) =>
            {
                return Err(TemplateError::MacroInHost);
            }
            (Err(error), _) => return Err(error.into()),
        };
        if macros.first().is_some_and(|(place, _)| *place <= host_end) {
            return Err(TemplateError::MacroInHost);
        }
        if macros.iter().any(|(_, which)| *which == Macro::ClickId) {
            Ok(())
        } else {
            Err(TemplateError::NoClickId)
        }
    }

    /// Asks memory for it: in a large catalog it is far away, and there is work to do meanwhile.
    #[inline]
    pub fn ask_for(&self) {
        black_box((self.literals.as_bytes().first(), self.macros.first().copied()));
    }

    /// Appends the URL for one click: printable ASCII, a valid header value.
    pub fn expand(&self, values: &impl MacroValues, out: &mut Vec<u8>) {
        out.reserve(self.literals.len() + self.macros.len() * VALUE_BYTES_EXPECTED);
        let literals = self.literals.as_bytes();
        let mut from = 0;
        for (place, which) in &self.macros {
            out.extend_from_slice(&literals[from..*place]);
            let start = out.len();
            values.fill(*which, &mut Slot(out));
            if *place <= self.path_end && leads_elsewhere(&out[start..]) {
                out.truncate(start);
            }
            from = *place;
        }
        out.extend_from_slice(&literals[from..]);
    }
}

/// Whether an encoded value is `.` or `..`, or has one of them before or behind a slash: some servers
/// take an encoded one for a slash.
fn leads_elsewhere(value: &[u8]) -> bool {
    if memchr::memchr(b'.', value).is_none() {
        return false;
    }
    let mut parts = value.split(|byte| *byte == b'%');
    let is_dots = |part: &[u8]| matches!(part, b"." | b"..");
    parts.next().is_some_and(is_dots)
        || parts.any(|part| {
            let behind = part.strip_prefix(b"2F").or_else(|| part.strip_prefix(b"5C"));
            behind.is_some_and(is_dots)
        })
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.literals).field(&self.macros).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::query::encoded_len;

    struct Same<'v>(&'v [u8]);

    impl MacroValues for Same<'_> {
        fn fill(&self, _: Macro, slot: &mut Slot<'_>) {
            slot.put(self.0);
        }
    }

    struct Named;

    impl MacroValues for Named {
        fn fill(&self, which: Macro, slot: &mut Slot<'_>) {
            slot.put(format!("{which:?}"));
        }
    }

    fn passed() -> Vec<String> {
        vec!["gclid".to_owned(), "src".to_owned()]
    }

    #[test]
    fn macros_are_filled_in_and_encoded() {
        let check = |text: &str, expected: &str| {
            let mut out = b"kept ".to_vec();
            Template::compile(text, &passed()).expect(text).expand(&Named, &mut out);
            assert_eq!(String::from_utf8(out).expect("ASCII"), format!("kept {expected}"));
        };
        check("https://a.example/?c={click_id}", "https://a.example/?c=ClickId");
        check(
            "https://a.example?{click_id}&x={sub1}{sub10}",
            "https://a.example?ClickId&x=Sub%281%29Sub%2810%29",
        );
        check(
            "http://a:8080/{click_id}/{src}#{random}",
            "http://a:8080/ClickId/Passed%281%29#Random",
        );
        check("https://a/%7B{click_id}%7d", "https://a/%7BClickId%7d");
    }

    #[test]
    fn a_value_that_would_lead_out_of_its_folder_is_left_out_of_the_path() {
        let check = |value: &str, text: &str, expected: &str| {
            let mut out = Vec::new();
            let template = Template::compile(text, &passed()).expect(text);
            template.expand(&Same(value.as_bytes()), &mut out);
            assert_eq!(String::from_utf8(out).expect("ASCII"), expected, "{value}");
        };
        let text = "https://a.example/l/{sub1}/x?c={click_id}";
        check("..", text, "https://a.example/l//x?c=..");
        check(".", text, "https://a.example/l//x?c=.");
        check(".", "https://a.example/l/{sub1}{sub2}?{click_id}", "https://a.example/l/?.");
        check("..", "https://a.example/l/{click_id}", "https://a.example/l/");
        check("..", "https://a.example/l/{click_id}#{sub1}", "https://a.example/l/#..");
        // To a server that reads it as a slash.
        for value in ["../x", "x/..", "x/../y", "x\\..", "x/.", "./.."] {
            let mut encoded = Vec::new();
            encode_into(value.as_bytes(), &mut encoded);
            let encoded = String::from_utf8(encoded).expect("ASCII");
            check(value, text, &format!("https://a.example/l//x?c={encoded}"));
        }
        for value in ["...", "a.b", ".a", "a..", "v1.2/x"] {
            let encoded = value.replace('/', "%2F");
            check(value, text, &format!("https://a.example/l/{encoded}/x?c={encoded}"));
        }
        check("%2e%2E", text, "https://a.example/l/%252e%252E/x?c=%252e%252E");
    }

    #[test]
    fn a_template_that_could_lead_astray_does_not_compile() {
        let check = |text: &str, expected: &str| {
            let error = Template::compile(text, &passed()).expect_err(text);
            assert_eq!(error.to_string(), expected, "{text}");
        };
        let host =
            "has a macro in the host: the host must be literal and end in /, ? or # before it";
        check("https://{sub1}/{click_id}", host);
        check("https://{sub1}.a.example/{click_id}", host);
        check("https://a.example{sub1}/{click_id}", host);
        check("https://a.example:{sub1}/{click_id}", "the port is not a number from 1 to 65535");
        check("https://a.example{click_id}", host);
        check("{sub1}://a.example/{click_id}", "must start with http:// or https://");
        check(
            "https://a.example/",
            "has no {click_id}: no conversion could ever be matched to its click",
        );
        check("https://a.example/{click_id}{clickid}", "unknown macro {clickid}");
        check("https://a.example/{click_id}{}", "unknown macro {}");
        check("https://a.example/{click_id}{sub11}", "unknown macro {sub11}");
        check(
            "https://a.example/{click_id",
            "has a brace without its partner at byte 18; write plain braces as %7B and %7D",
        );
        check(
            "https://a.example/click_id}",
            "has a brace without its partner at byte 26; write plain braces as %7B and %7D",
        );
        check(
            "https://a.example/{{click_id}}",
            "has a brace without its partner at byte 18; write plain braces as %7B and %7D",
        );
        check(
            "https://a.example/{click_id}%2{sub1}",
            "has a % without two hex digits at byte 28; write a plain % as %25",
        );
        check("https://a.example/{click_id}?ä", "has 'ä' at byte 29; write it as %C3%A4");
    }

    proptest! {
        #[test]
        fn whatever_the_values_the_url_is_one_header_line_to_the_same_host(value: Vec<u8>) {
            let text = "https://shop.example/l/{sub1}?c={click_id}&g={gclid}#{sub2}";
            let template = Template::compile(text, &passed()).expect("valid");
            let mut out = Vec::new();
            template.expand(&Same(&value), &mut out);
            let mut encoded = Vec::new();
            encode_into(&value, &mut encoded);
            let filled = if leads_elsewhere(&encoded) { 3 } else { 4 };
            prop_assert_eq!(out.len(), template.literals.len() + filled * encoded_len(&value));
            prop_assert!(out.iter().all(|byte| byte.is_ascii_graphic()));
            let url = String::from_utf8(out).expect("ASCII");
            prop_assert_eq!(authority_end(&url), Ok("https://shop.example".len()));
            prop_assert!(url.starts_with("https://shop.example/l/"));
        }

        #[test]
        fn no_text_panics_and_what_compiles_expands_to_a_url(text in "(https?://)?[a-z]{0,3}(\\{click_id\\}|\\{sub1\\}|[ -~]|\\PC){0,8}") {
            if let Ok(template) = Template::compile(&text, &[]) {
                let mut out = Vec::new();
                template.expand(&Same(b"\r\n@/"), &mut out);
                let url = String::from_utf8(out).expect("ASCII");
                prop_assert!(crate::model::url::HttpUrl::parse(&url).is_ok(), "{}", url);
            }
        }
    }
}
