//! The report as one page of HTML that needs no network: style and charts are in it. It measures nothing. Invariant:
//! text from outside (names of servers, the command) is escaped.

use super::Outcome;
use super::figures::Summary;
use super::options::Scenario;
use super::report::{COLUMNS, Report, whole};

/// Where bars begin and end, in units of the chart's own; a unit is about a pixel.
const WIDTH: f64 = 360.0;
const ROOM: f64 = 284.0;
const BAR: f64 = 14.0;
const LINE: f64 = 18.0;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1c2330;--soft:#5b6472;--line:#d9dde4;--back:#fbfbfc;--card:#fff;
--s0:#2f6fb4;--s1:#d9822b;--s2:#3f9b68;--s3:#8a5fb5;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa4b2;--line:#333b47;--back:#14181e;--card:#1b2129;
--s0:#6ea8e6;--s1:#f0a85c;--s2:#6fc596;--s3:#b897de;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0 auto;padding:24px 16px 48px;max-width:1000px;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back)}
h1{font-size:26px;margin:0 0 4px}
h2{font-size:19px;margin:0}
h3{font-size:14px;margin:12px 0 4px;color:var(--soft);font-weight:600}
p{margin:4px 0 12px}
.soft,.notes{color:var(--soft);font-size:14px}
.notes{margin:8px 0 0;padding-left:18px;overflow-wrap:anywhere}
.bad{color:var(--bad);font-weight:600}
code{font:13px/1.4 ui-monospace,monospace;overflow-wrap:anywhere}
section{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:16px;margin:16px 0}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(300px,100%),1fr));gap:8px 28px}
svg{display:block;width:100%;max-width:460px;height:auto;font:12px system-ui,sans-serif;fill:var(--ink)}
svg .soft{fill:var(--soft);font-size:11px}
.s0{fill:var(--s0)}.s1{fill:var(--s1)}.s2{fill:var(--s2)}.s3{fill:var(--s3)}
.wide{overflow-x:auto;margin-top:12px}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;white-space:nowrap}
th,td{padding:4px 10px;text-align:right;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600}
th:first-child,td:first-child{text-align:left;padding-left:0}
dt{font-weight:600}
dd{margin:0 0 8px}
";

const MEANING: &str = "
<dl>
<dt>Throughput</dt><dd>Locks taken and released in a second, over all workers (of held, keys taken; of churn,
connections). The client waits for each answer, so a longer way to the server lowers it.</dd>
<dt>p50, p95, p99</dt><dd>Half of all spans were no longer than p50; 95 and 99 of a hundred no longer than p95 and p99.
Which span is meant stands above each chart.</dd>
<dt>Errors</dt><dd>Refusals, ended connections, and locks that were not granted in time.</dd>
<dt>Violations</dt><dd>Proofs of a wrong grant: somebody was given what another still held, was given it before one whose
request the server had read earlier, or before the other's lease had ended.</dd>
<dt>Asked again</dt><dd>A server without a queue answers busy; the client then pauses and asks again. Its latencies have
those pauses in them, and who gets a lock is left to chance: a client that has just released it is often the first to ask,
which makes a small median and long tails.</dd>
<dt>Client CPU per request</dt><dd>What this tool itself used. If it is close to what the server uses, both share the
machine and a figure of the one is in part a figure of the other.</dd>
</dl>
<p class=\"soft\">Servers were measured in turn, several times if so asked; measures are medians of the runs, counts are
sums. Compare only what stands on one page: speed changes with the machine and with what else it does.</p>
";

/// The whole page.
pub fn html(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>dflock bench, {made}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Lock server benchmark</h1>\n<p class=\"soft\">Made {made} by dflock {version} with<br>\
         <code>{command}</code></p>\n",
        made = report.made,
        version = env!("CARGO_PKG_VERSION"),
        command = escaped(&report.settings.command),
    );
    for outcomes in report.by_scenario() {
        section(report, outcomes, &mut page);
    }
    page.push_str("<section>\n<h2>What the numbers mean</h2>");
    page.push_str(MEANING);
    page.push_str("</section>\n</body>\n</html>\n");
    page
}

