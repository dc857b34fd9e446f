//! Two holders of one lock never overlap, whatever breaks: the server, the way to it, `dflock` itself or its guard.
//! The holders mark a file, and the order of the marks judges them (see beats.rs). Invariant: as in main.rs, and each
//! case has seen marks of both holders, so that it cannot pass by having seen nothing.

use std::env;
use std::thread;
use std::time::Duration;

use dflockd::command::SECOND;
use dflockd::sys;

use crate::beats::{FOR_GUARDS, beats, holders, judge, last_of_first, pause, second_goes_on};
use crate::daemon::{Daemon, at_once, dflockd, eventually};
use crate::proxy::{Net, Proxy};
use crate::stage::{
    Folder, Run, at, connections, holder, is_alive, outlasts_a_lease, signal, waiters,
};

/// A server, a way to it that can break, and a file for the marks of holders.
struct Scene {
    daemon: Daemon,
    proxy: Proxy,
    folder: Folder,
}

impl Scene {
    fn new(args: &[&str]) -> Scene {
        let daemon = Daemon::start(args);
        Scene {
            proxy: Proxy::to(daemon.addr),
            daemon,
            folder: Folder::new(),
        }
    }

    fn file(&self) -> String {
        self.folder.path("beats")
    }

    /// The first holder, over the way that can break, beating.
    fn first(&self, args: &[&str]) -> Run {
        self.first_with(args, &beats(&self.file()))
    }

    fn first_with(&self, args: &[&str], script: &str) -> Run {
        let args = [&["--lease", "1"], args, &["k", "-c", script]].concat();
        let first = Run::start(at(self.proxy.addr, &args));
        holders(&self.file(), 1);
        first
    }

    /// The first holder's connection breaks, and it has another to which the lock has gone.
    fn moves(&self, how: Net) {
        let before = holder(&self.daemon, "k");
        self.proxy.set(how);
        eventually("the lock has gone to another connection", || {
            let now = holder(&self.daemon, "k");
            now.is_some() && now != before
        });
    }

    /// The second holder, which waits for the first to end, and has a way of its own.
    fn second(&self) -> Run {
        let second = Run::start(at(self.daemon.addr, &["k", "-c", &beats(&self.file())]));
        eventually("it waits", || waiters(&self.daemon, "k") == 1);
        second
    }

    /// Waits for the second holder, and whether the first is too late to see that.
    fn late(&self) -> usize {
        second_goes_on(&self.file());
        let (holders, late) = judge(&self.file());
        assert_eq!(holders.len(), 2);
        late.len()
    }
}

const KEEPS: &str = "--no-auto-release-on-disconnect";

#[test]
fn the_judge_finds_an_overlap() {
    let scene = Scene::new(&[]);
    let _first = scene.first(&["--on-lost", "ignore"]);
    let _second = scene.second();
    scene.proxy.set(Net::Silent);
    assert_eq!(scene.late(), 1);
    // Nobody else does.
    assert!(signal(judge(&scene.file()).0[0], "KILL"));
}

/// Also a command that hears TERM and goes on, and so has to be killed in time.
#[test]
fn nobody_overlaps_behind_a_way_that_swallows_everything() {
    let cases = [("kill", ""), ("term", ""), ("kill", "trap '' TERM; ")];
    at_once(cases, |(mode, trap)| {
        let scene = Scene::new(&[]);
        let script = format!("{trap}{}", beats(&scene.file()));
        let first = scene.first_with(&["--lease", "2", "--on-lost", mode], &script);
        let _second = scene.second();
        scene.proxy.set(Net::Silent);
        assert_eq!(scene.late(), 0);
        assert_eq!(first.end().status, 120);
    });
}

#[test]
fn nobody_overlaps_behind_a_way_that_is_cut() {
    at_once([&[][..], &[KEEPS]], |args| {
        let scene = Scene::new(args);
        let first = scene.first(&[]);
        let _second = scene.second();
        scene.proxy.set(Net::Cut);
        assert_eq!(scene.late(), 0);
        assert_eq!(first.end().status, 120);
    });
}

#[test]
fn a_way_that_breaks_and_is_whole_again_does_not_end_the_command() {
    let scene = Scene::new(&[KEEPS]);
    let script = "echo ready; read line; exit 6";
    let args = ["--lease", "2", "k", "-c", script];
    let mut first = Run::start(at(scene.proxy.addr, &args));
    first.hears("ready");
    let _second = scene.second();
    scene.proxy.set(Net::CutOnce);
    outlasts_a_lease(&scene.daemon, 2);
    assert!(first.is_running());
    assert_eq!(waiters(&scene.daemon, "k"), 1);
    assert_eq!(first.end().status, 6);
    holders(&scene.file(), 1);
}

