//! A group in closed loop: it loses, is judged, learnt from, pages and clears.
//!
//! [`Group::run`] goes from loss to loss. As long as no window holds as many losses as it would need, nothing can fire, and a
//! second without loss brings it no nearer; what each window needs is known from the fewest slots that can be judged in it,
//! and from a burstiness a little below the group's. Where a window holds that many, the seconds are judged one by one, with a
//! bank made of the losses. [`Group::run_each`] judges every second, and a test holds that both page at the same seconds.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
};

use aviary_core::{
    AcceptableLoss, Second, Span,
    detect::{Bank, Budget, Burstiness, Learning, Level, Quiet, Tally, Test, WINDOWS, gate},
};

use crate::traffic::{Lossy, Traffic};

/// What every window needs at least, by a dispersion or a size of bursts.
type Needs = [u64; WINDOWS.len()];

/// Thresholds of groups that are alike, by the steps of a logarithm of what was learnt.
#[derive(Default)]
pub(crate) struct Thresholds(HashMap<(bool, u64, i32), Rc<Needs>>);

/// Steps of two per cent.
const STEP: f64 = 1.02;

impl Thresholds {
    fn needs(&mut self, test: &Test, series: u64, is_burst: bool, value: f64) -> Rc<Needs> {
        let step = (value.ln() / STEP.ln()).floor() as i32;
        let rounded = STEP.powi(step).max(1.0);
        let test =
            test.with(if is_burst { Burstiness::learnt(1.0, rounded) } else { Burstiness::fixed(rounded) });
        let needs = || {
            Rc::new(WINDOWS.map(|seconds| {
                let judged = series * (seconds - coarseness(seconds) + 1);
                test.needed(seconds, judged, Level::Firing).unwrap_or(u64::MAX)
            }))
        };
        Rc::clone(self.0.entry((is_burst, series, step)).or_insert_with(needs))
    }
}

/// Seconds by which a window steps.
fn coarseness(seconds: u64) -> u64 {
    if seconds <= Bank::REACH { 1 } else { seconds / 60 }
}

/// The first second of the window that ends with `newest`.
fn first(newest: Second, seconds: u64) -> Second {
    let step = coarseness(seconds);
    Second((newest.0 / step + 1) * step - seconds)
}

/// Each lost slot adds one to what a window holds: where so many are lacking, the next so many need no look.
const FEW: u64 = 4;

/// More lost slots than any window needs.
const SLOTS: usize = 1 << 15;

/// The newest lost slots, as their second and vantage.
struct Slots {
    slots: Vec<(u32, u8)>,
    count: usize,
}

impl Slots {
    fn push(&mut self, second: Second, vantage: u8) {
        self.slots[self.count % SLOTS] = (second.0 as u32, vantage);
        self.count += 1;
    }

    /// The `ago`-th newest, counted from 1.
    fn get(&self, ago: usize) -> Option<(Second, u8)> {
        let place = self.count.checked_sub(ago)?;
        let (second, vantage) = self.slots[place % SLOTS];
        (ago <= SLOTS).then_some((Second(second.into()), vantage))
    }

    /// The vantages of those lost from `first` on.
    fn since(&self, first: Second) -> impl Iterator<Item = u8> {
        (1..)
            .map_while(|ago| self.get(ago))
            .take_while(move |(second, _)| *second >= first)
            .map(|(_, vantage)| vantage)
    }

    /// How many were lost in a span.
    fn within(&self, span: Span) -> u64 {
        let before = |end: Second| {
            let (mut newer, mut older) = (0, self.count.min(SLOTS) + 1);
            while newer + 1 < older {
                let middle = newer.midpoint(older);
                let is_newer = self.get(middle).is_some_and(|(second, _)| second >= end);
                *if is_newer { &mut newer } else { &mut older } = middle;
            }
            newer as u64
        };
        before(span.from) - before(span.until)
    }
}

/// What a group is judged by.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) acceptable: AcceptableLoss,
    pub(crate) budget: Budget,
    pub(crate) series: u64,
    /// The vantages that the series are spread over: a suspicion that stands without the worst of them pages.
    pub(crate) vantages: u64,
}

