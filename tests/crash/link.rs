//! A connection that notes what happens on it: each request, each answer and its end. Not here: what they mean. Invariant:
//! what comes without a request is noted as an answer all the same, but for the one line that may.

use std::io::{ErrorKind, Read, Write};

use crate::board::Place;
use crate::faces::line;
use crate::record::{By, Ns, Record, What};
use crate::stream::Stream;

/// The protocol that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Face {
    Line,
    Distlockd,
    Rest,
}

/// The connection is over, as it is when the server has died.
#[derive(Debug)]
pub struct Gone;

pub struct Link<'a> {
    face: Face,
    stream: Stream,
    input: Vec<u8>,
    number: u64,
    /// How many requests have no answer yet.
    unanswered: usize,
    who: u32,
    record: &'a Record,
    is_open: bool,
}

impl<'a> Link<'a> {
    pub fn open(face: Face, place: &Place, who: u32, record: &'a Record) -> Result<Link<'a>, Gone> {
        let (addr, secure) = match face {
            Face::Line => (place.line, place.secure),
            Face::Distlockd => (place.distlockd, false),
            Face::Rest => (place.http, place.secure),
        };
        // A server that was there a moment ago may be dead by now.
        let stream = Stream::connect(addr, secure).map_err(|_| Gone)?;
        let (link, server) = (record.number(), place.number);
        record.note(who, What::Opened { link, server });
        Ok(Link {
            face,
            stream,
            input: Vec::new(),
            number: link,
            unanswered: 0,
            who,
            record,
            is_open: true,
        })
    }

    /// Sends a request, and says when it left, or a little before.
    pub fn ask(&mut self, request: &[u8]) -> Result<Ns, Gone> {
        self.send(request, 1)
    }

    /// Sends requests in one go.
    pub fn ask_all(&mut self, requests: Vec<Vec<u8>>) -> Result<Ns, Gone> {
        self.send(&requests.concat(), requests.len())
    }

    fn send(&mut self, request: &[u8], count: usize) -> Result<Ns, Gone> {
        let (link, asked) = (self.number, self.record.now());
        self.unanswered += count;
        for _ in 0..count {
            self.record.note_at(asked, self.who, What::Asked { link });
        }
        match self
            .stream
            .write_all(request)
            .and_then(|()| self.stream.flush())
        {
            Ok(()) => Ok(asked),
            Err(e) => Err(self.broken(e.kind())),
        }
    }

    /// Waits for the next answer.
    pub fn answer(&mut self) -> Result<Vec<u8>, Gone> {
        loop {
            if let Some(answer) = self.next_answer() {
                return Ok(answer);
            }
            self.read().map_err(|kind| self.broken(kind))?;
        }
    }

    /// Sends a request, waits for its answer, and says when it left.
    pub fn exchange(&mut self, request: &[u8]) -> Result<(Ns, Vec<u8>), Gone> {
        let asked = self.ask(request)?;
        Ok((asked, self.answer()?))
    }

    /// Ends it as a client does that has nothing more to say, and listens until the server has ended it too.
    pub fn finish(mut self) {
        // The server may have died before.
        let _ = self.stream.finish();
        while self.read().is_ok() {
            while self.next_answer().is_some() {}
        }
        self.part(By::Client);
    }

    fn next_answer(&mut self) -> Option<Vec<u8>> {
        let length = length(self.face, &self.input).filter(|&length| length <= self.input.len())?;
        let answer: Vec<u8> = self.input.drain(..length).collect();
        let link = self.number;
        let is_unasked = self.face == Face::Line && line::is_last_word(&answer);
        if self.unanswered > 0 || !is_unasked {
            self.record.note(self.who, What::Answered { link });
        }
        self.unanswered = self.unanswered.saturating_sub(1);
        Some(answer)
    }

    fn read(&mut self) -> Result<(), ErrorKind> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof),
                Ok(n) => {
                    self.input.extend_from_slice(&buffer[..n]);
                    return Ok(());
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.kind()),
            }
        }
    }

    fn broken(&mut self, kind: ErrorKind) -> Gone {
        // So std says that a time is over that a socket had for a read or a write.
        let is_late = matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut);
        self.part(if is_late { By::Patience } else { By::Server });
        Gone
    }

    fn part(&mut self, by: By) {
        if self.is_open {
            self.is_open = false;
            let link = self.number;
            self.record.note(self.who, What::Parted { link, by });
        }
    }
}

impl Drop for Link<'_> {
    fn drop(&mut self) {
        self.part(By::Client);
    }
}

/// How long the answer is that these bytes begin with, if they say that.
fn length(face: Face, input: &[u8]) -> Option<usize> {
    match face {
        Face::Line => Some(input.iter().position(|&byte| byte == b'\n')? + 1),
        Face::Distlockd => {
            let length = input.get(1..3)?.try_into().expect("two bytes");
            Some(3 + usize::from(u16::from_be_bytes(length)))
        }
        Face::Rest => {
            let end = input.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
            let head = std::str::from_utf8(&input[..end]).expect("a head is text");
            let (_, rest) = head.split_once("Content-Length: ").expect("a length");
            let length = rest.split("\r\n").next().expect("there is a first one");
            Some(end + length.parse::<usize>().expect("a number"))
        }
    }
}
