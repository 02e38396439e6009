//! What the windows say of a service.
//!
//! This is the sliding minute: a plain comparison of lost against what is acceptable, with a minimum of samples. It is
//! a function of the ledger and the time alone, so replay, late reports and a second collector reach the same verdict.
//! It is a state to look at, not yet a reason to wake somebody: one lost slot of sixty is 1.7 %.
//!
//! Where a service is looked at from several kinds of vantage, each kind is judged by itself and the worst of those that can
//! be judged is the service's state: a thousand nodes that look at themselves average nothing away of what is lost outside.
//! What is lost nearer to the service than others look from degrades it, since they reach it: it is `down` ([`says_down`]) only
//! if several vantages of the data centre lose it, never for what the nodes lose on themselves. Nor are nodes counted among
//! the vantages that are wanted: none stands in for somebody who looks from elsewhere.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{Endpoint, Protocol, VantageKind, named::named, window::Window};

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

    /// So many lost slots of a million; of a million and more, all but one.
    pub const fn of_million(parts: u32) -> Self {
        Self(if parts < 1_000_000 { parts } else { 999_999 })
    }

    /// So many lost slots of a million.
    pub const fn parts_per_million(self) -> u32 {
        self.0
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

impl Policy {
    /// What the series of one endpoint may lose: its own figure, else its protocol's, else the service's.
    pub fn of(&self, endpoint: &Endpoint) -> AcceptableLoss {
        // Nearly always there is none, and writing an endpoint out costs more than all else here.
        let own =
            (!self.by_endpoint.is_empty()).then(|| self.by_endpoint.get(&endpoint.to_string())).flatten();
        own.or_else(|| self.by_protocol.get(&endpoint.protocol())).copied().unwrap_or(self.acceptable_loss)
    }

    fn has_own(&self, part: &Part) -> bool {
        match part {
            Part::Endpoint(url) => self.by_endpoint.contains_key(url),
            Part::Protocol(protocol) => self.by_protocol.contains_key(protocol),
            Part::Kind(_) => false,
        }
    }
}

/// A part of a service that is looked at by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// All series of one endpoint, by its URL.
    Endpoint(String),
    /// All series of one protocol that are required.
    Protocol(Protocol),
    /// All series from one kind of vantage that are required; where there is more than one kind.
    Kind(VantageKind),
}

/// What is judged: the sums of the newest closed [`JUDGED_SECONDS`], and who was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Each endpoint's series together, and whether the service requires them.
    pub endpoints: Vec<(Endpoint, Window, bool)>,
    /// What of it each kind of vantage has part in; empty, where there is but one.
    pub kinds: BTreeMap<VantageKind, KindSums>,
    /// How many vantages had a known slot within the newest [`SEEN_SECONDS`].
    pub vantages_seen: usize,
    /// For how many seconds the collector has watched.
    pub watched_seconds: u64,
    /// Why what is stored cannot be told, where it cannot: then slots are unknown for a reason, and those that are known
    /// are no fair sample.
    pub storage_untold: Option<String>,
}

/// What one kind of vantage has part in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindSums {
    /// How many of its vantages have slots in the plan.
    pub vantages: usize,
    /// How many of those had a known slot within the newest [`SEEN_SECONDS`].
    pub seen: usize,
    /// Its own window of each endpoint, by the place among [`Sums::endpoints`].
    pub windows: Vec<(usize, Window)>,
}

/// What the windows say of a service, and of each of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Of the service.
    pub state: State,
    /// Why we cannot tell, where a reason is known, be it of the service or of one kind of vantage; or what is set apart of
    /// what is lost.
    pub reason: Option<String>,
    /// The sum of what the service requires.
    pub window: Window,
    /// Of each part: the endpoints, then the protocols, then the kinds of vantage.
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

