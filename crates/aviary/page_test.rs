//! `aviary page-test`: whether a receiver takes a page.

use std::{io::Write, time::Duration};

use anyhow::bail;
use aviary_core::Clock as _;
use aviary_probe::SystemClock;
use clap::Args;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::{
    ask::{self, Asker, At},
    output::moment,
    silence::duration,
};

/// How often is asked how it goes.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Sends a test page to a receiver, and shows what it says.
#[derive(Args, Debug)]
pub(crate) struct PageTestArguments {
    /// The receiver's name in the collector's configuration
    #[arg(value_name = "NAME", value_parser = ask::name)]
    receiver: String,

    /// For how long to wait until it took the test and its end
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    within: u64,

    #[command(flatten)]
    at: At,
}

#[derive(Debug, Deserialize)]
struct Trial {
    id: String,
    over: bool,
    said: Vec<Said>,
}

#[derive(Debug, Deserialize)]
struct Said {
    at: u64,
    sent: String,
    text: String,
}

/// Sends the page and waits for what comes of it. Returns whether the receiver took it, and its end.
pub(crate) fn page_test(arguments: &PageTestArguments, out: &mut impl Write) -> anyhow::Result<bool> {
    let asker = arguments.at.asker()?;
    ask::runtime()?.block_on(send(&asker, &arguments.receiver, arguments.within, out))
}

async fn send(asker: &Asker, receiver: &str, within: u64, out: &mut impl Write) -> anyhow::Result<bool> {
    let path = format!("api/v1/receivers/{receiver}/test");
    let mut trial: Trial = asker.tell(Method::POST, &path, &json!({})).await?;
    let id = trial.id.clone();
    let until = SystemClock.monotonic().plus(within.saturating_mul(1_000_000));
    let mut shown = 0;
    loop {
        for Said { at, text, .. } in trial.said.iter().skip(shown) {
            writeln!(out, "{} {receiver} {text}", moment(*at))?;
        }
        out.flush()?;
        shown = shown.max(trial.said.len());
        if trial.over {
            return Ok(trial.said.last().is_some_and(|said| said.sent == "taken"));
        }
        if SystemClock.monotonic() >= until {
            let heard = if shown == 0 { "nothing was heard of the test" } else { "the test is not over" };
            writeln!(out, "{receiver}: {heard} within {within} s; see the collector's log")?;
            return Ok(false);
        }
        tokio::time::sleep(ASK_EVERY).await;
        trial = asker.get(&format!("{path}/{id}"), &[]).await?;
        if trial.id != id {
            bail!("the collector tells of another test than was asked for");
        }
    }
}
