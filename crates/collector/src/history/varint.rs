//! Numbers in groups of seven bits, and reading them from bytes that may be damaged.

/// What is wrong with stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damage(pub(crate) &'static str);

/// Appends `number`.
pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends `text` with its length.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// What is left of bytes.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// How many bytes are left.
    pub(crate) const fn left(&self) -> usize {
        self.0.len()
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn number(&mut self) -> Result<u64, Damage> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.bytes()?;
            let group = u64::from(byte & 0x7f);
            if group << shift >> shift != group {
                return Err(Damage("a number is too large"));
            }
            number |= group << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Damage("a number does not end"))
    }

    pub(crate) fn at_most(&mut self, limit: u64, otherwise: &'static str) -> Result<u64, Damage> {
        let number = self.number()?;
        if number > limit { Err(Damage(otherwise)) } else { Ok(number) }
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Damage("it is cut"))?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Damage> {
        let length = self.at_most(self.left() as u64, "a text is longer than what is left")? as usize;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Damage("it is cut"))?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| Damage("a text is none"))
    }

    /// A list with its length, each entry of at least a byte.
    pub(crate) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Damage>,
    ) -> Result<Vec<T>, Damage> {
        let length = self.at_most(self.left() as u64, "a list is longer than what is left")?;
        (0..length).map(|_| read(self)).collect()
    }
}
