//! The versions in the store: one record of the rollout, and the text of each version that it needs.

use std::{collections::BTreeMap, sync::Arc};

use aviary_core::{
    Timestamp,
    rollout::{Candidate, HeldBack, Rollout, Version, Why},
};
use aviary_store::{Batch, Store, StoreError, Table};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Versions;
use crate::document::Document;

/// How their keys begin, in [`Table::Judgement`]: the rollout stands under this alone, texts under it with their version.
const KEY: u8 = b'o';

#[derive(Serialize, Deserialize)]
struct Kept {
    active: Option<(String, u64)>,
    candidate: Option<(String, bool)>,
    previous: Option<String>,
    held_back: Option<KeptBack>,
}

#[derive(Serialize, Deserialize)]
struct KeptBack {
    version: String,
    at_us: u64,
    timed_out: bool,
    by: Option<String>,
}

/// What makes of the one what the other is.
pub(super) fn changes(before: &Versions, after: &Versions) -> Batch {
    let mut batch = Batch::default();
    let record = serde_json::json!(Kept::of(&after.rollout)).to_string().into_bytes();
    batch.put.push((Table::Judgement, Bytes::from_static(&[KEY]), record.into()));
    for (version, document) in &after.documents {
        if !before.documents.contains_key(version) {
            let text = serde_json::json!(document.text()).to_string().into_bytes();
            batch.put.push((Table::Judgement, key(*version), text.into()));
        }
    }
    for version in before.documents.keys().filter(|version| !after.documents.contains_key(version)) {
        let next: Bytes = [&key(*version), [0].as_slice()].concat().into();
        batch.remove.push((Table::Judgement, key(*version), next));
    }
    batch
}

/// What `store` holds. A rollout that was under way when the life before ended has its whole time again: nobody could report meanwhile.
pub(super) fn read(store: &dyn Store, now: Timestamp) -> Result<Versions, StoreError> {
    let damaged = |reason: String| StoreError::Damaged {
        path: store.place(),
        place: "judgement rollout".to_owned(),
        reason,
    };
    let Some(record) = store.get(Table::Judgement, &[KEY])? else { return Ok(Versions::default()) };
    let kept: Kept = serde_json::from_slice(&record).map_err(|error| damaged(error.to_string()))?;
    let rollout = kept.rollout(now).map_err(damaged)?;
    let mut documents = BTreeMap::new();
    for version in rollout.needed() {
        let text = store.get(Table::Judgement, &key(version))?;
        let text = text.ok_or_else(|| damaged(format!("the text of version {version} is missing")))?;
        let text: String = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        let document = Document::new(text);
        if document.version() != version {
            return Err(damaged(format!("the text of version {version} is another's")));
        }
        documents.insert(version, Arc::new(document));
    }
    Ok(Versions { rollout, documents, offered: None })
}

impl Kept {
    fn of(rollout: &Rollout) -> Self {
        let held_back = rollout.held_back.as_ref().map(|held| KeptBack {
            version: held.version.to_string(),
            at_us: held.at.0,
            timed_out: held.why == Why::TimedOut,
            by: held.by.clone(),
        });
        Self {
            active: rollout.active.map(|(version, since)| (version.to_string(), since.0)),
            candidate: rollout.candidate.map(|it| (it.version.to_string(), it.was_held)),
            previous: rollout.previous.map(|version| version.to_string()),
            held_back,
        }
    }

    fn rollout(self, now: Timestamp) -> Result<Rollout, String> {
        let version = |text: String| text.parse::<Version>().map_err(|error| error.to_string());
        let held_back = |kept: KeptBack| {
            Ok::<_, String>(HeldBack {
                version: version(kept.version)?,
                at: Timestamp(kept.at_us),
                why: if kept.timed_out { Why::TimedOut } else { Why::RolledBack },
                by: kept.by,
            })
        };
        Ok(Rollout {
            active: self
                .active
                .map(|(active, since)| Ok::<_, String>((version(active)?, Timestamp(since))))
                .transpose()?,
            candidate: self
                .candidate
                .map(|(candidate, was_held)| {
                    Ok::<_, String>(Candidate { version: version(candidate)?, since: now, was_held })
                })
                .transpose()?,
            previous: self.previous.map(version).transpose()?,
            held_back: self.held_back.map(held_back).transpose()?,
        })
    }
}

fn key(version: Version) -> Bytes {
    [[KEY].as_slice(), &version.0.to_be_bytes()].concat().into()
}
