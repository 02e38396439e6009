//! The groups that are judged: of each service itself, and each value of the tags that it is told by.
//!
//! Series that are alike in all of these tags are one cell, and a cell lies in at most seven groups: so the ledger is read
//! once for all groups, by cells, and a group is a sum of few of them. Endpoints that the service does not require, and
//! those of which no slot ever arrived, are apart: each is a cell and a group of its own, and in no other.

mod cells;
mod feed;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    sync::{Arc, OnceLock},
};

use aviary_core::{
    AcceptableLoss, Catalog, Ledger, Second, SeriesId, Span, Tag, VantageKind,
    catalog::Grouping,
    detect::{Bank, Budget, Burstiness, Learning, Quiet, Tally, Test, View},
    extent::Population,
    ledger::NO_GROUP,
    vantage::ABSENT,
    verdict::{outermost, says_down},
};

pub(super) use self::feed::Older;
use crate::{ServiceOptions, judgement::Burst};

/// What cells are told apart by; the service comes first, so that the cells of one lie together.
pub(super) const TAGS: [Tag; 8] =
    [Tag::Service, Tag::Protocol, Tag::Kind, Tag::Region, Tag::Zone, Tag::Network, Tag::Node, Tag::Address];

/// The tags each value of which is a group of its service, by their places in [`TAGS`].
const GROUPED: Range<usize> = 1..7;

/// Where the vantage of a cell is among its values, and its network.
const VANTAGE: Range<usize> = 2..7;
const NETWORK: usize = 5;
const KIND: usize = 2;

/// So much of the past is asked for at once when banks are made: what the bins of [`Bank`] are made of that reach further
/// back than the ledger.
pub(super) const OLDER_STEP: u64 = 30;

/// What a bank remembers.
const BANK_SECONDS: u64 = 21_600;

/// An endpoint of a service.
pub(crate) type Endpoint = (String, String);

/// By what a group is known from one life to the next: its service, its tag and the value; none for the service itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) service: String,
    pub(crate) value: Option<(Tag, String)>,
}

/// Series that are judged together.
pub(super) struct Group {
    pub(super) key: Key,
    /// Its cells.
    pub(super) cells: Vec<u32>,
    /// When its first series began.
    first: Second,
    /// When the first of them began to be judged.
    judged_from: Second,
    /// How many series it has.
    pub(super) series: u64,
    /// What may be lost of it, in parts per million: the mean over its series.
    pub(super) acceptable: u32,
    pub(super) bank: Bank,
    pub(super) learning: Learning,
    /// Its bank has yet to be made of what the ledger holds.
    pub(super) is_new: bool,
    /// And of what is older.
    pub(super) lacks_older: bool,
}

/// A service with its groups.
pub(super) struct Judged {
    /// The service itself first.
    pub(super) groups: Vec<Group>,
    /// Endpoints that are apart, each with its group.
    pub(super) apart: Vec<(Apart, Group)>,
    /// Its cells.
    pub(super) cells: Range<usize>,
    pub(super) population: Arc<Fleet>,
    /// Seconds before this say all that they ever will, but for what comes late; of later ones, what is not known yet is
    /// taken for delivered.
    pub(super) final_until: Second,
}

/// The first second with loss of about the newest `seconds`, of which `life` were lived through: as exactly as the bank knows it.
pub(super) fn onset(bank: View<'_>, seconds: u64, life: u64) -> Second {
    let lost = bank.newest(seconds).lost;
    let (mut lacks, mut has) = (0, seconds.min(life).max(1));
    while has - lacks > 1 {
        let middle = lacks + (has - lacks) / 2;
        if bank.newest(middle).lost < lost { lacks = middle } else { has = middle }
    }
    bank.until().minus(has)
}

/// Why an endpoint is apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Apart {
    pub(super) endpoint: String,
    /// It never worked; otherwise it is not required.
    pub(super) never_worked: bool,
    /// When its first series began.
    pub(super) since: Second,
}

/// The series of a service by their tags; what a search needs of them is worked out where one begins.
pub(crate) struct Fleet {
    rows: Vec<Vec<String>>,
    population: OnceLock<Population>,
}

impl Fleet {
    pub(crate) fn population(&self) -> &Population {
        self.population.get_or_init(|| Population::new(&TAGS, self.rows.iter().cloned()))
    }
}

