//! One vantage and one endpoint of a service: one datapoint a second.

use std::net::IpAddr;

use crate::{Endpoint, Vantage, catalog::Tag, graphite, vantage::ABSENT};

/// One vantage and one endpoint of a service: one datapoint a second.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    /// The service under test.
    pub service: String,
    /// Where the probes run from.
    pub vantage: Vantage,
    /// What they probe.
    pub endpoint: Endpoint,
    /// The one address of the endpoint's name that they go to, where each of its addresses has a series of its own.
    pub address: Option<IpAddr>,
}

impl Series {
    /// The value of `tag`, [`ABSENT`] where the vantage has none.
    pub fn tag(&self, tag: Tag) -> std::borrow::Cow<'_, str> {
        let vantage = &self.vantage;
        match tag {
            Tag::Address => self.address.map_or_else(|| ABSENT.into(), |address| address.to_string().into()),
            Tag::Endpoint => self.endpoint.to_string().into(),
            Tag::Kind => vantage.kind.name().into(),
            Tag::Network => vantage.network.as_deref().unwrap_or(ABSENT).into(),
            Tag::Node => vantage.node.as_str().into(),
            Tag::Protocol => self.endpoint.protocol().name().into(),
            Tag::Region => vantage.region.as_str().into(),
            Tag::Service => self.service.as_str().into(),
            Tag::Zone => vantage.zone.as_deref().unwrap_or(ABSENT).into(),
        }
    }

    /// The Graphite name: `PREFIX.SERVICE.PROTOCOL.KIND.REGION.ZONE.NETWORK.NODE.ENDPOINT`, where `ENDPOINT` is host and
    /// port, and the address where the series goes to one alone.
    ///
    /// One name belongs to one series: two canaries on one name read back as one (`last write wins` in a slot).
    pub fn graphite_name(&self, prefix: &str) -> String {
        let mut endpoint = format!("{}_{}", self.endpoint.host(), self.endpoint.port());
        if let Some(address) = self.address {
            endpoint = format!("{endpoint}_{address}");
        }
        let parts = [
            self.tag(Tag::Service),
            self.endpoint.protocol().graphite_name().into(),
            self.tag(Tag::Kind),
            self.tag(Tag::Region),
            self.tag(Tag::Zone),
            self.tag(Tag::Network),
            self.tag(Tag::Node),
            endpoint.into(),
        ];
        let mut name = prefix.split('.').map(graphite::sanitise).collect::<Vec<_>>().join(".");
        for part in parts {
            name.push('.');
            name.push_str(&graphite::sanitise(&part));
        }
        name
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::VantageKind;

    pub(crate) fn series(service: &str, region: &str, node: &str, endpoint: &str) -> Series {
        Series {
            service: service.to_owned(),
            vantage: Vantage {
                kind: VantageKind::External,
                region: region.to_owned(),
                zone: None,
                network: Some("aws".to_owned()),
                node: node.to_owned(),
            },
            endpoint: endpoint.parse().unwrap(),
            address: None,
        }
    }

    #[test]
    fn graphite_names_have_nine_safe_parts() {
        let named = series("ingest", "eu-west-1", "canary 7.example", "pickle+tls://[::1]:2040");
        assert_eq!(
            named.graphite_name("canary"),
            "canary.ingest.pickle_tls.external.eu-west-1.none.aws.canary_7_example.___1__2040"
        );
        assert!(named.graphite_name("team.canary").starts_with("team.canary.ingest."));
        let one = Series { address: Some("2001:db8::1".parse().unwrap()), ..named };
        assert!(one.graphite_name("canary").ends_with(".___1__2040_2001_db8__1"));
    }
}
