use super::*;
use crate::extent::{Extent, Predicate, Rule};

/// Such as `region=eu,protocol=udp`; every series where it is empty.
pub(super) fn predicate(text: &str) -> Predicate {
    let pairs = text.split(',').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap());
    Predicate(pairs.map(|(tag, value)| (tag.parse().unwrap(), value.to_owned())).collect())
}

/// Rules between semicolons; `scattered` for none.
pub(super) fn extent(text: &str) -> Extent {
    if text == "scattered" {
        return Extent { rules: vec![], scattered: 1.0 };
    }
    let rules: Vec<&str> = text.split(';').collect();
    let share = 1.0 / rules.len() as f64;
    let rule = |text: &&str| Rule {
        matches: predicate(text),
        except: vec![],
        loss: 1.0,
        share,
        lost: 60,
        judged: 60,
    };
    Extent { rules: rules.iter().map(rule).collect(), scattered: 0.0 }
}
