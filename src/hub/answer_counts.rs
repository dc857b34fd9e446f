//! How many HTTP requests were answered, by route, method and status, and how long that took. It knows no request.
//! Invariant: its memory depends on the tables here alone, whatever clients ask for.

use crate::base::histogram::Histogram;
use crate::command::Us;
use crate::wire::metrics;

/// The bounds of the times of answers: from 100 us to a second.
const BOUNDS: [Us; 13] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000,
];

/// The paths, in the order of the routes of the REST face.
const ROUTES: [&str; 14] = [
    "/locks/{lockName}/acquire",
    "/locks/{lockName}/release",
    "/locks/{lockName}/renew",
    "/locks/{lockName}/status",
    "/locks",
    "/locks/stats",
    "/locks/{lockName}",
    "/health",
    "/ready",
    "/metrics",
    "/",
    "/openapi.json",
    "*",
    "unknown",
];

/// The methods, in the order of those of the REST face.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "other"];
const GET: usize = 0;
const POST: usize = 2;
const DELETE: usize = 3;

/// The statuses that answers have. Another one counts as the last.
const CODES: [u16; 21] = [
    200, 204, 304, 400, 401, 403, 404, 405, 408, 409, 413, 414, 415, 417, 421, 422, 431, 501, 503,
    505, 500,
];

/// What is there from the start, with 0: the method that each route is for, and the statuses that alerts look at.
const FIRST_METHODS: [usize; 12] = [
    POST, POST, POST, GET, GET, GET, DELETE, GET, GET, GET, GET, GET,
];
const FIRST_CODES: [u16; 3] = [200, 500, 503];

/// The counts of answers.
pub(super) struct AnswerCounts {
    /// By route, method and status; empty before the first answer.
    counts: Vec<u64>,
    times: Histogram<{ BOUNDS.len() }>,
    /// The answers of this turn: how long ago their requests were whole when it began.
    pending: Vec<Us>,
}

impl Default for AnswerCounts {
    fn default() -> AnswerCounts {
        AnswerCounts {
            counts: Vec::new(),
            times: Histogram::new(&BOUNDS),
            pending: Vec::new(),
        }
    }
}

impl AnswerCounts {
    /// An answer with this status is on its way. `before` is how long the request was there when the turn began, without
    /// the wait for a lock.
    pub fn add(&mut self, route: usize, method: usize, code: u16, before: Us) {
        if self.counts.is_empty() {
            self.counts = vec![0; ROUTES.len() * METHODS.len() * CODES.len()];
        }
        let known = CODES.iter().position(|&known| known == code);
        let code = known.unwrap_or(CODES.len() - 1);
        self.counts[place(route, method, code)] += 1;
        self.pending.push(before);
    }

    /// The turn is over, and took so long.
    #[inline]
    pub fn end_turn(&mut self, took: Us) {
        if !self.pending.is_empty() {
            self.time(took);
        }
    }

    #[cold]
    fn time(&mut self, took: Us) {
        for before in self.pending.drain(..) {
            self.times.add(before + took, 1);
        }
    }

    /// How long answers took.
    pub fn times(&self) -> &Histogram<{ BOUNDS.len() }> {
        &self.times
    }

    /// All counts but those that are 0 and are not looked for.
    pub fn counts(&self) -> Vec<metrics::Answers> {
        let mut all = Vec::new();
        for (at, route) in ROUTES.into_iter().enumerate() {
            for (method_at, method) in METHODS.into_iter().enumerate() {
                for (code_at, code) in CODES.into_iter().enumerate() {
                    let count = self.counts.get(place(at, method_at, code_at)).copied();
                    let count = count.unwrap_or(0);
                    let is_first =
                        FIRST_METHODS.get(at) == Some(&method_at) && FIRST_CODES.contains(&code);
                    if count > 0 || is_first {
                        all.push(metrics::Answers {
                            route,
                            method,
                            code,
                            count,
                        });
                    }
                }
            }
        }
        all
    }
}

