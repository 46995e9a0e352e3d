//! "Did you mean": the known name closest to a mistyped one.

/// `; did you mean "listen"?`, or nothing if no known name is near.
#[must_use]
pub fn did_you_mean<'c>(written: &str, known: impl IntoIterator<Item = &'c str>) -> String {
    match closest(written, known) {
        Some(name) => format!("; did you mean {name:?}?"),
        None => String::new(),
    }
}

/// The known name with the fewest typing mistakes from `written`: at most one in three letters.
#[must_use]
pub fn closest<'c>(written: &str, known: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let written = folded(written);
    let allowed = (written.len() / 3).max(1);
    known
        .into_iter()
        .filter(|name| name.len().abs_diff(written.len()) <= allowed)
        .map(|name| (distance(&written, &folded(name)), name))
        .filter(|(distance, name)| *distance <= allowed && *distance < name.len())
        .min()
        .map(|(_, name)| name)
}

/// Case and the choice of dash are no typing mistakes.
fn folded(name: &str) -> Vec<u8> {
    name.bytes().map(|byte| if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() }).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut before_last: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(x != y);
            row[j + 1] = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}
