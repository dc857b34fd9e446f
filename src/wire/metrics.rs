//! The metrics, in the text format 0.0.4 of Prometheus: plain numbers in, text out. It counts nothing and looks at no
//! lock, so a scrape costs the same with a million locks. Invariant: each family has one HELP and one TYPE, before its
//! samples; every series is there from the start, with 0, but for the rarer answers to HTTP requests; no label has a name
//! of a lock or a client in it.
//!
//! Six names are those that clients of other servers know already, though they have no unit and no `_total`. OpenMetrics
//! would rename counters, so it is not offered.

use crate::command::Us;

/// What the answer has as its `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The protocols of clients, as labels have them. Also the order of the arrays by protocol.
pub const PROTOCOLS: [&str; 3] = ["line", "http", "distlockd"];

/// How a wait can end, as labels have it. Also the order of [`Metrics::wait_results`].
pub const WAIT_RESULTS: [&str; 6] = [
    "granted",
    "timeout",
    "cancelled",
    "deadlock",
    "draining",
    "refused",
];

/// How a hold can end, as labels have it. Also the order of [`Metrics::lease_ends`].
pub const LEASE_ENDS: [&str; 4] = ["release", "expiry", "close", "break"];

/// Why a connection can be rejected, as labels have it. Also the order of [`Metrics::rejected`].
pub const REJECTIONS: [&str; 5] = [
    "max-connections",
    "max-connections-per-ip",
    "descriptors",
    "token",
    "handshake",
];

/// Counts of spans between bounds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spans<'a> {
    /// The longest span of each bucket. They rise.
    pub bounds: &'a [Us],
    /// How many spans are in each bucket, and not in one before.
    pub counts: &'a [u64],
    /// How many are above all bounds.
    pub over: u64,
    /// All of them together.
    pub sum: Us,
}

/// Answers of one kind to requests of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Answers {
    /// The path, with `{lockName}` for a name.
    pub route: &'static str,
    /// The method.
    pub method: &'static str,
    /// The status.
    pub code: u16,
    /// How many there were.
    pub count: u64,
}

/// All that is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metrics<'a> {
    /// The version of the server.
    pub version: &'a str,
    /// Grants, by protocol.
    pub grants: [u64; PROTOCOLS.len()],
    /// Holds that ended, by reason.
    pub lease_ends: [u64; LEASE_ENDS.len()],
    /// Holds now.
    pub held: u64,
    /// The time before each grant.
    pub waits: Spans<'a>,
    /// Waits that ended, by result.
    pub wait_results: [u64; WAIT_RESULTS.len()],
    /// Places in queues now.
    pub waiting: u64,
    /// Keys that are held or queued for.
    pub keys: u64,
    /// Renewals, and steps of holds that renew themselves.
    pub renewals: u64,
    /// Searches for a deadlock that gave up.
    pub searches_cut: u64,
    /// Connections now, by protocol.
    pub connections: [u64; PROTOCOLS.len()],
    /// Connections that were rejected, by reason.
    pub rejected: [u64; REJECTIONS.len()],
    /// How often the server could not accept connections for a while.
    pub accept_stalls: u64,
    /// Answers to HTTP requests.
    pub answers: &'a [Answers],
    /// How long those took, without the wait for a lock.
    pub answer_times: Spans<'a>,
    /// How long turns of the loop took.
    pub turns: Spans<'a>,
    /// How often the process stood still.
    pub clock_gaps: u64,
    /// The fence of the last grant.
    pub fence: u64,
    /// When the certificate ends, in seconds since 1970; 0 if there is none.
    pub certificate_end_s: u64,
    /// For how many seconds no grant is made after a restart; 0 if there is no such time.
    pub quarantine_s: u64,
    /// What outlives a restart: 0 nothing, 1 the knowledge of how long to wait, 2 the locks.
    pub protection: u64,
    /// Whether the server grants locks, or another one does in its place.
    pub leads: bool,
    /// For how long etcd has said nothing, in seconds; 0 without etcd.
    pub silence_s: u64,
    /// Bytes of memory that the process uses, if the system says so.
    pub memory: Option<u64>,
    /// Files that the process has open, if the system says so.
    pub files: Option<u64>,
    /// When the process started, in microseconds since 1970.
    pub started_unix_us: u64,
}

