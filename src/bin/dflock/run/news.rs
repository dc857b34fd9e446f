//! The lines on stderr about a server that is out of reach. The first second is silent, because most troubles are over
//! by then; the same words are told once a minute. Invariant: the end of a problem is reported if and only if the problem was.

use std::mem;

use dflockd::command::{SECOND, Us};
use dflockd::sys;

use crate::failure::report;

/// Nothing is told before dflock has run for so long, unless `-v` asks for it.
const SILENCE: Us = SECOND;
/// The same trouble is told again after this time.
const AGAIN: Us = 60 * SECOND;

/// What is told of the way to a server.
pub struct News {
    from: Us,
    /// A trouble that began in the silence and is not over.
    kept: Option<String>,
    /// What was told within the last minute, and when: a path may break and heal again and again.
    told: Vec<(String, Us)>,
    /// A trouble was told and is not over.
    is_open: bool,
}

impl News {
    pub fn new(verbose: bool) -> News {
        let from = match verbose {
            true => 0,
            false => sys::now().saturating_add(SILENCE),
        };
        News {
            from,
            kept: None,
            told: Vec::new(),
            is_open: false,
        }
    }

    /// Ends the silence: what concerns a lock that is held cannot wait.
    pub fn tell_at_once(&mut self) {
        self.from = 0;
        self.tell_kept();
    }

    /// There is trouble. It is told as soon as it may be.
    pub fn trouble(&mut self, text: &str) {
        self.kept = Some(text.to_string());
        self.tell_kept();
    }

    /// The trouble is over.
    pub fn over(&mut self, text: &str) {
        self.kept = None;
        if mem::take(&mut self.is_open) {
            report(text);
        }
    }

    /// When [`News::tell_kept`] has something to tell.
    pub fn due(&self) -> Us {
        match self.kept {
            Some(_) => self.from,
            None => Us::MAX,
        }
    }

    /// Tells of a trouble that has outlasted the silence.
    pub fn tell_kept(&mut self) {
        let now = sys::now();
        if now < self.from {
            return;
        }
        let Some(text) = self.kept.take() else { return };
        self.told.retain(|&(_, at)| now < at.saturating_add(AGAIN));
        if !self.told.iter().any(|(told, _)| *told == text) {
            report(&text);
            self.told.push((text, now));
            self.is_open = true;
        }
    }
}
