//! What outlives the process, and in which tables.
//!
//! | table | key | value |
//! |---|---|---|
//! | incidents | the incident's id, which sorts by its onset | all of it, until it is over for as long as anything is retained |
//! | judgement | `c` and an incident's id | who was told of it |
//! | | `m` | what is only suspected, and what the machine counts |
//! | | `s` | silences |
//! | | `l` and a group | in which way it loses |
//! | | `t` | when the hours began in which test pages were sent last |
//! | | `p` and an incident's id | what the public is told of it |
//! | | `r` | which nodes are out of rotation, and which were |
//! | | `a` and a name | a token that was made at run time ([`crate::access::issued`]) |
//! | | `w` | endpoints that worked once, and when losses were cleared |

use std::{collections::BTreeMap, ops::ControlFlow};

use aviary_core::{
    Second, Tag,
    detect::Quiet,
    incident::{self, Fallback, Id, Incident, Incidents, REOPEN_SECONDS, State},
    page::{self, Case},
    silence::Silence,
};
use aviary_store::{Batch, Store, StoreError, Table};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    record::{Damage, Record, records},
    steering::KeptSteering,
};
use crate::{
    state::{Endpoint, Key},
    status::Publication,
};

const CASE: u8 = b'c';
const MACHINE: u8 = b'm';
const SILENCES: u8 = b's';
const LEARNT: u8 = b'l';
const TESTED: u8 = b't';
const WORKED: u8 = b'w';
const PUBLIC: u8 = b'p';
const STEERING: u8 = b'r';

/// So many incidents are let go of at once.
const EXPIRED_MAX: usize = 256;

/// What an earlier life left.
#[derive(Default)]
pub(crate) struct Life {
    pub(crate) incidents: incident::Kept,
    /// Those that are over, and of which somebody is still to be told.
    pub(crate) over: BTreeMap<Id, Incident>,
    pub(crate) outbox: page::Kept,
    pub(crate) silences: Vec<Silence>,
    pub(crate) learnt: BTreeMap<Key, Quiet>,
    pub(crate) worked: BTreeMap<Endpoint, Second>,
    pub(crate) cleared: BTreeMap<String, Second>,
    /// When the hours began in which test pages were sent last.
    pub(crate) tested: Option<Second>,
    pub(crate) publications: Vec<Publication>,
    pub(crate) steering: KeptSteering,
}

/// What is to be kept: the newest value of each key, none where it is to be removed.
#[derive(Debug, Default)]
pub(crate) struct Pending(BTreeMap<(Table, Bytes), Option<Bytes>>);

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what is newer.
    pub(super) fn append(&mut self, newer: Self) {
        self.0.extend(newer.0);
    }

    pub(super) fn batch(&self) -> Batch {
        let mut batch = Batch::default();
        for ((table, key), value) in &self.0 {
            match value {
                Some(value) => batch.put.push((*table, key.clone(), value.clone())),
                None => {
                    let next: Bytes = [key, [0].as_slice()].concat().into();
                    batch.remove.push((*table, key.clone(), next));
                }
            }
        }
        batch
    }

    fn put(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.0.insert((Table::Judgement, key.into()), value.map(Bytes::from));
    }

    /// What waits to be kept of an incident, none within where it is to be removed.
    pub(super) fn incident(&self, id: &Id) -> Option<Option<Incident>> {
        let key = Bytes::copy_from_slice(id.as_str().as_bytes());
        let waits = self.0.get(&(Table::Incidents, key))?;
        // It was written here, and can be read.
        Some(waits.as_ref().and_then(|bytes| Incident::of_bytes(bytes).ok()))
    }

    pub(super) fn put_incident(&mut self, incident: &Incident) {
        let key = Bytes::copy_from_slice(incident.id.as_str().as_bytes());
        self.0.insert((Table::Incidents, key), Some(incident.bytes().into()));
    }

    pub(super) fn remove_incident(&mut self, id: &Id) {
        self.0.insert((Table::Incidents, Bytes::copy_from_slice(id.as_str().as_bytes())), None);
    }

    pub(super) fn put_steering(&mut self, steering: Vec<u8>) {
        self.put(vec![STEERING], Some(steering));
    }

    pub(super) fn put_tested(&mut self, from: Second) {
        self.put(vec![TESTED], Some(from.bytes()));
    }

    pub(super) fn put_case(&mut self, id: &Id, case: Option<&Case>) {
        self.put([&[CASE], id.as_str().as_bytes()].concat(), case.map(Record::bytes));
    }

    pub(super) fn put_publication(&mut self, publication: &Publication) {
        let bytes = publication.bytes();
        self.put([&[PUBLIC], publication.id.as_bytes()].concat(), Some(bytes));
    }

    pub(super) fn remove_publication(&mut self, id: &str) {
        self.put([&[PUBLIC], id.as_bytes()].concat(), None);
    }

    pub(super) fn put_machine(&mut self, machine: &[u8]) {
        self.put(vec![MACHINE], Some(machine.to_vec()));
    }

    pub(super) fn put_silences(&mut self, silences: &[Silence]) {
        self.put(vec![SILENCES], Some(silences.to_vec().bytes()));
    }

    /// In which way groups lose.
    pub(crate) fn put_learnt(&mut self, learnt: impl IntoIterator<Item = (Key, Quiet)>) {
        for (key, quiet) in learnt {
            self.put([&[LEARNT], key.write().to_string().as_bytes()].concat(), Some(quiet.bytes()));
        }
    }

    /// Which endpoints worked once, and when losses were cleared.
    pub(crate) fn put_worked(
        &mut self,
        worked: &BTreeMap<Endpoint, Second>,
        cleared: &BTreeMap<String, Second>,
    ) {
        let worked = worked.iter().map(|(endpoint, since)| (endpoint.clone(), *since)).collect();
        self.put(vec![WORKED], Some(Worked { worked, cleared: cleared.clone() }.bytes()));
    }
}