/// All that is judged, for as long as the same series are, in the same way.
pub(super) struct Groups {
    /// How many series there are.
    pub(super) series: usize,
    /// Each series' cell.
    pub(super) cell_of: Vec<u32>,
    cells: usize,
    /// What may be lost of each cell, 0 to 1.
    pub(super) acceptable: Vec<f64>,
    /// How many series each cell has, and when the first of them began to be judged.
    lives: Vec<(u64, Second)>,
    /// Numbers that are the same for cells of one vantage, of one network, and of one kind of vantage.
    pub(super) vantage_of: Vec<u32>,
    pub(super) network_of: Vec<u32>,
    kind_of: Vec<u32>,
    /// Series of endpoints that began to work lately, and when: before that, nothing of them is judged.
    beginners: Vec<(SeriesId, Second)>,
    /// Each main cell's values of [`TAGS`].
    values: Vec<Vec<String>>,
    pub(super) services: BTreeMap<String, Judged>,
    /// The first second that is not held.
    pub(super) until: Second,
}

impl Groups {
    /// The groups of all series of `catalog`. Those that were judged `before` go on from what they held; others begin with what the
    /// ledger holds, and with what was `learnt` of them.
    pub(super) fn new(
        catalog: &Catalog,
        ledger: &Ledger,
        configured: &BTreeMap<String, ServiceOptions>,
        worked: &BTreeMap<Endpoint, Second>,
        before: Option<Self>,
        learnt: &BTreeMap<Key, Quiet>,
        until: Second,
    ) -> Self {
        let unconfigured = ServiceOptions::unconfigured("");
        let service = |name: &str| configured.get(name).unwrap_or(&unconfigured);
        let endpoints = catalog.group(&[Tag::Service, Tag::Endpoint], |_| true);
        let mut is_apart = Vec::with_capacity(endpoints.values.len());
        let mut parts = Vec::with_capacity(endpoints.values.len());
        let mut works_since = Vec::with_capacity(endpoints.values.len());
        for values in &endpoints.values {
            let parsed = values[1].parse().ok();
            let required = parsed.as_ref().is_none_or(|endpoint| service(&values[0]).requires(endpoint));
            let policy = &service(&values[0]).policy;
            parts.push(parsed.map_or(policy.acceptable_loss, |it| policy.of(&it)).parts_per_million());
            let since = worked.get(&(values[0].clone(), values[1].clone())).copied();
            let never_worked = since.is_none();
            works_since.push(since.unwrap_or_default());
            is_apart.push((!required || never_worked).then_some(never_worked && required));
        }
        let endpoint_of = |id: SeriesId| endpoints.group_of[id.0 as usize] as usize;
        let main = cells::cells(catalog, |id| is_apart[endpoint_of(id)].is_none());
        let apart_cells: BTreeMap<usize, u32> = (0..endpoints.values.len())
            .filter(|endpoint| is_apart[*endpoint].is_some())
            .zip(main.values.len() as u32..)
            .collect();
        let cells = main.values.len() + apart_cells.len();
        let mut cell_of = main.group_of.clone();
        let (mut series, mut sums) = (vec![0_u64; cells], vec![0_u64; cells]);
        let mut since = vec![Second(u64::MAX); cells];
        let mut judged_from = since.clone();
        for (id, cell) in (0..).map(SeriesId).zip(&mut cell_of) {
            if *cell == NO_GROUP {
                *cell = apart_cells[&endpoint_of(id)];
            }
            let life = ledger.life(id);
            since[*cell as usize] = since[*cell as usize].min(life.from);
            let from = life.from.max(works_since[endpoint_of(id)]);
            judged_from[*cell as usize] = judged_from[*cell as usize].min(from);
            if life.until >= until {
                series[*cell as usize] += 1;
                sums[*cell as usize] += u64::from(parts[endpoint_of(id)]);
            }
        }
        let is_recent = |id: &SeriesId| works_since[endpoint_of(*id)] > until.minus(BANK_SECONDS);
        let beginners =
            catalog.ids().filter(is_recent).map(|id| (id, works_since[endpoint_of(id)])).collect();
        let mut groups = Self {
            series: catalog.len(),
            cell_of,
            cells,
            acceptable: sums
                .iter()
                .zip(&series)
                .map(|(sum, series)| *sum as f64 / (*series).max(1) as f64 / 1e6)
                .collect(),
            lives: series.iter().copied().zip(judged_from.iter().copied()).collect(),
            vantage_of: numbered(&main, VANTAGE),
            network_of: numbered(&main, NETWORK..NETWORK + 1),
            kind_of: numbered(&main, KIND..KIND + 1),
            beginners,
            values: Vec::new(),
            services: BTreeMap::new(),
            until,
        };
        // Of what comes later, there is nothing older.
        let is_start = before.is_none();
        let mut former: BTreeMap<Key, Group> = BTreeMap::new();
        let mut finals: HashMap<String, Second> = HashMap::new();
        for (name, judged) in before.map(|before| before.services).unwrap_or_default() {
            finals.insert(name, judged.final_until);
            let apart = judged.apart.into_iter().map(|(_, group)| group);
            former.extend(judged.groups.into_iter().chain(apart).map(|group| (group.key.clone(), group)));
        }
        let mut make = |key: Key, cells: Vec<u32>| {
            let of = |counts: &[u64]| cells.iter().map(|cell| counts[*cell as usize]).sum::<u64>();
            let (series, sum) = (of(&series), of(&sums));
            let acceptable = u32::try_from(sum / series.max(1)).unwrap_or(u32::MAX);
            let earliest = |seconds: &[Second]| cells.iter().map(|cell| seconds[*cell as usize]).min();
            let first = earliest(&since).unwrap_or(until);
            let judged_from = earliest(&judged_from).unwrap_or(until);
            if let Some(held) = former.remove(&key) {
                return Group { cells, first, judged_from, series, acceptable, ..held };
            }
            let quiet = learnt.get(&key).copied().unwrap_or_default();
            // A second is learnt as it leaves the newest of the bank.
            let learning = Learning::new(quiet, until.minus(Bank::REACH));
            Group {
                key,
                cells,
                first,
                judged_from,
                series,
                acceptable,
                bank: Bank::new(until),
                learning,
                is_new: true,
                lacks_older: is_start,
            }
        };
        let mut from = 0;
        let names: BTreeSet<&String> = endpoints.values.iter().map(|values| &values[0]).collect();
        for name in names {
            let of_it = main.values[from..].iter().take_while(|values| values[0] == *name).count();
            let range = from..from + of_it;
            from = range.end;
            let key = |value| Key { service: name.clone(), value };
            let all = |range: &Range<usize>| range.clone().map(|cell| cell as u32).collect::<Vec<_>>();
            let mut found = vec![make(key(None), all(&range))];
            for tag in GROUPED {
                let mut by_value: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
                for cell in range.clone() {
                    by_value.entry(&main.values[cell][tag]).or_default().push(cell as u32);
                }
                // Where there is but one value, it is the service.
                if by_value.len() > 1 {
                    for (value, cells) in by_value.into_iter().filter(|(value, _)| *value != ABSENT) {
                        found.push(make(key(Some((TAGS[tag], value.to_owned()))), cells));
                    }
                }
            }
            let apart = endpoints.values.iter().enumerate().filter(|(_, values)| values[0] == *name);
            let apart = apart.filter_map(|(place, values)| {
                let cell = *apart_cells.get(&place)?;
                let endpoint = values[1].clone();
                let group = make(key(Some((Tag::Endpoint, endpoint.clone()))), vec![cell]);
                let never_worked = is_apart[place] == Some(true);
                Some((Apart { endpoint, never_worked, since: since[cell as usize] }, group))
            });
            let apart = apart.collect();
            let rows = main.values[range.clone()].to_vec();
            let population = Arc::new(Fleet { rows, population: OnceLock::new() });
            let final_until = finals.get(name).copied().unwrap_or(until);
            groups
                .services
                .insert(name.clone(), Judged { groups: found, apart, cells: range, population, final_until });
        }
        groups.values = main.values;
        groups
    }

