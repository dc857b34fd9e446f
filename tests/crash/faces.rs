//! The requests of each face as bytes, and what its answers say. Written from the pages of the protocols and sharing nothing
//! with the server. Invariant: an answer that the protocol does not have fails the test.

use crate::record::{MS, Ns, Space};

/// A key, and how many may hold it.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    pub space: Space,
    pub name: &'static str,
    pub limit: usize,
}

impl Key {
    pub const fn lock(name: &'static str) -> Key {
        Key {
            space: Space::Lock,
            name,
            limit: 1,
        }
    }

    pub const fn semaphore(name: &'static str, limit: usize) -> Key {
        Key {
            space: Space::Semaphore,
            name,
            limit,
        }
    }
}

/// What a grant tells a client.
#[derive(Debug)]
pub struct Told {
    /// Empty where the protocol has none.
    pub token: String,
    pub fence: Option<u64>,
    /// How long after the request left the hold lasts at least.
    pub lasts: Ns,
}

impl Told {
    /// By the line protocol's token, or that of the REST face, which is the same.
    fn of(token: &str, lasts: Ns) -> Told {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        assert!(token.len() == 32 && token.bytes().all(is_hex), "{token}");
        let fence = u64::from_str_radix(&token[..16], 16).expect("hex digits");
        Told {
            token: token.to_string(),
            fence: Some(fence),
            lasts,
        }
    }
}

pub mod line {
    use super::{Key, Space, Told};
    use crate::record::SECOND;

    /// A request, whose command in the space of semaphores is another one.
    fn frame(command: &str, key: &Key, argument: &str) -> Vec<u8> {
        let prefix = match key.space {
            Space::Lock => "",
            Space::Semaphore => "s",
        };
        format!("{prefix}{command}\n{}\n{argument}\n", key.name).into_bytes()
    }

    fn limit(key: &Key) -> String {
        match key.space {
            Space::Lock => String::new(),
            Space::Semaphore => format!("{} ", key.limit),
        }
    }

    /// Times are in seconds.
    pub fn acquire(key: &Key, timeout: u64, lease: u64) -> Vec<u8> {
        frame("l", key, &format!("{timeout} {}{lease}", limit(key)))
    }

    pub fn enqueue(key: &Key, lease: u64) -> Vec<u8> {
        frame("e", key, &format!("{}{lease}", limit(key)))
    }

    pub fn wait(key: &Key, timeout: u64) -> Vec<u8> {
        frame("w", key, &timeout.to_string())
    }

    pub fn renew(key: &Key, token: &str, lease: u64) -> Vec<u8> {
        frame("n", key, &format!("{token} {lease}"))
    }

    pub fn release(key: &Key, token: &str) -> Vec<u8> {
        frame("r", key, token)
    }

    pub fn declare(name: &str) -> Vec<u8> {
        format!("id\n_\n{name}\n").into_bytes()
    }

    /// The words of an answer.
    pub fn words(answer: &[u8]) -> Vec<&str> {
        let line = std::str::from_utf8(answer).expect("an answer is text");
        line.trim_end().split(' ').collect()
    }

    /// What an acquire or a wait has brought; None is nothing.
    pub fn granted(answer: &[u8]) -> Option<Told> {
        match words(answer)[..] {
            ["ok" | "acquired", token, lease] => {
                let lease: u64 = lease.parse().expect("whole seconds");
                Some(Told::of(token, lease * SECOND))
            }
            ["timeout" | "error_draining" | "error_deadlock"] => None,
            ref other => panic!("an acquire was answered {other:?}"),
        }
    }

    /// The last word of a server that drains. Whoever has just connected may hear it unasked.
    pub fn is_last_word(answer: &[u8]) -> bool {
        answer == b"error_draining\n"
    }

    /// Whether a renewal or a release was carried out; None if the server has said its last word.
    pub fn is_done(answer: &[u8]) -> Option<bool> {
        match words(answer)[..] {
            ["ok"] | ["ok", _] => Some(true),
            ["error"] => Some(false),
            _ if is_last_word(answer) => None,
            ref other => panic!("answered {other:?}"),
        }
    }
}

pub mod distlockd {
    use super::Key;

    fn frame(command: u8, key: &Key, id: &str) -> Vec<u8> {
        let lengths = [key.name.len(), id.len()].map(|len| (len as u16).to_be_bytes());
        let lengths = lengths.concat();
        let parts = [&[command][..], &lengths, key.name.as_bytes(), id.as_bytes()];
        parts.concat()
    }

    pub fn health() -> Vec<u8> {
        vec![3, 0, 0, 0, 0]
    }

    /// A renewal is the same.
    pub fn acquire(key: &Key, id: &str) -> Vec<u8> {
        frame(1, key, id)
    }