/// What is kept of an incident.
pub(super) fn incident(store: &dyn Store, id: &Id) -> Result<Option<Incident>, StoreError> {
    let found = store.get(Table::Incidents, id.as_str().as_bytes())?;
    let read = |bytes: Bytes| {
        Incident::of_bytes(&bytes).map_err(|why| StoreError::Damaged {
            path: store.place(),
            place: format!("incidents {id}"),
            reason: why.to_string(),
        })
    };
    found.map(read).transpose()
}

/// The first [`EXPIRED_MAX`] incidents that were over before `from`.
pub(super) fn over_before(store: &dyn Store, from: Second) -> Result<Vec<Id>, StoreError> {
    let mut old = Vec::new();
    // By their onset: what began later is not over earlier.
    let until = Id::new("", "", from);
    store.range(Table::Incidents, &[], until.as_str().as_bytes(), &mut |key, value| {
        // What cannot be read is said at a start.
        if Incident::of_bytes(value).is_ok_and(|it| it.resolved.is_some_and(|at| at < from)) {
            old.push(Id::given(&String::from_utf8_lossy(key)));
        }
        if old.len() < EXPIRED_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(old)
}

/// What is suspected, and what the machine counts.
pub(super) fn machine(incidents: &Incidents) -> Vec<u8> {
    let suspected: Vec<Value> =
        incidents.iter().filter(|incident| incident.state == State::Suspected).map(Record::write).collect();
    let openings: Vec<(Second, Id)> = incidents.openings().cloned().collect();
    json!({"suspected": suspected, "openings": openings.write(), "refused": incidents.refused(),
        "fallbacks": incidents.fallbacks().cloned().collect::<Vec<Fallback>>().write()})
    .to_string()
    .into_bytes()
}

impl Record for Key {
    fn write(&self) -> Value {
        json!([self.service, self.value.write()])
    }

    fn read(value: &Value) -> Result<Self, Damage> {
        let (service, value): (String, Option<(Tag, String)>) = Record::read(value)?;
        Ok(Self { service, value })
    }
}

impl Life {
    /// What `store` holds at `now`.
    pub(crate) fn read(store: &dyn Store, now: Second) -> Result<Self, StoreError> {
        let mut life = Self::default();
        let mut damage = None;
        store.range(Table::Judgement, &[], &[u8::MAX], &mut |key, value| {
            let Err(why) = life.take(key, value) else { return ControlFlow::Continue(()) };
            damage = Some(("judgement", String::from_utf8_lossy(key).into_owned(), why));
            ControlFlow::Break(())
        })?;
        let mut held: BTreeMap<Id, Incident> =
            life.incidents.incidents.drain(..).map(|incident| (incident.id.clone(), incident)).collect();
        store.range(
            Table::Incidents,
            &[],
            &[u8::MAX],
            &mut |key, value| match Incident::of_bytes(value) {
                Ok(incident) => {
                    let is_recent =
                        incident.resolved.is_none_or(|at| now.0.saturating_sub(at.0) <= REOPEN_SECONDS);
                    if is_recent {
                        held.insert(incident.id.clone(), incident);
                    }
                    ControlFlow::Continue(())
                }
                Err(why) => {
                    damage = Some(("incidents", String::from_utf8_lossy(key).into_owned(), why));
                    ControlFlow::Break(())
                }
            },
        )?;
        if let Some((table, key, why)) = damage {
            let (path, place) = (store.place(), format!("{table} {key}"));
            return Err(StoreError::Damaged { path, place, reason: why.to_string() });
        }
        life.incidents.incidents = held.into_values().collect();
        Ok(life)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Damage> {
        match key.split_first() {
            Some((&CASE, id)) => {
                self.outbox.cases.insert(Id::given(&String::from_utf8_lossy(id)), Case::of_bytes(value)?);
            }
            Some((&SILENCES, _)) => self.silences = Record::of_bytes(value)?,
            Some((&LEARNT, group)) => {
                self.learnt.insert(Key::of_bytes(group)?, Quiet::of_bytes(value)?);
            }
            Some((&MACHINE, _)) => {
                let fields: Machine = Record::of_bytes(value)?;
                self.incidents = incident::Kept {
                    incidents: fields.suspected,
                    openings: fields.openings,
                    refused: fields.refused,
                    fallbacks: fields.fallbacks,
                };
            }
            Some((&WORKED, _)) => {
                let Worked { worked, cleared } = Record::of_bytes(value)?;
                (self.worked, self.cleared) = (worked.into_iter().collect(), cleared);
            }
            Some((&PUBLIC, _)) => self.publications.push(Publication::of_bytes(value)?),
            Some((&STEERING, _)) => self.steering = Record::of_bytes(value)?,
            Some((&TESTED, _)) => self.tested = Some(Record::of_bytes(value)?),
            // A later version's.
            _ => {}
        }
        Ok(())
    }
}

struct Machine {
    suspected: Vec<Incident>,
    openings: Vec<(Second, Id)>,
    refused: u64,
    fallbacks: Vec<Fallback>,
}

struct Worked {
    worked: Vec<(Endpoint, Second)>,
    cleared: BTreeMap<String, Second>,
}

records! {
    Fallback { service, key, receiver, since, seen, well_since, over }
    Machine { suspected, openings, refused, fallbacks }
    Worked { worked, cleared }
}
