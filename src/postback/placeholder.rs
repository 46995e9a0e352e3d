// Hot path: pure. No clock, no randomness, no I/O, no allocation but for a refusal.
//! What a sender's template leaves behind where it was not filled in.

use super::decide::Refused;
use super::hints;
use super::mapping::Fields;
use super::sender::Sender;
use crate::model::fields::Field;
use crate::model::mask::before_secret;

/// A template's placeholder in any value that decides something: `{click_id}`, `[TXN]`, `REPLACE`;
/// and a secret that became a part of an ID.
pub(super) fn refuse_unresolved(fields: &Fields<'_>, sender: &Sender<'_>) -> Result<(), Refused> {
    for field in [
        Field::ClickId,
        Field::TxnId,
        Field::ReversalId,
        Field::Event,
        Field::Amount,
        Field::Revenue,
        Field::Payout,
        Field::Currency,
        Field::Quantity,
        Field::Status,
        Field::CustomerId,
    ] {
        let Some(value) = fields.get(field) else { continue };
        let has_parts = is_id(field) && may_have_parts(value.as_bytes());
        let is_unfilled = is_placeholder(value)
            || is_id(field) && is_no_id(value)
            || is_of_order(field) && is_no_order(value)
            || has_parts && names_a_macro(value.as_bytes());
        if is_unfilled {
            return Err(hints::unresolved_macro(field, &sender.names));
        }
        if has_parts && before_secret(value, |name, _| sender.names.hides(name)) != value {
            return Err(hints::secret_in_an_id(field, &sender.names));
        }
    }
    if fields.leaves_dry_run_open() {
        return Err(hints::unresolved_macro(Field::DryRun, &sender.names));
    }
    Ok(())
}

/// Whether anything is taken for a value of it: the others are numbers and words that are known.
const fn is_id(field: Field) -> bool {
    matches!(field, Field::ClickId | Field::TxnId | Field::ReversalId | Field::CustomerId)
}

/// Whether it is the advertiser's ID of something that happened.
const fn is_of_order(field: Field) -> bool {
    matches!(field, Field::TxnId | Field::ReversalId)
}

/// Whether a word was not filled in.
pub(super) fn is_unfilled(value: &str) -> bool {
    is_placeholder(value) || is_nothing(value)
}

fn is_placeholder(value: &str) -> bool {
    let (Some(first), Some(last)) = (value.as_bytes().first(), value.as_bytes().last()) else {
        return false;
    };
    let is_enclosed = match (first, last) {
        (b'{', b'}') => !is_guid(&value.as_bytes()[1..value.len() - 1]),
        (b'[', b']') | (b'<', b'>') => true,
        (b'%', b'%') | (b'#', b'#') => value.len() > 1,
        _ => false,
    };
    is_enclosed || value.starts_with("${") || matches!(value, "REPLACE" | "OPTIONAL")
}

/// Whether a script had nothing to fill in: as an ID this would count once, and what comes later
/// would be its duplicate.
fn is_no_id(value: &str) -> bool {
    is_nothing(value) || is_underscored(value) || is_variable(value)
}

/// Whether there may be a macro or a secret within an ID. In most there is neither, which one look
/// tells.
fn may_have_parts(value: &[u8]) -> bool {
    memchr::memchr3(b'{', b'?', b'&', value).is_some()
}

/// `$order_id`, `:order_id`, as scripts and routers write their variables.
fn is_variable(value: &str) -> bool {
    let name = value.strip_prefix(['$', ':']);
    name.is_some_and(|name| {
        is_name(name.as_bytes()) && !name.bytes().any(|byte| byte.is_ascii_digit())
    })
}

/// `__ORDER_ID__`, as ad platforms write their macros.
fn is_underscored(value: &str) -> bool {
    let name = value.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
    name.is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    })
}

/// Words with which a script says that it has no value.
const NOTHING: [&str; 7] = ["null", "undefined", "none", "nil", "nan", "(null)", "false"];

