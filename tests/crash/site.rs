//! A server's home: its folders, and the options that all of its lives have. Invariant: nothing of it is left when the test
//! is over, however that ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::daemon::{Daemon, dflockd};

/// The doors of all faces.
const DOORS: &[&str] = &["--port=0", "--distlockd-port=0", "--http-port=0"];

pub struct Site {
    folder: PathBuf,
    options: Vec<String>,
}

impl Site {
    /// One with a ledger and a journal in two folders.
    pub fn new(options: &[&str]) -> Site {
        let mut site = Site::unprotected(options);
        for (option, folder) in [("--state-dir", "state"), ("--run-dir", "run")] {
            let folder = site.folder.join(folder);
            fs::create_dir_all(&folder).unwrap();
            site.options.push(format!("{option}={}", folder.display()));
        }
        site
    }

    /// One with a ledger alone, so that each start waits.
    pub fn with_ledger(options: &[&str]) -> Site {
        let mut site = Site::unprotected(options);
        fs::create_dir_all(&site.folder).unwrap();
        let file = site.path("ledger");
        site.options.push(format!("--fence-state-file={file}"));
        site
    }

    /// One that forgets everything at a restart.
    pub fn unprotected(options: &[&str]) -> Site {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("crash-{}-{number}", std::process::id());
        Site {
            folder: Path::new(env!("CARGO_TARGET_TMPDIR")).join(name),
            options: options.iter().map(ToString::to_string).collect(),
        }
    }

    /// The path of a file for the test itself.
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Whether each start waits.
    pub fn has_ledger_alone(&self) -> bool {
        self.folder.exists() && !self.has_journal()
    }

    pub fn has_journal(&self) -> bool {
        self.folder.join("run").exists()
    }

    /// The server's command line, with these options for one life more.
    pub fn command(&self, more: &[String]) -> Command {
        let mut command = dflockd(DOORS);
        command.args(&self.options).args(more);
        command
    }

    /// A server that is ready.
    #[track_caller]
    pub fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    #[track_caller]
    pub fn start_with(&self, more: &[String]) -> Daemon {
        Daemon::launch(self.command(more)).unwrap_or_else(|end| panic!("it starts: {end:?}"))
    }

    /// Removes the journal, as a power cut does. False if there is none.
    pub fn lose_journal(&self) -> bool {
        let folder = self.folder.join("run");
        if !folder.exists() {
            return false;
        }
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        true
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // It may have no folder.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
