//! The alert rules and the dashboard: they use metrics, labels and values of labels that the server writes, and each
//! alert says what to do. Not here: whether Prometheus and Grafana read them, which `.ci/run` asks of promtool.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use dflockd::wire::metrics::{self, Answers, Metrics, Spans};

const RULES: &str = "packaging/prometheus/dflockd.rules.yml";
const DASHBOARD: &str = "packaging/grafana/dflockd.json";

/// What an expression may use besides names of metrics.
const WORDS: [&str; 8] = [
    "and", "or", "unless", "by", "without", "on", "ignoring", "bool",
];

/// Labels that Prometheus adds, and a series of its own.
const ADDED: [&str; 2] = ["job", "instance"];
const UP: &str = "up";

/// Each label of a series and the values that it has.
type Labels = BTreeMap<String, BTreeSet<String>>;

/// Every name that an expression may use, as those of the buckets of a histogram, and its labels.
fn written() -> BTreeMap<String, Labels> {
    let bounds = [1_000];
    let spans = Spans {
        bounds: &bounds,
        counts: &[0],
        over: 0,
        sum: 0,
    };
    let answers = [200, 500, 503].map(|code| Answers {
        route: "/locks",
        method: "GET",
        code,
        count: 1,
    });
    let all = Metrics {
        version: "1",
        waits: spans,
        answer_times: spans,
        turns: spans,
        answers: &answers,
        ..Metrics::default()
    };
    let mut out = Vec::new();
    metrics::write(&all, &mut out);
    let text = String::from_utf8(out).unwrap();
    let mut names: BTreeMap<String, Labels> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let known = names.entry(name.to_string()).or_default();
        for label in labels.trim_end_matches('}').split(',') {
            if let Some((label, value)) = label.split_once('=') {
                let values = known.entry(label.to_string()).or_default();
                values.insert(value.trim_matches('"').to_string());
            }
        }
    }
    names.insert(UP.to_string(), Labels::new());
    names
}

/// Fails unless every name in the expression is written, with these labels and values.
fn check(expression: &str, names: &BTreeMap<String, Labels>) -> Result<(), String> {
    let mut rest = expression;
    let (mut used, mut grouped_by) = (Vec::new(), Vec::new());
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic() || "_[\"{".contains(c)) {
        // A number may have a letter in it: 1e3.
        let is_number = rest[..at].ends_with(|c: char| c.is_ascii_digit());
        rest = &rest[at..];
        if let Some(range) = rest.strip_prefix('[') {
            rest = range.split_once(']').ok_or(expression)?.1;
            continue;
        }
        let word_end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (word, behind) = rest.split_at(word_end.unwrap_or(rest.len()));
        rest = behind.trim_start();
        let list = rest.strip_prefix('(');
        // `sum(...)`, or `sum by (...) (...)`.
        let is_call = list.is_some() || rest.starts_with("by ") || rest.starts_with("without ");
        if let Some(list) = list
            && ["by", "without", "on", "ignoring"].contains(&word)
        {
            let (labels, behind) = list.split_once(')').ok_or(expression)?;
            grouped_by.extend(labels.split(',').map(str::trim));
            rest = behind;
        } else if !is_number && !is_call && !WORDS.contains(&word) {
            let known = names.get(word).ok_or(format!("no metric {word:?}"))?;
            used.push(known);
            if let Some(inner) = rest.strip_prefix('{') {
                let (inner, behind) = inner.split_once('}').ok_or(expression)?;
                check_matchers(inner, known)?;
                rest = behind;
            }
        }
    }
    if used.is_empty() {
        return Err("no metric".to_string());
    }
    for label in grouped_by {
        let has = |known: &&Labels| known.contains_key(label);
        if !ADDED.contains(&label) && !used.iter().any(has) {
            return Err(format!("no label {label}"));
        }
    }
    Ok(())
}

/// The matchers in braces: their labels are known, and one that asks for a value finds it.
fn check_matchers(matchers: &str, known: &Labels) -> Result<(), String> {
    for matcher in matchers.split(',').map(str::trim) {
        let at = matcher.find(['=', '!']).ok_or("no value")?;
        let (label, value) = matcher.split_at(at);
        if ADDED.contains(&label) {
            continue;
        }
        let values = known.get(label).ok_or(format!("no label {label}"))?;
        let asked = value.strip_prefix("=\"").or(value.strip_prefix("!=\""));
        if let Some(asked) = asked.map(|asked| asked.trim_end_matches('"'))
            && !values.contains(asked)
        {
            return Err(format!("no {label} is {asked}"));
        }
    }
    Ok(())
}

#[track_caller]
fn is_fine(expression: &str, names: &BTreeMap<String, Labels>) {
    if let Err(why) = check(expression, names) {
        panic!("{why}: {expression}");
    }
}

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(path).expect("it can be read")
}

