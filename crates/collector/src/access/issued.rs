//! Tokens that were made while the collector ran, beside those of the configuration.
//!
//! Of each no more is kept than of the others: what it allows, and the hash of its secret. Whoever makes one thinks the secret up,
//! and the collector is told the hash alone. While it is rotated a token has two secrets: the older one ends after a while, both are
//! the same token until then, and so the same reporter, whose rosters, limits and counts stay. A change is on the disk before
//! it holds. There are [`TOKENS_MAX`] at most; one that has expired is held until somebody revokes it, so that who shows it is told why
//! it is refused.

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use aviary_core::Second;
use aviary_store::{Batch, Store, StoreError, Table};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Scope, SecretHash,
    entrance::{Entrance, Grant},
    limits::Limits,
};

/// So many tokens are held at most.
pub(crate) const TOKENS_MAX: usize = 1_000;

/// How their keys begin, in [`Table::Judgement`].
const KEY: u8 = b'a';

/// One secret of a token.
#[derive(Clone, Debug)]
pub(crate) struct Secret {
    hash: SecretHash,
    pub(crate) since: Second,
    /// It is worth nothing from then on.
    pub(crate) until: Option<Second>,
    /// When it was shown last; 0 before that.
    used: Arc<AtomicU64>,
}

/// A token that was made at run time.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) by: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) node: Option<String>,
    /// The newest last; one, or two while it is rotated.
    pub(crate) secrets: Vec<Secret>,
    pub(crate) created: Second,
    entrance: Arc<Entrance>,
}

/// What somebody wants a token to be.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) region: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) secret: SecretHash,
    pub(crate) until: Option<Second>,
    pub(crate) by: Option<String>,
}

/// Why a token was not made or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotIssued {
    #[error("there is a token `{0}` already; give it a second secret with `rotate`, or take another name")]
    Exists(String),
    #[error("there is no token `{0}` that was made at run time; `aviary token list` shows them")]
    Unknown(String),
    #[error("this is the secret of another token; make another one")]
    Taken,
    #[error(
        "token `{0}` is being rotated already, and both of its secrets are in use; once `aviary token list` shows that nobody uses the older \
         one: `aviary token revoke {0} --old`"
    )]
    Rotating(String),
    #[error("token `{0}` has one secret, and no older one; to end it, revoke the token")]
    NoOlder(String),
    #[error("{TOKENS_MAX} tokens were made, and there is no room for more; revoke those that nobody uses")]
    Full,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whose secret somebody shows.
pub(crate) enum Shown {
    /// The token's, until that second.
    Valid(Arc<Entrance>, Option<Second>),
    /// It was this token's until then.
    Ended(String, Second),
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    scope: Vec<Scope>,
    region: Option<String>,
    node: Option<String>,
    created: u64,
    by: Option<String>,
    secrets: Vec<KeptSecret>,
}

#[derive(Serialize, Deserialize)]
struct KeptSecret {
    hash: String,
    since: u64,
    until: Option<u64>,
    used: u64,
}

impl Secret {
    fn new(hash: SecretHash, since: Second, until: Option<Second>) -> Self {
        Self { hash, since, until, used: Arc::default() }
    }

    /// When it was shown last.
    pub(crate) fn used(&self) -> Option<Second> {
        Some(self.used.load(Ordering::Relaxed)).filter(|used| *used > 0).map(Second)
    }

