//! Totals from samples, with an error that can be stated: stratified sampling without replacement.
//!
//! A stratum is a month of a stream, a unit is a day. Every day of a month has the same chance to be listed, so the
//! mean of those that were listed, times the days, estimates the month; the scatter between them tells how far off that
//! may be (Cochran, "Sampling Techniques", chapters 2 and 5). Degrees of freedom after Satterthwaite.

use std::iter::Sum;
use std::ops::Add;

/// Days of a stratum that are listed at least: with fewer, one odd day decides about the stated error.
pub(super) const LEAST: usize = 8;

/// A total, and what is needed to state its error.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimate {
    /// The total.
    pub value: f64,
    variance: f64,
    /// The sum of `variance² / degrees of freedom` of its parts.
    weight: f64,
    is_sampled: bool,
}

impl Estimate {
    /// A total that was counted.
    pub fn exact(value: u64) -> Self {
        Self { value: float(value), ..Self::default() }
    }

    /// The total of `units` units of which these were seen.
    pub(super) fn of(units: usize, seen: &[f64]) -> Self {
        let (all, taken) = (float(units), float(seen.len()));
        let sum: f64 = seen.iter().sum();
        if seen.len() >= units || seen.is_empty() {
            return Self { value: sum, ..Self::default() };
        }
        let mean = sum / taken;
        let scatter: f64 = seen.iter().map(|one| (one - mean).powi(2)).sum();
        let freedom = (taken - 1.0).max(1.0);
        let variance = all * all * (1.0 - taken / all) * (scatter / freedom) / taken;
        Self { value: all * mean, variance, weight: variance * variance / freedom, is_sampled: true }
    }

    /// By how much the truth may be off either way, with 95 % confidence.
    pub fn margin(&self) -> f64 {
        if self.variance <= 0.0 {
            return 0.0;
        }
        quantile(self.variance * self.variance / self.weight) * self.variance.sqrt()
    }

    /// Whether it was counted and not estimated.
    pub fn is_exact(&self) -> bool {
        !self.is_sampled
    }
}

impl Add for Estimate {
    type Output = Self;

    /// Of independent parts.
    fn add(self, other: Self) -> Self {
        Self {
            value: self.value + other.value,
            variance: self.variance + other.variance,
            weight: self.weight + other.weight,
            is_sampled: self.is_sampled || other.is_sampled,
        }
    }
}

impl Sum for Estimate {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), Add::add)
    }
}

/// The share of the units that are left which may be listed, with so many requests for so many pages.
pub(super) fn share(requests: u64, pages: f64) -> f64 {
    if pages <= float(requests) { 1.0 } else { float(requests) / pages }
}

/// Student's quantile for 99 % on both sides; whole degrees of freedom, rounded down to be safe.
///
/// For 99 %, so that 95 % are kept: most days are alike and a few are many times the others, which a sample may miss.
/// With the quantile for 95 % the stated error held in 90 of 100 such samples.
fn quantile(freedom: f64) -> f64 {
    const TABLE: [f64; 10] = [63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169];
    let whole = freedom.floor().max(1.0);
    let exact = TABLE.iter().enumerate().find(|(at, _)| (float(*at) + 1.0 - whole).abs() < 0.5);
    exact.map_or_else(
        || {
            // Cornish and Fisher's expansion about the normal quantile; from 11 on it is right to three digits.
            let z: f64 = 2.575_829;
            z + (z.powi(3) + z) / (4.0 * whole)
                + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * whole.powi(2))
                + (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / (384.0 * whole.powi(3))
        },
        |(_, value)| *value,
    )
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(super) fn float<T: TryInto<u64>>(number: T) -> f64 {
    number.try_into().unwrap_or(u64::MAX) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_whole_has_no_error() {
        let whole = Estimate::of(3, &[1.0, 2.0, 6.0]);
        assert_eq!((whole.value, whole.margin(), whole.is_exact()), (9.0, 0.0, true));
        assert_eq!(Estimate::exact(7).margin(), 0.0);
    }

    #[test]
    fn quantiles_are_those_of_the_table() {
        for (freedom, expected) in [(1.0, 63.657), (10.9, 3.169), (11.0, 3.106), (30.0, 2.750), (1e9, 2.576)] {
            assert!((quantile(freedom) - expected).abs() < 0.002, "{freedom}: {}", quantile(freedom));
        }
    }

    #[test]
    fn parts_add_up_with_their_errors() {
        let part = Estimate::of(30, &[10.0, 12.0, 14.0]);
        let many: Estimate = (0..12).map(|_| part).sum();
        assert!((many.value - 12.0 * part.value).abs() < 1e-6);
        // Errors of independent parts do not add up in full, and more parts know their scatter better.
        assert!(many.margin() < 12.0 * part.margin() / 4.0, "{} {}", many.margin(), part.margin());
    }

    /// Months of days, some busy, some idle, a few many times the others.
    fn month(random: &mut fastrand::Rng) -> Vec<f64> {
        let busy = 100.0 + 900.0 * random.f64();
        (0..30).map(|_| busy * (0.2 + random.f64()) * if random.f64() < 0.05 { 4.0 } else { 1.0 }).collect()
    }

    #[test]
    fn the_stated_error_holds_in_nineteen_of_twenty_samples() {
        let mut random = fastrand::Rng::with_seed(11);
        let months: Vec<Vec<f64>> = (0..12).map(|_| month(&mut random)).collect();
        let truth: f64 = months.iter().flatten().sum();
        let (mut held, tries) = (0, 4_000);
        for _ in 0..tries {
            let estimate: Estimate = months
                .iter()
                .map(|month| {
                    let mut days = month.clone();
                    random.shuffle(&mut days);
                    Estimate::of(days.len(), &days[..LEAST])
                })
                .sum();
            held += u32::from((estimate.value - truth).abs() <= estimate.margin());
        }
        assert!((3_800..=3_980).contains(&held), "it held in {held} of {tries}");
    }
}
