//! The paths of the face: one table with the methods of each and who may use it, and how a path and its query are read.
//! It carries nothing out. Invariant: a path is split before it is decoded, so that an escaped slash is part of a name.

use std::borrow::Cow;

use super::{Method, Problem, Query, Route};
use crate::command::Space;
use crate::wire::text;

/// The longest name of a lock, in bytes.
pub const NAME_MAX: usize = 256;
/// The most locks on a page of the list.
pub const PAGE_MAX: usize = 1000;
/// How many there are if the request does not say.
const PAGE: usize = 100;
/// What stands for the name in a template.
const NAME: &str = "{lockName}";

/// Who may use a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Everyone.
    Public,
    /// Whoever knows the secret, if there is one.
    Token,
    /// The same, unless the settings make the metrics public.
    Metrics,
    /// An administrator.
    Admin,
}

/// A row of the table.
#[derive(Debug)]
pub struct Path {
    /// The path, with `{lockName}` for any name.
    pub template: &'static str,
    /// What it is for.
    pub route: Route,
    /// Its methods, as `Allow` says them.
    pub allow: &'static str,
    /// Who may use it.
    pub access: Access,
}

const fn path(template: &'static str, route: Route, allow: &'static str, access: Access) -> Path {
    Path {
        template,
        route,
        allow,
        access,
    }
}

/// The methods that are known, though some have no path: another one is not implemented, whatever its path.
const KNOWN: [&str; 8] = [
    "GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH", "TRACE",
];
const GET: &str = "GET, HEAD, OPTIONS";
const POST: &str = "POST, OPTIONS";

/// Every path of the face. The first row that fits counts.
pub const PATHS: &[Path] = &[
    path(
        "/locks/{lockName}/acquire",
        Route::Acquire,
        POST,
        Access::Token,
    ),
    path(
        "/locks/{lockName}/release",
        Route::Release,
        POST,
        Access::Token,
    ),
    path("/locks/{lockName}/renew", Route::Renew, POST, Access::Token),
    path(
        "/locks/{lockName}/status",
        Route::Status,
        GET,
        Access::Token,
    ),
    path("/locks", Route::Locks, GET, Access::Token),
    // A lock may be called `stats`, so its path has the method of a lock besides.
    path(
        "/locks/stats",
        Route::Stats,
        "GET, HEAD, DELETE, OPTIONS",
        Access::Token,
    ),
    path(
        "/locks/{lockName}",
        Route::Lock,
        "DELETE, OPTIONS",
        Access::Admin,
    ),
    path("/health", Route::Health, GET, Access::Public),
    path("/ready", Route::Ready, GET, Access::Public),
    path("/metrics", Route::Metrics, GET, Access::Metrics),
    path("/", Route::Page, GET, Access::Public),
    path("/openapi.json", Route::OpenApi, GET, Access::Public),
    path(
        "*",
        Route::Server,
        "GET, HEAD, POST, DELETE, OPTIONS",
        Access::Public,
    ),
];

/// The row of a route. None: [`Route::Unknown`].
pub fn row(route: Route) -> Option<&'static Path> {
    PATHS.iter().find(|path| path.route == route)
}

/// The template of a route, for the labels of metrics: it never has a name in it.
pub fn template(route: Route) -> &'static str {
    row(route).map_or("unknown", |path| path.template)
}

/// The methods of a route, for `Allow`.
pub fn allow(route: Route) -> &'static str {
    row(route).map_or("", |path| path.allow)
}

/// Who may use a route. What has no effect and shows no data needs no secret: a wrong path, a question for methods.
pub fn access(route: Route, method: Method) -> Access {
    match row(route) {
        Some(path) if method != Method::Options => path.access,
        _ => Access::Public,
    }
}

/// Whether only the server that leads can answer.
pub fn needs_leader(route: Route) -> bool {
    !matches!(
        route,
        Route::Health | Route::Metrics | Route::Page | Route::OpenApi | Route::Unknown
    )
}

/// Whether an answer says what is held, so that it waits until a store has that. The numbers of the metrics are no promise,
/// and are looked at when the store is away.
pub fn tells_of_holds(route: Route) -> bool {
    needs_leader(route) && route != Route::Ready
}

