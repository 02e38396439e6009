//! What is remembered of each series, so that its slots mean the same after a restart.

use std::net::IpAddr;

use aviary_core::{Endpoint, Second, Series, SeriesId, Span, Tag, Vantage, vantage::ABSENT, window::Proof};
use bytes::Bytes;

use super::{
    codec,
    varint::{Damage, Reader, put, put_text},
};

/// Behind every series.
pub(super) const KEY_END: [u8; 5] = [u8::MAX; 5];

const FORM: u8 = 0x30;

/// What is remembered of one series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) series: SeriesId,
    /// In the order of [`Tag::ALL`].
    pub(crate) tags: [String; Tag::ALL.len()],
    /// From its first full slot to its removal.
    pub(crate) life: Span,
    pub(crate) proof: Proof,
    /// What showed delivery before, each until when.
    pub(crate) former: Vec<(Second, Proof)>,
    /// Where agents were told not to probe it.
    pub(crate) pauses: Vec<Span>,
}

const PROOFS: [Proof; 3] = [Proof::Sender, Proof::Storage, Proof::Nothing];

impl Record {
    pub(super) fn key(&self) -> Bytes {
        Bytes::copy_from_slice(&self.series.0.to_be_bytes())
    }

    pub(super) fn encode(&self) -> Bytes {
        let Self { series: _, tags, life, proof, former, pauses } = self;
        let mut body = Vec::new();
        tags.iter().for_each(|tag| put_text(&mut body, tag));
        put(&mut body, life.from.0);
        put(&mut body, life.until.0);
        put(&mut body, *proof as u64);
        put(&mut body, former.len() as u64);
        for (until, proof) in former {
            put(&mut body, until.0);
            put(&mut body, *proof as u64);
        }
        put(&mut body, pauses.len() as u64);
        for pause in pauses {
            put(&mut body, pause.from.0);
            put(&mut body, pause.until.0);
        }
        codec::framed(FORM, &body)
    }

    pub(super) fn decode(key: &[u8], bytes: &[u8]) -> Result<Self, Damage> {
        let key = <[u8; 4]>::try_from(key).map_err(|_| Damage("its key is none of ours"))?;
        let (form, body) = codec::unframed(bytes)?;
        if form != FORM {
            return Err(Damage("its form is not known here; a newer aviary may have written it"));
        }
        let mut reader = Reader::new(body);
        let mut tags: [String; Tag::ALL.len()] = Default::default();
        for tag in &mut tags {
            *tag = reader.text()?.to_owned();
        }
        let second = |reader: &mut Reader<'_>| reader.number().map(Second);
        let span = |reader: &mut Reader<'_>| Ok(Span::new(second(reader)?, second(reader)?));
        let proof = |reader: &mut Reader<'_>| {
            let place = reader.at_most(PROOFS.len() as u64 - 1, "what shows delivery is not known here")?;
            Ok(PROOFS[place as usize])
        };
        let life = span(&mut reader)?;
        let now = proof(&mut reader)?;
        let former = reader.list(|reader| Ok((second(reader)?, proof(reader)?)))?;
        let pauses = reader.list(span)?;
        Ok(Self { series: SeriesId(u32::from_be_bytes(key)), tags, life, proof: now, former, pauses })
    }

    /// The series that has these tags.
    pub(crate) fn series(&self) -> Result<Series, Damage> {
        let tag = |tag: Tag| &self.tags[tag as usize];
        let optional = |of: Tag| Some(tag(of)).filter(|value| *value != ABSENT).cloned();
        let endpoint: Endpoint = tag(Tag::Endpoint).parse().map_err(|_| Damage("its endpoint is no URL"))?;
        let address: Option<IpAddr> = match optional(Tag::Address) {
            Some(address) => Some(address.parse().map_err(|_| Damage("its address is none"))?),
            None => None,
        };
        let vantage = Vantage {
            kind: tag(Tag::Kind).parse().map_err(|_| Damage("its kind of vantage is not known here"))?,
            region: tag(Tag::Region).clone(),
            zone: optional(Tag::Zone),
            network: optional(Tag::Network),
            node: tag(Tag::Node).clone(),
        };
        Ok(Series { service: tag(Tag::Service).clone(), vantage, endpoint, address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_and_names_its_series() {
        let series = Series {
            service: "ingest".to_owned(),
            vantage: Vantage {
                kind: aviary_core::VantageKind::External,
                region: "eu".to_owned(),
                zone: None,
                network: Some("aws".to_owned()),
                node: "canary-7".to_owned(),
            },
            endpoint: "pickle+tls://[::1]:2040".parse().unwrap(),
            address: Some("192.0.2.1".parse().unwrap()),
        };
        let record = Record {
            series: SeriesId(7),
            tags: std::array::from_fn(|tag| series.tag(Tag::ALL[tag]).into_owned()),
            life: Span::new(Second(9), Second(u64::MAX)),
            proof: Proof::Nothing,
            former: vec![(Second(5), Proof::Storage)],
            pauses: vec![Span::new(Second(1), Second(2))],
        };
        assert_eq!(Record::decode(&record.key(), &record.encode()), Ok(record.clone()));
        assert_eq!(record.series(), Ok(series));
        for proof in PROOFS {
            assert_eq!(PROOFS[proof as usize], proof, "numbers in what is stored never change");
        }
    }
}
