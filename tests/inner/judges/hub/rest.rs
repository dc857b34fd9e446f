//! Answers of the REST face, as the judge of the hub reads them: the words that the story compares, and all that an
//! answer says besides. A client can count on each of these: whose the hold is, for how long, and how long it has waited.

use dflockd::command::{Refusal, Reply, SECOND, Us};

use super::callers::Request;
use super::frames::delivered;
use super::shown::Shown;
use super::{Judge, token};
use crate::harness::{Json, Net};
use crate::judges::locks::{Act, NAMES};

impl Judge {
    /// Reads the answers that are new, each to the first request that has none.
    pub(super) fn hear_rest(&mut self, net: &Net, at: usize, call: usize) {
        let come = delivered(net, at, self.caller(at).sent);
        while let Some((status, last, body)) = self.next_answer(at) {
            let now = self.now;
            let caller = self.caller(at);
            assert!(!caller.farewell, "{body} after the last answer");
            caller.farewell = last;
            caller.rested = now;
            let whole = |call: &&(Request, usize)| call.1 <= come;
            let Some(&(request, end)) = caller.calls.front().filter(whole) else {
                assert!(status == 408 && last, "{status} {body} answers nothing");
                (caller.slow, caller.grant) = (true, None);
                continue;
            };
            caller.calls.pop_front();
            (caller.done, caller.grant) = (end, None);
            let waited = now - caller.arrived.take().unwrap_or(caller.heard);
            let queued = std::mem::take(&mut self.peers[at].waits);
            let json = Json::parse(&body).unwrap_or_else(|why| panic!("{why} in {body}"));
            let code = json.get("code").map_or("", Json::text);
            assert_eq!(code.is_empty(), status == 200, "{status} {body}");
            match request {
                Request::Mistake(why) => assert_eq!(code, why),
                Request::Foreign => assert!(["not-held", "not-owner"].contains(&code), "{body}"),
                Request::Health => assert_eq!(json.field("status").text(), "ok"),
                Request::Stats => judge_stats(&json),
                Request::Status(key) => {
                    let key = &self.story.judge.keys[key];
                    self.shown.push(Shown::status(call, key, &json));
                }
                Request::Lock(act) => {
                    let said = self.read(&act, &json, waited);
                    let asked = queued || !net.clients[at].ended;
                    if said == "cancelled" && !asked {
                        // It came with the end of its connection, and was not asked for.
                        continue;
                    }
                    if let (Act::AcquireFor { key, .. }, Some(fine)) = (act, said.get(3..35))
                        && said.starts_with("ok ")
                    {
                        let token = token(fine).expect("32 digits");
                        self.caller(at).grant = Some((key, token));
                    }
                    self.peers[at].asks(act, end, Some((call, said.into_bytes())));
                }
            }
        }
    }

    /// The status of the next answer, whether it is the last, and its body, if it is whole.
    fn next_answer(&mut self, at: usize) -> Option<(u16, bool, String)> {
        let new = self.caller(at).new.make_contiguous();
        let text = std::str::from_utf8(new).expect("answers are text");
        let (head, rest) = text.split_once("\r\n\r\n")?;
        let length = head.split_once("\r\nContent-Length: ").expect("a length").1;
        let length = length.split("\r\n").next().expect("the first part");
        let body = rest.get(..length.parse().expect("a length"))?.to_string();
        let status = head[9..12].parse().expect("a status");
        let last = head.contains("\r\nConnection: close");
        let all = head.len() + 4 + body.len();
        self.caller(at).new.drain(..all);
        Some((status, last, body))
    }

