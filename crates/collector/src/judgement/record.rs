//! Incidents, deliveries and silences as JSON: as they are kept, and as programs read them.
//!
//! The core knows no serde, so what is kept is spelled out here, field by field, each under its own name.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use aviary_core::{
    AcceptableLoss, Phase, Second, Span, Tag, Timestamp,
    detect::{Quiet, burstiness::Minutes},
    extent::{Answer, Blame, Extent, Grounds, Predicate, Questions, Rule},
    incident::{
        Acknowledgement, Cause, Counts, Evidence, Firing, Flap, Happened, Id, Incident, Level, Newest, Note,
        Part, Policy, Receipt, Resolution, Seconds, Shape, State, Told,
    },
    page::{Attempt, Belief, Case, Change, Dead, Delivery, Message, Notice, Severity, Urgency},
    silence::{Hours, Matches, Silence, Weekday, When},
};
use serde_json::{Map, Value, json};

use crate::status::Publication;

/// What is not as it was written, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damage(String);

impl Damage {
    pub(super) const fn of(why: String) -> Self {
        Self(why)
    }

    fn wanted(what: &str) -> Self {
        Self(format!("no {what}"))
    }
}

/// Something with one form in JSON.
pub(crate) trait Record: Sized {
    fn write(&self) -> Value;
    fn read(value: &Value) -> Result<Self, Damage>;

    /// As it is kept.
    fn bytes(&self) -> Vec<u8> {
        self.write().to_string().into_bytes()
    }

    /// What was kept.
    fn of_bytes(bytes: &[u8]) -> Result<Self, Damage> {
        let value = serde_json::from_slice(bytes).map_err(|error| Damage(error.to_string()))?;
        Self::read(&value)
    }
}

/// It has a form in JSON of its own.
impl Record for Publication {
    fn write(&self) -> Value {
        json!(self)
    }

    fn read(value: &Value) -> Result<Self, Damage> {
        serde::Deserialize::deserialize(value).map_err(|error: serde_json::Error| Damage(error.to_string()))
    }
}

/// What may be a key of an object.
trait Text: Sized {
    fn text(&self) -> String;
    fn parse(text: &str) -> Result<Self, Damage>;
}

pub(super) fn field<T: Record>(value: &Value, name: &str) -> Result<T, Damage> {
    T::read(value.get(name).unwrap_or(&Value::Null)).map_err(|Damage(why)| Damage(format!("{name}: {why}")))
}

macro_rules! records {
    ($($type:ty { $($field:ident),+ $(,)? })+) => {$(
        impl Record for $type {
            fn write(&self) -> serde_json::Value {
                let fields = [$((stringify!($field).to_owned(), self.$field.write())),+];
                serde_json::Value::Object(fields.into_iter().collect())
            }

            fn read(value: &serde_json::Value) -> Result<Self, Damage> {
                Ok(Self { $($field: $crate::judgement::record::field(value, stringify!($field))?),+ })
            }
        }
    )+};
}

pub(super) use records;

macro_rules! texts {
    ($($type:ty: $write:expr, $read:expr;)+) => {$(
        impl Text for $type {
            fn text(&self) -> String {
                let write: fn(&Self) -> String = $write;
                write(self)
            }

            fn parse(text: &str) -> Result<Self, Damage> {
                let read: fn(&str) -> Result<Self, Damage> = $read;
                read(text)
            }
        }

        impl Record for $type {
            fn write(&self) -> Value {
                Value::String(self.text())
            }

            fn read(value: &Value) -> Result<Self, Damage> {
                Self::parse(value.as_str().ok_or_else(|| Damage::wanted("text"))?)
            }
        }
    )+};
}

fn named<T: std::str::FromStr<Err: ToString>>(text: &str) -> Result<T, Damage> {
    text.parse().map_err(|error: T::Err| Damage(error.to_string()))
}

texts! {
    String: Clone::clone, |text| Ok(text.to_owned());
    Id: ToString::to_string, |text| Ok(Self::given(text));
    Tag: ToString::to_string, named;
    Severity: ToString::to_string, named;
    Urgency: ToString::to_string, named;
    Change: ToString::to_string, named;
    Answer: ToString::to_string, named;
    Blame: ToString::to_string, named;
    Phase: ToString::to_string, named;
    Level: ToString::to_string, named;
    State: ToString::to_string, named;
    Belief: ToString::to_string, named;
    Message: ToString::to_string, named;
    AcceptableLoss: ToString::to_string, named;
    aviary_core::rotation::Mode: ToString::to_string, named;
    aviary_core::rotation::State: ToString::to_string, named;
}

