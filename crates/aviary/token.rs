//! `aviary token`: what agents and people show a collector, made and revoked while it runs.
//!
//! The secret is made here, and the collector is told its hash alone: it is on this terminal once, and nowhere else.

use std::io::Write;

use anyhow::{Context as _, anyhow};
use aviary_collector::SecretHash;
use aviary_core::{Clock as _, Second};
use aviary_probe::SystemClock;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ask::{self, At},
    output::{Format, moment, print_table},
    run::random,
};

/// Makes a token, lists them, or ends one.
#[derive(Args, Debug)]
pub(crate) struct TokenArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a token, or another secret for one, and show the secret this once
    New(Box<New>),
    /// Show the tokens, those of the configuration included; never a secret
    List {
        #[command(flatten)]
        at: At,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// End a token now, or the older of its two secrets
    Revoke {
        /// The token
        #[arg(value_name = "NAME", value_parser = ask::name)]
        name: String,
        /// Only the older secret of a token that is being rotated
        #[arg(long)]
        old: bool,
        #[command(flatten)]
        at: At,
    },
}

#[derive(Args, Debug)]
struct New {
    /// What logs, lists and metrics call it
    #[arg(value_name = "NAME", value_parser = ask::name)]
    name: String,
    /// What it allows: report, read or admin; report by default
    #[arg(long, value_delimiter = ',', value_parser = ["report", "read", "admin"], conflicts_with = "rotate")]
    scope: Vec<String>,
    /// The one region that agents may claim that show it
    #[arg(long, conflicts_with = "rotate")]
    region: Option<String>,
    /// The one node that agents may claim that show it
    #[arg(long, conflicts_with = "rotate")]
    node: Option<String>,
    /// After how long it ends, such as 90d; by default never
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires: Option<u64>,
    /// Give a token that there is a second secret beside the first, which ends after the overlap
    #[arg(long)]
    rotate: bool,
    /// How long both secrets hold; a day by default
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "rotate")]
    overlap: Option<u64>,
    /// Who you are; by default the name of the token that you show
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Under which URL agents reach the collector; by default what its configuration says, or --collector
    #[arg(long = "url", value_name = "URL")]
    reached_at: Option<reqwest::Url>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    at: At,
}

/// A token as the collector tells it; of those of its configuration little is known.
#[derive(Debug, Deserialize)]
struct Token {
    name: String,
    configured: bool,
    scope: Vec<String>,
    region: Option<String>,
    node: Option<String>,
    created: Option<u64>,
    expires: Option<u64>,
    last_used: Option<u64>,
    #[serde(default)]
    secrets: Vec<Secret>,
}

#[derive(Debug, Deserialize)]
struct Secret {
    expires: Option<u64>,
    last_used: Option<u64>,
    expired: bool,
}

/// Makes a token, lists them, or ends one.
pub(crate) fn token(arguments: &TokenArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    let runtime = ask::runtime()?;
    match &arguments.what {
        What::List { at, format } => {
            let answer: Value = runtime.block_on(at.asker()?.get("api/v1/tokens", &[]))?;
            let tokens = answer["tokens"].as_array().context("the collector does not answer with tokens")?;
            print(tokens, *format, out)?;
        }
        What::New(new) => {
            let (secret, now) = (secret()?, SystemClock.wall().second());
            let asker = new.at.asker()?;
            let body = new.body(&secret, now);
            let mut told: Value = runtime.block_on(asker.tell(Method::POST, "api/v1/tokens", &body))?;
            let configured = told["url"].as_str().map(str::to_owned);
            let url = new.reached_at.as_ref().map(ToString::to_string).or(configured);
            let url = url.unwrap_or_else(|| asker.url().to_owned());
            match new.format {
                Format::Text => new.print(&told, &secret, url.trim_end_matches('/'), out)?,
                Format::Json => {
                    (told["secret"], told["url"]) = (secret.into(), url.into());
                    writeln!(out, "{told}")?;
                }
            }
        }
        What::Revoke { name, old, at } => {
            let query = if *old { "?old=true" } else { "" };
            let path = format!("api/v1/tokens/{name}{query}");
            runtime.block_on(at.asker()?.tell::<()>(Method::DELETE, &path, &Value::Null))?;
            writeln!(out, "{name}: {}", if *old { "its older secret is ended" } else { "ended" })?;
        }
    }
    Ok(true)
}

/// 256 random bits, which scanners for secrets that were published know by how they begin.
fn secret() -> anyhow::Result<String> {
    let words = [random()?, random()?, random()?, random()?];
    Ok(words.iter().fold("aviary_".to_owned(), |secret, word| format!("{secret}{word:016x}")))
}

impl New {
    /// What the collector is asked for at `now`.
    fn body(&self, secret: &str, now: Second) -> Value {
        let mut body = json!({"name": self.name, "secret": SecretHash::of(secret).written(), "by": self.by,
            "expires": self.expires.map(|seconds| now.plus(seconds).0), "rotate": self.rotate, "overlap": self.overlap});
        if !self.rotate {
            let report = || vec!["report".to_owned()];
            body["scope"] = json!(if self.scope.is_empty() { report() } else { self.scope.clone() });
            (body["region"], body["node"]) = (json!(self.region), json!(self.node));
        }
        body
    }

