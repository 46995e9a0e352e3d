//! Two kinds of plots as inline SVG: bars against their budgets, and latency curves.
//!
//! Colours come from the page's CSS variables, so both themes work.

use std::fmt::{Result, Write};

use super::html::escape;
use super::report::Row;

const WIDTH: f64 = 760.0;
const BAR_ROW: f64 = 46.0;
const BAR_HEIGHT: f64 = 18.0;
const LABEL_BASELINE: f64 = 14.0;
const BAR_TOP: f64 = 20.0;
/// Room right of the bars for the number.
const VALUE_WIDTH: f64 = 130.0;
const AXIS_HEIGHT: f64 = 24.0;

/// Horizontal bars from zero; a whisker from the worst to the best round, ticks at must and goal.
pub fn bars(rows: &[&Row]) -> String {
    let mut out = String::new();
    write_bars(&mut out, rows).expect("a String takes everything");
    out
}

fn write_bars(out: &mut String, rows: &[&Row]) -> Result {
    let largest = rows.iter().map(|r| r.measured.max.max(r.goal).max(r.must)).fold(0.1, f64::max);
    let scale = (WIDTH - VALUE_WIDTH) / (largest * 1.05);
    let bottom = rows.len() as f64 * BAR_ROW;
    let height = bottom + AXIS_HEIGHT;
    write!(
        out,
        r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="measured ratios against must and goal">"#
    )?;
    let step = nice_step(largest);
    for index in 0.. {
        let value = f64::from(index) * step;
        if value > largest * 1.05 {
            break;
        }
        let (x, y) = (value * scale, bottom + 16.0);
        let anchor = if index == 0 { "start" } else { "middle" };
        write!(out, r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="0" y2="{bottom}"/>"#)?;
        write!(
            out,
            r#"<text class="axis" x="{x:.1}" y="{y}" text-anchor="{anchor}">{value:.1}</text>"#
        )?;
    }
    for (index, row) in rows.iter().enumerate() {
        let top = index as f64 * BAR_ROW;
        let (y, middle) = (top + BAR_TOP, top + BAR_TOP + BAR_HEIGHT / 2.0);
        let x = |value: f64| value * scale;
        let measured = row.measured;
        let class = if row.is_met { "met" } else { "missed" };
        let (what, label_y) = (escape(&row.what), top + LABEL_BASELINE);
        write!(out, r#"<text class="label" x="0" y="{label_y}">{what}</text>"#)?;
        let width = x(measured.median);
        write!(
            out,
            r#"<rect class="{class}" x="0" y="{y}" width="{width:.1}" height="{BAR_HEIGHT}" rx="2"/>"#
        )?;
        let (low, high) = (x(measured.min), x(measured.max));
        write!(
            out,
            r#"<line class="whisker" x1="{low:.1}" x2="{high:.1}" y1="{middle}" y2="{middle}"/>"#
        )?;
        for (limit, class) in [(row.must, "must"), (row.goal, "goal")] {
            let (at, y1, y2) = (x(limit), y - 3.0, y + BAR_HEIGHT + 3.0);
            write!(
                out,
                r#"<line class="{class}" x1="{at:.1}" x2="{at:.1}" y1="{y1}" y2="{y2}"><title>{class} {limit}</title></line>"#
            )?;
        }
        let (text_x, text_y) = (x(measured.max.max(row.goal).max(row.must)) + 10.0, middle + 4.0);
        let (median, verdict) = (measured.median, row.verdict());
        write!(
            out,
            r#"<text class="value" x="{text_x:.1}" y="{text_y}">{median:.2} · {verdict}</text>"#
        )?;
    }
    out.write_str("</svg>")
}

/// A round distance between axis labels that gives a handful of them.
fn nice_step(largest: f64) -> f64 {
    let steps = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];
    steps.into_iter().find(|step| largest / step <= 7.0).unwrap_or(largest / 5.0)
}

/// A named curve of (share not slower, microseconds); the class gives its colour.
pub struct Curve<'a> {
    pub name: &'a str,
    pub class: &'a str,
    pub points: &'a [(f64, f64)],
}

const PLOT_HEIGHT: f64 = 300.0;
const PLOT_LEFT: f64 = 64.0;
const PLOT_RIGHT: f64 = 640.0;
const PLOT_TOP: f64 = 10.0;
/// Names at the ends of curves do not come closer than this.
const NAME_DISTANCE: f64 = 15.0;