impl Metrics<'_> {
    fn granted(&self) -> u64 {
        self.grants.iter().sum()
    }

    fn released(&self) -> u64 {
        self.lease_ends[0]
    }

    fn deadlocks(&self) -> u64 {
        self.wait_results[3]
    }
}

/// Appends all of them.
pub fn write(metrics: &Metrics, out: &mut Vec<u8>) {
    let mut page = Page { out };
    write_known(metrics, &mut page);
    write_locks(metrics, &mut page);
    write_connections(metrics, &mut page);
    write_requests(metrics, &mut page);
    write_safety(metrics, &mut page);
    write_process(metrics, &mut page);
}

/// The six names that are not ours.
fn write_known(metrics: &Metrics, page: &mut Page) {
    page.counter(
        "distributed_locks_acquired_total",
        "Locks granted, over all protocols.",
        metrics.granted(),
    );
    page.counter(
        "distributed_locks_released_total",
        "Locks that a client gave back.",
        metrics.released(),
    );
    page.gauge(
        "distributed_locks_active",
        "Locks held now, counting each slot of a semaphore.",
        metrics.held,
    );
    page.spans(
        "distributed_locks_wait_time",
        "Seconds that each granted lock was waited for, 0 if it was free.",
        &metrics.waits,
    );
    page.counter(
        "distributed_locks_renewal_success",
        "Renewals of locks, by clients and by the server for locks that renew themselves.",
        metrics.renewals,
    );
    page.counter(
        "distributed_locks_deadlocks_detected",
        "Requests refused because they would have waited for ever.",
        metrics.deadlocks(),
    );
}

fn write_locks(metrics: &Metrics, page: &mut Page) {
    page.by_label(
        ("dflockd_grants_total", "counter"),
        "Locks granted, by the protocol of the request.",
        ("protocol", &PROTOCOLS),
        &metrics.grants,
    );
    page.by_label(
        ("dflockd_wait_results_total", "counter"),
        "Waits in a queue that ended, by result; refused: the queue was full.",
        ("result", &WAIT_RESULTS),
        &metrics.wait_results,
    );
    page.by_label(
        ("dflockd_lease_ends_total", "counter"),
        "Holds that ended, by reason; close: the connection ended.",
        ("reason", &LEASE_ENDS),
        &metrics.lease_ends,
    );
    page.gauge(
        "dflockd_waiters",
        "Places in queues that are taken now.",
        metrics.waiting,
    );
    page.gauge(
        "dflockd_keys",
        "Names that are held or queued for now.",
        metrics.keys,
    );
    page.counter(
        "dflockd_deadlock_checks_truncated_total",
        "Searches for a deadlock that gave up because too many locks were involved.",
        metrics.searches_cut,
    );
    page.gauge(
        "dflockd_fence",
        "Fencing token of the last grant.",
        metrics.fence,
    );
}

fn write_connections(metrics: &Metrics, page: &mut Page) {
    page.by_label(
        ("dflockd_connections", "gauge"),
        "Connections open now, by the protocol of the listener.",
        ("listener", &PROTOCOLS),
        &metrics.connections,
    );
    page.by_label(
        ("dflockd_connections_rejected_total", "counter"),
        "Connections that were turned away, by reason.",
        ("reason", &REJECTIONS),
        &metrics.rejected,
    );
    page.counter(
        "dflockd_accept_stalls_total",
        "Times that no connection could be accepted for a while, for want of file descriptors or memory.",
        metrics.accept_stalls,
    );
}

fn write_requests(metrics: &Metrics, page: &mut Page) {
    let name = "dflockd_http_requests_total";
    page.begin((name, "counter"), "HTTP requests that were answered.");
    for answers in metrics.answers {
        let code = answers.code.to_string();
        let labels = [
            ("route", answers.route),
            ("method", answers.method),
            ("code", &code),
        ];
        page.sample(name, "", &labels, &answers.count.to_string());
    }
    page.spans(
        "dflockd_http_request_duration_seconds",
        "Time from the last byte of an HTTP request to the end of the turn that answered it, without the wait for a lock.",
        &metrics.answer_times,
    );
}

