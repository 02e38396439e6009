//! The Graphite pickle: a 4-byte big-endian length, then a pickle of `[(name, (timestamp, value)), ...]`.
//!
//! Written as protocol 2, which every receiver reads. Read in protocols 0 to 5, by a machine that knows lists, tuples,
//! text and numbers and nothing else: what would import, call or build anything is refused by name before anything
//! behind it is looked at.

mod machine;
mod opcode;

use aviary_core::Second;

use crate::datapoint::{
    Datapoint, NameError, SecondError, ValueError, check_name, finite, parse_second, parse_value,
};
use machine::{Machine, Value};

/// The longest pickle behind a length: carbon's `PICKLE_RECEIVER_MAX_LENGTH`.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// The most datapoints in one pickle; carbon's relay sends 500. With the longest name it bounds what a pickle can
/// grow to that names one text many times.
pub const DATAPOINTS_MAX: usize = 10_000;

/// The bytes of the length before a pickle.
pub const HEADER_BYTES: usize = 4;

/// Why the length before a pickle cannot be one. Never shows the bytes: they may be the start of an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No bytes are announced.
    #[error("a frame of no bytes; send a 4-byte big-endian length and as many bytes of pickle")]
    Zero,
    /// More than [`FRAME_BYTES_MAX`].
    #[error("a frame of {bytes} bytes; at most {FRAME_BYTES_MAX} are taken: send smaller batches")]
    TooLong {
        /// What was announced.
        bytes: usize,
    },
    /// Four characters that print: a line, or a request, on the wrong port.
    #[error(
        "text where the 4-byte length of a pickle should be: is a sender of Graphite lines on the wrong port?"
    )]
    Text,
    /// What TLS begins with.
    #[error(
        "a TLS handshake where the 4-byte length of a pickle should be: is a TLS sender on the wrong port?"
    )]
    Tls,
}

/// Why bytes are no pickle of datapoints: what, and at which byte. Never shows text of the pickle: names may begin
/// with an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// More than [`FRAME_BYTES_MAX`].
    #[error("a pickle of {bytes} bytes; at most {FRAME_BYTES_MAX} are taken: send smaller batches")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The pickle ends before its `STOP`.
    #[error(
        "the pickle ends at byte {offset}, before its STOP; was the connection cut, or the length wrong?"
    )]
    Truncated {
        /// Where more was needed.
        offset: usize,
    },
    /// An opcode that a list of datapoints has no need of.
    #[error(
        "{opcode} at byte {offset} is refused: only lists, tuples, text and numbers are read, and nothing is \
         imported, called or built; send [(name, (timestamp, value)), ...]"
    )]
    Refused {
        /// Its name in Python's `pickletools`.
        opcode: &'static str,
        /// Where it is.
        offset: usize,
    },
    /// No opcode of any protocol.
    #[error("byte 0x{byte:02x} at byte {offset} is no pickle opcode")]
    Unknown {
        /// The byte.
        byte: u8,
        /// Where it is.
        offset: usize,
    },
    /// A protocol after 5.
    #[error("pickle protocol {version} at byte {offset} is not known; use 0 to 5, best 2")]
    Protocol {
        /// What was asked for.
        version: u8,
        /// Where.
        offset: usize,
    },
    /// An opcode that finds on the stack or in the memo not what it needs.
    #[error("{opcode} at byte {offset} finds no operand: the pickle is damaged")]
    NoOperand {
        /// Its name.
        opcode: &'static str,
        /// Where it is.
        offset: usize,
    },
    /// A number that cannot be read, or does not fit 64 bits.
    #[error("the number of {opcode} at byte {offset} is broken or does not fit 64 bits")]
    Number {
        /// The opcode that brings it.
        opcode: &'static str,
        /// Where it is.
        offset: usize,
    },
    /// Text that cannot be read.
    #[error("the text of {opcode} at byte {offset} is broken or longer than the pickle")]
    Text {
        /// The opcode that brings it.
        opcode: &'static str,
        /// Where it is.
        offset: usize,
    },
    /// A bound of the machine.
    #[error(
        "the pickle needs more than {limit} {what} at byte {offset}: send smaller batches, or a plainer pickle"
    )]
    Limit {
        /// Of what too many are needed.
        what: &'static str,
        /// How many there may be.
        limit: usize,
        /// Where the bound was met.
        offset: usize,
    },
    /// Something behind `STOP`.
    #[error("{bytes} bytes follow the pickle's STOP at byte {offset}; the length before it is wrong")]
    Trailing {
        /// How many.
        bytes: usize,
        /// Where `STOP` is.
        offset: usize,
    },
    /// A whole pickle, but not of a list.
    #[error("the pickle holds no list; send [(name, (timestamp, value)), ...]")]
    NotAList,
    /// One datapoint of the list is broken.
    #[error("datapoint {index} (the first is 0): {problem}")]
    Datapoint {
        /// Its place in the list.
        index: usize,
        /// What is wrong.
        problem: ItemError,
    },
}