/// Latency over percentiles: nines to the right, decades upwards.
pub fn curves(curves: &[Curve<'_>]) -> String {
    let mut out = String::new();
    write_curves(&mut out, curves).expect("a String takes everything");
    out
}

fn write_curves(out: &mut String, curves: &[Curve<'_>]) -> Result {
    let points = || curves.iter().flat_map(|curve| curve.points).map(|point| point.1.max(1.0));
    let highest = points().fold(10.0, f64::max).log10().ceil();
    let lowest =
        points().fold(f64::INFINITY, f64::min).min(10f64.powf(highest - 1.0)).log10().floor();
    let nines = |share: f64| -(1.0 - share).log10();
    let most =
        curves.iter().filter_map(|c| c.points.last()).map(|p| nines(p.0)).fold(2.0, f64::max);
    let x = |share: f64| PLOT_LEFT + (PLOT_RIGHT - PLOT_LEFT) * nines(share) / most;
    let y = |us: f64| {
        PLOT_TOP + (PLOT_HEIGHT - PLOT_TOP) * (highest - us.max(1.0).log10()) / (highest - lowest)
    };
    let height = PLOT_HEIGHT + AXIS_HEIGHT;
    write!(
        out,
        r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="latency by percentile">"#
    )?;
    for decade in lowest as i32..=highest as i32 {
        let us = 10f64.powi(decade);
        let (at, name, left, text_y) = (y(us), duration(us), PLOT_LEFT - 8.0, y(us) + 4.0);
        write!(
            out,
            r#"<line class="grid" x1="{PLOT_LEFT}" x2="{PLOT_RIGHT}" y1="{at:.1}" y2="{at:.1}"/>"#
        )?;
        write!(
            out,
            r#"<text class="axis" x="{left}" y="{text_y:.1}" text-anchor="end">{name}</text>"#
        )?;
    }
    for (share, name) in [
        (0.0, "0"),
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
        (0.99999, "99.999 %"),
    ] {
        if nines(share) > most + 1e-9 {
            break;
        }
        let (at, text_y) = (x(share), PLOT_HEIGHT + 16.0);
        write!(
            out,
            r#"<line class="grid" x1="{at:.1}" x2="{at:.1}" y1="{PLOT_TOP}" y2="{PLOT_HEIGHT}"/>"#
        )?;
        write!(
            out,
            r#"<text class="axis" x="{at:.1}" y="{text_y}" text-anchor="middle">{name}</text>"#
        )?;
    }
    let mut ends = Vec::new();
    for curve in curves {
        let Some(last) = curve.points.last() else { continue };
        let class = curve.class;
        write!(out, r#"<polyline class="curve {class}" points=""#)?;
        for (share, us) in curve.points {
            write!(out, "{:.1},{:.1} ", x(*share), y(*us))?;
        }
        out.write_str(r#""/>"#)?;
        ends.push((y(last.1) + 4.0, curve));
    }
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free_from = f64::MIN;
    for (wanted, curve) in ends {
        let text_y = wanted.max(free_from);
        free_from = text_y + NAME_DISTANCE;
        let (name, class, at) = (escape(curve.name), curve.class, PLOT_RIGHT + 8.0);
        write!(out, r#"<text class="name {class}" x="{at:.1}" y="{text_y:.1}">{name}</text>"#)?;
    }
    out.write_str("</svg>")
}

/// A power of ten of microseconds in the unit people say.
fn duration(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", us / 1e6),
        us if us >= 1e3 => format!("{} ms", us / 1e3),
        us => format!("{us} µs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decades_are_named_in_their_units() {
        for (us, name) in
            [(1.0, "1 µs"), (100.0, "100 µs"), (1e3, "1 ms"), (1e5, "100 ms"), (1e7, "10 s")]
        {
            assert_eq!(duration(us), name);
        }
    }

    #[test]
    fn plots_of_nothing_are_still_plots() {
        for plot in [bars(&[]), curves(&[Curve { name: "x", class: "server", points: &[] }])] {
            assert!(plot.starts_with("<svg ") && plot.ends_with("</svg>"), "{plot}");
            assert!(!plot.contains("NaN") && !plot.contains("inf"), "{plot}");
        }
    }
}
