//! The report: a table for people and JSON for programs; the page for browsers is in `page`. It measures nothing.
//! Invariant: all three have the same figures under the same names.

use serde_json::{Map, Value};

use dflockd::base::date::Date;
use dflockd::command::SECOND;

use super::Outcome;
use super::figures::Summary;
use super::options::Settings;
use super::proto::{Target, pause_text};

pub struct Report<'a> {
    pub settings: &'a Settings,
    pub targets: &'a [Target],
    pub outcomes: &'a [Outcome],
    /// The date, in UTC.
    pub made: String,
}

pub const COLUMNS: [&str; 12] = [
    "SERVER", "OPS", "SECONDS", "OPS/S", "MEAN", "MIN", "P50", "P95", "P99", "MAX", "STDDEV",
    "ERRORS",
];

impl Report<'_> {
    /// Scenario by scenario, a line for each server.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for outcomes in self.by_scenario() {
            let scenario = outcomes[0].scenario;
            text.push_str(&format!("{}: {}\n", scenario.name(), scenario.text()));
            let heading = COLUMNS.map(str::to_string);
            let rows = outcomes.iter().filter_map(|outcome| self.row(outcome));
            text.push_str(&aligned(
                &std::iter::once(heading).chain(rows).collect::<Vec<_>>(),
            ));
            text.push_str(&format!("  latency in us: {}\n", scenario.latency_of()));
            for outcome in outcomes {
                for note in self.notes(outcome) {
                    text.push_str(&format!("  {note}\n"));
                }
            }
            text.push('\n');
        }
        text.pop();
        text
    }

    /// The outcomes of each scenario.
    pub fn by_scenario(&self) -> impl Iterator<Item = &[Outcome]> {
        self.outcomes.chunks(self.targets.len())
    }

    pub fn row(&self, outcome: &Outcome) -> Option<[String; COLUMNS.len()]> {
        let summary = outcome.summary.as_ref()?;
        Some([
            self.targets[outcome.server].name.clone(),
            summary.ops.to_string(),
            format!("{:.3}", summary.wall_s),
            whole(summary.throughput),
            whole(summary.mean_us),
            whole(summary.min_us),
            whole(summary.p50_us),
            whole(summary.p95_us),
            whole(summary.p99_us),
            whole(summary.max_us),
            whole(summary.deviation_us),
            summary.errors.to_string(),
        ])
    }

    /// Lines for what does not fit into the table.
    pub fn notes(&self, outcome: &Outcome) -> Vec<String> {
        let target = &self.targets[outcome.server];
        let name = &target.name;
        let Some(summary) = &outcome.summary else {
            return vec![format!(
                "{name}: not possible, a client cannot choose its lease"
            )];
        };
        let server_us = summary.server_us;
        let server = server_us.map_or(String::new(), |us| format!(" (the server's {us:.2} us)"));
        let mut notes = vec![format!(
            "{name}: client CPU per request {:.2} us{server}, granted {:.2} % of {}",
            summary.cpu_us,
            summary.success() * 100.0,
            summary.tries
        )];
        if let Some(bytes) = summary.server_bytes {
            notes.push(format!(
                "{name}: server memory per key {bytes:.0} bytes, if it was fresh"
            ));
        }
        if !target.protocol.queues() && summary.again > 0 {
            let pause = pause_text(self.settings.pause);
            let again = summary.again;
            notes.push(format!(
                "{name}: no queue; asked again {again} times, {pause} later each time"
            ));
        }
        let violations = [
            (summary.exclusion, "granted what another held"),
            (summary.order, "granted out of turn"),
            (summary.early, "granted before the lease's end"),
        ];
        for (count, what) in violations.into_iter().filter(|&(count, _)| count > 0) {
            notes.push(format!("{name}: VIOLATION: {what}, {count} times"));
        }
        notes
    }

    /// One object, and a line end.
    pub fn json(&self) -> String {
        let settings = self.settings;
        let results = self
            .outcomes
            .iter()
            .filter_map(|outcome| self.result(outcome));
        let mut all = Map::new();
        all.insert("command".into(), settings.command.clone().into());
        all.insert("made".into(), self.made.clone().into());
        all.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        all.insert("workers".into(), settings.workers.into());
        all.insert("rounds".into(), settings.rounds.into());
        all.insert("pause_ms".into(), (settings.pause * 1000 / SECOND).into());
        all.insert("results".into(), Value::Array(results.collect()));
        format!("{}\n", Value::Object(all))
    }

    fn result(&self, outcome: &Outcome) -> Option<Value> {
        let (target, summary) = (&self.targets[outcome.server], outcome.summary.as_ref()?);
        let mut object = Map::new();
        object.insert("scenario".into(), outcome.scenario.name().into());
        object.insert("server".into(), target.name.clone().into());
        object.insert("protocol".into(), target.protocol.name().into());
        object.insert("latency_of".into(), outcome.scenario.latency_of().into());
        object.insert("runs".into(), summary.runs.into());
        for (name, count) in counts(summary) {
            object.insert(name.into(), count.into());
        }
        for (name, value) in measures(summary) {
            object.insert(name.into(), value.into());
        }
        Some(Value::Object(object))
    }
}

fn counts(summary: &Summary) -> [(&'static str, u64); 9] {
    [
        ("ops", summary.ops),
        ("tries", summary.tries),
        ("requests", summary.requests),
        ("timeouts", summary.timeouts),
        ("errors", summary.errors),
        ("asked_again", summary.again),
        ("exclusion_violations", summary.exclusion),
        ("order_violations", summary.order),
        ("early_grants", summary.early),
    ]
}

fn measures(summary: &Summary) -> [(&'static str, Option<f64>); 13] {
    [
        ("wall_s", Some(summary.wall_s)),
        ("throughput", Some(summary.throughput)),
        ("mean_us", Some(summary.mean_us)),
        ("min_us", Some(summary.min_us)),
        ("p50_us", Some(summary.p50_us)),
        ("p95_us", Some(summary.p95_us)),
        ("p99_us", Some(summary.p99_us)),
        ("max_us", Some(summary.max_us)),
        ("stddev_us", Some(summary.deviation_us)),
        ("success_rate", Some(summary.success())),
        ("client_cpu_us_per_request", Some(summary.cpu_us)),
        ("server_cpu_us_per_request", summary.server_us),
        ("server_bytes_per_key", summary.server_bytes),
    ]
}

/// Aligned columns: names to the left, numbers to the right.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        text.push_str(&format!("  {:<1$}", row[0], width(0)));
        for (column, cell) in row.iter().enumerate().skip(1) {
            text.push_str(&format!("  {cell:>0$}", width(column)));
        }
        text.push('\n');
    }
    text
}

/// A number without decimals.
pub fn whole(value: f64) -> String {
    format!("{value:.0}")
}

/// A date to the minute, from nanoseconds since 1970.
pub fn date(unix_ns: u64) -> String {
    let at = Date::of_unix_ms(unix_ns / 1_000_000);
    let (year, month, day) = (at.year, at.month, at.day);
    format!(
        "{year}-{month:02}-{day:02} {:02}:{:02} UTC",
        at.hour, at.minute
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_a_leap_day() {
        let at = |seconds: u64| date(seconds * 1_000_000_000);
        assert_eq!(at(0), "1970-01-01 00:00 UTC");
        assert_eq!(at(951_782_400 - 60), "2000-02-28 23:59 UTC");
        assert_eq!(at(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(at(951_868_800), "2000-03-01 00:00 UTC");
    }
}
