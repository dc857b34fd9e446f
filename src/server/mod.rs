//! The outer ring: one thread, one epoll loop, sockets on one side and the hub on the other. It reads the clock
//! once a turn, moves bytes, and decides nothing about locks. Invariant: it sleeps only when the hub is settled,
//! every socket was read or has no room, and the timer is set no later than the hub's deadline.
//!
//! A turn: hear every event, let time pass, then settle, keep and flush until nothing is left to be sent.

#[cfg(feature = "tls")]
mod clients;
#[cfg(feature = "etcd")]
mod cluster;
mod doors;
mod ending;
mod handshake_queue;
mod handshakes;
mod keep;
mod lead;
mod limits;
mod lines;
mod manager;
#[cfg(not(feature = "etcd"))]
mod no_etcd;
#[cfg(not(feature = "tls"))]
mod no_tls;
mod places;
mod refusals;
mod reload;
mod settings;
mod socket;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod trail;
mod turns;
mod world;

use std::io::{self, ErrorKind};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

use crate::command::{Us, earlier};
use crate::config::{self, Config, Secrets};
use crate::hub::{Hub, Vitals};
use crate::log::Log;
use crate::sys::activation::Inherited;
use crate::sys::{self, Signals, Timer};
use crate::wire::{Face, Rules};
use cluster::Cluster;
pub use cluster::{NoStore, Store};
use doors::Doors;
use keep::Keep;
pub use lead::End;
use lines::{Waits, log_restart, log_settings, log_standby};
use manager::{Load, Manager};
#[cfg(not(feature = "etcd"))]
use no_etcd as cluster;
#[cfg(not(feature = "tls"))]
use no_tls as tls;
use places::Places;
use refusals::Refusals;
use reload::{Files, Tokens};
use settings::{Life, settings};
use socket::Sockets;
pub use tls::{NoTls, Tls};
use turns::Turns;
use world::World;

/// Events of one turn, each a read and perhaps a write: some 10 us.
const EVENTS_A_TURN: usize = 64;
/// How long leases may wait for events and requests that came before their end: late is safe, but not for ever.
const BEHIND_MAX: Us = 15_000;
// Above every slot, and every door.
const TIMER: Token = Token(usize::MAX);
const SIGNALS: Token = Token(usize::MAX - 1);
const STORE: Token = Token(usize::MAX - 2);

/// The events that name a hold for which a drain waits, and a hold that the end of the drain cuts.
const STILL_HELD: &str = "still-held";
const CUT_HOLD: &str = "cut-hold";

/// The inputs of the server beside its options, once those are known to be good.
pub struct Given {
    /// The tokens that clients may say.
    pub secrets: Secrets,
    /// Sockets that a service manager has opened.
    pub sockets: Vec<(Face, Inherited)>,
    /// The certificate, if clients come over TLS.
    pub tls: Option<Tls>,
    /// The store, if several servers share one.
    pub store: Option<Store>,
}

/// Listens and serves until a signal ends it. The warnings about the configuration, and `shown`, which is the
/// configuration as people see it, are logged once the address is known to be good.
///
/// # Errors
/// The address cannot be listened on, or the system refuses what the loop itself needs, or the store of several servers
/// cannot be used.
pub fn run(
    config: &Config,
    mut given: Given,
    shown: &config::Settings,
    warnings: &[String],
    mut log: Log,
) -> io::Result<End> {
    // One of several servers does not listen for clients of locks before it leads.
    let is_alone = given.store.is_none();
    let wanted = |rules: &Rules| is_alone || rules.stands_by;
    let is_given = |face: Face| given.sockets.iter().any(|(one, _)| *one == face);
    let places = Places::find(config, |face| !is_given(face));
    // A server alone finds that out when it opens its doors.
    if let Some(text) = places.unknown().into_iter().next().filter(|_| !is_alone) {
        return Err(io::Error::other(text));
    }
    let (doors, absent) = Doors::open(&places, std::mem::take(&mut given.sockets), wanted)?;
    let manager = Manager::new(|name| std::env::var_os(name))?;
    for warning in warnings.iter().chain(&absent) {
        log.warn(unix_us(), "warning", &[("text", warning)]);
    }
    // The process ends with it: to free its memory piece by piece would only take time.
    let mut server =
        ManuallyDrop::new(Server::start(config, given, (places, doors), manager, log)?);
    log_settings(shown, &mut server.log);
    let (now, load) = (server.now, server.load());
    server.manager.ready(now, load);
    let mut events = Events::with_capacity(EVENTS_A_TURN);
    while !server.is_over() {
        server.sleep(&mut events)?;
        server.turn(&events)?;
    }
    if server.end == Some(End::LostLead) {
        return Ok(End::LostLead);
    }
    if server.cluster.is_none() {
        server.last_turn(&mut events)?;
    }
    server.stop()?;
    Ok(End::Stopped)
}

