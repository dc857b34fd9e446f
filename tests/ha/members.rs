//! Three members of etcd on loopback, each of which can die, stop and come back. Invariant: none of them, and nothing of what
//! they keep, is left when the value is dropped.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{PATIENCE, free_port};

/// How many there are.
pub const COUNT: usize = 3;

pub struct Members {
    folder: PathBuf,
    members: Vec<Member>,
}

struct Member {
    args: Vec<String>,
    addr: SocketAddr,
    log: PathBuf,
    child: Child,
}

impl Members {
    /// Three that are ready. They miss each other after 200 ms.
    pub fn start() -> Members {
        static LIVES: AtomicU32 = AtomicU32::new(0);
        let number = LIVES.fetch_add(1, Ordering::Relaxed);
        let name = format!("ha-{}-{number}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // Another program may have had the same id.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let ports: Vec<[u16; 2]> = (0..COUNT).map(|_| [free_port(), free_port()]).collect();
        let peer = |at: usize| format!("http://127.0.0.1:{}", ports[at][1]);
        let all: Vec<String> = (0..COUNT).map(|at| format!("m{at}={}", peer(at))).collect();
        let members = (0..COUNT).map(|at| {
            let url = format!("http://127.0.0.1:{}", ports[at][0]);
            let args: Vec<String> = [
                ("name", format!("m{at}")),
                (
                    "data-dir",
                    folder.join(format!("m{at}")).display().to_string(),
                ),
                ("listen-client-urls", url.clone()),
                ("advertise-client-urls", url),
                ("listen-peer-urls", peer(at)),
                ("initial-advertise-peer-urls", peer(at)),
                ("initial-cluster", all.join(",")),
                ("heartbeat-interval", "20".to_string()),
                ("election-timeout", "200".to_string()),
            ]
            .into_iter()
            .map(|(name, value)| format!("--{name}={value}"))
            .collect();
            let log = folder.join(format!("m{at}.log"));
            Member {
                child: launch(&args, &log),
                args,
                addr: ([127, 0, 0, 1], ports[at][0]).into(),
                log,
            }
        });
        let members = Members {
            members: members.collect(),
            folder,
        };
        let start = Instant::now();
        while members.leader().is_none() {
            assert!(start.elapsed() < PATIENCE, "etcd has a leader, in time");
            // Nothing tells of an election; the pause leaves the processors to it.
            thread::sleep(Duration::from_millis(20));
        }
        members
    }

    /// Where clients of a member go.
    pub fn addr(&self, at: usize) -> SocketAddr {
        self.members[at].addr
    }

    /// Which of them leads, if one does.
    pub fn leader(&self) -> Option<usize> {
        (0..COUNT).find(|&at| {
            let Some(status) = ask(self.members[at].addr, "/v3/maintenance/status") else {
                return false;
            };
            let (leader, own) = (&status["leader"], &status["header"]["member_id"]);
            leader.is_string() && leader != "0" && leader == own
        })
    }

    pub fn kill(&mut self, at: usize) {
        let child = &mut self.members[at].child;
        // It fails only if the child has ended already.
        let _ = child.kill();
        child.wait().expect("a child can be waited for");
    }

    pub fn comes_back(&mut self, at: usize) {
        let member = &mut self.members[at];
        member.child = launch(&member.args, &member.log);
    }

    pub fn signal(&self, at: usize, name: &str) {
        assert!(
            signal(self.members[at].child.id(), name),
            "member {at} runs"
        );
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for at in 0..COUNT {
            self.kill(at);
        }
        if !thread::panicking() {
            // If it stays, it is in Cargo's folder for such things.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Sends a process a unix signal, by the name that kill(1) knows. Whether there was such a process.
pub fn signal(pid: u32, name: &str) -> bool {
    let script = format!("kill -s {name} {pid} 2>/dev/null");
    let status = Command::new("sh").args(["-c", &script]).status();
    status.expect("there is a shell").success()
}

fn launch(args: &[String], log: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    let program = std::env::var("ETCD").unwrap_or_else(|_| "etcd".to_string());
    let mut command = Command::new(&program);
    command.args(args).stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap_or_else(|e| {
        panic!("{program}: {e}; install etcd-server, or name the program with ETCD=PATH")
    })
}

/// What a member says of itself; None if it does not answer within a second.
fn ask(addr: SocketAddr, path: &str) -> Option<serde_json::Value> {
    let second = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&addr, second).ok()?;
    stream.set_read_timeout(Some(second)).unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str(body).ok()
}
