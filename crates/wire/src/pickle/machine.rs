//! The stack machine that a pickle is a program for, cut down to lists, tuples, text and numbers.
//!
//! Bounds: a pickle is at most [`FRAME_BYTES_MAX`] long, and stack, marks, memo and lists have limits of their own. Lists and tuples lie in one table and are named by their place in it, so that a memo shares
//! them instead of copying, a list that holds itself does no harm, and no depth of nesting is ever walked.

use std::collections::HashMap;

use super::{FRAME_BYTES_MAX, PickleError, opcode};

/// The most entries of the memo: Python notes each text and tuple, so three a datapoint and one for the list.
const MEMO_MAX: usize = 3 * super::DATAPOINTS_MAX + 64;

/// The most values on the stack: every datapoint of a list at once, and room for a list that is too long to be told so.
const STACK_MAX: usize = 2 * super::DATAPOINTS_MAX;

/// The most lists and tuples: two a datapoint, and the list.
const SEQUENCES_MAX: usize = 2 * super::DATAPOINTS_MAX + 64;

/// The most marks that may be open: a pickle of datapoints has a list, a pair and a pair.
const MARKS_MAX: usize = 16;

/// The longest number written as text.
const NUMBER_BYTES_MAX: usize = 32;

/// Where a text lies in the pickle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    from: u32,
    until: u32,
}

/// What the stack holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Int(i64),
    Float(f64),
    Text(Text),
    /// A tuple, by its place in the table.
    Sequence(u32),
    /// A list, by its place in the table; it may still grow.
    List(u32),
}

/// The machine, and once it has stopped what it has loaded.
pub(super) struct Machine<'a> {
    pickle: &'a [u8],
    at: usize,
    /// The opcode that runs, and where it is.
    opcode: u8,
    offset: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    sequences: Vec<Vec<Value>>,
    /// What `STOP` found.
    pub(super) top: Value,
}

impl<'a> Machine<'a> {
    /// Runs `pickle` to its `STOP`.
    pub(super) fn load(pickle: &'a [u8]) -> Result<Self, PickleError> {
        if pickle.len() > FRAME_BYTES_MAX {
            return Err(PickleError::TooLong { bytes: pickle.len() });
        }
        let mut machine = Self {
            pickle,
            at: 0,
            opcode: 0,
            offset: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            sequences: Vec::new(),
            top: Value::Int(0),
        };
        while machine.step()? {
            machine.check_limit("values on the stack", machine.stack.len(), STACK_MAX)?;
            machine.check_limit("lists and tuples", machine.sequences.len(), SEQUENCES_MAX)?;
        }
        Ok(machine)
    }

