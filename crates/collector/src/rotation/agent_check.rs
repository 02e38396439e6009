//! HAProxy's agent check for all nodes: one address answers for each, told which by `agent-send "SERVICE/NODE\n"`.
//!
//! The answer is a weight and nothing else: `100%`, `10%` or `0%`. A word such as `drain` or `down` can be undone by its
//! opposite only, which whoever says it must go on saying, and `ready` ends also what an operator set by hand: a server in
//! maintenance would get its share again with the next check. Weight 0 is shown as DRAIN and has its effect, and touches
//! neither. What is not known to be out has its whole weight; so a node that is renamed while it is out is not lost.
//!
//! A connection that fails changes nothing at HAProxy. So nobody is listening before the first second was judged: a collector
//! that starts or is away leaves everything as it is.

use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::{Semaphore, watch},
    time::timeout,
};

use super::Advised;
use crate::{Collector, Server};

/// HAProxy gives an agent as long, unless told otherwise.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest question: a service and a node.
const QUESTION_BYTES_MAX: usize = 512;

/// So many are answered at once; more wait in the kernel's queue.
const CHECKS_AT_ONCE: usize = 256;

/// So many connections wait there.
const BACKLOG: u32 = 1_024;

/// Of so many that are not known it is said that they are not.
const STRANGERS_MAX: usize = 64;

impl Collector {
    /// Answers HAProxy's agent checks on `socket`, which is bound and does not listen yet.
    pub fn serve_agent_checks(&self, socket: TcpSocket) -> Server {
        let (stop, stopped) = watch::channel(false);
        let collector = self.clone();
        let http = tokio::spawn(async move {
            if let Err(error) = collector.answer_agent_checks(socket, stopped).await {
                tracing::error!("Agent checks are not answered, and change nothing: {error}");
            }
        });
        Server { stop, http, own_work: Vec::new() }
    }

    async fn answer_agent_checks(
        &self,
        socket: TcpSocket,
        mut stopped: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let mut advised = self.inner.steerer.advised.subscribe();
        tokio::select! {
            // The sender lives as long as this collector.
            _ = advised.wait_for(Option::is_some) => {}
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
        let listener = socket.listen(BACKLOG)?;
        let places = Arc::new(Semaphore::new(CHECKS_AT_ONCE));
        let mut strangers: BTreeSet<String> = BTreeSet::new();
        let (tell, mut told) = tokio::sync::mpsc::channel::<String>(STRANGERS_MAX);
        loop {
            let place = Arc::clone(&places).acquire_owned();
            let accepted = async {
                let accepted = listener.accept().await;
                if accepted.is_err() {
                    // Files may be short for a moment; HAProxy comes again.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                (place.await, accepted)
            };
            tokio::select! {
                (place, accepted) = accepted => {
                    let Ok((stream, _)) = accepted else { continue };
                    let (collector, tell) = (self.clone(), tell.clone());
                    tokio::spawn(async move {
                        let _place = place;
                        let stranger = timeout(CHECK_TIMEOUT, collector.answer_agent_check(stream)).await;
                        if let Ok(Ok(Some(stranger))) = stranger {
                            // What there is no room for is said another time.
                            drop(tell.try_send(stranger));
                        }
                    });
                }
                Some(stranger) = told.recv() => {
                    if strangers.len() < STRANGERS_MAX && strangers.insert(stranger.clone()) {
                        tracing::warn!(asked = stranger, "An agent check asks for a node that is not steered; it has \
                            its whole weight. Compare agent-send with [service.rotation].");
                    }
                }
                _ = stopped.wait_for(|stop| *stop) => return Ok(()),
            }
        }
    }

    /// Answers a check. Gives what it asked for where that is not known.
    async fn answer_agent_check(&self, mut stream: TcpStream) -> io::Result<Option<String>> {
        let mut question = Vec::new();
        while !question.contains(&b'\n') && question.len() < QUESTION_BYTES_MAX {
            let mut more = [0; QUESTION_BYTES_MAX];
            match stream.read(&mut more).await? {
                0 => break,
                read => question.extend_from_slice(&more[..read]),
            }
        }
        let line = question.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let weight = self.advised().and_then(|advised| self.weight(&advised, &line));
        stream.write_all(format!("{}%\n", weight.unwrap_or(100)).as_bytes()).await?;
        stream.shutdown().await?;
        Ok(weight.is_none().then(|| line.chars().take(100).collect()))
    }

    /// The weight of the node that a check asks for, none where it is not steered.
    fn weight(&self, advised: &Advised, asked: &str) -> Option<u8> {
        let (service, node) = asked.trim().split_once('/')?;
        let known = advised.services.get(service)?.1.contains_key(node);
        let weight = advised.of(service, node, self.now().second()).map_or(100, |advice| advice.weight);
        known.then_some(weight)
    }
}