fn write_safety(metrics: &Metrics, page: &mut Page) {
    page.gauge(
        "dflockd_restart_quarantine_seconds",
        "Seconds after a restart before the first grant that are left, 0 if there are none.",
        metrics.quarantine_s,
    );
    page.gauge(
        "dflockd_restart_protection",
        "What a restart of the server leaves: 0 nothing, 1 locks are waited for, 2 locks go on, 3 locks go on elsewhere.",
        metrics.protection,
    );
    page.gauge(
        "dflockd_leads",
        "1 if this server grants locks, 0 if it stands by for another one.",
        u64::from(metrics.leads),
    );
    page.gauge(
        "dflockd_etcd_silence_seconds",
        "Whole seconds since the last request to etcd that was answered, 0 without etcd.",
        metrics.silence_s,
    );
}

fn write_process(metrics: &Metrics, page: &mut Page) {
    page.spans(
        "dflockd_loop_tick_seconds",
        "Length of each turn of the event loop, without the sleep.",
        &metrics.turns,
    );
    page.counter(
        "dflockd_clock_gaps_total",
        "Times that the process stood still for over a second: stopped, starved, or its machine suspended.",
        metrics.clock_gaps,
    );
    page.gauge(
        "dflockd_tls_certificate_expiry_timestamp_seconds",
        "End of the certificate in seconds since 1970, 0 if there is none.",
        metrics.certificate_end_s,
    );
    let name = "dflockd_build_info";
    page.begin((name, "gauge"), "1, with the version as a label.");
    page.sample(name, "", &[("version", metrics.version)], "1");
    for (name, help, value) in [
        (
            "process_resident_memory_bytes",
            "Memory that the process uses.",
            metrics.memory,
        ),
        (
            "process_open_fds",
            "Files and sockets that the process has open.",
            metrics.files,
        ),
    ] {
        page.begin((name, "gauge"), help);
        // A number that the system did not tell is no 0.
        let value = value.map_or("NaN".to_string(), |value| value.to_string());
        page.sample(name, "", &[], &value);
    }
    let name = "process_start_time_seconds";
    page.begin(
        (name, "gauge"),
        "Start of the process in seconds since 1970.",
    );
    page.sample(name, "", &[], &seconds(metrics.started_unix_us));
}

/// What is being written.
struct Page<'a> {
    out: &'a mut Vec<u8>,
}

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.begin((name, "counter"), help);
        self.sample(name, "", &[], &value.to_string());
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.begin((name, "gauge"), help);
        self.sample(name, "", &[], &value.to_string());
    }

    /// A family with one label, of which each value has a sample.
    fn by_label(
        &mut self,
        (name, kind): (&str, &str),
        help: &str,
        (label, values): (&str, &[&str]),
        counts: &[u64],
    ) {
        self.begin((name, kind), help);
        for (value, count) in values.iter().zip(counts) {
            self.sample(name, "", &[(label, value)], &count.to_string());
        }
    }

    /// A histogram in seconds. Each bucket counts those before it, too.
    fn spans(&mut self, name: &str, help: &str, spans: &Spans) {
        self.begin((name, "histogram"), help);
        let mut count = 0;
        for (&bound, in_bucket) in spans.bounds.iter().zip(spans.counts) {
            count += in_bucket;
            let le = seconds(bound);
            self.sample(name, "_bucket", &[("le", &le)], &count.to_string());
        }
        let count = (count + spans.over).to_string();
        self.sample(name, "_bucket", &[("le", "+Inf")], &count);
        self.sample(name, "_sum", &[], &seconds(spans.sum));
        self.sample(name, "_count", &[], &count);
    }

    /// The lines before the samples of a family. The help has no backslash and no end of line.
    fn begin(&mut self, (name, kind): (&str, &str), help: &str) {
        for part in [
            "# HELP ",
            name,
            " ",
            help,
            "\n# TYPE ",
            name,
            " ",
            kind,
            "\n",
        ] {
            self.out.extend_from_slice(part.as_bytes());
        }
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: &str) {
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(suffix.as_bytes());
        for (at, (label, value)) in labels.iter().enumerate() {
            self.out.push(if at == 0 { b'{' } else { b',' });
            self.out.extend_from_slice(label.as_bytes());
            self.out.extend_from_slice(b"=\"");
            escape(value, self.out);
            self.out.push(b'"');
        }
        self.out
            .extend_from_slice(if labels.is_empty() { b" " } else { b"} " });
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'\n');
    }
}

/// Appends the value of a label.
fn escape(value: &str, out: &mut Vec<u8>) {
    for byte in value.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            byte => out.push(byte),
        }
    }
}

/// A span or an instant in seconds, exact.
fn seconds(us: Us) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests;