macro_rules! numbers {
    ($($type:ty: $write:expr, $read:expr;)+) => {$(
        impl Record for $type {
            fn write(&self) -> Value {
                let write: fn(&Self) -> Value = $write;
                write(self)
            }

            fn read(value: &Value) -> Result<Self, Damage> {
                let read: fn(&Value) -> Option<Self> = $read;
                read(value).ok_or_else(|| Damage::wanted("number"))
            }
        }
    )+};
}

numbers! {
    u64: |number| json!(number), Value::as_u64;
    u32: |number| json!(number), |value| value.as_u64()?.try_into().ok();
    u8: |number| json!(number), |value| value.as_u64()?.try_into().ok();
    usize: |number| json!(number), |value| value.as_u64()?.try_into().ok();
    f64: |number| json!(number), Value::as_f64;
    bool: |is_so| json!(is_so), Value::as_bool;
    Second: |second| json!(second.0), |value| value.as_u64().map(Second);
    Timestamp: |at| json!(at.0), |value| value.as_u64().map(Timestamp);
}

impl<T: Record> Record for Option<T> {
    fn write(&self) -> Value {
        self.as_ref().map_or(Value::Null, Record::write)
    }

    fn read(value: &Value) -> Result<Self, Damage> {
        if value.is_null() { Ok(None) } else { T::read(value).map(Some) }
    }
}

fn items<'a, T: Record + 'a>(items: impl IntoIterator<Item = &'a T>) -> Value {
    Value::Array(items.into_iter().map(Record::write).collect())
}

fn read_items<T: Record, C: FromIterator<T>>(value: &Value) -> Result<C, Damage> {
    value.as_array().ok_or_else(|| Damage::wanted("list"))?.iter().map(T::read).collect()
}

macro_rules! lists {
    ($($list:ty)+) => {$(
        impl<T: Record + Ord> Record for $list {
            fn write(&self) -> Value {
                items(self)
            }

            fn read(value: &Value) -> Result<Self, Damage> {
                read_items(value)
            }
        }
    )+};
}

lists! { BTreeSet<T> }

impl<T: Record> Record for Vec<T> {
    fn write(&self) -> Value {
        items(self)
    }

    fn read(value: &Value) -> Result<Self, Damage> {
        read_items(value)
    }
}

impl<T: Record> Record for VecDeque<T> {
    fn write(&self) -> Value {
        items(self)
    }

    fn read(value: &Value) -> Result<Self, Damage> {
        read_items(value)
    }
}

impl<T: Record + Copy + Default, const N: usize> Record for [T; N] {
    fn write(&self) -> Value {
        items(self)
    }

    fn read(value: &Value) -> Result<Self, Damage> {
        let items: Vec<T> = read_items(value)?;
        items.try_into().map_err(|_| Damage(format!("not {N} of them")))
    }
}

impl<A: Record, B: Record> Record for (A, B) {
    fn write(&self) -> Value {
        Value::Array(vec![self.0.write(), self.1.write()])
    }

    fn read(value: &Value) -> Result<Self, Damage> {
        match value.as_array().map(Vec::as_slice) {
            Some([left, right]) => Ok((A::read(left)?, B::read(right)?)),
            _ => Err(Damage::wanted("pair")),
        }
    }
}

impl<K: Text + Ord, V: Record> Record for BTreeMap<K, V> {
    fn write(&self) -> Value {
        Value::Object(self.iter().map(|(key, value)| (key.text(), value.write())).collect())
    }

    fn read(value: &Value) -> Result<Self, Damage> {
        let entries = value.as_object().ok_or_else(|| Damage::wanted("object"))?;
        entries.iter().map(|(key, value)| Ok((K::parse(key)?, V::read(value)?))).collect()
    }
}

impl<T: Record> Record for Newest<T> {
    fn write(&self) -> Value {
        json!({"kept": self.kept.write(), "dropped": self.dropped})
    }

    fn read(value: &Value) -> Result<Self, Damage> {
        Ok(Self { kept: field(value, "kept")?, dropped: field(value, "dropped")? })
    }
}

macro_rules! wrappers {
    ($($type:ident)+) => {$(
        impl Record for $type {
            fn write(&self) -> Value {
                self.0.write()
            }

            fn read(value: &Value) -> Result<Self, Damage> {
                Record::read(value).map(Self)
            }
        }
    )+};
}

wrappers! { Predicate Shape Matches }

