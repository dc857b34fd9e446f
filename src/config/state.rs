//! The options of restart safety together: where the ledger is, and where the journal. Invariant: an option that needs a
//! ledger or a journal is an error without it; a folder that only the service manager names is not.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{OPTIONS, Reading};
use crate::command::Us;

/// The name of the ledger in the folder of `--state-dir`.
const LEDGER: &str = "ledger";

/// The files that outlive the process. Without a ledger there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The file that survives a loss of power.
    pub ledger: Option<PathBuf>,
    /// The folder with the journal, which survives the process. It is never there without a ledger.
    pub journal: Option<PathBuf>,
    /// Without a ledger: how long after the start nothing is granted, in microseconds.
    pub restart_grace: Us,
    /// Whether a ledger that cannot be used is begun anew.
    pub reset: bool,
    /// Whether SIGTERM stops the server without a drain.
    pub handover: bool,
}

impl State {
    /// The ledger of a folder.
    pub(super) fn ledger_in(folder: &Path) -> PathBuf {
        folder.join(LEDGER)
    }
}

impl Reading {
    /// Uses the folders that a service manager hands over (`StateDirectory=` and `RuntimeDirectory=` in systemd.exec(5)),
    /// where no setting names one. A journal without a ledger would be of no use, and with etcd both would.
    pub(super) fn folders(&mut self, env: impl Fn(&str) -> Option<OsString>) -> Result<(), String> {
        if self.config.etcd.is_there() {
            return Ok(());
        }
        if self.config.state.ledger.is_none() {
            self.folder("state-dir", "STATE_DIRECTORY", &env)?;
        }
        if self.config.state.ledger.is_some() && self.config.state.journal.is_none() {
            self.folder("run-dir", "RUNTIME_DIRECTORY", &env)?;
        }
        Ok(())
    }

    /// Gives an option the first of the folders in a variable.
    fn folder(
        &mut self,
        option: &str,
        variable: &str,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<(), String> {
        let Some(folders) = env(variable).filter(|value| !value.is_empty()) else {
            return Ok(());
        };
        let option = OPTIONS.iter().find(|known| known.name == option);
        let option = option.expect("each folder is an option");
        self.apply(option, variable, &first_of(folders))
    }

    /// The warning about a ledger that another life of this server has left, of which etcd knows nothing.
    pub(super) fn idle_ledger(&self, env: impl Fn(&str) -> Option<OsString>) -> Option<String> {
        if !self.config.etcd.is_there() || self.config.state.restart_grace > 0 {
            return None;
        }
        let folder = env("STATE_DIRECTORY").filter(|value| !value.is_empty())?;
        let ledger = State::ledger_in(Path::new(&first_of(folder)));
        ledger.exists().then(|| {
            format!(
                "the ledger {ledger:?} is of a server without --etcd, and its locks are not known here: if they may still \
                 be held, start once with --restart-grace SECONDS, as long as the longest lease"
            )
        })
    }

    /// Finds a place for the journal, and what does not fit together.
    pub(super) fn check_state(&mut self) -> Result<(), String> {
        let said = |name| Some(self.settings.from(name)).filter(|from| *from != "default");
        let (folder, file) = (said("state-dir"), said("fence-state-file"));
        if let (Some(folder), Some(file)) = (folder, file) {
            return Err(format!(
                "{file} and {folder} both name a ledger: leave one of them out"
            ));
        }
        if let (Some(grace), Some(ledger)) = (said("restart-grace"), folder.or(file)) {
            return Err(format!(
                "{grace}: with {ledger} the server knows itself how long it has to wait: leave one of them out"
            ));
        }
        let state = &self.config.state;
        let is_on = |name, is_on: bool| said(name).filter(|_| is_on);
        let handover = is_on("handover", state.handover);
        if state.ledger.is_none() {
            let reset = is_on("reset-state", state.reset);
            if let Some(from) = handover.or(reset).filter(|_| self.config.etcd.is_there()) {
                return Err(format!(
                    "{from}: with --etcd no file keeps the locks, and each stop hands over: leave it out"
                ));
            }
            return match said("run-dir").or(handover).or(reset) {
                Some(from) => Err(format!("{from} needs --state-dir")),
                None => Ok(()),
            };
        }
        if folder.is_some() && state.journal.is_none() {
            let ledger = state.ledger.as_deref();
            let beside = ledger.and_then(Path::parent).map(Path::to_path_buf);
            self.config.state.journal = beside;
        } else if let (None, Some(from)) = (&state.journal, handover) {
            return Err(format!("{from} needs --run-dir"));
        }
        Ok(())
    }
}

/// The first of the folders in a variable, which have colons between.
fn first_of(folders: OsString) -> OsString {
    match folders.to_str().and_then(|text| text.split_once(':')) {
        Some((first, _)) => first.into(),
        None => folders,
    }
}