fn section(report: &Report, outcomes: &[Outcome], page: &mut String) {
    let scenario = outcomes[0].scenario;
    let head = format!(
        "<section>\n<h2>{}</h2>\n<p class=\"soft\">{}</p>\n<div class=\"charts\">\n",
        scenario.name(),
        scenario.text()
    );
    page.push_str(&head);
    let measured: Vec<(&Outcome, &Summary)> = outcomes
        .iter()
        .filter_map(|outcome| Some((outcome, outcome.summary.as_ref()?)))
        .collect();
    let name = |outcome: &Outcome| escaped(&report.targets[outcome.server].name);
    // Each operation takes the second of its lease, whatever the server does.
    if scenario != Scenario::Expiry {
        let rates = measured.iter().map(|&(outcome, summary)| Group {
            server: outcome.server,
            name: name(outcome),
            bars: vec![("", summary.throughput)],
        });
        chart(
            "Throughput, operations in a second",
            "",
            rates.collect(),
            page,
        );
    }
    let spans = measured.iter().map(|&(outcome, summary)| Group {
        server: outcome.server,
        name: name(outcome),
        bars: vec![
            ("p50", summary.p50_us),
            ("p95", summary.p95_us),
            ("p99", summary.p99_us),
        ],
    });
    let title = format!("Latency of {}, us", scenario.latency_of());
    chart(&title, " us", spans.collect(), page);
    page.push_str("</div>\n");
    table(report, outcomes, page);
    notes(report, outcomes, page);
    page.push_str("</section>\n");
}

/// The bars of one server.
struct Group {
    server: usize,
    name: String,
    bars: Vec<(&'static str, f64)>,
}

fn chart(title: &str, unit: &str, groups: Vec<Group>, page: &mut String) {
    let largest = groups
        .iter()
        .flat_map(|group| &group.bars)
        .fold(1.0, |most: f64, bar| most.max(bar.1));
    let mut bars = String::new();
    let mut y = 0.0;
    for group in &groups {
        let color = group.server % 4;
        y += LINE;
        bars.push_str(&format!(
            "<text x=\"0\" y=\"{:.0}\">{}</text>\n",
            y - 5.0,
            group.name
        ));
        for (label, value) in &group.bars {
            let indent = if label.is_empty() { 0.0 } else { 28.0 };
            let length = (value / largest * (ROOM - indent)).max(1.0);
            let (text, end) = (y + BAR - 3.0, indent + length + 5.0);
            if !label.is_empty() {
                bars.push_str(&format!(
                    "<text class=\"soft\" x=\"0\" y=\"{text:.0}\">{label}</text>"
                ));
            }
            bars.push_str(&format!(
                "<rect class=\"s{color}\" x=\"{indent:.0}\" y=\"{y:.0}\" width=\"{length:.1}\" \
                 height=\"{BAR:.0}\" rx=\"2\"/><text class=\"soft\" x=\"{end:.1}\" y=\"{text:.0}\">{}{unit}</text>\n",
                grouped(*value)
            ));
            y += LINE;
        }
        y += 4.0;
    }
    page.push_str(&format!(
        "<div><h3>{title}</h3>\n<svg viewBox=\"0 0 {WIDTH:.0} {y:.0}\" role=\"img\" aria-label=\"{title}\">\n{bars}</svg></div>\n"
    ));
}

fn table(report: &Report, outcomes: &[Outcome], page: &mut String) {
    page.push_str("<div class=\"wide\"><table>\n<tr>");
    for column in COLUMNS {
        page.push_str(&format!("<th>{}</th>", column.to_lowercase()));
    }
    page.push_str("</tr>\n");
    for row in outcomes.iter().filter_map(|outcome| report.row(outcome)) {
        page.push_str("<tr>");
        for cell in row {
            page.push_str(&format!("<td>{}</td>", escaped(&cell)));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
}

fn notes(report: &Report, outcomes: &[Outcome], page: &mut String) {
    page.push_str("<ul class=\"notes\">\n");
    for note in outcomes.iter().flat_map(|outcome| report.notes(outcome)) {
        let class = if note.contains("VIOLATION") {
            " class=\"bad\""
        } else {
            ""
        };
        page.push_str(&format!("<li{class}>{}</li>\n", escaped(&note)));
    }
    page.push_str("</ul>\n");
}

/// A whole number with a narrow blank between thousands.
fn grouped(value: f64) -> String {
    let digits = whole(value);
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