    /// The endpoints of each service.
    pub(super) fn endpoints<'a>(&self, catalog: &'a Catalog) -> BTreeSet<(&'a str, &'a str)> {
        catalog.ids().map(|id| (catalog.tag(id, Tag::Service), catalog.tag(id, Tag::Endpoint))).collect()
    }

    /// How many slots of a group are in the plan of the newest `seconds` before `until`: none before its series began.
    pub(super) fn scheduled(&self, group: &Group, seconds: u64, until: Second) -> u64 {
        let slots = |cell: &u32| {
            let (series, from) = self.lives[*cell as usize];
            series * seconds.min(until.0.saturating_sub(from.0))
        };
        group.cells.iter().map(slots).sum()
    }

    /// How many cells there are.
    pub(super) const fn cells(&self) -> usize {
        self.cells
    }

    /// The series by cell, for whoever sums what is older than the ledger: of endpoints that worked then.
    pub(super) fn older_cells(&self) -> Vec<u32> {
        let mut cell_of = self.cell_of.clone();
        self.beginners.iter().for_each(|(series, _)| cell_of[series.0 as usize] = NO_GROUP);
        cell_of
    }

    /// The services that are looked at from a place.
    pub(super) fn services_in<'a>(&'a self, tag: Tag, value: &'a str) -> impl Iterator<Item = &'a String> {
        let place = TAGS.iter().position(|known| *known == tag);
        let is_there = move |cell: usize| place.is_some_and(|place| self.values[cell][place] == value);
        let services = self.services.iter();
        services.filter(move |(_, judged)| judged.cells.clone().any(is_there)).map(|(name, _)| name)
    }

    /// What a cell's node is.
    pub(super) fn node(&self, cell: usize) -> &str {
        &self.values[cell][6]
    }

    /// What a cell's protocol is.
    pub(super) fn protocol(&self, cell: usize) -> &str {
        &self.values[cell][1]
    }
}

