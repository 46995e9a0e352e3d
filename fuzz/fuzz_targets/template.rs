//! Compiles any text as a landing URL template and fills it with any other.
//!
//! Run with `cargo fuzz run template`. The first line of the input is the template, the rest the
//! value of every macro.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postbackd::catalog::{Macro, MacroValues, Slot, Template};
use postbackd::model::url::authority_end;

struct Same<'a>(&'a str);

impl MacroValues for Same<'_> {
    fn fill(&self, _: Macro, slot: &mut Slot<'_>) {
        slot.put(self.0);
    }
}

fuzz_target!(|input: &str| {
    let (text, value) = input.split_once('\n').unwrap_or((input, ""));
    let Ok(template) = Template::compile(text, &["gclid".to_owned()]) else { return };
    let mut url = Vec::new();
    template.expand(&Same(value), &mut url);
    let url = String::from_utf8(url).expect("a URL is ASCII");
    assert_eq!(authority_end(&url), authority_end(text), "{url}");
    // The host is the template's: nothing before the first macro changes.
    let fixed = text.split('{').next().unwrap_or_default();
    assert!(url.starts_with(fixed), "{url}");
    assert!(url.bytes().all(|byte| byte.is_ascii_graphic()), "{url}");
});
