//! What the demo is told to do: by keys where somebody sits at a terminal, by words where a script does.

use std::{
    io::{self, Read as _},
    thread,
    time::Duration,
};

use tokio::sync::mpsc;

use super::fault::Fault;
use crate::terminal::END_OF_TRANSMISSION;

/// So many steps wait to be taken; the rest waits in the pipe.
const STEPS_MAX: usize = 16;

/// What is played where nobody says what to play: each fault once. The way back to well takes a minute, in which the next
/// service can be broken, and an agent comes last, for without it nothing is seen to recover.
const TOUR: &str = "u wait m a wait m wait r wait m n wait";

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Breaks it, or mends it if it is broken.
    Toggle(Fault),
    /// Mends all that is broken.
    Mend,
    /// Tells why the last page was sent.
    Explain,
    /// Waits for the pages of what is broken, or else for the end of every incident.
    Wait,
    /// Does nothing for a while.
    Pause(Duration),
    /// Ends the demo.
    Quit,
}

/// What comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Step(Step),
    /// A word that means nothing.
    Wrong(String),
    /// There is no more.
    End,
}

impl Step {
    /// What a key does, if it does anything.
    fn of_key(key: char) -> Option<Self> {
        let fault = Fault::ALL.into_iter().find(|fault| fault.key() == key);
        match key {
            'm' => Some(Self::Mend),
            'e' => Some(Self::Explain),
            'q' => Some(Self::Quit),
            _ => fault.map(Self::Toggle),
        }
    }

    /// What a word of a script does: a key, `wait`, or a pause such as `20s`.
    fn of_word(word: &str) -> Option<Self> {
        let seconds = || word.strip_suffix('s')?.parse().ok().map(Duration::from_secs).map(Self::Pause);
        let mut letters = word.chars();
        match (letters.next(), letters.next()) {
            (Some(key), None) => Self::of_key(key),
            _ if word == "wait" => Some(Self::Wait),
            _ => seconds(),
        }
    }
}

/// What comes in on standard input. It is read by a thread of its own, which nobody waits for: reading cannot be given up.
pub(super) fn read(is_keys: bool) -> anyhow::Result<mpsc::Receiver<Input>> {
    let (inputs, taken) = mpsc::channel(STEPS_MAX);
    let reader = thread::Builder::new().name("input".to_owned());
    reader.spawn(move || {
        let tell = |input| inputs.blocking_send(input).is_ok();
        let ended = if is_keys { keys(&tell) } else { words(io::stdin().lock(), &tell) };
        // Whoever took them has ended, or is told that no more come.
        _ = ended && tell(Input::End);
    })?;
    Ok(taken)
}

/// Whether somebody still listens at the end.
fn keys(tell: &impl Fn(Input) -> bool) -> bool {
    // A byte is a key: those that mean something have one each.
    for byte in io::stdin().lock().bytes() {
        let step = match byte {
            Ok(END_OF_TRANSMISSION) => Some(Step::Quit),
            Ok(byte) => Step::of_key(byte.into()),
            Err(_) => return true,
        };
        if step.is_some_and(|step| !tell(Input::Step(step))) {
            return false;
        }
    }
    true
}

/// The same, of words. Where there is none, the tour is played.
fn words(lines: impl io::BufRead, tell: &impl Fn(Input) -> bool) -> bool {
    let tell_word = |word: &str| {
        let input = Step::of_word(word).map_or_else(|| Input::Wrong(word.to_owned()), Input::Step);
        tell(input)
    };
    let mut is_empty = true;
    for line in lines.lines().map_while(Result::ok) {
        for word in line.split_whitespace() {
            is_empty = false;
            if !tell_word(word) {
                return false;
            }
        }
    }
    !is_empty || TOUR.split_whitespace().all(tell_word)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn read(script: &str) -> Vec<Input> {
        let seen = RefCell::new(Vec::new());
        assert!(words(script.as_bytes(), &|input| {
            seen.borrow_mut().push(input);
            true
        }));
        seen.into_inner()
    }

    #[test]
    fn words_are_keys_waits_and_pauses() {
        let step = Input::Step;
        let expected = [
            step(Step::Toggle(Fault::Udp)),
            step(Step::Wait),
            step(Step::Pause(Duration::from_secs(20))),
            step(Step::Mend),
            Input::Wrong("x".to_owned()),
            Input::Wrong("-1s".to_owned()),
            Input::Wrong("waits".to_owned()),
            step(Step::Quit),
        ];
        assert_eq!(read("u wait\n20s\n\nm x -1s waits\nq"), expected);
    }

    #[test]
    fn the_tour_breaks_each_fault_once_and_waits_for_its_page() {
        let tour = read(" \n");
        assert_eq!(tour, read(TOUR));
        for fault in Fault::ALL {
            let places: Vec<_> =
                tour.iter().enumerate().filter(|(_, it)| **it == Input::Step(Step::Toggle(fault))).collect();
            let [(place, _)] = places[..] else { panic!("{fault:?}: {tour:?}") };
            assert_eq!(tour[place + 1], Input::Step(Step::Wait), "{fault:?}");
        }
    }

    #[test]
    fn no_two_keys_are_one() {
        let keys: std::collections::BTreeSet<char> =
            Fault::ALL.into_iter().map(Fault::key).chain("meq".chars()).collect();
        assert_eq!(keys.len(), Fault::ALL.len() + 3);
    }
}
