//! The messages of report version 1, as they stood in the last commit before version 2: what a collector of then reads, and
//! an agent of then writes. Never to be changed.

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Report {
    #[prost(fixed64, tag = "1")]
    pub(crate) boot: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) sequence: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) epoch: u32,
    #[prost(uint64, tag = "4")]
    pub(crate) wall_us: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) monotonic_us: u64,
    #[prost(string, tag = "6")]
    pub(crate) configuration: String,
    #[prost(uint64, tag = "7")]
    pub(crate) dropped: u64,
    #[prost(fixed64, tag = "8")]
    pub(crate) roster_id: u64,
    #[prost(message, optional, tag = "9")]
    pub(crate) roster: Option<Roster>,
    #[prost(uint64, tag = "10")]
    pub(crate) first_second: u64,
    #[prost(message, repeated, tag = "11")]
    pub(crate) seconds: Vec<SecondRuns>,
    #[prost(message, optional, tag = "12")]
    pub(crate) failures: Option<Failures>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) gaps: Vec<Gap>,
    #[prost(message, repeated, tag = "14")]
    pub(crate) timings: Vec<Timings>,
    #[prost(message, repeated, tag = "16")]
    pub(crate) events: Vec<Event>,
    #[prost(message, repeated, tag = "17")]
    pub(crate) certificates: Vec<Certificate>,
    #[prost(message, repeated, tag = "18")]
    pub(crate) self_suspect: Vec<Suspect>,
    #[prost(message, repeated, tag = "19")]
    pub(crate) paged: Vec<Paged>,
    #[prost(bool, tag = "2047")]
    pub(crate) complete: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Event {
    #[prost(uint64, tag = "1")]
    pub(crate) second: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) kind: u32,
    #[prost(string, tag = "3")]
    pub(crate) host: String,
    #[prost(string, tag = "4")]
    pub(crate) address: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Paged {
    #[prost(uint64, tag = "1")]
    pub(crate) second: u64,
    #[prost(string, tag = "2")]
    pub(crate) service: String,
    #[prost(string, tag = "3")]
    pub(crate) key: String,
    #[prost(string, tag = "4")]
    pub(crate) receiver: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Certificate {
    #[prost(string, tag = "1")]
    pub(crate) endpoint: String,
    #[prost(string, tag = "2")]
    pub(crate) address: String,
    #[prost(int64, tag = "3")]
    pub(crate) not_after: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Suspect {
    #[prost(uint64, tag = "1")]
    pub(crate) from: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) seconds: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Roster {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(string, tag = "2")]
    pub(crate) region: String,
    #[prost(string, optional, tag = "3")]
    pub(crate) zone: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(crate) network: Option<String>,
    #[prost(string, tag = "5")]
    pub(crate) node: String,
    #[prost(message, repeated, tag = "6")]
    pub(crate) series: Vec<Series>,
    #[prost(uint64, tag = "7")]
    pub(crate) since: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Series {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
    #[prost(string, tag = "2")]
    pub(crate) endpoint: String,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    #[prost(uint64, tag = "4")]
    pub(crate) from: u64,
    #[prost(string, optional, tag = "5")]
    pub(crate) address: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Timings {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
    #[prost(string, tag = "2")]
    pub(crate) protocol: String,
    #[prost(uint32, tag = "3")]
    pub(crate) phase: u32,
    #[prost(uint64, tag = "4")]
    pub(crate) minute: u64,
    #[prost(uint32, repeated, tag = "5")]
    pub(crate) steps: Vec<u32>,
    #[prost(uint64, repeated, tag = "6")]
    pub(crate) counts: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SecondRuns {
    #[prost(uint64, tag = "1")]
    pub(crate) after: u64,
    #[prost(uint32, repeated, tag = "2")]
    pub(crate) runs: Vec<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Failures {
    #[prost(uint32, repeated, tag = "1")]
    pub(crate) phases: Vec<u32>,
    #[prost(uint32, repeated, tag = "2")]
    pub(crate) faults: Vec<u32>,
    #[prost(uint32, repeated, tag = "3")]
    pub(crate) reached: Vec<u32>,
    #[prost(uint32, repeated, tag = "4")]
    pub(crate) address: Vec<u32>,
    #[prost(string, repeated, tag = "5")]
    pub(crate) addresses: Vec<String>,
    #[prost(uint32, repeated, tag = "6")]
    pub(crate) statuses: Vec<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Gap {
    #[prost(uint32, tag = "1")]
    pub(crate) first: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) count: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) from: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) seconds: u64,
    #[prost(uint32, tag = "5")]
    pub(crate) code: u32,
    #[prost(uint32, tag = "6")]
    pub(crate) phase: u32,
    #[prost(uint32, tag = "7")]
    pub(crate) fault: u32,
}
