//! `agent_check`, `[agent.rotation]` and `[agent.consul]`: who asks this agent, and whom it tells, whether its node is to be in
//! rotation.

use std::{net::SocketAddr, time::Duration};

use reqwest::Url;

use super::{
    agent::is_loopback,
    context::Refusal,
    kind::{Kind, section, some, text, values},
    reader::Reader,
    receiver::refuse_key_in_clear,
    scalar,
    secret::{self, Pem, Secret},
    source::quotable,
};

/// Who asks, and who is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Where HAProxy's agent checks are answered.
    pub(crate) agent_check: Option<SocketAddr>,
    /// The file that says it, with `{service}` in its path.
    pub(crate) file: Option<String>,
    /// The program that is told, and its arguments, with placeholders in them.
    pub(crate) command: Vec<String>,
    /// The Consul agent that is told.
    pub(crate) consul: Option<Consul>,
}

/// A Consul agent, where a check of our own stands for the advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consul {
    /// Where it is.
    pub(crate) url: Url,
    /// What it knows us by.
    pub(crate) token: Option<Secret>,
    /// PEM certificates to trust, beside the system's.
    pub(crate) ca: Option<Pem>,
    /// The id of our check, with `{service}` in it.
    pub(crate) check: String,
    /// The id under which Consul knows this node's instance of the service, with `{service}` in it where they are several.
    pub(crate) instance: String,
    /// How often it is told.
    pub(crate) every: Duration,
    /// For how long it believes what it was told last: then it takes the node out.
    pub(crate) ttl: Duration,
}

/// How often a Consul agent may be told.
const EVERY_ALLOWED: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
const EVERY: Duration = Duration::from_secs(5);

/// So many times over is what it was told believed, at least: an agent that starts anew is not to cost its node's place.
const TTL_PERIODS_MIN: u32 = 10;
const TTL_PERIODS: u32 = 12;

/// Reads who asks and who is told.
pub(super) fn steering(reader: &mut Reader<'_>) -> Told {
    let about = "where HAProxy's agent checks are answered: `agent-port` of a server on this host";
    let agent_check = reader.optional("agent_check", about, scalar::listener("127.0.0.1:8613"));
    let about = "who is told when this node is to leave rotation or to come back";
    let told = reader.optional("rotation", about, section(rotation)).unwrap_or_default();
    let about = "a Consul agent that has a check for it";
    let consul = reader.optional("consul", about, section(consul));
    Told { agent_check, consul, ..told }
}

fn rotation(reader: &mut Reader<'_>) -> Option<Told> {
    let about =
        "a file that says it, replaced at each change; whoever reads it is to believe it up to `until`";
    let path = template("a path", "/run/aviary/{service}.json", &["service"], &["service"]);
    let file = reader.optional("file", about, path);
    let about = "a program with its arguments, run without a shell at each change until it ends with 0";
    let argument = template("text", "/usr/local/bin/steer", &[], &["service", "state", "weight"]);
    let command = reader.optional("command", about, some(argument));
    if !reader.has("file") && !reader.has("command") {
        let help = "write file = \"/run/aviary/{service}.json\", or command = [\"PROGRAM\", \"{service}\", \"{state}\"]";
        reader.refuse_whole(Refusal::new("neither `file` nor `command` says who is told").help(help));
    }
    Some(Told { file, command: values(command.unwrap_or_default()), ..Told::default() })
}

fn consul(reader: &mut Reader<'_>) -> Option<Consul> {
    let url = reader.required("url", "where it is", scalar::http_url("http://127.0.0.1:8500"));
    let token = reader.optional("token", "what it knows this agent by", secret::api_key());
    let ca = reader.optional("ca", "an authority to trust beside the system's", secret::authorities());
    let about = "the id of the check, which is this agent's own; `aviary:{service}` by default";
    let check =
        reader.optional("check", about, template("text", "aviary:{service}", &["service"], &["service"]));
    let about = "the id under which Consul knows this node's instance of the service; `{service}` by default";
    let instance = reader.optional("instance", about, template("text", "{service}", &[], &["service"]));
    let every = reader.optional("every", "how often it is told; 5s by default", scalar::duration("5s"));
    let about = "for how long it believes that; twelve times `every` by default, and ten at least";
    let ttl = reader.optional("ttl", about, scalar::duration("60s"));

    let every = every.unwrap_or(EVERY);
    if !EVERY_ALLOWED.contains(&every) {
        let message = format!("{} ms are not between 1 s and 60 s", every.as_millis());
        reader.refuse("every", Refusal::new(message).help("write such as \"5s\""));
    }
    let ttl = ttl.unwrap_or(every * TTL_PERIODS);
    if ttl < every * TTL_PERIODS_MIN {
        let message = "Consul takes the node out once this has passed: with less than ten times `every`, an agent that merely starts anew \
             would cost its node's place";
        let help = format!("write \"{}s\" or more", (every * TTL_PERIODS_MIN).as_secs());
        reader.refuse("ttl", Refusal::new(message).help(help));
    }
    let url = url?;
    if reader.has("token") {
        refuse_key_in_clear(reader, "url", std::slice::from_ref(&url));
    } else if url.scheme() == "http" && !is_loopback(&url) {
        let message = "whoever is on the way could put this node in and out of rotation";
        reader
            .note("url", Refusal::new(message).help("ask the Consul agent of this host, or write https://"));
    }
    let check = check.unwrap_or_else(|| "aviary:{service}".to_owned());
    let instance = instance.unwrap_or_else(|| "{service}".to_owned());
    Some(Consul { url, token, ca, check, instance, every, ttl })
}

/// Text with placeholders of which some are needed, and no others are known than these.
fn template(
    what: &'static str,
    example: &'static str,
    needed: &'static [&'static str],
    known: &'static [&'static str],
) -> impl Kind<Output = String> {
    text(what, example, move |given| {
        let names = known.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ");
        if given.is_empty() || given.chars().any(char::is_control) {
            return Err(Refusal::new("it is empty, or has control characters in it").help("write a text"));
        }
        for part in given.split('{').skip(1) {
            let name = part.split_once('}').map(|(name, _)| name);
            if !name.is_some_and(|name| known.contains(&name)) {
                let message = format!("`{{{}` is no placeholder", quotable(part));
                return Err(Refusal::new(message).help(format!("the placeholders are {names}")));
            }
        }
        match needed.iter().find(|name| !given.contains(&format!("{{{name}}}"))) {
            Some(name) => {
                let message =
                    format!("without {{{name}}}, what is said of one service would replace another's");
                Err(Refusal::new(message).help(format!("write such as \"{example}\"")))
            }
            None => Ok(given.to_owned()),
        }
    })
}
