//! Two holders of one lock never overlap, whatever breaks: the server, the way to it, `dflock` itself or its guard. The
//! commands beat into a file that is only appended to, and its order judges them. Invariant: as in `dflock.rs`, and
//! each case has had both holders' beats, so that it cannot pass by having seen nothing.

use std::env;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, dflockd, eventually};
use crate::stage::{
    Folder, Net, Proxy, Run, at, beats, connections, holder, holders, is_alive, judge, signal,
    waiters,
};

/// Long enough for a few beats of who should not beat any more.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// A server that keeps the lock of who is gone to the end of its lease, a way to it that can break, and a file.
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

    /// The one who waits for the first to end, and has a way of its own.
    fn second(&self) -> Run {
        let second = Run::start(at(self.daemon.addr, &["k", "-c", &beats(&self.file())]));
        eventually("it waits", || waiters(&self.daemon, "k") == 1);
        second
    }

    /// Waits for the second holder, and whether the first is too late to see that.
    fn late(&self) -> usize {
        holders(&self.file(), 2);
        thread::sleep(AFTERWARDS);
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
}

#[test]
fn nobody_overlaps_behind_a_way_that_swallows_everything() {
    for mode in ["kill", "term"] {
        let scene = Scene::new(&[]);
        let first = scene.first(&["--on-lost", mode]);
        let _second = scene.second();
        scene.proxy.set(Net::Silent);
        assert_eq!(scene.late(), 0);
        assert_eq!(first.end().status, 120);
    }
}

/// It hears TERM and goes on, so it has to be killed, and in time.
#[test]
fn a_command_that_is_deaf_to_term_does_not_overlap() {
    let scene = Scene::new(&[]);
    let script = format!("trap '' TERM; {}", beats(&scene.file()));
    let first = scene.first_with(&[], &script);
    let _second = scene.second();
    scene.proxy.set(Net::Silent);
    assert_eq!(scene.late(), 0);
    assert_eq!(first.end().status, 120);
}

#[test]
fn nobody_overlaps_behind_a_way_that_is_cut() {
    for args in [&[][..], &[KEEPS]] {
        let scene = Scene::new(args);
        let first = scene.first(&[]);
        let _second = scene.second();
        scene.proxy.set(Net::Cut);
        assert_eq!(scene.late(), 0);
        assert_eq!(first.end().status, 120);
    }
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
    thread::sleep(Duration::from_millis(2500));
    assert!(first.is_running());
    assert_eq!(waiters(&scene.daemon, "k"), 1);
    assert_eq!(first.end().status, 6);
    holders(&scene.file(), 1);
}

/// Its owner has the lock, not its connection.
#[test]
fn a_former_connection_that_ends_late_frees_nothing() {
    for args in [&[][..], &["--id", "me"], &["--on-lost", "ignore"]] {
        let scene = Scene::new(&[]);
        let script = "echo ready; read line; exit 6";
        let args = [args, &["--lease", "2", "k", "-c", script]].concat();
        let mut first = Run::start(at(scene.proxy.addr, &args));
        first.hears("ready");
        let _second = scene.second();
        scene.moves(Net::CutOnce);
        // Of the first, of the first before, and of the second.
        assert_eq!(connections(&scene.daemon), 3);
        scene.proxy.set(Net::Late);
        eventually("it has ended", || connections(&scene.daemon) == 2);
        assert_eq!(waiters(&scene.daemon, "k"), 1);
        assert!(first.is_running());
        assert_eq!(first.end().status, 6);
        holders(&scene.file(), 1);
    }
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
    // Longer than a lease.
    thread::sleep(Duration::from_millis(2500));
    assert!(first.is_running());
    assert_eq!(waiters(&scene.daemon, "k"), 1);
    assert_eq!(first.end().status, 6);
    holders(&scene.file(), 1);
}

#[test]
fn nobody_overlaps_when_a_connection_goes_mute_and_then_dflock_is_killed() {
    let scene = Scene::new(&[]);
    let first = scene.first(&["--kill-after", "0.1"]);
    let guard = first.guard();
    let _second = scene.second();
    scene.moves(Net::SilentOnce);
    eventually("there is another guard", || !is_alive(guard));
    first.signal("KILL");
    assert_eq!(scene.late(), 0);
}

#[test]
fn nobody_overlaps_when_a_former_connection_ends_late_and_then_dflock_is_killed() {
    for script in ["", "trap '' TERM HUP; ("] {
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
        eventually("there is another guard", || !is_alive(guard));
        let guard = first.guard();
        first.signal("KILL");
        assert_eq!(scene.late(), 0);
        assert!(!is_alive(judge(&scene.file()).0[0]));
        eventually("the guard ends", || !is_alive(guard));
    }
}

#[test]
fn nobody_overlaps_when_the_server_freezes_and_another_takes_its_place() {
    let scene = Scene::new(&[]);
    let file = scene.file();
    let first = scene.first(&[]);
    let port = scene.daemon.addr.port().to_string();
    scene.daemon.signal("STOP");
    let freeze = Instant::now();
    let end = first.end();
    assert_eq!(end.status, 120);
    assert!(
        freeze.elapsed() < Duration::from_millis(1000),
        "before the lease ends"
    );
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
    holders(&file, 2);
    thread::sleep(AFTERWARDS);
    assert_eq!(judge(&file).1, [0; 0]);
    drop(folder);
}