/// Its owner has the lock, not its connection.
#[test]
fn a_former_connection_that_ends_late_frees_nothing() {
    let cases = [&[][..], &["--id", "me"], &["--on-lost", "ignore"]];
    at_once(cases, |args: &[&str]| {
        let scene = Scene::new(&[]);
        let script = "echo ready; read line; exit 6";
        let args = [args, &["--lease", "2", "k", "-c", script]].concat();
        let mut first = Run::start(at(scene.proxy.addr, &args));
        first.hears("ready");
        let _second = scene.second();
        scene.moves(Net::CutOnce);
        // Of the first, of the first before, and of the second; the test's own may take a moment to go.
        eventually("there are three", || connections(&scene.daemon) == 3);
        scene.proxy.set(Net::Late);
        eventually("it has ended", || connections(&scene.daemon) == 2);
        assert_eq!(waiters(&scene.daemon, "k"), 1);
        assert!(first.is_running());
        assert_eq!(first.end().status, 6);
        holders(&scene.file(), 1);
    });
}

#[test]
fn a_connection_that_goes_mute_does_not_end_the_command() {
    let scene = Scene::new(&[]);
    let script = "echo ready; read line; exit 6";
    // Late to stop it, so that a busy machine has time to connect again.
    let args = ["--lease", "2", "--kill-after", "0.1", "k", "-c", script];
    let mut first = Run::start(at(scene.proxy.addr, &args));
    first.hears("ready");
    let _second = scene.second();
    scene.moves(Net::SilentOnce);
    outlasts_a_lease(&scene.daemon, 2);
    assert!(first.is_running());
    assert_eq!(waiters(&scene.daemon, "k"), 1);
    assert_eq!(first.end().status, 6);
    holders(&scene.file(), 1);
}

#[test]
fn nobody_overlaps_when_a_connection_goes_mute_and_then_dflock_is_killed() {
    let scene = Scene::new(&[]);
    let first = scene.first(&["--kill-after", "0.1"]);
    let _second = scene.second();
    scene.moves(Net::SilentOnce);
    first.signal("KILL");
    assert_eq!(scene.late(), 0);
}

#[test]
fn nobody_overlaps_when_a_former_connection_ends_late_and_then_dflock_is_killed() {
    at_once(["", "trap '' TERM HUP; ("], |script| {
        let scene = Scene::new(&[]);
        let beats = beats(&scene.file());
        let script = match script {
            "" => beats,
            _ => format!("{script}{beats}) & wait"),
        };
        let first = scene.first_with(&[], &script);
        let guard = first.guard();
        let _second = scene.second();
        scene.moves(Net::CutOnce);
        scene.proxy.set(Net::Late);
        eventually("it has ended", || connections(&scene.daemon) == 2);
        first.signal("KILL");
        assert_eq!(scene.late(), 0);
        assert!(!is_alive(judge(&scene.file()).0[0]));
        eventually("the guard ends", || !is_alive(guard));
    });
}

#[test]
fn nobody_overlaps_when_the_server_freezes_and_another_takes_its_place() {
    let scene = Scene::new(&[]);
    let file = scene.file();
    let first = scene.first(&[]);
    let port = scene.daemon.addr.port().to_string();
    scene.daemon.freeze();
    // No lease was asked for after this.
    let freeze = sys::now();
    assert_eq!(first.end().status, 120);
    let last = last_of_first(&file);
    assert!(last < freeze + SECOND, "before the lease ends");
    let Scene {
        daemon,
        proxy,
        folder,
    } = scene;
    let (pid, addr) = (daemon.pid, daemon.addr);
    signal(pid, "KILL");
    drop((daemon, proxy));
    let _other = Daemon::launch(dflockd(&["--port", &port])).unwrap();
    let _second = Run::start(at(addr, &["k", "-c", &beats(&file)]));
    second_goes_on(&file);
    assert_eq!(judge(&file).1, [0; 0]);
    drop(folder);
}

#[test]
fn nobody_overlaps_when_the_server_freezes_and_goes_on() {
    let scene = Scene::new(&[]);
    let first = scene.first(&[]);
    let _second = scene.second();
    scene.daemon.freeze();
    assert_eq!(first.end().status, 120);
    scene.daemon.signal("CONT");
    assert_eq!(scene.late(), 0);
}

#[test]
fn nobody_overlaps_when_dflock_is_frozen() {
    at_once([&[][..], &[KEEPS]], |args| {
        let scene = Scene::new(args);
        let first = scene.first(&["--lease", FOR_GUARDS]);
        let _second = scene.second();
        first.signal("STOP");
        assert_eq!(scene.late(), 0);
        first.signal("CONT");
        assert_eq!(first.end().status, 120);
    });
}

#[test]
fn nobody_overlaps_when_dflock_is_killed() {
    let scripts = ["", "(", "trap '' TERM HUP; ("];
    let servers = [&[][..], &[KEEPS]].into_iter();
    let cases = servers.flat_map(|args| scripts.map(|script| (args, script)));
    at_once(cases, |(args, script)| {
        let scene = Scene::new(args);
        let beats = beats(&scene.file());
        // By itself, in a grandchild, and in one that is hard to kill.
        let script = match script {
            "" => beats,
            _ => format!("{script}{beats}) & wait"),
        };
        let first = scene.first_with(&[], &script);
        let guard = first.guard();
        let _second = scene.second();
        first.signal("KILL");
        assert_eq!(scene.late(), 0);
        let holder = judge(&scene.file()).0[0];
        assert!(!is_alive(holder));
        eventually("the guard ends", || !is_alive(guard));
    });
}

