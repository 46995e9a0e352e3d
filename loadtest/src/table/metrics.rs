//! Latencies that the server itself measured, read off its metrics page where it has them.

use std::collections::BTreeMap;

use serde::Serialize;

const PREFIX: &str = "postbackd_";

/// One of the server's own duration metrics over an open loop.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServerLatency {
    pub metric: String,
    pub p50_us: f64,
    pub p99_us: f64,
}

/// Percentiles of every `postbackd_…_seconds` on the page `after`: of histograms what was added
/// since `before`, of summaries as they stand. Other labels are summed up.
pub fn latencies(before: Option<&str>, after: Option<&str>) -> Vec<ServerLatency> {
    let old = buckets(before.unwrap_or_default());
    let new = buckets(after.unwrap_or_default());
    let histograms = new.iter().filter_map(|(metric, counts)| {
        let earlier = old.get(metric);
        let added: Vec<_> = counts
            .iter()
            .map(|(le, count)| (le.0, count - earlier.and_then(|e| e.get(le)).unwrap_or(&0.0)))
            .collect();
        let (p50_us, p99_us) = (quantile(&added, 0.5)?, quantile(&added, 0.99)?);
        Some(ServerLatency { metric: metric.clone(), p50_us, p99_us })
    });
    histograms.chain(summaries(after.unwrap_or_default())).collect()
}

/// A bucket's upper bound, ordered.
#[derive(Clone, Copy, PartialEq)]
struct Bound(f64);

impl Eq for Bound {}

impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bound {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

fn buckets(page: &str) -> BTreeMap<String, BTreeMap<Bound, f64>> {
    let mut all: BTreeMap<String, BTreeMap<Bound, f64>> = BTreeMap::new();
    for (name, labels, value) in samples(page) {
        let bound = label(labels, "le").and_then(|le| match le {
            "+Inf" => Some(f64::INFINITY),
            le => le.parse().ok(),
        });
        if let (Some(metric), Some(bound)) = (name.strip_suffix("_bucket"), bound)
            && metric.ends_with("_seconds")
        {
            *all.entry(metric.to_owned()).or_default().entry(Bound(bound)).or_default() += value;
        }
    }
    all
}

fn summaries(page: &str) -> Vec<ServerLatency> {
    let mut found: BTreeMap<&str, (Option<f64>, Option<f64>)> = BTreeMap::new();
    for (name, labels, value) in samples(page).filter(|(name, ..)| name.ends_with("_seconds")) {
        // Several label sets cannot be merged exactly; the slowest is shown.
        let slower = |place: &mut Option<f64>| *place = Some(place.unwrap_or(0.0).max(value * 1e6));
        match label(labels, "quantile") {
            Some("0.5") => slower(&mut found.entry(name).or_default().0),
            Some("0.99") => slower(&mut found.entry(name).or_default().1),
            _ => {}
        }
    }
    let complete = |(metric, (p50, p99)): (&str, (Option<f64>, Option<f64>))| {
        Some(ServerLatency { metric: metric.to_owned(), p50_us: p50?, p99_us: p99? })
    };
    found.into_iter().filter_map(complete).collect()
}

/// Linear within the bucket, as Prometheus does; microseconds.
fn quantile(cumulative: &[(f64, f64)], q: f64) -> Option<f64> {
    let total = cumulative.last()?.1;
    if total <= 0.0 {
        return None;
    }
    let rank = q * total;
    let (mut lower, mut below) = (0.0, 0.0);
    for &(upper, count) in cumulative {
        if count >= rank {
            let inside = if count > below { (rank - below) / (count - below) } else { 1.0 };
            let seconds = if upper.is_finite() { lower + (upper - lower) * inside } else { lower };
            return Some(seconds * 1e6);
        }
        (lower, below) = (upper, count);
    }
    None
}

/// (name, labels, value) of the product's own samples.
fn samples(page: &str) -> impl Iterator<Item = (&str, &str, f64)> {
    page.lines().filter(|line| line.starts_with(PREFIX)).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        Some((name, labels, value.parse().ok()?))
    })
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.trim_end_matches('}').split(',').find_map(|pair| {
        let (own, value) = pair.split_once('=')?;
        (own.trim() == name).then(|| value.trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: &str, after: &str, expected: &[(&str, f64, f64)]) {
        let found = latencies(Some(before), Some(after));
        let found: Vec<_> =
            found.iter().map(|l| (l.metric.as_str(), l.p50_us.round(), l.p99_us.round())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_histogram_counts_only_what_was_added() {
        let before = "postbackd_store_sync_seconds_bucket{le=\"0.001\"} 100\npostbackd_store_sync_seconds_bucket{le=\"0.002\"} 100\npostbackd_store_sync_seconds_bucket{le=\"+Inf\"} 100\n";
        let after = "postbackd_store_sync_seconds_bucket{le=\"0.001\"} 100\npostbackd_store_sync_seconds_bucket{le=\"0.002\"} 200\npostbackd_store_sync_seconds_bucket{le=\"+Inf\"} 200\n";
        check(before, after, &[("postbackd_store_sync_seconds", 1500.0, 1990.0)]);
        check(after, after, &[]);
    }

    #[test]
    fn a_summary_is_taken_as_it_stands() {
        let page = "postbackd_request_seconds{route=\"click\",quantile=\"0.5\"} 0.001\npostbackd_request_seconds{route=\"click\",quantile=\"0.99\"} 0.004\n";
        check("", page, &[("postbackd_request_seconds", 1000.0, 4000.0)]);
    }

    #[test]
    fn a_page_without_durations_is_no_error() {
        check(
            "",
            "# HELP x\npostbackd_clicks_total 5\nother_seconds_bucket{le=\"1\"} 3\nnonsense\n",
            &[],
        );
        assert_eq!(latencies(None, None), []);
    }
}
