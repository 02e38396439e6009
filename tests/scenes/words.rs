//! A page's words, without what differs from run to run.

/// A fault that less than one in so many lost slots met is that of those who were being served as it began.
const FEW: u64 = 3;

/// `text` with times, durations, counts and ports as placeholders. How many places see it stays; what else is wrong at
/// the time is left out, what the summary was before, and the faults of a few.
pub(super) fn steady(text: &str) -> String {
    // What else is wrong depends on what was told first, and a summary was another where its figures were.
    let differ = ["Also wrong now: ", "Changed: was "];
    let differs = |line: &str| differ.iter().any(|begin| line.starts_with(begin)) || is_of_few(line);
    let own = text.lines().filter(|line| !differs(line));
    let lines = own.map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let words: Vec<String> = (0..words.len()).map(|place| word(&words, place)).collect();
        let line = words.join(" ").replace("# min # s", "# s").replace("# min", "# s");
        // What a machine that is busy with other tests did not get to.
        line.replace(", # of # not measured", "")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether `line` is evidence of a fault, `confirm reset, 3 of 60`, that few slots met.
fn is_of_few(line: &str) -> bool {
    let counts = || {
        let (_, counts) = line.strip_prefix("Evidence: ")?.rsplit_once(", ")?;
        let (met, of) = counts.split_once(" of ")?;
        Some((met.parse::<u64>().ok()?, of.parse::<u64>().ok()?))
    };
    counts().is_some_and(|(met, of)| met * FEW < of)
}

fn word(words: &[&str], place: usize) -> String {
    let word = words[place];
    let end = word.trim_end_matches([',', '.', ';', ')']);
    let (bare, tail) = word.split_at(end.len());
    let (head, bare) = bare.split_at(bare.len() - bare.trim_start_matches('(').len());
    let next = words.get(place + 1).copied().unwrap_or_default();
    if bare.ends_with('Z') && bare.contains('T') && bare.starts_with("20") {
        return format!("{head}TIME{tail}");
    }
    if let Some((host, port)) = bare.rsplit_once(':')
        && port.len() >= 4
        && port.chars().all(|digit| digit.is_ascii_digit())
    {
        return format!("{head}{host}:PORT{tail}");
    }
    let is_number = bare.parse::<f64>().is_ok();
    let is_place = ["vantage", "regions"].iter().any(|thing| next.starts_with(thing));
    let is_seen = words[0] == "Seen" || next == "do";
    if is_number && !is_place && !is_seen {
        return format!("{head}#{tail}");
    }
    word.to_owned()
}

#[test]
fn what_differs_is_left_out() {
    assert_eq!(
        steady(
            "Since 2026-11-21T03:14:52Z, 1 min 3 s before.\nDelivered 0 of 48 in 8 s (0 %), 47 lost, 1 of 48 not measured; 1 % lost at\n127.0.0.3:20033, (3/3 regions) 6 vantages"
        ),
        "Since TIME, # s before.\nDelivered # of # in # s (# %), # lost; # % lost at\n127.0.0.3:PORT, (3/3 regions) 6 vantages"
    );
    assert_eq!(
        steady(
            "Evidence: connect refused, 188 of 200\nEvidence: confirm reset, 12 of 200\nEvidence: 2 vantages see it"
        ),
        "Evidence: connect refused, # of #\nEvidence: 2 vantages see it"
    );
}