/// What a path and a method ask for, and the name in the path, decoded. The route is there even with a problem, if the
/// path has one.
pub fn find(method: Method, word: &str, path: &str) -> (Route, Result<Vec<u8>, Problem>) {
    if word == "CONNECT" {
        return (Route::Unknown, Err(not_implemented()));
    }
    let is_method = KNOWN.contains(&word);
    let Some((row, name)) = PATHS
        .iter()
        .find_map(|row| Some((row, fit(row.template, path)?)))
    else {
        let problem = if is_method {
            unknown(path)
        } else {
            not_implemented()
        };
        return (Route::Unknown, Err(problem));
    };
    let mut allowed = row.allow.as_bytes().split(|&byte| byte == b',');
    let is_there = allowed.any(|allowed| allowed.trim_ascii_start() == word.as_bytes());
    let (route, name) = match (row.route, method) {
        (Route::Stats, Method::Delete) => (Route::Lock, Some(&b"stats"[..])),
        (route, _) => (route, name),
    };
    if !is_there {
        let problem = if is_method {
            Problem::method(row.allow)
        } else {
            not_implemented()
        };
        return (route, Err(problem));
    }
    let name = match name {
        Some(name) if method != Method::Options => self::name(name),
        _ => Ok(Vec::new()),
    };
    (route, name)
}

fn not_implemented() -> Problem {
    let detail = "the methods are GET, HEAD, POST, DELETE and OPTIONS, in capitals";
    Problem::new("not-implemented", detail)
}

fn unknown(path: &str) -> Problem {
    match decode(path.as_bytes()).is_some() {
        true => Problem::new(
            "not-found",
            "see /openapi.json for the paths there are; write a slash in a name as %2F",
        ),
        false => Problem::new(
            "bad-request",
            "an escape in the path is not % and two hex digits",
        ),
    }
}

/// Whether a path is like a template. Then, the name in it, as sent: `Some(None)` if the template has none.
fn fit<'a>(template: &str, path: &'a str) -> Option<Option<&'a [u8]>> {
    // By bytes: a search for a character costs more than so short a part.
    let slash = |byte: &u8| *byte == b'/';
    let (mut name, mut parts) = (None, path.as_bytes().split(slash));
    for known in template.as_bytes().split(slash) {
        let part = parts.next()?;
        if known == NAME.as_bytes() {
            name = Some(part);
        } else if part != known && (!part.contains(&b'%') || decode(part)? != known) {
            return None;
        }
    }
    // `/locks/` is not the lock without a name.
    let is_bare = name == Some(b"") && template.ends_with(NAME);
    (parts.next().is_none() && !is_bare).then_some(name)
}

/// Decodes and checks the name of a lock. It may be what it may be on the line protocol, and is text besides.
fn name(raw: &[u8]) -> Result<Vec<u8>, Problem> {
    let bad = |why: &str| Problem::new("invalid-lock-name", why);
    let name = decode(raw).ok_or_else(|| bad("an escape is not % and two hex digits"))?;
    let text = str::from_utf8(&name).map_err(|_| bad("the name is not UTF-8"))?;
    if !(1..=NAME_MAX).contains(&name.len()) {
        return Err(bad("a name has 1 to 256 bytes"));
    }
    if text == "." || text == ".." {
        return Err(bad(
            "a name is not . or .., which clients and proxies remove",
        ));
    }
    if text.chars().any(char::is_control) || text::name(&name).is_none() {
        return Err(bad("a name has no blanks and no control characters"));
    }
    Ok(name.into_owned())
}

/// Decodes the escapes of RFC 3986, 2.1. None: there is a wrong one.
fn decode(raw: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !raw.contains(&b'%') {
        return Some(raw.into());
    }
    let mut parts = raw.split(|&byte| byte == b'%');
    let mut decoded = parts.next()?.to_vec();
    for part in parts {
        let (digits, rest) = part.split_first_chunk::<2>()?;
        let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
        decoded.push((high? << 4 | low?) as u8);
        decoded.extend_from_slice(rest);
    }
    Some(decoded.into())
}

/// The parameters that a route reads.
fn parameters(route: Route) -> &'static [&'static str] {
    match route {
        Route::Status => &["space", "queue"],
        Route::Lock => &["space", "lockId"],
        Route::Locks => &["space", "limit", "after", "prefix"],
        _ => &[],
    }
}

/// Reads the query of a route. What the route does not read is ignored; each wrong value is an error.
pub fn query(route: Route, query: &str) -> (Query, Vec<(&'static str, String)>) {
    let mut read = Query::default();
    let (mut errors, mut seen) = (Vec::new(), Vec::new());
    let known = parameters(route);
    if known.is_empty() {
        return (read, errors);
    }
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(key) = decode(key.as_bytes()) else {
            continue;
        };
        let Some(&key) = known.iter().find(|known| known.as_bytes() == &*key) else {
            continue;
        };
        let result = match decode(value.as_bytes()) {
            _ if seen.contains(&key) => Err("want it once".to_string()),
            None => Err("want % and two hex digits in an escape".to_string()),
            Some(value) => read.set(key, &value),
        };
        seen.push(key);
        errors.extend(result.err().map(|why| (key, why)));
    }
    (read, errors)
}

