//! `dflock` over TLS, at the real server. Not here: what the client library does with the bytes, which has its own tests.
//! Invariant: as in main.rs; without openssl(1) nothing is tested, and that is said.

use std::net::TcpListener;
use std::process::Command;

use crate::daemon::Daemon;
use crate::daemon::pki::{Pki, pki};
use crate::proxy::{Net, Proxy};
use crate::stage::{Run, at, dflock, run};

/// A server with TLS, and what it was made of.
struct Scene {
    pki: &'static Pki,
    daemon: Daemon,
}

impl Scene {
    /// None without openssl. The certificate is `cert`, whose key is the server's.
    fn with(cert: &str, args: &[&str]) -> Option<Scene> {
        let pki = pki()?;
        let own = pki.options(cert, "server.key");
        let own: Vec<&str> = own
            .iter()
            .map(String::as_str)
            .chain(args.iter().copied())
            .collect();
        let daemon = Daemon::start(&own);
        Some(Scene { pki, daemon })
    }

    fn new() -> Option<Scene> {
        Scene::with("server.pem", &[])
    }

    /// `dflock` that trusts the authority.
    fn dflock(&self, args: &[&str]) -> Command {
        self.over(self.daemon.addr.to_string(), args)
    }

    fn over(&self, server: String, args: &[&str]) -> Command {
        let ca = self.pki.path("ca.pem");
        let own = ["--server", &server, "--tls-ca", &ca];
        dflock(&[&own, args].concat())
    }

    /// What it prints; it must end well.
    #[track_caller]
    fn prints(&self, args: &[&str]) -> String {
        let end = run(self.dflock(args));
        assert_eq!((end.status, end.err.as_str()), (0, ""), "{args:?}");
        end.out
    }

    /// Waits until leases of 2 s that began before have ended.
    fn outlasts_a_lease(&self) {
        self.prints(&["acquire", "--lease", "2", "a-lease"]);
        self.prints(&["a-lease", "true"]);
    }
}

#[test]
fn each_form_goes_over_tls() {
    let Some(scene) = Scene::new() else { return };
    let run_ = scene.prints(&["k", "-c", "echo $DFLOCK_KEY $DFLOCK_FENCE"]);
    assert!(run_.starts_with("k 1"), "{run_}");
    let taken = scene.prints(&["acquire", "k"]);
    let token = taken.split(' ').next().unwrap();
    assert_eq!(
        scene.prints(&["renew", "--lease", "60", "k", token]),
        "60\n"
    );
    assert!(scene.prints(&["ls"]).contains("\nk "));
    let fence = taken.split(' ').nth(1).unwrap();
    assert!(scene.prints(&["stat", "k"]).contains(fence));
    assert_eq!(run(scene.dflock(&["-n", "k", "true"])).status, 1);
    scene.prints(&["release", "k", token]);
    scene.prints(&["ping"]);
    let mut listener = Run::start(scene.dflock(&["-v", "listen", "jobs.>"]));
    assert_eq!(listener.complaint(), "dflock: listening\n");
    let payload = "x".repeat(40_000);
    scene.prints(&["signal", "jobs.mail", &payload]);
    assert_eq!(listener.line(), format!("jobs.mail {payload}\n"));
    listener.signal("TERM");
    let mut hold = Run::start(scene.dflock(&["hold", "k"]));
    hold.line();
    assert_eq!(scene.prints(&["break", "k"]), "1\n");
    hold.close();
    // The limit of others is asked for over a connection of its own.
    let taken = scene.prints(&["acquire", "-l", "2", "s"]);
    let end = run(scene.dflock(&["-l", "3", "s", "true"]));
    assert_eq!(end.err, "dflock: others use the key with --limit 2\n");
    let token = taken.split(' ').next().unwrap();
    scene.prints(&["release", "-l", "2", "s", token]);
    // The variable says it too, and a name is verified as well as an address.
    let mut command = dflock(&["ping"]);
    command.env(
        "DFLOCK_SERVER",
        format!("localhost:{}", scene.daemon.addr.port()),
    );
    command.env("DFLOCK_TLS_CA", scene.pki.path("ca.pem"));
    assert_eq!(run(command).status, 0);
}

/// The status, the reason and the option; the same for a command and for a step.
#[track_caller]
fn fails(scene: &Scene, args: &[&str], status: i32, reason: &str) {
    for form in [&["-w", "30", "k", "true"][..], &["ping"]] {
        let end = run(at(scene.daemon.addr, &[args, form].concat()));
        end.complains(status);
        let text = format!("dflock: no TLS with {}: {reason}\n", scene.daemon.addr);
        assert_eq!(end.err, text, "{form:?}");
    }
}

