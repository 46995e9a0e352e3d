//! Where in a file a value stands: `offers[2] "spring".events[0].payout.fixed`.

use std::fmt;

/// A place in a file, chained to the place around it. Only a mistake turns it into text, so a
/// catalog of a million entries costs none.
#[derive(Clone, Copy, Debug)]
pub struct Path<'p> {
    around: Option<&'p Path<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'p> {
    Root,
    Key(&'p str),
    Item { key: &'p str, place: usize, name: Option<&'p str> },
}

impl<'p> Path<'p> {
    /// The whole file.
    pub const ROOT: Path<'static> = Path { around: None, step: Step::Root };

    /// The value of a key.
    #[must_use]
    pub const fn key(&'p self, key: &'p str) -> Self {
        Self { around: Some(self), step: Step::Key(key) }
    }

    /// One item of the list under a key, with the name it gives itself.
    #[must_use]
    pub const fn item(&'p self, key: &'p str, place: usize, name: Option<&'p str>) -> Self {
        Self { around: Some(self), step: Step::Item { key, place, name } }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(around) = self.around {
            around.fmt(f)?;
            if !matches!(around.step, Step::Root) {
                f.write_str(".")?;
            }
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Key(key) => write!(f, "{}", key.escape_debug()),
            Step::Item { key, place, name: None } => write!(f, "{key}[{place}]"),
            Step::Item { key, place, name: Some(name) } => write!(f, "{key}[{place}] {name:?}"),
        }
    }
}
