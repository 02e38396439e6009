//! Ninety days of each service, read from what is rolled up; minutes are read of hours in which something was lost, and of no
//! others.

use std::collections::BTreeMap;

use aviary_core::{Second, Span, Tag, Window, verdict::Policy};

use super::{
    days::{Counted, Down, may_lose},
    publications::Shown,
};
use crate::{
    Collector,
    error::ApiError,
    history::Steps,
    settled_until,
    sums::{Sums, sums},
};

/// So many days are shown, today among them.
pub(crate) const DAYS: usize = 90;

const DAY: u64 = 86_400;
const HOUR: u64 = 3_600;
const MINUTE: u64 = 60;

/// What was counted of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceFigures {
    /// Each day by protocol, the oldest first.
    pub(crate) protocols: BTreeMap<String, Vec<Counted>>,
    /// Each day over all protocols.
    pub(crate) days: Vec<Counted>,
    /// How long it was down in all of them.
    pub(crate) down: Down,
}

impl ServiceFigures {
    pub(crate) fn total(days: &[Counted]) -> Counted {
        days.iter().fold(Counted::default(), |mut sum, day| {
            sum += *day;
            sum
        })
    }

    /// The first day of which there is anything.
    pub(crate) fn first(&self) -> Option<usize> {
        self.days.iter().position(|day| day.planned > 0)
    }
}

/// What was counted of all services that are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// When the first day begins.
    pub(crate) from: Second,
    pub(crate) services: BTreeMap<String, ServiceFigures>,
}

impl Figures {
    /// When a day begins.
    pub(crate) fn day(&self, place: usize) -> Second {
        self.from.plus(place as u64 * DAY)
    }
}

/// By service and protocol.
pub(crate) type Windows = BTreeMap<(String, String), Window>;

/// Reads figures again and again, and of the past only what can have changed.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The days before today, and the hour in which they were read: what came late is in them an hour later.
    whole: Option<(Second, Vec<Windows>)>,
    /// How long services were down on those of these days that had to be looked into, as long as they stand.
    past: BTreeMap<Second, BTreeMap<String, Down>>,
    /// What was counted of hours in which something was lost, and how long services were down in them.
    hours: BTreeMap<Second, (Windows, BTreeMap<String, Down>)>,
}

impl Reader {
    /// Blocks.
    pub(crate) fn read(&mut self, collector: &Collector, shown: &Shown) -> Result<Figures, ApiError> {
        let now = collector.now();
        let (known, policies) = {
            let state = collector.state();
            let of = |service: crate::ServiceOptions| (service.name, service.policy);
            (state.known(now).from, state.services().into_iter().map(of).collect::<BTreeMap<_, _>>())
        };
        let until = settled_until(now);
        let today = Second(until.0 / DAY * DAY);
        let from = today.minus((DAYS as u64 - 1) * DAY);
        let hour = Second(until.0 / HOUR * HOUR);
        let before = match self.whole.take().filter(|(at, _)| *at == hour) {
            Some((_, before)) => before,
            None => {
                self.past.clear();
                whole_days(collector, Span::new(from, today), known)?
            }
        };
        let mut days = before.clone();
        self.whole = Some((hour, before));
        days.extend(windows(
            collector,
            Span::new(today.max(known), until),
            until.0.saturating_sub(today.max(known).0),
        )?);
        days.resize(DAYS, Windows::new());

        let mut figures = Figures { from, services: BTreeMap::new() };
        for (service, _) in shown.services() {
            figures.services.insert(
                service.clone(),
                ServiceFigures { days: vec![Counted::default(); DAYS], ..ServiceFigures::default() },
            );
        }
        for (place, day) in days.iter().enumerate() {
            for ((service, protocol), window) in day {
                let Some(of) = figures.services.get_mut(service) else { continue };
                let counted = Counted::from(*window);
                of.days[place] += counted;
                of.protocols.entry(protocol.clone()).or_insert_with(|| vec![Counted::default(); DAYS])
                    [place] = counted;
            }
        }
        self.hours.retain(|hour, _| *hour >= from);
        for place in 0..DAYS {
            let day = Span::new(figures.day(place), figures.day(place).plus(DAY).min(until));
            let is_plain = |of: &ServiceFigures| of.days[place].lost() == 0 && of.first() != Some(place);
            let is_past = place + 1 < DAYS;
            let is_plain = figures.services.values().all(is_plain) && is_past;
            let down = match self.past.get(&day.from) {
                _ if is_plain => None,
                Some(down) => Some(down.clone()),
                None => {
                    let down = self.down(collector, day, known, &policies)?;
                    if is_past {
                        self.past.insert(day.from, down.clone());
                    }
                    Some(down)
                }
            };
            for (service, of) in &mut figures.services {
                of.down += match &down {
                    None => Down::of(of.days[place], DAY / MINUTE, 0),
                    Some(down) => down.get(service).copied().unwrap_or_default(),
                };
            }
        }
        Ok(figures)
    }