#[test]
fn nobody_overlaps_when_the_guard_is_frozen_and_the_way_is_silent() {
    at_once([&[][..], &["--lease", FOR_GUARDS]], |args| {
        let scene = Scene::new(&[]);
        let mut first = scene.first(args);
        let guard = first.guard();
        let _second = scene.second();
        assert!(signal(guard, "STOP"));
        scene.proxy.set(Net::Silent);
        assert_eq!(scene.late(), 0);
        assert!([120, 137].contains(&first.status()));
        assert!(!is_alive(guard));
    });
}

/// The guard has answered all orders, and so nothing but the time tells that it is stopped.
#[test]
fn nobody_overlaps_when_the_guard_is_frozen_between_term_and_kill() {
    let scene = Scene::new(&[]);
    let script = format!("trap '' TERM; {}", beats(&scene.file()));
    let mut first = scene.first_with(&["--lease", FOR_GUARDS], &script);
    let guard = first.guard();
    let _second = scene.second();
    scene.proxy.set(Net::Silent);
    while !first.complaint().contains("stopping the command") {}
    // The guard has answered by then; KILL is due three quarters of a second after TERM.
    thread::sleep(Duration::from_millis(200));
    assert!(signal(guard, "STOP"));
    assert_eq!(scene.late(), 0);
    assert_eq!(first.status(), 120);
    assert!(!is_alive(guard));
}

#[test]
fn a_command_whose_guard_is_killed_or_stopped_dies_with_all_that_it_has_started() {
    at_once(["KILL", "STOP"], |name| {
        let scene = Scene::new(&[]);
        // In a session of its own too.
        let script = format!(
            "setsid sh -c '{}' & wait",
            beats(&scene.file()).replace('\'', "\"")
        );
        let mut first = scene.first_with(&["--lease", FOR_GUARDS], &script);
        let guard = first.guard();
        let _second = scene.second();
        assert!(signal(guard, name));
        assert_eq!(first.status(), 137, "{name}");
        assert!(first.complaint().contains("the guard "));
        assert_eq!(scene.late(), 0);
        assert!(!is_alive(guard));
    });
}

/// The lease is counted from the moment when it was asked for, so the server thinks it over when it has been so for a
/// while. Every other command is deaf to TERM.
#[test]
fn of_a_lost_lock_the_command_is_dead_before_the_lease_ends() {
    let tries = env::var("TRIES").map_or(20, |text| text.parse().expect("a number"));
    let (mut next, mut least) = (0, [u64::MAX; 2]);
    while next < tries {
        let round = next..tries.min(next + 20);
        next = round.end;
        let scenes: Vec<(usize, Scene)> = round.map(|n| (n, Scene::new(&[]))).collect();
        at_once(&scenes, |(n, scene)| {
            let trap = ["", "trap '' TERM; "][n % 2];
            let script = format!("{trap}{}", beats(&scene.file()));
            let first = scene.first_with(&["--lease", "2"], &script);
            let _runs = [first, scene.second()];
            scene.proxy.passes_a_frame();
            // Another moment for each, between this renewal and the next.
            thread::sleep(Duration::from_millis(*n as u64 * 137 % 900));
            scene.proxy.set(Net::Silent);
            assert_eq!(scene.late(), 0, "try {n}");
        });
        for (n, scene) in &scenes {
            least[n % 2] = pause(&scene.file()).min(least[n % 2]);
        }
    }
    println!("of {tries} the least pause was {least:?} us, the second of the deaf");
    assert!(
        least[0] > 100_000,
        "TERM comes a quarter of the lease before KILL: {least:?}"
    );
}

#[test]
fn a_process_that_a_command_leaves_behind_is_dead_before_the_next_has_the_lock() {
    let daemon = Daemon::start(&[]);
    let folder = Folder::new();
    let file = folder.path("beats");
    let beats = beats(&file);
    // It is deaf to TERM, and to the end of the terminal.
    let script = format!("(trap '' TERM HUP; {beats}) & until [ -s {file} ]; do sleep 0.01; done");
    let script = format!("{script}; read line; true");
    let args = ["--kill-after", "0.5", "k", "-c", &script];
    let first = Run::start(at(daemon.addr, &args));
    holders(&file, 1);
    let second = Run::start(at(daemon.addr, &["k", "-c", &beats]));
    eventually("it waits", || waiters(&daemon, "k") == 1);
    let mut first = first;
    first.close();
    assert_eq!(first.status(), 0);
    second_goes_on(&file);
    drop(second);
    assert_eq!(judge(&file).1, [0; 0]);
}
