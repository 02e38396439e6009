//! Who has signed in, as a cookie of their browser says it: `TOKEN.UNTIL.TAG`.
//!
//! The tag is an HMAC of the rest and of the hash of the token's secret. So nothing is kept of a session here, it outlives a
//! restart with the key, and it ends with its token: when that is removed, and when its secret is another. What it
//! allows is what the token allows now. Signing out takes the cookie from the browser, and [`ENDED_MAX`] of those that
//! were signed out are remembered until they end by themselves, or the process does: whoever has a copy gains nothing by it.

use std::{
    collections::VecDeque,
    fmt::{self, Write as _},
    sync::{Mutex, PoisonError},
};

use aviary_core::Timestamp;
use aws_lc_rs::hmac::{self, HMAC_SHA256};

use super::secret::SecretHash;

/// A session ends after so many seconds: a shift, and whoever is on call signs in again at the next.
pub(super) const LIFE_SECONDS: u64 = 12 * 3_600;

/// So many that were signed out are remembered.
const ENDED_MAX: usize = 1_024;

/// The longest cookie that is looked at.
const COOKIE_BYTES_MAX: usize = 1_024;

/// What sessions are signed with. Whoever has it can be anybody.
#[derive(Clone)]
pub struct SessionKey(hmac::Key);

impl SessionKey {
    /// How long a key is, in bytes.
    pub const BYTES: usize = 32;

    /// The key of these bytes, which are to be random.
    pub fn new(bytes: &[u8; Self::BYTES]) -> Self {
        Self(hmac::Key::new(HMAC_SHA256, bytes))
    }
}

/// Without the key.
impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

/// Those who have signed in.
pub(super) struct Sessions {
    key: SessionKey,
    /// When they would have ended, and their cookies: those that were signed out, the oldest first.
    ended: Mutex<VecDeque<(Timestamp, String)>>,
}

impl Sessions {
    pub(super) fn new(key: SessionKey) -> Self {
        Self { key, ended: Mutex::default() }
    }

    /// A session of a token with this name and secret, that begins now.
    pub(super) fn begin(&self, token: &str, secret: &SecretHash, now: Timestamp) -> String {
        let claim = format!("{token}.{}", now.0 + LIFE_SECONDS * 1_000_000);
        let tag = hmac::sign(&self.key.0, &signed(&claim, secret));
        tag.as_ref().iter().fold(format!("{claim}."), |mut cookie, byte| {
            // Writing to a string does not fail.
            _ = write!(cookie, "{byte:02x}");
            cookie
        })
    }

    /// The name of the token whose session `cookie` is, if it is one; `secrets` knows those of the tokens.
    pub(super) fn token<'c>(
        &self,
        cookie: &'c str,
        now: Timestamp,
        secrets: impl FnOnce(&str) -> Vec<SecretHash>,
    ) -> Option<&'c str> {
        if cookie.len() > COOKIE_BYTES_MAX {
            return None;
        }
        let (claim, tag) = cookie.rsplit_once('.')?;
        let (token, until) = claim.rsplit_once('.')?;
        let tag = bytes(tag)?;
        let is_of = |secret| hmac::verify(&self.key.0, &signed(claim, secret), &tag).is_ok();
        secrets(token).iter().find(|secret| is_of(secret))?;
        let holds = until.parse().is_ok_and(|until: u64| now.0 < until) && !self.has_ended(cookie);
        holds.then_some(token)
    }

    /// Ends the session that `cookie` is. It is to have been found to be one.
    pub(super) fn end(&self, cookie: &str, now: Timestamp) {
        let until = Timestamp(now.0 + LIFE_SECONDS * 1_000_000);
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        while ended.front().is_some_and(|(until, _)| *until <= now) || ended.len() >= ENDED_MAX {
            ended.pop_front();
        }
        ended.push_back((until, cookie.to_owned()));
    }

    fn has_ended(&self, cookie: &str) -> bool {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|(_, ended)| ended == cookie)
    }
}

/// What the tag is of. The hash has one length, so that nothing can be moved between the two.
fn signed(claim: &str, secret: &SecretHash) -> Vec<u8> {
    [secret.bytes(), claim.as_bytes()].concat()
}

/// The bytes that pairs of lower-case hexadecimal digits are: one text for each, so that a session has one cookie.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_763_690_400_000_000);

    fn sessions(key: u8) -> Sessions {
        Sessions::new(SessionKey::new(&[key; SessionKey::BYTES]))
    }

    fn later(seconds: u64) -> Timestamp {
        Timestamp(NOW.0 + seconds * 1_000_000)
    }

    #[test]
    fn a_session_outlives_a_restart_and_ends_by_itself_and_with_its_token() {
        let secret = SecretHash::of("the secret of people");
        let cookie = sessions(1).begin("people", &secret, NOW);
        let of = |key: u8, now, secret: Option<SecretHash>| {
            let secrets = |name: &str| secret.into_iter().filter(|_| name == "people").collect();
            sessions(key).token(&cookie, now, secrets).map(str::to_owned)
        };
        let people = Some("people".to_owned());
        assert_eq!(of(1, NOW, Some(secret)), people);
        assert_eq!(of(1, later(LIFE_SECONDS - 1), Some(secret)), people);
        assert_eq!(of(1, later(LIFE_SECONDS), Some(secret)), None, "it has ended");
        assert_eq!(of(1, NOW, None), None, "its token is gone");
        assert_eq!(of(1, NOW, Some(SecretHash::of("another"))), None, "its token has another secret");
        assert_eq!(of(2, NOW, Some(secret)), None, "the key is another");
        assert!(!format!("{:?}", SessionKey::new(&[7; 32])).contains('7'));
    }

    #[test]
    fn whoever_signed_out_is_out_and_the_others_are_not() {
        let (sessions, secret) = (sessions(1), SecretHash::of("s"));
        let known = |cookie: &str| sessions.token(cookie, NOW, |_| vec![secret]).is_some();
        let (mine, yours) =
            (sessions.begin("people", &secret, NOW), sessions.begin("people", &secret, later(1)));
        sessions.end(&mine, NOW);
        assert_eq!((known(&mine), known(&yours)), (false, true));
        for number in 0..2 * ENDED_MAX {
            sessions.end(&number.to_string(), NOW);
        }
        assert_eq!(sessions.ended.lock().unwrap().len(), ENDED_MAX);
        sessions.end("last", later(LIFE_SECONDS));
        assert_eq!(sessions.ended.lock().unwrap().len(), 1, "those that are over anyway are forgotten");
    }

    proptest! {
        #[test]
        fn no_other_cookie_is_a_session(place in 0usize..200, byte in 0u8..128, text in "[ -~]{0,80}") {
            let (sessions, secret) = (sessions(1), SecretHash::of("s"));
            let cookie = sessions.begin("people", &secret, NOW);
            let mut changed = cookie.clone().into_bytes();
            let place = place % changed.len();
            changed[place] = byte;
            let changed = String::from_utf8(changed).unwrap();
            let found = sessions.token(&changed, NOW, |_| vec![secret]);
            prop_assert_eq!(found.is_some(), changed == cookie, "{}", changed);
            prop_assert!(sessions.token(&text, NOW, |_| vec![secret]).is_none());
        }
    }
}
