//! Series by their tags, as routes and silences name them.

use aviary_core::{Protocol, Tag, VantageKind, silence::Matches};

use super::{
    kind::{At, member, some},
    reader::Reader,
    scalar,
};

/// A value that is named, with its tag and its place.
pub(super) type Tagged = (Tag, At<String>);

/// What a tag without its key means is said of the table as a whole.
const ABOUT: &str = "any of these";

/// Reads a table with a list of values for each tag.
pub(super) fn tags(reader: &mut Reader<'_>) -> Vec<Tagged> {
    let mut tags = Vec::new();
    for tag in Tag::ALL.iter().copied() {
        let key = tag.name();
        let values = match tag {
            Tag::Address => texts(reader.optional(key, ABOUT, some(scalar::address()))),
            Tag::Endpoint => texts(reader.optional(key, ABOUT, some(scalar::endpoint()))),
            Tag::Kind => texts(reader.optional(key, ABOUT, some(member(VantageKind::ALL)))),
            Tag::Network => reader.optional(key, ABOUT, some(scalar::line("aws"))),
            Tag::Node => reader.optional(key, ABOUT, some(scalar::line("canary-7"))),
            Tag::Protocol => texts(reader.optional(key, ABOUT, some(member(Protocol::ALL)))),
            Tag::Region => reader.optional(key, ABOUT, some(scalar::line("eu-west-1"))),
            Tag::Service => reader.optional(key, ABOUT, some(scalar::name("ingest"))),
            Tag::Zone => reader.optional(key, ABOUT, some(scalar::line("eu-west-1a"))),
        };
        tags.extend(values.into_iter().flatten().map(|value| (tag, value)));
    }
    tags
}

fn texts(values: Option<Vec<At<impl ToString>>>) -> Option<Vec<At<String>>> {
    let text = |At { path, value }: At<_>| At { path, value: ToString::to_string(&value) };
    values.map(|values| values.into_iter().map(text).collect())
}

/// The same without places.
pub(super) fn matches(tags: &[Tagged]) -> Matches {
    tags.iter().fold(Matches::default(), |matches, (tag, value)| matches.and(*tag, &value.value))
}
