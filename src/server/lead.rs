//! The server among others: it stands by, takes the lead, and hands it over. A server that stands by does not listen for
//! clients of locks. Invariant: nobody is accepted before the holds of the leaders before are there, and nothing is sent
//! any more once the lead is lost.

use std::fmt::Display;
use std::io;

use super::Cluster;
use super::doors::Doors;
use super::settings::{Life, settings};
use super::socket::Sockets;
use super::{Server, unix_us};
use crate::command::{SECOND, Us, earlier};
use crate::facts::Protection;
use crate::hub::Hub;
use crate::store::log::Left;
use crate::sys;
use crate::wire::Rules;

/// How long requests are read after the signal: those that had come before it.
const LAST_READS: Us = 10_000;
/// How long they may take.
const LAST_WORK: Us = SECOND;

/// The change of its part that a server has to act on.
#[cfg_attr(not(feature = "etcd"), allow(dead_code, reason = "nobody takes one"))]
pub(super) enum Step {
    /// None.
    Nothing,
    /// It leads, with what those before have left.
    Lead(Left),
    /// The batch in flight is kept.
    Kept,
    /// It has left, and the others know.
    Left,
    /// It leads no more, and must not say another word.
    Lost,
}

/// How the server has come to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// A signal has stopped it.
    Stopped,
    /// Others may lead, or do.
    LostLead,
}

impl Server {
    /// Acts on what the store says. Whether the server goes on.
    ///
    /// # Errors
    /// The store cannot be used, or has what this server cannot read.
    pub(super) fn confer(&mut self) -> io::Result<bool> {
        while let Some(cluster) = &mut self.cluster {
            let Some(step) = cluster.hear(self.now, &mut self.log)? else {
                break;
            };
            if !self.step(step)? {
                return Ok(false);
            }
        }
        let Some(cluster) = &mut self.cluster else {
            return Ok(true);
        };
        let step = cluster.wait(self.now, &mut self.log)?;
        self.step(step)
    }

    fn step(&mut self, step: Step) -> io::Result<bool> {
        match step {
            Step::Nothing => {}
            Step::Lead(left) => self.lead(&left)?,
            Step::Kept => self.hub.batch_kept(),
            Step::Left => self.end = Some(End::Stopped),
            Step::Lost => self.end = Some(End::LostLead),
        }
        Ok(self.end.is_none())
    }

    /// The turn is over: its facts go to the store, and whatever else is to be asked.
    ///
    /// # Errors
    /// This server is to lead, and cannot listen.
    pub(super) fn ask(&mut self) -> io::Result<()> {
        let leaves = self.has_heard_all();
        let Some(cluster) = &mut self.cluster else {
            return Ok(());
        };
        if !leaves {
            cluster.keep(self.now, &mut self.hub);
        } else if cluster.leave(self.now, &mut self.hub) {
            self.end = Some(End::Stopped);
        }
        let standing = cluster.standing();
        let is_to_lead = cluster.is_to_lead(self.now);
        if !standing.leads && (is_to_lead || self.draining.is_none()) {
            self.hub.stand_by(&cluster.known(self.now));
            self.set_doors(is_to_lead)?;
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.ask(self.now);
        }
        self.hub.set_standing(standing);
        Ok(())
    }

    /// The doors of clients of locks are open from now on, or closed.
    fn set_doors(&mut self, is_to_lead: bool) -> io::Result<()> {
        if !is_to_lead {
            // Another one was faster, or the store gives no lead.
            self.newcomers = None;
        } else if self.newcomers.is_none() {
            let wanted = |rules: &Rules| !rules.stands_by;
            let (doors, absent) = Doors::open(&self.places, Vec::new(), wanted)?;
            for text in absent {
                self.log.warn(unix_us(), "warning", &[("text", &text)]);
            }
            self.newcomers = Some(doors);
        }
        Ok(())
    }

    /// Goes on with what the leaders before have left.
    fn lead(&mut self, left: &Left) -> io::Result<()> {
        let cluster = self.cluster.as_ref().expect("its store was read");
        let config = self.config.as_ref().expect("it is one of several");
        // To read the log has taken time.
        self.now = sys::now();
        let life = Life {
            opens: super::later(self.now, config.state.restart_grace),
            first_fence: left.next_fence.max(sys::unix_now_ns()).max(1),
            attempt_secret: cluster.secret(),
            protection: Protection::Etcd,
        };
        let mut hub = Hub::new(settings(config, self.tokens.secrets(), &life)?);
        for held in left.holds(self.now) {
            let unfit = |_| {
                io::Error::other("the log in etcd cannot be used: its holds do not fit together")
            };
            hub.recover(self.now, &held).map_err(unfit)?;
        }
        hub.begin_turn(self.now, unix_us());
        let (holds, ms) = (
            hub.locks().counts().adopted,
            cluster.taken(self.now) / 1_000,
        );
        // Connections of clients that have asked how it is are cut: they belong to the old hub.
        self.hub = hub;
        self.sockets = Sockets::new();
        let newcomers = self
            .newcomers
            .take()
            .expect("they wait since it has asked for the lead");
        let opens_in = self.hub.locks().opens_in(self.now).div_ceil(SECOND);
        let mut fields: Vec<(&str, &dyn Display)> =
            vec![("node", &config.etcd.node), ("holds", &holds), ("ms", &ms)];
        if opens_in > 0 {
            fields.push(("opens_in_s", &opens_in));
        }
        self.log.info(unix_us(), "leading", &fields);
        newcomers.announce(&config.tls, &mut self.log);
        self.doors.join(newcomers, self.poll.registry())
    }

    /// The others go on with what is held, so nobody has to finish. Requests that have come are answered first.
    pub(super) fn hand_over_lead(&mut self) {
        self.draining = Some(self.now);
        if !self.stands_by() {
            self.log.info(unix_us(), "handing-over", &[]);
            self.accept_all();
        }
        self.manager.stopping(self.now, self.load());
        self.doors.close_all(self.poll.registry());
    }

    /// When the last requests have been read, if this server hands over.
    fn leaves_at(&self) -> Option<Us> {
        let since = self.draining.filter(|_| self.cluster.is_some())?;
        Some(since.saturating_add(LAST_READS))
    }

    /// Whether the requests that have come before the signal were carried out, or have had their time.
    fn has_heard_all(&self) -> bool {
        let due = self.leaves_at().filter(|due| *due <= self.now);
        due.is_some_and(|due| !self.hub.is_behind() || self.now >= due.saturating_add(LAST_WORK))
    }

    /// Whether nothing is read any more, because this server is about to leave.
    #[inline]
    pub(super) fn is_leaving(&self) -> bool {
        self.leaves_at().is_some_and(|due| due <= self.now)
    }

    /// Whether another server leads, or should.
    pub(super) fn stands_by(&self) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_some_and(|cluster| !cluster.standing().leads)
    }

    /// Whether the store has not answered for longer than it may take.
    pub(super) fn is_cut_off(&self) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_some_and(|cluster| cluster.is_silent(self.now))
    }

    /// When the store wants something, or the server leaves.
    pub(super) fn lead_deadline(&self) -> Option<Us> {
        let leaves_at = self.leaves_at().filter(|due| *due > self.now);
        earlier(leaves_at, self.cluster.as_ref().and_then(Cluster::deadline))
    }
}
