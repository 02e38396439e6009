//! How rare so much loss would be: the tails of two distributions, each behind a bound that is cheap.
//!
//! A statistics crate would bring a hundred distributions for one special function; these are short, and tested against
//! sums of plain terms.

/// P(Bin(n, p) >= k), for real `n >= k > 0` and `0 < p < 1`.
///
/// Between the integers it is continued as the regularised incomplete beta function `I_p(k, n - k + 1)`, which it equals
/// at them (DLMF 8.17.5): so a count that was divided by a dispersion has a tail too, and that tail has no steps.
pub fn binomial(k: f64, n: f64, p: f64) -> f64 {
    regularised_beta(p, k, n - k + 1.0)
}

/// Whether P(Bin(n, p) >= k) is at most `alpha`: [`binomial`], but seldom computed.
pub fn binomial_is_rare(k: f64, n: f64, p: f64, alpha: f64) -> bool {
    if k <= n * p {
        // The median is not below the mean by more than rounding, and no alpha is near a half.
        return false;
    }
    // Chernoff: the tail is at most exp(-n KL(k/n || p)).
    n * divergence(k / n, p) >= -alpha.ln() || {
        // The first term of the tail is part of it.
        let first = beta_front(p, k, n - k + 1.0);
        first <= alpha && first * beta_fraction(p, k, n - k + 1.0) <= alpha
    }
}

/// The Kullback-Leibler divergence of a loss of `a` from a loss of `b`, in nats for each slot.
pub fn divergence(a: f64, b: f64) -> f64 {
    let term = |a: f64, b: f64| if a > 0.0 { a * (a / b).ln() } else { 0.0 };
    term(a, b) + term(1.0 - a, 1.0 - b)
}

/// How often a window's count of lost slots rises to exactly `k`, for each slot that is lost, where losses come in bursts: as many
/// in the window as a Poisson variable of mean `bursts` says, each of a geometric number of slots, at least one, of mean
/// `size`. `k` is whole and at least 1.
///
/// Seen from a slot that is lost, the window holds the burst that this slot belongs to, as far as it has come, which
/// is geometric as well, and the others. With b others the k slots are so many exactly if the last ends no other burst, and of the
/// k - 1 before it b do, each with probability 1 / `size`: so it is `P(Poisson(bursts) = Bin(k - 1, 1 / size)) / size`. The sum
/// over b rises once and falls once, and is taken from its greatest term to both sides.
pub fn rise(k: f64, bursts: f64, size: f64) -> f64 {
    let (greatest, term) = greatest_of_rise(k, bursts, size);
    term * relative_sum_of_rise(k, bursts, size, greatest)
}

/// Whether [`rise`] is at most `limit`: its greatest term, and as many of them as there are terms, mostly tell.
pub fn rise_is_rare(k: f64, bursts: f64, size: f64, limit: f64) -> bool {
    let (greatest, term) = greatest_of_rise(k, bursts, size);
    term <= limit && (term * k <= limit || term * relative_sum_of_rise(k, bursts, size, greatest) <= limit)
}

/// The b of the greatest term of [`rise`], and that term.
fn greatest_of_rise(k: f64, bursts: f64, size: f64) -> (f64, f64) {
    let (end, slots) = (1.0 / size.max(SIZE_MIN), k - 1.0);
    let ratio = ratio_of_rise(bursts, size);
    // Where the next term is as great.
    let b = ((ratio * (k + ratio / 4.0)).sqrt() - ratio / 2.0).floor().clamp(0.0, slots);
    let poisson = b * bursts.ln() - bursts - ln_gamma(b + 1.0);
    let choose = ln_gamma(slots + 1.0) - ln_gamma(b + 1.0) - ln_gamma(slots - b + 1.0);
    let binomial = choose + b * end.ln() + (slots - b) * (-end).ln_1p();
    (b, (poisson + binomial).exp() * end)
}

/// The sum of [`rise`], in units of its greatest term.
fn relative_sum_of_rise(k: f64, bursts: f64, size: f64, greatest: f64) -> f64 {
    let (ratio, slots) = (ratio_of_rise(bursts, size), k - 1.0);
    let next = |b: f64| ratio * (slots - b) / ((b + 1.0) * (b + 1.0));
    let mut sum = 1.0;
    let (mut term, mut b) = (1.0, greatest);
    while b < slots && term > NEGLIGIBLE {
        term *= next(b);
        sum += term;
        b += 1.0;
    }
    (term, b) = (1.0, greatest);
    while b > 0.0 && term > NEGLIGIBLE {
        b -= 1.0;
        term /= next(b);
        sum += term;
    }
    sum
}

