//! The values that are written as text: names, shares, durations, addresses, endpoints and URLs.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use aviary_core::{AcceptableLoss, Endpoint, graphite};
use reqwest::Url;

use super::{
    context::Refusal,
    kind::{Kind, text},
    source::quotable,
};

/// The longest tag or name: what Graphite keeps of one part of a name.
const TEXT_BYTES_MAX: usize = graphite::PART_BYTES_MAX;

/// Names that paths of the HTTP API already have, so that a service of such a name could not be asked for.
const RESERVED_NAMES: [&str; 16] = [
    "agents",
    "api",
    "assets",
    "debug",
    "deepcheck",
    "healthcheck",
    "healthz",
    "incidents",
    "live",
    "metrics",
    "readyz",
    "runbooks",
    "services",
    "sign-in",
    "sign-out",
    "v1",
];

/// A line of text for people, or a tag.
pub(super) fn line(example: &'static str) -> impl Kind<Output = String> {
    text("text", example, |given| {
        if given.trim().is_empty() {
            Err(Refusal::new("it is empty").help("leave the key out, or give it a text"))
        } else if given.len() > TEXT_BYTES_MAX {
            Err(Refusal::new(format!("{} bytes are too many", given.len()))
                .help(format!("at most {TEXT_BYTES_MAX}")))
        } else if given.chars().any(char::is_control) {
            Err(Refusal::new("a line break or another control character does not belong here")
                .help("leave it out"))
        } else {
            Ok(given.to_owned())
        }
    })
}

/// A name that is part of Graphite names, page keys or API paths.
pub(super) fn name(example: &'static str) -> impl Kind<Output = String> {
    text("a name", example, parse_name)
}

/// A service's name, which is also a path of the API.
pub(super) fn service_name() -> impl Kind<Output = String> {
    text("a name", "ingest", |given| {
        if RESERVED_NAMES.contains(&given) {
            let help = format!("these names are paths of the API already: {}", RESERVED_NAMES.join(", "));
            return Err(Refusal::new(format!("a service cannot be called `{given}`")).help(help));
        }
        parse_name(given)
    })
}

fn parse_name(given: &str) -> Result<String, Refusal> {
    const HELP: &str = "a name is made of A-Z, a-z, 0-9, `_` and `-`";
    if given.is_empty() {
        return Err(Refusal::new("the name is empty").help(HELP));
    }
    if given.len() > TEXT_BYTES_MAX {
        return Err(Refusal::new("the name is too long").help(format!("at most {TEXT_BYTES_MAX} bytes")));
    }
    match given.chars().find(|char| !u8::try_from(*char).is_ok_and(graphite::is_name_byte)) {
        Some(char) => Err(Refusal::new(format!("{char:?} may not stand in a name")).help(HELP)),
        None => Ok(given.to_owned()),
    }
}

/// What the Graphite names of a service begin with: names between dots.
pub(super) fn prefix() -> impl Kind<Output = String> {
    text("a prefix", "canary", |given| {
        given.split('.').try_for_each(|part| parse_name(part).map(drop))?;
        Ok(given.to_owned())
    })
}

/// The share of slots that may be lost.
pub(super) fn share() -> impl Kind<Output = AcceptableLoss> {
    text("a share with its per-cent sign", "0.5%", |given| {
        given
            .parse()
            .map_err(|error: aviary_core::verdict::AcceptableLossError| Refusal::new(error.to_string()))
    })
}

/// A length of time with its unit.
pub(super) fn duration(example: &'static str) -> impl Kind<Output = Duration> {
    text("a duration with its unit", example, parse_duration)
}

/// A length of time in whole seconds, for what is looked at once a second.
pub(super) fn seconds(example: &'static str) -> impl Kind<Output = u64> {
    text("a duration with its unit", example, |given| {
        let duration = parse_duration(given)?;
        if duration.subsec_nanos() != 0 {
            return Err(Refusal::new(format!("`{}` is no whole number of seconds", quotable(given)))
                .help("write such as \"10s\""));
        }
        Ok(duration.as_secs())
    })
}

fn parse_duration(given: &str) -> Result<Duration, Refusal> {
    let refusal = || {
        Refusal::new(format!("`{}` is no duration", quotable(given)))
            .help("write a number with its unit (ms, s, m, h or d), such as \"10s\"")
    };
    // Days are 24 hours here: nothing that is configured as a duration knows of a calendar.
    let span: jiff::Span = given.parse().map_err(|_| refusal())?;
    let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| refusal())?;
    Duration::try_from(duration).map_err(|_| refusal())
}

/// An address without a port.
pub(super) fn address() -> impl Kind<Output = IpAddr> {
    text("an address", "192.0.2.7", |given| {
        let refusal = || Refusal::new(format!("`{}` is no address", quotable(given)));
        given.parse().map_err(|_| refusal().help("write such as \"192.0.2.7\" or \"2001:db8::7\""))
    })
}

/// An address and port to listen on.
pub(super) fn listener(example: &'static str) -> impl Kind<Output = SocketAddr> {
    text("an address with its port", example, move |given| {
        given.parse().map_err(|_| {
            Refusal::new(format!("`{}` is no address to listen on", quotable(given)))
                .help(format!("write ADDRESS:PORT with a number for both, such as \"{example}\""))
        })
    })
}