    /// How long services were down in a day, hour by hour.
    fn down(
        &mut self,
        collector: &Collector,
        day: Span,
        known: Second,
        policies: &BTreeMap<String, Policy>,
    ) -> Result<BTreeMap<String, Down>, ApiError> {
        let mut sum: BTreeMap<String, Down> = BTreeMap::new();
        let day =
            Span::new(Second(day.from.max(known).0 / MINUTE * MINUTE), Second(day.until.0 / MINUTE * MINUTE));
        let mut from = day.from;
        while from < day.until {
            let hour = Span::new(from, Second((from.0 / HOUR + 1) * HOUR).min(day.until));
            from = hour.until;
            let counted = windows(collector, hour, hour.seconds())?.pop().unwrap_or_default();
            let known = self.hours.get(&hour.from).filter(|(windows, _)| *windows == counted);
            let down = match known {
                Some((_, down)) => down.clone(),
                None => {
                    let down = down_in(collector, hour, &counted, policies)?;
                    self.hours.insert(hour.from, (counted, down.clone()));
                    down
                }
            };
            for (service, down) in down {
                *sum.entry(service).or_default() += down;
            }
        }
        Ok(sum)
    }
}

/// How long services were down in an hour, of which `counted` was counted.
fn down_in(
    collector: &Collector,
    hour: Span,
    counted: &Windows,
    policies: &BTreeMap<String, Policy>,
) -> Result<BTreeMap<String, Down>, ApiError> {
    let whole = by_service(counted, policies);
    let minutes = match whole.values().any(|of| of.counted.lost() > 0) {
        true => windows(collector, hour, MINUTE)?,
        false => Vec::new(),
    };
    let mut down: BTreeMap<String, Down> = BTreeMap::new();
    for minute in minutes {
        for (service, of) in by_service(&minute, policies) {
            if whole[&service].counted.lost() > 0 {
                *down.entry(service).or_default() += Down::of(of.counted, 1, of.may_lose);
            }
        }
    }
    for (service, of) in whole.into_iter().filter(|(_, of)| of.counted.lost() == 0) {
        down.insert(service, Down::of(of.counted, hour.seconds() / MINUTE, of.may_lose));
    }
    Ok(down)
}

/// What was counted of a service over all protocols, and how much of it may be lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Budgeted {
    counted: Counted,
    /// In millionths of a slot.
    may_lose: u128,
}

fn by_service(windows: &Windows, policies: &BTreeMap<String, Policy>) -> BTreeMap<String, Budgeted> {
    let unknown = Policy::default();
    let mut sums: BTreeMap<String, Budgeted> = BTreeMap::new();
    for ((service, protocol), window) in windows {
        let sum = sums.entry(service.clone()).or_default();
        sum.counted += Counted::from(*window);
        sum.may_lose += may_lose(policies.get(service).unwrap_or(&unknown), protocol, window.judged());
    }
    sums
}

/// Each day of `span`, which is whole days: what was before `known` is not asked for.
fn whole_days(collector: &Collector, span: Span, known: Second) -> Result<Vec<Windows>, ApiError> {
    let first = Second(known.0.div_ceil(DAY) * DAY).clamp(span.from, span.until);
    let mut days = vec![Windows::new(); (first.minus(span.from.0).0 / DAY) as usize];
    // Of the day in which all began, what there is.
    let partial = Span::new(known, first);
    if let Some(last) = days.last_mut().filter(|_| !partial.is_empty() && partial.seconds() < DAY) {
        *last = windows(collector, partial, partial.seconds())?.pop().unwrap_or_default();
    }
    days.extend(windows(collector, Span::new(first, span.until), DAY)?);
    Ok(days)
}