/// What is wrong with one datapoint of a pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// Not a name with a pair.
    #[error("it is not of the form (name, (timestamp, value))")]
    Shape,
    /// A broken name; offsets are those in the name.
    #[error(transparent)]
    Name(NameError),
    /// A broken timestamp.
    #[error("the timestamp {0}")]
    Second(SecondError),
    /// A broken value.
    #[error("the value {0}")]
    Value(ValueError),
}

/// One datapoint as a frame: length and pickle.
pub fn encode_frame(name: &str, value: f64, second: Second) -> Vec<u8> {
    let mut frame = Vec::with_capacity(name.len() + 40);
    encode_frame_into(&mut frame, name, value, second);
    frame
}

/// Appends one datapoint as a frame to `out`.
///
/// # Panics
/// If the name is longer than 4 GiB.
pub fn encode_frame_into(out: &mut Vec<u8>, name: &str, value: f64, second: Second) {
    let start = out.len();
    // The length is known once the pickle is written. Then: protocol 2, empty list, mark, text.
    out.extend_from_slice(b"\0\0\0\0\x80\x02](X");
    out.extend_from_slice(&length(name.len()).to_le_bytes());
    out.extend_from_slice(name.as_bytes());
    match i32::try_from(second.0) {
        Ok(signed) => {
            out.push(b'J');
            out.extend_from_slice(&signed.to_le_bytes());
        }
        // The four-byte integer is signed and ends in 2038; every receiver takes a float as well.
        Err(_) => {
            out.push(b'G');
            out.extend_from_slice(&(second.0 as f64).to_be_bytes());
        }
    }
    out.push(b'G');
    out.extend_from_slice(&value.to_be_bytes());
    // A pair of timestamp and value, a pair of name and that, append, stop.
    out.extend_from_slice(b"\x86\x86e.");
    let bytes = length(out.len() - start - HEADER_BYTES);
    out[start..start + HEADER_BYTES].copy_from_slice(&bytes.to_be_bytes());
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("names are far shorter than 4 GiB")
}

