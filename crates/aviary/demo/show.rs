//! The demo as it runs: what is broken, what is waited for, and what is told of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

use aviary_core::{Clock as _, Micros, Tag};
use aviary_notify::{Event, Page};
use aviary_probe::SystemClock;
use serde::Deserialize;

use super::{
    SHOWN_SECONDS,
    fault::Fault,
    fleet::Fleet,
    input::Step,
    pager::Sheet,
    screen::{Screen, Word},
};
use crate::ask::Asker;

/// How long the fleet may take until it is measured and well.
const START_MAX: u64 = 60_000_000;

/// How long a script waits for pages, or for the end of incidents. A silence is told after half a minute, an end after one.
const WAIT_MAX: u64 = 100_000_000;

/// How wide a line is that sets a page apart.
const RULE: usize = 79;

/// What a script waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The fleet is measured, and well.
    Fleet,
    /// The pages of what is broken.
    Pages,
    /// The end of every incident.
    Ends,
    /// Time to pass.
    Time,
}

/// Something that is broken.
struct Broken {
    since: Micros,
    /// Its page came.
    is_told: bool,
}

/// The demo as it runs.
pub(super) struct Show<'a, 'b, W> {
    fleet: Fleet,
    asker: Asker,
    screen: &'a mut Screen<'b, W>,
    /// What is waited for, and until when at most.
    awaited: Option<(Awaited, Micros)>,
    broken: BTreeMap<Fault, Broken>,
    /// The last key that mended something, and when.
    mended: Option<(char, Micros)>,
    /// The incidents that pages told of, and of whose end none did.
    open: BTreeSet<String>,
    last: Option<String>,
    amiss: Vec<String>,
}

/// What was counted of a group, as `/api/v1/sums` tells it.
#[derive(Deserialize)]
struct Sums {
    by: BTreeMap<String, String>,
    scheduled: u64,
    delivered: u64,
    lost: u64,
}

#[derive(Deserialize)]
struct Answer {
    groups: Vec<Sums>,
}

/// The last line before there is anything to tell.
pub(super) fn starting() -> [Word; 1] {
    [Word { text: "starting: nothing is judged yet, wait some seconds ...".to_owned(), is_bad: false }]
}

fn now() -> Micros {
    SystemClock.monotonic()
}

fn seconds_since(then: Micros, at: Micros) -> f64 {
    at.since(then) as f64 / 1e6
}

impl<'a, 'b, W: Write> Show<'a, 'b, W> {
    pub(super) fn new(fleet: Fleet, asker: Asker, screen: &'a mut Screen<'b, W>) -> Self {
        let awaited = Some((Awaited::Fleet, now().plus(START_MAX)));
        let (broken, open) = (BTreeMap::new(), BTreeSet::new());
        Self { fleet, asker, screen, awaited, broken, mended: None, open, last: None, amiss: Vec::new() }
    }

    /// The end: the fleet as it is, and what was amiss.
    pub(super) fn end(self) -> (Fleet, Vec<String>) {
        (self.fleet, self.amiss)
    }

    /// Whether the next step can be taken.
    pub(super) const fn is_free(&self) -> bool {
        self.awaited.is_none()
    }

    /// Whether every fault has its page, or there was enough patience with it.
    pub(super) fn is_settled(&self) -> bool {
        self.broken.values().all(|broken| broken.is_told) || !self.amiss.is_empty()
    }

    /// Takes no step until `what` has come.
    pub(super) fn wait(&mut self, what: Awaited) {
        self.awaited = Some((what, now().plus(WAIT_MAX)));
    }

    /// Does what a key or a word asks for.
    pub(super) async fn step(&mut self, step: Step) -> anyhow::Result<()> {
        match step {
            Step::Toggle(fault) if self.broken.contains_key(&fault) => {
                self.mend(fault.key(), &[fault]).await?
            }
            Step::Toggle(fault) => {
                let since = now();
                self.fleet.set(fault, true).await?;
                self.broken.insert(fault, Broken { since, is_told: false });
                self.screen.say(format_args!("[{}] {}.", fault.key(), fault.words()))?;
            }
            Step::Mend => {
                let broken: Vec<Fault> = self.broken.keys().copied().collect();
                self.mend('m', &broken).await?;
            }
            Step::Explain => self.explain().await?,
            Step::Wait if self.is_settled() => self.wait(Awaited::Ends),
            Step::Wait => self.wait(Awaited::Pages),
            Step::Pause(pause) => {
                let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
                self.awaited = Some((Awaited::Time, now().plus(micros)));
            }
            Step::Quit => {}
        }
        self.look();
        Ok(())
    }

