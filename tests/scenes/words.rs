//! A page's words, without what differs from run to run.

/// A fault that less than one in so many lost slots met is that of those who were being served as it began.
const FEW: u64 = 3;

/// Less of a loss than this, in per cent, may be scattered: slots that a busy machine lost beside.
const LITTLE: f64 = 20.0;

/// What a summary then says at its end.
const LITTLE_ELSE: &str = "; little else";

/// `text` with times, durations, counts and ports as placeholders. How many places see it stays; what else is wrong at
/// the time is left out, what the summary was before, the faults of a few, and how much is scattered if that is little.
pub(super) fn steady(text: &str) -> String {
    // What else is wrong depends on what was told first, and a summary was another where its figures were.
    let differ = ["Also wrong now: ", "Changed: was "];
    let differs = |line: &str| differ.iter().any(|begin| line.starts_with(begin)) || is_of_few(line);
    let own = text.lines().filter(|line| !differs(line)).filter_map(without_scattered);
    let lines = own.map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let words: Vec<String> = (0..words.len()).map(|place| word(&words, place)).collect();
        let line = words.join(" ").replace("# min # s", "# s").replace("# min", "# s");
        // What a machine that is busy with other tests did not get to.
        line.replace(", # of # not measured", "")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// `line` with other words for the little of a loss that no cause explains; none where it says nothing else.
fn without_scattered(line: &str) -> Option<String> {
    let as_it_is = || Some(line.to_owned());
    let Some((head, tail)) = line.split_once(" % of the loss is scattered") else { return as_it_is() };
    let Some((before, share)) = head.rsplit_once(' ') else { return as_it_is() };
    match share.parse::<f64>() {
        Ok(share) if share < LITTLE => Some(format!("{}{LITTLE_ELSE}{tail}", before.strip_suffix(';')?)),
        _ => as_it_is(),
    }
}

/// What `told` is to be where `expected` is said of a loss that is alone: beside a little else, nothing is said to be the only one.
pub(super) fn as_told(expected: &str, told: &str) -> String {
    let mut told = told.lines();
    let line = |line: &str| match told.next() {
        Some(told) if told.ends_with(LITTLE_ELSE) => line
            .replace(" only", "")
            .replace(": the address, not the network", "")
            .replace("; nothing else", LITTLE_ELSE),
        _ => line.to_owned(),
    };
    expected.lines().map(line).collect::<Vec<_>>().join("\n")
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

#[test]
fn a_little_that_is_lost_beside_is_no_other_cause() {
    let told = steady(
        "search: node eu-1 (1/6 nodes), 100 % lost; 4.2 % of the loss is scattered\nWhose fault: the service.\nAgainst that: 4.2 % of the loss is scattered: no cause explains it",
    );
    assert_eq!(told, "search: node eu-1 (1/6 nodes), # % lost; little else\nWhose fault: the service.");
    let expected = "search: node eu-1 only (1/6 nodes), # % lost; nothing else\nWhose fault: the service.";
    assert_eq!(as_told(expected, &told), told);
    let much = steady("search: node eu-1 (1/6 nodes), 100 % lost; 31 % of the loss is scattered");
    assert_eq!(much, "search: node eu-1 (1/6 nodes), # % lost; # % of the loss is scattered");
    assert_eq!(as_told(expected, expected), expected);
}
