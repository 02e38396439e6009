//! Everything a collector knows, in a checkpoint, and made anew of one.

use std::collections::{BTreeMap, HashMap};

use aviary_core::{
    Catalog, Evidence, Fault, Ledger, LocalFault, Phase, Second, Series, SeriesId, Span, Tag, Timestamp,
    Vantage, VantageKind,
    ledger::{KeptLife, KeptSlots},
    losses::{Cause, Loss, Losses},
    vantage::ABSENT,
    window::Proof,
};

use super::{AgentSeen, KnownRoster, LOSSES_MAX, RosterKey, SERIES_MAX, State};
use crate::{
    ServiceOptions,
    checkpoint::{
        Unreadable, message,
        pool::{Pool, Shared, in_order, number},
    },
    events::Events,
    stored::StoredSeries,
};

const TAGS: usize = Tag::ALL.len();

/// The tags of every series by numbers. Series only ever come, in order, so this is kept from one checkpoint to the
/// next, and nobody waits while all of them are looked up again.
#[derive(Default)]
pub(crate) struct Texts {
    numbers: HashMap<String, u32>,
    tags: Vec<u32>,
}

impl Texts {
    /// What a checkpoint has of them.
    pub(crate) fn of(kept: &message::Kept) -> Self {
        let numbers = kept.texts.iter().enumerate().map(|(place, text)| (text.clone(), number(place)));
        Self { numbers: numbers.collect(), tags: kept.tags.clone() }
    }

    /// Takes in the series that came.
    fn learn(&mut self, catalog: &Catalog) {
        for id in catalog.ids().skip(self.series()) {
            for tag in Tag::ALL {
                let (text, next) = (catalog.tag(id, *tag), number(self.numbers.len()));
                let known = self.numbers.get(text).copied();
                self.tags.push(known.unwrap_or_else(|| *self.numbers.entry(text.to_owned()).or_insert(next)));
            }
        }
    }

    /// How many series there are.
    pub(crate) fn series(&self) -> usize {
        self.tags.len() / TAGS
    }

    /// Puts them into `kept`.
    pub(crate) fn put(&self, kept: &mut message::Kept) {
        kept.texts = in_order(self.numbers.clone());
        kept.tags.clone_from(&self.tags);
    }
}

impl State {
    /// What is known at this moment, but for the slots themselves. The tags are in `texts`, and what is shared in the
    /// pool: neither has to be put in its place while others wait.
    pub(crate) fn keep(&self, texts: &mut Texts) -> (message::Kept, Pool) {
        let mut pool = Pool::default();
        texts.learn(&self.catalog);
        let rosters = self.rosters.iter().map(|(key, known)| message::Roster {
            id: key.id,
            token: key.token.to_string(),
            vantage: pool.vantage(&known.vantage),
            since: known.since.0,
            list: pool.list(&known.series),
        });
        let rosters = rosters.collect();
        let agents = self.agents.iter().map(|(vantage, agent)| {
            let vantage = pool.vantage(vantage);
            agent.keep(vantage, &mut pool)
        });
        let agents = agents.collect();
        let events = self.events.keep(&mut pool);
        let (stored, shared_names) = self.stored.keep();
        let introduced = self
            .introduced
            .iter()
            .map(|(token, series)| message::Introduced { token: token.to_string(), series: *series as u64 });
        let kept = message::Kept {
            started: self.started.0,
            settled_until: self.settled_until.0,
            untold_until: self.untold_until.0,
            ledger_until: self.ledger.held().until.0,
            lives: Some(lives(&self.ledger)),
            losses: Some(losses(&self.losses)),
            rosters,
            agents,
            events,
            stored,
            shared_names,
            introduced: introduced.collect(),
            ..message::Kept::default()
        };
        (kept, pool)
    }

    /// The services that are judged.
    pub(crate) fn services(&self) -> Vec<ServiceOptions> {
        self.configured.values().cloned().collect()
    }

    /// The blocks of slots that are held.
    pub(crate) fn block_numbers(&self) -> Vec<u64> {
        self.ledger.block_numbers().collect()
    }

    /// The slots of the first `series` series in one block.
    pub(crate) fn keep_block(&self, number: u64, series: usize) -> Vec<KeptSlots> {
        self.ledger.block(number).take(series).collect()
    }