/// The rules of the file: each is its lines `key: value`, where a value of several lines is joined.
fn rules() -> Vec<BTreeMap<String, String>> {
    let text = text(RULES);
    let mut rules: Vec<BTreeMap<String, String>> = Vec::new();
    let mut last = String::new();
    for line in text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
    {
        let line = line.trim();
        let (is_new, line) = match line.strip_prefix("- alert:") {
            Some(_) => (true, &line[2..]),
            None => (false, line),
        };
        if is_new {
            rules.push(BTreeMap::new());
        }
        let Some(rule) = rules.last_mut() else {
            continue;
        };
        const KEYS: [&str; 8] = [
            "alert",
            "expr",
            "for",
            "labels",
            "severity",
            "annotations",
            "summary",
            "description",
        ];
        match line.split_once(':') {
            Some((key, value)) if KEYS.contains(&key) => {
                last = key.to_string();
                let value = value.trim().trim_start_matches(">-");
                let twice = rule.insert(last.clone(), value.to_string());
                assert!(twice.is_none(), "{key} is there twice: {rule:?}");
            }
            _ => {
                let value = rule.get_mut(&last).expect("a line goes on");
                *value = format!("{value} {line}").trim().to_string();
            }
        }
    }
    rules
}

#[test]
fn alerts_use_only_what_is_written_and_each_says_what_to_do() {
    let (names, rules) = (written(), rules());
    assert!(rules.len() > 10);
    let mut alerts = BTreeSet::new();
    for rule in &rules {
        is_fine(&rule["expr"], &names);
        assert!(
            alerts.insert(&rule["alert"]),
            "{} is there twice",
            rule["alert"]
        );
        assert!(["critical", "warning", "info"].contains(&&rule["severity"][..]));
        // What is true of several servers has no instance.
        let place = match rule["expr"].starts_with("sum by (job) (") {
            true => "$labels.job ",
            false => "$labels.instance ",
        };
        assert!(rule["summary"].contains(place), "{rule:?}");
        assert!(rule["description"].len() > 60, "{rule:?}");
        assert!(rule["expr"].contains("job=\"dflockd\""), "{rule:?}");
    }
}

#[test]
fn the_dashboard_uses_only_what_is_written_and_the_data_source_of_the_reader() {
    let names = written();
    let text = text(DASHBOARD);
    let json: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let mut expressions = 0;
    for panel in json["panels"].as_array().expect("it has panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("a text");
            is_fine(expression, &names);
            // An increase over a short range is a fraction, of what comes in whole numbers.
            let is_guess = expression.contains("increase(") && expression.contains("_interval");
            assert!(!is_guess, "{expression}");
            // A condition may leave no series, and then the panel has to say so.
            if expression.contains(" > ") {
                let words = panel["fieldConfig"]["defaults"]["noValue"].as_str();
                assert!(words.is_some(), "{panel}");
            }
            expressions += 1;
        }
        if panel["type"] != "row" {
            assert!(panel["description"].as_str().is_some(), "{panel}");
        }
    }
    let starts = json["annotations"]["list"][0]["expr"].as_str();
    is_fine(starts.expect("a text"), &names);
    assert!(expressions > 20);
    let variables = json["templating"]["list"].as_array().expect("variables");
    assert_eq!(variables[0]["type"], "datasource");
    // Every exporter has `up` and the metrics of a process, so All has to be the list of the servers, not any text.
    for variable in &variables[1..] {
        assert_eq!(variable["allValue"], serde_json::Value::Null, "{variable}");
        let query = variable["query"]["query"].as_str().expect("a text");
        assert!(query.starts_with("label_values(dflockd_"), "{query}");
    }
    // Not one of another installation.
    let uids = text.matches("\"uid\": ").count();
    let own = text.matches("\"uid\": \"${datasource}\"").count();
    assert_eq!(uids, own + 1, "all but that of the dashboard itself");
}

#[test]
fn a_name_a_label_and_a_value_that_are_not_written_are_seen() {
    let names = written();
    for expression in [
        "dflockd_waiter > 1",
        "sum(rate(distributed_locks_wait_time_buckets[5m]))",
        r#"increase(dflockd_lease_ends_total{reason="expired"}[5m]) > 0"#,
        r#"dflockd_lease_ends_total{result="expiry"}"#,
        "sum by (resaon) (dflockd_lease_ends_total)",
        "1 + 1",
        r#"up == 0 and wait_time{job="dflockd"} > 0"#,
    ] {
        assert!(check(expression, &names).is_err(), "{expression}");
    }
    is_fine(
        r#"up{job="x"} == 0 and on (job) dflockd_waiters > 1e3"#,
        &names,
    );
}
