//! Keeps the facts of a turn before any byte that follows from them leaves: first the ledger, which survives the power,
//! then the journal, which survives the process. It starts the lock table with what the former life of the server has
//! left. Invariant: with a ledger, when `keep` returns, a server that is started after a crash grants nothing that a client
//! still counts on.

use std::fmt::Display;
use std::io;
use std::path::Path;

use super::settings::Life;
use super::{later, unix_us};
use crate::command::{SECOND, Us};
use crate::config::{Config, LONG_LEASE};
use crate::facts::{Facts, Protection};
use crate::hub::Hub;
use crate::log::Log;
use crate::store::journal::Fault;
use crate::store::journal::{self, Identity, Journal, Recovered};
use crate::store::ledger::{self, Ledger, Record};
use crate::store::sweep::Sweep;
use crate::sys;

/// Fences that are reserved at once: 2^32 grants are hours, so the disk is left alone between two starts.
const FENCES: u64 = 1 << 32;
/// The longest lease on record falls at most this often.
const FALL: Us = 60 * SECOND;

/// The message when the kernel hides the id of the boot. Without it no journal can be trusted.
const BOOT: &str = "cannot read /proc/sys/kernel/random/boot_id, which the journal needs";

/// How much of the former life's journal goes on.
enum Adopted {
    /// All of it goes on.
    All(Box<Hub>),
    /// There is none that can be used: a new one may begin.
    Nothing(journal::Lock),
}

/// The files that outlive the process.
pub(super) struct Keep {
    ledger: Option<Ledger>,
    journal: Option<Journal>,
    /// The longest lease on record is never less.
    floor: Us,
    /// When the longest lease on record may fall.
    falls: Us,
    sweep: Sweep,
    has_warned: bool,
}

impl Keep {
    /// Keeps nothing in files: a store that servers share does.
    pub fn nothing() -> Keep {
        Keep {
            ledger: None,
            journal: None,
            floor: 0,
            falls: Us::MAX,
            sweep: Sweep::default(),
            has_warned: false,
        }
    }

    /// Opens the files, and makes the hub with the holds of the former life. `hub` makes one that has none. `clock` is read
    /// when the files are ours: until then another server may still promise something.
    ///
    /// # Errors
    /// A file cannot be used, and what to do about it.
    pub fn start(
        config: &Config,
        clock: impl Fn() -> Us,
        hub: impl Fn(Life) -> io::Result<Hub>,
        log: &mut Log,
    ) -> io::Result<(Keep, Hub)> {
        let mut keep = Keep {
            floor: rounded(config.longest_lease()),
            falls: clock().saturating_add(FALL),
            ..Keep::nothing()
        };
        let Some(path) = &config.state.ledger else {
            let hub = hub(Life {
                opens: later(clock(), config.state.restart_grace),
                first_fence: sys::unix_now_ns().max(1),
                attempt_secret: drawn()?,
                protection: Protection::Nothing,
            })?;
            return Ok((keep, hub));
        };
        let (ledger, found) = Ledger::open(path, config.state.reset).map_err(failed)?;
        keep.ledger = Some(ledger);
        let former = keep.former(found, config, log)?;
        let lock = match &config.state.journal {
            None => None,
            Some(folder) => match keep.adopt(&former, folder, &clock, &hub, log)? {
                Adopted::All(hub) => return Ok((keep, *hub)),
                Adopted::Nothing(lock) => Some(lock),
            },
        };
        let (opens, first_fence) = keep.begin_epoch(&former, clock())?;
        if let Some(lock) = lock {
            let identity = keep.identity(keep.record())?;
            let journal = Journal::begin(lock, identity, opens, first_fence - 1);
            keep.journal = Some(journal.map_err(failed)?);
        }
        let hub = hub(Life {
            opens,
            first_fence,
            attempt_secret: former.id,
            protection: keep.protection(),
        })?;
        Ok((keep, hub))
    }

