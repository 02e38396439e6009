//! What the sink can be told to do wrong.

use std::{fmt, str::FromStr, time::Duration};

use aviary_core::Protocol;

/// What a listener does wrong, from the next connection, request or datagram on.
///
/// Written as `none`, `refuse`, `never_read`, `read_then_reset`, `tar_pit`, `stall_handshake`, `cut_handshake`,
/// `old_version`, `tls_alert`, `plain_text`, `status=503`, `drop=10%` or `slow=300ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Misbehaviour {
    /// Nothing.
    #[default]
    None,
    /// The listener is closed: connections are refused, datagrams answered with ICMP. The port stays reserved.
    Refuse,
    /// Connections are accepted (TLS with its handshake), never read and never closed; datagrams are discarded.
    NeverRead,
    /// The first bytes are read, and the connection is reset.
    ReadThenReset,
    /// A byte a second is read, and the connection is never closed.
    TarPit,
    /// Connections are accepted and nothing more: a `ClientHello` is never answered.
    StallHandshake,
    /// The first half of the answer to a `ClientHello` is sent, and then the end.
    CutHandshake,
    /// A `ClientHello` is answered with a `ServerHello` of TLS 1.1.
    OldVersion,
    /// A `ClientHello` is answered with the fatal alert `handshake_failure`.
    TlsAlert,
    /// A `ClientHello` is answered in the clear, as a server without TLS does that speaks first or reports an error.
    PlainText,
    /// Every request is answered with this status, and what it brought is not handed on.
    Status(u16),
    /// Everything looks well, and this share of the datapoints (0 to 1) is not handed on: of every thousand exactly as
    /// many as the share says, spread over series in whatever order these come.
    Drop {
        /// The share, in steps of a millionth.
        share: f64,
    },
    /// What arrives is handed on, and the connection closed or the request answered, this much later.
    Slow {
        /// How much.
        by: Duration,
    },
}

impl Misbehaviour {
    /// Whether `protocol` can misbehave so: a datagram has no connection to reset, a stream no status.
    pub const fn fits(self, protocol: Protocol) -> bool {
        match self {
            Self::None | Self::Refuse | Self::NeverRead | Self::Drop { .. } | Self::Slow { .. } => true,
            Self::ReadThenReset | Self::TarPit | Self::StallHandshake => !matches!(protocol, Protocol::Udp),
            Self::CutHandshake | Self::OldVersion | Self::TlsAlert | Self::PlainText => protocol.is_tls(),
            Self::Status(_) => matches!(protocol, Protocol::Https),
        }
    }
}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Refuse => f.write_str("refuse"),
            Self::NeverRead => f.write_str("never_read"),
            Self::ReadThenReset => f.write_str("read_then_reset"),
            Self::TarPit => f.write_str("tar_pit"),
            Self::StallHandshake => f.write_str("stall_handshake"),
            Self::CutHandshake => f.write_str("cut_handshake"),
            Self::OldVersion => f.write_str("old_version"),
            Self::TlsAlert => f.write_str("tls_alert"),
            Self::PlainText => f.write_str("plain_text"),
            Self::Status(status) => write!(f, "status={status}"),
            Self::Drop { share } => write!(f, "drop={}%", millionths(*share) as f64 / 10_000.0),
            Self::Slow { by } => write!(f, "slow={}ms", by.as_millis()),
        }
    }
}

/// A text that names no misbehaviour.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MisbehaviourError {
    /// Not the name of one.
    #[error(
        "`{0}` is no misbehaviour; it is one of none, refuse, never_read, read_then_reset, tar_pit, stall_handshake, \
         cut_handshake, old_version, tls_alert, plain_text, status=503, drop=10%, slow=300ms"
    )]
    Unknown(String),
    /// Not an HTTP status that ends a request.
    #[error("`{0}` is no final HTTP status; write one from 200 to 599, such as status=503")]
    Status(String),
    /// Not a share.
    #[error("`{0}` is no share; write one from 0% to 100%, such as drop=10%")]
    Share(String),
    /// Not a time, or one too long to be held.
    #[error("`{0}` is no time up to 60s; write one such as slow=300ms or slow=2s")]
    Time(String),
}

