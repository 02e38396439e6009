//! A collector whose time is set, told over HTTP, and judged when it is asked to.

use std::{
    error::Error,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use aviary_collector::{Collector, Limits, Options, Scope, SecretHash, Server, Store, TokenRule};
use aviary_core::{Clock, Micros, Second, Span, Timestamp};
use aviary_store::RedbStore;
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};

use crate::fleet::{Fleet, START};

const TOKEN: &str = "figures-of-judgement";

/// A backlog comes in reports of so many seconds.
const AT_ONCE: u64 = 30;

/// What is lost.
#[derive(Clone, Copy)]
pub(crate) enum Loss {
    /// One slot in a thousand, at random.
    Seldom,
    /// All of one protocol, everywhere.
    Protocol,
}

/// A clock that is set.
#[derive(Clone)]
struct SetClock(Arc<AtomicU64>);

impl Clock for SetClock {
    fn wall(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed) * 1_000_000)
    }

    fn monotonic(&self) -> Micros {
        Micros(self.0.load(Ordering::Relaxed) * 1_000_000)
    }
}

pub(crate) struct Stage<'a> {
    fleet: &'a Fleet,
    clock: SetClock,
    data: TempDir,
    collector: Collector,
    client: BufReader<TcpStream>,
    server: Server,
    runtime: Runtime,
    is_first: bool,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(fleet: &'a Fleet) -> Result<Self, Box<dyn Error>> {
        Self::on(fleet, SetClock(Arc::new(AtomicU64::new(START))), tempfile::tempdir()?)
    }

    fn on(fleet: &'a Fleet, clock: SetClock, data: TempDir) -> Result<Self, Box<dyn Error>> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let entered = runtime.enter();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address: SocketAddr = listener.local_addr()?;
        let held: Arc<dyn Store> = Arc::new(RedbStore::open(data.path())?);
        let options = Options { store: Some(held), ..Options::default() };
        let collector = Collector::new(options, clock.clone())?;
        let token = TokenRule {
            name: "figures".to_owned(),
            secret: SecretHash::of(TOKEN),
            scopes: vec![Scope::Report],
            region: None,
            node: None,
            limits: Limits { slots: u32::MAX, ..Limits::FLEET },
        };
        let server = collector.serve_reports(listener, token);
        drop(entered);
        let client = BufReader::new(TcpStream::connect(address)?);
        client.get_ref().set_nodelay(true)?;
        let mut stage = Self { fleet, clock, data, collector, client, server, runtime, is_first: true };
        // It is asked with nothing, and says so once it has taken up what it kept.
        while stage.ask(&[])? == "503" {
            thread::sleep(Duration::from_millis(20));
        }
        Ok(stage)
    }

    /// Ends it, and starts another on what it kept.
    pub(crate) fn restart(self) -> Result<Self, Box<dyn Error>> {
        let (fleet, clock) = (self.fleet, self.clock.clone());
        let data = self.end();
        Self::on(fleet, clock, data)
    }

    /// Ends it, and leaves what it kept.
    pub(crate) fn end(self) -> TempDir {
        let Self { runtime, collector, server, client, data, .. } = self;
        drop(client);
        runtime.block_on(async {
            server.stop().await;
            collector.close().await;
        });
        data
    }

    /// Tells `seconds` in large reports.
    pub(crate) fn tell_all(&mut self, seconds: u64) -> Result<(), Box<dyn Error>> {
        for _ in 0..seconds / AT_ONCE {
            self.tell(AT_ONCE, Loss::Seldom)?;
        }
        Ok(())
    }

    fn tell(&mut self, seconds: u64, loss: Loss) -> Result<(), Box<dyn Error>> {
        let from = Second(self.clock.0.load(Ordering::Relaxed));
        let span = Span::new(from, from.plus(seconds));
        self.clock.0.store(span.until.0, Ordering::Relaxed);
        let is_first = std::mem::take(&mut self.is_first);
        for body in self.fleet.told(span, loss, is_first) {
            let status = self.ask(&body)?;
            if status != "200" {
                return Err(format!("a report was answered {status}").into());
            }
        }
        Ok(())
    }

    /// Tells a second, and judges it. How many milliseconds of the processor that took.
    pub(crate) fn second(&mut self, loss: Loss) -> Result<f64, Box<dyn Error>> {
        self.tell(1, loss)?;
        let before = clock_gettime(ClockId::ThreadCPUTime);
        self.collector.judge_now();
        let after = clock_gettime(ClockId::ThreadCPUTime);
        Ok((after.tv_sec - before.tv_sec) as f64 * 1e3 + (after.tv_nsec - before.tv_nsec) as f64 / 1e6)
    }

    fn ask(&mut self, body: &[u8]) -> Result<String, Box<dyn Error>> {
        let length = body.len();
        let head = format!(
            "POST /api/v1/reports HTTP/1.1\r\nHost: figures\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {length}\r\n\r\n"
        );
        self.client.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        let (mut status, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            self.client.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(text) = line.strip_prefix("content-length:") {
                length = text.trim().parse()?;
            } else if status.is_none() {
                status = line.split_whitespace().nth(1).map(str::to_owned);
            }
        }
        self.client.by_ref().take(length).read_to_end(&mut Vec::new())?;
        status.ok_or_else(|| "no HTTP answer".into())
    }
}
