//! A server with a state directory, which is killed or stopped and started again at the same address. Invariant: there is
//! one server at a time, and the folder ends with the value.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Daemon, dflockd, free_port};

pub struct Lasting {
    folder: PathBuf,
    args: Vec<String>,
    /// None while it is away.
    daemon: Option<Daemon>,
    pub addr: SocketAddr,
}

impl Lasting {
    pub fn start(args: &[&str]) -> Lasting {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lasting-{}-{count}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // Another program may have had the same id.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let port = free_port();
        let own = [
            format!("--port={port}"),
            format!("--state-dir={}", folder.display()),
        ];
        let args = args.iter().map(|arg| arg.to_string());
        let mut lasting = Lasting {
            folder,
            args: own.into_iter().chain(args).collect(),
            daemon: None,
            addr: ([127, 0, 0, 1], port).into(),
        };
        lasting.comes_back();
        lasting
    }

    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it is there")
    }

    /// Ends it by a unix signal.
    pub fn goes(&mut self, signal: &str) {
        let daemon = self.daemon.take().expect("it is there");
        daemon.signal(signal);
        daemon.end();
    }

    pub fn comes_back(&mut self) {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        self.daemon = Some(Daemon::launch(dflockd(&args)).expect("it starts"));
    }

    /// It finds no journal when it comes back, as after a loss of power.
    pub fn loses_its_journal(&self) {
        fs::remove_dir_all(self.folder.join("journal")).expect("there is one");
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        self.daemon = None;
        // If it stays, it is in Cargo's folder for such things.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
