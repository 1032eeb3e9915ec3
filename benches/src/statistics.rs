//! Medians, quartiles and paired ratios of the values of some rounds. `measure` and the rows use them.

/// The median and the quartiles of some values. All three are zero if there are no values.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    pub median: f64,
    /// The lower quartile: a quarter of the values are below it.
    pub low: f64,
    /// The upper quartile: a quarter of the values are above it.
    pub high: f64,
}

impl Summary {
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self { median: quantile(&sorted, 0.5), low: quantile(&sorted, 0.25), high: quantile(&sorted, 0.75) }
    }
}

pub fn median(values: &[f64]) -> f64 {
    Summary::of(values).median
}

/// The median of the ratios of two variants within a round. Load that slows a whole round down cancels out.
pub fn paired_ratio(values: &[f64], to: &[f64]) -> f64 {
    let ratios: Vec<f64> = values.iter().zip(to).map(|(value, to)| value / to).collect();
    median(&ratios)
}

/// Interpolates linearly between the two nearest values.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let place = q * last as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_in_any_order() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn quartiles_hold_the_middle_half() {
        let summary = Summary::of(&[5.0, 1.0, 2.0, 4.0, 3.0]);
        assert_eq!((summary.low, summary.median, summary.high), (2.0, 3.0, 4.0));
    }

    /// Goal: load on a whole round cancels out. Method: both variants are ten times slower in the third round.
    #[test]
    fn a_slow_round_leaves_the_ratio_alone() {
        assert_eq!(paired_ratio(&[20.0, 22.0, 2.0], &[10.0, 11.0, 1.0]), 2.0);
    }
}