    /// The record that the former life has left in the ledger.
    fn former(&self, found: ledger::Found, config: &Config, log: &mut Log) -> io::Result<Record> {
        let longest = match found {
            ledger::Found::Kept(record) => return Ok(record),
            ledger::Found::New | ledger::Found::Empty => {
                let has_holds = match (&config.state.ledger, &config.state.journal) {
                    (Some(ledger), Some(folder))
                        if Journal::is_there(folder).map_err(failed)? =>
                    {
                        if !config.state.reset {
                            return Err(lost(ledger, folder));
                        }
                        true
                    }
                    _ => false,
                };
                let was_there = found == ledger::Found::Empty;
                if was_there {
                    log.warn(unix_us(), "ledger-empty", &[]);
                }
                match has_holds || was_there {
                    true => self.unknown(config),
                    false => 0,
                }
            }
            ledger::Found::Reset => self.unknown(config),
        };
        Ok(Record {
            id: drawn()?,
            longest,
            ..Record::default()
        })
    }

    /// How long leases may be that a lost ledger has promised, as far as the options tell.
    fn unknown(&self, config: &Config) -> Us {
        let of_http = config.http.port.map_or(0, |_| config.http.max_timeout);
        config.max_lease.unwrap_or(self.floor.max(of_http))
    }

    /// Goes on with the journal of the former life, if that can be used.
    fn adopt(
        &mut self,
        former: &Record,
        folder: &Path,
        clock: impl Fn() -> Us,
        hub: impl Fn(Life) -> io::Result<Hub>,
        log: &mut Log,
    ) -> io::Result<Adopted> {
        let (lock, found) = Journal::find(folder, &self.identity(former)?).map_err(failed)?;
        let now = clock();
        let why = match found {
            journal::Found::Nothing if former.longest == 0 => return Ok(Adopted::Nothing(lock)),
            journal::Found::Nothing => "there is none".to_string(),
            journal::Found::Unusable(why) => why,
            journal::Found::Whole(recovered) => match recover(&recovered, former.id, now, &hub)? {
                Some(hub) => {
                    self.go_on(former, &recovered, hub.locks().left(now))?;
                    self.journal = Some(Journal::go_on(lock, &recovered).map_err(failed)?);
                    return Ok(Adopted::All(Box::new(hub)));
                }
                None => "its holds do not fit together".to_string(),
            },
        };
        log.warn(unix_us(), "journal-unusable", &[("why", &why)]);
        Ok(Adopted::Nothing(lock))
    }

    /// The facts of the hub so far are kept when this returns.
    ///
    /// # Errors
    /// The ledger cannot be written, or a journal neither written nor put aside: nothing may be sent any more.
    #[inline(always)]
    pub fn keep(&mut self, now: Us, hub: &mut Hub, log: &mut Log) -> io::Result<()> {
        match hub.facts().is_empty() {
            true => Ok(()),
            false => self.keep_facts(now, hub, log),
        }
    }

    // Apart, because `keep` stands before each write, and most writes have no facts before them.
    #[inline(never)]
    fn keep_facts(&mut self, now: Us, hub: &mut Hub, log: &mut Log) -> io::Result<()> {
        if self.ledger.is_none() {
            return Ok(());
        }
        let facts = hub.facts();
        let record = self.record();
        if facts.longest() > record.longest || facts.last_fence() >= record.ceiling {
            self.raise(now, facts, log)?;
        }
        if let Some(journal) = &mut self.journal {
            let last = hub.locks().fence();
            let appended = journal.append(hub.facts().bytes(), last);
            let sweeps = self.sweep.is_under_way() || journal.wants_sweep();
            let swept = appended.and_then(|()| match sweeps {
                true => self.sweep_on(hub),
                false => Ok(()),
            });
            if let Err(fault) = swept {
                self.abandon(fault, log)?;
                hub.set_protection(self.protection());
            }
        }
        hub.kept();
        Ok(())
    }