    /// What was known when `kept` was made, of blocks of slots with their numbers. It is `now`, and nobody has told
    /// anything since. The ledger still stands where it stood then: what it lets go of is to be handed over first.
    pub(crate) fn restore(
        name: String,
        services: Vec<ServiceOptions>,
        mut kept: message::Kept,
        blocks: Vec<(u64, Vec<KeptSlots>)>,
        now: Timestamp,
    ) -> Result<Self, Unreadable> {
        let mut state = Self::new(name, services, now);
        let series = kept.tags.len() / TAGS;
        let shared = Shared::take(&mut kept, series)?;
        state.catalog = catalog(&kept.tags, &shared)?;
        let lives = read_lives(kept.lives.take().unwrap_or_default(), series, &shared)?;
        state.ledger = Ledger::restore(Second(kept.ledger_until), lives);
        for (number, slots) in blocks {
            state.ledger.restore_block(number, slots);
        }
        state.losses = read_losses(kept.losses.take().unwrap_or_default(), &shared)?;
        for roster in &kept.rosters {
            let (vantage, list) = (shared.vantage(roster.vantage)?, shared.list(roster.list)?);
            let known = KnownRoster { vantage, since: Second(roster.since), series: list };
            state.rosters.insert(RosterKey { token: roster.token.as_str().into(), id: roster.id }, known);
        }
        state.agents = agents(kept.agents, &shared)?;
        state.events = Events::restore(kept.events, &shared)?;
        state.stored = StoredSeries::restore(kept.stored, kept.shared_names, &shared)?;
        for message::Introduced { token, series } in kept.introduced {
            state.introduced.insert(token.into(), usize::try_from(series).map_err(Unreadable::because)?);
        }
        state.started = Second(kept.started);
        state.settled_until = Second(kept.settled_until);
        // What storage showed since, nobody was there to see: it is not lost for that.
        state.untold_until = Second(kept.untold_until).max(now.second());
        // Where a service has storage now and had none then, nobody has said what its series are called there.
        let is_nameless = |id: SeriesId| {
            state.service(state.catalog.tag(id, Tag::Service)).storage && state.stored.name(id).is_none()
        };
        if state.catalog.ids().any(is_nameless) {
            state.rosters.clear();
        }
        Ok(state)
    }

    /// From now on it watches: what was before it was told, or is still to come.
    pub(crate) fn begin_to_watch(&mut self, now: Timestamp) {
        self.watching_since = now.second();
        self.storage_untold(now.second());
    }
}

fn agents(kept: Vec<message::Agent>, shared: &Shared) -> Result<BTreeMap<Vantage, AgentSeen>, Unreadable> {
    let agent = |kept: message::Agent| {
        let vantage = shared.vantage(kept.vantage)?;
        Ok((Vantage::clone(&vantage), AgentSeen::restore(kept, shared)?))
    };
    kept.into_iter().map(agent).collect()
}

/// The catalog with the same series under the same ids: history and rosters know them by these.
fn catalog(tags: &[u32], shared: &Shared) -> Result<Catalog, Unreadable> {
    let mut catalog = Catalog::new(SERIES_MAX);
    for (place, numbers) in tags.chunks_exact(TAGS).enumerate() {
        let text = |tag: Tag| shared.text(numbers[tag as usize]);
        let present = |tag| text(tag).map(|text| (text != ABSENT).then(|| text.to_owned()));
        let series = Series {
            service: text(Tag::Service)?.to_owned(),
            vantage: Vantage {
                kind: text(Tag::Kind)?.parse::<VantageKind>().map_err(Unreadable::because)?,
                region: text(Tag::Region)?.to_owned(),
                zone: present(Tag::Zone)?,
                network: present(Tag::Network)?,
                node: text(Tag::Node)?.to_owned(),
            },
            endpoint: text(Tag::Endpoint)?.parse().map_err(Unreadable::because)?,
            address: match present(Tag::Address)? {
                Some(address) => Some(address.parse().map_err(Unreadable::because)?),
                None => None,
            },
        };
        let id = catalog.intern(&series).map_err(Unreadable::because)?;
        if id.0 as usize != place {
            return Err(Unreadable::of("a series that is there twice"));
        }
    }
    Ok(catalog)
}

