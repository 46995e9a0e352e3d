//! A postback's parameters: those of its URL, and of its body, a form or one flat JSON object.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::flow::PostbackRequest;
use crate::model::reasons::Refusal;
use crate::query::{Param, Params};

/// What came with the request beside its URL.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// Nothing.
    None,
    /// `application/x-www-form-urlencoded`.
    Form(&'a [u8]),
    /// `application/json`.
    Json(&'a [u8]),
}

impl<'a> PostbackRequest<'a> {
    /// What is encoded as a query string is: the query, and a form.
    pub(super) fn encoded(&self) -> impl Iterator<Item = Param<'a>> + use<'a> {
        let form = match self.body {
            Body::Form(form) => Some(form),
            Body::None | Body::Json(_) => None,
        };
        Params::of_text(self.query).chain(form.into_iter().flat_map(Params::new))
    }

    /// Shows `take` every parameter, decoded. What is read and what is signed both come from here, so
    /// that they are the same.
    ///
    /// # Errors
    /// When an escape, UTF-8 or JSON is broken, else what `take` returns.
    pub(super) fn each(
        &self,
        mut take: impl FnMut(Cow<'a, str>, Cow<'a, str>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        each_param(Params::of_text(self.query), &mut take)?;
        match self.body {
            Body::None => Ok(()),
            Body::Form(form) => each_param(Params::new(form), &mut take),
            Body::Json(json) => each_json_member(json, take),
        }
    }
}

fn each_param<'a>(
    params: Params<'a>,
    take: &mut impl FnMut(Cow<'a, str>, Cow<'a, str>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    for param in params {
        let name = param.name.decode().map_err(|_| Refusal::BadEncoding)?;
        take(name, param.value.decode().map_err(|_| Refusal::BadEncoding)?)?;
    }
    Ok(())
}

/// Shows `take` each member of a flat JSON object: strings as they are, numbers and booleans in
/// the digits they were written in, `null` as absent.
///
/// # Errors
/// [`Refusal::BadEncoding`] for anything that is not such an object, else what `take` returns.
pub fn each_json_member<'a>(
    json: &'a [u8],
    take: impl FnMut(Cow<'a, str>, Cow<'a, str>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut refusal = None;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let members = Members { take, refusal: &mut refusal };
    let whole = members.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    match (refusal, whole) {
        (Some(refusal), _) => Err(refusal),
        (None, Err(_)) => Err(Refusal::BadEncoding),
        (None, Ok(())) => Ok(()),
    }
}

/// What is wrong with JSON that is not one flat object; `None` if it is.
pub(super) fn json_fault(json: &[u8]) -> Option<&'static str> {
    match serde_json::from_slice::<Value>(json) {
        Err(_) => Some("the body is not JSON in UTF-8, and nothing but one JSON object"),
        Ok(Value::Object(members)) => {
            let is_flat = !members.values().any(|it| it.is_object() || it.is_array());
            (!is_flat).then_some("a JSON body has to be flat: no object or list in the object")
        }
        Ok(_) => {
            Some("a JSON body has to be one flat object: send {} or no body if the URL says all")
        }
    }
}

struct Members<'r, F> {
    take: F,
    refusal: &'r mut Option<Refusal>,
}

impl<'de, F> DeserializeSeed<'de> for Members<'_, F>
where
    F: FnMut(Cow<'de, str>, Cow<'de, str>) -> Result<(), Refusal>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F> Visitor<'de> for Members<'_, F>
where
    F: FnMut(Cow<'de, str>, Cow<'de, str>) -> Result<(), Refusal>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a flat JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Text<'de>>()? {
            let value = map.next_value::<&'de RawValue>()?;
            let taken = match json_scalar(value.get()) {
                Ok(None) => continue,
                Ok(Some(value)) => (self.take)(name.0, value),
                Err(refusal) => Err(refusal),
            };
            if let Err(refusal) = taken {
                *self.refusal = Some(refusal);
                return Err(serde::de::Error::custom(refusal));
            }
        }
        Ok(())
    }
}

/// A text that is borrowed where JSON wrote it without escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A text, or a number or boolean in the digits it was written in; `None` for `null`.
///
/// # Errors
/// [`Refusal::BadEncoding`] for an object or a list.
pub fn json_scalar(json: &str) -> Result<Option<Cow<'_, str>>, Refusal> {
    match json.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => {
            let text: Text<'_> = serde_json::from_str(json).map_err(|_| Refusal::BadEncoding)?;
            Ok(Some(text.0))
        }
        Some(b'{' | b'[') | None => Err(Refusal::BadEncoding),
        Some(_) => Ok(Some(Cow::Borrowed(json))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Result<&[(&str, &str)], Refusal>) {
        let mut pairs = Vec::new();
        let result = each_json_member(json.as_bytes(), |name, value| {
            pairs.push((name.into_owned(), value.into_owned()));
            Ok(())
        });
        let pairs: Vec<_> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(result.map(|()| pairs.as_slice()), expected, "{json}");
    }

    #[test]
    fn scalars_keep_the_digits_they_were_written_in() {
        check(
            r#"{"amount": 15.10, "txn_id": "A-1"}"#,
            Ok(&[("amount", "15.10"), ("txn_id", "A-1")]),
        );
        check(
            r#"{"big": 12345678901234567890123.000001}"#,
            Ok(&[("big", "12345678901234567890123.000001")]),
        );
        check(r#"{"dry_run": true, "x": null}"#, Ok(&[("dry_run", "true")]));
        check(r#"{"a\u0062": "\u00e9\n"}"#, Ok(&[("ab", "é\n")]));
        check("{}", Ok(&[]));
    }

    #[test]
    fn what_is_not_a_flat_object_is_refused() {
        for json in [
            "",
            "[]",
            "1",
            "{",
            r#"{"a":{}}"#,
            r#"{"a":[1]}"#,
            r#"{"a":1} x"#,
            "{\"a\":\"\u{1}\"}",
            "{a:1}",
        ] {
            let result = each_json_member(json.as_bytes(), |_, _| Ok(()));
            assert_eq!(result, Err(Refusal::BadEncoding), "{json}");
        }
        assert_eq!(each_json_member(b"{\"a\":\"\xFF\"}", |_, _| Ok(())), Err(Refusal::BadEncoding));
    }

    #[test]
    fn the_takers_refusal_is_passed_on() {
        let result = each_json_member(br#"{"a":1,"b":2}"#, |_, _| Err(Refusal::TooManyParameters));
        assert_eq!(result, Err(Refusal::TooManyParameters));
    }
}
