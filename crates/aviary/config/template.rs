//! Endpoints whose URL is completed where they are probed: `tcp://{node}:2003`. So one file serves a thousand nodes, and one
//! list of services every kind of vantage.

use std::fmt;

use aviary_core::{Endpoint, Protocol, Vantage, named};

use super::{context::Refusal, reader::closest, scalar::parse_endpoint, source::quotable};

named! {
    /// What may stand in braces.
    pub(crate) enum Field {
        /// The node that is probed: its own on a node itself, each of the service's `nodes` elsewhere.
        Node = "node",
        /// The region that is probed from.
        Region = "region",
        /// The zone that is probed from.
        Zone = "zone",
    }
}

/// A URL with fields in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
    protocol: Protocol,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

impl Template {
    /// Whether `text` is meant as one.
    pub(crate) fn is_meant(text: &str) -> bool {
        text.contains(['{', '}'])
    }

    /// The template that `text` is.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err(Refusal::new("`{` is never closed").help("write such as tcp://{node}:2003"));
            };
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Field(field(name)?));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        if parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains('}'))) {
            return Err(Refusal::new("`}` closes nothing").help("write such as tcp://{node}:2003"));
        }
        // Whatever is wrong beside the fields is wrong with any value in them.
        let protocol = parse_endpoint(&filled(&parts, |_| "x"))?.protocol();
        Ok(Self { parts, protocol })
    }

    /// The protocol, which is the same wherever it is completed.
    pub(crate) const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether `field` stands in it.
    pub(super) fn has(&self, field: Field) -> bool {
        self.parts.contains(&Part::Field(field))
    }

    /// The endpoint as it is probed from `vantage`, at `node`. What the cloud is yet to be asked for has no text here.
    pub(super) fn completed(&self, vantage: Option<&Vantage>, node: &str) -> Result<Endpoint, Refusal> {
        let region = vantage.map(|vantage| vantage.region.as_str());
        let zone = vantage.and_then(|vantage| vantage.zone.as_deref());
        for (field, value) in [(Field::Region, region), (Field::Zone, zone)] {
            let why = match value {
                None => "has none",
                Some("auto") => "leaves it to the cloud to say",
                Some(_) => continue,
            };
            if self.has(field) {
                let message = format!("{self} needs the vantage's {field}, and [vantage] {why}");
                return Err(Refusal::new(message).help(format!("write {field} = \"...\" in [vantage]")));
            }
        }
        let text = filled(&self.parts, |field| match field {
            Field::Node => node,
            Field::Region => region.unwrap_or_default(),
            Field::Zone => zone.unwrap_or_default(),
        });
        // A value that holds more than a part of a host name must not become another port or path.
        let parsed = parse_endpoint(&text).ok().filter(|_| is_part_of_host(node));
        parsed.ok_or_else(|| {
            let message = format!("{self} would be {}, which is no endpoint", quotable(&text));
            Refusal::new(message)
                .help("a node that is probed has a host's name: letters, digits, `-`, `_` and dots")
        })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Field(field) => write!(f, "{{{field}}}"),
        })
    }
}

fn field(name: &str) -> Result<Field, Refusal> {
    name.parse().map_err(|_| {
        let names: Vec<&str> = Field::ALL.iter().map(|field| field.name()).collect();
        let help = match closest(name, names) {
            Some(name) => format!("did you mean {{{name}}}?"),
            None => "the fields are {node}, {region} and {zone}".to_owned(),
        };
        Refusal::new(format!("`{{{}}}` is not known here", quotable(name))).help(help)
    })
}

fn filled<'v>(parts: &[Part], value: impl Fn(Field) -> &'v str) -> String {
    let text = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Field(field) => value(*field).to_owned(),
    };
    parts.iter().map(text).collect()
}

fn is_part_of_host(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use aviary_core::VantageKind;

    use super::*;

    fn vantage() -> Vantage {
        Vantage {
            kind: VantageKind::Loopback,
            region: "eu-west-1".to_owned(),
            zone: None,
            network: None,
            node: "gr-1".to_owned(),
        }
    }

    fn completed(text: &str, node: &str) -> Result<String, String> {
        let template = Template::parse(text).map_err(|refusal| refusal.message)?;
        let endpoint = template.completed(Some(&vantage()), node);
        endpoint.map(|endpoint| endpoint.to_string()).map_err(|refusal| refusal.message)
    }

    #[test]
    fn a_template_is_completed_where_it_is_probed() {
        let table = [
            ("tcp://{node}:2003", "gr-1", Ok("tcp://gr-1:2003")),
            ("tls://{node}.{region}.example.com:2030", "gr-1", Ok("tls://gr-1.eu-west-1.example.com:2030")),
            ("https://{node}/api/v1/sink", "GR-1", Ok("https://gr-1:443/api/v1/sink")),
            ("tcp://{node}:2003", "192.0.2.7", Ok("tcp://192.0.2.7:2003")),
            ("tcp://graphite.{region}.net:1", "", Ok("tcp://graphite.eu-west-1.net:1")),
            ("tcp://{nod}:2003", "gr-1", Err("`{nod}` is not known here")),
            ("tcp://{}:2003", "gr-1", Err("`{}` is not known here")),
            ("tcp://{node:2003", "gr-1", Err("`{` is never closed")),
            ("tcp://node}:2003", "gr-1", Err("`}` closes nothing")),
            ("tcp://{node}", "gr-1", Err("the port is missing; it may be left out for https only")),
            (
                "tcp://{zone}.net:1",
                "gr-1",
                Err("tcp://{zone}.net:1 needs the vantage's zone, and [vantage] has none"),
            ),
            (
                "tcp://{node}:2003",
                "gr 1",
                Err("tcp://{node}:2003 would be tcp://gr 1:2003, which is no endpoint"),
            ),
            (
                "https://{node}/sink",
                "h:1/other",
                Err("https://{node}/sink would be https://h:1/other/sink, which is no endpoint"),
            ),
        ];
        for (text, node, expected) in table {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(completed(text, node), expected, "{text} {node}");
        }
        assert_eq!(Template::parse("tls://{node}.{zone}:1").unwrap().to_string(), "tls://{node}.{zone}:1");
    }
}