/// Windows that are judged as one, each with what it may lose: together they may lose what they may lose by themselves.
#[derive(Clone, Copy, Default)]
struct Pool {
    window: Window,
    /// Judged slots, each times the parts per million that may be lost of its like.
    acceptable: u128,
    /// The same for scheduled slots, for the figure to show while nothing is judged.
    scheduled: u128,
}

impl Pool {
    fn add(&mut self, window: Window, acceptable_loss: AcceptableLoss) {
        self.window += window;
        self.acceptable += u128::from(window.judged()) * u128::from(acceptable_loss.0);
        self.scheduled += u128::from(window.scheduled) * u128::from(acceptable_loss.0);
    }

    fn acceptable_loss(&self, default: AcceptableLoss) -> AcceptableLoss {
        let mean = self.scheduled.checked_div(u128::from(self.window.scheduled));
        // A mean of u32 is one.
        mean.and_then(|mean| u32::try_from(mean).ok()).map_or(default, AcceptableLoss)
    }

    /// The state while nobody can tell what is stored: as if all that is unknown had arrived. What is bad even so is bad;
    /// of all else we cannot tell.
    fn state_at_best(&self, watched_seconds: u64) -> State {
        let mut best = *self;
        let unknown = std::mem::take(&mut best.window.unknown);
        best.window.delivered += unknown;
        if self.window.judged() > 0 {
            // What may be lost of the unknown is what may be lost of the known.
            best.acceptable =
                self.acceptable * u128::from(best.window.judged()) / u128::from(self.window.judged());
        }
        match best.state(watched_seconds) {
            State::Healthy => State::Blind,
            other => other,
        }
    }

    fn state(&self, watched_seconds: u64) -> State {
        let Window { lost, unproven, scheduled, .. } = self.window;
        let judged = self.window.judged();
        if judged >= SAMPLES_MIN {
            if lost * 2 >= judged {
                State::Down
            } else if u128::from(lost) * u128::from(AcceptableLoss::MILLION) > self.acceptable {
                State::Degraded
            } else {
                State::Healthy
            }
        } else if scheduled == 0 && watched_seconds >= SAMPLES_MIN {
            // Nobody probes it, and nobody will who had not begun by now.
            State::Blind
        } else if scheduled < SAMPLES_MIN {
            State::Starting
        } else if unproven >= SAMPLES_MIN {
            State::Unproven
        } else if scheduled < JUDGED_SECONDS && (judged + unproven) * 2 > scheduled {
            // A slot or two that its agent did not get to make it no older than it is, and nobody blind.
            State::Starting
        } else {
            State::Blind
        }
    }
}

/// Judges a service. A part with a figure of its own can worsen the verdict; any other is told, and no more, since the
/// whole already counts it.
pub fn judge(policy: &Policy, sums: &Sums) -> Verdict {
    let mut whole = Pool::default();
    let mut protocols: BTreeMap<Protocol, Pool> = BTreeMap::new();
    let mut pools = Vec::with_capacity(sums.endpoints.len() + Protocol::ALL.len());
    for (endpoint, window, required) in &sums.endpoints {
        let acceptable_loss = policy.of(endpoint);
        let mut pool = Pool::default();
        pool.add(*window, acceptable_loss);
        pools.push((Part::Endpoint(endpoint.to_string()), pool, *required));
        if *required {
            whole.add(*window, acceptable_loss);
            protocols.entry(endpoint.protocol()).or_default().add(*window, acceptable_loss);
        }
    }
    pools.extend(protocols.into_iter().map(|(protocol, pool)| (Part::Protocol(protocol), pool, true)));
    pools.extend(sums.kinds.iter().map(|(kind, of_kind)| {
        let mut pool = Pool::default();
        for (place, window) in &of_kind.windows {
            if let Some((endpoint, ..)) = sums.endpoints.get(*place).filter(|(.., required)| *required) {
                pool.add(*window, policy.of(endpoint));
            }
        }
        (Part::Kind(*kind), pool, true)
    }));

    let state_of = |pool: &Pool| match sums.storage_untold {
        Some(_) => pool.state_at_best(sums.watched_seconds),
        None => pool.state(sums.watched_seconds),
    };
    let mut state = worst_kind(&pools, sums, state_of).unwrap_or_else(|| state_of(&whole));
    let mut parts = Vec::with_capacity(pools.len());
    for (part, pool, required) in pools {
        let of_part = state_of(&pool);
        // A dead part of a service is a degraded service: "down" is said of the whole.
        if required && policy.has_own(&part) && matches!(of_part, State::Down | State::Degraded) {
            state = worse(state, State::Degraded);
        }
        let acceptable_loss = pool.acceptable_loss(policy.acceptable_loss);
        parts.push(PartVerdict { part, state: of_part, acceptable_loss, window: pool.window });
    }
    let mut reason = sums.storage_untold.clone();
    let (seen, wanted) = (sums.counted(), policy.min_vantages);
    if seen < wanted {
        state = if sums.watched_seconds < SAMPLES_MIN { State::Starting } else { State::Blind };
        // Where nobody can tell what is stored, who sends is not seen either.
        reason.get_or_insert_with(|| {
            format!("{seen} of the {wanted} vantages that are wanted report{}", sums.by_kind())
        });
    }
    let reason = if state == State::Blind { reason } else { sums.unseen_kinds() };
    Verdict { state, reason, window: whole.window, parts }
}