impl FromStr for Misbehaviour {
    type Err = MisbehaviourError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        Ok(match (name, value) {
            ("none", None) => Self::None,
            ("refuse", None) => Self::Refuse,
            ("never_read", None) => Self::NeverRead,
            ("read_then_reset", None) => Self::ReadThenReset,
            ("tar_pit", None) => Self::TarPit,
            ("stall_handshake", None) => Self::StallHandshake,
            ("cut_handshake", None) => Self::CutHandshake,
            ("old_version", None) => Self::OldVersion,
            ("tls_alert", None) => Self::TlsAlert,
            ("plain_text", None) => Self::PlainText,
            ("status", Some(value)) => {
                let status = value.parse().ok().filter(|status| (200..600).contains(status));
                Self::Status(status.ok_or_else(|| MisbehaviourError::Status(value.to_owned()))?)
            }
            ("drop", Some(value)) => {
                let percent = value.strip_suffix('%').and_then(|percent| percent.parse::<f64>().ok());
                let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
                Self::Drop {
                    share: percent.ok_or_else(|| MisbehaviourError::Share(value.to_owned()))? / 100.0,
                }
            }
            ("slow", Some(value)) => {
                Self::Slow { by: time(value).ok_or_else(|| MisbehaviourError::Time(value.to_owned()))? }
            }
            _ => return Err(MisbehaviourError::Unknown(text.to_owned())),
        })
    }
}

fn time(text: &str) -> Option<Duration> {
    let (digits, millis) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (text.strip_suffix('s')?, 1000),
    };
    let millis = digits.parse::<u64>().ok()?.checked_mul(millis)?;
    (millis <= 60_000).then(|| Duration::from_millis(millis))
}

/// A share in millionths, out of bounds as the bound.
fn millionths(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * 1e6).round() as u64
}

/// Whether the datapoint that is the `number`th (from 0) of a listener is dropped at `share`.
///
/// Each thousand loses exactly its share. Which of a thousand are lost is a permutation of its own: every tenth would
/// lose one of ten series whole and spare the other nine.
pub(crate) fn is_dropped(number: u64, share: f64) -> bool {
    const BLOCK: u64 = 1000;
    // Prime to 1000, so that each is a permutation, and far from its small fractions, so that neighbours part.
    const STEPS: [u64; 8] = [387, 613, 277, 723, 163, 837, 439, 561];
    let (block, place) = (number / BLOCK, number % BLOCK);
    let up_to = |blocks: u64| blocks.saturating_mul(millionths(share)) / BLOCK;
    let quota = up_to(block + 1) - up_to(block);
    // The finaliser of SplitMix64: every bit of the block's number bears on every bit of the result.
    let mut mixed = block.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (place * STEPS[(mixed % 8) as usize] + (mixed >> 3) % BLOCK) % BLOCK < quota
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misbehaviours_are_read_and_written_alike() {
        let texts = [
            "none",
            "refuse",
            "never_read",
            "read_then_reset",
            "tar_pit",
            "stall_handshake",
            "cut_handshake",
            "old_version",
            "tls_alert",
            "plain_text",
            "status=503",
            "drop=10%",
            "drop=7%",
            "drop=0.05%",
            "slow=300ms",
        ];
        for text in texts {
            assert_eq!(text.parse::<Misbehaviour>().unwrap().to_string(), text);
        }
        assert_eq!("slow=2s".parse(), Ok(Misbehaviour::Slow { by: Duration::from_secs(2) }));
    }

    #[test]
    fn what_is_no_misbehaviour_says_what_would_be() {
        let table = [
            ("explode", "is no misbehaviour; it is one of none, refuse"),
            ("drop", "is no misbehaviour"),
            ("refuse=1", "is no misbehaviour"),
            ("status=99", "status=503"),
            ("status=x", "status=503"),
            ("drop=10", "drop=10%"),
            ("drop=101%", "drop=10%"),
            ("drop=nan%", "drop=10%"),
            ("slow=300", "slow=300ms"),
            ("slow=61s", "up to 60s"),
            ("slow=-1s", "slow=2s"),
        ];
        for (text, expected) in table {
            let error = text.parse::<Misbehaviour>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn each_thousand_loses_exactly_its_share() {
        for (share, each) in [(0.0, 0), (0.001, 1), (0.07, 70), (0.1, 100), (0.57, 570), (1.0, 1000)] {
            for block in 0..20 {
                let numbers = block * 1000..(block + 1) * 1000;
                assert_eq!(numbers.filter(|number| is_dropped(*number, share)).count(), each, "{share}");
            }
        }
        let tiny = (0..100_000).filter(|number| is_dropped(*number, 0.0005)).count();
        assert_eq!(tiny, 50, "what a thousand cannot show, more do");
    }

    #[test]
    fn what_is_dropped_is_spread_over_series() {
        for series in [2, 5, 6, 10, 50, 100] {
            let mut dropped = vec![0_u32; series];
            (0..200_000).filter(|number| is_dropped(*number, 0.1)).for_each(|number| {
                dropped[(number % series as u64) as usize] += 1;
            });
            let fair = 20_000 / series as u32;
            assert!(
                dropped.iter().all(|count| (fair * 3 / 4..=fair * 5 / 4).contains(count)),
                "{series}: {dropped:?}"
            );
        }
    }
}