    pub fn release(key: &Key, id: &str) -> Vec<u8> {
        frame(2, key, id)
    }

    /// What an acquire has come to.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Claim {
        Granted,
        Busy,
        /// Whoever drains answers no acquire, not even that of the holder.
        Draining,
    }

    pub fn claim(answer: &[u8]) -> Claim {
        match (answer[0], &answer[3..]) {
            (0, b"") => Claim::Granted,
            (2, _) => Claim::Busy,
            (1, b"error_draining") => Claim::Draining,
            _ => panic!("an acquire was answered {}", answer.escape_ascii()),
        }
    }

    pub fn is_released(answer: &[u8]) -> bool {
        match (answer[0], &answer[3..]) {
            (0, b"") => true,
            (1, b"Invalid release") => false,
            _ => panic!("a release was answered {}", answer.escape_ascii()),
        }
    }
}

pub mod rest {
    use super::{Key, MS, Ns, Space, Told};

    /// A request with a body of JSON.
    pub fn post(key: &Key, what: &str, body: &str) -> Vec<u8> {
        let path = format!("/locks/{}/{what}", key.name);
        request("POST", &path, body)
    }

    pub fn get(path: &str) -> Vec<u8> {
        request("GET", path, "")
    }

    fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost");
        let length = body.len();
        format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
    }

    pub fn acquire(key: &Key, wait_ms: u64, lease: u64, client: &str, attempt: &str) -> Vec<u8> {
        let limit = match key.space {
            Space::Lock => String::new(),
            Space::Semaphore => format!(r#","limit":{}"#, key.limit),
        };
        let wait = format!("{}.{:03}", wait_ms / 1000, wait_ms % 1000);
        let times = format!(r#""waitTimeout":{wait},"timeout":{lease}"#);
        let names = format!(r#""clientId":"{client}","requestId":"{attempt}""#);
        post(key, "acquire", &format!("{{{times},{names}{limit}}}"))
    }

    pub fn renew(key: &Key, token: &str, lease: u64) -> Vec<u8> {
        let body = format!(r#"{{"renewalToken":"{token}","timeout":{lease}}}"#);
        post(key, "renew", &body)
    }

    pub fn release(key: &Key, token: &str) -> Vec<u8> {
        post(key, "release", &format!(r#"{{"renewalToken":"{token}"}}"#))
    }

    pub fn status(answer: &[u8]) -> u16 {
        let text = text(answer);
        let status = text.split(' ').nth(1).expect("a status");
        status.parse().expect("a number")
    }

    pub fn text(answer: &[u8]) -> &str {
        std::str::from_utf8(answer).expect("an answer is text")
    }

    /// A field that holds text or a number.
    pub fn field<'a>(answer: &'a [u8], name: &str) -> &'a str {
        let text = text(answer);
        let (_, rest) = text.split_once(&format!("\"{name}\":")).expect(text);
        let value = rest.split([',', '}']).next().expect("there is a first one");
        value.trim_matches('"')
    }

    fn seconds(answer: &[u8], name: &str) -> Ns {
        let seconds: f64 = field(answer, name).parse().expect("seconds");
        (seconds * 1000.0).round() as Ns * MS
    }

    /// What an acquire has brought; None is nothing.
    pub fn granted(answer: &[u8]) -> Option<Told> {
        match status(answer) {
            200 if field(answer, "acquired") == "true" => {
                // Not over before that: the wait is counted from the request's arrival.
                let lasts = seconds(answer, "waitTime") + seconds(answer, "ttl");
                let told = Told::of(field(answer, "renewalToken"), lasts);
                let fence = told.fence.expect("a token has one");
                assert_eq!(field(answer, "fencingToken"), format!("{fence:016x}"));
                Some(told)
            }
            200 => None,
            409 if field(answer, "code") == "deadlock" => None,
            503 if is_draining(answer) => None,
            _ => panic!("an acquire was answered {}", text(answer)),
        }
    }

    /// An acquire is refused by a server that drains, even if it repeats the one that was granted.
    pub fn is_draining(answer: &[u8]) -> bool {
        status(answer) == 503 && field(answer, "code") == "draining"
    }

    /// Another server leads, or will.
    pub fn stands_by(answer: &[u8]) -> bool {
        status(answer) == 503 && field(answer, "code") == "standby"
    }

    /// For how long a hold was renewed, if it was.
    pub fn renewed(answer: &[u8]) -> Option<Ns> {
        is_done(answer).then(|| seconds(answer, "ttl"))
    }

    /// Whether a renewal or a release was carried out.
    pub fn is_done(answer: &[u8]) -> bool {
        match status(answer) {
            200 => true,
            409 if field(answer, "code") == "not-held" => false,
            _ => panic!("answered {}", text(answer)),
        }
    }
}