/// Whether it is such a word.
fn is_nothing(value: &str) -> bool {
    NOTHING.iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// Whether it names no customer: shops call their guests 0, devices that do not want to be known
/// have an ID of zeros.
pub(super) fn is_nobody(value: &str) -> bool {
    is_nothing(value) || is_zeros(value) || value == "-1"
}

/// Whether no order has such an ID: what was never numbered, or a prefix before a word of
/// [`NOTHING`], as in `ORD-undefined`.
fn is_no_order(value: &str) -> bool {
    let is_last_word = |word: &&str| {
        let Some(at) = value.len().checked_sub(word.len()) else { return false };
        let (before, last) = value.as_bytes().split_at(at);
        last.eq_ignore_ascii_case(word.as_bytes())
            && matches!(before.last(), None | Some(b'-' | b'_'))
    };
    is_zeros(value)
        || value.eq_ignore_ascii_case("n/a")
        || ["undefined", "null"].iter().any(is_last_word)
}

/// `0`, `000`, `00000000-0000-0000-0000-000000000000`.
fn is_zeros(value: &str) -> bool {
    let is_zero = |byte: u8| byte == b'0';
    value.starts_with('0')
        && (value.bytes().all(is_zero)
            || is_guid(value.as_bytes()) && value.split('-').all(|part| part.bytes().all(is_zero)))
}

/// Whether a part of an ID was not filled in, as in `ORD-{order}`.
fn names_a_macro(value: &[u8]) -> bool {
    memchr::memchr_iter(b'{', value).any(|at| {
        let rest = &value[at + 1..];
        let name = memchr::memchr(b'}', rest).map(|end| &rest[..end]);
        // Some write blanks about it: `{{ order.id }}`.
        name.is_some_and(|name| is_name(name.trim_ascii()) && !is_guid(name))
    })
}

fn is_name(text: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    let goes_on = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(byte);
    text.first().is_some_and(is_letter) && text.iter().all(goes_on)
}

/// Some programs write these in braces: they are IDs.
fn is_guid(text: &[u8]) -> bool {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    let fits = |(at, byte): (usize, &u8)| match DASHES.contains(&at) {
        true => *byte == b'-',
        false => byte.is_ascii_hexdigit(),
    };
    text.len() == 36 && text.iter().enumerate().all(fits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_template_leaves_behind_is_told_from_what_it_was_filled_with() {
        let guid = "AF2504E0-4F89-11d3-9a0c-0305E82C3301";
        let check = |value: &str, of_any: bool, of_an_id: bool| {
            assert_eq!(
                (is_placeholder(value), is_no_id(value) || names_a_macro(value.as_bytes())),
                (of_any, of_an_id),
                "{value}"
            );
        };
        for value in ["{click_id}", "{{order}}", "${order}", "{7}{order}"] {
            check(value, true, true);
        }
        for value in ["{}", "{7}", "[TXN]", "<order>", "%ORDER%", "#reqid#", "REPLACE", "OPTIONAL"]
        {
            check(value, true, false);
        }
        for value in [
            "ORD-{order}",
            "{a}-{b}-1",
            "x{{_order.id}}y",
            "null",
            "NULL",
            "undefined",
            "None",
            "nil",
            "NaN",
            "(null)",
            "false",
            "__ORDER_ID__",
            "ORD-{{ order.id }}",
            "$order_id",
            ":orderId",
            "$order.id",
        ] {
            check(value, false, true);
        }
        for value in ["0", "000", &guid.replace(|it: char| it != '-', "0"), "n/a", "N/A"]
            .into_iter()
            .chain(["ORD-undefined", "ord_null", "a-b-NULL"])
        {
            assert!(is_no_order(value), "{value}");
        }
        for value in
            ["", "-", "--", "10", "A0", "0-1", "0-0", "na", "undefined-1", "annul", "A-nullable"]
        {
            assert!(!is_no_order(value), "{value}");
        }
        assert!(is_nobody("0") && is_nobody("-1") && is_nobody("None") && !is_nobody("7"));
        for value in [
            "A-1", "#", "%", "{", "Nonesuch", "nullable", "__", "____", "__a__", "__7__", "A{1}",
            "A{", "A{}", "A{b", "A{b c}", "$", ":", "$7", "$A7", ":a1b2", "A$b", "$a b",
        ] {
            check(value, false, false);
        }
        check(&format!("{{{guid}}}"), false, false);
        check(&format!("A-{{{guid}}}"), false, false);
        check(&format!("{{{}}}", &guid[1..]), true, true);
        check(&format!("{{{}}}", guid.replace('d', "g")), true, true);
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let is_macro = names_a_macro(text.as_bytes());
            prop_assert!(!is_macro || may_have_parts(text.as_bytes()));
            let _ = (is_placeholder(&text), is_no_id(&text), is_no_order(&text));
        }
    }
}
