//! What others say that there is to probe, and what becomes of what they say no more: a pure machine, which is told answers.
//!
//! It fails static. An answer that did not come, is empty, or has more than may be, changes nothing: what was found last
//! stands, and why is said. What an answer leaves out is *going*: it is probed on for a grace, in which it may come back without
//! a trace, and what it loses is nobody's loss. So a record that flaps makes neither holes nor series.

use std::collections::{BTreeMap, BTreeSet};

use aviary_core::Second;

/// What one question has found.
#[derive(Clone, Debug)]
pub struct Discovered<T> {
    grace: u64,
    at_most: usize,
    /// Each with since when it is going, if it is.
    known: BTreeMap<T, Option<Second>>,
    trouble: Option<String>,
    is_answered: bool,
    revision: u64,
}

impl<T: Clone + Ord> Discovered<T> {
    /// Begins with what an earlier life found. What is going is kept for `grace` seconds, and an answer with more than
    /// `at_most` is not taken.
    pub fn new(grace: u64, at_most: usize, kept: impl IntoIterator<Item = T>) -> Self {
        let known = kept.into_iter().map(|it| (it, None)).collect();
        Self { grace, at_most, known, trouble: None, is_answered: false, revision: 0 }
    }

    /// At `now` this was answered, or there was no answer for a reason.
    pub fn answered(&mut self, now: Second, answer: Result<BTreeSet<T>, String>) {
        self.is_answered = true;
        let found = match answer {
            Ok(found) if found.is_empty() => Err("the answer is empty".to_owned()),
            Ok(found) if found.len() > self.at_most => Err(format!(
                "{} endpoints are more than the {} that `at_most` allows",
                found.len(),
                self.at_most
            )),
            other => other,
        };
        let found = match found {
            Ok(found) => found,
            Err(trouble) => {
                self.trouble = Some(trouble);
                return;
            }
        };
        self.trouble = None;
        for (known, going) in &mut self.known {
            match (found.contains(known), &going) {
                (true, _) => *going = None,
                (false, None) => *going = Some(now),
                (false, Some(_)) => {}
            }
        }
        for new in found {
            if self.known.insert(new, None).is_none() {
                self.revision += 1;
            }
        }
        self.pass(now);
    }

    /// Lets go of what has been going for the grace by `now`. While there is no answer nothing is let go: nobody says that it
    /// has not come back.
    pub fn pass(&mut self, now: Second) {
        if self.trouble.is_some() {
            return;
        }
        let before = self.known.len();
        let grace = self.grace;
        self.known.retain(|_, going| going.is_none_or(|since| now < since.plus(grace)));
        self.revision += u64::from(self.known.len() != before);
    }

    /// What there is to probe, and whether it is going.
    pub fn known(&self) -> impl Iterator<Item = (&T, bool)> {
        self.known.iter().map(|(known, going)| (known, going.is_some()))
    }

    /// Why the last answer was not taken, if it was not.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether there was an answer, of whatever kind.
    pub const fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// A number that is another whenever something has come or gone for good.
    pub const fn revision(&self) -> u64 {
        self.revision
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Answer<'a> = Result<&'a str, &'a str>;

    /// Tells the answer of a second, one letter for each endpoint.
    fn tell(discovered: &mut Discovered<char>, now: u64, answer: Answer<'_>) {
        let answer = answer.map(|found| found.chars().collect()).map_err(str::to_owned);
        discovered.answered(Second(now), answer);
    }

    /// What is known, in capitals where it is going.
    fn shown(discovered: &Discovered<char>) -> String {
        let known = discovered.known();
        known.map(|(it, going)| if going { it.to_ascii_uppercase() } else { *it }).collect()
    }

    #[test]
    fn what_goes_is_kept_for_a_grace_and_no_trouble_takes_anything_away() {
        let mut discovered = Discovered::new(60, 3, []);
        let table: [(u64, Answer<'_>, &str, Option<&str>); 13] = [
            (100, Err("no answer"), "", Some("no answer")),
            (101, Ok("ab"), "ab", None),
            (102, Ok("abc"), "abc", None),
            (103, Ok("ac"), "aBc", None),
            (104, Ok("abc"), "abc", None),
            (110, Ok("a"), "aBC", None),
            (120, Ok("ac"), "aBc", None),
            (130, Ok(""), "aBc", Some("the answer is empty")),
            (131, Ok("abcd"), "aBc", Some("4 endpoints are more than the 3 that `at_most` allows")),
            // The grace of `b` is over, but nobody has said since that it is still gone.
            (175, Err("silence"), "aBc", Some("silence")),
            (176, Ok("ac"), "ac", None),
            (177, Ok("d"), "ACd", None),
            (300, Ok("d"), "d", None),
        ];
        for (now, answer, expected, trouble) in table {
            tell(&mut discovered, now, answer);
            assert_eq!((shown(&discovered).as_str(), discovered.trouble()), (expected, trouble), "{now}");
        }
    }

    #[test]
    fn the_grace_passes_between_answers_that_are_far_apart() {
        let mut discovered = Discovered::new(60, 9, ['a', 'b']);
        tell(&mut discovered, 100, Ok("a"));
        discovered.pass(Second(159));
        assert_eq!(shown(&discovered), "aB");
        discovered.pass(Second(160));
        assert_eq!(shown(&discovered), "a");
    }

    #[test]
    fn a_record_that_flaps_changes_nothing_for_good() {
        let mut discovered = Discovered::new(60, 9, []);
        tell(&mut discovered, 100, Ok("abcd"));
        let before = discovered.revision();
        // Two of four at a time, as some name servers answer.
        for now in 101..1_000 {
            tell(&mut discovered, now, Ok(if now % 2 == 0 { "ab" } else { "cd" }));
            assert_eq!(discovered.known().count(), 4);
        }
        assert_eq!(discovered.revision(), before);
    }

    proptest! {
        /// Whatever is answered: never nothing after something, and nothing leaves before its grace.
        #[test]
        fn nothing_is_lost_to_bad_answers(answers in prop::collection::vec((1..40_u64, prop::option::of("[a-e]{0,5}")), 1..60)) {
            let mut discovered = Discovered::new(60, 4, []);
            let (mut now, mut seen) = (1_000, BTreeMap::new());
            for (seconds, answer) in answers {
                now += seconds;
                let before: BTreeSet<char> = discovered.known().map(|(it, _)| *it).collect();
                tell(&mut discovered, now, answer.as_deref().ok_or("none"));
                let after: BTreeSet<char> = discovered.known().map(|(it, _)| *it).collect();
                prop_assert!(before.is_empty() || !after.is_empty());
                if discovered.trouble().is_some() {
                    prop_assert_eq!(&before, &after);
                } else {
                    seen.extend(answer.iter().flat_map(|it| it.chars()).map(|it| (it, now)));
                }
                for gone in before.difference(&after) {
                    prop_assert!(now - seen[gone] >= 60, "{} was seen at {} and is gone at {}", gone, seen[gone], now);
                }
            }
        }
    }
}