    pub(crate) fn has_ended(&self, now: Second) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl Token {
    fn new(wanted: Wanted, now: Second) -> Self {
        let Wanted { name, scopes, region, node, secret, until, by } = wanted;
        let secrets = vec![Secret::new(secret, now, until)];
        Self { entrance: entrance(name, &scopes, &region, &node), by, region, node, secrets, created: now }
    }

    pub(crate) fn scopes(&self) -> &[Scope] {
        self.entrance.scopes()
    }

    /// When it ends, if nobody rotates it.
    pub(crate) fn until(&self) -> Option<Second> {
        self.secrets.last().and_then(|secret| secret.until)
    }

    pub(crate) fn used(&self) -> Option<Second> {
        self.secrets.iter().filter_map(Secret::used).max()
    }

    fn bytes(&self) -> Vec<u8> {
        let secret = |it: &Secret| KeptSecret {
            hash: it.hash.written(),
            since: it.since.0,
            until: it.until.map(|until| until.0),
            used: it.used.load(Ordering::Relaxed),
        };
        let kept = Kept {
            scope: self.scopes().to_vec(),
            region: self.region.clone(),
            node: self.node.clone(),
            created: self.created.0,
            by: self.by.clone(),
            secrets: self.secrets.iter().map(secret).collect(),
        };
        serde_json::json!(kept).to_string().into_bytes()
    }

    fn of_bytes(name: &str, bytes: &[u8]) -> Result<Self, String> {
        let Kept { scope, region, node, created, by, secrets } =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let secret = |it: KeptSecret| {
            let hash = SecretHash::parse(&it.hash).map_err(|error| error.to_string())?;
            let used = Arc::new(AtomicU64::new(it.used));
            Ok(Secret { hash, since: Second(it.since), until: it.until.map(Second), used })
        };
        let secrets = secrets.into_iter().map(secret).collect::<Result<Vec<_>, String>>()?;
        let entrance = entrance(name.to_owned(), &scope, &region, &node);
        Ok(Self { by, region, node, secrets, created: Second(created), entrance })
    }
}

fn entrance(name: String, scopes: &[Scope], region: &Option<String>, node: &Option<String>) -> Arc<Entrance> {
    let limits = if node.is_some() { Limits::AGENT } else { Limits::FLEET };
    let (region, node) = (region.clone(), node.clone());
    Arc::new(Entrance::new(Grant { name, scopes: scopes.into(), region, node, limits }))
}

/// Every token that was made at run time, and whose each secret is.
#[derive(Clone, Default)]
struct Held {
    tokens: BTreeMap<String, Token>,
    /// By a hash, which nobody can choose: how long a look-up takes tells nothing of a secret.
    names: HashMap<SecretHash, String>,
}

impl Held {
    fn of(tokens: BTreeMap<String, Token>) -> Self {
        let names = tokens
            .iter()
            .flat_map(|(name, token)| token.secrets.iter().map(move |secret| (secret.hash, name.clone())));
        Self { names: names.collect(), tokens }
    }
}

/// The tokens that were made at run time.
#[derive(Default)]
pub(crate) struct Issued {
    held: RwLock<Arc<Held>>,
    /// One change follows another.
    changing: Mutex<()>,
    store: Option<Arc<dyn Store>>,
}

impl Issued {
    /// Those that `store` holds; without one they are held as long as the process lives.
    pub(crate) fn open(store: Option<Arc<dyn Store>>) -> Result<Self, StoreError> {
        let mut tokens = BTreeMap::new();
        if let Some(store) = &store {
            let mut damage = None;
            store.range(Table::Judgement, &[KEY], &[KEY + 1], &mut |key, value| {
                let name = String::from_utf8_lossy(&key[1..]).into_owned();
                match Token::of_bytes(&name, value) {
                    Ok(token) => _ = tokens.insert(name, token),
                    Err(why) => damage = Some((name, why)),
                }
                if damage.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            if let Some((name, reason)) = damage {
                let (path, place) = (store.place(), format!("judgement token {name}"));
                return Err(StoreError::Damaged { path, place, reason });
            }
        }
        Ok(Self { held: RwLock::new(Arc::new(Held::of(tokens))), changing: Mutex::default(), store })
    }

    fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether they outlive the process.
    pub(crate) const fn are_kept(&self) -> bool {
        self.store.is_some()
    }

    /// Whose this secret is, or was until it ended; noted as used now.
    pub(super) fn shown(&self, secret: &SecretHash, now: Second) -> Option<Shown> {
        let held = self.held();
        let name = held.names.get(secret)?;
        let token = held.tokens.get(name)?;
        let found = token.secrets.iter().find(|it| it.hash == *secret)?;
        if let Some(until) = found.until.filter(|until| *until <= now) {
            return Some(Shown::Ended(name.clone(), until));
        }
        found.used.store(now.0, Ordering::Relaxed);
        Some(Shown::Valid(Arc::clone(&token.entrance), found.until))
    }

    /// The token of this name, with the hashes of what it is known by now.
    pub(super) fn named(&self, name: &str, now: Second) -> Option<(Arc<Entrance>, Vec<SecretHash>)> {
        let held = self.held();
        let token = held.tokens.get(name)?;
        let secrets = token.secrets.iter().filter(|it| !it.has_ended(now)).map(|it| it.hash);
        Some((Arc::clone(&token.entrance), secrets.collect()))
    }

    /// What each allows.
    pub(super) fn entrances(&self) -> Vec<Arc<Entrance>> {
        self.held().tokens.values().map(|token| Arc::clone(&token.entrance)).collect()
    }

    /// All of them by name.
    pub(crate) fn all(&self) -> BTreeMap<String, Token> {
        self.held().tokens.clone()
    }

    /// Makes a token. Blocks.
    pub(crate) fn issue(&self, wanted: Wanted, now: Second) -> Result<Token, NotIssued> {
        let name = wanted.name.clone();
        self.change(&name, |held| {
            if held.tokens.contains_key(&wanted.name) {
                return Err(NotIssued::Exists(wanted.name));
            }
            if held.tokens.len() >= TOKENS_MAX {
                return Err(NotIssued::Full);
            }
            if held.names.contains_key(&wanted.secret) {
                return Err(NotIssued::Taken);
            }
            Ok(Some(Token::new(wanted, now)))
        })?
        .ok_or(NotIssued::Unknown(name))
    }

    /// Gives the token `name` a second secret; the first one ends after `overlap` seconds, if not before. A second one that nobody
    /// has used yet gives way: whoever asked for it may never have seen it, and everybody still has the first. Blocks.
    pub(crate) fn rotate(
        &self,
        name: &str,
        (secret, until): (SecretHash, Option<Second>),
        overlap: u64,
        now: Second,
    ) -> Result<Token, NotIssued> {
        let unknown = || NotIssued::Unknown(name.to_owned());
        self.change(name, |held| {
            let mut token = held.tokens.get(name).cloned().ok_or_else(unknown)?;
            if held.names.contains_key(&secret) {
                return Err(NotIssued::Taken);
            }
            let newest = token.secrets.pop().ok_or_else(unknown)?;
            let older = match token.secrets.pop().filter(|it| !it.has_ended(now)) {
                Some(older) if newest.used().is_none() => older,
                Some(_) => return Err(NotIssued::Rotating(name.to_owned())),
                None => {
                    let end = now.plus(overlap);
                    Secret { until: Some(newest.until.map_or(end, |until| until.min(end))), ..newest }
                }
            };
            token.secrets = vec![older, Secret::new(secret, now, until)];
            Ok(Some(token))
        })?
        .ok_or_else(unknown)
    }

    /// Ends the older secret of the token `name` now, or all of it. Blocks.
    pub(crate) fn revoke(&self, name: &str, only_older: bool) -> Result<(), NotIssued> {
        self.change(name, |held| {
            let token = held.tokens.get(name).ok_or_else(|| NotIssued::Unknown(name.to_owned()))?;
            match (only_older, token.secrets.as_slice()) {
                (false, _) => Ok(None),
                (true, [_, newer]) => Ok(Some(Token { secrets: vec![newer.clone()], ..token.clone() })),
                (true, _) => Err(NotIssued::NoOlder(name.to_owned())),
            }
        })?;
        Ok(())
    }

    /// Makes the token `name` what `make` says, and then keeps to it; none removes it.
    fn change(
        &self,
        name: &str,
        make: impl FnOnce(&Held) -> Result<Option<Token>, NotIssued>,
    ) -> Result<Option<Token>, NotIssued> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.held();
        let made = make(&held)?;
        if let Some(store) = &self.store {
            let (key, mut batch) = (key(name), Batch::default());
            match &made {
                Some(token) => batch.put.push((Table::Judgement, key, token.bytes().into())),
                None => {
                    let next: Bytes = [&key, [0].as_slice()].concat().into();
                    batch.remove.push((Table::Judgement, key, next));
                }
            }
            store.commit(batch)?;
        }
        let mut tokens = held.tokens.clone();
        match &made {
            Some(token) => _ = tokens.insert(name.to_owned(), token.clone()),
            None => _ = tokens.remove(name),
        }
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Held::of(tokens));
        Ok(made)
    }

