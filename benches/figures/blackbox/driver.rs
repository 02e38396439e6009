//! Whoever asks the exporter to probe, as Prometheus would: once a second for each series, over connections that stay.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use aviary_core::{
    Clock as _, Endpoint, Protocol,
    plan::{self, Schedule},
};
use aviary_probe::SystemClock;
use reqwest::{Client, Url};
use tokio::{runtime::Builder, sync::Semaphore};

use crate::{bare::Done, fleet::Fleet, pace};

/// So many questions are open at once at most; what does not fit counts as failed.
const OPEN_MAX: usize = 1_024;

/// The exporter gives up after a second; whatever it says later says nothing.
const PATIENCE: Duration = Duration::from_secs(3);

/// What an answer says of a probe that succeeded.
const SUCCEEDED: &str = "\nprobe_success 1\n";

/// Has each series of `fleet` probed once a second, when the agent would, for ever.
pub(crate) fn run(fleet: &Fleet, exporter: SocketAddr, done: &Arc<Done>) -> anyhow::Result<()> {
    let series = fleet.series()?;
    let plan = plan::Plan::new(series.iter().map(|(name, _)| name.as_str()));
    let urls = series.iter().map(|(_, endpoint)| question(exporter, endpoint));
    let urls = urls.collect::<anyhow::Result<Vec<_>>>()?;
    let client = Client::builder().timeout(PATIENCE).no_proxy().build()?;
    let open = Arc::new(Semaphore::new(OPEN_MAX));
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    pace::be_precise();
    let mut schedule = Schedule::starting(SystemClock.wall(), SystemClock.monotonic());
    while let Some(due) = schedule.due(&plan) {
        pace::sleep_until(due.at);
        for index in plan.series_at(due.phase) {
            let Ok(place) = Arc::clone(&open).try_acquire_owned() else {
                done.failed.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let (client, url, done) = (client.clone(), urls[*index as usize].clone(), Arc::clone(done));
            handle.spawn(async move {
                let counter = if succeeds(&client, url).await { &done.delivered } else { &done.failed };
                counter.fetch_add(1, Ordering::Relaxed);
                drop(place);
            });
        }
        schedule.advance(&plan);
    }
    Ok(())
}

/// Where the exporter is asked to probe `endpoint`.
fn question(exporter: SocketAddr, endpoint: &Endpoint) -> anyhow::Result<Url> {
    let target = if endpoint.protocol() == Protocol::Https {
        endpoint.to_string()
    } else {
        format!("{}:{}", endpoint.host(), endpoint.port())
    };
    let parameters = [("module", endpoint.protocol().name()), ("target", &target)];
    Ok(Url::parse_with_params(&format!("http://{exporter}/probe"), parameters)?)
}

async fn succeeds(client: &Client, url: Url) -> bool {
    let answer = async { client.get(url).send().await?.text().await };
    answer.await.is_ok_and(|text| text.contains(SUCCEEDED))
}
