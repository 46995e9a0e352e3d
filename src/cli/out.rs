//! What commands print, to somebody who may have enough before the end.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process;

use super::{EXIT_FAILED, EXIT_MISTAKES};
use crate::checked_toml::Report;

/// Exit code of a command whose output nobody reads any more: what a shell shows of a program that
/// the signal SIGPIPE has ended.
const EXIT_UNREAD: i32 = 141;

/// A command's exit code, where it has printed why it ends.
pub type Ended = u8;

/// Prints why a command ends.
pub fn failed(error: impl fmt::Display) -> Ended {
    eprintln!("{error}");
    EXIT_FAILED
}

/// Prints what is wrong with what a command was told.
pub fn mistake(what: impl fmt::Display) -> Ended {
    eprintln!("{what}");
    EXIT_MISTAKES
}

/// Prints what is wrong with a file.
pub fn mistakes(report: &Report) -> Ended {
    eprint!("{report}");
    EXIT_MISTAKES
}

/// The text of a file.
pub fn read(path: &Path) -> Result<String, Ended> {
    std::fs::read_to_string(path)
        .map_err(|error| failed(format!("cannot read {}: {error}", path.display())))
}

/// Prints, or ends the process where that is not possible.
// Every command would else have to hand each failure to print up to main.
#[expect(clippy::disallowed_methods, reason = "what a command leaves open, its end closes")]
pub fn print(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    let Err(error) = out.write_fmt(text).and_then(|()| out.flush()) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        process::exit(EXIT_UNREAD);
    }
    eprintln!("error: cannot print: {error}");
    process::exit(EXIT_FAILED.into());
}

/// Text that is JSON, with nothing in it that a terminal would take for a command: JSON itself lets
/// some of them stand.
pub fn for_terminal(json: &str) -> String {
    let escaped = |out: String, c: char| match c {
        '\u{7f}'..='\u{9f}' => out + &format!("\\u{:04x}", u32::from(c)),
        c => out + c.encode_utf8(&mut [0; 4]),
    };
    json.chars().fold(String::with_capacity(json.len()), escaped)
}

/// As `print!`.
macro_rules! put {
    ($($text:tt)*) => { $crate::cli::out::print(format_args!($($text)*)) };
}

/// As `println!`.
macro_rules! say {
    () => { $crate::cli::out::print(format_args!("\n")) };
    ($format:literal $($rest:tt)*) => {
        $crate::cli::out::print(format_args!("{}\n", format_args!($format $($rest)*)))
    };
}

pub(super) use {put, say};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_speak_to_a_terminal_is_escaped() {
        assert_eq!(for_terminal("{\"a\":\"ä\u{9b}31m\u{7f}\"}"), r#"{"a":"ä\u009b31m\u007f"}"#);
    }
}