/// What was counted in each hour of `span`, with what of the hour is in it.
pub(crate) fn hours_of(collector: &Collector, span: Span) -> Result<Vec<(Span, Windows)>, ApiError> {
    let mut hours = Vec::new();
    let mut from = span.from;
    while from < span.until {
        // Whole hours are read a day at a time, what is cut off at either end by itself.
        let next = Second((from.0 / HOUR + 1) * HOUR).min(span.until);
        let whole = (span.until.0 - from.0).min(DAY - from.0 % DAY) / HOUR;
        let (step, count) =
            if from.0.is_multiple_of(HOUR) && whole > 0 { (HOUR, whole) } else { (next.0 - from.0, 1) };
        let read = Span::new(from, from.plus(step * count));
        for windows in windows(collector, read, step)? {
            hours.push((Span::new(from, from.plus(step)), windows));
            from = from.plus(step);
        }
    }
    Ok(hours)
}

/// What was counted in each step of `span`.
fn windows(collector: &Collector, span: Span, step: u64) -> Result<Vec<Windows>, ApiError> {
    if span.is_empty() || step == 0 {
        return Ok(Vec::new());
    }
    let steps = Steps { from: span.from, seconds: step, count: span.seconds() / step };
    let Sums { values, windows } = sums(collector, &[Tag::Service, Tag::Protocol], None, steps)?;
    if values.is_empty() {
        return Ok(vec![Windows::new(); steps.count as usize]);
    }
    let named = |windows: &[Window]| -> Windows {
        let pairs = values.iter().zip(windows).filter_map(|(values, window)| match values.as_slice() {
            [service, protocol] => Some(((service.clone(), protocol.clone()), *window)),
            _ => None,
        });
        pairs.collect()
    };
    Ok(windows.chunks(values.len()).map(named).collect())
}

#[cfg(test)]
mod tests {
    use aviary_core::AcceptableLoss;

    use super::*;
    use crate::status::{
        Publish,
        tests::{DELIVERED, REFUSED, Rig},
    };

    #[test]
    fn a_day_that_is_over_is_looked_into_once_an_hour() {
        let rig = Rig::new(Publish::Draft);
        rig.run(86_200..86_300, Some(REFUSED));
        rig.run(86_300..86_460, Some(DELIVERED));
        let (shown, _) = rig.collector.judgement().public();
        let mut reader = Reader::default();
        let down = |reader: &mut Reader| {
            let figures = reader.read(&rig.collector, &shown).unwrap();
            figures.services["svc-ingest-7"].down.down
        };
        let read = down(&mut reader);
        assert!(read > 0);
        // What is known of the day is taken as it is, until the hour is over.
        assert_eq!(reader.past.len(), 1);
        let known = reader.past.values_mut().flat_map(BTreeMap::values_mut);
        known.for_each(|down| down.down = 0);
        assert_eq!(down(&mut reader), 0);
        reader.whole.as_mut().unwrap().0 = Second(0);
        assert_eq!(down(&mut reader), read);
    }

    #[test]
    fn each_protocol_of_a_service_may_lose_by_its_own_figure() {
        let mut policy = Policy { acceptable_loss: AcceptableLoss::of_million(10_000), ..Policy::default() };
        policy.by_protocol.insert("udp".parse().unwrap(), AcceptableLoss::of_million(100_000));
        let policies = [("ingest".to_owned(), policy)].into();
        let window = |lost| Window { scheduled: 100, delivered: 100 - lost, lost, ..Window::default() };
        // One of tcp's hundred, ten of udp's.
        for (tcp, udp, is_down) in [(0, 10, false), (1, 10, false), (1, 11, true), (12, 0, true)] {
            let key = |protocol: &str| ("ingest".to_owned(), protocol.to_owned());
            let sum = by_service(&[(key("tcp"), window(tcp)), (key("udp"), window(udp))].into(), &policies);
            let Budgeted { counted, may_lose } = sum["ingest"];
            assert_eq!(Down::of(counted, 1, may_lose).down > 0, is_down, "{tcp} {udp}");
        }
    }
}