    /// Keeps when each was used last: a start says so as well. Blocks.
    pub(crate) fn keep_uses(&self) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Ok(()) };
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.held();
        let put = held.tokens.iter().map(|(name, it)| (Table::Judgement, key(name), it.bytes().into()));
        let batch = Batch { put: put.collect(), ..Batch::default() };
        if batch.put.is_empty() { Ok(()) } else { store.commit(batch) }
    }
}

fn key(name: &str) -> Bytes {
    [&[KEY], name.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use aviary_store::MemoryStore;

    use super::*;

    const NOW: Second = Second(1_763_690_400);

    fn wanted(name: &str, secret: &str, until: Option<Second>) -> Wanted {
        Wanted {
            name: name.to_owned(),
            scopes: vec![Scope::Report],
            region: Some("eu".to_owned()),
            node: None,
            secret: SecretHash::of(secret),
            until,
            by: Some("ada".to_owned()),
        }
    }

    /// Whose `secret` is at `now`, and until when; with a minus where it has ended.
    fn whose(issued: &Issued, secret: &str, now: Second) -> Option<String> {
        Some(match issued.shown(&SecretHash::of(secret), now)? {
            Shown::Valid(entrance, None) => entrance.reporter().token.to_string(),
            Shown::Valid(entrance, Some(until)) => {
                format!("{} {}", entrance.reporter().token, until.0 - NOW.0)
            }
            Shown::Ended(name, until) => format!("-{name} {}", until.0 - NOW.0),
        })
    }

    #[test]
    fn both_secrets_are_one_token_until_the_older_one_ends() {
        let issued = Issued::default();
        issued.issue(wanted("eu", "one", Some(NOW.plus(1_000))), NOW).unwrap();
        let two = (SecretHash::of("two"), None);
        issued.rotate("eu", two, 100, NOW).unwrap();
        let entrance = |secret: &str| match issued.shown(&SecretHash::of(secret), NOW) {
            Some(Shown::Valid(entrance, ..)) => entrance,
            _ => panic!("{secret} is valid"),
        };
        assert!(Arc::ptr_eq(&entrance("one"), &entrance("two")), "limits and counts are those of the token");
        assert_eq!(whose(&issued, "one", NOW.plus(99)).as_deref(), Some("eu 100"));
        assert_eq!(whose(&issued, "one", NOW.plus(100)).as_deref(), Some("-eu 100"));
        assert_eq!(whose(&issued, "two", NOW.plus(100)).as_deref(), Some("eu"));
        assert_eq!(whose(&issued, "three", NOW), None);
        let three = (SecretHash::of("three"), None);
        let rotated = |now| issued.rotate("eu", three, 5_000, now).map(|token| token.secrets.len());
        assert!(matches!(rotated(NOW.plus(99)), Err(NotIssued::Rotating(_))));
        assert_eq!(rotated(NOW.plus(100)).unwrap(), 2, "the one that ended makes room");
        assert_eq!(whose(&issued, "one", NOW.plus(100)), None);
        issued.revoke("eu", true).unwrap();
        assert_eq!((whose(&issued, "two", NOW), whose(&issued, "three", NOW).is_some()), (None, true));
        assert!(matches!(issued.revoke("eu", true), Err(NotIssued::NoOlder(_))));
        issued.revoke("eu", false).unwrap();
        assert_eq!(whose(&issued, "three", NOW), None);
    }

    /// The answer to the first rotation was lost, and with it the secret.
    #[test]
    fn a_second_secret_that_nobody_has_used_gives_way_and_everybody_keeps_the_first() {
        let issued = Issued::default();
        issued.issue(wanted("eu", "one", None), NOW).unwrap();
        let rotate = |secret: &str, at: Second| issued.rotate("eu", (SecretHash::of(secret), None), 100, at);
        rotate("lost", NOW).unwrap();
        assert_eq!(rotate("two", NOW.plus(10)).unwrap().secrets.len(), 2);
        assert_eq!(whose(&issued, "one", NOW.plus(11)).as_deref(), Some("eu 100"));
        assert_eq!(whose(&issued, "lost", NOW.plus(11)), None);
        assert_eq!(whose(&issued, "two", NOW.plus(11)).as_deref(), Some("eu"));
        assert!(
            matches!(rotate("three", NOW.plus(12)), Err(NotIssued::Rotating(_))),
            "somebody has it by now"
        );
    }

    #[test]
    fn a_secret_that_ends_sooner_is_not_prolonged_by_its_successor() {
        let issued = Issued::default();
        issued.issue(wanted("eu", "one", Some(NOW.plus(10))), NOW).unwrap();
        issued.rotate("eu", (SecretHash::of("two"), None), 100, NOW).unwrap();
        assert_eq!(whose(&issued, "one", NOW).as_deref(), Some("eu 10"));
    }

    #[test]
    fn what_was_made_and_when_it_was_used_outlives_the_process() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let life = || Issued::open(Some(Arc::clone(&store))).unwrap();
        let issued = life();
        issued.issue(wanted("eu", "one", None), NOW).unwrap();
        issued.issue(wanted("eu-2", "other", None), NOW).unwrap();
        issued.rotate("eu", (SecretHash::of("two"), Some(NOW.plus(500))), 100, NOW).unwrap();
        issued.revoke("eu-2", false).unwrap();
        assert!(whose(&issued, "two", NOW.plus(7)).is_some());
        issued.keep_uses().unwrap();
        let next = life();
        assert_eq!(next.all().keys().collect::<Vec<_>>(), ["eu"]);
        let token = &next.all()["eu"];
        assert_eq!((token.used(), token.until()), (Some(NOW.plus(7)), Some(NOW.plus(500))));
        assert_eq!((token.by.as_deref(), token.region.as_deref()), (Some("ada"), Some("eu")));
        assert_eq!(whose(&next, "one", NOW).as_deref(), Some("eu 100"));
        let mut kept = Vec::new();
        store
            .range(Table::Judgement, &[], &[u8::MAX], &mut |_, value| {
                kept.extend_from_slice(value);
                ControlFlow::Continue(())
            })
            .unwrap();
        assert!(!String::from_utf8(kept).unwrap().contains("two"), "no secret is kept");
    }

    #[test]
    fn there_are_so_many_and_no_two_alike() {
        let issued = Issued::default();
        issued.issue(wanted("eu", "one", None), NOW).unwrap();
        let refused = |name: &str, secret: &str| issued.issue(wanted(name, secret, None), NOW).err();
        assert!(matches!(refused("eu", "two"), Some(NotIssued::Exists(_))));
        assert!(matches!(refused("us", "one"), Some(NotIssued::Taken)));
        for number in 1..TOKENS_MAX {
            issued.issue(wanted(&format!("t{number}"), &number.to_string(), None), NOW).unwrap();
        }
        assert!(matches!(refused("more", "more"), Some(NotIssued::Full)));
        assert!(matches!(issued.revoke("nobody", false), Err(NotIssued::Unknown(_))));
    }
}