#[test]
fn that_there_is_no_tls_is_told_at_once_with_its_reason_and_its_option() {
    let Some(scene) = Scene::new() else { return };
    let [ca, other] = ["ca.pem", "other-ca.pem"].map(|name| scene.pki.path(name));
    let reason = "the server speaks TLS only: connect with TLS, see --tls";
    fails(&scene, &[], 76, reason);
    let reason =
        "the server's certificate is signed by no authority that is trusted here, see --tls-ca";
    fails(&scene, &["--tls-ca", &other], 76, reason);
    let reason = "the server's certificate is not for a.example, but for localhost, 127.0.0.1, see --tls-server-name";
    let name = ["--tls-ca", &ca, "--tls-server-name", "a.example"];
    fails(&scene, &name, 76, reason);
    let ended = Scene::with("ended.pem", &[]).expect("there is openssl");
    let reason = "the server's certificate has expired: it has to get another one, unless the clock here is wrong, see --tls";
    fails(&ended, &["--tls-ca", &ca], 76, reason);
}

#[test]
fn a_server_that_wants_a_certificate_gets_it() {
    let Some(pki) = pki() else { return };
    let [ca, client, stranger, key] =
        ["ca.pem", "client.pem", "stranger.pem", "client.key"].map(|name| pki.path(name));
    let wants = format!("--tls-client-ca={ca}");
    let scene = Scene::with("server.pem", &[&wants]).expect("there is openssl");
    scene.prints(&["--tls-cert", &client, "--tls-key", &key, "k", "true"]);
    let reason = "the server wants a certificate of the client, see --tls-cert";
    fails(&scene, &["--tls-ca", &ca], 77, reason);
    let args = ["--tls-ca", &ca, "--tls-cert", &stranger, "--tls-key", &key];
    let end = run(at(scene.daemon.addr, &[&args[..], &["ping"]].concat()));
    end.complains(77);
    assert!(
        end.err.contains("does not accept the client's certificate"),
        "{end:?}"
    );
    assert!(end.err.ends_with(", see --tls-cert\n"), "{end:?}");
}

#[test]
fn a_server_without_tls_is_asked_in_vain() {
    let Some(pki) = pki() else { return };
    let daemon = Daemon::start(&[]);
    let ca = pki.path("ca.pem");
    let end = run(at(daemon.addr, &["-n", "--tls-ca", &ca, "k", "true"]));
    end.complains(69);
    let hint = "in the TLS handshake: perhaps the server speaks no TLS, or is full\n";
    assert!(end.err.ends_with(hint), "{end:?}");
}

