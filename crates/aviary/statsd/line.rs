//! Lines, as StatsD and DogStatsD have them, in packets.

use std::fmt::Write as _;

use aviary_core::graphite::sanitise;

/// A packet of this size crosses any network in one piece.
pub(super) const PACKET_MAX: usize = 1_432;

/// One metric.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// What it is called where it has tags.
    pub(super) name: &'static str,
    /// What tells it from others of that name.
    pub(super) tags: Vec<(&'static str, String)>,
    /// What it is called where it has none, sanitised and without the prefix.
    pub(super) plain: String,
    pub(super) value: Value,
}

/// What a metric says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    /// So many more.
    Count(u64),
    /// So many now: unsigned, since StatsD takes a sign for a difference.
    Gauge(u64),
    /// A duration in milliseconds.
    Timer(f64),
}

impl Line {
    /// A metric that nothing tells from others but its name.
    pub(super) fn gauge(name: &'static str, value: u64) -> Self {
        Self { name, tags: Vec::new(), plain: name.to_owned(), value: Value::Gauge(value) }
    }

    /// A metric whose tags are, in their order, what its plain name is made of.
    pub(super) fn tagged(name: &'static str, tags: &[(&'static str, &str)], value: Value) -> Self {
        let plain: Vec<_> = tags.iter().map(|(_, value)| sanitise(value)).collect();
        let tags = tags.iter().map(|(key, value)| (*key, sanitise(value).into_owned())).collect();
        Self { name, tags, plain: plain.join("."), value }
    }

    /// The same, with `plain` as its plain name.
    pub(super) fn plainly(self, plain: String) -> Self {
        Self { plain, ..self }
    }
}

/// How metrics are named.
#[derive(Clone, Debug)]
pub(crate) enum Naming {
    /// With this before the plain name.
    Plain(String),
    /// With this before the name, and these tags beside those of each.
    Tags(&'static str, Vec<(&'static str, String)>),
}

impl Naming {
    /// `lines` in packets, each no larger than crosses any network, unless one line alone is.
    pub(super) fn packets(&self, lines: &[Line]) -> Vec<String> {
        let mut packets = Vec::new();
        let mut packet = String::new();
        for line in lines {
            let line = self.written(line);
            if !packet.is_empty() && packet.len() + 1 + line.len() > PACKET_MAX {
                packets.push(std::mem::take(&mut packet));
            }
            if !packet.is_empty() {
                packet.push('\n');
            }
            packet.push_str(&line);
        }
        packets.extend(Some(packet).filter(|packet| !packet.is_empty()));
        packets
    }

    fn written(&self, line: &Line) -> String {
        let value = match line.value {
            Value::Count(count) => format!("{count}|c"),
            Value::Gauge(value) => format!("{value}|g"),
            Value::Timer(milliseconds) => format!("{milliseconds}|ms"),
        };
        match self {
            Self::Plain(prefix) => format!("{prefix}.{}:{value}", line.plain),
            Self::Tags(prefix, ours) => {
                let mut written = format!("{prefix}.{}:{value}", line.name);
                for (place, (key, value)) in ours.iter().chain(&line.tags).enumerate() {
                    let sign = if place == 0 { "|#" } else { "," };
                    // Writing to memory does not fail.
                    _ = write!(written, "{sign}{key}:{value}");
                }
                written
            }
        }
    }
}
