//! The bars of the page's histogram: times of ops by buckets that grow by the square root of two. `sampler` counts them.

/// Number of buckets: two for each doubling, from a quarter of a millisecond to some ten seconds. `histogram.js`
/// draws as many.
pub(crate) const BUCKETS: usize = 32;

/// Upper edge of the first bucket, in seconds.
const FIRST_EDGE: f64 = 0.000_25;

/// Returns the bucket of a time: the first whose upper edge the time does not exceed. The last bucket takes all longer
/// times.
pub(crate) fn bucket(seconds: f64) -> usize {
    let place = ((seconds / FIRST_EDGE).log2() * 2.0).ceil();
    // A time of zero makes a place below all others, and the cast saturates.
    (place.max(0.0) as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_one_bucket() {
        let edge = |i: usize| FIRST_EDGE * 2f64.powf(i as f64 / 2.0);
        for i in 0..BUCKETS - 1 {
            assert_eq!((bucket(edge(i) * 0.999), bucket(edge(i) * 1.001)), (i, i + 1));
        }
        assert_eq!([0.0, 1e-9, 1e9, f64::INFINITY].map(bucket), [0, 0, BUCKETS - 1, BUCKETS - 1]);
    }
}