impl Sums {
    /// How many vantages are seen of those that count as looking at the service.
    fn counted(&self) -> usize {
        let elsewhere = || self.kinds.iter().filter(|(kind, _)| **kind != VantageKind::Loopback);
        if elsewhere().next().is_none() {
            return self.vantages_seen;
        }
        elsewhere().map(|(_, of_kind)| of_kind.seen).sum()
    }

    /// The kinds of vantage, from where customers are to the node.
    fn outside_in(&self) -> Vec<(VantageKind, &KindSums)> {
        let mut kinds: Vec<_> = self.kinds.iter().map(|(kind, of_kind)| (*kind, of_kind)).collect();
        kinds.sort_by_key(|(kind, _)| kind.nearness());
        kinds
    }

    /// " (outside 0 of 2; on its nodes 6 of 6, which are not counted)"; nothing where there is but one kind.
    fn by_kind(&self) -> String {
        let each = self.outside_in().into_iter().map(|(kind, of_kind)| {
            let uncounted = if kind == VantageKind::Loopback { ", which are not counted" } else { "" };
            format!("{} {} of {}{uncounted}", kind.words_of_many(), of_kind.seen, of_kind.vantages)
        });
        let each: Vec<String> = each.collect();
        if each.is_empty() { String::new() } else { format!(" ({})", each.join("; ")) }
    }

    /// Of which kinds of vantage nobody is seen, though others are.
    fn unseen_kinds(&self) -> Option<String> {
        let is_unseen = |of_kind: &KindSums| {
            let scheduled: u64 = of_kind.windows.iter().map(|(_, window)| window.scheduled).sum();
            of_kind.seen == 0 && scheduled >= SAMPLES_MIN
        };
        let unseen = self.outside_in().into_iter().filter(|(_, of_kind)| is_unseen(of_kind));
        let unseen = unseen.map(|(kind, of_kind)| {
            format!("we cannot tell how it does {}: 0 of {} report", kind.words_of_many(), of_kind.vantages)
        });
        let unseen: Vec<String> = unseen.collect();
        (self.watched_seconds >= SAMPLES_MIN && !unseen.is_empty()).then(|| unseen.join("; "))
    }
}

