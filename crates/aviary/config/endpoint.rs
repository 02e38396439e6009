//! `endpoints` of a `[[service]]`: what is probed, as a URL, as a template of one, or as a question that finds some.

use std::collections::BTreeSet;

use aviary_core::{AcceptableLoss, Endpoint, VantageKind};

use super::{
    context::Refusal,
    discovery::{self, Discovery},
    kind::{Boolean, Either, Kind, Or, choice, member, some, table, text, values},
    reader::Reader,
    scalar,
    template::Template,
};

/// One endpoint of a service.
#[derive(Clone, Debug)]
pub(crate) struct ServiceEndpoint {
    /// What is probed.
    pub(crate) endpoint: Endpoint,
    /// Whether its loss is the service's.
    pub(crate) required: bool,
    /// Which of a name's addresses is probed.
    pub(crate) addresses: Addresses,
    /// From which kinds of vantage.
    pub(crate) kinds: Kinds,
    /// How it was found, if it does not stand in a file.
    pub(crate) found: Option<discovery::Found>,
}

/// Which of a name's addresses is probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Addresses {
    /// The first that the lookup gave.
    First,
    /// Each in turn, second by second.
    #[default]
    Rotate,
    /// All of them each second: each has a series of its own.
    All,
}

impl Addresses {
    /// The word that the file has for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Rotate => "rotate",
            Self::All => "all",
        }
    }
}

/// Kinds of vantage, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kinds(BTreeSet<VantageKind>);

impl Default for Kinds {
    fn default() -> Self {
        Self(VantageKind::ALL.iter().copied().collect())
    }
}

impl Kinds {
    /// Whether `kind` is one of them; where nothing probes, any will do.
    pub(crate) fn has(&self, kind: Option<VantageKind>) -> bool {
        kind.is_none_or(|kind| self.0.contains(&kind))
    }

    /// Whether a vantage may be of both.
    pub(super) fn meet(&self, other: &Self) -> bool {
        !self.0.is_disjoint(&other.0)
    }

    /// Those for which `is_wanted` holds, if there are any.
    pub(super) fn only(&self, is_wanted: impl Fn(VantageKind) -> bool) -> Option<Self> {
        let kinds: BTreeSet<_> = self.0.iter().copied().filter(|kind| is_wanted(*kind)).collect();
        (!kinds.is_empty()).then_some(Self(kinds))
    }

    /// The words that the file has for them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|kind| kind.name())
    }
}

/// An item of `endpoints` as it stands in the file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) what: What,
    pub(super) required: bool,
    pub(super) acceptable_loss: Option<AcceptableLoss>,
    pub(super) addresses: Option<Addresses>,
    pub(super) kinds: Kinds,
    pub(super) node: Option<String>,
}

/// What an item stands for.
#[derive(Clone, Debug)]
pub(super) enum What {
    Endpoint(Endpoint),
    Template(Template),
    Discovery(Discovery),
}

impl Entry {
    fn new(what: What) -> Self {
        Self {
            what,
            required: true,
            acceptable_loss: None,
            addresses: None,
            kinds: Kinds::default(),
            node: None,
        }
    }
}

/// Which of a name's addresses is probed.
pub(super) const ADDRESSES_ABOUT: &str =
    "which of a name's addresses is probed: each in turn (rotate), all of them each second, or the first";

/// See [`Addresses`].
pub(super) fn addresses() -> impl Kind<Output = Addresses> {
    choice([Addresses::Rotate, Addresses::All, Addresses::First].map(|choice| (choice.name(), choice)))
}

/// An item of `endpoints`.
pub(super) fn entry() -> impl Kind<Output = Or<What, Entry>> {
    Either(url(), table("{ url = \"tcp://graphite.example.com:2003\" }", entry_table))
}

/// The item, however it was written.
pub(super) fn entry_of(given: Or<What, Entry>) -> Entry {
    match given {
        Or::First(what) => Entry::new(what),
        Or::Second(entry) => entry,
    }
}

fn url() -> impl Kind<Output = What> {
    text("an endpoint's URL", "tcp://graphite.example.com:2003", |given| {
        if Template::is_meant(given) {
            Template::parse(given).map(What::Template)
        } else {
            scalar::parse_endpoint(given).map(What::Endpoint)
        }
    })
}

fn entry_table(reader: &mut Reader<'_>) -> Option<Entry> {
    let about = "where it is; {node}, {region} and {zone} are those of who probes it";
    // Which other keys may stand for it, is said where one of them is given.
    let is_found = discovery::is_meant(reader) || reader.context().is_describing();
    let url =
        if is_found { reader.optional("url", about, url()) } else { reader.required("url", about, url()) };
    let found = discovery::discovery(reader);
    let required = reader.optional("required", "whether its loss is the service's; true by default", Boolean);
    let acceptable_loss = reader.optional("acceptable_loss", "what may be lost of it", scalar::share());
    let addresses = reader.optional("addresses", ADDRESSES_ABOUT, addresses());
    let about = "the kinds of vantage that probe it; all by default";
    let kinds = reader.optional("kinds", about, some(member(VantageKind::ALL)));
    let about = "which node of the service it is, for [service.rotation]; its host by default";
    let node = reader.optional("node", about, scalar::line("n1"));

    let what = url.or_else(|| found.map(What::Discovery))?;
    if !matches!(what, What::Endpoint(_)) {
        for key in ["required", "acceptable_loss", "node"] {
            if reader.has(key) {
                let message = format!("`{key}` is of one endpoint, and this may become many");
                let help = "give them a [[service]] of their own, and say there what it may lose";
                reader.refuse(key, Refusal::new(message).help(help));
            }
        }
    }
    Some(Entry {
        acceptable_loss,
        addresses,
        required: required.unwrap_or(true),
        kinds: kinds.map_or_else(Kinds::default, |kinds| Kinds(values(kinds).into_iter().collect())),
        node,
        what,
    })
}
