//! What banks are fed with: the ledger's seconds as they come, as they change, and all at once where a bank begins.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use aviary_core::{
    Ledger, Second, SeriesId, Span, Window,
    detect::{Bank, Tally},
    ledger::{
        NO_GROUP,
        by_second::{SECONDS, Which},
    },
};

use super::{Endpoint, Group, Groups, Judged, OLDER_STEP};

/// So many seconds are read before banks are fed with them.
const SECONDS_AT_ONCE: usize = 4;

/// Sums of the past by cell, in steps of [`OLDER_STEP`].
pub(in crate::state::watch) struct Older {
    pub(in crate::state::watch) span: Span,
    pub(in crate::state::watch) windows: Vec<Window>,
}

/// What a window says of loss, where what is not known yet is taken for delivered, or is not judged.
///
/// What was sent and can never be shown to arrive is judged as delivered: it was not refused, and so is what refusals are a
/// share of.
const fn tally(window: &Window, at_best: bool) -> Tally {
    let known = window.delivered + window.lost + window.unproven;
    Tally { judged: if at_best { known + window.unknown } else { known }, lost: window.lost }
}

impl Groups {
    /// Makes banks of what the ledger holds: of the groups that are new, or with what is `older`, of those that lack it. The
    /// ledger is read once for all of them, block by block.
    pub(in crate::state::watch) fn rebuild(&mut self, ledger: &Ledger, older: Option<&Older>) {
        let Self { cell_of, cells, services, until, beginners, .. } = self;
        let is_due = |group: &Group| if older.is_some() { group.lacks_older } else { group.is_new };
        let mut at_best_from = vec![Second(u64::MAX); *cells];
        let mut is_any = false;
        for judged in services.values_mut() {
            let final_until = judged.final_until;
            for group in judged.all_mut() {
                group.cells.iter().for_each(|cell| at_best_from[*cell as usize] = final_until);
                if is_due(group) {
                    group.bank = Bank::new(*until);
                    is_any = true;
                }
            }
        }
        if !is_any {
            return;
        }
        let seam = older.map_or_else(|| ledger.held().from, |older| older.span.until);
        let which = Which { group_of: cell_of, at_best_from: &at_best_from, begins: beginners };
        for number in ledger.block_numbers() {
            let block = ledger.by_second(number, Span::new(seam, *until), which);
            let span = block.span();
            for group in services.values_mut().flat_map(Judged::all_mut).filter(|group| is_due(group)) {
                // Where it had not begun, nothing needs to be read.
                if span.until > group.first {
                    let mut each = [Tally::default(); SECONDS];
                    block.add_to(&group.cells, &mut each);
                    group.bank.add(span.from, &each[..span.seconds() as usize]);
                }
            }
        }
        for group in services.values_mut().flat_map(Judged::all_mut).filter(|group| is_due(group)) {
            if let Some(older) = older {
                older.steps(&group.cells, *cells).for_each(|(span, tally)| group.bank.add_span(span, tally));
            }
            group.is_new = false;
            group.lacks_older &= older.is_none();
        }
    }

    /// Sets the seconds that were `touched`, are new before `until`, or are final now, as the ledger has them; `finals` tells of
    /// each service the first second that is not, from what was so before. Returns the seconds with loss by service.
    pub(in crate::state::watch) fn feed(
        &mut self,
        ledger: &Ledger,
        touched: &BTreeSet<Second>,
        until: Second,
        finals: impl Fn(&str, Second) -> Second,
    ) -> BTreeMap<String, Vec<Span>> {
        let reach = Span::new(until.minus(Bank::REACH), until);
        let mut seconds: BTreeSet<Second> = touched.range(reach.from..reach.until).copied().collect();
        seconds.extend(Span::new(self.until, until).intersection(reach).iter());
        for (name, judged) in &mut self.services {
            let before = judged.final_until;
            judged.final_until = finals(name, before);
            seconds.extend(Span::new(before, judged.final_until).intersection(reach).iter());
        }
        let mut lost: BTreeMap<String, Vec<Span>> = BTreeMap::new();
        let seconds: Vec<Second> = seconds.into_iter().collect();
        // A few at a time for each group: all banks together are larger than what a processor has at hand.
        for seconds in seconds.chunks(SECONDS_AT_ONCE) {
            let span = |second: Second| Span::new(second, second.plus(1));
            let read =
                |second: &Second| sums(ledger, span(*second), &self.cell_of, self.cells, &self.beginners);
            let read: Vec<(Second, Vec<Window>)> =
                seconds.iter().map(|second| (*second, read(second))).collect();
            for (name, judged) in &mut self.services {
                let final_until = judged.final_until;
                for group in judged.all_mut() {
                    for (second, windows) in &read {
                        let at_best = *second >= final_until;
                        let mut sum = Tally::default();
                        group.cells.iter().for_each(|cell| sum += tally(&windows[*cell as usize], at_best));
                        // It is within reach: the loop begins there.
                        _ = group.bank.set(*second, sum);
                    }
                }
                for (second, windows) in &read {
                    if windows[judged.cells.clone()].iter().any(|window| window.lost > 0) {
                        lost.entry(name.clone()).or_default().push(span(*second));
                    }
                }
            }
        }
        self.until = self.until.max(until);
        lost
    }

