//! Figures of runs: a histogram of spans, and a summary of several runs. No clock and no socket. Invariant: minimum,
//! percentiles in their order and maximum never decrease.

use dflockd::command::{SECOND, Us};

/// Buckets for each doubling: a percentile is at most 1 % too large.
const PARTS: usize = 128;
/// Spans above 2^40 us, two weeks, count as 2^40 us.
const DOUBLINGS: usize = 34;

/// Counts spans by length. Spans below 128 us are exact, and so are minimum and maximum.
pub struct Histogram {
    buckets: Vec<u64>,
    pub count: u64,
    sum: f64,
    squares: f64,
    min: Us,
    max: Us,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            buckets: vec![0; PARTS * DOUBLINGS],
            count: 0,
            sum: 0.0,
            squares: 0.0,
            min: Us::MAX,
            max: 0,
        }
    }
}

impl Histogram {
    pub fn add(&mut self, span: Us) {
        self.buckets[bucket(span)] += 1;
        self.count += 1;
        let value = span as f64;
        self.sum += value;
        self.squares += value * value;
        self.min = self.min.min(span);
        self.max = self.max.max(span);
    }

    pub fn min(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.min as f64
        }
    }

    pub fn max(&self) -> f64 {
        self.max as f64
    }

    pub fn mean(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }

    /// The standard deviation.
    pub fn deviation(&self) -> f64 {
        let mean = self.mean();
        (self.squares / self.count.max(1) as f64 - mean * mean)
            .max(0.0)
            .sqrt()
    }

    /// The span that a share of all spans does not exceed; `share` is 0 to 1.
    pub fn percentile(&self, share: f64) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        let rank = (share * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return highest(at).clamp(self.min, self.max) as f64;
            }
        }
        self.max()
    }
}

fn bucket(span: Us) -> usize {
    let parts = PARTS as u64;
    if span < parts {
        return span as usize;
    }
    let shift = (span.ilog2() - parts.ilog2()) as usize;
    if shift + 1 >= DOUBLINGS {
        return PARTS * DOUBLINGS - 1;
    }
    PARTS * (shift + 1) + (span >> shift) as usize - PARTS
}

/// The largest span that falls into this bucket.
fn highest(bucket: usize) -> Us {
    if bucket < PARTS {
        return bucket as Us;
    }
    let (shift, part) = (bucket / PARTS - 1, bucket % PARTS);
    (((PARTS + part + 1) as Us) << shift) - 1
}

/// The figures of one run of one scenario against one server.
#[derive(Default)]
pub struct Figures {
    /// Pairs of lock and release; in `held`, keys that were taken.
    pub ops: u64,
    /// Acquires that were begun.
    pub tries: u64,
    /// Requests that were answered.
    pub requests: u64,
    pub wall: Us,
    /// CPU time of this process.
    pub cpu: Us,
    pub latency: Histogram,
    /// Acquires that timed out.
    pub timeouts: u64,
    pub errors: u64,
    /// Grants of a lock that another lane still held.
    pub exclusion: u64,
    /// Grants before a lane that had asked earlier, or with a fence that did not rise.
    pub order: u64,
    /// Grants before the lease of another lane had ended.
    pub early: u64,
    /// How often a server without a queue was asked again.
    pub again: u64,
    /// The first error, in words.
    pub why: Option<String>,
    /// CPU time of the server.
    pub server_cpu: Option<Us>,
    /// By how many bytes the server has grown.
    pub server_bytes: Option<u64>,
}

impl Figures {
    pub fn error(&mut self, why: impl FnOnce() -> String) {
        self.errors += 1;
        if self.why.is_none() {
            self.why = Some(why());
        }
    }

    fn throughput(&self) -> f64 {
        self.ops as f64 * SECOND as f64 / self.wall.max(1) as f64
    }
}