/// A number of bytes with its unit.
pub(super) fn size(example: &'static str) -> impl Kind<Output = u64> {
    text("a size with its unit", example, |given| {
        let has_unit = given.ends_with(['b', 'B']);
        let size = given.parse::<bytesize::ByteSize>().ok().filter(|_| has_unit);
        size.map(|size| size.as_u64()).ok_or_else(|| {
            Refusal::new(format!("`{}` is no size", quotable(given)))
                .help("write a number with its unit (B, KiB, MiB or GiB), such as \"256MiB\"")
        })
    })
}

/// What is probed.
pub(super) fn endpoint() -> impl Kind<Output = Endpoint> {
    text("an endpoint's URL", "tcp://graphite.example.com:2003", parse_endpoint)
}

/// The endpoint that `given` is.
pub(super) fn parse_endpoint(given: &str) -> Result<Endpoint, Refusal> {
    given.parse().map_err(|error: aviary_core::endpoint::EndpointError| Refusal::new(error.to_string()))
}

/// The URL of an HTTP server.
pub(super) fn http_url(example: &'static str) -> impl Kind<Output = Url> {
    text("a URL", example, move |given| {
        let such_as = format!("write a URL such as \"{example}\"");
        let url = Url::parse(given).map_err(|error| {
            Refusal::new(format!("`{}` is no URL ({error})", quotable(given))).help(&such_as)
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refusal::new(format!("`{}` is not http or https", url.scheme())).help(such_as));
        }
        if !url.username().is_empty() || url.password().is_some() {
            let message = "a user or password does not belong in the URL, where logs would show it";
            return Err(Refusal::new(message).help("leave it out"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Refusal::new("what follows `?` or `#` is never used").help("leave it out"));
        }
        Ok(url)
    })
}

/// A directory or file that the program writes to.
pub(super) fn place(example: &'static str) -> impl Kind<Output = PathBuf> {
    text("a path", example, |given| match given {
        "" => Err(Refusal::new("the path is empty").help("leave the key out, or give it a path")),
        path => Ok(path.into()),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What `kind` makes of `given`, or the message with which it refuses it.
    pub(crate) fn read<K: Kind>(kind: K, given: &str) -> Result<K::Output, String> {
        use super::super::{
            Environment,
            context::{Context, Given, Value},
            source::Source,
        };
        let (source, environment) = (Source::new("".as_ref(), String::new()), Environment::default());
        let nothing = toml::de::DeTable::new();
        let context = Context::new(&source, &nothing, &environment, "host");
        let value =
            kind.read(Value { given: Given::Variable(given), path: "key", variables: None }, &context);
        value.ok_or_else(|| context.into_problems().remove(0).message)
    }

    #[test]
    fn durations_need_a_unit() {
        let table = [
            ("10s", 10_000),
            ("0s", 0),
            ("500ms", 500),
            ("1.5s", 1_500),
            ("5m", 300_000),
            ("400d", 34_560_000_000),
        ];
        for (given, millis) in table {
            assert_eq!(read(duration("10s"), given), Ok(Duration::from_millis(millis)), "{given}");
        }
        for given in ["10", "10 parsecs", "-5s", "", "s", "1mo", "999999999999d"] {
            assert_eq!(read(duration("10s"), given), Err(format!("`{given}` is no duration")));
        }
    }

    #[test]
    fn what_is_looked_at_once_a_second_has_whole_seconds() {
        for (given, expected) in [("0s", 0), ("90s", 90), ("5m", 300), ("2000ms", 2)] {
            assert_eq!(read(seconds("10s"), given), Ok(expected));
        }
        assert_eq!(read(seconds("10s"), "1.5s"), Err("`1.5s` is no whole number of seconds".to_owned()));
        assert_eq!(read(seconds("10s"), "10"), Err("`10` is no duration".to_owned()));
    }

    #[test]
    fn sizes_need_a_unit() {
        let table =
            [("256MiB", 256 << 20), ("1 GiB", 1 << 30), ("1.5KiB", 1_536), ("10MB", 10_000_000), ("7B", 7)];
        for (given, bytes) in table {
            assert_eq!(read(size("256MiB"), given), Ok(bytes), "{given}");
        }
        for given in ["256", "256M", "MiB", "", "-1MiB", "much"] {
            assert_eq!(read(size("256MiB"), given), Err(format!("`{given}` is no size")));
        }
    }

    #[test]
    fn names_are_safe_between_the_dots_of_graphite() {
        assert_eq!(read(name("main"), "eu-west_1"), Ok("eu-west_1".to_owned()));
        assert_eq!(read(prefix(), "team.canary"), Ok("team.canary".to_owned()));
        let table = [
            ("", "the name is empty"),
            ("a b", "' ' may not stand in a name"),
            ("é", "'é' may not stand in a name"),
        ];
        for (given, message) in table {
            assert_eq!(read(name("main"), given), Err(message.to_owned()));
        }
        assert_eq!(read(name("main"), &"x".repeat(250)), Err("the name is too long".to_owned()));
        for reserved in RESERVED_NAMES {
            assert_eq!(
                read(service_name(), reserved),
                Err(format!("a service cannot be called `{reserved}`"))
            );
        }
    }
}