#[test]
fn nobody_overlaps_when_the_server_freezes_and_goes_on() {
    let scene = Scene::new(&[]);
    let first = scene.first(&[]);
    let _second = scene.second();
    scene.daemon.signal("STOP");
    assert_eq!(first.end().status, 120);
    scene.daemon.signal("CONT");
    assert_eq!(scene.late(), 0);
}

#[test]
fn nobody_overlaps_when_dflock_is_frozen() {
    for args in [&[][..], &[KEEPS]] {
        let scene = Scene::new(args);
        let first = scene.first(&[]);
        let _second = scene.second();
        first.signal("STOP");
        assert_eq!(scene.late(), 0);
        first.signal("CONT");
        assert_eq!(first.end().status, 120);
    }
}

#[test]
fn nobody_overlaps_when_dflock_is_killed() {
    for args in [&[][..], &[KEEPS]] {
        for script in ["", "(", "trap '' TERM HUP; ("] {
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
        }
    }
}

#[test]
fn nobody_overlaps_when_the_guard_is_killed_and_then_the_way_is_silent() {
    let scene = Scene::new(&[]);
    let first = scene.first(&[]);
    let guard = first.guard();
    let _second = scene.second();
    assert!(signal(guard, "KILL"));
    thread::sleep(Duration::from_millis(1500));
    scene.proxy.set(Net::Silent);
    assert_eq!(scene.late(), 0);
    assert_eq!(first.end().status, 120);
}

#[test]
fn a_guard_that_was_killed_has_a_successor() {
    let scene = Scene::new(&[]);
    let first = scene.first(&[]);
    let guard = first.guard();
    let _second = scene.second();
    assert!(signal(guard, "KILL"));
    eventually("there is another", || {
        let now = first.guard();
        now != guard && is_alive(now)
    });
    thread::sleep(Duration::from_millis(50));
    first.signal("STOP");
    assert_eq!(scene.late(), 0);
    first.signal("CONT");
    assert_eq!(first.end().status, 120);
}

#[test]
fn a_guard_that_is_frozen_does_no_harm() {
    let scene = Scene::new(&[]);
    let first = scene.first(&[]);
    let guard = first.guard();
    let _second = scene.second();
    assert!(signal(guard, "STOP"));
    thread::sleep(Duration::from_millis(1500));
    scene.proxy.set(Net::Silent);
    assert_eq!(scene.late(), 0);
    let mut first = first;
    assert_eq!(first.status(), 120);
    signal(guard, "KILL");
}

/// The lease is counted from the moment when it was asked for, so the server thinks it over when it has been so for a
/// while. Every other command is deaf to TERM.
#[test]
fn of_a_lost_lock_the_command_is_dead_before_the_lease_ends() {
    let tries = env::var("TRIES").map_or(20, |text| text.parse().expect("a number"));
    let (mut next, mut least) = (0, [u64::MAX; 2]);
    while next < tries {
        let round = next..tries.min(next + 10);
        next = round.end;
        let scenes: Vec<(usize, Scene)> = round.map(|n| (n, Scene::new(&[]))).collect();
        let start = |(n, scene): &(usize, Scene)| {
            let trap = ["", "trap '' TERM; "][n % 2];
            let script = format!("{trap}{}", beats(&scene.file()));
            [scene.first_with(&[], &script), scene.second()]
        };
        let runs: Vec<[Run; 2]> = scenes.iter().map(start).collect();
        for (n, scene) in &scenes {
            // Somewhere between two renewals.
            thread::sleep(Duration::from_millis(*n as u64 * 37 % 100));
            scene.proxy.set(Net::Silent);
        }
        for (n, scene) in &scenes {
            assert_eq!(scene.late(), 0, "try {n}");
            let pause = pause(&fs::read_to_string(scene.file()).unwrap());
            least[n % 2] = pause.min(least[n % 2]);
        }
        drop(runs);
    }
    println!("of {tries} the least pause was {least:?} us, the second of the deaf");
    assert!(
        least[0] > 100_000,
        "TERM comes a quarter of the lease before KILL: {least:?}"
    );
}

/// The microseconds between the last beat of the first and the first of the second.
fn pause(beats: &str) -> u64 {
    let mut beats = beats.lines().map(|line| line.split_once(' ').unwrap());
    let (first, mut last) = beats.next().unwrap();
    for (pid, time) in beats {
        if pid != first {
            return time.parse::<u64>().unwrap() - last.parse::<u64>().unwrap();
        }
        last = time;
    }
    panic!("nobody came second");
}

#[test]
fn what_a_command_leaves_behind_is_dead_before_the_next_has_the_lock() {
    let daemon = Daemon::start(&[]);
    let folder = Folder::new();
    let file = folder.path("beats");
    let beats = beats(&file);
    // It is deaf to TERM, and to the end of the terminal.
    let script = format!("(trap '' TERM HUP; {beats}) & until [ -s {file} ]; do sleep 0.01; done");
    let first = Run::start(at(
        daemon.addr,
        &["k", "-c", &format!("{script}; read line; true")],
    ));
    holders(&file, 1);
    let second = Run::start(at(daemon.addr, &["k", "-c", &beats]));
    eventually("it waits", || waiters(&daemon, "k") == 1);
    let mut first = first;
    first.close();
    assert_eq!(first.status(), 0);
    holders(&file, 2);
    thread::sleep(Duration::from_millis(200));
    drop(second);
    assert_eq!(judge(&file).1, [0; 0]);
}
