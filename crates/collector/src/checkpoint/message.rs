//! The parts of a checkpoint, as protobuf. Field numbers are never used again for something else.

use prost::Message;

/// What is kept of the live window, slots aside. Written and read whole.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Kept {
    /// The first second of a collector's first life.
    #[prost(uint64, tag = "1")]
    pub(crate) started: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) settled_until: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) untold_until: u64,
    /// The first second that the ledger does not hold yet.
    #[prost(uint64, tag = "4")]
    pub(crate) ledger_until: u64,
    /// Texts that others are numbers of.
    #[prost(string, repeated, tag = "5")]
    pub(crate) texts: Vec<String>,
    /// The tags of every series, in order: nine texts each, in the order of `Tag::ALL`.
    #[prost(uint32, repeated, tag = "6")]
    pub(crate) tags: Vec<u32>,
    #[prost(message, optional, tag = "7")]
    pub(crate) lives: Option<Lives>,
    #[prost(message, optional, tag = "8")]
    pub(crate) losses: Option<Losses>,
    #[prost(message, repeated, tag = "9")]
    pub(crate) vantages: Vec<Vantage>,
    /// Lists of series that rosters and statements name.
    #[prost(message, repeated, tag = "10")]
    pub(crate) lists: Vec<SeriesList>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) rosters: Vec<Roster>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) agents: Vec<Agent>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) events: Vec<Event>,
    /// The names that series carry to storage.
    #[prost(message, repeated, tag = "14")]
    pub(crate) stored: Vec<StoredName>,
    /// Names that two series carry.
    #[prost(string, repeated, tag = "15")]
    pub(crate) shared_names: Vec<String>,
    #[prost(message, repeated, tag = "16")]
    pub(crate) introduced: Vec<Introduced>,
}

/// When each series is scheduled, in columns.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Lives {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) from: Vec<u64>,
    /// 0 for one that goes on.
    #[prost(uint64, repeated, tag = "2")]
    pub(crate) until: Vec<u64>,
    #[prost(uint64, repeated, tag = "3")]
    pub(crate) told_until: Vec<u64>,
    /// 0 the sender, 1 storage, 2 nothing.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) proofs: Vec<u8>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) pauses: Vec<Pause>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Pause {
    #[prost(uint32, tag = "1")]
    pub(crate) series: u32,
    #[prost(message, required, tag = "2")]
    pub(crate) span: Span,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Span {
    #[prost(uint64, tag = "1")]
    pub(crate) from: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) until: u64,
}

/// What is known of slots that were not delivered, in columns, in order of time.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Losses {
    #[prost(message, repeated, tag = "1")]
    pub(crate) kinds: Vec<Loss>,
    #[prost(uint64, repeated, tag = "2")]
    pub(crate) seconds: Vec<u64>,
    #[prost(uint32, repeated, tag = "3")]
    pub(crate) series: Vec<u32>,
    /// Each slot's place in `kinds`.
    #[prost(uint32, repeated, tag = "4")]
    pub(crate) kind: Vec<u32>,
}

/// A loss by the names that contracts have for it.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Loss {
    #[prost(string, tag = "1")]
    pub(crate) phase: String,
    #[prost(bool, tag = "2")]
    pub(crate) is_local: bool,
    #[prost(string, tag = "3")]
    pub(crate) fault: String,
    #[prost(uint32, tag = "4")]
    pub(crate) status: u32,
    #[prost(string, optional, tag = "5")]
    pub(crate) reached: Option<String>,
    #[prost(string, optional, tag = "6")]
    pub(crate) address: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Vantage {
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
}

/// The series of a roster, each with its first full slot.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SeriesList {
    #[prost(uint32, repeated, tag = "1")]
    pub(crate) series: Vec<u32>,
    #[prost(uint64, repeated, tag = "2")]
    pub(crate) from: Vec<u64>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Roster {
    #[prost(fixed64, tag = "1")]
    pub(crate) id: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) vantage: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) since: u64,
    #[prost(uint32, tag = "4")]
    pub(crate) list: u32,
    /// The name of the token under which it came.
    #[prost(string, tag = "5")]
    pub(crate) token: String,
}

/// A roster of an agent, by its token and its hash.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct RosterKey {
    #[prost(string, tag = "1")]
    pub(crate) token: String,
    #[prost(fixed64, tag = "2")]
    pub(crate) id: u64,
}

