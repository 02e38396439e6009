//! What the windows say of a service.
//!
//! This is the sliding minute: a plain comparison of lost against what is acceptable, with a minimum of samples. It is
//! a function of the ledger and the time alone, so replay, late reports and a second collector reach the same verdict.
//! It is a state to look at, not yet a reason to wake somebody: one lost slot of sixty is 1.7 %.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{Protocol, named::named, window::Window};

/// How many of the newest closed seconds are judged.
pub const JUDGED_SECONDS: u64 = 60;

/// How many judged slots a verdict needs, and for how many seconds a collector watches before it says `blind`.
pub const SAMPLES_MIN: u64 = 30;

/// A vantage is seen if one of its slots in this many of the newest closed seconds is known.
pub const SEEN_SECONDS: u64 = 10;

named! {
    /// What the windows say of a service, or of a part of it.
    pub enum State {
        /// We cannot tell: nobody, or too few, report. Never "the service is down".
        Blind = "blind",
        /// More is lost than is acceptable.
        Degraded = "degraded",
        /// Half or more is lost.
        Down = "down",
        /// What is lost is acceptable.
        Healthy = "healthy",
        /// Too young to say.
        Starting = "starting",
        /// Datapoints are sent, and nothing can show whether they arrive.
        Unproven = "unproven",
    }
}

/// The share of slots that a service may lose, in parts per million: written `"0.5%"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AcceptableLoss(u32);

impl AcceptableLoss {
    const MILLION: u64 = 1_000_000;

    /// So many lost slots of a million.
    pub const fn parts_per_million(self) -> u32 {
        self.0
    }

    /// Whether `lost` of `judged` slots is more. Compares integers, so that exactly acceptable is acceptable.
    pub fn is_exceeded(self, lost: u64, judged: u64) -> bool {
        u128::from(lost) * u128::from(Self::MILLION) > u128::from(judged) * u128::from(self.0)
    }
}

/// The half of one per cent that a service may lose unless told otherwise.
impl Default for AcceptableLoss {
    fn default() -> Self {
        Self(5_000)
    }
}

impl fmt::Display for AcceptableLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 10_000, self.0 % 10_000);
        if fraction == 0 {
            write!(f, "{whole}%")
        } else {
            write!(f, "{whole}.{}%", format!("{fraction:04}").trim_end_matches('0'))
        }
    }
}

/// A text that is no share of loss.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptableLossError {
    /// No per-cent sign.
    #[error("`{0}` has no unit: write per cent, such as \"0.5%\"")]
    NoUnit(String),
    /// No number before the sign.
    #[error("`{0}` is no number of per cent: write such as \"0.5%\", with at most four decimals")]
    NotANumber(String),
    /// 100 % and more would accept anything.
    #[error("`{0}` would accept any loss: it must be below 100%")]
    TooMuch(String),
}

impl FromStr for AcceptableLoss {
    type Err = AcceptableLossError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number =
            text.trim().strip_suffix('%').ok_or_else(|| AcceptableLossError::NoUnit(text.to_owned()))?;
        let not_a_number = || AcceptableLossError::NotANumber(text.to_owned());
        let (whole, fraction) = match number.trim().split_once('.') {
            Some(parts) => parts,
            None => (number.trim(), "0"),
        };
        let is_digits = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) || fraction.len() > 4 {
            return Err(not_a_number());
        }
        let whole: u32 = whole.parse().map_err(|_| AcceptableLossError::TooMuch(text.to_owned()))?;
        if whole >= 100 {
            return Err(AcceptableLossError::TooMuch(text.to_owned()));
        }
        let fraction: u32 = format!("{fraction:0<4}").parse().map_err(|_| not_a_number())?;
        Ok(Self(whole * 10_000 + fraction))
    }
}

/// What a service may lose, and how many must look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// For the service as a whole, and for whatever has no figure of its own.
    pub acceptable_loss: AcceptableLoss,
    /// For the series of one protocol.
    pub by_protocol: BTreeMap<Protocol, AcceptableLoss>,
    /// For the series of one endpoint, by its URL.
    pub by_endpoint: BTreeMap<String, AcceptableLoss>,
    /// With fewer vantages reporting, the verdict is [`State::Blind`].
    pub min_vantages: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            acceptable_loss: AcceptableLoss::default(),
            by_protocol: BTreeMap::new(),
            by_endpoint: BTreeMap::new(),
            min_vantages: 1,
        }
    }
}

/// A part of a service that is looked at by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// All series of one endpoint, by its URL.
    Endpoint(String),
    /// All series of one protocol.
    Protocol(Protocol),
}

/// What is judged: the sums of the newest closed [`JUDGED_SECONDS`], and who was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// The required series together.
    pub whole: Window,
    /// The required series by protocol and by endpoint.
    pub parts: Vec<(Part, Window)>,
    /// How many vantages had a known slot within the newest [`SEEN_SECONDS`].
    pub vantages_seen: usize,
    /// For how many seconds the collector has watched.
    pub watched_seconds: u64,
}

/// What the windows say of a service, and of each of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Of the service.
    pub state: State,
    /// Of each part, in the order given.
    pub parts: Vec<PartVerdict>,
}

/// What the window says of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartVerdict {
    /// Which part.
    pub part: Part,
    /// What its window says.
    pub state: State,
    /// What it may lose.
    pub acceptable_loss: AcceptableLoss,
    /// What that was judged on.
    pub window: Window,
}