    /// A turn is over: one segment that is not needed is dropped, and the longest lease on record falls if it can.
    ///
    /// # Errors
    /// The ledger cannot be written.
    #[inline]
    pub fn end_turn(&mut self, now: Us, hub: &mut Hub, log: &mut Log) -> io::Result<()> {
        match self.ledger {
            None => Ok(()),
            Some(_) => self.tidy_up(now, hub, log),
        }
    }

    fn tidy_up(&mut self, now: Us, hub: &mut Hub, log: &mut Log) -> io::Result<()> {
        self.keep(now, hub, log)?;
        if let Some(journal) = &mut self.journal
            && let Err(fault) = journal.drop_one()
        {
            log.warn(unix_us(), "journal-segment", &[("error", &fault)]);
        }
        if now >= self.falls {
            self.falls = now.saturating_add(FALL);
            self.fall(now, hub)?;
            let removed = self
                .journal
                .as_ref()
                .filter(|journal| !journal.is_in_place());
            if let Some(fault) = removed.map(Journal::removed) {
                self.abandon(fault, log)?;
                hub.set_protection(self.protection());
            }
        }
        Ok(())
    }

    /// When there is something to do although no client wants anything.
    #[inline]
    pub fn deadline(&self) -> Option<Us> {
        let ledger = self.ledger.as_ref()?;
        (ledger.record().longest > self.floor).then_some(self.falls)
    }

    /// The server stops: the ledger has what is really left.
    ///
    /// # Errors
    /// The ledger cannot be written. What it has serves as well, and means a longer wait.
    pub fn stop(&mut self, now: Us, hub: &Hub) -> io::Result<()> {
        if self.ledger.is_none() {
            return Ok(());
        }
        let left = hub.locks().left(now).max(hub.locks().opens_in(now));
        let record = self.record();
        self.write(Record {
            longest: left,
            ..*record
        })
    }

    /// How well holds are kept.
    pub fn protection(&self) -> Protection {
        match (&self.ledger, &self.journal) {
            (None, _) => Protection::Nothing,
            (Some(_), None) => Protection::Ledger,
            (Some(_), Some(_)) => Protection::Journal,
        }
    }

    /// The identity of a journal that belongs to this record.
    fn identity(&self, record: &Record) -> io::Result<Identity> {
        let ledger = self.ledger.as_ref().expect("a journal has a ledger");
        let boot = sys::boot::id().map_err(|e| io::Error::new(e.kind(), format!("{BOOT}: {e}")))?;
        Ok(Identity {
            ledger: record.id,
            epoch: record.epoch,
            boot,
            time_namespace: sys::boot::time_namespace(),
            file: ledger.inode().map_err(failed)?,
        })
    }

    fn record(&self) -> &Record {
        let ledger = self.ledger.as_ref();
        ledger.expect("facts are there only with a ledger").record()
    }

    fn write(&mut self, record: Record) -> io::Result<()> {
        let ledger = self.ledger.as_mut();
        let ledger = ledger.expect("facts are there only with a ledger");
        ledger.write(record).map_err(failed)
    }

    /// Nothing of the former life is carried on: from now on its journal is an old one, and its leases are waited for.
    /// Returns when that is over, and the first fence.
    fn begin_epoch(&mut self, former: &Record, now: Us) -> io::Result<(Us, u64)> {
        let first = former.ceiling.max(sys::unix_now_ns()).max(1);
        let longest = former.longest;
        self.write(Record {
            epoch: former.epoch + 1,
            ceiling: first.saturating_add(FENCES),
            longest: longest.max(self.floor),
            ..*former
        })?;
        // No two clocks go equally fast.
        Ok((later(now, longest.saturating_add(longest / 100)), first))
    }

    /// All of the former life is carried on, with leases of up to `left`.
    fn go_on(&mut self, former: &Record, recovered: &Recovered, left: Us) -> io::Result<()> {
        let is_reserved = recovered.first_fence <= former.ceiling;
        let least = self.floor.max(rounded(left));
        if is_reserved && former.longest >= least {
            return Ok(());
        }
        self.write(Record {
            ceiling: former
                .ceiling
                .max(recovered.first_fence.saturating_add(FENCES)),
            longest: former.longest.max(least),
            ..*former
        })
    }