/// Each term of [`rise`] is the one before it times this, and times `(k - 1 - b) / (b + 1)^2`.
fn ratio_of_rise(bursts: f64, size: f64) -> f64 {
    bursts / (size.max(SIZE_MIN) - 1.0)
}

/// Bursts of one slot each are the limit, where a burst never goes on; this is near enough, and no logarithm of nothing.
const SIZE_MIN: f64 = 1.000_1;

/// Of a sum whose greatest term is 1.
const NEGLIGIBLE: f64 = 1e-12;

/// `I_x(a, b)`, the regularised incomplete beta function.
fn regularised_beta(x: f64, a: f64, b: f64) -> f64 {
    // Beyond this the fraction converges slowly (DLMF 8.17.22), and that of the complement at once.
    if x > (a + 1.0) / (a + b + 2.0) {
        1.0 - beta_front(1.0 - x, b, a) * beta_fraction(1.0 - x, b, a)
    } else {
        beta_front(x, a, b) * beta_fraction(x, a, b)
    }
}

/// `x^a (1 - x)^b / (a B(a, b))`, what stands before the fraction. The series of DLMF 8.17.8 begins with it, and the other
/// terms are positive.
fn beta_front(x: f64, a: f64, b: f64) -> f64 {
    (a * x.ln() + b * (-x).ln_1p() + ln_gamma(a + b) - ln_gamma(a + 1.0) - ln_gamma(b)).exp()
}

/// The continued fraction of DLMF 8.17.22, by the modified method of Lentz.
fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    // It takes about the root of the greater parameter; this bound is for what is no number.
    for m in 1..100_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for coefficient in [even, odd] {
            d = 1.0 / away_from_zero(1.0 + coefficient * d);
            c = away_from_zero(1.0 + coefficient / c);
            change = c * d;
            fraction *= change;
        }
        if (change - 1.0).abs() < 1e-13 {
            break;
        }
    }
    fraction
}

