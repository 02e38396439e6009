//! What blocks, sums and timings are called in the store: by time first.

use aviary_core::{Second, SeriesId, Span};
use bytes::Bytes;

use super::{block::ROWS, varint::Damage};

/// How long a time one value speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Level {
    /// As it is sealed.
    Minute,
    /// As it is packed.
    Hour,
    /// Of sums only.
    Day,
}

impl Level {
    pub(crate) const fn seconds(self) -> u64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }

    const fn letter(self) -> u8 {
        match self {
            Self::Minute => b'm',
            Self::Hour => b'h',
            Self::Day => b'd',
        }
    }

    /// The one that `second` lies in.
    pub(crate) const fn at(self, second: Second) -> Time {
        Time { level: self, number: second.0 / self.seconds() }
    }
}

/// A minute, an hour or a day, by its number since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Time {
    pub(crate) level: Level,
    pub(crate) number: u64,
}

impl Time {
    pub(crate) const fn span(self) -> Span {
        let seconds = self.level.seconds();
        Span::new(Second(self.number * seconds), Second((self.number + 1) * seconds))
    }

    pub(crate) const fn next(self) -> Self {
        Self { level: self.level, number: self.number + 1 }
    }

    /// Every time of `level` that has a second of `span`.
    pub(crate) fn within(level: Level, span: Span) -> impl Iterator<Item = Self> + use<> {
        let first = span.from.0 / level.seconds();
        let until = if span.is_empty() { first } else { span.until.0.div_ceil(level.seconds()) };
        (first..until).map(move |number| Self { level, number })
    }

    /// The key of what is kept once for this time; and from where on its keys are, up to the next time's.
    pub(crate) fn key(self) -> Bytes {
        let mut key = vec![self.level.letter()];
        // Forty bits of minutes last for two million years.
        key.extend_from_slice(&self.number.to_be_bytes()[3..]);
        key.into()
    }

    /// The key of what is kept for each chunk of series.
    pub(crate) fn chunk_key(self, chunk: Chunk) -> Bytes {
        let mut key = self.key().to_vec();
        key.extend_from_slice(&chunk.0.to_be_bytes()[1..]);
        key.into()
    }
}

/// Where the keys of `level` begin.
pub(crate) fn first_of(level: Level) -> Bytes {
    vec![level.letter()].into()
}

/// Before which the keys of `level` end.
pub(crate) fn end_of(level: Level) -> Bytes {
    vec![level.letter() + 1].into()
}

/// Neighbouring series, those whose ids differ in the last eight bits only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Chunk(u32);

impl Chunk {
    /// The chunk and the row in it that `series` has.
    pub(crate) const fn of(series: SeriesId) -> (Self, usize) {
        (Self(series.0 / ROWS as u32), series.0 as usize % ROWS)
    }

    /// The series of its first row.
    pub(crate) const fn first(self) -> SeriesId {
        SeriesId(self.0 * ROWS as u32)
    }
}

/// The time and, where there is one, the chunk that a key names.
pub(crate) fn parse(key: &[u8]) -> Result<(Time, Option<Chunk>), Damage> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let (level, time, chunk) = match key {
        [level, time @ ..] if time.len() == 5 => (level, time, None),
        [level, rest @ ..] if rest.len() == 8 => (level, &rest[..5], Some(&rest[5..])),
        _ => return Err(Damage("its key is none of ours")),
    };
    let level = [Level::Minute, Level::Hour, Level::Day].into_iter().find(|it| it.letter() == *level);
    let level = level.ok_or(Damage("its key is none of ours"))?;
    Ok((Time { level, number: number(time) }, chunk.map(|chunk| Chunk(number(chunk) as u32))))
}

/// A key for people.
pub(crate) fn shown(table: aviary_store::Table, key: &[u8]) -> String {
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    match parse(key) {
        Ok((time, chunk)) => {
            let first = chunk.map(|chunk| format!(" of series {} and on", chunk.first().0));
            let first = first.unwrap_or_default();
            format!("{table:?} {digits} ({:?} from second {}{first})", time.level, time.span().from)
        }
        Err(_) => format!("{table:?} {digits}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_time() {
        let hour = Level::Hour.at(Second(1_763_690_400));
        let keys = [
            hour.key(),
            hour.chunk_key(Chunk(0)),
            hour.chunk_key(Chunk(390)),
            hour.next().key(),
            Level::Hour.at(Second(99_763_690_400)).key(),
            end_of(Level::Hour),
            Level::Minute.at(Second(0)).key(),
        ];
        assert!(keys.is_sorted(), "{keys:?}");
        assert_eq!(parse(&keys[2]), Ok((hour, Some(Chunk(390)))));
        assert_eq!(parse(&keys[0]), Ok((hour, None)));
        assert!(parse(b"hello").is_err());
        let (chunk, row) = Chunk::of(SeriesId(1_000));
        assert_eq!((chunk.first(), row), (SeriesId(768), 232));
        let minutes = Time::within(Level::Minute, Span::new(Second(59), Second(121)));
        assert_eq!(minutes.map(|minute| minute.number).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(Time::within(Level::Minute, Span::new(Second(60), Second(60))).count(), 0);
    }
}
