//! Between which rates the true one lies, for all that chance may have done.

/// The interval of Clopper and Pearson, which is exact: a true rate outside of it shows so many losses, or fewer, or so many, or
/// more, in at most `1 - confidence` of all cases.
pub(super) fn of_rate(lost: u64, of: u64, confidence: f64) -> (f64, f64) {
    if of == 0 {
        return (0.0, 1.0);
    }
    let tail = (1.0 - confidence) / 2.0;
    let lower = match lost {
        0 => 0.0,
        _ => root(|rate| 1.0 - at_most(lost - 1, of, rate) - tail),
    };
    let upper = if lost == of { 1.0 } else { root(|rate| tail - at_most(lost, of, rate)) };
    (lower, upper)
}

/// How likely at most `lost` of `of` are lost at `rate`, between 0 and 1.
fn at_most(lost: u64, of: u64, rate: f64) -> f64 {
    let odds = (rate / (1.0 - rate)).ln();
    let mut logarithm = of as f64 * (1.0 - rate).ln();
    let mut sum = logarithm.exp();
    for count in 0..lost {
        logarithm += ((of - count) as f64 / (count + 1) as f64).ln() + odds;
        sum += logarithm.exp();
    }
    sum
}

/// Where `grows` is 0, between 0 and 1.
fn root(grows: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if grows(middle) < 0.0 { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

#[test]
fn the_interval_is_that_of_the_tables() {
    // R's binom.test(lost, of, conf.level = ...)$conf.int
    for (lost, of, confidence, lower, upper) in [
        (0, 10, 0.95, 0.0, 0.308_497),
        (10, 10, 0.95, 0.691_503, 1.0),
        (1, 100, 0.95, 0.000_253, 0.054_459),
        (50, 100, 0.95, 0.398_321, 0.601_679),
    ] {
        let (from, to) = of_rate(lost, of, confidence);
        assert!((from - lower).abs() < 1e-5 && (to - upper).abs() < 1e-5, "{lost} of {of}: {from} to {to}");
    }
    let (from, to) = of_rate(30, 30_000, 0.99);
    assert!(from < 0.000_7 && to > 0.001_4 && to < 0.001_7, "{from} to {to}");
}