impl Default for Query {
    fn default() -> Query {
        Query {
            space: None,
            limit: PAGE,
            after: 0,
            prefix: Vec::new(),
            fence: None,
            queue: true,
        }
    }
}

impl Query {
    fn set(&mut self, key: &str, value: &[u8]) -> Result<(), String> {
        match key {
            "space" => {
                self.space = Some(match value {
                    b"lock" => Space::Lock,
                    b"semaphore" => Space::Semaphore,
                    _ => return Err("want lock or semaphore".to_string()),
                });
            }
            "queue" => {
                self.queue = match value {
                    b"true" => true,
                    b"false" => false,
                    _ => return Err("want true or false".to_string()),
                };
            }
            "limit" => {
                let limit = digits(value, 1, PAGE_MAX as u64);
                let limit = limit.ok_or_else(|| format!("want a whole number, 1 to {PAGE_MAX}"))?;
                self.limit = limit as usize;
            }
            "after" => {
                let after = digits(value, 0, u32::MAX.into());
                let after = after.ok_or("want what an earlier page has in \"next\"")?;
                self.after = after as u32;
            }
            "lockId" => self.fence = Some(fence(value)),
            _ => self.prefix = value.to_vec(),
        }
        Ok(())
    }
}

/// Reads a whole number in a range, of digits alone.
fn digits(word: &[u8], least: u64, most: u64) -> Option<u64> {
    let has_sign = !word.first().is_some_and(u8::is_ascii_digit);
    text::integer(word, least, most).filter(|_| !has_sign)
}