    async fn mend(&mut self, key: char, faults: &[Fault]) -> anyhow::Result<()> {
        for fault in faults {
            self.fleet.set(*fault, false).await?;
            self.broken.remove(fault);
        }
        self.mended = Some((key, now()));
        let what = match faults {
            [] => "nothing was broken",
            _ => "mended: that all is well is told when it has been so for a minute",
        };
        self.screen.say(format_args!("[{key}] {what}."))?;
        Ok(())
    }

    /// Shows a page, how long it took, and what speaks for it and against it.
    pub(super) async fn page(&mut self, Sheet { page, text, at }: Sheet) -> anyhow::Result<()> {
        let head = match page.event {
            Event::Resolved => {
                self.open.remove(&page.incident);
                self.mended
                    .map(|(key, then)| format!("{:.1} s after you pressed {key}", seconds_since(then, at)))
            }
            Event::Opened | Event::Updated => {
                self.open.insert(page.incident.clone());
                let fault = self.fault_of(&page);
                fault.map(|(key, then)| format!("{:.1} s after you pressed {key}", seconds_since(then, at)))
            }
        };
        self.last = Some(page.incident.clone());
        let paint = self.screen.paint();
        let head = format!("---- a page, {} ", head.as_deref().unwrap_or("unasked"));
        let mut shown = vec![String::new(), paint.strong(format!("{head:-<RULE$}")), text];
        if page.event != Event::Resolved {
            shown.push(self.beside(&page).await?);
        }
        shown.push(paint.strong("-".repeat(RULE)) + "\n");
        self.screen.say(shown.join("\n"))?;
        self.look();
        Ok(())
    }

    /// The key whose fault `page` tells of, and when it was pressed. What a page gets wrong is noted.
    fn fault_of(&mut self, page: &Page) -> Option<(char, Micros)> {
        let faults: Vec<Fault> = self.broken.keys().copied().collect();
        let told: Vec<Fault> =
            faults.iter().copied().filter(|fault| fault.is_told_by(page, &faults)).collect();
        let is_new = |fault: &&Fault| self.broken.get(fault).is_some_and(|broken| !broken.is_told);
        let first = told.iter().find(is_new).or_else(|| told.first()).copied();
        if page.event == Event::Opened {
            match first {
                None => self.amiss.push(format!("a page that nobody expected: {}", page.summary)),
                Some(_) if !told.iter().any(|fault| is_new(&fault)) => {
                    self.amiss.push(format!("a second page of the same: {}", page.summary));
                }
                Some(_) => {}
            }
        }
        for fault in told {
            if let Some(broken) = self.broken.get_mut(&fault) {
                broken.is_told = true;
            }
        }
        // A page that is not the expected one still comes of the newest key.
        let newest = || self.broken.iter().max_by_key(|(_, broken)| broken.since).map(|(fault, _)| *fault);
        let fault = first.or_else(newest)?;
        Some((fault.key(), self.broken[&fault].since))
    }

    /// What speaks for a page, what against it, and what is well beside.
    async fn beside(&self, page: &Page) -> anyhow::Result<String> {
        let tags: BTreeSet<Tag> = page.rules.iter().flat_map(|rule| rule.matches.0.keys().copied()).collect();
        let tags = if tags.is_empty() { BTreeSet::from([Tag::Region]) } else { tags };
        let mut well = Vec::new();
        for tag in tags {
            let service = page.services.first().filter(|_| page.services.len() == 1);
            let named =
                |value: &String| page.rules.iter().any(|rule| rule.matches.0.get(&tag) == Some(value));
            // What closed last may be from before it broke.
            let others =
                self.sums(tag.name(), service).await?.into_iter().filter(|it| !it.by.values().any(named));
            well.extend(others.filter(|it| it.lost == 0 && it.delivered > 0).map(|it| it.in_words()));
        }
        let causes = page.rules.iter().map(|rule| {
            let what: Vec<String> =
                rule.matches.0.iter().map(|(tag, value)| format!("{tag} {value}")).collect();
            format!("{}: {} of {} lost", what.join(", "), rule.lost, rule.judged)
        });
        let mut lines = vec![String::new()];
        lines.extend(causes.chain(page.evidence.iter().cloned()).map(|line| format!("  for it      {line}")));
        lines.extend(page.against.iter().map(|line| format!("  against it  {line}")));
        if page.against.is_empty() {
            lines.push("  against it  nothing that is known".to_owned());
        }
        if !well.is_empty() {
            lines.push(format!(
                "  well        {}, in the newest {SHOWN_SECONDS} closed seconds",
                well.join(", ")
            ));
        }
        Ok(lines.join("\n"))
    }

