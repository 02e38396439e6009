//! The format of pprof: `profile.proto` of github.com/google/pprof, of which only what is used here, packed.

use std::{collections::HashMap, io::Write as _};

use flate2::{Compression, write::GzEncoder};
use prost::Message;

/// What is counted, and in which unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind(pub(super) &'static str, pub(super) &'static str);

/// A function on a stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Frame {
    /// Its name.
    pub(super) name: String,
    /// Where it is written.
    pub(super) file: String,
    /// And in which line it is; 0 where nobody knows.
    pub(super) line: u32,
}

/// A stack, and what was counted of it.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// From the innermost on: the functions at each place, of which all but the last are inlined.
    pub(super) frames: Vec<Vec<Frame>>,
    /// In the order of the kinds.
    pub(super) values: Vec<i64>,
    /// Which thread's it is, if that is known.
    pub(super) thread: Option<String>,
}

/// A profile of `kinds`, one of each `period` that passed, made in so many seconds from a time in microseconds on.
pub(super) fn encode(
    kinds: &[Kind],
    (period_kind, period): (Kind, i64),
    samples: impl Iterator<Item = Sample>,
    (began_us, seconds): (u64, u64),
) -> Vec<u8> {
    let mut tables = Tables::default();
    tables.text("");
    let thread = tables.text("thread");
    let samples = samples.map(|sample| proto::Sample {
        location_id: sample.frames.into_iter().map(|frames| tables.location(frames)).collect(),
        value: sample.values,
        label: sample
            .thread
            .iter()
            .map(|name| proto::Label { key: thread, str: tables.text(name) })
            .collect(),
    });
    let sample = samples.collect();
    let mut kind =
        |Kind(name, unit): Kind| proto::ValueType { r#type: tables.text(name), unit: tables.text(unit) };
    let sample_type = kinds.iter().map(|it| kind(*it)).collect();
    let period_type = Some(kind(period_kind));
    let profile = proto::Profile {
        sample_type,
        sample,
        location: tables.locations,
        function: tables.functions,
        string_table: tables.texts,
        time_nanos: i64::try_from(began_us.saturating_mul(1_000)).unwrap_or(i64::MAX),
        duration_nanos: i64::try_from(seconds.saturating_mul(1_000_000_000)).unwrap_or(i64::MAX),
        period_type,
        period,
    };
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory does not fail.
    _ = packed.write_all(&profile.encode_to_vec());
    packed.finish().unwrap_or_default()
}

/// What is written once, and referred to by its place.
#[derive(Default)]
struct Tables {
    texts: Vec<String>,
    text_of: HashMap<String, i64>,
    functions: Vec<proto::Function>,
    function_of: HashMap<(i64, i64), u64>,
    locations: Vec<proto::Location>,
    location_of: HashMap<Vec<Frame>, u64>,
}

impl Tables {
    fn text(&mut self, text: &str) -> i64 {
        if let Some(place) = self.text_of.get(text) {
            return *place;
        }
        let place = self.texts.len() as i64;
        self.texts.push(text.to_owned());
        self.text_of.insert(text.to_owned(), place);
        place
    }

    fn function(&mut self, frame: &Frame) -> u64 {
        let (name, filename) = (self.text(&frame.name), self.text(&frame.file));
        // Ids begin at one.
        let next = self.functions.len() as u64 + 1;
        let id = *self.function_of.entry((name, filename)).or_insert(next);
        if id == next {
            self.functions.push(proto::Function { id, name, system_name: name, filename });
        }
        id
    }

    fn location(&mut self, frames: Vec<Frame>) -> u64 {
        if let Some(id) = self.location_of.get(&frames) {
            return *id;
        }
        let line = frames.iter();
        let line =
            line.map(|frame| proto::Line { function_id: self.function(frame), line: i64::from(frame.line) });
        let line = line.collect();
        let id = self.locations.len() as u64 + 1;
        self.locations.push(proto::Location { id, line });
        self.location_of.insert(frames, id);
        id
    }
}

/// The messages of `profile.proto`, with the numbers of their fields.
mod proto {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Profile {
        #[prost(message, repeated, tag = "1")]
        pub(super) sample_type: Vec<ValueType>,
        #[prost(message, repeated, tag = "2")]
        pub(super) sample: Vec<Sample>,
        #[prost(message, repeated, tag = "4")]
        pub(super) location: Vec<Location>,
        #[prost(message, repeated, tag = "5")]
        pub(super) function: Vec<Function>,
        #[prost(string, repeated, tag = "6")]
        pub(super) string_table: Vec<String>,
        #[prost(int64, tag = "9")]
        pub(super) time_nanos: i64,
        #[prost(int64, tag = "10")]
        pub(super) duration_nanos: i64,
        #[prost(message, optional, tag = "11")]
        pub(super) period_type: Option<ValueType>,
        #[prost(int64, tag = "12")]
        pub(super) period: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct ValueType {
        #[prost(int64, tag = "1")]
        pub(super) r#type: i64,
        #[prost(int64, tag = "2")]
        pub(super) unit: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Sample {
        #[prost(uint64, repeated, tag = "1")]
        pub(super) location_id: Vec<u64>,
        #[prost(int64, repeated, tag = "2")]
        pub(super) value: Vec<i64>,
        #[prost(message, repeated, tag = "3")]
        pub(super) label: Vec<Label>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Label {
        #[prost(int64, tag = "1")]
        pub(super) key: i64,
        #[prost(int64, tag = "2")]
        pub(super) str: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Location {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(message, repeated, tag = "4")]
        pub(super) line: Vec<Line>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Line {
        #[prost(uint64, tag = "1")]
        pub(super) function_id: u64,
        #[prost(int64, tag = "2")]
        pub(super) line: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Function {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(int64, tag = "2")]
        pub(super) name: i64,
        #[prost(int64, tag = "3")]
        pub(super) system_name: i64,
        #[prost(int64, tag = "4")]
        pub(super) filename: i64,
    }
}