    /// What the story compares of an answer about locks. The rest of it is judged here.
    fn read(&self, act: &Act, json: &Json, waited: Us) -> String {
        if let Some(code) = json.get("code") {
            if code.text() == "deadlock" {
                assert_eq!(ms(json, "waitTime"), waited / 1000, "since it was asked");
                assert_eq!(*json.field("acquired"), Json::Bool(false));
            }
            return code.text().into();
        }
        let keys = &self.story.judge.keys;
        let name = act
            .key()
            .map(|key| String::from_utf8_lossy(&keys[key].name));
        assert_eq!(Some(json.field("lockName").text()), name.as_deref());
        let flag = |name: &str| *json.field(name) == Json::Bool(true);
        match *act {
            Act::AcquireFor { name, .. } => {
                let client = name.map(|name| NAMES[name]);
                assert_eq!(Some(json.field("clientId").text().as_bytes()), client);
                assert_eq!(ms(json, "waitTime"), waited / 1000, "since it was asked");
                if flag("acquired") {
                    return granted(json);
                }
                for none in ["lockId", "renewalToken", "expiresAt"] {
                    assert_eq!(*json.field(none), Json::Null);
                }
                let kept = json.get("placeKept");
                let kept = kept.map(|_| format!(" kept {}", ms(json, "placeKept")));
                let reason = match json.field("reason").text() {
                    "timeout" => {
                        assert!(!self.is_quarantined(), "it does not say why");
                        "timeout"
                    }
                    "quarantine" => {
                        assert!(self.is_quarantined(), "it was not in vain");
                        "timeout"
                    }
                    other => other,
                };
                reason.to_string() + &kept.unwrap_or_default()
            }
            Act::Renew { .. } => {
                assert!(flag("acquired") && ms(json, "waitTime") == 0);
                granted(json)
            }
            Act::Release { .. } | Act::Cancel { .. } => {
                let fence = match json.field("lockId") {
                    Json::Null => "none",
                    id => id.text().strip_prefix("lock-").expect("lock- and a fence"),
                };
                assert_eq!(flag("released"), fence != "none");
                format!("released {fence}")
            }
            Act::Break { .. } => {
                let (count, holds) = (json.field("count").number(), json.field("locks").list());
                assert!(flag("released") && holds.len() as f64 >= count);
                format!("broken {count}")
            }
            act => panic!("no request asks for {act:?}"),
        }
    }
}

/// A hold that an answer tells of. Its names are those of one fence.
fn granted(json: &Json) -> String {
    let token = json.field("renewalToken").text();
    let fence = json.field("fencingToken").text();
    assert_eq!(&token[..16], fence);
    assert_eq!(json.field("lockId").text(), format!("lock-{fence}"));
    format!("ok {token} {}", ms(json, "ttl"))
}

/// The words for a reply of the lock table.
pub(super) fn spell(act: &Act, reply: &Reply) -> String {
    let hold = |fence, salt, lease| format!("ok {fence:016x}{salt:016x} {}", lease / 1000);
    match (act, *reply) {
        (_, Reply::Granted { token, lease }) => hold(token.fence, token.salt, lease),
        (Act::Renew { token, .. }, Reply::Renewed { lease }) => {
            hold(token.fence, token.salt, lease)
        }
        (Act::Release { token, .. }, Reply::Released) => format!("released {:016x}", token.fence),
        (_, Reply::Ended { fence: 0 }) => "released none".into(),
        (_, Reply::Ended { fence }) => format!("released {fence:016x}"),
        (_, Reply::Timeout) => "timeout".into(),
        (_, Reply::Kept { span }) => format!("timeout kept {}", span / 1000),
        (_, Reply::Superseded) => "superseded".into(),
        (_, Reply::Cancelled) => "cancelled".into(),
        (_, Reply::Broken { holds: 0 }) => "not-held".into(),
        (_, Reply::Broken { holds }) => format!("broken {holds}"),
        (_, Reply::Refused(refusal)) => match refusal {
            Refusal::Error => "not-held".into(),
            Refusal::MaxLocks => "max-locks".into(),
            Refusal::MaxWaiters => "max-waiters".into(),
            Refusal::LimitMismatch => "limit-mismatch".into(),
            Refusal::Draining => "draining".into(),
            Refusal::Deadlock => "deadlock".into(),
            other => panic!("{other:?} is not for this face"),
        },
        other => panic!("{other:?} is not for this face"),
    }
}

/// S11: each hold that was granted or carried on is held, or has ended in one way.
fn judge_stats(json: &Json) {
    let count = |name: &str| json.field(name).number();
    let ended = [
        "totalReleased",
        "totalExpired",
        "totalClosed",
        "totalForced",
    ];
    let ended: f64 = ended.map(count).iter().sum();
    let sum = count("activeLocks") + ended;
    let begun = count("totalAcquired") + count("totalAdopted");
    assert_eq!(begun, sum, "S11: {json:?}");
}

/// A member that is a number of seconds, in milliseconds.
fn ms(json: &Json, name: &str) -> u64 {
    const MS: f64 = (SECOND / 1000) as f64;
    (json.field(name).number() * MS).round() as u64
}