records! {
    Span { from, until }
    Policy { page_after, down, degraded, blind, min_vantages, owner, runbook, shadow }
    Firing { seconds, reach, scheduled, judged, lost, threshold, acceptable }
    Counts { judged, lost, late }
    Rule { matches, except, loss, share, lost, judged }
    Extent { rules, scattered }
    Grounds { evidence, against }
    Questions { one_zone, one_protocol }
    Seconds { spans, dropped }
    Flap { samples, minute, is_flapping }
    Acknowledgement { at, by }
    Note { at, by, text }
    Receipt { at, receiver, text }
    Evidence { at, held, level, windows, vantages, networks, extent, blame, grounds, summary }
    Told { at, severity, urgency, shapes, loss, is_blind, is_flapping, doublings }
    Part {
        services, policy, summary, is_in, evidence, worst, measured, is_ready, since, seen, held, is_lost, quiet_since, is_clear, blind,
        severity, severe, extent, questions, blame, grounds, shape, candidate, level, seen_from, agreeing, windows, counts, lost_seconds,
    }
    Incident {
        id, key, cause, state, since, opened, reopened, resolved, resolution, is_hushed, is_blind, revision, told, parts,
        held_by, silenced_by, storm, children, children_total, grown, flap, acknowledgements, notes, receipts, timeline, saved,
    }
    Notice { id, key, revision, reopens, change, urgency, severity, tags, shadow, held_by }
    Attempt { number, message, revision, since, before }
    Dead { message, revision, reopens, why }
    Delivery { belief, taken, sent, in_vain, not_before, say_again, in_flight, dead }
    Case { notice, opened, over, acknowledged, steps, widened, deliveries, is_test }
    Silence { id, matches, when, author, reason, announce }
    Minutes { count, lossy, lost, squares }
    Quiet { minutes, bursts, sizes }
}

/// A variant: its name, and what it holds.
fn variant(name: &str, holds: Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), holds)]))
}

fn read_variant(value: &Value) -> Result<(&str, &Value), Damage> {
    let entries = value.as_object().ok_or_else(|| Damage::wanted("object"))?;
    let first = entries.iter().next().ok_or_else(|| Damage::wanted("name"))?;
    Ok((first.0, first.1))
}

fn unknown<T>(name: &str) -> Result<T, Damage> {
    Err(Damage(format!("`{name}` is not known here")))
}

impl Record for Cause {
    fn write(&self) -> Value {
        let holds = match self {
            Self::Loss | Self::Storm => Value::Null,
            Self::Blind { service } => json!({"service": service}),
            Self::NotEjected { service } => json!({"service": service}),
            Self::Ejected { service, node } => json!({"service": service, "node": node}),
            Self::SilentRegion { region } => json!({"region": region}),
            Self::SickAgent { node } => json!({"node": node}),
            Self::Slow { service, phase } => json!({"service": service, "phase": phase.name()}),
            Self::NeverWorked { service, endpoint }
            | Self::Optional { service, endpoint }
            | Self::Certificate { service, endpoint } => json!({"service": service, "endpoint": endpoint}),
        };
        variant(self.name(), holds)
    }

    fn read(value: &Value) -> Result<Self, Damage> {
        let (name, holds) = read_variant(value)?;
        let service = || field(holds, "service");
        let endpoint = || field(holds, "endpoint");
        Ok(match name {
            "loss" => Self::Loss,
            "storm" => Self::Storm,
            "blind" => Self::Blind { service: service()? },
            "not_ejected" => Self::NotEjected { service: service()? },
            "ejected" => Self::Ejected { service: service()?, node: field(holds, "node")? },
            "silent_region" => Self::SilentRegion { region: field(holds, "region")? },
            "sick_agent" => Self::SickAgent { node: field(holds, "node")? },
            "slow" => Self::Slow { service: service()?, phase: field(holds, "phase")? },
            "never_worked" => Self::NeverWorked { service: service()?, endpoint: endpoint()? },
            "optional" => Self::Optional { service: service()?, endpoint: endpoint()? },
            "certificate" => Self::Certificate { service: service()?, endpoint: endpoint()? },
            other => return unknown(other),
        })
    }
}

impl Record for Resolution {
    fn write(&self) -> Value {
        match self {
            Self::Recovered => variant("recovered", Value::Null),
            Self::Removed => variant("removed", Value::Null),
            Self::ByHand(who) => variant("by_hand", who.write()),
            Self::Merged(id) => variant("merged", id.write()),
            Self::Superseded(id) => variant("superseded", id.write()),
        }
    }

    fn read(value: &Value) -> Result<Self, Damage> {
        let (name, holds) = read_variant(value)?;
        Ok(match name {
            "recovered" => Self::Recovered,
            "removed" => Self::Removed,
            "by_hand" => Self::ByHand(Record::read(holds)?),
            "merged" => Self::Merged(Record::read(holds)?),
            "superseded" => Self::Superseded(Record::read(holds)?),
            other => return unknown(other),
        })
    }
}

