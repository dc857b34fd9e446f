//! The two daemons, each started again whenever it has ended, as a service manager does it. Who leads is told to the clients as
//! soon as its log says so. Invariant: a daemon that ends for another reason than a signal or the loss of its lead fails the
//! test.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::board::{Board, Place};
use crate::daemon::{PATIENCE, dflockd, free_port};
use crate::members::signal;
use crate::record::{Record, What};

/// EX_TEMPFAIL of sysexits(3): another one may lead.
const LOST: i32 = 75;

pub struct Nodes<'a> {
    pub nodes: Vec<Node>,
    board: &'a Board,
    record: &'a Record,
    /// Who leads: the node and the number of its server.
    leader: Mutex<Option<(usize, u64)>>,
    /// The numbers of those that led and have ended.
    ended: Mutex<Vec<u64>>,
    /// How often a server has begun to lead.
    leads: AtomicU64,
    is_over: AtomicBool,
    /// What has gone wrong, and what all have said.
    wrong: Mutex<Vec<String>>,
    log: Mutex<Vec<String>>,
}

pub struct Node {
    args: Vec<String>,
    place: Place,
    /// 0 while there is none.
    pid: AtomicU32,
    /// How long after its end it is started again, in milliseconds.
    pause: AtomicU64,
}

impl<'a> Nodes<'a> {
    /// Two nodes that find etcd at these addresses, with these options.
    pub fn new(etcd: [String; 2], options: &[&str], board: &'a Board, record: &'a Record) -> Self {
        let nodes = etcd.into_iter().map(|etcd| {
            let [line, distlockd, http] = [free_port(), free_port(), free_port()];
            let own = [
                format!("--port={line}"),
                format!("--distlockd-port={distlockd}"),
                format!("--http-port={http}"),
                format!("--etcd={etcd}"),
            ];
            let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
            Node {
                args: own
                    .into_iter()
                    .chain(options.iter().map(ToString::to_string))
                    .collect(),
                place: Place {
                    number: 0,
                    line: at(line),
                    distlockd: at(distlockd),
                    http: at(http),
                    secure: false,
                },
                pid: AtomicU32::new(0),
                pause: AtomicU64::new(0),
            }
        });
        Nodes {
            nodes: nodes.collect(),
            board,
            record,
            leader: Mutex::new(None),
            ended: Mutex::default(),
            leads: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            wrong: Mutex::default(),
            log: Mutex::default(),
        }
    }

    /// Keeps a node alive until the end.
    pub fn keep(&self, at: usize) {
        let node = &self.nodes[at];
        while !self.is_over.load(Ordering::SeqCst) {
            let args: Vec<&str> = node.args.iter().map(String::as_str).collect();
            let child = dflockd(&args)
                .stdin(Stdio::null())
                .stderr(Stdio::piped())
                .spawn();
            self.live(at, child.expect("it can be run"));
            // A service manager pauses before it starts a service again, and a fault may make that longer.
            thread::sleep(Duration::from_millis(node.pause.swap(0, Ordering::SeqCst)));
        }
    }

    /// One life of a node.
    fn live(&self, at: usize, mut child: Child) {
        let node = &self.nodes[at];
        node.pid.store(child.id(), Ordering::SeqCst);
        if self.is_over.load(Ordering::SeqCst) {
            // It fails only if the child has ended already.
            let _ = child.kill();
        }
        let log = child.stderr.take().expect("it is a pipe");
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if line.contains(" info dflockd listening addr=") {
                self.leads(at);
            }
            self.note(at, line);
        }
        let status = child.wait().expect("a child can be waited for");
        node.pid.store(0, Ordering::SeqCst);
        self.note(at, format!("ended: {status}"));
        self.gives_up(at);
        if !matches!(status.code(), None | Some(0 | LOST)) {
            let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
            wrong.push(format!("node {at} has ended with {status}"));
        }
    }

    fn note(&self, at: usize, line: String) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(format!("{at}: {line}"));
    }

    fn leads(&self, at: usize) {
        let number = self.record.number();
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, number));
        self.leads.fetch_add(1, Ordering::SeqCst);
        let place = Place {
            number,
            ..self.nodes[at].place
        };
        self.board.announce(Some(place));
    }

    /// A node has ended: if it led, nobody leads.
    fn gives_up(&self, at: usize) {
        let mut leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, server)) = leader.take_if(|(node, _)| *node == at) {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.push(server);
            self.board.announce(None);
        }
    }

    /// The node that leads.
    pub fn leader(&self) -> Option<usize> {
        let leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        leader.map(|(at, _)| at)
    }

    /// Whether this server led and has ended.
    pub fn has_ended(&self, server: u64) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.contains(&server)
    }

    /// How often a server has begun to lead.
    pub fn takeovers(&self) -> u64 {
        self.leads.load(Ordering::SeqCst)
    }

    /// Whoever leads may end because of what comes now.
    pub fn announce_fault(&self) {
        let leader = *self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, server)) = leader {
            self.record.note(0, What::Down { server });
        }
    }

    /// Waits until somebody leads.
    pub fn has_leader(&self) -> usize {
        let start = Instant::now();
        loop {
            if let Some(at) = self.leader() {
                return at;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "somebody leads, in time\n{}",
                self.told(40)
            );
            // The pause leaves the processors to those that are waited for.
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where the clients of a node go.
    pub fn place(&self, at: usize) -> Place {
        self.nodes[at].place
    }

    /// Sends a node a unix signal, if it runs. It is started again so many milliseconds after its end.
    pub fn signal(&self, at: usize, name: &str, pause: u64) {
        let node = &self.nodes[at];
        node.pause.store(pause, Ordering::SeqCst);
        let pid = node.pid.load(Ordering::SeqCst);
        // It may have ended by itself meanwhile; nobody else has its id as long as it was not waited for.
        if pid > 0 {
            signal(pid, name);
        }
    }

    /// What has gone wrong so far.
    pub fn wrong(&self) -> Vec<String> {
        self.wrong
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The last lines that the nodes have said.
    pub fn told(&self, count: usize) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log[log.len().saturating_sub(count)..].join("\n")
    }

    /// No node is started again, and those that run are killed.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        for at in 0..self.nodes.len() {
            self.signal(at, "KILL", 0);
        }
    }
}

/// However a test ends, nobody waits for another server.
pub struct Ends<'a>(pub &'a Nodes<'a>);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.board.end();
        self.0.end();
    }
}