impl Judged {
    /// The cells from the kinds of vantage that a group has: no other kind waters down what it loses.
    pub(super) fn of_kinds(&self, groups: &Groups, group: &Group) -> Vec<usize> {
        let kinds: BTreeSet<u32> = group.cells.iter().map(|cell| groups.kind_of[*cell as usize]).collect();
        self.cells.clone().filter(|cell| kinds.contains(&groups.kind_of[*cell])).collect()
    }

    /// Whether so much was lost of `seconds` up to `until` from a kind of vantage that the service is down.
    pub(super) fn is_down(&self, groups: &Groups, until: Second, seconds: u64) -> bool {
        let newest = |group: &Group| group.bank.before(until).newest(seconds);
        let of_kinds = self.groups.iter().filter_map(|group| {
            let (tag, kind) = group.key.value.as_ref()?;
            let kind = kind.parse::<VantageKind>().ok().filter(|_| *tag == Tag::Kind)?;
            let vantages: BTreeSet<u32> =
                group.cells.iter().map(|cell| groups.vantage_of[*cell as usize]).collect();
            Some((kind, vantages.len(), newest(group)))
        });
        let of_kinds: Vec<_> = of_kinds.filter(|(.., tally)| tally.judged > 0).collect();
        match outermost(of_kinds.iter().map(|(kind, ..)| *kind)) {
            Some(outermost) => of_kinds.into_iter().any(|(kind, vantages, Tally { judged, lost })| {
                says_down(kind, outermost, vantages, judged, lost)
            }),
            // There is but one kind, and the service is it.
            None => newest(&self.groups[0]).loss() >= 0.5,
        }
    }

    /// How a group is to be looked at: with the newest seconds, in which what is lost is known first; and where `storage` decides,
    /// without those that are not settled, since of them only what is delivered by its sender and not stored is known late.
    pub(super) fn views<'a>(&self, group: &'a Group, storage: bool) -> impl Iterator<Item = View<'a>> {
        let settled = storage.then(|| group.bank.before(self.final_until));
        std::iter::once(View::from(&group.bank)).chain(settled)
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Group> {
        self.groups.iter_mut().chain(self.apart.iter_mut().map(|(_, group)| group))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().chain(self.apart.iter().map(|(_, group)| group))
    }
}

impl Group {
    /// For how long it has been judged before `until`.
    pub(super) fn judged_seconds(&self, until: Second) -> u64 {
        until.0.saturating_sub(self.judged_from.0)
    }

    /// The newest seconds with loss from `onset` on, as far as the bank holds them one by one.
    pub(super) fn lost_since(&self, onset: Second) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let until = self.bank.until();
        for second in Span::new(onset.max(until.minus(Bank::REACH)), until).iter() {
            if self.bank.second(second).lost == 0 {
                continue;
            }
            match spans.last_mut() {
                Some(last) if last.until == second => last.until = second.plus(1),
                _ => spans.push(Span::new(second, second.plus(1))),
            }
        }
        spans
    }

    /// What its windows are tested against, where it is taken to lose in the way of `burst`.
    pub(super) fn test(&self, burst: Burst) -> Test {
        let burstiness = match burst {
            Burst::Learnt => self.learning.burstiness(),
            Burst::Fixed(dispersion) => Burstiness::fixed(dispersion),
        };
        Test::new(AcceptableLoss::of_million(self.acceptable), Budget::default(), burstiness)
    }
}

/// The cells by their values at some places, numbered.
fn numbered(main: &Grouping, places: Range<usize>) -> Vec<u32> {
    let mut numbers: HashMap<&[String], u32> = HashMap::new();
    main.values
        .iter()
        .map(|values| {
            let next = numbers.len() as u32;
            *numbers.entry(&values[places.clone()]).or_insert(next)
        })
        .collect()
}