/// The length of the pickle that follows `header`.
pub fn frame_length(header: [u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    match u32::from_be_bytes(header) as usize {
        0 => Err(FrameError::Zero),
        bytes @ 1..=FRAME_BYTES_MAX => Ok(bytes),
        _ if header.starts_with(&[0x16, 0x03]) => Err(FrameError::Tls),
        _ if header.iter().all(|byte| (b' '..=b'~').contains(byte)) => Err(FrameError::Text),
        bytes => Err(FrameError::TooLong { bytes }),
    }
}

/// Reads a pickle, without the length before it. One broken datapoint refuses the whole.
pub fn decode(pickle: &[u8]) -> Result<Vec<Datapoint>, PickleError> {
    decode_each(pickle)?.into_iter().collect()
}

/// Reads a pickle, without the length before it, so that one broken datapoint costs no other: each is read or refused
/// on its own ([`PickleError::Datapoint`]).
pub fn decode_each(pickle: &[u8]) -> Result<Vec<Result<Datapoint, PickleError>>, PickleError> {
    let loaded = Machine::load(pickle)?;
    let items = loaded.sequence(loaded.top).ok_or(PickleError::NotAList)?;
    if items.len() > DATAPOINTS_MAX {
        return Err(PickleError::Limit { what: "datapoints", limit: DATAPOINTS_MAX, offset: pickle.len() });
    }
    let read = |(index, item): (usize, &Value)| {
        datapoint(&loaded, *item).map_err(|problem| PickleError::Datapoint { index, problem })
    };
    Ok(items.iter().enumerate().map(read).collect())
}

fn datapoint(loaded: &Machine<'_>, item: Value) -> Result<Datapoint, ItemError> {
    let pair = |value| match loaded.sequence(value) {
        Some(&[first, second]) => Ok((first, second)),
        _ => Err(ItemError::Shape),
    };
    let (name, point) = pair(item)?;
    let (second, value) = pair(point)?;
    let Value::Text(name) = name else {
        return Err(ItemError::Shape);
    };
    let name = loaded.text(name);
    check_name(name, 0).map_err(ItemError::Name)?;
    let second = match second {
        Value::Int(seconds) => u64::try_from(seconds).map(Second).map_err(|_| SecondError::Negative),
        Value::Float(seconds) => second_of(seconds),
        Value::Text(text) => parse_second(loaded.text(text)),
        Value::Sequence(_) | Value::List(_) => return Err(ItemError::Shape),
    };
    let value = match value {
        Value::Int(value) => Ok(value as f64),
        Value::Float(value) => finite(value),
        Value::Text(text) => parse_value(loaded.text(text)),
        Value::Sequence(_) | Value::List(_) => return Err(ItemError::Shape),
    };
    Ok(Datapoint {
        name: String::from_utf8_lossy(name).into_owned(),
        value: value.map_err(ItemError::Value)?,
        second: second.map_err(ItemError::Second)?,
    })
}

/// The second of a float, its fraction cut off.
fn second_of(seconds: f64) -> Result<Second, SecondError> {
    // The first float that a u64 does not hold.
    const TOO_LARGE: f64 = 18_446_744_073_709_551_616.0;
    match seconds {
        seconds if seconds.is_nan() => Err(SecondError::NotANumber),
        seconds if seconds < 0.0 => Err(SecondError::Negative),
        seconds if seconds >= TOO_LARGE => Err(SecondError::TooLarge),
        seconds => Ok(Second(seconds as u64)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON: Second = Second(1_763_690_400);

    #[test]
    fn a_frame_is_a_length_and_protocol_2() {
        let frame = encode_frame("a.b", 1.0, NOON);
        let pickle = b"\x80\x02](X\x03\0\0\0a.bJ\xa0\xc7\x1f\x69G\x3f\xf0\0\0\0\0\0\0\x86\x86e.";
        assert_eq!(frame[..4], (pickle.len() as u32).to_be_bytes());
        assert_eq!(frame[4..], pickle[..]);
        assert_eq!(frame_length([frame[0], frame[1], frame[2], frame[3]]), Ok(pickle.len()));
    }

    #[test]
    fn a_length_that_cannot_be_one_says_what_it_may_be() {
        let table = [
            ([0, 0, 0, 0], FrameError::Zero),
            ([0, 0x10, 0, 1], FrameError::TooLong { bytes: (1 << 20) + 1 }),
            ([0xff; 4], FrameError::TooLong { bytes: 0xffff_ffff }),
            (*b"secr", FrameError::Text),
            (*b"POST", FrameError::Text),
            ([0x16, 0x03, 0x01, 0x02], FrameError::Tls),
        ];
        for (header, expected) in table {
            assert_eq!(frame_length(header), Err(expected));
        }
        assert_eq!(frame_length([0, 0x10, 0, 0]), Ok(FRAME_BYTES_MAX));
    }

    /// A pickle of one datapoint whose timestamp and value are the opcodes given.
    fn of(second: &[u8], value: &[u8]) -> Vec<u8> {
        [b"](U\x08secret.a", second, value, b"\x86\x86e."].concat()
    }

    #[test]
    fn numbers_may_be_int_float_or_text() {
        let one = Datapoint { name: "secret.a".to_owned(), value: 1.0, second: Second(7) };
        let sevens: [&[u8]; 8] =
            [b"K\x07", b"M\x07\0", b"J\x07\0\0\0", b"I7\n", b"L7L\n", b"\x8a\x01\x07", b"U\x017", b"F7.9\n"];
        let ones: [&[u8]; 4] = [b"K\x01", b"G\x3f\xf0\0\0\0\0\0\0", b"F1.0\n", b"S'1'\n"];
        for second in sevens {
            for value in ones {
                assert_eq!(decode(&of(second, value)), Ok(vec![one.clone()]), "{second:?} {value:?}");
            }
        }
    }

    #[test]
    fn a_broken_datapoint_says_which_and_costs_no_other() {
        let table: [(&[u8], &[u8], ItemError); 8] = [
            (b"J\xff\xff\xff\xff", b"K\x01", ItemError::Second(SecondError::Negative)),
            (b"Fnan\n", b"K\x01", ItemError::Second(SecondError::NotANumber)),
            (b"F1e30\n", b"K\x01", ItemError::Second(SecondError::TooLarge)),
            (b"U\x03now", b"K\x01", ItemError::Second(SecondError::NotANumber)),
            (b"K\x07", b"Fnan\n", ItemError::Value(ValueError::Nan)),
            (b"K\x07", b"F-inf\n", ItemError::Value(ValueError::Infinite)),
            (b"K\x07", b"U\x01x", ItemError::Value(ValueError::NotANumber)),
            (b"K\x07", b"]", ItemError::Shape),
        ];
        for (second, value, problem) in table {
            let error = decode(&of(second, value)).unwrap_err();
            assert_eq!(error, PickleError::Datapoint { index: 0, problem });
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
        let three = b"]((X\x01\0\0\0a(K\x07K\x01tt(X\x02\0\0\0a.(K\x07K\x01tt(X\x01\0\0\0c(K\x07K\x01tte.";
        let read = decode_each(three).unwrap();
        let problem = ItemError::Name(NameError::EmptyPart { offset: 2 });
        assert_eq!(read[1], Err(PickleError::Datapoint { index: 1, problem }));
        assert!(read[0].is_ok() && read[2].is_ok());
        assert_eq!(decode(three), Err(PickleError::Datapoint { index: 1, problem }));
    }

    #[test]
    fn a_list_of_too_many_datapoints_is_refused() {
        let many = |count: usize| [b"](".to_vec(), b"K\x01".repeat(count), b"e.".to_vec()].concat();
        assert_eq!(decode_each(&many(DATAPOINTS_MAX)).unwrap().len(), DATAPOINTS_MAX);
        let error = decode_each(&many(DATAPOINTS_MAX + 1)).unwrap_err();
        assert!(matches!(error, PickleError::Limit { what: "datapoints", .. }));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            name in "[A-Za-z0-9_-]{1,40}(\\.[A-Za-z0-9_-]{1,40}){0,9}",
            value in any::<f64>().prop_filter("finite", |value| value.is_finite()),
            second in 0u64..1 << 53,
        ) {
            let frame = encode_frame(&name, value, Second(second));
            prop_assert_eq!(decode(&frame[4..]), Ok(vec![Datapoint { name, value, second: Second(second) }]));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let whole = decode(&bytes);
            prop_assert_eq!(whole.is_ok(), decode_each(&bytes).is_ok_and(|each| each.iter().all(Result::is_ok)));
        }
    }
}