/// A page that nobody needed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Alarm {
    pub(crate) second: Second,
    pub(crate) window: u64,
    pub(crate) tally: Tally,
    pub(crate) burstiness: Burstiness,
    /// It did not wait for a burst to end, because vantages agreed.
    pub(crate) by_agreement: bool,
}

/// A group, its ledger and what is known of it.
pub(crate) struct Group {
    setting: Setting,
    test: Test,
    traffic: Traffic,
    learning: Learning,
    /// Seconds with loss that are not learnt yet.
    unlearnt: VecDeque<(Second, u64)>,
    slots: Slots,
    /// While seconds are judged one by one.
    bank: Option<Bank>,
    outage: Option<gate::Outage>,
    needs: [Rc<Needs>; 2],
    needs_for: Option<Burstiness>,
    /// Until so many slots were lost, no window can hold what it needs.
    short_until: usize,
    now: Second,
    pub(crate) alarms: Vec<Alarm>,
    /// Seconds that were judged one by one.
    pub(crate) judged: u64,
}

/// Before it, everything was well for as long as a bank remembers.
pub(crate) const START: Second = Second(1_000_800);

impl Group {
    pub(crate) fn new(setting: Setting, traffic: Traffic) -> Self {
        let none = Rc::new([u64::MAX; WINDOWS.len()]);
        Self {
            setting,
            test: Test::new(setting.acceptable, setting.budget, Burstiness::default()),
            traffic,
            learning: Learning::new(Quiet::default(), START),
            unlearnt: VecDeque::new(),
            slots: Slots { slots: vec![(0, 0); SLOTS], count: 0 },
            bank: None,
            outage: None,
            needs: [Rc::clone(&none), none],
            needs_for: None,
            short_until: 0,
            now: START,
            alarms: Vec::new(),
            judged: 0,
        }
    }

    pub(crate) const fn burstiness(&self) -> Burstiness {
        self.learning.burstiness()
    }

    /// Runs for `seconds`, from loss to loss.
    pub(crate) fn run(&mut self, seconds: u64, thresholds: &mut Thresholds) {
        let until = START.plus(seconds);
        let mut lossy = Lossy { after: 0, series: Vec::new() };
        while self.now < until {
            self.traffic.next(&mut lossy);
            let second = self.now.plus(lossy.after);
            while self.bank.is_some() && self.now < second.min(until) {
                self.judge(0);
                self.let_go(thresholds);
            }
            self.now = second;
            if second >= until {
                break;
            }
            self.lose(&lossy);
            self.learn();
            if self.bank.is_some() || self.may_fire(thresholds) {
                self.judge(lossy.series.len() as u64);
                self.let_go(thresholds);
            } else {
                self.now = self.now.plus(1);
            }
        }
        self.now = until;
        self.learn();
    }

    /// Runs for `seconds`, each of which is judged.
    pub(crate) fn run_each(&mut self, seconds: u64) {
        let until = START.plus(seconds);
        let mut lossy = Lossy { after: 0, series: Vec::new() };
        self.bank = Some(self.bank_of_slots());
        while self.now < until {
            self.traffic.next(&mut lossy);
            let second = self.now.plus(lossy.after);
            while self.now < second.min(until) {
                self.learn();
                self.judge(0);
            }
            if second < until {
                self.lose(&lossy);
                self.learn();
                self.judge(lossy.series.len() as u64);
            }
        }
        self.learn();
    }

    fn lose(&mut self, lossy: &Lossy) {
        for series in &lossy.series {
            self.slots.push(self.now, (series % self.setting.vantages) as u8);
        }
        self.unlearnt.push_back((self.now, lossy.series.len() as u64));
    }

    /// Learns from what is older than a second can still change.
    fn learn(&mut self) {
        let final_until = self.now.minus(Bank::REACH);
        if self.outage.is_some() || final_until <= self.learning.until() {
            return;
        }
        let acceptable = self.test.acceptable();
        let each = |lost| Tally { judged: self.setting.series, lost };
        while let Some(&(second, lost)) = self.unlearnt.front().filter(|(second, _)| *second < final_until) {
            self.unlearnt.pop_front();
            self.learning.learn(Span::new(self.learning.until(), second), each(0), acceptable);
            self.learning.learn(Span::new(second, second.plus(1)), each(lost), acceptable);
        }
        self.learning.learn(Span::new(self.learning.until(), final_until), each(0), acceptable);
        self.test = self.test.with(self.learning.burstiness());
    }

