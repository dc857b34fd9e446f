//! A disk that forgets and fails. It forgets in any order what it was not told to keep: a `Plan` notes each step, and
//! `images` makes of the notes every file that a loss of power may leave.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::store::ledger::disk::Step;
use crate::store::ledger::{LEN, SIZE};

/// What a test has planned for the steps of a file, and what was done.
#[derive(Debug, Default)]
pub struct Plan {
    pub done: Vec<Done>,
    /// The step that fails, and how many bytes it writes before.
    pub fails: Option<(usize, usize)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    Write(Vec<u8>, usize),
    Resize,
    Sync,
    SyncFolder,
    Read,
}

impl Plan {
    pub fn before(&mut self, step: &Step<'_>, file: &File) -> io::Result<()> {
        if let Some((0, part)) = self.fails {
            if let Step::Write(bytes, at) = step {
                file.write_all_at(&bytes[..part.min(bytes.len())], *at as u64)?;
            }
            return Err(io::ErrorKind::StorageFull.into());
        }
        if let Some((left, _)) = &mut self.fails {
            *left -= 1;
        }
        self.done.push(match step {
            Step::Write(bytes, at) => Done::Write(bytes.to_vec(), *at),
            Step::Resize => Done::Resize,
            Step::Sync | Step::SyncAll => Done::Sync,
            Step::SyncFolder => Done::SyncFolder,
            Step::Read(_) => Done::Read,
        });
        Ok(())
    }
}

/// Every file that a loss of power may leave behind while this is done to it, with how much was done. What is left of a
/// write is its beginning; `spoils` says whether the rest of it may be neither what was there nor what was written.
pub fn images(base: &[u8], done: &[Done], spoils: bool) -> Vec<(usize, Vec<u8>)> {
    let (mut kept, mut pending) = (base.to_vec(), Vec::new());
    let mut images = Vec::new();
    for count in 0..=done.len() {
        for some in 0..1_usize << pending.len() {
            let chosen = (0..pending.len()).filter(|at| some & (1 << at) != 0);
            let chosen: Vec<&Done> = chosen.map(|at| &pending[at]).collect();
            for torn in 0..=chosen.len() {
                let len = match chosen.get(torn) {
                    Some(Done::Write(bytes, _)) => bytes.len(),
                    Some(_) => continue,
                    None => 0,
                };
                // Of zeros only the count matters.
                for part in (0..=len).step_by(if len > LEN { 61 } else { 1 }) {
                    let rests: &[Option<u8>] = match spoils {
                        true => &[None, Some(0xa5)],
                        false => &[None],
                    };
                    for rest in rests {
                        let mut image = kept.clone();
                        for (at, done) in chosen.iter().enumerate() {
                            match at == torn {
                                true => apply(&mut image, done, part, *rest),
                                false => apply(&mut image, done, usize::MAX, None),
                            }
                        }
                        images.push((count, image));
                    }
                }
            }
        }
        match done.get(count) {
            Some(Done::Sync) => {
                for done in pending.drain(..) {
                    apply(&mut kept, &done, usize::MAX, None);
                }
            }
            Some(Done::SyncFolder | Done::Read) | None => {}
            Some(done) => pending.push(done.clone()),
        }
    }
    images.dedup();
    images
}

/// Does it to an image; of a write only so many bytes, with this behind them if there is something.
fn apply(image: &mut Vec<u8>, done: &Done, part: usize, rest: Option<u8>) {
    match done {
        Done::Write(bytes, at) => {
            let part = part.min(bytes.len());
            let mut bytes = bytes.clone();
            match rest {
                Some(byte) => bytes[part..].fill(byte),
                None => bytes.truncate(part),
            }
            image.resize(image.len().max(at + bytes.len()), 0);
            image[*at..at + bytes.len()].copy_from_slice(&bytes);
        }
        Done::Resize => image.resize(SIZE, 0),
        Done::Sync | Done::SyncFolder | Done::Read => {}
    }
}