/// The worst state of the kinds of vantage that can be judged; none where there is but one kind, or none can.
fn worst_kind(pools: &[(Part, Pool, bool)], sums: &Sums, state_of: impl Fn(&Pool) -> State) -> Option<State> {
    let states = pools.iter().filter_map(|(part, pool, _)| match part {
        Part::Kind(kind) => Some((*kind, pool.window, state_of(pool))),
        Part::Endpoint(_) | Part::Protocol(_) => None,
    });
    let is_judged = |state| matches!(state, State::Healthy | State::Degraded | State::Down);
    let judged: Vec<_> = states.filter(|(.., state)| is_judged(*state)).collect();
    let outermost = outermost(judged.iter().map(|(kind, ..)| *kind))?;
    let states = judged.into_iter().map(|(kind, window, state)| {
        let vantages = sums.kinds.get(&kind).map_or(0, |of_kind| of_kind.vantages);
        let is_less =
            state == State::Down && !says_down(kind, outermost, vantages, window.judged(), window.lost);
        if is_less { State::Degraded } else { state }
    });
    states.reduce(worse)
}

/// The kind of vantage that is farthest from the service, as customers are.
pub fn outermost(kinds: impl IntoIterator<Item = VantageKind>) -> Option<VantageKind> {
    kinds.into_iter().min_by_key(|kind| kind.nearness())
}

/// Whether what so many `vantages` of a kind lost of what they judged says that the service is down, where `outermost` is
/// looked from too: half or more is, and of a data centre that others reach, more than one of its vantages loses.
pub fn says_down(kind: VantageKind, outermost: VantageKind, vantages: usize, judged: u64, lost: u64) -> bool {
    let is_of_many = kind == VantageKind::Datacentre && lost * vantages as u64 > judged;
    judged > 0 && lost * 2 >= judged && (kind == outermost || is_of_many)
}