/// How many series were first heard of under a token.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Introduced {
    #[prost(string, tag = "1")]
    pub(crate) token: String,
    #[prost(uint64, tag = "2")]
    pub(crate) series: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Agent {
    #[prost(uint32, tag = "1")]
    pub(crate) vantage: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) first_report_us: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) last_report_us: u64,
    #[prost(fixed64, tag = "4")]
    pub(crate) boot: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) sequence: u64,
    #[prost(uint32, tag = "6")]
    pub(crate) epoch: u32,
    #[prost(string, tag = "7")]
    pub(crate) configuration: String,
    #[prost(uint64, tag = "8")]
    pub(crate) dropped: u64,
    #[prost(uint64, tag = "9")]
    pub(crate) series: u64,
    #[prost(sint64, tag = "10")]
    pub(crate) clock_offset_us: i64,
    #[prost(bool, tag = "11")]
    pub(crate) is_double: bool,
    #[prost(message, optional, tag = "12")]
    pub(crate) roster: Option<RosterKey>,
    #[prost(bool, tag = "13")]
    pub(crate) is_warned: bool,
    #[prost(message, repeated, tag = "14")]
    pub(crate) statements: Vec<Statement>,
    #[prost(uint64, tag = "15")]
    pub(crate) forgotten_until: u64,
    #[prost(uint64, tag = "16")]
    pub(crate) heard_us: u64,
    #[prost(uint64, tag = "17")]
    pub(crate) wall_us: u64,
    #[prost(message, repeated, tag = "18")]
    pub(crate) others: Vec<OtherLife>,
    #[prost(message, repeated, tag = "19")]
    pub(crate) rosters: Vec<RosterKey>,
    #[prost(message, repeated, tag = "20")]
    pub(crate) certificates: Vec<Certificate>,
    #[prost(message, repeated, tag = "21")]
    pub(crate) suspect: Vec<Span>,
    #[prost(uint64, tag = "22")]
    pub(crate) settled_until: u64,
    #[prost(string, tag = "30")]
    pub(crate) program: String,
    #[prost(uint32, tag = "31")]
    pub(crate) report_version: u32,
    #[prost(bool, tag = "24")]
    pub(crate) takes_services: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Statement {
    #[prost(uint64, tag = "1")]
    pub(crate) since: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) told_us: u64,
    #[prost(fixed64, tag = "3")]
    pub(crate) roster_id: u64,
    #[prost(fixed64, tag = "4")]
    pub(crate) boot: u64,
    #[prost(uint32, tag = "5")]
    pub(crate) list: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct OtherLife {
    #[prost(fixed64, tag = "1")]
    pub(crate) boot: u64,
    #[prost(sint64, tag = "2")]
    pub(crate) clock_offset_us: i64,
    #[prost(uint64, tag = "3")]
    pub(crate) since_us: u64,
    #[prost(bool, optional, tag = "4")]
    pub(crate) may_return: Option<bool>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Certificate {
    #[prost(string, tag = "1")]
    pub(crate) endpoint: String,
    #[prost(string, tag = "2")]
    pub(crate) address: String,
    #[prost(int64, tag = "3")]
    pub(crate) not_after: i64,
    #[prost(uint64, tag = "4")]
    pub(crate) told_us: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Event {
    #[prost(uint64, tag = "1")]
    pub(crate) at: u64,
    /// `address_added` and `address_removed` have host, address and vantage, others the rest.
    #[prost(string, tag = "2")]
    pub(crate) kind: String,
    #[prost(string, tag = "3")]
    pub(crate) host: String,
    #[prost(string, tag = "4")]
    pub(crate) address: String,
    #[prost(uint32, tag = "5")]
    pub(crate) vantage: u32,
    #[prost(string, tag = "6")]
    pub(crate) text: String,
    #[prost(string, optional, tag = "7")]
    pub(crate) service: Option<String>,
    #[prost(string, optional, tag = "8")]
    pub(crate) by: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredName {
    #[prost(uint32, tag = "1")]
    pub(crate) series: u32,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// It owns the name.
    #[prost(bool, tag = "3")]
    pub(crate) is_owner: bool,
    /// The first second that storage showed of it.
    #[prost(uint64, optional, tag = "4")]
    pub(crate) first: Option<u64>,
}
