//! `dflock bench` against the real server, against servers of other protocols that a test plays, and against a played
//! server that breaks its promises. Not here: how fast anything is. Invariant: as in main.rs.

mod rest;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::daemon::Daemon;
use serde_json::Value;

fn bench(server: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dflock"));
    command.env_remove("DFLOCK_SERVER");
    command.env_remove("DFLOCK_TOKEN_FILE");
    let front = ["--server", server, "bench"];
    command.args(front).args(args).output().expect("it runs")
}

/// The results of a run that had to end with this status.
#[track_caller]
fn results(server: &str, args: &[&str], status: i32) -> Vec<Value> {
    let output = bench(server, &[&["--json"], args].concat());
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    let object: Value = serde_json::from_slice(&output.stdout).expect("one object");
    object["results"].as_array().expect("a list").clone()
}

/// The figures fit together.
#[track_caller]
fn is_plausible(result: &Value) {
    let figure = |name: &str| {
        result[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name}: {result}"))
    };
    let spans = ["min_us", "p50_us", "p95_us", "p99_us", "max_us"].map(figure);
    assert!(spans.is_sorted(), "{result}");
    assert!(
        (spans[0]..=spans[4]).contains(&figure("mean_us")),
        "{result}"
    );
    assert!((0.0..=spans[4]).contains(&figure("stddev_us")), "{result}");
    assert!(figure("ops") > 0.0 && figure("wall_s") > 0.0, "{result}");
    assert!(figure("requests") >= figure("ops"), "{result}");
    assert!(figure("throughput") > 0.0, "{result}");
    assert!(figure("client_cpu_us_per_request") > 0.0, "{result}");
    assert_eq!(figure("success_rate"), 1.0, "{result}");
    for name in [
        "errors",
        "exclusion_violations",
        "order_violations",
        "early_grants",
    ] {
        assert_eq!(figure(name), 0.0, "{result}");
    }
}

/// A server of any number of connections, each played by a thread.
fn play(script: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let script = Arc::new(script);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, script) = (stream.unwrap(), script.clone());
            stream.set_nodelay(true).unwrap();
            thread::spawn(move || script(stream));
        }
    });
    addr
}

fn line(stream: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|&n| n > 0)?;
    Some(line.trim_end().to_string())
}

/// The words of a RESP request.
fn words(stream: &mut impl BufRead) -> Option<Vec<String>> {
    let count: usize = line(stream)?.strip_prefix('*')?.parse().ok()?;
    let word = |_| line(stream).and_then(|_| line(stream));
    (0..count).map(word).collect()
}