/// A message for each configured host whose name has no address.
pub fn unknown_hosts(config: &Config) -> Vec<String> {
    Places::find(config, |_| true).unknown()
}

struct Server {
    log: Log,
    hub: Hub,
    keep: Keep,
    /// This server among others, and what it makes a hub with, if it is not alone.
    cluster: Option<Cluster>,
    config: Option<Box<Config>>,
    /// Where clients come in, and the doors of clients of locks, until it leads.
    places: Places,
    newcomers: Option<Doors>,
    /// How it has come to its end.
    end: Option<End>,
    /// A signal stops the server at once, because the next one goes on with its holds.
    hands_over: bool,
    tokens: Tokens,
    tls: Option<Tls>,
    manager: Manager,
    poll: Poll,
    doors: Doors,
    sockets: Sockets,
    refusals: Refusals,
    timer: Timer,
    signals: Signals,
    /// The instant that the timer is set to, if that is to come.
    armed: Us,
    /// Everything that had arrived until then has been read, or has had its time.
    heard: Us,
    /// Since when every turn has left events, bytes in sockets or requests for the next one.
    behind: Option<Us>,
    /// The time of the turn.
    now: Us,
    turns: Turns,
    /// Whether turns are timed.
    is_timed: bool,
    started_unix_us: u64,
    /// Files that were open at the start, if that is known.
    first_files: Option<u64>,
    /// `draining`: when the first signal came. `cut`: a second one came.
    draining: Option<Us>,
    cut: bool,
}