#[test]
fn a_holder_is_listed_by_the_name_in_its_certificate() {
    let Some(pki) = pki() else { return };
    let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(|name| pki.path(name));
    let Some(scene) = Scene::with("server.pem", &["--tls-client-ca", &ca]) else {
        return;
    };
    let known = |args: &[&str]| {
        let own = ["--tls-cert", &cert, "--tls-key", &key];
        scene.prints(&[&own, args].concat())
    };
    let dflock = env!("CARGO_BIN_EXE_dflock");
    let server = scene.daemon.addr.to_string();
    let options = format!("--server {server} --tls-ca {ca} --tls-cert {cert} --tls-key {key}");
    let listed = known(&["k", "-c", &format!("'{dflock}' {options} ls")]);
    assert!(listed.contains(" 'worker 7'@127.0.0.1:"), "{listed}");
    let json = known(&["k", "-c", &format!("'{dflock}' {options} -o json stat k")]);
    assert_eq!(
        json.matches(r#""peer_name":"worker 7""#).count(),
        2,
        "{json}"
    );
}

#[test]
fn a_port_that_is_closed_is_told_as_without_tls() {
    let Some(pki) = pki() else { return };
    let addr = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let end = run(at(
        addr,
        &["-n", "--tls-ca", &pki.path("ca.pem"), "k", "true"],
    ));
    end.complains(69);
    assert!(end.err.contains("Connection refused"), "{end:?}");
}

/// Another authority of the name that is trusted, and with a key of another kind.
#[test]
fn an_authority_that_only_has_the_same_name_is_not_trusted() {
    let Some(pki) = pki() else { return };
    let options = pki.options("twin.pem", "twin.key");
    let daemon = Daemon::start(&[&options[0], &options[1]]);
    let end = run(at(
        daemon.addr,
        &["-n", "--tls-ca", &pki.path("ca.pem"), "k", "true"],
    ));
    end.complains(76);
    assert!(
        end.err
            .contains("signed by no authority that is trusted here"),
        "{end:?}"
    );
}

#[test]
fn a_server_that_hangs_in_the_handshake_is_given_up_with_the_wait() {
    let Some(scene) = Scene::new() else { return };
    scene.daemon.freeze();
    for form in [&["-w", "0.3", "k", "true"][..], &["-w", "0.3", "ping"]] {
        let end = run(scene.dflock(form));
        assert_eq!(end.status, 69, "{end:?}");
        assert!(
            end.err.contains("no answer in the TLS handshake"),
            "{end:?}"
        );
    }
}

#[test]
fn a_mistake_names_its_option_and_its_file() {
    let Some(pki) = pki() else { return };
    let [ca, client, key] = ["ca.pem", "client.pem", "client.key"].map(|name| pki.path(name));
    let locked = pki.path("locked.key");
    let wrong = |args: &[&str], text: &str| {
        let end = run(dflock(&[args, &["ping"]].concat()));
        end.complains(64);
        assert_eq!(end.err.lines().next(), Some(&*format!("dflock: {text}")));
    };
    wrong(
        &["--tls-cert", &client],
        "--tls-cert: want --tls-key beside it",
    );
    wrong(&["--tls-key", &key], "--tls-key: want --tls-cert beside it");
    let text = "--tls-ca: cannot read \"/none\": No such file or directory (os error 2); want a file in PEM";
    wrong(&["--tls-ca", "/none"], text);
    let text = format!(
        "--tls-ca: bad file {key:?}: it has no certificate; want PEM with BEGIN CERTIFICATE"
    );
    wrong(&["--tls-ca", &key], &text);
    let own = ["--tls-ca", &ca, "--tls-cert", &client, "--tls-key", &locked];
    let end = run(dflock(&[&own[..], &["ping"]].concat()));
    end.complains(64);
    let head = format!("dflock: --tls-key: bad file {locked:?}: its key is encrypted");
    assert!(end.err.starts_with(&head), "{end:?}");
    let text = "--tls-server-name: want a host, not \"a b\"";
    wrong(&["--tls-ca", &ca, "--tls-server-name", "a b"], text);
    let text =
        "--server: \"b\u{fc}ro\" is no name that a certificate can be for: give a server name";
    wrong(&["--tls-ca", &ca, "--server", "b\u{fc}ro"], text);
    let mut command = dflock(&["ping"]);
    command.env("DFLOCK_TLS_CA", "/none");
    let end = run(command);
    end.complains(64);
    assert!(
        end.err.starts_with("dflock: DFLOCK_TLS_CA: cannot read"),
        "{end:?}"
    );
}

/// The connection is cut, or goes mute: the lock moves to another one, with a handshake of its own.
#[test]
fn a_lock_is_kept_over_connections_that_break() {
    for how in [Net::CutOnce, Net::SilentOnce] {
        let Some(scene) = Scene::new() else { return };
        let proxy = Proxy::to(scene.daemon.addr);
        let script = "echo ready; read line; exit 6";
        // Late to stop it, so that a busy machine has time to connect again.
        let args = ["--lease", "2", "--kill-after", "0.1", "k", "-c", script];
        let mut first = Run::start(scene.over(proxy.addr.to_string(), &args));
        first.hears("ready");
        proxy.set(how);
        scene.outlasts_a_lease();
        assert!(first.is_running());
        assert_eq!(run(scene.dflock(&["-n", "k", "true"])).status, 1);
        assert_eq!(first.end().status, 6);
        scene.prints(&["-n", "k", "true"]);
    }
}

/// The guard has the connection, though not the session: the lock goes on as long as the command may run, and no longer.
#[test]
fn when_dflock_is_killed_the_lock_ends_with_the_command() {
    let Some(scene) = Scene::new() else { return };
    let args = ["--lease", "1000", "k", "-c", "echo ready; read line"];
    let mut first = Run::start(scene.dflock(&args));
    first.hears("ready");
    first.signal("KILL");
    // Long before the lease ends.
    scene.prints(&["-w", "60", "k", "true"]);
}

#[test]
fn the_bench_goes_over_tls_and_beside_it_without() {
    let Some(scene) = Scene::with("server.pem", &["--http-port", "0"]) else {
        return;
    };
    let plain = Daemon::start(&[]);
    let (https, line) = (
        format!("https://localhost:{}", scene.daemon.http.port()),
        format!("dflockd://{}", plain.addr),
    );
    let args = [
        "bench",
        "--against",
        &https,
        "--against",
        &line,
        "--json",
        "--repeat",
        "1",
    ];
    let work = [
        "--workers",
        "3",
        "--rounds",
        "5",
        "--connections",
        "5",
        "--locks",
        "9",
    ];
    let kinds = "uncontended,contended,pipelined,held,churn";
    let args = [&args[..], &work, &["--scenario", kinds]].concat();
    let found = scene.prints(&args);
    assert_eq!(found.matches("\"errors\":0").count(), 15, "{found}");
    let behind = run(scene.dflock(&["bench", "--tls"]));
    behind.complains(64);
    assert!(
        behind.err.contains("bench: --tls goes in front of bench"),
        "{behind:?}"
    );
}
