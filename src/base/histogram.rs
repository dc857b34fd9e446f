//! A histogram with fixed bounds: how many values were up to each bound, and the sum of all. It does not know what it
//! counts. Invariant: the bounds rise, and each value is in exactly one bucket: the first whose bound it does not exceed,
//! or the one above them all.

/// Counts of values between bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    counts: [u64; N],
    over: u64,
    sum: u64,
}

impl<const N: usize> Histogram<N> {
    /// An empty one. The bounds rise.
    pub const fn new(bounds: &'static [u64; N]) -> Histogram<N> {
        Histogram {
            bounds,
            counts: [0; N],
            over: 0,
            sum: 0,
        }
    }

    /// Counts this value `times` times.
    pub fn add(&mut self, value: u64, times: u64) {
        let at = self.bounds.iter().position(|&bound| value <= bound);
        let count = match at {
            Some(at) => &mut self.counts[at],
            None => &mut self.over,
        };
        *count += times;
        self.sum = self.sum.saturating_add(value.saturating_mul(times));
    }

    /// The bounds, each the largest value of its bucket.
    pub fn bounds(&self) -> &'static [u64] {
        self.bounds
    }

    /// How many values are in the bucket of each bound, and not in one before.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// How many values are above all bounds.
    pub fn over(&self) -> u64 {
        self.over
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.over
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let mut histogram = Histogram::new(&[1, 10, 100]);
        for value in [0, 1, 2, 10, 11, 99, 100, 101, 5000] {
            histogram.add(value, 1);
        }
        assert_eq!(histogram.counts(), [2, 2, 3]);
        assert_eq!((histogram.over(), histogram.count()), (2, 9));
        assert_eq!(histogram.sum(), 5324);
        assert_eq!(histogram.bounds(), [1, 10, 100]);
    }

    #[test]
    fn many_equal_values_are_added_at_once() {
        let (mut at_once, mut singly) = (Histogram::new(&[5, 6]), Histogram::new(&[5, 6]));
        for value in [5, 6, 7] {
            at_once.add(value, 3);
            (0..3).for_each(|_| singly.add(value, 1));
        }
        assert_eq!(at_once, singly);
        at_once.add(6, 0);
        assert_eq!(at_once, singly);
    }

    #[test]
    fn a_sum_that_is_too_large_stays_at_the_end() {
        let mut histogram = Histogram::new(&[1]);
        histogram.add(u64::MAX, 2);
        histogram.add(1, 1);
        assert_eq!((histogram.sum(), histogram.count()), (u64::MAX, 3));
    }
}