/// The logarithm of the gamma function of `x > 0`: Stirling's series (DLMF 5.11.1) from ten on, the recurrence below.
fn ln_gamma(mut x: f64) -> f64 {
    let mut product = 1.0;
    while x < 10.0 {
        product *= x;
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    let series = (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0))) / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - product.ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A thousand groups, a month, fourteen windows; as the published table rounds it, which at 6 of 8 and 1 % tells.
    const ALPHA: f64 = 2.7e-11;

    fn assert_near(left: f64, right: f64, what: &str) {
        assert!((left - right).abs() <= 1e-9 * right.abs().max(1e-290), "{what}: {left:e} is not {right:e}");
    }

    /// The plain sum, term by term, from the one that follows the last.
    fn binomial_by_sum(k: u32, n: u32, p: f64) -> f64 {
        let mut tail = 0.0;
        for count in (k..=n).rev() {
            let choose: f64 = (0..count).map(|i| (f64::from(n - i) / f64::from(count - i)).ln()).sum();
            tail += (choose + f64::from(count) * p.ln() + f64::from(n - count) * (-p).ln_1p()).exp();
        }
        tail
    }

    /// Panjer's recursion for the probability of each sum of bursts, and the burst of the slot itself beside them.
    fn rise_by_recursion(k: usize, bursts: f64, size: f64) -> f64 {
        let go_on = 1.0 - 1.0 / size;
        let mut exactly = vec![(-bursts).exp()];
        // The sum over the sizes i of i q^(i - 1) times the probability of n - i, carried on from n to n + 1.
        let (mut once, mut weighted) = (0.0, 0.0);
        for n in 1..k {
            once = go_on * once + exactly[n - 1];
            weighted = go_on * weighted + once;
            exactly.push(bursts * (1.0 - go_on) / n as f64 * weighted);
        }
        let own = |size: usize| (1.0 - go_on) * go_on.powi(size as i32 - 1);
        (0..k).map(|others| exactly[others] * own(k - others)).sum()
    }

    #[test]
    fn the_gamma_function_continues_the_factorial() {
        let mut factorial = 1.0_f64;
        for n in 1..150_u32 {
            assert!((ln_gamma(f64::from(n)) - factorial.ln()).abs() < 1e-10 * factorial.ln().max(1.0), "{n}");
            factorial *= f64::from(n);
        }
        assert_near(ln_gamma(0.5), std::f64::consts::PI.sqrt().ln(), "one half");
    }

    #[test]
    fn the_least_counts_are_those_of_the_published_table() {
        let table = [
            (
                0.001,
                [
                    (4, 4),
                    (8, 5),
                    (15, 5),
                    (30, 6),
                    (60, 7),
                    (120, 8),
                    (300, 10),
                    (600, 12),
                    (1800, 17),
                    (3600, 23),
                ],
            ),
            (
                0.01,
                [
                    (8, 7),
                    (15, 8),
                    (30, 9),
                    (60, 11),
                    (120, 14),
                    (300, 21),
                    (600, 29),
                    (1800, 53),
                    (3600, 82),
                    (7200, 135),
                ],
            ),
        ];
        for (p, counts) in table {
            for (n, least) in counts {
                let rare = |k: u32| binomial_is_rare(f64::from(k), f64::from(n), p, ALPHA);
                assert!(rare(least) && !rare(least - 1), "{least} of {n} at {p}");
            }
        }
        for (n, p, least) in [(7_200.0, 0.001, 32.0), (21_600.0, 0.001, 59.0), (21_600.0, 0.01, 320.0)] {
            assert!(binomial_is_rare(least, n, p, ALPHA) && !binomial_is_rare(least - 1.0, n, p, ALPHA));
        }
    }

    proptest! {
        #[test]
        fn a_binomial_tail_is_its_sum((n, k) in (1u32..400).prop_flat_map(|n| (Just(n), 1..=n)), p in 1e-6..0.999f64) {
            let (tail, sum) = (binomial(f64::from(k), f64::from(n), p), binomial_by_sum(k, n, p));
            prop_assert!((tail - sum).abs() <= 1e-8 * sum + 1e-290, "{tail:e} {sum:e}");
        }

        #[test]
        fn a_binomial_tail_has_no_steps(n in 0.05..5_000.0f64, share in 0.001..1.0f64, p in 1e-6..0.5f64) {
            let k = share * n;
            let more = (k * 1.01).min(n);
            prop_assert!(binomial(more, n, p) <= binomial(k, n, p) * (1.0 + 1e-9));
            prop_assert!(binomial(k, n, p) <= binomial(k, n * 1.01, p) * (1.0 + 1e-9));
        }

        #[test]
        fn the_bounds_never_decide_otherwise(n in 0.05..100_000.0f64, share in 0.0..1.0f64, p in 1e-6..0.3f64, nats in 5.0..40.0f64) {
            let (k, alpha) = (n * (p + (1.0 - p) * share * share * share), (-nats).exp());
            prop_assume!(k > n * p * 1.0001);
            let tail = binomial(k, n, p);
            prop_assume!((tail / alpha).ln().abs() > 1e-6);
            prop_assert_eq!(binomial_is_rare(k, n, p, alpha), tail <= alpha, "{:e}", tail);
        }

        #[test]
        fn a_rise_is_its_recursion(k in 1usize..600, bursts in 1e-4..200.0f64, size in 1.01..30.0f64) {
            let (sum, plain) = (rise(k as f64, bursts, size), rise_by_recursion(k, bursts, size));
            prop_assume!(plain > 1e-280);
            prop_assert!((sum - plain).abs() <= 1e-8 * plain, "{:e} {:e}", sum, plain);
        }

        #[test]
        fn the_bounds_of_a_rise_never_decide_otherwise(k in 1u32..5_000, share in 0.001..0.99f64, size in 1.0..30.0f64, nats in 5.0..40.0f64) {
            let (k, bursts, limit) = (f64::from(k), f64::from(k) * share / size, (-nats).exp());
            let rise = rise(k, bursts, size);
            prop_assume!((rise / limit - 1.0).abs() > 1e-6);
            prop_assert_eq!(rise_is_rare(k, bursts, size, limit), rise <= limit, "{:e}", rise);
        }

        #[test]
        fn beyond_the_mean_a_rise_is_ever_rarer(k in 1u32..2_000, share in 0.01..0.99f64, size in 1.0..30.0f64) {
            let (k, bursts) = (f64::from(k), f64::from(k) * share / size);
            let (here, further) = (rise(k + size, bursts, size), rise(k + 1.0 + size, bursts, size));
            prop_assert!(further < here || here == 0.0);
        }
    }

    #[test]
    fn one_burst_by_itself_rises_as_far_as_it_is_long() {
        // Nothing else is in the window: the slot is the k-th of a burst.
        for (k, size) in [(1.0, 10.0), (25.0, 10.0), (7.0, 2.0)] {
            assert_near(rise(k, 1e-200, size), (1.0 - 1.0 / size).powf(k - 1.0) / size, "alone");
        }
    }
}
