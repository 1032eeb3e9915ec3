//! Random numbers that repeat with their seed. The paper venue and the simulated feed use them; they are not secure.

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a generator for one event, independent of the order of events.
    pub fn of(seed: u64, event: u64) -> Self {
        Self(Self(seed ^ event.wrapping_mul(0xd6e8_feb8_6659_fd93)).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`, which is at least 1.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Returns true with this probability.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Returns a number around 0, nearly normal, with this standard deviation.
    pub fn around_zero(&mut self, deviation: u64) -> i64 {
        // The sum of three uniform numbers of [-d, d] has the variance d².
        (0..3).map(|_| self.below(2 * deviation + 1) as i64 - deviation as i64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_events_differ() {
        let draw = |mut rng: Rng| (0..9).map(|_| rng.below(1000)).collect::<Vec<_>>();
        assert_eq!(draw(Rng::new(7)), draw(Rng::new(7)));
        assert_ne!(draw(Rng::of(7, 1)), draw(Rng::of(7, 2)));
    }

    #[test]
    fn random_numbers_have_the_stated_distribution() {
        let mut rng = Rng::new(1);
        let hits = (0..10_000).filter(|_| rng.percent(10)).count();
        assert!((900..1100).contains(&hits), "{hits}");
        let variance = (0..10_000).map(|_| rng.around_zero(100).pow(2)).sum::<i64>() / 10_000;
        assert!((9_000..11_000).contains(&variance), "{variance}");
    }
}