    async fn explain(&mut self) -> anyhow::Result<()> {
        let Some(id) = &self.last else {
            self.screen.say("[e] There was no page yet.")?;
            return Ok(());
        };
        let text = self.asker.text(&format!("api/v1/incidents/{id}/explanation")).await?;
        self.screen.say(format_args!("\n{}\n", text.trim_end()))?;
        Ok(())
    }

    /// Tells the last line anew, and looks whether what is waited for has come.
    pub(super) async fn second(&mut self) -> anyhow::Result<()> {
        let words = match self.awaited {
            Some((Awaited::Fleet, _)) => starting().into(),
            _ => self.last_line().await?,
        };
        self.screen.tell(&words)?;
        self.look();
        Ok(())
    }

    async fn last_line(&self) -> anyhow::Result<Vec<Word>> {
        let (regions, protocols) = (self.sums("region", None).await?, self.sums("protocol", None).await?);
        let word = |sums: &Sums| Word { text: sums.in_words(), is_bad: sums.delivered < sums.scheduled };
        let (lost, delivered) =
            regions.iter().fold((0, 0), |sum, it| (sum.0 + it.lost, sum.1 + it.delivered));
        let loss = match lost + delivered {
            0 => "nothing measured:".to_owned(),
            judged => format!("lost {:.0} %:", 100.0 * lost as f64 / judged as f64),
        };
        let loss = Word { text: loss, is_bad: lost > 0 };
        Ok([loss].into_iter().chain(regions.iter().chain(&protocols).map(word)).collect())
    }

    async fn sums(&self, by: &str, service: Option<&String>) -> anyhow::Result<Vec<Sums>> {
        let mut parameters = vec![("by", by.to_owned()), ("window", format!("{SHOWN_SECONDS}s"))];
        parameters.extend(service.map(|service| ("service", service.clone())));
        let Answer { groups } = self.asker.get("api/v1/sums", &parameters).await?;
        Ok(groups)
    }

    /// Whether what is waited for has come, or is not waited for any longer.
    fn look(&mut self) {
        let Some((what, until)) = self.awaited else { return };
        let has_come = match what {
            Awaited::Fleet => self.fleet.is_well(),
            Awaited::Pages => self.broken.values().all(|broken| broken.is_told),
            Awaited::Ends => self.open.is_empty(),
            Awaited::Time => false,
        };
        if !has_come && now() < until {
            return;
        }
        self.awaited = None;
        if has_come {
            return;
        }
        match what {
            Awaited::Fleet => {
                self.amiss.push("the fleet was not well within a minute of its start".to_owned())
            }
            Awaited::Pages => {
                let untold = self.broken.iter().filter(|(_, broken)| !broken.is_told);
                let told =
                    untold.map(|(fault, _)| format!("no page that is right came of this: {}", fault.words()));
                self.amiss.extend(told);
            }
            Awaited::Ends => {
                let open = self.open.iter().map(|id| format!("nobody was told the end of incident {id}"));
                self.amiss.extend(open);
            }
            Awaited::Time => {}
        }
    }
}

impl Sums {
    /// Such as `udp 0/9!`: the mark says that something was lost, or that it is not known.
    fn in_words(&self) -> String {
        let Self { by, scheduled, delivered, lost } = self;
        let values: Vec<&str> = by.values().map(String::as_str).collect();
        let mark = match (*lost, delivered + lost < *scheduled) {
            (0, false) => "",
            (0, true) => "?",
            _ => "!",
        };
        format!("{} {delivered}/{scheduled}{mark}", values.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_in_a_group_shows_without_colours() {
        for (delivered, lost, expected) in
            [(9, 0, "udp 9/9"), (8, 1, "udp 8/9!"), (3, 0, "udp 3/9?"), (0, 5, "udp 0/9!")]
        {
            let by = BTreeMap::from([("protocol".to_owned(), "udp".to_owned())]);
            assert_eq!(Sums { by, scheduled: 9, delivered, lost }.in_words(), expected);
        }
    }
}
