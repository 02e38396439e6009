//! Times, shares and states as pages show them.

use aviary_core::{Second, VantageKind, Window, extent::percent, verdict};
use maud::{Markup, html};

pub(crate) use crate::delivery::words::{counted, lasted, rfc3339};
use crate::sums::WindowBody;

/// A time with its zone, which programs can read too.
pub(crate) fn time(second: u64) -> Markup {
    let exact = rfc3339(Second(second));
    let shown = exact.replace('T', " ").replace('Z', " UTC");
    html! { time datetime=(exact) { (shown) } }
}

/// A time, and how long ago that is.
pub(crate) fn since(second: u64, now: u64) -> Markup {
    html! { (time(second)) " " span.ago { (lasted(now.saturating_sub(second))) " ago" } }
}

/// A number with its thousands apart.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A state in a word and a shape of its own, so that colour is never the only sign.
pub(crate) fn state(name: &str) -> Markup {
    let (shape, word) = match name {
        "healthy" => ("●", "healthy"),
        "degraded" => ("▲", "degraded"),
        "down" => ("■", "down"),
        "blind" => ("?", "cannot tell"),
        "unproven" => ("○", "unproven"),
        other => ("◌", other),
    };
    html! { span class={ "state " (name) } { span.shape aria-hidden="true" { (shape) } " " (word) } }
}

/// From where a kind of vantage looks.
pub(crate) fn kind(name: &str) -> &str {
    name.parse().map_or(name, |kind: VantageKind| kind.words())
}

/// How bad a state is: the worst first.
pub(crate) const fn rank(state: verdict::State) -> u8 {
    match state {
        verdict::State::Down => 0,
        verdict::State::Degraded => 1,
        verdict::State::Blind => 2,
        verdict::State::Unproven => 3,
        verdict::State::Starting => 4,
        verdict::State::Healthy => 5,
    }
}

/// What a window says of loss in a few words: a share where anything was judged, and otherwise why nothing was.
pub(crate) fn loss(window: &WindowBody) -> String {
    let judged = window.delivered + window.lost;
    if judged > 0 {
        return match window.lost {
            0 => "none lost".to_owned(),
            lost => format!("{} lost", percent(lost as f64 / judged as f64)),
        };
    }
    let WindowBody { unproven, muted, unknown, local, missed, .. } = *window;
    let most = [
        (unknown, "cannot tell"),
        (local + missed, "not measured"),
        (unproven, "unproven"),
        (muted, "not probed"),
    ];
    let (count, word) = most.into_iter().max_by_key(|(count, _)| *count).unwrap_or_default();
    if count > 0 { word } else { "nothing scheduled" }.to_owned()
}

/// The class of a window's colour: by its loss, or that nothing is known of it.
pub(crate) const fn shade(window: &WindowBody) -> &'static str {
    let judged = window.delivered + window.lost;
    match (judged, window.lost) {
        (0, _) => "shade-none",
        (_, 0) => "shade-0",
        (judged, lost) if lost * 100 < judged => "shade-1",
        (judged, lost) if lost * 10 < judged => "shade-2",
        (judged, lost) if lost * 2 < judged => "shade-3",
        _ => "shade-4",
    }
}

/// What of a window says nothing of the service, where there is any: such as `3 not measured, 2 cannot tell`.
pub(crate) fn beside(window: &WindowBody) -> Option<String> {
    let WindowBody { local, missed, muted, unproven, unknown, .. } = *window;
    let parts = [
        (local + missed, "not measured"),
        (unknown, "cannot tell"),
        (unproven, "unproven"),
        (muted, "not probed"),
    ];
    let said: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{} {word}", number(count)))
        .collect();
    (!said.is_empty()).then(|| said.join(", "))
}

/// Nothing at all.
pub(crate) fn nothing() -> WindowBody {
    Window::default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(delivered: u64, lost: u64) -> Window {
        Window { scheduled: delivered + lost, delivered, lost, ..Window::default() }
    }

    #[test]
    fn a_window_says_what_was_lost_or_why_nobody_knows() {
        let unjudged = |set: fn(&mut Window)| {
            let mut window = Window::default();
            set(&mut window);
            window
        };
        let table = [
            (window(60, 0), "none lost", "shade-0"),
            (window(9_999, 1), "0.0 % lost", "shade-1"),
            (window(59, 1), "1.7 % lost", "shade-2"),
            (window(48, 12), "20 % lost", "shade-3"),
            (window(0, 60), "100 % lost", "shade-4"),
            (unjudged(|it| it.unknown = 9), "cannot tell", "shade-none"),
            (unjudged(|it| it.missed = 9), "not measured", "shade-none"),
            (unjudged(|it| it.local = 9), "not measured", "shade-none"),
            (unjudged(|it| it.unproven = 9), "unproven", "shade-none"),
            (unjudged(|it| it.muted = 9), "not probed", "shade-none"),
            (Window::default(), "nothing scheduled", "shade-none"),
        ];
        for (window, words, class) in table {
            let body = WindowBody::from(window);
            assert_eq!((loss(&body).as_str(), shade(&body)), (words, class), "{window:?}");
        }
        let mixed = Window { missed: 1, local: 2, unknown: 1_000, ..window(5, 0) };
        assert_eq!(beside(&mixed.into()).unwrap(), "3 not measured, 1,000 cannot tell");
        assert_eq!(beside(&window(5, 5).into()), None);
    }

    #[test]
    fn numbers_and_times_are_for_people_and_programs() {
        let table = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        for (given, expected) in table {
            assert_eq!(number(given), expected);
        }
        let expected = r#"<time datetime="2025-11-21T02:00:00Z">2025-11-21 02:00:00 UTC</time>"#;
        assert_eq!(time(1_763_690_400).into_string(), expected);
    }

    #[test]
    fn no_two_states_have_one_shape() {
        let shapes: std::collections::BTreeSet<String> = verdict::State::ALL
            .iter()
            .map(|it| state(it.name()).into_string())
            .filter_map(|html| {
                Some(html.split_once("aria-hidden=\"true\">")?.1.split_once('<')?.0.to_owned())
            })
            .collect();
        assert_eq!(shapes.len(), verdict::State::ALL.len(), "{shapes:?}");
    }
}