fn lives(ledger: &Ledger) -> message::Lives {
    let mut kept = message::Lives::default();
    for (series, life) in (0..).zip(ledger.lives()) {
        let KeptLife { span, told_until, proof, pauses } = life;
        kept.from.push(span.from.0);
        kept.until.push(if span.until.0 == u64::MAX { 0 } else { span.until.0 });
        kept.told_until.push(told_until.0);
        kept.proofs.push(match proof {
            Proof::Sender => 0,
            Proof::Storage => 1,
            Proof::Nothing => 2,
        });
        let pause = |span: Span| message::Pause { series, span: span.into() };
        kept.pauses.extend(pauses.into_iter().map(pause));
    }
    kept
}

fn read_lives(kept: message::Lives, series: usize, shared: &Shared) -> Result<Vec<KeptLife>, Unreadable> {
    let message::Lives { from, until, told_until, proofs, pauses } = kept;
    if [from.len(), until.len(), told_until.len(), proofs.len()] != [series; 4] {
        return Err(Unreadable::of("the lives of the series"));
    }
    let mut lives = Vec::with_capacity(series);
    for (((from, until), told_until), proof) in from.into_iter().zip(until).zip(told_until).zip(proofs) {
        let until = Second(if until == 0 { u64::MAX } else { until });
        let proof = match proof {
            0 => Proof::Sender,
            1 => Proof::Storage,
            2 => Proof::Nothing,
            _ => return Err(Unreadable::of("what shows delivery of a series")),
        };
        let span = Span::new(Second(from), until);
        lives.push(KeptLife { span, told_until: Second(told_until), proof, pauses: Vec::new() });
    }
    for pause in pauses {
        lives[shared.series(pause.series)?.0 as usize].pauses.push(pause.span.into());
    }
    Ok(lives)
}

fn losses(losses: &Losses) -> message::Losses {
    let mut kept = message::Losses::default();
    let mut kinds: BTreeMap<Loss, u32> = BTreeMap::new();
    for (second, series, loss) in losses.within(Span::new(Second(0), Second(u64::MAX))) {
        let kind = *kinds.entry(*loss).or_insert_with(|| {
            kept.kinds.push(keep_loss(loss));
            kept.kinds.len() as u32 - 1
        });
        kept.seconds.push(second.0);
        kept.series.push(series.0);
        kept.kind.push(kind);
    }
    kept
}

fn keep_loss(loss: &Loss) -> message::Loss {
    let (is_local, fault, status) = match loss.cause {
        Cause::Local(fault) => (true, fault.name(), 0),
        Cause::Service(Fault::Status(status)) => (false, Fault::Status(status).name(), u32::from(status)),
        Cause::Service(fault) => (false, fault.name(), 0),
    };
    message::Loss {
        phase: loss.phase.name().to_owned(),
        is_local,
        fault: fault.to_owned(),
        status,
        reached: loss.reached.map(|rung| rung.name().to_owned()),
        address: loss.address.map(|address| address.to_string()),
    }
}

fn read_losses(kept: message::Losses, shared: &Shared) -> Result<Losses, Unreadable> {
    let kinds = kept.kinds.into_iter().map(read_loss).collect::<Result<Vec<_>, _>>()?;
    let mut losses = Losses::new(LOSSES_MAX);
    for ((second, series), kind) in kept.seconds.into_iter().zip(kept.series).zip(kept.kind) {
        let loss = kinds.get(kind as usize).ok_or_else(|| Unreadable::of("a loss"))?;
        losses.note(shared.series(series)?, Second(second), *loss);
    }
    Ok(losses)
}

fn read_loss(kept: message::Loss) -> Result<Loss, Unreadable> {
    let fault = |name: &str| {
        let status = u16::try_from(kept.status).map_err(Unreadable::because)?;
        match Fault::ALL.into_iter().find(|fault| fault.name() == name) {
            Some(Fault::Status(_)) => Ok(Fault::Status(status)),
            Some(fault) => Ok(fault),
            None => Err(Unreadable::of("a fault")),
        }
    };
    let cause = if kept.is_local {
        Cause::Local(kept.fault.parse::<LocalFault>().map_err(Unreadable::because)?)
    } else {
        Cause::Service(fault(&kept.fault)?)
    };
    Ok(Loss {
        phase: kept.phase.parse::<Phase>().map_err(Unreadable::because)?,
        cause,
        reached: kept
            .reached
            .map(|rung| rung.parse::<Evidence>().map_err(Unreadable::because))
            .transpose()?,
        address: kept.address.map(|address| address.parse().map_err(Unreadable::because)).transpose()?,
    })
}