/// Reads a lockId, `lock-` and the 16 digits of a fence. Of anything else it makes 0, the fence of no hold: it may be
/// the lockId of another server.
pub fn fence(word: &[u8]) -> u64 {
    let digits = word.strip_prefix(b"lock-").and_then(|d| d.try_into().ok());
    digits.and_then(text::hex).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [(&str, Method); 8] = [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("DELETE", Method::Delete),
        ("OPTIONS", Method::Options),
        ("PUT", Method::Other),
        ("PATCH", Method::Other),
        ("TRACE", Method::Other),
    ];

    #[test]
    fn every_path_has_its_methods_and_says_so_of_others() {
        for row in PATHS {
            for (word, method) in WORDS {
                let (route, name) = find(method, word, &row.template.replace(NAME, "a%2Fb"));
                let is_there = row.allow.split(", ").any(|allowed| allowed == word);
                match name {
                    Ok(name) => {
                        assert!(is_there, "{word} {}", row.template);
                        let has_name = row.template.contains(NAME) && method != Method::Options;
                        let wanted = match row.template {
                            "/locks/stats" if method == Method::Delete => &b"stats"[..],
                            _ if has_name => b"a/b",
                            _ => b"",
                        };
                        assert_eq!(name, wanted, "{word} {}", row.template);
                    }
                    Err(problem) => {
                        assert!(!is_there, "{word} {}", row.template);
                        assert_eq!(problem, Problem::method(row.allow));
                    }
                }
                let is_lock = (row.route, method) == (Route::Stats, Method::Delete);
                assert_eq!(route, if is_lock { Route::Lock } else { row.route });
            }
            // HEAD is there where GET is, and OPTIONS is everywhere.
            assert_eq!(row.allow.contains("GET"), row.allow.contains("HEAD"));
            assert!(row.allow.ends_with("OPTIONS"));
            assert_eq!(template(row.route), row.template);
            let options = access(row.route, Method::Options);
            assert_eq!(
                (access(row.route, Method::Get), options),
                (row.access, Access::Public)
            );
        }
        assert_eq!(
            (template(Route::Unknown), allow(Route::Unknown)),
            ("unknown", "")
        );
        assert_eq!(access(Route::Unknown, Method::Get), Access::Public);
    }

    #[test]
    fn an_unknown_method_is_not_implemented_whatever_its_path() {
        for path in ["/locks", "/locks/a", "/nothing", "/%zz"] {
            for (word, method) in [("BREW", Method::Other), ("get", Method::Other)] {
                let problem = find(method, word, path).1.expect_err("no such method");
                assert_eq!(problem.status, 501, "{word} {path}");
            }
        }
        let put = find(Method::Other, "PUT", "/nothing").1;
        assert_eq!(put.expect_err("no such path").status, 404);
    }

    #[test]
    fn a_path_is_split_before_it_is_decoded_and_never_tidied_up() {
        let status = |path: &str| match find(Method::Get, "GET", path) {
            (_, Ok(_)) => 200,
            (_, Err(problem)) => problem.status,
        };
        for (path, wanted) in [
            ("/locks/stats", 200),
            ("/%6cocks/%73tats", 200),
            ("/locks/a/status", 200),
            ("/locks/status/status", 200),
            ("/locks", 200),
            ("/", 200),
            ("/locks/", 404),
            ("/locks/a/status/", 404),
            ("/locks%2Fa%2Fstatus", 404),
            ("//", 404),
            ("//locks", 404),
            ("/./locks", 404),
            ("/locks/../health", 404),
            ("/Locks", 404),
            ("/health/", 404),
            ("/healthz", 404),
            ("/%zz", 400),
            ("/locks/a/%7", 400),
            ("/locks/a/b", 404),
            ("/locks/a", 405),
        ] {
            assert_eq!(status(path), wanted, "{path}");
        }
    }

    #[test]
    fn a_name_is_what_it_may_be_on_the_line_protocol_and_text() {
        let (longest, too_long) = ("x".repeat(256), "x".repeat(257));
        let cat = "%F0%9F%90%88".repeat(64);
        for (raw, name) in [
            ("user:123", Some("user:123")),
            ("a%2fb", Some("a/b")),
            ("a%252fb", Some("a%2fb")),
            ("%C3%A9é", Some("éé")),
            ("a+b;c=d,e@f!$&'()*~", Some("a+b;c=d,e@f!$&'()*~")),
            ("...", Some("...")),
            ("{lockName}", Some("{lockName}")),
            (&longest, Some(&longest)),
            (&cat, Some(&"🐈".repeat(64))),
            (&too_long, None),
            ("", None),
            (".", None),
            ("..", None),
            ("%2e", None),
            ("%2E.", None),
            ("a%20b", None),
            ("a%09b", None),
            ("a%0Db", None),
            ("%00", None),
            ("a%1b", None),
            ("%7f", None),
            ("%C2%85", None),
            ("%ff", None),
            ("%C3", None),
            ("%", None),
            ("%a", None),
            ("%zz", None),
            ("%+1", None),
        ] {
            let path = format!("/locks/{raw}/acquire");
            let (route, read) = find(Method::Post, "POST", &path);
            assert_eq!(route, Route::Acquire);
            match (read, name) {
                (Ok(read), Some(name)) => assert_eq!(read, name.as_bytes(), "{raw}"),
                (Err(problem), None) => assert_eq!(problem.code, "invalid-lock-name"),
                (read, _) => panic!("{raw}: {read:?}"),
            }
        }
    }

    #[test]
    fn a_query_has_what_its_route_reads_and_each_once() {
        let read = |route, query: &str| {
            let (read, errors) = super::query(route, query);
            let wrong: Vec<_> = errors.into_iter().map(|(field, _)| field).collect();
            (read, wrong.join(" "))
        };
        let wrong = |route, query: &str| read(route, query).1;
        let (page, none) = read(
            Route::Locks,
            "limit=1000&after=4294967295&prefix=a%2Bb+%ff&space=semaphore&x&=&x=%zz",
        );
        let wanted = Query {
            space: Some(Space::Semaphore),
            limit: 1000,
            after: u32::MAX,
            prefix: b"a+b+\xff".to_vec(),
            ..Query::default()
        };
        assert_eq!((page, none.as_str()), (wanted, ""));
        assert_eq!(read(Route::Locks, "").0, Query::default());
        assert!(!read(Route::Status, "queue=false&space=lock").0.queue);
        for (lock_id, fence) in [
            ("lock-00000000000000ff", 255),
            ("lock-00000000000000FF", 0),
            ("lock-789", 0),
            ("", 0),
        ] {
            let (read, none) = read(Route::Lock, &format!("lockId={lock_id}"));
            assert_eq!((read.fence, none.as_str()), (Some(fence), ""));
        }
        for query in [
            "limit=0",
            "limit=1001",
            "limit=+1",
            "limit=-1",
            "limit=1.0",
            "limit=",
            "limit",
            "limit=1&limit=2",
            "limit=%zz",
            "limit=99999999999999999999",
        ] {
            assert_eq!(wrong(Route::Locks, query), "limit", "{query}");
            assert_eq!(wrong(Route::Acquire, query), "");
        }
        let query = "after=x&after=4294967296&space=Lock&prefix=%&queue=no";
        assert_eq!(wrong(Route::Locks, query), "after after space prefix");
        assert_eq!(
            wrong(Route::Status, "queue=no&limit=0&space="),
            "queue space"
        );
    }
}