/// Several runs as one: medians of measures, sums of counts.
pub struct Summary {
    pub runs: usize,
    pub ops: u64,
    pub tries: u64,
    pub requests: u64,
    pub errors: u64,
    pub timeouts: u64,
    pub exclusion: u64,
    pub order: u64,
    pub early: u64,
    pub again: u64,
    pub why: Option<String>,
    pub wall_s: f64,
    pub throughput: f64,
    pub mean_us: f64,
    pub min_us: f64,
    pub p50_us: f64,
    pub p95_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
    pub deviation_us: f64,
    /// Of this process.
    pub cpu_us: f64,
    /// Of the server, for each request.
    pub server_us: Option<f64>,
    /// Of the server, for each key.
    pub server_bytes: Option<f64>,
}

impl Summary {
    /// Summarises at least one run.
    pub fn of(runs: &[Figures]) -> Summary {
        let sum = |count: fn(&Figures) -> u64| runs.iter().map(count).sum();
        let middle = |measure: fn(&Figures) -> f64| median(runs.iter().map(measure).collect());
        let per_request = |f: &Figures, span: Us| span as f64 / f.requests.max(1) as f64;
        let server = runs.iter().map(|f| Some(per_request(f, f.server_cpu?)));
        let bytes = runs
            .iter()
            .map(|f| Some(f.server_bytes? as f64 / f.ops.max(1) as f64));
        Summary {
            runs: runs.len(),
            ops: sum(|f| f.ops),
            tries: sum(|f| f.tries),
            requests: sum(|f| f.requests),
            errors: sum(|f| f.errors),
            timeouts: sum(|f| f.timeouts),
            exclusion: sum(|f| f.exclusion),
            order: sum(|f| f.order),
            early: sum(|f| f.early),
            again: sum(|f| f.again),
            why: runs.iter().find_map(|f| f.why.clone()),
            wall_s: sum(|f| f.wall) as f64 / SECOND as f64,
            throughput: middle(Figures::throughput),
            mean_us: middle(|f| f.latency.mean()),
            min_us: middle(|f| f.latency.min()),
            p50_us: middle(|f| f.latency.percentile(0.5)),
            p95_us: middle(|f| f.latency.percentile(0.95)),
            p99_us: middle(|f| f.latency.percentile(0.99)),
            max_us: middle(|f| f.latency.max()),
            deviation_us: middle(|f| f.latency.deviation()),
            cpu_us: middle(|f| f.cpu as f64 / f.requests.max(1) as f64),
            server_us: server.collect::<Option<Vec<f64>>>().map(median),
            // In a second run the server reuses its memory, so the largest growth counts.
            server_bytes: bytes.flatten().reduce(f64::max),
        }
    }

    /// Whether there was no error and no wrong grant.
    pub fn is_good(&self) -> bool {
        self.errors + self.exclusion + self.order + self.early == 0 && self.ops > 0
    }

    /// Share of acquires that were granted.
    pub fn success(&self) -> f64 {
        let lost = self.timeouts + self.errors;
        self.tries.saturating_sub(lost) as f64 / self.tries.max(1) as f64
    }
}

/// The middle one, or the mean of the middle two; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (half, length) = (values.len() / 2, values.len());
    match length {
        0 => 0.0,
        _ if length % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_at_most_one_percent_too_large() {
        let mut all = Histogram::default();
        for span in 1..=100_000 {
            all.add(span);
        }
        for (share, exact) in [(0.5, 50_000.0), (0.95, 95_000.0), (0.99, 99_000.0)] {
            let found = all.percentile(share);
            assert!((exact..=exact * 1.01).contains(&found), "{share} {found}");
        }
        assert_eq!((all.min(), all.max()), (1.0, 100_000.0));
        assert!((all.mean() - 50_000.5).abs() < 0.01);
        assert!((all.deviation() - 28_867.5).abs() < 1.0);
        assert_eq!(all.percentile(1.0), 100_000.0);
    }

    #[test]
    fn any_span_has_a_bucket_and_lies_in_it() {
        for shift in 0..64 {
            for span in [1u64 << shift, (1 << shift) - 1, (1 << shift) + 1] {
                let at = bucket(span);
                assert!(highest(at) >= span || span >= 1 << 40, "{span}");
                assert!(at == 0 || highest(at - 1) < span, "{span}");
            }
        }
        bucket(Us::MAX);
        assert_eq!(Histogram::default().percentile(0.5), 0.0);
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
