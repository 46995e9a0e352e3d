// Hot path (`expand`): one allocation, no panics.
//! Landing URL templates: compiled when the catalog loads, filled for every click.

use crate::limits::VALUE_BYTES_MAX;
use crate::model::url::is_http_url;
use crate::query::{encode_into, encoded_len};
use crate::store::records::SUBS;

/// A place in a template that a click fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Macro {
    /// `{click_id}`
    ClickId,
    /// `{offer_id}`
    OfferId,
    /// `{affiliate_id}`
    AffiliateId,
    /// `{sub1}`..`{sub10}`, from 0.
    Sub(u8),
    /// `{country}`
    Country,
    /// `{timestamp}`: Unix seconds.
    Timestamp,
    /// `{random}`
    Random,
    /// One of the offer's passed parameters, by its place in the list.
    Passed(u8),
}

/// What fills the macros.
pub trait MacroValues {
    /// The value of a macro, not yet encoded; empty if there is none.
    fn value(&self, name: Macro) -> &str;
}

/// Why a text is not a landing URL template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Not an absolute http(s) URL with a literal host.
    #[error("expected an absolute http or https URL of printable ASCII whose host has no macro")]
    NotHttpUrl,
    /// An opening brace without its closing one, or the reverse.
    #[error("unbalanced brace")]
    UnbalancedBrace,
    /// A macro that nothing fills.
    #[error("unknown macro {{{0}}}; passed parameters must be listed in pass_params")]
    UnknownMacro(String),
    /// No `{click_id}`: no conversion could ever be attributed.
    #[error("a landing URL must contain {{click_id}}")]
    NoClickId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    Fill(Macro),
}

/// A compiled template. The default is empty, and stands in for one that does not compile while
/// the rest of its catalog is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    /// Compiles a template; `pass_params` may stand in it as macros, too.
    ///
    /// # Errors
    /// When it is no absolute http(s) URL, names an unknown macro, or lacks `{click_id}`.
    pub fn compile(text: &str, pass_params: &[String]) -> Result<Self, TemplateError> {
        if !is_http_url(text) {
            return Err(TemplateError::NotHttpUrl);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or(TemplateError::UnbalancedBrace)?;
            push_literal(&mut parts, literal)?;
            let fill = macro_of(name, pass_params)
                .ok_or_else(|| TemplateError::UnknownMacro(name.to_owned()))?;
            parts.push(Part::Fill(fill));
            rest = after;
        }
        push_literal(&mut parts, rest)?;
        if !parts.contains(&Part::Fill(Macro::ClickId)) {
            return Err(TemplateError::NoClickId);
        }
        Ok(Self(parts))
    }

    /// Appends the URL with every macro filled and percent-encoded.
    pub fn expand(&self, values: &impl MacroValues, out: &mut Vec<u8>) {
        out.reserve_exact(self.expanded_len(values));
        for part in &self.0 {
            match part {
                Part::Literal(literal) => out.extend_from_slice(literal.as_bytes()),
                Part::Fill(name) => encode_into(shortened(values.value(*name)).as_bytes(), out),
            }
        }
    }

    fn expanded_len(&self, values: &impl MacroValues) -> usize {
        let len = |part: &Part| match part {
            Part::Literal(literal) => literal.len(),
            Part::Fill(name) => encoded_len(shortened(values.value(*name)).as_bytes()),
        };
        self.0.iter().map(len).sum()
    }
}

/// What is filled in is as bounded as what is stored.
fn shortened(value: &str) -> &str {
    if value.len() <= VALUE_BYTES_MAX {
        value
    } else {
        &value[..value.floor_char_boundary(VALUE_BYTES_MAX)]
    }
}

fn push_literal(parts: &mut Vec<Part>, literal: &str) -> Result<(), TemplateError> {
    if literal.contains('}') {
        return Err(TemplateError::UnbalancedBrace);
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal.into()));
    }
    Ok(())
}

fn macro_of(name: &str, pass_params: &[String]) -> Option<Macro> {
    Some(match name {
        "click_id" => Macro::ClickId,
        "offer_id" => Macro::OfferId,
        "affiliate_id" => Macro::AffiliateId,
        "country" => Macro::Country,
        "timestamp" => Macro::Timestamp,
        "random" => Macro::Random,
        other => {
            let sub = (0..SUBS).find(|place| other == format!("sub{}", place + 1));
            let passed = || pass_params.iter().position(|param| param == other);
            match sub {
                Some(place) => Macro::Sub(u8::try_from(place).ok()?),
                None => Macro::Passed(u8::try_from(passed()?).ok()?),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Same<'a>(&'a str);

    impl MacroValues for Same<'_> {
        fn value(&self, _: Macro) -> &str {
            self.0
        }
    }

    fn expand(template: &str, value: &str) -> String {
        let template =
            Template::compile(template, &["gclid".to_owned()]).expect("a sound template");
        let mut out = Vec::new();
        template.expand(&Same(value), &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn macros_are_filled_and_encoded() {
        assert_eq!(
            expand("https://a.example/{click_id}?s={sub1}#x", "a b/&"),
            "https://a.example/a%20b%2F%26?s=a%20b%2F%26#x"
        );
        assert_eq!(
            expand("https://a.example/?{click_id}{sub10}{gclid}", "é"),
            "https://a.example/?%C3%A9%C3%A9%C3%A9"
        );
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        let check =
            |text, expected| assert_eq!(Template::compile(text, &[]), Err(expected), "{text}");
        check("https://a.example/", TemplateError::NoClickId);
        check("https://a.example/{click_id}{sub11}", TemplateError::UnknownMacro("sub11".into()));
        check("https://a.example/{click_id}{gclid}", TemplateError::UnknownMacro("gclid".into()));
        check("https://a.example/{click_id", TemplateError::UnbalancedBrace);
        check("https://a.example/}{click_id}", TemplateError::UnbalancedBrace);
        check("https://{click_id}/", TemplateError::NotHttpUrl);
        check("https://a.example{click_id}/", TemplateError::NotHttpUrl);
        check("https://{click_id}@a.example/", TemplateError::NotHttpUrl);
        check("/{click_id}", TemplateError::NotHttpUrl);
    }

    proptest! {
        #[test]
        fn no_value_leaves_the_host_or_breaks_the_header(value: String) {
            let url = expand("https://a.example/x?c={click_id}&s={sub1}", &value);
            prop_assert!(url.starts_with("https://a.example/x?c="));
            prop_assert!(url.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert!(is_http_url(&url));
        }

        #[test]
        fn the_length_is_known_before(value: String) {
            let template = Template::compile("https://a.example/{click_id}{sub1}", &[]).expect("sound");
            let mut out = Vec::new();
            template.expand(&Same(&value), &mut out);
            prop_assert_eq!(out.len(), template.expanded_len(&Same(&value)));
        }

        #[test]
        fn no_template_panics(text: String) {
            let _ = Template::compile(&text, &[]);
        }
    }
}
