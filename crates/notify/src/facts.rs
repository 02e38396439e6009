//! What a template may name: a page in words, so that no template need count, round or format a time.

use aviary_core::extent::{Predicate, Rule};
use minijinja::{Value, context};

use crate::page::{Page, Sums, Total, lines, rfc3339};

/// How many exceptions of a cause are named.
const EXCEPTIONS_MAX: usize = 5;

/// The variables of a template. All are there always; what is not known is none, or an empty list.
pub(crate) fn facts(page: &Page) -> Value {
    let values = |lines: &[String]| lines.iter().map(Value::from).collect::<Value>();
    let causes: Vec<String> = page.rules.iter().map(cause).collect();
    let lasted = lasted(page.at.second().0.saturating_sub(page.since.second().0));
    context! {
        message => page.message(),
        test => page.test,
        key => &page.key,
        incident => &page.incident,
        severity => page.level().name(),
        state => &page.state,
        services => values(&page.services),
        summary => &page.summary,
        at => rfc3339(page.at),
        since => rfc3339(page.since),
        lasted => lasted,
        window => page.window.map(window),
        measured => &page.measured,
        total => page.total.map(total),
        acceptable => page.acceptable.map(|acceptable| acceptable.to_string().replace('%', " %")),
        vantages => page.vantages.map(|share| context! { count => share.count, of => share.of }),
        questions => context! {
            one_zone => page.questions.one_zone.words(),
            one_protocol => page.questions.one_protocol.words(),
        },
        causes => values(&lines(&causes)),
        evidence => values(&page.evidence),
        blame => page.blame.words(),
        against => values(&page.against),
        last_change => &page.last_change,
        changed => values(&page.changed),
        also_open => values(&page.also_open),
        owner => &page.owner,
        runbook => &page.runbook,
        url => &page.url,
        links => page.links.iter().map(|link| context! { text => &link.text, href => &link.href }).collect::<Value>(),
    }
}

fn window(Sums { seconds, scheduled, delivered, lost }: Sums) -> Value {
    let judged = delivered + lost;
    context! {
        seconds, scheduled, delivered, lost, judged,
        not_measured => scheduled.saturating_sub(judged),
        rate => percent(delivered, judged),
    }
}

fn total(Total { judged, lost, seconds, worst }: Total) -> Value {
    context! { judged, lost, seconds, worst => aviary_core::extent::percent(worst) }
}

/// A share in per cent, with as many decimals as it takes, up to three. What is not all is never rounded to all.
fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "nothing judged".to_owned();
    }
    let thousandths = u128::from(part) * 100_000 / u128::from(whole);
    let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn lasted(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Such as `protocol udp, but for region eu-west-1: 48 of 48 lost, 100 % of the loss`.
fn cause(rule: &Rule) -> String {
    let mut except: Vec<String> = rule.except.iter().take(EXCEPTIONS_MAX).map(place).collect();
    if rule.except.len() > EXCEPTIONS_MAX {
        except.push(format!("{} more", rule.except.len() - EXCEPTIONS_MAX));
    }
    let except = match except.is_empty() {
        true => String::new(),
        false => format!(", but for {}", except.join(" and ")),
    };
    let share = (rule.share * 100.0).round();
    format!("{}{except}: {} of {} lost, {share} % of the loss", place(&rule.matches), rule.lost, rule.judged)
}

fn place(predicate: &Predicate) -> String {
    match predicate.0.is_empty() {
        true => "everything".to_owned(),
        false => {
            let tags: Vec<String> = predicate.0.iter().map(|(tag, value)| format!("{tag} {value}")).collect();
            tags.join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_all_is_not_rounded_to_all() {
        let table = [
            (0, 48, "0 %"),
            (48, 48, "100 %"),
            (1, 3, "33.333 %"),
            (999_999, 1_000_000, "99.999 %"),
            (9_999_999, 10_000_000, "99.999 %"),
            (1, 2, "50 %"),
            (u64::MAX - 1, u64::MAX, "99.999 %"),
            (0, 0, "nothing judged"),
        ];
        for (part, whole, expected) in table {
            assert_eq!(percent(part, whole), expected);
        }
    }

    #[test]
    fn a_cause_says_where_it_is_and_where_not() {
        let node = |number: usize| Predicate([(aviary_core::Tag::Node, format!("n{number}"))].into());
        let full = Page::full().rules.remove(0);
        let table = [
            (full.clone(), "protocol udp: 48 of 48 lost, 100 % of the loss"),
            (
                Rule { matches: Predicate::default(), except: vec![node(1)], ..full.clone() },
                "everything, but for node n1: 48 of 48 lost, 100 % of the loss",
            ),
            (
                Rule { except: (0..7).map(node).collect(), share: 0.374, ..full },
                "protocol udp, but for node n0 and node n1 and node n2 and node n3 and node n4 and 2 more: 48 of 48 lost, 37 % of the loss",
            ),
        ];
        for (rule, expected) in table {
            assert_eq!(cause(&rule), expected);
        }
    }

    #[test]
    fn durations_are_read_at_a_glance() {
        let table = [
            (0, "0 s"),
            (8, "8 s"),
            (60, "1 min"),
            (200, "3 min 20 s"),
            (3600, "1 h"),
            (9_000, "2 h 30 min"),
        ];
        for (seconds, expected) in table {
            assert_eq!(lasted(seconds), expected);
        }
    }
}