    /// Reads what changed of the seconds before the newest.
    pub(in crate::state::watch) fn reread(&mut self, ledger: &Ledger, changed: Span) {
        // Bins that hold what the ledger no longer does stay as they are.
        let widest = 360;
        let from = Second(ledger.held().from.0.div_ceil(widest) * widest).max(changed.from);
        let changed = Span::new(from, changed.until);
        let Self { cell_of, cells, services, beginners, .. } = self;
        let mut known: HashMap<Span, Vec<Window>> = HashMap::new();
        for judged in services.values_mut() {
            let final_until = judged.final_until;
            for group in judged.all_mut() {
                let of_group = &group.cells;
                group.bank.reread(changed, |span| {
                    let mut sum = Tally::default();
                    for (part, at_best) in
                        <[_; 2]>::from(split(span, final_until)).into_iter().zip([false, true])
                    {
                        if !part.is_empty() {
                            let windows = known
                                .entry(part)
                                .or_insert_with(|| sums(ledger, part, cell_of, *cells, beginners));
                            of_group.iter().for_each(|cell| sum += tally(&windows[*cell as usize], at_best));
                        }
                    }
                    sum
                });
            }
        }
    }

    /// Learns the second that leaves the newest, of services in which nothing is wrong, nor was anything then that somebody was told
    /// of: an incident may be over before its seconds come here.
    pub(in crate::state::watch) fn learn(&mut self, is_quiet: impl Fn(&str, Second) -> bool) {
        let oldest = self.until.minus(Bank::REACH);
        for (name, judged) in &mut self.services {
            let is_quiet = is_quiet(name, oldest);
            for Group { acceptable, bank, learning, .. } in judged.all_mut() {
                // What is older than the bank holds by itself was not looked at.
                learning.pass_over(oldest);
                if !is_quiet {
                    learning.pass_over(oldest.plus(1));
                    continue;
                }
                let acceptable = f64::from((*acceptable).max(1)) / 1e6;
                learning.learn(Span::new(oldest, oldest.plus(1)), bank.second(oldest), acceptable);
            }
        }
    }

    /// What was counted in `span` by cell. What is not known of the newest seconds is left out, since it is soon; but where
    /// `storage` decides, what is delivered is known long after what is lost, and is taken for delivered.
    pub(in crate::state::watch) fn windows(
        &self,
        ledger: &Ledger,
        span: Span,
        service: &str,
        storage: bool,
    ) -> Vec<Tally> {
        let final_until = self.services.get(service).map_or(span.until, |judged| judged.final_until);
        let (done, open) = split(span, final_until);
        let mut tallies = vec![Tally::default(); self.cells];
        for (part, at_best) in [(done, false), (open, storage)] {
            if !part.is_empty() {
                let windows = sums(ledger, part, &self.cell_of, self.cells, &self.beginners);
                tallies.iter_mut().zip(&windows).for_each(|(sum, window)| *sum += tally(window, at_best));
            }
        }
        tallies
    }