    fn print(&self, told: &Value, secret: &str, url: &str, out: &mut impl Write) -> anyhow::Result<()> {
        let token = read(told)?;
        let until = token.expires.map_or_else(String::new, |at| format!(", until {}", moment(at)));
        writeln!(out, "{}: {} {}{until}", token.name, token.scope.join(" and "), token.place())?;
        writeln!(
            out,
            "Its {}secret, which nobody will show you again:\n",
            if self.rotate { "new " } else { "" }
        )?;
        writeln!(out, "    {secret}\n")?;
        if told["kept"] == false {
            writeln!(out, "The collector has no `data`, and forgets the token when it ends.")?;
        }
        if self.rotate {
            let older = token.secrets.first().and_then(|secret| secret.expires).map(moment);
            let name = &self.name;
            writeln!(
                out,
                "Put it in the place of the older one, which ends at {}: in the file that `token` in",
                older.unwrap_or_default()
            )?;
            writeln!(
                out,
                "[agent] names, /etc/aviary/agent.token where `aviary enrol` wrote it. Agents take it up while they run."
            )?;
            writeln!(
                out,
                "Once `aviary token list` shows that nobody uses the older one: aviary token revoke {name} --old"
            )?;
        } else if token.scope.iter().any(|scope| scope == "report") {
            let ca = if self.at.has_ca() { " --ca FILE" } else { "" };
            writeln!(
                out,
                "On the agent's host, which asks for it, so that it is in no history and no list of processes:\n"
            )?;
            writeln!(out, "    aviary enrol {url}{ca}")?;
        }
        Ok(())
    }
}

impl Token {
    /// Where it holds.
    fn place(&self) -> String {
        let one = |what: &str, value: &Option<String>| value.as_ref().map(|value| format!("{what} {value}"));
        let places: Vec<String> =
            one("region", &self.region).into_iter().chain(one("node", &self.node)).collect();
        if places.is_empty() { "from everywhere".to_owned() } else { format!("from {}", places.join(", ")) }
    }

    /// How many secrets it has, and what of them is to be known.
    fn secrets(&self) -> String {
        match self.secrets.as_slice() {
            [] => "1, in the configuration".to_owned(),
            [only] if only.expired => "1, expired".to_owned(),
            [older, _] if !older.expired => {
                let used = older.last_used.map_or_else(|| "never".to_owned(), moment);
                let until = older.expires.map(moment).unwrap_or_default();
                format!("2; the older one until {until}, used {used}")
            }
            _ => "1".to_owned(),
        }
    }
}

fn read(told: &Value) -> anyhow::Result<Token> {
    Token::deserialize(told)
        .map_err(|error| anyhow!("the collector tells of a token in another way: {error}"))
}

fn print(tokens: &[Value], format: Format, out: &mut impl Write) -> anyhow::Result<()> {
    if format == Format::Json {
        return tokens.iter().try_for_each(|token| Ok(writeln!(out, "{token}")?));
    }
    let row = |told: &Value| {
        let token = read(told)?;
        let at = |second: Option<u64>, none: &str| second.map_or_else(|| none.to_owned(), moment);
        let unknown = if token.configured { "not known" } else { "never" };
        Ok(vec![
            token.name.clone(),
            token.scope.join(","),
            token.place(),
            at(token.created, "in the configuration"),
            at(token.expires, "never"),
            at(token.last_used, unknown),
            token.secrets(),
        ])
    };
    let rows = tokens.iter().map(row).collect::<anyhow::Result<Vec<_>>>()?;
    print_table(out, &["name", "scope", "where", "created", "expires", "last used", "secrets"], &rows)?;
    Ok(())
}

/// A duration such as `90d`, in whole seconds; a day is 24 hours.
fn duration(given: &str) -> Result<u64, String> {
    let span = given.parse::<jiff::Span>().ok();
    let span = span.and_then(|span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok());
    let seconds = span.and_then(|span| u64::try_from(span.as_secs()).ok()).filter(|seconds| *seconds > 0);
    seconds.ok_or_else(|| "it is no duration: write such as 90d or 12h".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        new: New,
    }

    #[test]
    fn the_collector_is_told_what_was_said_and_never_the_secret() {
        let now = Second(1_763_690_400);
        let body = |arguments: &[&str]| {
            let line = Line::try_parse_from([&["new", "eu"], arguments].concat());
            line.map(|line| line.new.body("the secret", now)).map_err(|error| error.to_string())
        };
        let told = body(&["--region", "eu-west-1", "--expires", "90d"]).unwrap();
        assert_eq!(told["scope"], json!(["report"]));
        assert_eq!((&told["region"], &told["expires"]), (&json!("eu-west-1"), &json!(now.0 + 90 * 86_400)));
        assert!(!told.to_string().contains("the secret"));
        assert_eq!(body(&["--scope", "read,admin"]).unwrap()["scope"], json!(["read", "admin"]));
        let rotated = body(&["--rotate", "--overlap", "2d"]).unwrap();
        assert_eq!((rotated.get("scope"), &rotated["overlap"]), (None, &json!(172_800)));
        for refused in [
            &["--rotate", "--region", "eu"][..],
            &["--overlap", "1d"],
            &["--expires", "90"],
            &["--scope", "all"],
        ] {
            assert!(body(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn secrets_are_long_and_no_two_alike() {
        let (one, other) = (secret().unwrap(), secret().unwrap());
        assert!(one != other && one.len() == "aviary_".len() + 64, "{one} {other}");
    }
}