    /// The ledger must have more, before a client is told.
    #[cold]
    fn raise(&mut self, now: Us, facts: &Facts, log: &mut Log) -> io::Result<()> {
        let mut record = *self.record();
        if facts.longest() > record.longest {
            record.longest = rounded(facts.longest());
            self.falls = now.saturating_add(FALL);
        }
        if facts.last_fence() >= record.ceiling {
            record.ceiling = facts.last_fence().saturating_add(FENCES);
        }
        if facts.longest() > LONG_LEASE && !std::mem::replace(&mut self.has_warned, true) {
            let seconds = facts.longest() / SECOND;
            log.warn(unix_us(), "long-lease", &[("seconds", &seconds)]);
        }
        self.write(record)
    }

    /// The longest lease on record becomes what is held, if that is less. In a quarantine others count on it.
    #[cold]
    fn fall(&mut self, now: Us, hub: &Hub) -> io::Result<()> {
        if self.ledger.is_none() || hub.locks().opens_in(now) > 0 {
            return Ok(());
        }
        let longest = hub.locks().longest_told().max(self.floor);
        let record = self.record();
        if longest >= record.longest {
            return Ok(());
        }
        self.write(Record { longest, ..*record })
    }

    /// States some more holds again, two for each fact, so that the sweep ends although holds go on to begin.
    #[cold]
    fn sweep_on(&mut self, hub: &Hub) -> Result<(), Fault> {
        let journal = self.journal.as_mut().expect("it was just appended to");
        if !self.sweep.is_under_way() {
            journal.begin_sweep();
            self.sweep.begin();
        }
        let places = hub.facts().count().saturating_mul(2);
        let locks = hub.locks();
        let (restated, end) = self
            .sweep
            .go_on(|from, facts| locks.restate(from, places, facts));
        journal.append(restated, locks.fence())?;
        match end {
            Some(stated) => journal.end_sweep(stated),
            None => Ok(()),
        }
    }

    /// The journal lacks a fact: it is put aside, so that nobody uses it, and the server goes on under the ledger alone.
    #[cold]
    fn abandon(&mut self, fault: Fault, log: &mut Log) -> io::Result<()> {
        let journal = self.journal.take().expect("it has just failed");
        self.sweep = Sweep::default();
        log.error(unix_us(), "journal-lost", &[("error", &fault)]);
        journal.abandon().map_err(failed)
    }
}

/// The hub with the holds of the former life; None if they do not fit together.
fn recover(
    recovered: &Recovered,
    attempt_secret: [u8; 16],
    now: Us,
    hub: impl Fn(Life) -> io::Result<Hub>,
) -> io::Result<Option<Hub>> {
    let mut hub = hub(Life {
        // A quarantine that is over needs no walk through the keys.
        opens: match recovered.opens > now {
            true => recovered.opens,
            false => 0,
        },
        first_fence: recovered.first_fence,
        attempt_secret,
        protection: Protection::Journal,
    })?;
    let fit = recovered
        .holds()
        .all(|held| hub.recover(now, &held).is_ok());
    Ok(fit.then_some(hub))
}

/// The journal of a lost ledger has holds that this one knows nothing of.
fn lost(ledger: &Path, folder: &Path) -> io::Error {
    let text = format!(
        "the ledger {ledger:?} is lost, but the journal in {folder:?} belongs to one: if somebody has moved the file, move \
         it back; or, if no lease from before can still run, begin anew with --reset-state"
    );
    io::Error::other(text)
}

/// A power of two seconds, at least as long.
fn rounded(span: Us) -> Us {
    let seconds = span.div_ceil(SECOND).checked_next_power_of_two();
    seconds.map_or(Us::MAX, |seconds| seconds.saturating_mul(SECOND))
}

fn drawn() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    super::fill(&mut bytes)?;
    Ok(bytes)
}

fn failed(fault: impl Display) -> io::Error {
    io::Error::other(fault.to_string())
}

#[cfg(test)]
mod tests;
