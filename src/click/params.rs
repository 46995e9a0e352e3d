// Hot path: no allocation where nothing is percent-encoded.
//! What a tracking link's parameters say.

use std::borrow::Cow;

use super::consent::{applies, consents, is_withheld, opts_out};
use crate::limits::{PARAMETERS_MAX, VALUE_BYTES_MAX};
use crate::query::{Param, Params};
use crate::store::records::SUBS;

/// The parameters of a click. The first of a repeated name wins, but of consent what withholds it;
/// an empty value counts as absent, and broken encoding is read as well as it goes: a visitor is
/// never turned away for it.
#[derive(Debug, Default)]
pub struct ClickParams<'a> {
    /// The offer's ID.
    pub offer: Option<Cow<'a, str>>,
    /// The affiliate's ID.
    pub affiliate: Option<Cow<'a, str>>,
    /// A tracking link's code.
    pub link: Option<Cow<'a, str>>,
    /// `sub1`..`sub10`; empty where absent.
    pub subs: [Cow<'a, str>; SUBS],
    /// `gdpr`.
    pub gdpr: Cow<'a, str>,
    /// `gdpr_consent`.
    pub gdpr_consent: Cow<'a, str>,
    /// `us_privacy` or `ccpa_optout`.
    pub us_privacy: Cow<'a, str>,
    /// `redirect=false`: answer JSON instead of redirecting.
    pub as_json: bool,
    /// More parameters than are read.
    pub too_many: bool,
    /// Some name begins with [`AMP`].
    pub is_copied: bool,
}

/// What the names of a link begin with that was copied out of a page, where `&` is written `&amp;`.
const AMP: &str = "amp;";

impl<'a> ClickParams<'a> {
    /// Reads a query string.
    #[must_use]
    pub fn read(query: &'a str) -> Self {
        let mut params = Self::default();
        for (count, param) in Params::of_text(query).enumerate() {
            if count == PARAMETERS_MAX {
                params.too_many = true;
                break;
            }
            if !param.value.is_empty() {
                params.take(&param.name.decode_lossy(), param);
            }
        }
        if params.is_copied {
            params.read_copied(query);
        }
        params
    }

    /// Reads what [`AMP`] stands before, where nothing else has said it.
    #[cold]
    fn read_copied(&mut self, query: &'a str) {
        let params = Params::of_text(query).take(PARAMETERS_MAX);
        for param in params.filter(|param| !param.value.is_empty()) {
            if let Some(name) = param.name.decode_lossy().strip_prefix(AMP) {
                self.take(name, param);
            }
        }
    }

    #[inline]
    fn take(&mut self, name: &str, param: Param<'a>) {
        let value = || cut(param.value.decode_lossy());
        match name {
            "offer" | "offer_id" | "o" => first_option(&mut self.offer, value),
            "aff" | "affiliate" | "aff_id" | "a" | "pid" => {
                first_option(&mut self.affiliate, value);
            }
            "id" => first_option(&mut self.link, value),
            "subid" | "aff_sub" => first(&mut self.subs[0], value),
            "gdpr" => strictest(&mut self.gdpr, value, applies),
            "gdpr_consent" => strictest(&mut self.gdpr_consent, value, |text| !consents(text)),
            "us_privacy" | "ccpa_optout" => strictest(&mut self.us_privacy, value, opts_out),
            "redirect" => self.as_json |= value().eq_ignore_ascii_case("false"),
            other => match sub_place(other) {
                Some(place) => first(&mut self.subs[place], value),
                None => self.is_copied |= other.starts_with(AMP),
            },
        }
    }

    /// Whether the visitor has not consented to be kept. Of more parameters than are read, one of
    /// the others may say so.
    #[must_use]
    pub fn withhold_consent(&self) -> bool {
        self.too_many || is_withheld(&self.gdpr, &self.gdpr_consent, &self.us_privacy)
    }
}

/// `sub1` is place 0, `sub10` is place 9.
fn sub_place(name: &str) -> Option<usize> {
    match name.strip_prefix("sub")?.as_bytes() {
        [digit @ b'1'..=b'9'] => Some(usize::from(digit - b'1')),
        b"10" => Some(9),
        _ => None,
    }
}

fn first<'a>(place: &mut Cow<'a, str>, value: impl FnOnce() -> Cow<'a, str>) {
    if place.is_empty() {
        *place = value();
    }
}

/// As [`first`], but one that withholds consent takes the place of one that does not.
fn strictest<'a>(
    place: &mut Cow<'a, str>,
    value: impl FnOnce() -> Cow<'a, str>,
    withholds: impl Fn(&str) -> bool,
) {
    if place.is_empty() {
        *place = value();
    } else if !withholds(place) {
        let later = value();
        if withholds(&later) {
            *place = later;
        }
    }
}

fn first_option<'a>(place: &mut Option<Cow<'a, str>>, value: impl FnOnce() -> Cow<'a, str>) {
    if place.is_none() {
        *place = Some(value());
    }
}

/// The first non-empty value of a parameter that an offer passes on.
pub(super) fn passed<'a>(query: &'a str, name: &str, is_copied: bool) -> Option<Cow<'a, str>> {
    let mut params = Params::of_text(query).take(PARAMETERS_MAX).filter(|it| !it.value.is_empty());
    let found = params.clone().find(|param| param.name.is(name)).or_else(|| {
        let is = |of: Param<'_>| of.name.decode_lossy().strip_prefix(AMP) == Some(name);
        params.find(|param| is_copied && is(*param))
    });
    found.map(|param| cut(param.value.decode_lossy()))
}

