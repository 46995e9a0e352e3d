//! The binary as a command that ends by itself.

use std::path::Path;
use std::process::{Command, Stdio};

/// The binary under test, in an environment without surprises.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postbackd"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// What came of it.
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// Runs it to its end.
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().expect("the binary runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// All that it has printed.
    pub fn said(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

/// Runs the binary in a folder; file names in what it prints are then short.
pub fn run(folder: &Path, arguments: &[&str]) -> Ended {
    Ended::of(binary().args(arguments).current_dir(folder))
}
