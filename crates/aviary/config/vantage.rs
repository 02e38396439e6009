//! `[vantage]`: where probes run from, as far as the file knows it.

use aviary_core::{Vantage as Settled, VantageKind};

use super::{kind::member, reader::Reader, scalar};
use crate::metadata::Place;

/// What a key says that leaves its value to the cloud's metadata service.
const AUTO: &str = "auto";

/// Where probes run from. What is `auto` is asked of the cloud when the program starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vantage {
    /// Which question its probes answer.
    pub(crate) kind: VantageKind,
    /// The cloud's or data centre's region.
    pub(crate) region: Tag,
    /// The availability zone, where there are such.
    pub(crate) zone: Option<Tag>,
    /// The network or provider, where it matters.
    pub(crate) network: Option<Tag>,
    /// The host, by a name that survives its restarts.
    pub(crate) node: String,
}

/// A tag that the cloud may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// This.
    Text(String),
    /// What the cloud's metadata service says.
    Auto,
}

impl Tag {
    /// The tag as the file has it.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Auto => AUTO,
        }
    }
}

impl Vantage {
    /// The keys whose values are for the cloud to say.
    pub(crate) fn auto(&self) -> Vec<&'static str> {
        let tags = [
            ("region", Some(&self.region)),
            ("zone", self.zone.as_ref()),
            ("network", self.network.as_ref()),
        ];
        tags.into_iter().filter_map(|(key, tag)| (tag == Some(&Tag::Auto)).then_some(key)).collect()
    }

    /// The vantage, with what `place` says where the file says `auto`. A place without zones leaves the zone out.
    pub(crate) fn settled(&self, place: &Place) -> Settled {
        let told = |tag: &Tag, place: Option<&str>| match tag {
            Tag::Text(text) => Some(text.clone()),
            Tag::Auto => place.map(str::to_owned),
        };
        Settled {
            kind: self.kind,
            region: told(&self.region, Some(&place.region)).unwrap_or_default(),
            zone: self.zone.as_ref().and_then(|zone| told(zone, place.zone.as_deref())),
            network: self.network.as_ref().and_then(|network| told(network, Some(place.network))),
            node: self.node.clone(),
        }
    }

    /// The vantage as the file has it: what is `auto` stands there as that.
    pub(crate) fn as_written(&self) -> Settled {
        let text = |tag: &Option<Tag>| tag.as_ref().map(|tag| tag.text().to_owned());
        Settled {
            kind: self.kind,
            region: self.region.text().to_owned(),
            zone: text(&self.zone),
            network: text(&self.network),
            node: self.node.clone(),
        }
    }
}

/// Reads `[vantage]`.
pub(super) fn vantage(reader: &mut Reader<'_>) -> Option<Vantage> {
    let kind = reader.optional(
        "kind",
        "which question these probes answer; external by default",
        member(VantageKind::ALL),
    );
    let region = "the cloud's or data centre's region, or \"auto\" to ask the cloud";
    let region = reader.required("region", region, scalar::line("eu-west-1"));
    let zone = "the availability zone, where there are such, or \"auto\"";
    let zone = reader.optional("zone", zone, scalar::line("eu-west-1a"));
    let network = "the network or provider, where it matters, or \"auto\"";
    let network = reader.optional("network", network, scalar::line("aws"));
    let node = reader.optional(
        "node",
        "a name that survives restarts; the host's by default",
        scalar::line("canary-7"),
    );

    let tag = |text: String| if text == AUTO { Tag::Auto } else { Tag::Text(text) };
    Some(Vantage {
        kind: kind.unwrap_or(VantageKind::External),
        region: tag(region?),
        zone: zone.map(tag),
        network: network.map(tag),
        node: node.unwrap_or_else(|| reader.context().host.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_auto_is_the_clouds_to_say_and_nothing_else() {
        let place = Place {
            network: "gcp",
            region: "europe-west1".to_owned(),
            zone: Some("europe-west1-b".to_owned()),
        };
        let without_zones = Place { zone: None, ..place.clone() };
        let text = |text: &str| Tag::Text(text.to_owned());
        let vantage = |region, zone, network| Vantage {
            kind: VantageKind::External,
            region,
            zone,
            network,
            node: "n".to_owned(),
        };
        let all = vantage(Tag::Auto, Some(Tag::Auto), Some(Tag::Auto));
        assert_eq!(all.auto(), ["region", "zone", "network"]);
        let settled = all.settled(&place);
        assert_eq!(
            (settled.region.as_str(), settled.zone.as_deref()),
            ("europe-west1", Some("europe-west1-b"))
        );
        assert_eq!(settled.network.as_deref(), Some("gcp"));
        assert_eq!(all.settled(&without_zones).zone, None);

        let one = vantage(text("here"), None, Some(Tag::Auto));
        assert_eq!(one.auto(), ["network"]);
        let settled = one.settled(&place);
        assert_eq!((settled.region.as_str(), settled.zone), ("here", None));
        assert_eq!(one.as_written().network.as_deref(), Some("auto"));
    }
}
