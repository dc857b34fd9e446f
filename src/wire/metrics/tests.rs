//! Tests of the metrics: what was written is read again by the rules of the format. Invariant: a number that is written
//! under a wrong name fails.

use std::collections::BTreeMap;

use super::*;

/// A family as a reader of the format sees it.
#[derive(Default)]
struct Family {
    kind: String,
    /// The name and the labels of each sample as written, and its value.
    samples: Vec<(String, String)>,
}

/// Reads what was written, and panics where it is not in the format.
fn read(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a text");
            assert!(help.len() > 10 && !help.contains('\\'), "{line}");
            let new = families.insert(name.to_string(), Family::default());
            assert!(new.is_none(), "{name} has one HELP");
            current = name.to_string();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let family = families.get_mut(&current).expect("HELP comes first");
            assert_eq!(kind.split_once(' ').unwrap().0, current);
            assert!(family.kind.is_empty() && family.samples.is_empty());
            family.kind = kind.split_once(' ').unwrap().1.to_string();
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name = series.split('{').next().unwrap();
            let rest = name.strip_prefix(&current[..]).expect(line);
            let family = families.get_mut(&current).expect(line);
            let is_part = matches!(rest, "_bucket" | "_sum" | "_count");
            assert_eq!(is_part, family.kind == "histogram", "{line}");
            assert!(is_part || rest.is_empty(), "{line}");
            family.samples.push((series.to_string(), value.to_string()));
        }
    }
    families
}

fn written(metrics: &Metrics) -> String {
    let mut out = Vec::new();
    write(metrics, &mut out);
    String::from_utf8(out).unwrap()
}

/// The value of one series.
#[track_caller]
fn value(text: &str, series: &str) -> String {
    let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    let found: Vec<&str> = lines.filter(|(s, _)| *s == series).map(|s| s.1).collect();
    assert_eq!(found.len(), 1, "{series}");
    found[0].to_string()
}

#[test]
fn every_family_of_the_contract_is_there_from_the_start_with_its_type() {
    let families = read(&written(&Metrics::default()));
    let expected = [
        ("distributed_locks_acquired_total", "counter"),
        ("distributed_locks_released_total", "counter"),
        ("distributed_locks_active", "gauge"),
        ("distributed_locks_wait_time", "histogram"),
        ("distributed_locks_renewal_success", "counter"),
        ("distributed_locks_deadlocks_detected", "counter"),
        ("dflockd_grants_total", "counter"),
        ("dflockd_wait_results_total", "counter"),
        ("dflockd_lease_ends_total", "counter"),
        ("dflockd_waiters", "gauge"),
        ("dflockd_keys", "gauge"),
        ("dflockd_connections", "gauge"),
        ("dflockd_connections_rejected_total", "counter"),
        ("dflockd_accept_stalls_total", "counter"),
        ("dflockd_http_requests_total", "counter"),
        ("dflockd_http_request_duration_seconds", "histogram"),
        ("dflockd_loop_tick_seconds", "histogram"),
        ("dflockd_clock_gaps_total", "counter"),
        ("dflockd_deadlock_checks_truncated_total", "counter"),
        ("dflockd_fence", "gauge"),
        ("dflockd_tls_certificate_expiry_timestamp_seconds", "gauge"),
        ("dflockd_restart_quarantine_seconds", "gauge"),
        ("dflockd_restart_protection", "gauge"),
        ("dflockd_leads", "gauge"),
        ("dflockd_etcd_silence_seconds", "gauge"),
        ("dflockd_build_info", "gauge"),
        ("process_resident_memory_bytes", "gauge"),
        ("process_open_fds", "gauge"),
        ("process_start_time_seconds", "gauge"),
    ];
    let kinds: BTreeMap<&str, &str> = families
        .iter()
        .map(|(name, family)| (&name[..], &family.kind[..]))
        .collect();
    assert_eq!(kinds, BTreeMap::from(expected));
    for (name, family) in &families {
        // What is answered is known to the hub alone.
        let is_empty = name == "dflockd_http_requests_total";
        assert_eq!(family.samples.is_empty(), is_empty, "{name}");
    }
}