    /// The bytes of a text.
    pub(super) fn text(&self, text: Text) -> &'a [u8] {
        &self.pickle[text.from as usize..text.until as usize]
    }

    /// What a list or tuple holds, `None` of anything else.
    pub(super) fn sequence(&self, value: Value) -> Option<&[Value]> {
        match value {
            Value::Sequence(place) | Value::List(place) => Some(&self.sequences[place as usize]),
            Value::Int(_) | Value::Float(_) | Value::Text(_) => None,
        }
    }

    /// Runs one opcode, and returns whether there is another.
    fn step(&mut self) -> Result<bool, PickleError> {
        self.offset = self.at;
        self.opcode = self.byte()?;
        match self.opcode {
            b'.' => return self.stop().map(|()| false),
            0x80 => match self.byte()? {
                0..=5 => {}
                version => return Err(PickleError::Protocol { version, offset: self.offset }),
            },
            // A frame of protocol 4 says how much may be read ahead; there is nothing to read ahead here.
            0x95 => {
                let ahead = u64::from_le_bytes(self.bytes()?);
                if ahead > (self.pickle.len() - self.at) as u64 {
                    return Err(PickleError::Truncated { offset: self.pickle.len() });
                }
            }
            b'(' => self.mark()?,

            b'K' => self.byte().map(|byte| self.push(Value::Int(byte.into())))?,
            b'M' => self.bytes().map(|bytes| self.push(Value::Int(u16::from_le_bytes(bytes).into())))?,
            b'J' => self.bytes().map(|bytes| self.push(Value::Int(i32::from_le_bytes(bytes).into())))?,
            b'G' => self.bytes().map(|bytes| self.push(Value::Float(f64::from_be_bytes(bytes))))?,
            b'I' => {
                let line = self.number_line()?;
                // `I00` and `I01` are how protocol 0 writes False and True.
                if matches!(line, "00" | "01") {
                    return Err(PickleError::Refused { opcode: self.name(), offset: self.offset });
                }
                let value = line.parse().map_err(|_| self.bad_number())?;
                self.push(Value::Int(value));
            }
            b'L' => {
                let line = self.number_line()?;
                let value = line.strip_suffix('L').unwrap_or(line).parse().map_err(|_| self.bad_number())?;
                self.push(Value::Int(value));
            }
            b'F' => {
                let value = self.number_line()?.parse().map_err(|_| self.bad_number())?;
                self.push(Value::Float(value));
            }
            0x8a => {
                let bytes = self.byte()?.into();
                self.long(bytes)?;
            }
            0x8b => {
                let bytes = u32::from_le_bytes(self.bytes()?);
                self.long(bytes)?;
            }

            b'U' | 0x8c => {
                let bytes = self.byte()?.into();
                self.push_text(bytes)?;
            }
            b'T' | b'X' => {
                let bytes = u32::from_le_bytes(self.bytes()?).into();
                self.push_text(bytes)?;
            }
            0x8d => {
                let bytes = u64::from_le_bytes(self.bytes()?);
                self.push_text(bytes)?;
            }
            // Escapes stay as they are written: no name or number has a backslash.
            b'V' => {
                let (from, until) = self.line()?;
                self.push_range(from, until);
            }
            b'S' => {
                let (from, until) = self.line()?;
                let quote = match self.pickle[from..until] {
                    [open @ (b'\'' | b'"'), .., close] if open == close => 1,
                    _ => return Err(PickleError::Text { opcode: self.name(), offset: self.offset }),
                };
                self.push_range(from + quote, until - quote);
            }

            b']' => self.push_list(Vec::new()),
            b')' => self.push_tuple(Vec::new()),
            b'l' => self.since_mark().map(|items| self.push_list(items))?,
            b't' => self.since_mark().map(|items| self.push_tuple(items))?,
            0x85..=0x87 => {
                let count = usize::from(self.opcode - 0x84);
                let from = self.stack.len().checked_sub(count).ok_or_else(|| self.no_operand())?;
                if self.marks.last().is_some_and(|mark| from < *mark) {
                    return Err(self.no_operand());
                }
                let items = self.stack.split_off(from);
                self.push_tuple(items);
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(&items)?;
            }

            b'q' => {
                let index = self.byte()?.into();
                self.put(index)?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.bytes()?);
                self.put(index)?;
            }
            b'p' => {
                let index = self.number_line()?.parse().map_err(|_| self.bad_number())?;
                self.put(index)?;
            }
            0x94 => self.put(self.memo.len() as u32)?,
            b'h' => {
                let index = self.byte()?.into();
                self.get(index)?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.bytes()?);
                self.get(index)?;
            }
            b'g' => {
                let index = self.number_line()?.parse().map_err(|_| self.bad_number())?;
                self.get(index)?;
            }

            byte => {
                let offset = self.offset;
                return Err(match opcode::name(byte) {
                    Some(opcode) => PickleError::Refused { opcode, offset },
                    None => PickleError::Unknown { byte, offset },
                });
            }
        }
        Ok(true)
    }

    fn stop(&mut self) -> Result<(), PickleError> {
        let (offset, bytes) = (self.offset, self.pickle.len() - self.at);
        if bytes > 0 {
            return Err(PickleError::Trailing { bytes, offset });
        }
        match (self.stack.as_slice(), self.marks.as_slice()) {
            (&[top], []) => {
                self.top = top;
                Ok(())
            }
            _ => Err(self.no_operand()),
        }
    }

    fn name(&self) -> &'static str {
        opcode::name(self.opcode).unwrap_or("?")
    }

    fn no_operand(&self) -> PickleError {
        PickleError::NoOperand { opcode: self.name(), offset: self.offset }
    }

    fn bad_number(&self) -> PickleError {
        PickleError::Number { opcode: self.name(), offset: self.offset }
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        self.bytes().map(|[byte]: [u8; 1]| byte)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let truncated = PickleError::Truncated { offset: self.pickle.len() };
        let bytes = self.pickle[self.at..].first_chunk().ok_or(truncated)?;
        self.at += N;
        Ok(*bytes)
    }

    /// The rest of the line, and on to the next.
    fn line(&mut self) -> Result<(usize, usize), PickleError> {
        let from = self.at;
        let truncated = PickleError::Truncated { offset: self.pickle.len() };
        let length = self.pickle[from..].iter().position(|byte| *byte == b'\n').ok_or(truncated)?;
        self.at = from + length + 1;
        Ok((from, from + length))
    }

    fn number_line(&mut self) -> Result<&'a str, PickleError> {
        let (from, until) = self.line()?;
        let line = &self.pickle[from..until];
        std::str::from_utf8(line)
            .ok()
            .filter(|line| line.len() <= NUMBER_BYTES_MAX)
            .ok_or_else(|| self.bad_number())
    }

    /// A little-endian two's complement integer of `length` bytes.
    fn long(&mut self, length: u32) -> Result<(), PickleError> {
        if length > 8 {
            return Err(self.bad_number());
        }
        let mut value: i64 = 0;
        for place in 0..length {
            value |= i64::from(self.byte()?) << (8 * place);
        }
        // The sign is that of the last byte: moved up to the top and back down.
        let unused = 64 - 8 * length;
        self.push(Value::Int(if length == 0 { 0 } else { value << unused >> unused }));
        Ok(())
    }

    fn push_text(&mut self, length: u64) -> Result<(), PickleError> {
        let length = usize::try_from(length).ok().filter(|length| *length <= self.pickle.len() - self.at);
        let length = length.ok_or_else(|| PickleError::Text { opcode: self.name(), offset: self.offset })?;
        self.at += length;
        self.push_range(self.at - length, self.at);
        Ok(())
    }

    fn push_range(&mut self, from: usize, until: usize) {
        self.push(Value::Text(Text { from: from as u32, until: until as u32 }));
    }

    fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    fn push_list(&mut self, items: Vec<Value>) {
        self.sequences.push(items);
        self.push(Value::List(self.sequences.len() as u32 - 1));
    }

    fn push_tuple(&mut self, items: Vec<Value>) {
        self.sequences.push(items);
        self.push(Value::Sequence(self.sequences.len() as u32 - 1));
    }

    const fn check_limit(&self, what: &'static str, held: usize, limit: usize) -> Result<(), PickleError> {
        if held > limit { Err(PickleError::Limit { what, limit, offset: self.offset }) } else { Ok(()) }
    }

    fn mark(&mut self) -> Result<(), PickleError> {
        self.marks.push(self.stack.len());
        self.check_limit("open marks", self.marks.len(), MARKS_MAX)
    }

    fn since_mark(&mut self) -> Result<Vec<Value>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| self.no_operand())?;
        Ok(self.stack.split_off(mark))
    }

    /// The top of the stack, taken off; what lies below an open mark is out of reach.
    fn pop(&mut self) -> Result<Value, PickleError> {
        let top = self.peek()?;
        self.stack.pop();
        Ok(top)
    }

    fn peek(&self) -> Result<Value, PickleError> {
        let floor = self.marks.last().copied().unwrap_or_default();
        self.stack[floor..].last().copied().ok_or_else(|| self.no_operand())
    }

    fn append(&mut self, items: &[Value]) -> Result<(), PickleError> {
        let Value::List(place) = self.peek()? else {
            return Err(self.no_operand());
        };
        self.sequences[place as usize].extend_from_slice(items);
        Ok(())
    }

    fn put(&mut self, index: u32) -> Result<(), PickleError> {
        let top = self.peek()?;
        self.memo.insert(index, top);
        self.check_limit("memo entries", self.memo.len(), MEMO_MAX)
    }

    fn get(&mut self, index: u32) -> Result<(), PickleError> {
        let value = self.memo.get(&index).copied().ok_or_else(|| self.no_operand())?;
        self.push(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(pickle: &[u8]) -> PickleError {
        Machine::load(pickle).err().expect("refused")
    }

    #[test]
    fn what_would_run_something_is_refused_by_name() {
        let table: [(&[u8], &str, usize); 12] = [
            (b"cos\nsystem\n(S'id'\ntR.", "GLOBAL", 0),
            (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.", "STACK_GLOBAL", 14),
            (b"(S'id'\nios\nsystem\n.", "INST", 7),
            (b"K\x01R.", "REDUCE", 2),
            (b"]]b.", "BUILD", 2),
            (b"(]o.", "OBJ", 2),
            (b"])\x81.", "NEWOBJ", 2),
            (b"\x82\x01.", "EXT1", 0),
            (b"P0\n.", "PERSID", 0),
            (b"K\x01Q.", "BINPERSID", 2),
            (b"}.", "EMPTY_DICT", 0),
            (b"\x97.", "NEXT_BUFFER", 0),
        ];
        for (pickle, opcode, offset) in table {
            assert_eq!(error(pickle), PickleError::Refused { opcode, offset });
        }
        assert_eq!(error(b"\xff."), PickleError::Unknown { byte: 0xff, offset: 0 });
        assert_eq!(error(b"\x80\x06."), PickleError::Protocol { version: 6, offset: 0 });
    }

    #[test]
    fn damaged_pickles_say_where() {
        let long = [b"I".to_vec(), b"1".repeat(1000), b"\n.".to_vec()].concat();
        let table: [(&[u8], PickleError); 16] = [
            (b"", PickleError::Truncated { offset: 0 }),
            (b"]", PickleError::Truncated { offset: 1 }),
            (b"J\x01", PickleError::Truncated { offset: 2 }),
            (b"I12", PickleError::Truncated { offset: 3 }),
            (b"\x95\xff\0\0\0\0\0\0\0].", PickleError::Truncated { offset: 11 }),
            (b"].x", PickleError::Trailing { bytes: 1, offset: 1 }),
            (b".", PickleError::NoOperand { opcode: "STOP", offset: 0 }),
            (b"]].", PickleError::NoOperand { opcode: "STOP", offset: 2 }),
            (b"(].", PickleError::NoOperand { opcode: "STOP", offset: 2 }),
            (b"](\x85.", PickleError::NoOperand { opcode: "TUPLE1", offset: 2 }),
            (b")K\x01a.", PickleError::NoOperand { opcode: "APPEND", offset: 3 }),
            (b"h\x07.", PickleError::NoOperand { opcode: "BINGET", offset: 0 }),
            (b"X\xff\xff\xff\xff.", PickleError::Text { opcode: "BINUNICODE", offset: 0 }),
            (b"S'a\n.", PickleError::Text { opcode: "STRING", offset: 0 }),
            (b"\x8b\xff\xff\xff\x7f.", PickleError::Number { opcode: "LONG4", offset: 0 }),
            (&long, PickleError::Number { opcode: "INT", offset: 0 }),
        ];
        for (pickle, expected) in table {
            assert_eq!(error(pickle), expected, "{pickle:?}");
        }
        let table: [(&str, Vec<u8>); 4] = [
            ("open marks", b"(".repeat(99)),
            ("memo entries", [b"]".to_vec(), b"\x94".repeat(MEMO_MAX + 1)].concat()),
            ("values on the stack", b"K\x01".repeat(STACK_MAX + 1)),
            ("lists and tuples", [b"]".to_vec(), b"\x85".repeat(SEQUENCES_MAX)].concat()),
        ];
        for (bound, pickle) in table {
            assert!(matches!(error(&pickle), PickleError::Limit { what, .. } if what == bound), "{bound}");
        }
        assert!(matches!(error(&vec![b']'; FRAME_BYTES_MAX + 1]), PickleError::TooLong { .. }));
    }

    #[test]
    fn integers_of_any_width_keep_their_sign() {
        let table: [(&[u8], i64); 6] = [
            (b"\x8a\x00.", 0),
            (b"\x8a\x01\xff.", -1),
            (b"\x8a\x02\xff\x00.", 255),
            (b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f.", i64::MAX),
            (b"\x8b\x01\0\0\0\x80.", -128),
            (b"J\xfe\xff\xff\xff.", -2),
        ];
        for (pickle, expected) in table {
            let loaded = Machine::load(pickle).unwrap();
            assert!(matches!(loaded.top, Value::Int(value) if value == expected), "{pickle:?}");
        }
    }

    #[test]
    fn a_shared_or_circular_list_is_held_once() {
        // Each tuple holds the one before it twice: spelt out it would be 2^10000 values.
        let doubling: Vec<u8> = [b"]".to_vec(), b"\x94h\0\x86".repeat(10_000), b".".to_vec()].concat();
        assert_eq!(Machine::load(&doubling).unwrap().sequences.len(), 10_001);
        let circular = Machine::load(b"]q\0h\0a.").unwrap();
        assert_eq!(circular.sequence(circular.top).map(<[Value]>::len), Some(1));
    }
}
