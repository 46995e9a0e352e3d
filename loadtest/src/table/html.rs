//! table.html: one self-contained page, no external requests, readable in light and dark.

use std::fmt::{Result, Write};

use super::open_loop::OpenLoop;
use super::report::{Books, Bound, Report, Row, Spread};
use super::svg::{self, Curve};
use crate::books::Verdict;
use crate::money::MoneyVerdict;

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#fff;--ink:#1c2126;--soft:#5b6570;--line:#dfe3e8;--met:#2f7d5b;--missed:#c2412d;--must:#b26a00;--goal:#3b6fb5;--server:#3b6fb5;--floor:#2f7d5b;--durable:#7d4fa8;--disk:#b26a00}
@media (prefers-color-scheme:dark){:root{--bg:#14181c;--ink:#e6e9ec;--soft:#9aa5b0;--line:#2b3238;--met:#4aa57c;--missed:#e5705c;--must:#e0a23f;--goal:#7aa7e6;--server:#7aa7e6;--floor:#5cbf93;--durable:#b48ce0;--disk:#e0a23f}}
body{background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2.2rem 0 .6rem}p,ul{color:var(--soft);margin:.3rem 0}
svg{width:100%;height:auto;font-family:inherit}text{fill:var(--ink);font-size:13px}
.axis{fill:var(--soft);font-size:11px}.grid{stroke:var(--line)}.value{font-weight:600}
rect.met{fill:var(--met)}rect.missed{fill:var(--missed)}.whisker{stroke:var(--ink);stroke-width:2}
line.must{stroke:var(--must);stroke-width:3}line.goal{stroke:var(--goal);stroke-width:3}
.curve{fill:none;stroke-width:2}.curve.server{stroke:var(--server)}.curve.floor{stroke:var(--floor);stroke-dasharray:6 4}.curve.durable{stroke:var(--durable);stroke-dasharray:10 3}.curve.disk{stroke:var(--disk);stroke-dasharray:2 3}
.name{font-weight:600}.name.server{fill:var(--server)}.name.floor{fill:var(--floor)}.name.durable{fill:var(--durable)}.name.disk{fill:var(--disk)}
.key{font-weight:600}.key.must{color:var(--must)}.key.goal{color:var(--goal)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}th:first-child,td:first-child{text-align:left}
th{color:var(--soft);font-weight:500}.bad{color:var(--missed);font-weight:600}
";

/// The whole page.
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    write_page(&mut out, report).expect("a String takes everything");
    out
}

/// Text as HTML shows it.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn write_page(out: &mut String, report: &Report) -> Result {
    write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>postbackd load table</title><style>{STYLE}</style></head><body><h1>postbackd under load</h1>"
    )?;
    let unmet = report.rows.iter().filter(|row| !row.is_met).count();
    let failures = report.failures();
    let summary = match (unmet, failures) {
        (0, 0) => "Every <b>must</b> is met; no answer was wrong.".to_owned(),
        (_, 0) => {
            format!("<span class=\"bad\">{unmet} of {} budgets not met.</span>", report.rows.len())
        }
        _ => format!(
            "<span class=\"bad\">{failures} wrong or missing answers: the numbers do not count.</span>"
        ),
    };
    write!(out, "<p>{summary}</p>")?;
    let group = |bound| report.rows.iter().filter(|row| row.bound == bound).collect::<Vec<&Row>>();
    let keys = "<span class=\"key must\">must</span> and <span class=\"key goal\">goal</span>";
    write!(
        out,
        "<h2>Requests a second ÷ floor</h2><p>More is better. Bar: median of the rounds; line: worst to best; ticks: {keys}.</p>"
    )?;
    out.write_str(&svg::bars(&group(Bound::AtLeast)))?;
    write!(
        out,
        "<h2>p99 at half the maximum rate ÷ the disk's own sync p99</h2><p>Less is better. The disk's is the median of the rounds. Bar: median of the rounds; line: best to worst; ticks: {keys}.</p>"
    )?;
    out.write_str(&svg::bars(&group(Bound::AtMost)))?;
    report.open_loops.iter().try_for_each(|open| write_open_loop(out, open))?;
    write_rates(out, report)?;
    write_books(out, report)?;
    out.write_str("<h2>Measured on</h2><ul>")?;
    report.conditions().iter().try_for_each(|line| write!(out, "<li>{}</li>", escape(line)))?;
    out.write_str("</ul></body></html>\n")
}