fn place(route: usize, method: usize, code: usize) -> usize {
    (route * METHODS.len() + method) * CODES.len() + code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::{Method, Route, problem, route};

    /// Those of the counts that are not 0, as route, method and status.
    fn counted(answers: &AnswerCounts) -> Vec<(&'static str, &'static str, u16, u64)> {
        let all = answers.counts().into_iter().filter(|row| row.count > 0);
        all.map(|row| (row.route, row.method, row.code, row.count))
            .collect()
    }

    #[test]
    fn what_alerts_look_at_is_there_before_the_first_answer_and_nothing_twice() {
        let mut answers = AnswerCounts::default();
        for _ in 0..2 {
            let rows = answers.counts();
            let mut keys: Vec<_> = rows.iter().map(|r| (r.route, r.method, r.code)).collect();
            assert_eq!(rows.len(), FIRST_METHODS.len() * FIRST_CODES.len());
            assert!(keys.contains(&("/locks/{lockName}", "DELETE", 503)));
            keys.sort();
            keys.dedup();
            assert_eq!(keys.len(), rows.len());
            answers.add(0, POST, 200, 0);
        }
    }

    #[test]
    fn routes_and_methods_are_those_of_the_rest_face() {
        assert_eq!(ROUTES[Route::Unknown as usize], "unknown");
        for path in route::PATHS {
            assert_eq!(ROUTES[path.route as usize], path.template);
            if let Some(&method) = FIRST_METHODS.get(path.route as usize) {
                let mut methods = path.allow.split(", ");
                assert!(methods.any(|allowed| allowed == METHODS[method]));
            }
        }
        assert_eq!(ROUTES.len(), route::PATHS.len() + 1);
        let methods = [
            Method::Get,
            Method::Head,
            Method::Post,
            Method::Delete,
            Method::Options,
            Method::Other,
        ];
        assert_eq!(methods.map(|method| method as usize), [0, 1, 2, 3, 4, 5]);
        for (method, place) in [
            (Method::Get, GET),
            (Method::Post, POST),
            (Method::Delete, DELETE),
        ] {
            assert_eq!(method as usize, place);
        }
    }

    #[test]
    fn statuses_are_those_of_the_rest_face_and_an_unknown_one_is_a_failure() {
        let problems = problem::CODES.iter().map(|&(_, status, _)| status);
        let mut statuses: Vec<u16> = [200, 204, 304].into_iter().chain(problems).collect();
        statuses.sort();
        statuses.dedup();
        let mut known = CODES.to_vec();
        known.sort();
        assert_eq!(known, statuses);
        assert_eq!(CODES.last(), Some(&500));
    }

    #[test]
    fn each_answer_is_counted_once_where_it_belongs() {
        let mut answers = AnswerCounts::default();
        answers.add(0, POST, 200, 0);
        answers.add(0, POST, 200, 0);
        answers.add(13, 5, 404, 0);
        answers.add(6, DELETE, 599, 0);
        let expected = [
            ("/locks/{lockName}/acquire", "POST", 200, 2),
            ("/locks/{lockName}", "DELETE", 500, 1),
            ("unknown", "other", 404, 1),
        ];
        assert_eq!(counted(&answers), expected);
    }

    #[test]
    fn all_counts_together_are_bounded_and_each_has_a_place_of_its_own() {
        let mut answers = AnswerCounts::default();
        for route in 0..ROUTES.len() {
            for method in 0..METHODS.len() {
                CODES
                    .iter()
                    .for_each(|&code| answers.add(route, method, code, 0));
            }
        }
        let rows = answers.counts();
        assert_eq!(rows.len(), 14 * 6 * 21);
        assert!(rows.iter().all(|row| row.count == 1));
    }

    #[test]
    fn an_answer_takes_until_the_end_of_its_turn() {
        let mut answers = AnswerCounts::default();
        answers.add(0, POST, 200, 0);
        answers.add(0, POST, 200, 40_000);
        answers.end_turn(300);
        answers.end_turn(1_000_000);
        assert_eq!(answers.times().count(), 2);
        assert_eq!(answers.times().sum(), 40_600);
    }
}