/// As much of redis as is asked for; leases do not end.
fn redis() -> String {
    let table = Mutex::new(HashMap::new());
    play(move |stream| {
        let mut stream = BufReader::new(stream);
        while let Some(words) = words(&mut stream) {
            let mut table = table.lock().unwrap();
            let answer = match words[0].as_str() {
                "SCRIPT" => format!("$40\r\n{}\r\n", "a".repeat(40)),
                "SET" if table.contains_key(&words[1]) => "$-1\r\n".to_string(),
                "SET" => {
                    assert_eq!([&words[3], &words[4]], ["NX", "PX"]);
                    table.insert(words[1].clone(), words[2].clone());
                    "+OK\r\n".to_string()
                }
                "EVALSHA" if table.get(&words[3]) == Some(&words[4]) => {
                    table.remove(&words[3]);
                    ":1\r\n".to_string()
                }
                _ => ":0\r\n".to_string(),
            };
            drop(table);
            if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// As much of distlockd.
fn distlockd() -> String {
    let table = Mutex::new(HashMap::new());
    play(move |mut stream| {
        let mut head = [0; 5];
        while stream.read_exact(&mut head).is_ok() {
            let mut name = vec![0; usize::from(head[2])];
            let mut id = vec![0; usize::from(head[4])];
            stream.read_exact(&mut name).unwrap();
            stream.read_exact(&mut id).unwrap();
            let mut table = table.lock().unwrap();
            let answer: &[u8] = match head[0] {
                1 if table.get(&name).is_some_and(|holder| *holder != id) => b"\x02\0\x04busy",
                1 => {
                    table.insert(name, id);
                    &[0, 0, 0]
                }
                2 if table.get(&name) == Some(&id) => {
                    table.remove(&name);
                    &[0, 0, 0]
                }
                2 => b"\x01\0\x02no",
                _ => &[0, 0, 0],
            };
            drop(table);
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    })
}

/// A dflockd whose locks the test gives out: `asked` returns the client that is granted on an acquire, `released` the
/// one on a release.
fn wrong(
    asked: impl Fn(&mut VecDeque<TcpStream>, TcpStream) -> Option<TcpStream> + Send + Sync + 'static,
    released: impl Fn(&mut VecDeque<TcpStream>) -> Option<TcpStream> + Send + Sync + 'static,
) -> String {
    let state = Mutex::new((0u64, VecDeque::new()));
    play(move |stream| {
        let mut own = stream.try_clone().unwrap();
        let mut input = BufReader::new(stream);
        while let (Some(command), Some(_), Some(_)) =
            (line(&mut input), line(&mut input), line(&mut input))
        {
            let (fence, waiting) = &mut *state.lock().unwrap();
            let next = match command.as_str() {
                "l" => asked(waiting, own.try_clone().unwrap()),
                "r" => {
                    own.write_all(b"ok\n").unwrap();
                    released(waiting)
                }
                _ => {
                    own.write_all(b"ok\n").unwrap();
                    None
                }
            };
            if let Some(mut next) = next {
                *fence += 1;
                let grant = format!("ok {fence:016x}{:016x} 10\n", 7);
                // It may have gone.
                let _ = next.write_all(grant.as_bytes());
            }
        }
    })
}

/// The server gives memory back as soon as keys are released.
#[test]
fn memory_is_measured_while_the_keys_are_held() {
    let daemon = Daemon::start(&["--max-locks", "50000"]);
    let pid = daemon.pid.to_string();
    let mut args = vec!["--scenario", "held", "--locks", "50000"];
    args.extend(["--lease", "3600", "--server-pid", &pid]);
    let results = results(&daemon.addr.to_string(), &args, 0);
    let bytes = results[0]["server_bytes_per_key"].as_f64().unwrap();
    assert!((100.0..300.0).contains(&bytes), "{bytes}");
}

#[test]
fn every_scenario_has_plausible_figures() {
    let daemon = Daemon::start(&[]);
    let pid = daemon.pid.to_string();
    let args = [
        "--scenario",
        "all",
        "--rounds",
        "20",
        "--server-pid",
        &pid,
        "--connections",
        "15",
    ];
    let results = results(&daemon.addr.to_string(), &args, 0);
    let ops: Vec<(&str, u64)> = results
        .iter()
        .map(|result| {
            (
                result["scenario"].as_str().unwrap(),
                result["ops"].as_u64().unwrap(),
            )
        })
        .collect();
    let wanted = [
        ("uncontended", 200),
        ("contended", 200),
        ("pipelined", 6400),
        ("many", 2000),
        ("held", 1000),
        ("churn", 200),
        ("expiry", 10),
    ];
    assert_eq!(ops, wanted);
    results.iter().for_each(is_plausible);
    for result in &results {
        assert!(
            result["server_cpu_us_per_request"].as_f64().is_some(),
            "{result}"
        );
    }
}

#[test]
fn the_older_kind_of_run_is_many_clients_on_few_locks() {
    let daemon = Daemon::start(&[]);
    let args = ["--clients", "7", "--locks", "2", "--iterations", "11"];
    let results = results(&daemon.addr.to_string(), &args, 0);
    assert_eq!(results[0]["scenario"], "many");
    assert_eq!(results[0]["ops"], 77);
    is_plausible(&results[0]);
}

#[test]
fn a_run_may_be_so_many_seconds_instead() {
    let daemon = Daemon::start(&[]);
    let args = ["--seconds", "0.5", "--shared-key", "--workers", "3"];
    let results = results(&daemon.addr.to_string(), &args, 0);
    assert_eq!(results[0]["scenario"], "contended");
    assert!((0.5..1.0).contains(&results[0]["wall_s"].as_f64().unwrap()));
    is_plausible(&results[0]);
}

#[test]
fn other_protocols_are_measured_in_turn() {
    let daemon = Daemon::start(&[]);
    let (redis, distlockd) = (redis(), distlockd());
    let (redis, distlockd) = (
        format!("redis://{redis}"),
        format!("distlockd://{distlockd}"),
    );
    let args = [
        "--scenario",
        "uncontended,contended,pipelined,many,held,churn",
        "--rounds",
        "20",
        "--workers",
        "3",
        "--clients",
        "4",
        "--locks",
        "6",
        "--against",
        &redis,
        "--against",
        &distlockd,
    ];
    let results = results(&daemon.addr.to_string(), &args, 0);
    assert_eq!(results.len(), 18);
    for result in &results {
        is_plausible(result);
        assert_eq!(result["runs"], 3);
        let asked_again = result["asked_again"].as_u64().unwrap();
        assert!(result["protocol"] != "dflockd" || asked_again == 0);
    }
}

#[test]
fn a_lease_that_is_not_the_clients_cannot_be_measured() {
    let daemon = Daemon::start(&[]);
    let distlockd = format!("distlockd://{}", distlockd());
    let args = [
        "--scenario",
        "expiry",
        "--workers",
        "2",
        "--repeat",
        "1",
        "--against",
        &distlockd,
    ];
    let output = bench(&daemon.addr.to_string(), &args);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("cannot choose its lease"), "{text}");
}

#[test]
fn a_server_that_grants_everybody_at_once_is_found_out() {
    let server = wrong(|_, own| Some(own), |_| None);
    let args = ["--shared-key", "--workers", "5", "--rounds", "20"];
    let found = results(&server, &args, 1);
    assert!(
        found[0]["exclusion_violations"].as_u64().unwrap() > 0,
        "{}",
        found[0]
    );
    // The same server ends leases before their time.
    let args = ["--scenario", "expiry", "--workers", "2"];
    let found = results(&server, &args, 1);
    assert_eq!(found[0]["early_grants"], 2, "{}", found[0]);
}

#[test]
fn a_server_that_grants_the_last_before_the_first_is_found_out() {
    // Nothing is granted before all five have asked.
    let held = Arc::new(Mutex::new(false));
    let freed = held.clone();
    let server = wrong(
        move |waiting, own| {
            waiting.push_back(own);
            let mut held = held.lock().unwrap();
            let is_time = !*held && waiting.len() == 5;
            *held |= is_time;
            if is_time { waiting.pop_back() } else { None }
        },
        move |waiting| {
            let next = waiting.pop_back();
            *freed.lock().unwrap() = next.is_some();
            next
        },
    );
    let args = [
        "--shared-key",
        "--workers",
        "5",
        "--seconds",
        "1",
        "--timeout",
        "1",
        "--lease",
        "1",
    ];
    let found = results(&server, &args, 1);
    assert!(
        found[0]["order_violations"].as_u64().unwrap() > 0,
        "{}",
        found[0]
    );
    assert_eq!(found[0]["exclusion_violations"], 0, "{}", found[0]);
}

#[test]
fn a_server_that_hangs_up_is_an_error_and_no_hang() {
    let server = play(|stream| {
        let mut stream = BufReader::new(stream);
        while let Some(command) = line(&mut stream) {
            if command == "l" {
                return;
            }
            line(&mut stream);
            line(&mut stream);
            stream.get_mut().write_all(b"ok\n").unwrap();
        }
    });
    for scenario in ["uncontended", "contended", "held", "churn", "expiry"] {
        let args = ["--scenario", scenario, "--workers", "3", "--rounds", "2"];
        let found = results(&server, &args, 1);
        assert!(found[0]["errors"].as_u64().unwrap() >= 3, "{}", found[0]);
    }
}

#[test]
fn a_server_that_wants_a_token_gets_it() {
    let room = std::env::temp_dir().join(format!("dflock-bench-token-{}", std::process::id()));
    fs::write(&room, "secret\n").unwrap();
    let daemon = Daemon::start(&["--auth-token", "secret"]);
    let server = daemon.addr.to_string();
    let path = room.to_str().unwrap();
    let args = [
        "--scenario",
        "uncontended,churn",
        "--rounds",
        "20",
        "--token-file",
        path,
    ];
    results(&server, &args, 0).iter().for_each(is_plausible);
    fs::write(&room, "another\n").unwrap();
    let output = bench(&server, &["--token-file", path]);
    assert_eq!(output.status.code(), Some(77), "{output:?}");
    fs::remove_file(&room).unwrap();
}

#[test]
fn mistakes_are_64_and_one_line() {
    for words in [
        &["--workers", "0"][..],
        &["--workers"],
        &["--rounds", "many"],
        &["--scenario", "fast"],
        &["--against", "redis://nowhere"],
        &["--against", "ftp://h:1"],
        &["--connections", "2", "--workers", "3"],
        &["--server-pid", "1", "--server-pid", "2"],
        &["--server-pid", "4294967295"],
        &["--seconds", "0"],
        &["--seconds", "86400.5"],
        &["--seconds", "1", "--rounds", "2"],
        &["--iterations", "2", "--seconds", "0.1"],
        &["--shared-key", "--scenario", "held"],
        &["--scenario", "contended,many", "--shared-key"],
        &["--against", "redis://localhost"],
        &["--against", "http://nowhere"],
        &["--server", "h:1,h:2"],
        &["--key", "a b"],
        &["--no-such"],
        &["word"],
    ] {
        let output = bench("127.0.0.1:9", words);
        assert_eq!(output.status.code(), Some(64), "{words:?} {output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            text.starts_with("dflock: ") && text.contains("--help"),
            "{text}"
        );
        assert!(output.stdout.is_empty());
    }
    let help = bench("127.0.0.1:9", &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(help.stdout.starts_with(b"Usage: "));
}

#[test]
fn of_several_servers_in_front_one_has_to_be_chosen() {
    let daemon = Daemon::start(&[]);
    let several = format!("{},127.0.0.1:9", daemon.addr);
    let output = bench(&several, &["--rounds", "1"]);
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    let one = daemon.addr.to_string();
    let args = ["--rounds", "1", "--server", &one];
    assert_eq!(bench(&several, &args).status.code(), Some(0));
}

#[test]
fn a_report_that_cannot_be_written_is_found_out_before_anything_is_measured() {
    let name = "/no/such/folder/page.html";
    let output = bench("127.0.0.1:9", &["--report", name]);
    assert_eq!(output.status.code(), Some(71), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let head = format!("dflock: cannot write {name}: ");
    assert!(
        text.starts_with(&head) && text.lines().count() == 1,
        "{text}"
    );
}

#[test]
fn out_of_descriptors_it_says_what_helps() {
    let daemon = Daemon::start(&[]);
    let script = "ulimit -n 20; exec \"$0\" --server \"$1\" bench --workers 30 --rounds 1";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_dflock")]);
    let output = shell.arg(daemon.addr.to_string()).output().unwrap();
    assert_eq!(output.status.code(), Some(71), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.ends_with(", see ulimit -n\n"), "{text}");
}

#[test]
fn a_server_that_is_not_there_is_69_and_a_wrong_one_76() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = gone.local_addr().unwrap().to_string();
    drop(gone);
    let daemon = Daemon::start(&[]);
    let server = daemon.addr.to_string();
    assert_eq!(bench(&addr, &[]).status.code(), Some(69));
    let redis = format!("redis://{addr}");
    assert_eq!(
        bench(&server, &["--against", &redis]).status.code(),
        Some(69)
    );
    let other = play(|mut stream| {
        let _ = stream.write_all(b"220 smtp\r\n");
    });
    assert_eq!(bench(&other, &[]).status.code(), Some(76));
}

#[test]
fn the_page_needs_no_network_and_has_a_picture_for_each_chart() {
    let daemon = Daemon::start(&[]);
    let path = std::env::temp_dir().join(format!("dflock-bench-{}.html", std::process::id()));
    let name = path.to_str().unwrap();
    let args = [
        "--scenario",
        "uncontended,contended",
        "--rounds",
        "20",
        "--key",
        "<b>&",
        "--report",
        name,
    ];
    let output = bench(&daemon.addr.to_string(), &args);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("client CPU per request"), "{text}");
    let page = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    for reference in ["http://", "https://", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(reference), "{reference}");
    }
    assert!(page.contains("&lt;b&gt;&amp;") && !page.contains("<b>"));
    let count = |what: &str| page.matches(what).count();
    assert_eq!((count("<h3>"), count("<svg "), count("</svg>")), (4, 4, 4));
    assert_eq!(count("<section>"), count("</section>"));
}