/// Judges a service. A part with a figure of its own can worsen the verdict; any other is told, and no more, since the
/// whole already counts it.
pub fn judge(policy: &Policy, sums: Sums) -> Verdict {
    let mut states = vec![judge_window(&sums.whole, policy.acceptable_loss)];
    let mut parts = Vec::with_capacity(sums.parts.len());
    for (part, window) in sums.parts {
        let own = match &part {
            Part::Endpoint(url) => policy.by_endpoint.get(url),
            Part::Protocol(protocol) => policy.by_protocol.get(protocol),
        };
        let acceptable_loss = own.copied().unwrap_or(policy.acceptable_loss);
        let state = judge_window(&window, acceptable_loss);
        // A dead part of a service is a degraded service: "down" is said of the whole.
        match state {
            State::Down | State::Degraded if own.is_some() => states.push(State::Degraded),
            _ => {}
        }
        parts.push(PartVerdict { part, state, acceptable_loss, window });
    }
    let state = if sums.vantages_seen < policy.min_vantages {
        if sums.watched_seconds < SAMPLES_MIN { State::Starting } else { State::Blind }
    } else {
        states.into_iter().max_by_key(|state| badness(*state)).unwrap_or(State::Starting)
    };
    Verdict { state, parts }
}

const fn badness(state: State) -> u8 {
    match state {
        State::Healthy => 0,
        State::Starting => 1,
        State::Unproven => 2,
        State::Blind => 3,
        State::Degraded => 4,
        State::Down => 5,
    }
}

/// What one window says against one acceptable loss.
pub fn judge_window(window: &Window, acceptable_loss: AcceptableLoss) -> State {
    let judged = window.judged();
    if judged >= SAMPLES_MIN {
        if window.lost * 2 >= judged {
            State::Down
        } else if acceptable_loss.is_exceeded(window.lost, judged) {
            State::Degraded
        } else {
            State::Healthy
        }
    } else if window.scheduled < SAMPLES_MIN {
        State::Starting
    } else if window.unproven >= SAMPLES_MIN {
        State::Unproven
    } else {
        State::Blind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(delivered: u64, lost: u64, unproven: u64, unknown: u64) -> Window {
        let scheduled = delivered + lost + unproven + unknown;
        Window { scheduled, delivered, lost, unproven, unknown, ..Window::default() }
    }

    fn seen(whole: Window, parts: Vec<(Part, Window)>) -> Sums {
        Sums { whole, parts, vantages_seen: 1, watched_seconds: 600 }
    }

    #[test]
    fn acceptable_loss_is_written_in_per_cent() {
        let table = [("0.5%", 5_000), ("2%", 20_000), ("0%", 0), ("99.9999 %", 999_999), ("0.0001%", 1)];
        for (text, parts) in table {
            assert_eq!(text.parse::<AcceptableLoss>().unwrap().parts_per_million(), parts);
        }
        assert_eq!("0.50%".parse::<AcceptableLoss>().unwrap().to_string(), "0.5%");
        assert_eq!("12%".parse::<AcceptableLoss>().unwrap().to_string(), "12%");
        for (text, expected) in [
            ("0.5", "no unit"),
            ("%", "no number"),
            ("-1%", "no number"),
            ("100%", "any loss"),
            ("9999999999%", "any loss"),
            ("0.12345%", "four"),
        ] {
            let error = text.parse::<AcceptableLoss>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn one_window_against_one_acceptable_loss() {
        let half_per_cent = AcceptableLoss::default();
        let table = [
            (window(0, 0, 0, 0), State::Starting),
            (window(20, 5, 0, 0), State::Starting),
            (window(29, 0, 0, 31), State::Blind),
            (window(0, 0, 60, 0), State::Unproven),
            (window(60, 0, 0, 0), State::Healthy),
            (window(199, 1, 0, 0), State::Healthy),
            (window(198, 2, 0, 0), State::Degraded),
            (window(30, 30, 0, 0), State::Down),
            (window(0, 30, 30, 300), State::Down),
        ];
        for (window, state) in table {
            assert_eq!(judge_window(&window, half_per_cent), state, "{window:?}");
        }
    }

    #[test]
    fn a_part_with_a_figure_of_its_own_can_worsen_the_verdict() {
        let udp = (Part::Protocol(Protocol::Udp), window(58, 2, 0, 0));
        let whole = window(998, 2, 0, 0);
        let mut policy = Policy::default();
        let verdict = judge(&policy, seen(whole, vec![udp.clone()]));
        assert_eq!((verdict.state, verdict.parts[0].state), (State::Healthy, State::Degraded));
        policy.by_protocol.insert(Protocol::Udp, "1%".parse().unwrap());
        assert_eq!(judge(&policy, seen(whole, vec![udp.clone()])).state, State::Degraded);
        policy.by_protocol.insert(Protocol::Udp, "5%".parse().unwrap());
        assert_eq!(judge(&policy, seen(whole, vec![udp])).state, State::Healthy);
    }

    #[test]
    fn nobody_reporting_is_blind_and_not_down() {
        let policy = Policy { min_vantages: 2, ..Policy::default() };
        let lost = window(0, 60, 0, 0);
        assert_eq!(judge(&policy, seen(lost, Vec::new())).state, State::Blind);
        let sums = Sums { watched_seconds: 5, ..Sums::default() };
        assert_eq!(judge(&policy, sums).state, State::Starting);
        let sums = Sums { whole: lost, vantages_seen: 2, ..Sums::default() };
        assert_eq!(judge(&policy, sums).state, State::Down);
    }
}
