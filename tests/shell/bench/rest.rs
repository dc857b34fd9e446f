//! `dflock bench` over REST: against the real server, and against a played one that ends connections and grants wrongly.

use std::net::Shutdown;

use super::*;

#[cfg(feature = "http")]
#[test]
fn every_scenario_has_plausible_figures_over_http() {
    let daemon = Daemon::start(&["--http-port", "0"]);
    let http = format!("http://{}", daemon.http);
    let mut args = vec!["--scenario", "all", "--rounds", "20", "--workers", "3"];
    args.extend(["--clients", "4", "--locks", "6", "--key", "a/b?"]);
    args.extend(["--repeat", "1", "--against", &http]);
    let results = results(&daemon.addr.to_string(), &args, 0);
    let ops = |protocol: &str| {
        let own = results
            .iter()
            .filter(|result| result["protocol"] == protocol);
        own.map(|result| result["ops"].as_u64().expect("a number"))
            .collect::<Vec<_>>()
    };
    // The work is the same.
    assert_eq!(ops("http"), ops("dflockd"));
    assert_eq!(ops("http").len(), 7);
    results.iter().for_each(is_plausible);
}

#[cfg(feature = "http")]
#[test]
fn over_http_the_token_goes_with_each_request() {
    let room = std::env::temp_dir().join(format!("dflock-bench-bearer-{}", std::process::id()));
    fs::write(&room, "secret\n").unwrap();
    let path = room.to_str().unwrap();
    let daemon = Daemon::start(&["--http-port=0", "--auth-token=secret"]);
    let http = format!("http://{}", daemon.http);
    let args = ["--server", &http, "--token-file", path];
    let output = bench(&daemon.addr.to_string(), &args);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for secret in [None, Some("another\n")] {
        let args = match secret {
            None => &args[..2],
            Some(text) => {
                fs::write(&room, text).unwrap();
                &args[..]
            }
        };
        let output = bench(&daemon.addr.to_string(), args);
        assert_eq!(output.status.code(), Some(77), "{output:?}");
    }
    fs::remove_file(&room).unwrap();
}

/// A dflockd that speaks HTTP and grants everything at once, with ever higher fences. It says of each tenth answer that it
/// is the last of its connection, and then reads no more.
fn http() -> String {
    let fence = Mutex::new(0);
    play(move |stream| {
        let mut stream = BufReader::new(stream);
        for turn in 1..=10 {
            let mut length = 0;
            loop {
                let Some(line) = line(&mut stream) else {
                    return;
                };
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    length = value.parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let mut fence = fence.lock().unwrap();
            *fence += 1;
            let token = format!("{:016x}{:016x}", *fence, 7);
            drop(fence);
            let answer = format!("{{\"acquired\":true,\"renewalToken\":\"{token}\"}}");
            let last = if turn == 10 { "close" } else { "keep-alive" };
            let length = answer.len();
            let head = format!("Connection: {last}\r\nContent-Length: {length}\r\n\r\n");
            let answer = format!("HTTP/1.1 200 OK\r\n{head}{answer}");
            if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
        // It hangs up without a reset, whatever else was sent.
        stream.get_mut().shutdown(Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    })
}

#[test]
fn a_last_answer_on_a_connection_is_no_error_and_loses_nothing() {
    let http = format!("http://{}", http());
    for (scenario, ops) in [
        ("uncontended", 300),
        ("pipelined", 300 * 32),
        ("churn", 300),
    ] {
        let args = ["--scenario", scenario, "--workers", "3", "--rounds", "100"];
        let found = results(
            "127.0.0.1:9",
            &[&args[..], &["--server", &http]].concat(),
            0,
        );
        assert_eq!(found[0]["ops"], ops, "{}", found[0]);
        is_plausible(&found[0]);
    }
}

#[test]
fn over_http_too_a_server_that_grants_everybody_is_found_out() {
    let http = format!("http://{}", http());
    let args = ["--shared-key", "--workers", "5", "--rounds", "20"];
    let found = results(
        "127.0.0.1:9",
        &[&args[..], &["--server", &http]].concat(),
        1,
    );
    let count = found[0]["exclusion_violations"].as_u64();
    assert!(count.is_some_and(|count| count > 0), "{}", found[0]);
}