#[test]
fn no_series_is_there_twice_and_labels_are_those_of_the_contract() {
    let answers = [(200, 7), (503, 1)].map(|(code, count)| Answers {
        route: "/locks/{lockName}/acquire",
        method: "POST",
        code,
        count,
    });
    let metrics = Metrics {
        version: "1.2.3",
        answers: &answers,
        ..Metrics::default()
    };
    let text = written(&metrics);
    let families = read(&text);
    let mut series: Vec<&String> = families
        .values()
        .flat_map(|family| family.samples.iter().map(|sample| &sample.0))
        .collect();
    let count = series.len();
    series.sort();
    series.dedup();
    assert_eq!(series.len(), count);
    for (name, samples) in [
        ("dflockd_grants_total", 3),
        ("dflockd_wait_results_total", 6),
        ("dflockd_lease_ends_total", 4),
        ("dflockd_connections", 3),
        ("dflockd_connections_rejected_total", 5),
        ("dflockd_http_requests_total", 2),
    ] {
        assert_eq!(families[name].samples.len(), samples, "{name}");
    }
    let acquired = r#"dflockd_http_requests_total{route="/locks/{lockName}/acquire",method="POST",code="200"}"#;
    assert_eq!(value(&text, acquired), "7");
    assert_eq!(value(&text, r#"dflockd_build_info{version="1.2.3"}"#), "1");
}

#[test]
fn each_number_is_written_where_it_belongs() {
    let metrics = Metrics {
        grants: [1, 2, 4],
        lease_ends: [10, 20, 30, 40],
        held: 50,
        wait_results: [61, 62, 63, 64, 65, 66],
        waiting: 70,
        keys: 80,
        renewals: 90,
        searches_cut: 91,
        connections: [101, 102, 103],
        rejected: [111, 112, 113, 114, 115],
        accept_stalls: 120,
        clock_gaps: 130,
        fence: u64::MAX,
        certificate_end_s: 140,
        quarantine_s: 150,
        protection: 2,
        leads: true,
        silence_s: 7,
        memory: Some(160),
        files: None,
        started_unix_us: 1_700_000_000_250_000,
        ..Metrics::default()
    };
    let text = written(&metrics);
    for (series, expected) in [
        ("distributed_locks_acquired_total", "7"),
        ("distributed_locks_released_total", "10"),
        ("distributed_locks_active", "50"),
        ("distributed_locks_renewal_success", "90"),
        ("distributed_locks_deadlocks_detected", "64"),
        (r#"dflockd_grants_total{protocol="line"}"#, "1"),
        (r#"dflockd_grants_total{protocol="http"}"#, "2"),
        (r#"dflockd_grants_total{protocol="distlockd"}"#, "4"),
        (r#"dflockd_wait_results_total{result="granted"}"#, "61"),
        (r#"dflockd_wait_results_total{result="timeout"}"#, "62"),
        (r#"dflockd_wait_results_total{result="cancelled"}"#, "63"),
        (r#"dflockd_wait_results_total{result="deadlock"}"#, "64"),
        (r#"dflockd_wait_results_total{result="draining"}"#, "65"),
        (r#"dflockd_wait_results_total{result="refused"}"#, "66"),
        (r#"dflockd_lease_ends_total{reason="release"}"#, "10"),
        (r#"dflockd_lease_ends_total{reason="expiry"}"#, "20"),
        (r#"dflockd_lease_ends_total{reason="close"}"#, "30"),
        (r#"dflockd_lease_ends_total{reason="break"}"#, "40"),
        ("dflockd_waiters", "70"),
        ("dflockd_keys", "80"),
        ("dflockd_deadlock_checks_truncated_total", "91"),
        ("dflockd_fence", "18446744073709551615"),
        (r#"dflockd_connections{listener="line"}"#, "101"),
        (r#"dflockd_connections{listener="http"}"#, "102"),
        (r#"dflockd_connections{listener="distlockd"}"#, "103"),
        (
            r#"dflockd_connections_rejected_total{reason="max-connections"}"#,
            "111",
        ),
        (
            r#"dflockd_connections_rejected_total{reason="max-connections-per-ip"}"#,
            "112",
        ),
        (
            r#"dflockd_connections_rejected_total{reason="descriptors"}"#,
            "113",
        ),
        (
            r#"dflockd_connections_rejected_total{reason="token"}"#,
            "114",
        ),
        (
            r#"dflockd_connections_rejected_total{reason="handshake"}"#,
            "115",
        ),
        ("dflockd_accept_stalls_total", "120"),
        ("dflockd_clock_gaps_total", "130"),
        ("dflockd_tls_certificate_expiry_timestamp_seconds", "140"),
        ("dflockd_restart_quarantine_seconds", "150"),
        ("dflockd_restart_protection", "2"),
        ("dflockd_leads", "1"),
        ("dflockd_etcd_silence_seconds", "7"),
        ("process_resident_memory_bytes", "160"),
        ("process_open_fds", "NaN"),
        ("process_start_time_seconds", "1700000000.25"),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
}

#[test]
fn buckets_add_up_and_their_bounds_are_seconds() {
    let metrics = Metrics {
        waits: Spans {
            bounds: &[1_000, 2_500_000, 60_000_000],
            counts: &[5, 0, 2],
            over: 1,
            sum: 400_000_001,
        },
        ..Metrics::default()
    };
    let families = read(&written(&metrics));
    let samples = &families["distributed_locks_wait_time"].samples;
    let samples: Vec<(&str, &str)> = samples.iter().map(|(s, v)| (&s[..], &v[..])).collect();
    let expected = [
        (r#"distributed_locks_wait_time_bucket{le="0.001"}"#, "5"),
        (r#"distributed_locks_wait_time_bucket{le="2.5"}"#, "5"),
        (r#"distributed_locks_wait_time_bucket{le="60"}"#, "7"),
        (r#"distributed_locks_wait_time_bucket{le="+Inf"}"#, "8"),
        ("distributed_locks_wait_time_sum", "400.000001"),
        ("distributed_locks_wait_time_count", "8"),
    ];
    assert_eq!(samples, expected);
}

#[test]
fn the_value_of_a_label_is_escaped() {
    let metrics = Metrics {
        version: "a\"b\\c\nd",
        ..Metrics::default()
    };
    let text = written(&metrics);
    assert_eq!(
        value(&text, r#"dflockd_build_info{version="a\"b\\c\nd"}"#),
        "1"
    );
}

#[test]
fn seconds_are_exact() {
    for (us, text) in [
        (0, "0"),
        (1, "0.000001"),
        (1_000_000, "1"),
        (10_000_000, "10"),
        (1_500_000, "1.5"),
        (u64::MAX, "18446744073709.551615"),
    ] {
        assert_eq!(seconds(us), text);
    }
}
