//! Whose fault it is that a name server does not answer: what came of the agent's other names says it.

use std::{collections::BTreeMap, sync::Arc};

use aviary_core::Micros;

use super::upstream::Heard;

/// Where no other name was asked meanwhile, an answer that is no older than this counts.
const LOOK_BACK_US: u64 = 2_000_000;

/// Another lookup says that nobody answers once it has waited so long; name servers that are well are quicker.
const TELLING_US: u64 = 50_000;

/// What is known of lookups: those that wait, and the last that ended either way. As large as there are lookups at once.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    waiting: BTreeMap<(Micros, u64), Arc<str>>,
    answered: Latest,
    silent: Latest,
    count: u64,
}

/// A lookup that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    started: Micros,
    number: u64,
}

impl Asked {
    /// A lookup of `name` starts.
    pub(crate) fn start(&mut self, name: Arc<str>, now: Micros) -> Waiting {
        let waiting = Waiting { started: now, number: self.count };
        self.count += 1;
        self.waiting.insert((now, waiting.number), name);
        waiting
    }

    /// The lookup is no longer waited for. Returns whether it failed by the agent's own fault, if nobody answered.
    pub(crate) fn end(&mut self, waiting: Waiting, heard: Heard, now: Micros) -> bool {
        let Some(name) = self.waiting.remove(&(waiting.started, waiting.number)) else { return false };
        match heard {
            Heard::Answer => self.answered.note(name, now),
            Heard::Silence => {
                let others = self.others(&name, now);
                self.silent.note(name, now);
                return is_local(others, waiting.started, now);
            }
            Heard::Nobody => {}
        }
        false
    }

    fn others(&self, name: &str, now: Micros) -> Others {
        let oldest = self.waiting.iter().find(|(_, other)| ***other != *name);
        Others {
            answered: self.answered.other_than(name),
            silent: self.silent.other_than(name),
            waits: oldest.is_some_and(|((started, _), _)| now.since(*started) >= TELLING_US),
        }
    }
}

/// What is known of the other names of the agent.
#[derive(Clone, Copy, Debug)]
struct Others {
    /// When one was last answered.
    answered: Option<Micros>,
    /// When one was last given up for want of an answer.
    silent: Option<Micros>,
    /// Whether one waits for longer than answers take.
    waits: bool,
}

/// Whether a lookup from `started` to `now` that nobody answered failed by the agent's own fault: every name does so.
fn is_local(others: Others, started: Micros, now: Micros) -> bool {
    let answered_since = |since| others.answered.is_some_and(|at| at >= since);
    if answered_since(started) {
        return false;
    }
    if others.waits || others.silent.is_some_and(|at| at >= started) {
        return true;
    }
    !answered_since(Micros(now.0.saturating_sub(LOOK_BACK_US)))
}

/// When something last happened to a name, and when to another: enough to know of each when it did to one of the others.
#[derive(Debug, Default)]
struct Latest {
    last: Option<(Arc<str>, Micros)>,
    other: Option<(Arc<str>, Micros)>,
}

impl Latest {
    fn note(&mut self, name: Arc<str>, now: Micros) {
        match &mut self.last {
            Some((last, at)) if *last == name => *at = now,
            last => self.other = last.replace((name, now)),
        }
    }

    fn other_than(&self, name: &str) -> Option<Micros> {
        let latest = match &self.last {
            Some((last, _)) if **last == *name => &self.other,
            last => last,
        };
        latest.as_ref().map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTED: Micros = Micros(10_000_000);
    const NOW: Micros = Micros(10_900_000);

    #[test]
    fn a_silence_is_the_agents_own_if_every_name_meets_it() {
        let at = |millis: u64| Some(Micros(millis * 1_000));
        // (another was answered, another was given up, another waits) => local
        let table = [
            ("the only name", None, None, false, true),
            ("others are answered meanwhile", at(10_100), None, false, false),
            ("some are, some are not", at(10_100), at(10_800), true, false),
            ("others meet silence too", None, at(10_500), false, true),
            ("others still wait", None, None, true, true),
            ("others were answered before, and are not now", at(9_900), at(10_500), false, true),
            ("others were answered before, and now wait", at(9_900), None, true, true),
            ("nobody else asked, but just before was answered", at(9_900), None, false, false),
            ("nobody else asked, and none was answered for long", at(8_800), None, false, true),
            ("others met silence long ago, and were answered since", at(9_900), at(9_000), false, false),
        ];
        for (what, answered, silent, waits, local) in table {
            assert_eq!(is_local(Others { answered, silent, waits }, STARTED, NOW), local, "{what}");
        }
    }

    /// Lookups as (name, from, to, heard), by the millisecond; what is said of the last of them.
    fn is_last_local(lookups: &[(&str, u64, u64, Heard)]) -> bool {
        let mut asked = Asked::default();
        let moments = lookups.iter().enumerate().flat_map(|(at, (_, from, to, _))| [(*from, at), (*to, at)]);
        let mut moments: Vec<_> = moments.collect();
        moments.sort_unstable();
        let (mut waiting, mut said) = (vec![None; lookups.len()], vec![false; lookups.len()]);
        for (millis, at) in moments {
            let now = Micros(millis * 1_000);
            match waiting[at] {
                None => waiting[at] = Some(asked.start(lookups[at].0.into(), now)),
                Some(waiting) => said[at] = asked.end(waiting, lookups[at].3, now),
            }
        }
        assert!(asked.waiting.is_empty());
        said.pop().unwrap()
    }

    #[test]
    fn only_other_names_count() {
        use Heard::{Answer, Nobody, Silence};
        let lost = ("a", 2_000, 2_900, Silence);
        type Row<'a> = (&'a str, &'a [(&'a str, u64, u64, Heard)], bool);
        let table: [Row<'_>; 9] = [
            ("nobody else", &[lost], true),
            ("itself, in another family", &[("a", 2_000, 2_005, Answer), lost], true),
            (
                "another, and itself behind it",
                &[("b", 2_000, 2_005, Answer), ("a", 2_006, 2_007, Answer), lost],
                false,
            ),
            ("another, asked before and answered meanwhile", &[("b", 1_500, 2_005, Answer), lost], false),
            ("one of which nobody was asked", &[("b", 2_100, 2_105, Nobody), lost], true),
            (
                "another that has only just asked",
                &[("b", 1_000, 1_005, Answer), ("b", 2_890, 2_905, Answer), lost],
                false,
            ),
            (
                "another that has asked for a while",
                &[("b", 1_000, 1_005, Answer), ("b", 2_800, 3_700, Silence), lost],
                true,
            ),
            ("another that was given up", &[("b", 1_900, 2_800, Silence), lost], true),
            ("another that was answered long ago", &[("b", 0, 5, Answer), lost], true),
        ];
        for (what, lookups, local) in table {
            assert_eq!(is_last_local(lookups), local, "{what}");
        }
    }
}
