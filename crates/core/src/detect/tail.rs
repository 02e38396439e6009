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

/// P(K >= k) of a sum of bursts: as many as a Poisson variable of mean `bursts` says, each of a geometric number of slots,
/// at least one, of mean `size` (Pólya-Aeppli). `k` is whole.
///
/// So many bursts hold k slots or more exactly if k - 1 slots, each the last of its burst with probability 1 / `size`, end
/// fewer bursts: `sum over b of Poisson(b) * P(Bin(k - 1, 1 / size) < b)`. All terms are positive, so nothing cancels.
pub fn compound(k: f64, bursts: f64, size: f64) -> f64 {
    compound_until(k, bursts, size, 1.0)
}

/// Whether P(K >= k) of [`compound`] is at most `alpha`; seldom computed, and not to its end where it is not rare.
pub fn compound_is_rare(k: f64, bursts: f64, size: f64, alpha: f64) -> bool {
    if k <= bursts * size {
        return false;
    }
    compound_exponent(k, bursts, size) >= -alpha.ln() || compound_until(k, bursts, size, alpha) <= alpha
}

/// The sum of [`compound`], left as soon as it is more than `enough`.
fn compound_until(k: f64, bursts: f64, size: f64, enough: f64) -> f64 {
    let size = size.max(SIZE_MIN);
    let (end, go_on, slots) = (1.0 / size, 1.0 - 1.0 / size, k - 1.0);
    // Twelve standard deviations below the mean there is nothing that an alpha could tell from nothing.
    let first = (bursts - 12.0 * bursts.sqrt()).floor().max(1.0);
    let mut poisson = (first * bursts.ln() - bursts - ln_gamma(first + 1.0)).exp();
    // Of the slots, `ends` end a burst: with which probability exactly so many, and at most.
    let mut ends = first - 1.0;
    let (mut exactly, mut at_most) = if ends < slots {
        let choose = ln_gamma(slots + 1.0) - ln_gamma(ends + 1.0) - ln_gamma(slots - ends + 1.0);
        let exactly = (choose + ends * end.ln() + (slots - ends) * go_on.ln()).exp();
        (exactly, regularised_beta(go_on, slots - ends, ends + 1.0))
    } else {
        (0.0, 1.0)
    };
    let mut tail = 0.0;
    loop {
        let term = poisson * at_most;
        tail += term;
        // The terms rise once and fall once, ever faster.
        if tail > enough || ends >= bursts && term <= 1e-9 * tail {
            return tail.min(1.0);
        }
        exactly *= (slots - ends).max(0.0) / (ends + 1.0) * (end / go_on);
        at_most = (at_most + exactly).min(1.0);
        ends += 1.0;
        poisson *= bursts / (ends + 1.0);
    }
}

/// Bursts of one slot each are the limit, where a burst never goes on; this is near enough, and no logarithm of nothing.
const SIZE_MIN: f64 = 1.000_1;

/// Chernoff's exponent of [`compound`]: the greatest `k ln z - bursts (G(z) - 1)`, G being the generating function of a
/// burst's size. Its `z` is the lesser root of `k (1 - q z)^2 = bursts (1 - q) z`, where `q = 1 - 1 / size`.
fn compound_exponent(k: f64, bursts: f64, size: f64) -> f64 {
    let go_on = 1.0 - 1.0 / size;
    let ending = bursts * (1.0 - go_on);
    let middle = 2.0 * k * go_on + ending;
    let z = 2.0 * k / (middle + (ending * (4.0 * k * go_on + ending)).sqrt());
    k * z.ln() - ending * z / (1.0 - go_on * z) + bursts
}

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

    /// Panjer's recursion for the probability of each sum, all of whose terms are positive, and the tail from far out.
    fn compound_by_recursion(k: usize, bursts: f64, size: f64) -> f64 {
        let go_on = 1.0 - 1.0 / size;
        let mut exactly = vec![(-bursts).exp()];
        // The sum over the sizes i of i q^(i - 1) times the probability of n - i, carried on from n to n + 1.
        let (mut once, mut weighted) = (0.0, 0.0);
        for n in 1..k + 4_000 {
            once = go_on * once + exactly[n - 1];
            weighted = go_on * weighted + once;
            exactly.push(bursts * (1.0 - go_on) / n as f64 * weighted);
        }
        exactly[k..].iter().rev().sum()
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
        fn a_compound_tail_is_its_recursion(k in 1usize..600, bursts in 1e-4..50.0f64, size in 1.01..30.0f64) {
            let (tail, sum) = (compound(k as f64, bursts, size), compound_by_recursion(k, bursts, size));
            prop_assume!(sum > 1e-30);
            prop_assert!((tail - sum).abs() <= 1e-6 * sum, "{:e} {:e}", tail, sum);
        }

        #[test]
        fn the_bound_of_a_compound_tail_never_decides_otherwise(k in 1u32..5_000, share in 0.001..0.99f64, size in 1.01..30.0f64) {
            let bursts = f64::from(k) * share * share / size;
            let tail = compound(f64::from(k), bursts, size);
            prop_assert!((-compound_exponent(f64::from(k), bursts, size)).exp() >= tail * (1.0 - 1e-6));
            for alpha in [1e-6, ALPHA] {
                prop_assume!(tail == 0.0 || (tail / alpha).ln().abs() > 1e-6);
                prop_assert_eq!(compound_is_rare(f64::from(k), bursts, size, alpha), tail <= alpha, "{:e}", tail);
            }
        }
    }

    #[test]
    fn bursts_of_one_slot_are_a_poisson_variable() {
        // P(Poisson(2) >= 5) = 1 - 7 exp(-2)
        let expected = 1.0 - 7.0 * (-2.0_f64).exp();
        assert!((compound(5.0, 2.0, 1.0) - expected).abs() < 1e-3 * expected);
    }
}
