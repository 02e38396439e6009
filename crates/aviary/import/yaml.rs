//! YAML with the line of everything.

use anyhow::anyhow;
use saphyr::{LoadableYamlNode as _, MarkedYamlOwned, ScalarOwned as Scalar, YamlDataOwned as YamlData};

/// A value, and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Node<'y>(&'y MarkedYamlOwned);

/// Does `with` the first document in `text`, the file `name`.
pub(super) fn document<T>(name: &str, text: &str, with: impl FnOnce(Node<'_>) -> T) -> anyhow::Result<T> {
    let documents =
        MarkedYamlOwned::load_from_str(text).map_err(|error| anyhow!("{name}: this is no YAML: {error}"))?;
    let first = documents.first().ok_or_else(|| anyhow!("{name}: nothing is in it"))?;
    Ok(with(Node(first)))
}

impl<'y> Node<'y> {
    /// Its line, from 1.
    pub(super) fn line(self) -> usize {
        self.0.span.start.line()
    }

    /// Its keys and their values; none where it is no mapping.
    pub(super) fn entries(self) -> impl Iterator<Item = (Node<'y>, Node<'y>)> {
        let entries = match &self.0.data {
            YamlData::Mapping(mapping) => Some(mapping),
            _ => None,
        };
        entries.into_iter().flatten().map(|(key, value)| (Self(key), Self(value)))
    }

    /// Its value of `key`, if it has one that is not null.
    pub(super) fn get(self, key: &str) -> Option<Self> {
        let found = self.entries().find(|(given, _)| given.text().as_deref() == Some(key))?;
        Some(found.1).filter(|value| !matches!(value.0.data, YamlData::Value(Scalar::Null)))
    }

    /// The value under one key below the other.
    pub(super) fn at(self, keys: &[&str]) -> Option<Self> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// What is in it, where it is a list.
    pub(super) fn items(self) -> impl Iterator<Item = Node<'y>> {
        let items = match &self.0.data {
            YamlData::Sequence(items) => items.as_slice(),
            _ => &[],
        };
        items.iter().map(Node)
    }

    /// What it says, where it is neither a list nor a mapping.
    pub(super) fn text(self) -> Option<String> {
        Some(match &self.0.data {
            YamlData::Value(Scalar::String(text)) | YamlData::Representation(text, ..) => text.clone(),
            YamlData::Value(Scalar::Boolean(is_so)) => is_so.to_string(),
            YamlData::Value(Scalar::Integer(number)) => number.to_string(),
            YamlData::Value(Scalar::FloatingPoint(number)) => number.to_string(),
            _ => return None,
        })
    }

    /// What `key` says.
    pub(super) fn word(self, key: &str) -> Option<String> {
        self.get(key).and_then(Self::text)
    }

    /// Whether `key` says so.
    pub(super) fn is(self, key: &str) -> bool {
        self.word(key).as_deref() == Some("true")
    }
}
