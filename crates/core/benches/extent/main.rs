//! `cargo bench -p aviary-core --bench extent [-- SEED [CASES]]`
mod generator;
use std::collections::BTreeSet;
use std::time::Instant;
use aviary_core::extent::explain;
fn main() {
    let args: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let (seed, cases) = (args.first().copied().unwrap_or(1), args.get(1).copied().unwrap_or(50));
    let verbose = std::env::var("V").is_ok();
    let only = std::env::var("F").ok();
    for family in generator::FAMILIES.iter().chain([&generator::LARGE]) {
        if only.as_ref().is_some_and(|o| !family.name.starts_with(o.as_str())) { continue }
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut tp, mut fp, mut fne, mut exact, mut ms) = (0, 0, 0, 0, vec![]);
        let mut pops = 0.0;
        for c in 0..cases {
            let case = generator::case(family, &mut rng);
            let t = Instant::now();
            std::hint::black_box(case.population.clone());
            pops += t.elapsed().as_secs_f64() * 1e3;
            let t = Instant::now();
            let e = explain(&case.population, &case.counts);
            let mut m = t.elapsed().as_secs_f64() * 1e3;
            for _ in 0..2 { let t = Instant::now(); std::hint::black_box(explain(&case.population, &case.counts)); m = m.min(t.elapsed().as_secs_f64() * 1e3); }
            ms.push(m);
            let got: BTreeSet<_> = e.rules.iter().map(|r| r.matches.clone()).collect();
            let good = got.intersection(&case.truth).count();
            tp += good; fp += got.len() - good; fne += case.truth.len() - good;
            let plain = e.rules.iter().all(|r| r.except.is_empty());
            if got == case.truth { exact += 1 } else if verbose {
                println!("case {c}");
                for p in case.truth.difference(&got) { println!("   missing {:?} lost {}", p.0, case.population.matching(&p).map(|i| case.counts[i].lost).sum::<u64>()); }
                for r in e.rules.iter().filter(|r| !case.truth.contains(&r.matches)) { println!("   wrong   {:?} except {:?} {:.3} {}/{}", r.matches.0, r.except, r.loss, r.lost, r.judged); }
                for r in e.rules.iter().filter(|r| case.truth.contains(&r.matches)) { println!("   right   {:?} except {:?} {:.3} {}/{}", r.matches.0, r.except.len(), r.loss, r.lost, r.judged); }
            }
            let _ = plain;
        }
        ms.sort_by(f64::total_cmp);
        let n = ms.len();
        println!("{:14} F1 {:.3} ({:.2}) P {:.3} R {:.3} exact {:.2}  ms mean {:.1} p50 {:.1} p99 {:.1} max {:.1}", family.name,
            2.0*tp as f64/(2*tp+fp+fne) as f64, family.goal, tp as f64/(tp+fp) as f64, tp as f64/(tp+fne) as f64, exact as f64/cases as f64,
            ms.iter().sum::<f64>()/n as f64, ms[n/2], ms[(n*99/100).min(n-1)], ms[n-1]);
    }
}