fn write_open_loop(out: &mut String, open: &OpenLoop) -> Result {
    let OpenLoop { name, rate, failures, .. } = open;
    write!(
        out,
        "<h2>Latency: {name} at {rate}/s</h2><p>Open loop, counted from the intended send time; \
         {failures} failures.</p>"
    )?;
    out.write_str(&svg::curves(&[
        Curve { name: "server", class: "server", points: &open.server.curve },
        Curve { name: "floor", class: "floor", points: &open.floor.curve },
        Curve { name: "durable floor", class: "durable", points: &open.durable_floor.curve },
        Curve { name: "disk sync", class: "disk", points: &open.disk.curve },
    ]))?;
    out.write_str("<div class=\"scroll\"><table><tr><th>µs</th><th>p50</th><th>p99</th><th>p99.9</th><th>max</th></tr>")?;
    for (who, p) in open.latencies() {
        let [p50, p99, p999, max] = [p.p50_us, p.p99_us, p.p999_us, p.max_us];
        write!(
            out,
            "<tr><td>{who}</td><td>{p50:.0}</td><td>{p99:.0}</td><td>{p999:.0}</td><td>{max:.0}</td></tr>"
        )?;
    }
    for own in &open.server_side {
        let (metric, p50, p99) = (escape(&own.metric), own.p50_us, own.p99_us);
        write!(
            out,
            "<tr><td>{metric}</td><td>{p50:.0}</td><td>{p99:.0}</td><td></td><td></td></tr>"
        )?;
    }
    let (server, durable) = (open.tail(), open.durable_floor_tail());
    write!(
        out,
        "</table></div><p>p99 on the server's side ÷ the disk's: {server}; of a floor that waits for the disk, too: {durable}.</p>"
    )?;
    let counts = open.changes.as_ref().map(|changes| escape(&changes.of_changes()));
    counts.iter().try_for_each(|counts| write!(out, "<p>{counts}</p>"))
}

fn write_rates(out: &mut String, report: &Report) -> Result {
    out.write_str("<h2>Requests a second</h2><div class=\"scroll\"><table><tr><th>scenario</th><th>server</th><th>min–max</th><th>floor</th><th>min–max</th><th>÷ durable floor</th><th>failures</th></tr>")?;
    for rounds in &report.rounds {
        let (server, floor) = (Spread::of(rounds.server.clone()), Spread::of(rounds.floor.clone()));
        let durable = rounds.by_durable_floor().map_or_else(String::new, |ratio| ratio.to_string());
        write!(
            out,
            "<tr><td>{}</td><td>{:.0}</td><td>{:.0}–{:.0}</td><td>{:.0}</td><td>{:.0}–{:.0}</td><td>{durable}</td><td>{}</td></tr>",
            rounds.name,
            server.median,
            server.min,
            server.max,
            floor.median,
            floor.min,
            floor.max,
            rounds.failures
        )?;
    }
    out.write_str("</table></div>")
}

fn write_books(out: &mut String, report: &Report) -> Result {
    out.write_str("<h2>Books</h2>")?;
    for Books { name, rate: _, unexpected, lost, verdict } in &report.books {
        let Verdict { transactions, repeats, stored, mismatches, .. } = verdict;
        write!(
            out,
            "<p>{name}: {transactions} transactions, {repeats} answered as duplicates, {stored} stored, \
             {mismatches} mismatches, {unexpected} unexpected answers, {lost} lost"
        )?;
        if let Some(MoneyVerdict { payout, revenue, affiliates }) = &verdict.money {
            write!(
                out,
                "; payout {payout}, revenue {revenue}, balances of {affiliates} affiliates compared"
            )?;
        }
        out.write_str(".</p><ul>")?;
        let line = |line: &String| write!(out, "<li class=\"bad\">{}</li>", escape(line));
        verdict.first_mismatches.iter().try_for_each(line)?;
        out.write_str("</ul>")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("a<b> & \"c\" 'd'"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;");
        assert_eq!(escape("µ ÷ ≥"), "µ ÷ ≥");
    }
}
