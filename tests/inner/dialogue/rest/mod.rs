//! The REST face over the hub: what a client gets for its requests, and who has the lock then.

mod attempts;
mod guards;
mod lists;
mod locks;
mod restart;
mod waits;

use dflockd::wire::Face;

use super::*;

/// An answer, split into its parts.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    /// The value of a header.
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut pairs = lines.filter_map(|line| line.split_once(": "));
        pairs.find(|pair| pair.0 == name).map(|pair| pair.1)
    }

    fn json(&self) -> Json {
        Json::parse(&self.body).expect("the body is JSON")
    }

    /// A member of the body, as text: `null`, `true`, a number or what is in quotes.
    #[track_caller]
    fn field(&self, name: &str) -> String {
        match self.json().field(name) {
            Json::Null => "null".to_string(),
            Json::Bool(value) => value.to_string(),
            Json::Number(number) => number.to_string(),
            Json::Text(text) => text.clone(),
            other => panic!("{name} is {other:?}"),
        }
    }
}

/// A request as it goes over the wire.
fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}

impl Dialogue {
    /// A client of this face connects.
    fn calls(&mut self) -> usize {
        let client = self.0.connect_to(Face::Http);
        self.0.settle();
        client
    }

    /// The next answer that the client has. It must be whole.
    #[track_caller]
    fn next_answer(&mut self, client: usize) -> Answer {
        let heard = &mut self.0.clients[client].heard;
        let text = String::from_utf8(heard.clone()).expect("answers are text");
        let (head, rest) = text.split_once("\r\n\r\n").expect("a whole answer");
        let status = head[9..12].parse().expect("a status");
        let mut answer = Answer {
            status,
            head: head.to_string(),
            body: String::new(),
        };
        let length = answer.header("Content-Length").unwrap_or("0");
        let length: usize = length.parse().expect("a length");
        answer.body = rest[..length].to_string();
        heard.drain(..head.len() + 4 + length);
        answer
    }

    /// The client sends a request and is answered at once, with nothing else.
    #[track_caller]
    fn call(&mut self, client: usize, method: &str, path: &str, body: &str) -> Answer {
        self.send(client, request(method, path, body));
        let answer = self.next_answer(client);
        assert_eq!(
            self.0.clients[client].heard, b"",
            "one answer to one request"
        );
        answer
    }

    /// The same, which must have this status.
    #[track_caller]
    fn post(&mut self, client: usize, path: &str, body: &str, status: u16) -> Answer {
        let answer = self.call(client, "POST", path, body);
        assert_eq!(answer.status, status, "{}", answer.body);
        answer
    }

    /// The client takes the lock at once.
    #[track_caller]
    fn is_given(&mut self, client: usize, path: &str, body: &str) -> Answer {
        let answer = self.post(client, &format!("/locks/{path}/acquire"), body, 200);
        assert_eq!(answer.field("acquired"), "true", "{}", answer.body);
        answer
    }

    /// The client asks for the lock and is not answered yet.
    #[track_caller]
    fn begins_to_wait(&mut self, client: usize, path: &str, body: &str) {
        self.send(
            client,
            request("POST", &format!("/locks/{path}/acquire"), body),
        );
        assert_eq!(self.0.clients[client].heard, b"");
    }
}
