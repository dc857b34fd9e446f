//! What can be wrong with a request, as problems of RFC 9457: for each code its status and its title, and the problems
//! that more than one place reports. It writes nothing. Invariant: a code has one meaning and one title; only
//! `not-held` has two statuses, as a DELETE names what it wants to end by its path.

use super::Problem;
use crate::command::Space;

/// For each code its status and its title.
pub const CODES: &[(&str, u16, &str)] = &[
    ("bad-request", 400, "The request is malformed"),
    ("invalid-json", 400, "The body is not valid JSON"),
    ("invalid-lock-name", 400, "The name of the lock is invalid"),
    ("unauthorized", 401, "A valid token is needed"),
    ("not-owner", 403, "The lock is held by another client"),
    ("admin-required", 403, "Only an administrator may do this"),
    (
        "origin-not-allowed",
        403,
        "Pages of this origin are refused",
    ),
    ("not-found", 404, "There is no such path"),
    ("method-not-allowed", 405, "The path has no such method"),
    ("request-timeout", 408, "The request came too slowly"),
    ("not-held", 409, "The lock is not held"),
    ("limit-mismatch", 409, "The semaphore has another limit"),
    ("deadlock", 409, "The wait would be a deadlock"),
    ("body-too-large", 413, "The body is too large"),
    ("uri-too-long", 414, "The request line is too long"),
    (
        "unsupported-media-type",
        415,
        "The body is not declared JSON",
    ),
    ("expectation-failed", 417, "The expectation is unknown"),
    ("misdirected", 421, "The server has another name"),
    ("missing-lock-id", 422, "The request names no hold"),
    ("invalid-field", 422, "A field of the request is invalid"),
    ("headers-too-large", 431, "The headers are too large"),
    ("internal", 500, "The server has failed"),
    ("not-implemented", 501, "The server has no such function"),
    ("draining", 503, "The server is about to stop"),
    ("quarantine", 503, "The server does not grant yet"),
    ("standby", 503, "Another server is active"),
    ("max-locks", 503, "There are too many locks"),
    ("max-waiters", 503, "Too many wait for the lock"),
    ("unsupported-version", 505, "The server speaks HTTP/1.1"),
];

impl Problem {
    /// A problem of a code of the table, and what is wrong this time.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Problem {
        Problem {
            status: row(code).1,
            code,
            detail: detail.into(),
            errors: Vec::new(),
            allow: "",
        }
    }

    /// Fields of the body or of the query that are wrong, and what is wrong with each; at least one.
    pub fn fields(errors: Vec<(&'static str, String)>) -> Problem {
        let lines = errors.iter().map(|(field, why)| format!("{field}: {why}"));
        let detail = lines.collect::<Vec<_>>().join("; ");
        Problem {
            errors,
            ..Problem::new("invalid-field", detail)
        }
    }

    /// The path has other methods: these.
    pub fn method(allow: &'static str) -> Problem {
        Problem {
            allow,
            ..Problem::new("method-not-allowed", format!("the path has {allow}"))
        }
    }

    /// A DELETE found no hold to end in this space.
    pub fn nothing_held(space: Space) -> Problem {
        let detail = match space {
            Space::Lock => {
                "nobody holds this lock, or not with this lockId; \
                 if it has a limit, add ?space=semaphore"
            }
            Space::Semaphore => "nobody holds this semaphore, or not with this lockId",
        };
        Problem {
            status: 404,
            ..Problem::new("not-held", detail)
        }
    }

    /// A summary that is the same for every problem of this code.
    pub fn title(&self) -> &'static str {
        row(self.code).2
    }
}

fn row(code: &str) -> &'static (&'static str, u16, &'static str) {
    let row = CODES.iter().find(|row| row.0 == code);
    row.expect("every code that is used is in the table")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_there_once_and_has_a_title_of_its_own() {
        for (at, (code, status, title)) in CODES.iter().enumerate() {
            assert!((400..600).contains(status), "{code}");
            for other in &CODES[..at] {
                assert!(other.0 != *code && other.2 != *title, "{code}");
            }
        }
    }
}