impl Server {
    fn start(
        config: &Config,
        given: Given,
        (places, mut doors): (Places, Doors),
        manager: Manager,
        mut log: Log,
    ) -> io::Result<Server> {
        prepare_process(&mut log);
        let (poll, timer) = (Poll::new()?, Timer::new()?);
        let signals = Signals::new(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP])?;
        doors.watch(poll.registry(), timer.as_fd())?;
        watch(poll.registry(), timer.as_raw_fd(), TIMER)?;
        watch(poll.registry(), signals.as_raw_fd(), SIGNALS)?;
        // The clock costs something, so turns are only timed for somebody who may look.
        let is_timed = log.is_debug() || config.http.port.is_some();
        let (keep, hub, cluster) = begin(
            config,
            &given.secrets,
            given.store,
            poll.registry(),
            &mut log,
        )?;
        let now = sys::now();
        match cluster {
            None => log_restart(&keep, &hub, now, &mut log),
            Some(_) => log_standby(config, &mut log),
        }
        doors.announce(&config.tls, &mut log);
        Ok(Server {
            log,
            hub,
            keep,
            config: cluster.is_some().then(|| Box::new(config.clone())),
            cluster,
            places,
            newcomers: None,
            end: None,
            hands_over: config.state.handover,
            tokens: Tokens::new(config, given.secrets),
            tls: given.tls,
            manager,
            poll,
            doors,
            sockets: Sockets::new(),
            refusals: Refusals::new(config),
            timer,
            signals,
            armed: Us::MAX,
            heard: 0,
            behind: None,
            now,
            turns: Turns::new(),
            is_timed,
            started_unix_us: unix_us(),
            first_files: sys::figures::listed_files(),
            draining: None,
            cut: false,
        })
    }

    fn is_over(&self) -> bool {
        self.cut || self.end.is_some() || self.hub.is_drained()
    }

    /// Waits for an event or for the hub's deadline, unless there is work already.
    fn sleep(&mut self, events: &mut Events) -> io::Result<()> {
        let told = earlier(self.doors.deadline(), self.refusals.deadline());
        let told = earlier(told, earlier(self.manager.deadline(), self.keep.deadline()));
        let told = match &self.tls {
            Some(tls) => earlier(
                told,
                earlier(self.sockets.handshakes.deadline(), Some(tls.deadline())),
            ),
            None => told,
        };
        let told = earlier(told, self.lead_deadline());
        let deadline = earlier(self.hub.deadline(), told);
        let busy = self.doors.may_accept()
            || self.sockets.have_work() && !self.is_leaving()
            || deadline.is_some_and(|due| due <= self.now);
        if let Some(due) = deadline
            && !busy
            && due < self.armed
        {
            // A timer that is set too early stays: one wake-up for nothing costs less than a call in every turn.
            self.timer.set(due)?;
            self.armed = due;
        }
        if !busy {
            self.behind = None;
        }
        self.turns.expect(if busy { self.now } else { self.armed });
        self.poll(events, busy.then_some(Duration::ZERO))
    }

    /// Polls until that has an answer: a turn without its events would end leases before it has read the renewals.
    fn poll(&mut self, events: &mut Events, most: Option<Duration>) -> io::Result<()> {
        loop {
            match self.poll.poll(events, most) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Reads first, then the clock's work: a renewal that is already here comes before the end of its lease.
    fn turn(&mut self, events: &Events) -> io::Result<()> {
        // Everything that had arrived when poll was asked is among the events. The process may have stood still since.
        let asked = std::mem::replace(&mut self.now, sys::now());
        self.turns.begin(self.now);
        if self.armed <= self.now {
            self.armed = Us::MAX;
        }
        self.hub.begin_turn(self.now, unix_us());
        let is_leaving = self.is_leaving();
        let to_read = self.sockets.to_read().min(EVENTS_A_TURN);
        for event in events {
            match event.token() {
                TIMER | STORE => {}
                SIGNALS => self.signalled(),
                token if self.doors.event(token) => {}
                Token(slot) if is_leaving => self.sockets.has_room(slot, event, &mut self.hub),
                Token(slot) => self.sockets.event(slot, event, &mut self.hub),
            }
        }
        if !is_leaving {
            self.sockets.read_again(to_read, &mut self.hub);
        }
        if let Some(tls) = &mut self.tls {
            self.sockets
                .shake_hands(self.now, &mut self.hub, &mut self.refusals);
            tls.report(self.now, &mut self.log);
        }
        self.advance_heard(asked, events.iter().count());
        if !self.confer()? {
            return Ok(());
        }
        if self.hub.wants_vitals() {
            self.hub.set_vitals(self.vitals());
        }
        self.hub.tick(self.heard);
        self.settle()?;
        // After the closes, whose descriptors may be wanted.
        self.doors.retry(self.now);
        if self.doors.may_accept() {
            self.accept();
            self.settle()?;
        }
        if self.hub.is_last_call() && self.doors.are_to_close() {
            self.close_doors()?;
        }
        if self.has_news() {
            self.report();
        }
        if self.manager.is_there() {
            self.manager.turned(self.now, self.load());
        }
        self.keep.end_turn(self.now, &mut self.hub, &mut self.log)?;
        self.ask()?;
        let took = self.is_timed.then(|| self.measure());
        self.hub.end_turn(took);
        Ok(())
    }

    /// Whether the log is to be told of something, now or when the second of a count has passed. Most turns have nothing.
    #[inline]
    fn has_news(&self) -> bool {
        self.hub.has_news()
            || self.doors.has_news()
            || self.refusals.has_news()
            || self.log.is_behind()
    }

    /// Tells the log.
    #[cold]
    fn report(&mut self) {
        while let Some(knot) = self.hub.next_knot() {
            let waits = Waits(&knot);
            self.log.debug(unix_us(), "deadlock", &[("waits", &waits)]);
        }
        trail::log_events(&mut self.hub, STILL_HELD, &mut self.log);
        self.doors.report(self.now, &mut self.log);
        self.refusals.take(&mut self.hub);
        self.refusals.report(self.now, &mut self.log);
    }

    /// Lets the hub work, keeps what came of it and sends that, until neither leads to the other.
    ///
    /// # Errors
    /// The facts cannot be kept, so no byte that follows from them was sent.
    fn settle(&mut self) -> io::Result<()> {
        loop {
            self.hub.settle();
            let Server {
                sockets,
                hub,
                keep,
                doors,
                log,
                ..
            } = self;
            let now = self.now;
            let kept = |hub: &mut Hub| keep.keep(now, hub, log);
            if !sockets.flush(hub, kept, |id| doors.closed(id))? {
                break;
            }
        }
        while let Some(id) = self.hub.next_resumed() {
            self.sockets.read_next_turn(id);
        }
        Ok(())
    }

    /// Notes until when everything that arrived has been heard: until poll was asked, unless this turn has left something
    /// for the next. Then leases wait, because a renewal may be among it, but not for ever.
    fn advance_heard(&mut self, asked: Us, events: usize) {
        let all = events < EVENTS_A_TURN && !self.sockets.is_behind() && !self.hub.is_behind();
        if all {
            self.behind = None;
        } else {
            let since = *self.behind.get_or_insert(self.now);
            if self.now < since.saturating_add(BEHIND_MAX) {
                return;
            }
        }
        self.heard = asked;
    }

    fn accept(&mut self) {
        let mut world = World {
            hub: &mut self.hub,
            sockets: &mut self.sockets,
            registry: self.poll.registry(),
            refusals: &mut self.refusals,
            spare: self.timer.as_fd(),
            tls: self.tls.as_ref(),
        };
        self.doors.accept(self.now, &mut world);
    }

    /// Reads the files again.
    fn reload(&mut self) {
        let mut files = Files::default();
        self.tokens.reload(&mut files, &mut self.hub, &mut self.log);
        if let Some(tls) = &mut self.tls {
            match tls.reload() {
                Ok(read) => {
                    // That a certificate has expired is to be read before that all is well.
                    tls.report(self.now, &mut self.log);
                    files.add(read);
                }
                Err(e) => {
                    let (path, why) = e.fault();
                    files.fails(path, why, &mut self.log);
                }
            }
        }
        files.report(&mut self.log);
    }

    /// How much there is to do, for the service manager.
    fn load(&self) -> Load {
        let locks = self.hub.locks();
        Load {
            holds: locks.held_by_sessions() + locks.held_without_session(),
            waiters: locks.counts().waiting,
            connections: self.doors.connections(),
            stands_by: self.stands_by(),
            is_cut_off: self.stands_by() && self.is_cut_off(),
        }
    }

    /// The counts of the outer ring, for the metrics.
    fn vitals(&self) -> Vitals {
        // An older kernel tells only by a list, which would take long with many connections.
        let counted = || Some(self.first_files? + u64::from(self.doors.connections()));
        let mut vitals = Vitals {
            clock_gaps: self.turns.gaps(),
            started_unix_us: self.started_unix_us,
            memory: sys::figures::memory(),
            files: sys::figures::open_files().or_else(counted),
            ..Vitals::default()
        };
        self.doors.count(&mut vitals);
        vitals.failed_handshakes = self.refusals.failed_handshakes();
        vitals.certificate_end_s = self.tls.as_ref().map_or(0, Tls::end_s);
        vitals
    }

    /// How long the turn took.
    #[inline(always)]
    fn measure(&mut self) -> Us {
        let took = sys::now() - self.now;
        if self.turns.is_longest(took) {
            self.tell_longest(took);
        }
        took
    }

    #[cold]
    fn tell_longest(&mut self, took: Us) {
        self.log.debug(unix_us(), "turn", &[("longest_us", &took)]);
    }
}

/// Fills it with bytes that nobody can guess.
fn fill(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(|e| io::Error::other(format!("no random numbers: {e}")))
}

/// Asks the system for what a server needs of it.
fn prepare_process(log: &mut Log) {
    if let Err(e) = sys::raise_file_limit() {
        // Fewer clients fit, that is all.
        log.warn(unix_us(), "file-limit", &[("error", &e)]);
    }
    sys::give_memory_back();
    sys::adopt_quietly();
    sys::output::write_from_background();
}

/// Lets poll tell of a descriptor that can be read.
fn watch(registry: &Registry, fd: RawFd, token: Token) -> io::Result<()> {
    registry.register(&mut SourceFd(&fd), token, Interest::READABLE)
}

/// The lock table as it begins, and what keeps it: files of this machine, or a store that several servers share.
fn begin(
    config: &Config,
    secrets: &Secrets,
    store: Option<Store>,
    registry: &Registry,
    log: &mut Log,
) -> io::Result<(Keep, Hub, Option<Cluster>)> {
    let hub = |life| Ok(Hub::new(settings(config, secrets, &life)?));
    if let Some(store) = store {
        let cluster = Cluster::start(config, store, registry, STORE)?;
        return Ok((Keep::nothing(), hub(Life::standby())?, Some(cluster)));
    }
    let (keep, hub) = Keep::start(config, sys::now, hub, log)?;
    Ok((keep, hub, None))
}

/// The time in so long, 0 if that is no time: then there is nothing to wait for.
fn later(now: Us, span: Us) -> Us {
    match span {
        0 => 0,
        span => now.saturating_add(span),
    }
}

fn unix_us() -> u64 {
    sys::unix_now_ns() / 1000
}
