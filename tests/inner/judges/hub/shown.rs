//! What the hub says of one key, as the judge reads it: JSON, on a line or as a status of the REST face, held against a
//! lock table.

use std::net::SocketAddr;

use dflockd::command::{SECOND, SessionId, Space, State, TicketView, Us};
use dflockd::locks::Locks;

use crate::harness::{Json, Net};
use crate::judges::locks::Key;

/// The answer to `show`, or to a request for the status.
#[derive(Debug)]
pub struct Shown {
    /// The call that brought it.
    pub call: usize,
    space: Space,
    key: Vec<u8>,
    held: u64,
    waiting: u64,
    holders: Vec<Ticket>,
    queue: Vec<Ticket>,
}

/// A hold, or a place in the queue, and when it began and ends, in seconds.
#[derive(Debug)]
struct Ticket {
    fence: Option<u64>,
    /// 0 for none; a status does not say it of an owner's.
    session: Option<u64>,
    owner: Option<String>,
    since: f64,
    left: f64,
}

impl Shown {
    /// Reads an answer.
    pub fn read(net: &Net, call: usize, key: &Key, line: &str) -> Shown {
        let text = line.strip_prefix("ok ").expect("ok and what there is");
        let json = Json::parse(text).unwrap_or_else(|why| panic!("{why} in {text}"));
        assert_eq!(json.field("key").text(), String::from_utf8_lossy(&key.name));
        let space = ["lock", "semaphore"][usize::from(key.space == Space::Semaphore)];
        assert_eq!(json.field("space").text(), space);
        let tickets = |list: &str, begun: &str| {
            let all = json.field(list).list().iter();
            all.map(|item| Ticket::read(net, item, begun)).collect()
        };
        Shown {
            call,
            space: key.space,
            key: key.name.clone(),
            held: json.field("held").number() as u64,
            waiting: json.field("waiting").number() as u64,
            holders: tickets("holders", "held_s"),
            queue: tickets("queue", "waited_s"),
        }
    }

    /// Reads a status.
    #[cfg(feature = "http")]
    pub fn status(call: usize, key: &Key, json: &Json) -> Shown {
        assert_eq!(
            json.field("lockName").text(),
            String::from_utf8_lossy(&key.name)
        );
        let tickets = |list: &str, begun: &str| {
            let all = json.field(list).list().iter();
            all.map(|item| Ticket::of_status(item, begun)).collect()
        };
        let held = json.get("held").map_or(0, |held| held.number() as u64);
        assert_eq!(*json.field("locked"), Json::Bool(held > 0));
        Shown {
            call,
            space: key.space,
            key: key.name.clone(),
            held,
            waiting: json.field("waiters").number() as u64,
            holders: tickets("holders", "heldFor"),
            queue: tickets("queue", "waited"),
        }
    }

    /// What the table would show.
    pub fn views(&self, locks: &Locks, now: Us) -> String {
        let of = |waiting| {
            let views = locks.view_tickets(now, (self.space, &self.key), waiting, 0);
            views.collect::<Vec<TicketView>>()
        };
        format!("{:?} {:?}", of(false), of(true))
    }

    /// Whether it is the truth about this table, and all of it.
    pub fn is_true(&self, locks: &Locks, now: Us) -> bool {
        let view = locks.view_of(now, self.space, &self.key);
        let counts = match view.map(|view| view.state) {
            Some(State::Used { held, waiting, .. }) => (held.into(), waiting.into()),
            _ => (0, 0),
        };
        let same = |shown: &[Ticket], waiting| {
            let views = locks.view_tickets(now, (self.space, &self.key), waiting, 0);
            let views: Vec<TicketView> = views.collect();
            let mut pairs = shown.iter().zip(&views);
            shown.len() == views.len() && pairs.all(|(shown, view)| shown.is(view))
        };
        counts == (self.held, self.waiting) && same(&self.holders, false) && same(&self.queue, true)
    }
}

impl Ticket {
    fn read(net: &Net, item: &Json, begun: &str) -> Ticket {
        let session = item.field("conn_id").number() as u64;
        let fence = item.get("fence").map(|fence| {
            assert_eq!(fence.text().len(), 16, "never the token");
            u64::from_str_radix(fence.text(), 16).expect("16 digits")
        });
        if fence.is_some() {
            assert_eq!(*item.field("detached"), Json::Bool(session == 0));
        }
        let its = |id: SessionId| id.serial() == session;
        let client = net.clients.iter().find(|client| its(client.id));
        let peer = match item.field("peer") {
            Json::Null => None,
            text => Some(text.text().parse::<SocketAddr>().expect("an address")),
        };
        assert_eq!(peer, client.and_then(|client| client.peer), "its address");
        let seconds = |name: &str| item.get(name).map_or(0.0, Json::number);
        Ticket {
            fence,
            session: Some(session),
            owner: item.get("owner").map(|owner| owner.text().into()),
            since: seconds(begun),
            left: seconds("lease_expires_in_s"),
        }
    }

    #[cfg(feature = "http")]
    fn of_status(item: &Json, begun: &str) -> Ticket {
        let fence = item.get("lockId").map(|id| {
            let digits = id.text().strip_prefix("lock-").expect("lock- and a fence");
            u64::from_str_radix(digits, 16).expect("16 digits")
        });
        let (session, owner) = match item.field("clientId") {
            Json::Null => (Some(0), None),
            client => match client.text().strip_prefix("conn-") {
                Some(serial) => (serial.parse().ok(), None),
                None => (None, Some(client.text().into())),
            },
        };
        let seconds = |name: &str| item.get(name).map_or(0.0, Json::number);
        Ticket {
            fence,
            session,
            owner,
            since: seconds(begun),
            left: seconds("ttl"),
        }
    }

    fn is(&self, view: &TicketView) -> bool {
        let near = |seconds: f64, span: Us| (seconds - span as f64 / SECOND as f64).abs() < 0.0011;
        let owner = view.owner.map(String::from_utf8_lossy);
        self.fence.unwrap_or(0) == view.fence
            && (self.session).is_none_or(|s| s == view.session.map_or(0, SessionId::serial))
            && self.owner.as_deref() == owner.as_deref()
            && near(self.since, view.age)
            && (view.fence == 0 || near(self.left, view.lease_left))
    }
}
