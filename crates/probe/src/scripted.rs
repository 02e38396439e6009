//! A network of which a test writes the weather, and a clock that tests stop and step.
//!
//! Hours of many series pass in seconds on tokio's paused clock, and every outcome is known in advance.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use aviary_core::{Clock, Fault, LocalFault, Micros, Phase, Timestamp};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use crate::{
    fault::Failure,
    network::{Connection, Datagram, Fuse, Network, Question},
    source::Source,
};

/// What an attempt meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Connects at once, and confirms after the given time.
    Clear(Duration),
    /// The connection is refused.
    Refused,
    /// Nothing answers.
    BlackHole,
    /// Connects, takes the bytes and never closes.
    Silent,
    /// Connects, takes the bytes and resets.
    Reset,
    /// The host itself cannot connect.
    Local(LocalFault),
    /// The probing code panics.
    Panic,
}

type Script = dyn Fn(SocketAddr, Timestamp) -> Weather + Send + Sync;

/// A network with weather by address and time.
#[derive(Clone)]
pub struct Scripted {
    clock: PausedClock,
    script: Arc<Script>,
    stored: Arc<AtomicU64>,
}

impl Scripted {
    /// A network whose weather at an address and time is what `script` says.
    pub fn new(
        clock: PausedClock,
        script: impl Fn(SocketAddr, Timestamp) -> Weather + Send + Sync + 'static,
    ) -> Self {
        Self { clock, script: Arc::new(script), stored: Arc::default() }
    }

    /// How many datapoints arrived.
    pub fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    fn weather(&self, address: SocketAddr) -> Weather {
        (self.script)(address, self.clock.wall())
    }
}

impl Network for Scripted {
    type Connection = ScriptedConnection;
    type Datagram = ScriptedDatagram;

    async fn resolve(&self, _: Question<'_>) -> Result<Vec<IpAddr>, Failure> {
        Err(Failure::service(Phase::Dns, Fault::NameNotFound))
    }

    async fn connect(&self, address: SocketAddr, _: Option<&Source>) -> Result<ScriptedConnection, Failure> {
        match self.weather(address) {
            Weather::Refused => Err(Failure::service(Phase::Connect, Fault::Refused)),
            Weather::Local(fault) => Err(Failure::local(Phase::Connect, fault)),
            Weather::BlackHole => std::future::pending().await,
            Weather::Panic => panic!("the weather is a panic"),
            weather => Ok(ScriptedConnection {
                weather,
                fuse: Fuse::new(),
                reply: None,
                stored: Arc::clone(&self.stored),
            }),
        }
    }

    fn datagram(&self, address: SocketAddr, _: Option<&Source>) -> Result<ScriptedDatagram, Failure> {
        match self.weather(address) {
            Weather::Local(fault) => Err(Failure::local(Phase::Connect, fault)),
            weather => Ok(ScriptedDatagram { weather, stored: Arc::clone(&self.stored) }),
        }
    }
}

/// A stream to a peer that reacts as the weather has it.
pub struct ScriptedConnection {
    weather: Weather,
    fuse: Fuse,
    reply: Option<Pin<Box<Sleep>>>,
    stored: Arc<AtomicU64>,
}

impl Connection for ScriptedConnection {
    fn fuse(&self) -> &Fuse {
        &self.fuse
    }

    fn set_nodelay(&self) -> io::Result<()> {
        Ok(())
    }

    fn unacknowledged(&self) -> io::Result<u32> {
        Ok(0)
    }

    fn error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }
}

impl AsyncRead for ScriptedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match (self.weather, &mut self.reply) {
            (Weather::Reset, _) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            (Weather::Clear(_), Some(reply)) => reply.as_mut().poll(cx).map(|()| {
                self.stored.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }),
            _ => Poll::Pending,
        }
    }
}

impl AsyncWrite for ScriptedConnection {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Weather::Clear(after) = self.weather {
            self.reply = Some(Box::pin(sleep(after)));
        }
        Poll::Ready(Ok(()))
    }
}

/// A socket whose datagrams arrive in clear weather.
pub struct ScriptedDatagram {
    weather: Weather,
    stored: Arc<AtomicU64>,
}

impl Datagram for ScriptedDatagram {
    fn send(&self, _: &[u8]) -> io::Result<()> {
        if matches!(self.weather, Weather::Clear(_)) {
            self.stored.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn error(&self) -> io::Result<Option<io::Error>> {
        Ok((self.weather == Weather::Refused).then(|| io::ErrorKind::ConnectionRefused.into()))
    }
}

/// Clocks that follow tokio's, which a test pauses; the wall's can be stepped.
#[derive(Clone, Debug)]
pub struct PausedClock {
    origin: Instant,
    wall_at_origin: Timestamp,
    stepped_us: Arc<AtomicI64>,
}

impl PausedClock {
    /// Clocks of which the wall's shows `wall` now.
    pub fn starting_at(wall: Timestamp) -> Self {
        Self { origin: now(), wall_at_origin: wall, stepped_us: Arc::default() }
    }

    /// Steps the wall clock by so many microseconds.
    pub fn step_wall(&self, by_us: i64) {
        self.stepped_us.fetch_add(by_us, Ordering::Relaxed);
    }
}

impl Clock for PausedClock {
    fn wall(&self) -> Timestamp {
        let shown = self.wall_at_origin.plus(self.monotonic().0);
        Timestamp(shown.0.saturating_add_signed(self.stepped_us.load(Ordering::Relaxed)))
    }

    fn monotonic(&self) -> Micros {
        Micros(now().duration_since(self.origin).as_micros() as u64)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is a Clock")]
fn now() -> Instant {
    Instant::now()
}
