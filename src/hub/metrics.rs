//! The counts as the REST face gives them: as metrics, and as the answer to `/locks/stats`. It counts nothing itself.
//! Invariant: what it costs does not depend on how many locks there are.

use super::Hub;
use crate::base::histogram::Histogram;
use crate::command::{SECOND, Us};
use crate::wire::Face;
use crate::wire::http::{self, Method, Route};
use crate::wire::metrics::{self, Metrics, Spans};

impl Hub {
    /// An HTTP request gets an answer with this status.
    /// `before` is how long the request was there when this turn began, without the wait for a lock.
    pub(super) fn count_answer(&mut self, route: Route, method: Method, code: u16, before: Us) {
        let answers = &mut self.tally.answers;
        answers.add(route as usize, method as usize, code, before);
    }

    /// Appends the metrics, as the server and the lock table have counted until now.
    pub fn write_metrics(&self, out: &mut Vec<u8>) {
        let counts = self.counts();
        let (table, waits, server) = (&counts.locks, &counts.locks.waits, &counts.server);
        let answers = self.tally.answers.counts();
        let connections = &counts.connections;
        let metrics = Metrics {
            version: env!("CARGO_PKG_VERSION"),
            grants: [
                table.granted - table.leased - table.claimed,
                table.leased,
                table.claimed,
            ],
            lease_ends: [table.released, table.expired, table.closed, table.broken],
            held: table.held,
            waits: spans(&waits.times),
            wait_results: [
                waits.granted,
                waits.timeouts,
                waits.cancelled,
                table.deadlocks,
                waits.drained,
                waits.refused,
            ],
            waiting: table.waiting,
            keys: counts.keys as u64,
            renewals: table.renewals,
            searches_cut: table.searches_cut,
            connections: [
                connections.of(Face::Text) as u64,
                connections.of(Face::Http) as u64,
                connections.of(Face::Distlockd) as u64,
            ],
            rejected: [
                server.over_limit,
                server.over_limit_per_ip,
                server.out_of_files,
                counts.untrusted,
                server.failed_handshakes,
            ],
            accept_stalls: server.accept_stalls,
            answers: &answers,
            answer_times: spans(self.tally.answers.times()),
            turns: spans(&self.tally.turns),
            clock_gaps: server.clock_gaps,
            fence: counts.fence,
            certificate_end_s: server.certificate_end_s,
            quarantine_s: counts.opens_in.div_ceil(SECOND),
            protection: counts.protection as u64,
            leads: counts.standing.is_none_or(|(standing, _)| standing.leads),
            silence_s: counts.standing.map_or(0, |(_, silence)| silence / SECOND),
            memory: server.memory,
            files: server.files,
            started_unix_us: server.started_unix_us,
        };
        metrics::write(&metrics, out);
    }

    /// Appends the counts that GET of `/locks/stats` answers with.
    pub(super) fn write_stats(&self, out: &mut Vec<u8>) {
        let counts = self.counts();
        let (table, waits) = (&counts.locks, &counts.locks.waits);
        let numbers = [
            ("activeLocks", table.held),
            ("activeKeys", counts.keys as u64),
            ("waitingRequests", table.waiting),
            ("totalAcquired", table.granted),
            ("totalReleased", table.released),
            ("totalExpired", table.expired),
            ("totalClosed", table.closed),
            ("totalForced", table.broken),
            ("totalAdopted", table.adopted),
            ("totalWaitTimeouts", waits.timeouts),
            ("totalCancelled", waits.cancelled),
            ("renewals", table.renewals),
            ("renewalFailures", table.renewal_failures),
            ("deadlocksDetected", table.deadlocks),
            ("connections", counts.connections.all() as u64),
        ];
        for (at, (name, number)) in numbers.into_iter().enumerate() {
            let comma = if at > 0 { ',' } else { '{' };
            out.extend_from_slice(format!("{comma}\"{name}\":{number}").as_bytes());
        }
        let average = waits.times.sum() / table.granted.max(1);
        http::write_seconds(",\"averageWaitTime\":", average, out);
        http::write_seconds(",\"maxWaitTime\":", waits.longest, out);
        http::write_seconds(",\"uptime\":", self.now - self.born, out);
        let version = env!("CARGO_PKG_VERSION");
        out.extend_from_slice(format!(",\"version\":\"{version}\"}}").as_bytes());
    }
}

fn spans<const N: usize>(histogram: &Histogram<N>) -> Spans<'_> {
    Spans {
        bounds: histogram.bounds(),
        counts: histogram.counts(),
        over: histogram.over(),
        sum: histogram.sum(),
    }
}
