//! A client of a random run that takes many locks at once, each of another long name, and ends its connection: so that the
//! journal grows, is swept, and has many holds to recover. Not here: who competes for locks, which actors do. Invariant: no key
//! is asked for twice.

use crate::board::Board;
use crate::dice::Dice;
use crate::faces::line;
use crate::link::{Face, Gone, Link};
use crate::record::{Grant, MS, Record, Space, What};

/// How many locks it takes at once.
const COUNT: u64 = 100;
/// How long their names are, which is nearly as long as they may be.
const LENGTH: usize = 250;

pub struct Flood<'a> {
    who: u32,
    record: &'a Record,
    board: &'a Board,
    dice: Dice,
}

impl<'a> Flood<'a> {
    pub fn new(who: u32, seed: u64, record: &'a Record, board: &'a Board) -> Flood<'a> {
        let dice = Dice::new(seed, who);
        Flood {
            who,
            record,
            board,
            dice,
        }
    }

    /// Lives until the run is over. Returns how many locks it has had.
    pub fn run(mut self) -> usize {
        let (mut granted, mut last) = (0, 0);
        while let Some(place) = self.board.wait(last) {
            let link = Link::open(Face::Line, &place, self.who, self.record);
            let taken = link.and_then(|mut link| {
                self.board.has(&place)?;
                let taken = self.take(&mut link);
                // Some of them see how all of them end.
                if self.dice.one_in(2) {
                    link.finish();
                }
                taken
            });
            // The same server again, if it is still there.
            last = match taken {
                Ok(_) => place.number - 1,
                Err(Gone) => place.number,
            };
            granted += taken.unwrap_or(0);
            let time = self.dice.below(20 * MS);
            self.board.sleep(time, None);
        }
        granted
    }

    fn take(&mut self, link: &mut Link) -> Result<usize, Gone> {
        let requests = (0..COUNT).map(|_| {
            let name = format!("{:0LENGTH$}", self.record.number());
            format!("l\n{name}\n0 1\n").into_bytes()
        });
        let asked = link.ask_all(requests.collect())?;
        let (mut granted, mut last) = (0, None);
        for _ in 0..COUNT {
            let answer = link.answer()?;
            let Some(fence) = line::granted(&answer).and_then(|told| told.fence) else {
                continue;
            };
            assert!(last < Some(fence), "answers come in the order of requests");
            (granted, last) = (granted + 1, Some(fence));
            // Nobody else wants it: only the fence is for the judge.
            let grant = Grant {
                hold: self.record.number(),
                space: Space::Lock,
                key: "one of many",
                limit: usize::MAX,
                fence: Some(fence),
                asked,
                until: asked,
            };
            self.record.note(self.who, What::Granted(grant));
        }
        Ok(granted)
    }
}