    /// Whether any window holds as much as it needs, at the least.
    fn may_fire(&mut self, thresholds: &mut Thresholds) -> bool {
        let burstiness = self.test.burstiness();
        if self.needs_for != Some(burstiness) {
            (self.needs_for, self.short_until) = (Some(burstiness), 0);
            let series = self.setting.series;
            // What vantages agree on does not wait for a burst.
            let is_agreeable = self.setting.vantages > 1;
            let burst = if is_agreeable { 1.0 } else { burstiness.burst().unwrap_or(1.0) };
            self.needs = [(false, burstiness.dispersion()), (true, burst)]
                .map(|(is_burst, value)| thresholds.needs(&self.test, series, is_burst, value));
        }
        if self.slots.count < self.short_until {
            return false;
        }
        let [chance, burst] = &self.needs;
        let holds = |but: u64| {
            WINDOWS.iter().zip(chance.iter().zip(burst.iter())).any(|(seconds, (chance, burst))| {
                let needed = usize::try_from(chance.max(burst).saturating_sub(but)).unwrap_or(usize::MAX);
                let oldest = self.slots.get(needed);
                needed == 0 || oldest.is_some_and(|(second, _)| second >= first(self.now, *seconds))
            })
        };
        if !holds(FEW) {
            self.short_until = self.slots.count + FEW as usize;
            return false;
        }
        holds(0)
    }

    fn bank_of_slots(&self) -> Bank {
        Bank::rebuilt(self.now, |span| Tally {
            judged: self.setting.series * span.seconds(),
            lost: self.slots.within(span),
        })
    }

    /// Judges the present second, and goes on to the next.
    fn judge(&mut self, lost: u64) {
        self.judged += 1;
        let mut bank = self.bank.take().unwrap_or_else(|| self.bank_of_slots());
        assert!(
            bank.set(self.now, Tally { judged: self.setting.series, lost }),
            "the newest second is in reach"
        );
        match self.outage {
            None => self.page(&bank),
            Some(outage) if outage.is_clear(&self.test, &bank) => {
                self.outage = None;
                self.unlearnt.clear();
                self.learning.pass_over(self.now.plus(1));
            }
            Some(_) => {}
        }
        self.now = self.now.plus(1);
        self.bank = Some(bank);
    }

    fn page(&mut self, bank: &Bank) {
        let detection = self.test.judge(bank);
        let Some(window) = detection.strongest else { return };
        let by_agreement = detection.level == Level::Suspected;
        if (by_agreement && !self.is_agreed(window.seconds, window.tally))
            || !gate::is_confirmed(&self.test, bank, window.seconds)
        {
            return;
        }
        let burstiness = self.test.burstiness();
        self.alarms.push(Alarm {
            second: self.now,
            window: window.seconds,
            tally: window.tally,
            burstiness,
            by_agreement,
        });
        let judged_per_second = self.setting.series as f64;
        self.outage = Some(gate::Outage { loss: window.tally.loss(), judged_per_second, reopened: 0 });
    }

    fn is_agreed(&self, seconds: u64, tally: Tally) -> bool {
        let mut lost = vec![0; self.setting.vantages as usize];
        self.slots.since(first(self.now, seconds)).for_each(|vantage| lost[usize::from(vantage)] += 1);
        let worst =
            Tally { judged: tally.judged / self.setting.vantages, lost: lost.into_iter().max().unwrap_or(0) };
        self.setting.vantages > 1 && gate::is_agreed(&self.test, seconds, tally, worst)
    }

    /// Goes on from loss to loss where nothing can fire.
    fn let_go(&mut self, thresholds: &mut Thresholds) {
        self.now = self.now.minus(1);
        if self.outage.is_none() && !self.may_fire(thresholds) {
            self.bank = None;
        }
        self.now = self.now.plus(1);
        if self.bank.is_some() {
            self.learn();
        }
    }
}
