//! What the server believes of etcd, asked of a real one: above all that a change is made only at the revision that it names.
//! etcd ignores what it does not know, so a misspelt condition would be none.

use std::sync::mpsc;

use dflockd::store::etcd::{Answer, Client, Etcd, Settings};
use dflockd::store::leadership::{Ask, Change, Head, Told};

use crate::daemon::PATIENCE;
use crate::members::{COUNT, Members};

/// A client that waits for each answer.
struct Asked {
    etcd: Etcd,
    woken: mpsc::Receiver<()>,
}

impl Asked {
    fn told(&self, ask: Ask) -> Told {
        self.etcd.ask(ask);
        self.woken
            .recv_timeout(PATIENCE)
            .expect("an answer, in time");
        match self.etcd.answer().expect("it was woken for an answer") {
            Answer::Told(told) => told,
            answer => panic!("{answer:?}"),
        }
    }
}

fn head(number: u64) -> Head {
    Head {
        cluster: [1; 16],
        life: [2; 16],
        node: "n".into(),
        address: String::new(),
        number,
        largest: 0,
        leads: false,
        left: false,
    }
}

fn change(revision: u64, number: u64, keep_from: Option<u64>) -> Ask {
    Ask::Change(Change {
        revision,
        head: head(number),
        batch: Some(vec![number as u8]),
        keep_from,
    })
}

fn load() -> Ask {
    Ask::Load { from: 0, count: 9 }
}

#[test]
fn a_change_is_made_at_its_revision_alone_and_what_it_says_can_be_read() {
    let members = Members::start();
    let (wake, woken) = mpsc::channel();
    let client = Client::new(Settings {
        endpoints: (0..COUNT)
            .map(|at| format!("http://{}", members.addr(at)))
            .collect(),
        prefix: "/truth".into(),
        user: None,
        ca: None,
        identity: None,
    });
    let etcd = Etcd::start(client.expect("it needs no file"), move || {
        wake.send(()).expect("it waits to be woken");
    });
    let asked = Asked {
        etcd: etcd.expect("there is a thread"),
        woken,
    };
    assert_eq!(asked.told(Ask::Look), Told::Head(None));
    assert_eq!(asked.told(change(99, 1, None)), Told::Refused(None));
    let Told::Changed(first) = asked.told(change(0, 1, None)) else {
        panic!("there was no head");
    };
    let is_there = Told::Refused(Some((first, head(1))));
    for revision in [0, first - 1, first + 1] {
        assert_eq!(asked.told(change(revision, 2, None)), is_there);
    }
    let Told::Changed(second) = asked.told(change(first, 2, None)) else {
        panic!("it was the revision");
    };
    let batches = |all: &[u64]| {
        let all = all.iter().map(|&number| (number, vec![number as u8]));
        Told::Batches(all.collect(), false)
    };
    assert_eq!(asked.told(load()), batches(&[1, 2]));
    let Told::Changed(third) = asked.told(change(second, 3, Some(3))) else {
        panic!("it was the revision");
    };
    assert_eq!(asked.told(load()), batches(&[3]));
    assert_eq!(asked.told(Ask::Look), Told::Head(Some((third, head(3)))));
    for _ in 0..2 {
        assert_eq!(
            asked.told(Ask::Compact { revision: second }),
            Told::Compacted
        );
    }
}