    /// What some cells judged and lost in each second of `span` by what is known, block by block: the first second, the
    /// seconds from there on, and how many they are.
    pub(in crate::state::watch) fn each_second(
        &self,
        ledger: &Ledger,
        span: Span,
        cells: &[u32],
        mut visit: impl FnMut(Second, &[Tally; SECONDS], usize),
    ) {
        let never = vec![Second(u64::MAX); self.cells];
        let which = Which { group_of: &self.cell_of, at_best_from: &never, begins: &self.beginners };
        for number in ledger.block_numbers() {
            let block = ledger.by_second(number, span, which);
            let mut each = [Tally::default(); SECONDS];
            block.add_to(cells, &mut each);
            visit(block.span().from, &each, block.span().seconds() as usize);
        }
    }

    /// What was counted in `span` by cell.
    pub(in crate::state::watch) fn sums(&self, ledger: &Ledger, span: Span) -> Vec<Window> {
        sums(ledger, span, &self.cell_of, self.cells, &self.beginners)
    }

    /// The endpoints that never worked and of which something arrived in `span`.
    pub(in crate::state::watch) fn works(&self, ledger: &Ledger, span: Span) -> Vec<Endpoint> {
        let apart = || {
            let of_services = self.services.iter();
            let apart = of_services.flat_map(|(name, judged)| judged.apart.iter().map(move |it| (name, it)));
            apart.filter(|(_, (apart, _))| apart.never_worked)
        };
        if apart().next().is_none() {
            return Vec::new();
        }
        // Series may have come since.
        let mut cell_of = Cow::Borrowed(&*self.cell_of);
        if cell_of.len() < ledger.len() {
            cell_of.to_mut().resize(ledger.len(), NO_GROUP);
        }
        let windows = ledger.sums(span, &cell_of, self.cells);
        let works = |group: &Group| {
            let any = |cell: &u32| windows[*cell as usize].delivered + windows[*cell as usize].unproven > 0;
            group.cells.iter().any(any)
        };
        apart()
            .filter(|(_, (_, group))| works(group))
            .map(|(name, (apart, _))| (name.clone(), apart.endpoint.clone()))
            .collect()
    }
}

impl Older {
    /// What some cells judged and lost in each step that lost or judged anything.
    fn steps<'a>(&'a self, of_group: &'a [u32], cells: usize) -> impl Iterator<Item = (Span, Tally)> + 'a {
        let steps = self.windows.chunks_exact(cells.max(1)).zip(0..);
        steps.filter_map(move |(windows, step)| {
            let mut sum = Tally::default();
            of_group.iter().for_each(|cell| sum += tally(&windows[*cell as usize], false));
            let from = self.span.from.plus(step * OLDER_STEP);
            (sum.judged > 0).then(|| (Span::new(from, from.plus(OLDER_STEP)), sum))
        })
    }
}

/// The sums of cells over `span`, without what was before a series' endpoint worked.
fn sums(
    ledger: &Ledger,
    span: Span,
    cell_of: &[u32],
    cells: usize,
    beginners: &[(SeriesId, Second)],
) -> Vec<Window> {
    // Between two seconds in which some began, the same series are judged.
    let began: BTreeSet<Second> =
        beginners.iter().map(|(_, since)| *since).filter(|since| *since > span.from).collect();
    let Some(first) = began.first().copied() else { return ledger.sums(span, cell_of, cells) };
    let mut cell_of = cell_of.to_vec();
    let hidden: Vec<(SeriesId, Second, u32)> = beginners
        .iter()
        .filter(|(_, since)| *since > span.from)
        .map(|(series, since)| {
            (*series, *since, std::mem::replace(&mut cell_of[series.0 as usize], NO_GROUP))
        })
        .collect();
    let mut sums = ledger.sums(Span::new(span.from, first.min(span.until)), &cell_of, cells);
    let ends = began.iter().skip(1).copied().chain([span.until]);
    for (from, until) in began.iter().copied().zip(ends).filter(|(from, _)| *from < span.until) {
        for (series, _, cell) in hidden.iter().filter(|(_, since, _)| *since == from) {
            cell_of[series.0 as usize] = *cell;
        }
        let more = ledger.sums(Span::new(from, until.min(span.until)), &cell_of, cells);
        sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }
    sums
}

/// What of `span` is before `second`, and what is not.
fn split(span: Span, second: Second) -> (Span, Span) {
    (Span::new(span.from, span.until.min(second)), Span::new(span.from.max(second), span.until))
}