fn worse(left: State, right: State) -> State {
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
    if badness(left) >= badness(right) { left } else { right }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(delivered: u64, lost: u64, unproven: u64, unknown: u64) -> Window {
        let scheduled = delivered + lost + unproven + unknown;
        Window { scheduled, delivered, lost, unproven, unknown, ..Window::default() }
    }

    fn seen(endpoints: &[(&str, Window)]) -> Sums {
        let endpoints = endpoints.iter().map(|(url, window)| (url.parse().unwrap(), *window, true)).collect();
        Sums { endpoints, vantages_seen: 1, watched_seconds: 600, ..Sums::default() }
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
        let table = [
            (window(0, 0, 0, 0), State::Blind),
            (window(20, 5, 0, 0), State::Starting),
            (Window { local: 1, missed: 1, scheduled: 31, ..window(29, 0, 0, 0) }, State::Starting),
            (Window { local: 2, scheduled: 31, ..window(0, 0, 29, 0) }, State::Starting),
            (Window { missed: 30, scheduled: 50, ..window(20, 0, 0, 0) }, State::Blind),
            (Window { missed: 2, scheduled: 60, ..window(0, 29, 29, 0) }, State::Blind),
            (window(29, 0, 0, 31), State::Blind),
            (window(0, 0, 60, 0), State::Unproven),
            (window(60, 0, 0, 0), State::Healthy),
            (window(199, 1, 0, 0), State::Healthy),
            (window(198, 2, 0, 0), State::Degraded),
            (window(30, 30, 0, 0), State::Down),
            (window(0, 30, 30, 300), State::Down),
        ];
        for (window, state) in table {
            assert_eq!(judge(&Policy::default(), &seen(&[("tcp://h:1", window)])).state, state, "{window:?}");
        }
    }

    #[test]
    fn a_part_with_a_figure_of_its_own_can_worsen_the_verdict() {
        let sums = seen(&[("tcp://h:1", window(10_000, 0, 0, 0)), ("udp://h:1", window(58, 2, 0, 0))]);
        let mut policy = Policy::default();
        let verdict = judge(&policy, &sums);
        let udp = verdict.parts.iter().find(|part| part.part == Part::Protocol(Protocol::Udp)).unwrap();
        assert_eq!((verdict.state, udp.state), (State::Healthy, State::Degraded));
        for (own, state) in [("1%", State::Degraded), ("5%", State::Healthy)] {
            policy.by_protocol.insert(Protocol::Udp, own.parse().unwrap());
            assert_eq!(judge(&policy, &sums).state, state, "udp may lose {own}");
        }
    }

    #[test]
    fn the_whole_may_lose_what_its_parts_may_lose() {
        let one_per_cent = seen(&[("udp://h:1", window(990, 10, 0, 0))]);
        let mut policy = Policy::default();
        assert_eq!(judge(&policy, &one_per_cent).state, State::Degraded);
        policy.by_protocol.insert(Protocol::Udp, "2%".parse().unwrap());
        let verdict = judge(&policy, &one_per_cent);
        assert_eq!(verdict.state, State::Healthy);
        assert!(verdict.parts.iter().all(|part| part.acceptable_loss.to_string() == "2%"), "{verdict:?}");
        policy.by_endpoint.insert("udp://h:1".to_owned(), "0.1%".parse().unwrap());
        assert_eq!(
            judge(&policy, &one_per_cent).state,
            State::Degraded,
            "the endpoint's own figure comes first"
        );
    }

    #[test]
    fn an_endpoint_that_is_not_required_changes_no_verdict() {
        let mut sums = seen(&[("tcp://h:1", window(60, 0, 0, 0)), ("tcp://h:2", window(0, 60, 0, 0))]);
        assert_eq!(judge(&Policy::default(), &sums).state, State::Down);
        sums.endpoints[1].2 = false;
        let verdict = judge(&Policy::default(), &sums);
        assert_eq!((verdict.state, verdict.parts[1].state), (State::Healthy, State::Down));
        assert_eq!(verdict.window, window(60, 0, 0, 0));
    }

    #[test]
    fn a_reader_that_cannot_tell_blinds_but_hides_no_certain_loss() {
        let table = [
            // What little is known is known because it was lost: no fair sample.
            (window(0, 60, 0, 59_940), State::Blind),
            (window(6_000, 0, 0, 54_000), State::Blind),
            (window(0, 400, 0, 59_600), State::Degraded),
            (window(0, 60, 0, 60), State::Down),
            (window(0, 60, 0, 0), State::Down),
            (window(3, 0, 0, 6), State::Starting),
        ];
        for (window, state) in table {
            let mut sums = seen(&[("tcp://h:1", window)]);
            sums.storage_untold = Some("the reader answers 500".to_owned());
            let verdict = judge(&Policy::default(), &sums);
            assert_eq!(verdict.state, state, "{window:?}");
            assert_eq!(verdict.reason.is_some(), state == State::Blind);
        }
    }

    #[test]
    fn what_blinds_everybody_is_named_before_whom_it_blinds() {
        let mut sums = Sums { vantages_seen: 0, ..seen(&[("tcp://h:1", window(0, 0, 0, 60))]) };
        let reason = |sums: &Sums| judge(&Policy::default(), sums).reason.unwrap();
        assert_eq!(reason(&sums), "0 of the 1 vantages that are wanted report");
        sums.storage_untold = Some("slots of 60 s".to_owned());
        assert_eq!(reason(&sums), "slots of 60 s");
    }

    #[test]
    fn nobody_reporting_is_blind_and_not_down() {
        let policy = Policy { min_vantages: 2, ..Policy::default() };
        let mut sums = seen(&[("tcp://h:1", window(0, 60, 0, 0))]);
        assert_eq!(judge(&policy, &sums).state, State::Blind);
        sums.vantages_seen = 2;
        assert_eq!(judge(&policy, &sums).state, State::Down);
        let unseen = Sums { watched_seconds: 5, ..Sums::default() };
        assert_eq!(judge(&policy, &unseen).state, State::Starting);
    }

    /// What is lost and scheduled of a minute outside, in the data centre and on the nodes, and whether anybody is seen there.
    type Minute = (u64, u64, bool);

    fn from_kinds(outside: Minute, inside: Minute, nodes: Minute) -> Sums {
        let mut sums = seen(&[("tcp://h:1", Window::default())]);
        for (kind, (lost, scheduled, is_seen)) in [
            (VantageKind::External, outside),
            (VantageKind::Datacentre, inside),
            (VantageKind::Loopback, nodes),
        ] {
            if scheduled == 0 {
                continue;
            }
            let own = if is_seen { window(scheduled - lost, lost, 0, 0) } else { window(0, 0, 0, scheduled) };
            let vantages = (scheduled / 60) as usize;
            let of_kind =
                KindSums { vantages, seen: vantages * usize::from(is_seen), windows: vec![(0, own)] };
            sums.endpoints[0].1 += own;
            sums.vantages_seen += of_kind.seen;
            sums.kinds.insert(kind, of_kind);
        }
        sums
    }

    #[test]
    fn each_kind_of_vantage_is_judged_by_itself() {
        let nodes = |lost| (lost, 60_000, true);
        let well = (0, 120, true);
        let silent = (0, 120, false);
        for (outside, inside, nodes, state, reason) in [
            (well, well, nodes(0), State::Healthy, None),
            // Two of a thousand and two: no average hides it.
            ((120, 120, true), well, nodes(0), State::Down, None),
            ((3, 120, true), well, nodes(0), State::Degraded, None),
            // Two agents in the data centre, and one of them.
            (well, (120, 120, true), nodes(0), State::Down, None),
            (well, (60, 120, true), nodes(0), State::Degraded, None),
            (well, (60, 60, true), nodes(0), State::Degraded, None),
            ((60, 120, true), well, nodes(0), State::Down, None),
            ((120, 120, true), (120, 120, true), nodes(60_000), State::Down, None),
            // One node in a thousand is less than may be lost of all; of six it is not, and it is not the service.
            (well, well, nodes(60), State::Healthy, None),
            (well, well, (60, 360, true), State::Degraded, None),
            (well, well, (360, 360, true), State::Degraded, None),
            (well, well, (60, 60, true), State::Degraded, None),
            (
                silent,
                well,
                nodes(0),
                State::Healthy,
                Some("we cannot tell how it does outside: 0 of 2 report"),
            ),
            (
                silent,
                silent,
                nodes(60_000),
                State::Blind,
                Some(
                    "0 of the 1 vantages that are wanted report (outside 0 of 2; in the data centre 0 of 2; on its nodes \
                     1000 of 1000, which are not counted)",
                ),
            ),
            // Where only the nodes look, they are the service.
            ((0, 0, true), (0, 0, true), (240, 360, true), State::Down, None),
        ] {
            let sums = from_kinds(outside, inside, nodes);
            let verdict = judge(&Policy::default(), &sums);
            assert_eq!((verdict.state, verdict.reason.as_deref()), (state, reason), "{sums:?}");
        }
        let verdict = judge(&Policy::default(), &from_kinds((120, 120, true), well, nodes(60)));
        let of_kinds = verdict.parts.into_iter().filter_map(|part| match part.part {
            Part::Kind(kind) => Some((kind, part.state)),
            _ => None,
        });
        let expected = [
            (VantageKind::Datacentre, State::Healthy),
            (VantageKind::External, State::Down),
            (VantageKind::Loopback, State::Healthy),
        ];
        assert_eq!(of_kinds.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_an_endpoint_may_lose_it_may_lose_from_each_kind() {
        let mut sums = from_kinds((2, 120, true), (0, 60, true), (0, 360, true));
        let state = |sums: &Sums, policy: &Policy| judge(policy, sums).state;
        let mut policy = Policy::default();
        assert_eq!(state(&sums, &policy), State::Degraded);
        policy.by_endpoint.insert("tcp://h:1".to_owned(), "2%".parse().unwrap());
        assert_eq!(state(&sums, &policy), State::Healthy);
        sums.endpoints[0].2 = false;
        assert_ne!(state(&sums, &Policy::default()), State::Degraded, "it is not required");
    }
}