/// Cuts a value to the length that is kept, at a character's boundary.
fn cut(value: Cow<'_, str>) -> Cow<'_, str> {
    if value.len() <= VALUE_BYTES_MAX {
        return value;
    }
    let end = value.floor_char_boundary(VALUE_BYTES_MAX);
    match value {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alias_leads_to_its_meaning() {
        let check = |query: &'static str, get: fn(&ClickParams<'static>) -> Option<String>| {
            assert_eq!(get(&ClickParams::read(query)).as_deref(), Some("v"), "{query}");
        };
        for query in ["offer=v", "offer_id=v", "o=v"] {
            check(query, |p| p.offer.as_deref().map(str::to_owned));
        }
        for query in ["aff=v", "affiliate=v", "aff_id=v", "a=v", "pid=v"] {
            check(query, |p| p.affiliate.as_deref().map(str::to_owned));
        }
        check("id=v", |p| p.link.as_deref().map(str::to_owned));
        for query in ["sub1=v", "subid=v", "aff_sub=v"] {
            check(query, |p| Some(p.subs[0].to_string()));
        }
        check("sub10=v", |p| Some(p.subs[9].to_string()));
        for query in ["us_privacy=v", "ccpa_optout=v"] {
            check(query, |p| Some(p.us_privacy.to_string()));
        }
    }

    #[test]
    fn a_link_that_was_copied_out_of_a_page_says_the_same() {
        let link = "offer=x&amp;aff=y&amp;sub1=a&amp;gdpr=1&amp;redirect=false&amp%3Bsub2=b";
        let params = ClickParams::read(link);
        assert_eq!((params.offer.as_deref(), params.affiliate.as_deref()), (Some("x"), Some("y")));
        assert_eq!((&*params.subs[0], &*params.subs[1]), ("a", "b"));
        assert!(params.as_json && params.withhold_consent());
        assert_eq!(passed("q=&amp;q=1&amp;q=2", "q", true).as_deref(), Some("1"));
        // By its own name it is said better, wherever that stands.
        let params = ClickParams::read("amp;aff=page&aff=own&amp;sub1=page&subid=own");
        assert_eq!((params.affiliate.as_deref(), &*params.subs[0]), (Some("own"), "own"));
        assert_eq!(passed("amp;q=page&q=own", "q", true).as_deref(), Some("own"));
        assert!(!ClickParams::read("amp=1&offer=x").is_copied);
    }

    #[test]
    fn the_first_value_wins_and_an_empty_one_is_absent() {
        let params = ClickParams::read("sub1=&sub1=a&subid=b&sub0=x&sub11=y");
        assert_eq!(params.subs[0], "a");
        assert!(params.subs[1..].iter().all(|sub| sub.is_empty()));
    }

    #[test]
    fn of_consent_the_strictest_value_wins_in_whatever_order() {
        let check = |query: &str, expected: [&str; 3]| {
            let params = ClickParams::read(query);
            let read = [&params.gdpr, &params.gdpr_consent, &params.us_privacy];
            assert_eq!(read.map(|value| &**value), expected, "{query}");
        };
        check("us_privacy=1YNN&ccpa_optout=1", ["", "", "1"]);
        check("ccpa_optout=1&us_privacy=1YNN", ["", "", "1"]);
        check("ccpa_optout=0&us_privacy=1YYN", ["", "", "1YYN"]);
        check("us_privacy=%7Bus_privacy%7D&us_privacy=1YYN&us_privacy=1YNN", ["", "", "1YYN"]);
        // Among equals the first.
        check("us_privacy=1YYN&ccpa_optout=1", ["", "", "1YYN"]);
        check("us_privacy=1YNN&ccpa_optout=0", ["", "", "1YNN"]);
        check("gdpr=0&gdpr=1&gdpr=0", ["1", "", ""]);
        check("gdpr=%7Bgdpr%7D&gdpr=&gdpr=0", ["{gdpr}", "", ""]);
        let (given, refused) = ("COvFyGBOvFyGBAbAAAENAPCAAOAAAAAAAAAAAEEUACCKAAA", "junk");
        for query in [
            format!("gdpr_consent={given}&gdpr_consent={refused}"),
            format!("gdpr_consent={refused}&gdpr_consent={given}"),
        ] {
            check(&query, ["", refused, ""]);
        }
    }

    #[test]
    fn what_stands_behind_too_much_to_read_may_withhold_consent() {
        let withholds = |filler: usize| {
            let query = "x=1&".repeat(filler) + "ccpa_optout=1";
            ClickParams::read(&query).withhold_consent()
        };
        assert!(withholds(PARAMETERS_MAX - 1) && withholds(PARAMETERS_MAX));
        let all_read = "x=1&".repeat(PARAMETERS_MAX - 1) + "x=1";
        assert!(!ClickParams::read(&all_read).withhold_consent());
    }

    #[test]
    fn broken_encoding_does_not_stop_a_visitor() {
        let params = ClickParams::read("offer=spring&sub1=%FF%zz+x");
        assert_eq!(params.offer.as_deref(), Some("spring"));
        assert_eq!(params.subs[0], "\u{FFFD}%zz x");
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let query = format!("sub1={}é", "x".repeat(VALUE_BYTES_MAX - 1));
        assert_eq!(ClickParams::read(&query).subs[0].len(), VALUE_BYTES_MAX - 1);
    }

    #[test]
    fn only_redirect_false_asks_for_json() {
        assert!(ClickParams::read("redirect=false").as_json);
        assert!(ClickParams::read("redirect=False").as_json, "as programs write it");
        assert!(!ClickParams::read("redirect=true&redirect=0").as_json);
    }
}
