//! What is kept of a token's secret.

use std::{
    fmt::{self, Write as _},
    hash::{Hash, Hasher},
};

use aws_lc_rs::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;

const BYTES: usize = 32;

/// How the written form begins.
const ALGORITHM: &str = "sha256:";

/// The SHA-256 of a token's secret: enough to recognise the secret by, and too little to show it to another collector.
///
/// A plain hash does, without salt or stretching, because a token is random and long, and no password: whoever has the
/// hash has nothing to guess from. `Debug` does not show it all the same.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; BYTES]);

/// A text that is no hash of a secret. The text is not repeated: it may be the secret itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no hash of a token: write sha256: and 64 hexadecimal digits, as `printf %s TOKEN | sha256sum` prints them"
)]
pub struct SecretHashError;

impl SecretHash {
    /// The hash of `secret`.
    pub fn of(secret: &str) -> Self {
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
        Self(bytes)
    }

    /// For what is made of it.
    pub(super) const fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// As it is written.
    pub fn written(&self) -> String {
        self.0.iter().fold(ALGORITHM.to_owned(), |mut text, byte| {
            // Writing to a string does not fail.
            _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Reads `sha256:` and 64 hexadecimal digits.
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self, SecretHashError> {
        let digits = text.strip_prefix(ALGORITHM).filter(|digits| digits.len() == 2 * BYTES);
        let digits = digits.ok_or(SecretHashError)?.as_bytes();
        let mut bytes = [0; BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
            let value = high.zip(low).map(|(high, low)| high << 4 | low).ok_or(SecretHashError)?;
            *byte = u8::try_from(value).map_err(|_| SecretHashError)?;
        }
        Ok(Self(bytes))
    }
}

/// Takes as long whatever they hold.
impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretHash {}

/// Its bytes are one already.
impl Hash for SecretHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_sha256sum() {
        // printf abc | sha256sum
        let written = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hash = SecretHash::parse(written).unwrap();
        assert!(hash == SecretHash::of("abc") && hash != SecretHash::of("abd"));
        assert_eq!(SecretHash::parse(&written.replace("ba78", "BA78")), Ok(hash));
        assert_eq!(hash.written(), written);
        assert_eq!(format!("{hash:?}"), "SecretHash(..)");
    }

    #[test]
    fn what_is_no_hash_is_refused_and_not_repeated() {
        let digits = "0".repeat(64);
        let table: [String; 8] = [
            String::new(),
            digits.clone(),
            format!("sha256:{}", "0".repeat(63)),
            format!("sha256:{digits}0"),
            format!("sha256:{}g", "0".repeat(63)),
            format!("sha256:{}é", "0".repeat(62)),
            format!("sha512:{digits}"),
            "sha256:+f".repeat(32),
        ];
        for text in table {
            assert_eq!(SecretHash::parse(&text).err(), Some(SecretHashError), "{text}");
        }
    }
}