impl Record for Happened {
    fn write(&self) -> Value {
        match self {
            Self::Suspected => variant("suspected", Value::Null),
            Self::Opened => variant("opened", Value::Null),
            Self::Reopened => variant("reopened", Value::Null),
            Self::Told { change, severity, summary } => variant(
                "told",
                json!({"change": change.name(), "severity": severity.name(), "summary": summary}),
            ),
            Self::Recovering => variant("recovering", Value::Null),
            Self::LostAgain => variant("lost_again", Value::Null),
            Self::Resolved(how) => variant("resolved", how.write()),
            Self::CannotTell(why) => variant("cannot_tell", why.write()),
            Self::CanTell => variant("can_tell", Value::Null),
            Self::Flapping => variant("flapping", Value::Null),
            Self::FlappingEnded => variant("flapping_ended", Value::Null),
            Self::Silenced(by) => variant("silenced", by.write()),
            Self::SilenceEnded => variant("silence_ended", Value::Null),
            Self::Joined(service) => variant("joined", service.write()),
            Self::Left(service) => variant("left", service.write()),
            Self::Absorbed(id) => variant("absorbed", id.write()),
            Self::InStorm(id) => variant("in_storm", id.write()),
            Self::Late(spans) => variant("late", spans.write()),
            Self::Acknowledged(by) => variant("acknowledged", by.write()),
            Self::Steered(text) => variant("steered", text.write()),
        }
    }

    fn read(value: &Value) -> Result<Self, Damage> {
        let (name, holds) = read_variant(value)?;
        Ok(match name {
            "suspected" => Self::Suspected,
            "opened" => Self::Opened,
            "reopened" => Self::Reopened,
            "told" => Self::Told {
                change: field(holds, "change")?,
                severity: field(holds, "severity")?,
                summary: field(holds, "summary")?,
            },
            "recovering" => Self::Recovering,
            "lost_again" => Self::LostAgain,
            "resolved" => Self::Resolved(Record::read(holds)?),
            "cannot_tell" => Self::CannotTell(Record::read(holds)?),
            "can_tell" => Self::CanTell,
            "flapping" => Self::Flapping,
            "flapping_ended" => Self::FlappingEnded,
            "silenced" => Self::Silenced(Record::read(holds)?),
            "silence_ended" => Self::SilenceEnded,
            "joined" => Self::Joined(Record::read(holds)?),
            "left" => Self::Left(Record::read(holds)?),
            "absorbed" => Self::Absorbed(Record::read(holds)?),
            "in_storm" => Self::InStorm(Record::read(holds)?),
            "late" => Self::Late(Record::read(holds)?),
            "acknowledged" => Self::Acknowledged(Record::read(holds)?),
            "steered" => Self::Steered(Record::read(holds)?),
            other => return unknown(other),
        })
    }
}

impl Record for When {
    fn write(&self) -> Value {
        match self {
            Self::Once(span) => variant("once", span.write()),
            Self::Recurring(hours, span) => {
                variant("recurring", json!({"hours": hours.write(), "within": span.write()}))
            }
        }
    }

    fn read(value: &Value) -> Result<Self, Damage> {
        let (name, holds) = read_variant(value)?;
        match name {
            "once" => Record::read(holds).map(Self::Once),
            "recurring" => Ok(Self::Recurring(field(holds, "hours")?, field(holds, "within")?)),
            other => unknown(other),
        }
    }
}

impl Record for Hours {
    fn write(&self) -> Value {
        let days: Vec<String> = self.days().map(|day| day_name(day).to_owned()).collect();
        let time = |(hour, minute): (u8, u8)| format!("{hour:02}:{minute:02}");
        json!({"zone": self.zone(), "days": days, "from": time(self.from()), "until": time(self.until())})
    }

    fn read(value: &Value) -> Result<Self, Damage> {
        let (zone, names): (String, Vec<String>) = (field(value, "zone")?, field(value, "days")?);
        let day = |name: &String| DAYS.into_iter().find(|day| day_name(*day) == name);
        let days = names.iter().map(day).collect::<Option<Vec<_>>>().ok_or_else(|| Damage::wanted("day"))?;
        let time = |name: &str| -> Result<(u8, u8), Damage> {
            let text: String = field(value, name)?;
            let parts = text.split_once(':').ok_or_else(|| Damage::wanted("time of day"))?;
            Ok((named(parts.0)?, named(parts.1)?))
        };
        Self::new(&zone, days, time("from")?, time("until")?).map_err(|error| Damage(error.to_string()))
    }
}

const DAYS: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

const fn day_name(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "monday",
        Weekday::Tuesday => "tuesday",
        Weekday::Wednesday => "wednesday",
        Weekday::Thursday => "thursday",
        Weekday::Friday => "friday",
        Weekday::Saturday => "saturday",
        Weekday::Sunday => "sunday",
    }
}
