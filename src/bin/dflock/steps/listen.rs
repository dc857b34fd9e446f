//! `dflock listen`: prints signals, a line each, until it is ended. Each server has a thread, which may block; the main
//! thread waits for unix signals, for the reader of stdout to go away, and for a thread to fail. Invariant: a line is
//! written at once and in one piece.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use dflockd::client::{self, Client, Error, Signal};
use dflockd::sys::{Signals, process};
use dflockd::wire::json;

use super::talk::{Talk, settings};
use crate::failure::{Failure, UNAVAILABLE, USAGE, reason, say};
use crate::options::{Options, Output};
use crate::print::print_bytes;

const SIGNALS: Token = Token(0);
const STDOUT: Token = Token(1);
const NEWS: Token = Token(2);

/// The unix signals that end it, unless it was started with them ignored, as by nohup(1) or in the background of a
/// script.
const NUMBERS: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];
/// After this time without a signal the server is pinged.
const SILENCE: Duration = Duration::from_secs(30);

/// What the thread of one server needs.
struct Ear {
    server: String,
    settings: client::Options,
    pattern: Vec<u8>,
    group: Option<Vec<u8>>,
    output: Output,
    news: Sender<News>,
    waker: Arc<Waker>,
}

/// What a thread tells the main one.
enum News {
    Listening,
    Ended(Failure),
}

/// Prints the signals to channels that match `pattern`, of all servers, until one of them is lost or a unix signal
/// comes.
pub fn listen(options: &Options, pattern: &[u8]) -> Result<u8, Failure> {
    if options.output == Output::Sh {
        let text = "-o sh is for one thing, and signals are many: see -o json";
        return Err(Failure::new(USAGE, text));
    }
    // Before the threads start, so that they inherit the blocked signals.
    let signals = Signals::new(&process::not_ignored(&NUMBERS))?;
    let mut poll = Poll::new()?;
    let (fd, stdout) = (signals.as_raw_fd(), io::stdout().as_raw_fd());
    let registry = poll.registry();
    registry.register(&mut SourceFd(&fd), SIGNALS, Interest::READABLE)?;
    // Only its end is waited for. A file cannot be polled, and its reader cannot go away.
    let _ = registry.register(&mut SourceFd(&stdout), STDOUT, Interest::READABLE);
    let waker = Arc::new(Waker::new(registry, NEWS)?);
    let (news, latest) = mpsc::channel();
    for server in &options.servers {
        let ear = Ear {
            server: server.clone(),
            settings: settings(options),
            pattern: pattern.to_vec(),
            group: options.group.clone(),
            output: options.output,
            news: news.clone(),
            waker: Arc::clone(&waker),
        };
        thread::Builder::new().spawn(move || ear.run())?;
    }
    let (mut listening, mut events) = (0, Events::with_capacity(4));
    loop {
        match poll.poll(&mut events, None) {
            Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e.into()),
            _ => {}
        }
        if let Some(caught) = signals.catch() {
            return Err(Failure::by_signal(caught.number, caught.by_terminal));
        }
        if events.iter().any(has_no_reader) {
            return Err(Failure::silent(128 + libc::SIGPIPE as u8));
        }
        while let Ok(news) = latest.try_recv() {
            match news {
                News::Listening => listening += 1,
                News::Ended(failure) => return Err(failure),
            }
            if listening == options.servers.len() && options.verbose {
                say("listening");
            }
        }
    }
}

fn has_no_reader(event: &Event) -> bool {
    event.token() == STDOUT && (event.is_error() || event.is_write_closed())
}

impl Ear {
    fn run(self) {
        let Err(failure) = self.listen();
        self.tell(News::Ended(failure));
    }

    fn tell(&self, news: News) {
        // The main thread ends the process, so it cannot have ended before.
        let _ = self.news.send(news);
        let _ = self.waker.wake();
    }

    fn listen(&self) -> Result<Infallible, Failure> {
        let mut talk = Talk::open(&self.server, &self.settings)?;
        let group = self.group.as_deref();
        let listening = talk.client().listen(&self.pattern, group);
        listening.map_err(|e| self.lost(&talk, e))?;
        self.tell(News::Listening);
        loop {
            let heard = hear(talk.client()).map_err(|e| self.lost(&talk, e))?;
            if let Some(signal) = heard {
                print_bytes(&line(self.output, &signal))?;
            }
        }
    }

    fn lost(&self, talk: &Talk, error: Error) -> Failure {
        match error {
            Error::Io(e) => {
                let (server, why) = (&self.server, reason(&e));
                let text = format!("the connection to {server} is lost: {why}");
                Failure::new(UNAVAILABLE, text)
            }
            error => talk.failure(error),
        }
    }
}

fn hear(client: &mut Client) -> Result<Option<Signal>, Error> {
    let signal = client.hear(SILENCE)?;
    if signal.is_none() {
        client.ping()?;
    }
    Ok(signal)
}

fn line(output: Output, signal: &Signal) -> Vec<u8> {
    let Signal { channel, payload } = signal;
    let mut line = Vec::new();
    if output == Output::Json {
        line.extend_from_slice(b"{\"channel\":");
        json::write_string(channel, &mut line);
        line.extend_from_slice(b",\"payload\":");
        json::write_string(payload, &mut line);
        line.push(b'}');
    } else {
        line.extend_from_slice(channel);
        line.push(b' ');
        line.extend_from_slice(payload);
    }
    line.push(b'\n');
    line
}
