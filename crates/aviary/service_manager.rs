//! What the service manager (systemd, or whoever set `NOTIFY_SOCKET`) is told: that we are ready, reload, stop, and live.
//!
//! The protocol of `sd_notify(3)` is one datagram of a few lines. The crates for it write to sockets in the file system
//! only, while a manager may give an abstract one; nothing here ever waits for the manager or fails because of it.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aviary_core::Clock;
use rustix::time::{ClockId, clock_gettime};

/// Why the service manager cannot be told anything.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceManagerError {
    /// Neither a path nor an abstract name.
    #[error(
        "NOTIFY_SOCKET is {0:?}, which is neither a path (/...) nor an abstract name (@...); the service manager is told nothing"
    )]
    Address(String),
    /// No socket to send from, or a name that is too long.
    #[error(
        "NOTIFY_SOCKET is {address:?}, and cannot be used: {source}; the service manager is told nothing"
    )]
    Socket {
        /// What the variable says.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The service manager that started us, or none.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceManager {
    socket: Option<Arc<Socket>>,
    /// How long it waits for a sign of life before it starts us again, in microseconds.
    watchdog_us: Option<u64>,
}

#[derive(Debug)]
struct Socket {
    socket: UnixDatagram,
    manager: SocketAddr,
}

impl ServiceManager {
    /// The one that the environment names. Without `NOTIFY_SOCKET` there is none, and everything below does nothing.
    ///
    /// # Errors
    /// Where the variable is set and cannot be used: worth a line in the log, not worth ending for.
    pub(crate) fn from_environment() -> Result<Self, ServiceManagerError> {
        let Some(address) = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Ok(Self::default());
        };
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
        // Under a shell that was started as the service, the variables are inherited and meant for the shell.
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        Self::at(&address, number("WATCHDOG_USEC").filter(|_| is_ours))
    }

    /// The one that listens at `address`, with this patience in microseconds.
    fn at(address: &OsStr, watchdog_us: Option<u64>) -> Result<Self, ServiceManagerError> {
        let shown = || address.to_string_lossy().into_owned();
        let manager = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(address),
            _ => return Err(ServiceManagerError::Address(shown())),
        };
        let open = || {
            let (socket, manager) = (UnixDatagram::unbound()?, manager?);
            // A manager that does not read must not hold up the ticker.
            socket.set_nonblocking(true)?;
            Ok(Socket { socket, manager })
        };
        let socket = open().map_err(|source| ServiceManagerError::Socket { address: shown(), source })?;
        Ok(Self { socket: Some(Arc::new(socket)), watchdog_us: watchdog_us.filter(|micros| *micros > 0) })
    }

    /// Start-up is over, or a reload; `status` is what `systemctl status` shows.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\n{}", status_line(status)));
    }

    /// A reload begins; [`Self::ready`] ends it.
    pub(crate) fn reloading(&self) {
        // Told with the time, so that the manager can tell this reload from an earlier one: its clock, not ours.
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n"));
    }

    /// The end begins.
    pub(crate) fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\n{}", status_line(status)));
    }

    /// What the ticker feeds.
    pub(crate) fn watchdog<C: Clock>(&self, clock: C) -> Watchdog<C> {
        let every_us = self.watchdog_us.map(|patience| patience / 2);
        Watchdog { manager: self.clone(), every_us, next: AtomicU64::new(0), clock }
    }

    fn tell(&self, what: &str) {
        let Some(Socket { socket, manager }) = self.socket.as_deref() else { return };
        if let Err(error) = socket.send_to_addr(what.as_bytes(), manager) {
            tracing::debug!(%error, "The service manager cannot be told.");
        }
    }
}

fn status_line(status: &str) -> String {
    format!("STATUS={}\n", status.replace(char::is_control, " "))
}

/// Tells the service manager that the schedule goes on. Whoever stops calling is started again.
pub(crate) struct Watchdog<C> {
    manager: ServiceManager,
    /// Half of the manager's patience, so that one message may come late or be lost; `None` where it has no watchdog.
    every_us: Option<u64>,
    /// When to tell next, on the monotonic clock.
    next: AtomicU64,
    clock: C,
}

impl<C: Clock> Watchdog<C> {
    /// A sign of life: to be called as often as is convenient, at least ten times within the manager's patience. It
    /// costs a look at the clock, and now and then a datagram that is never waited for.
    pub(crate) fn beat(&self) {
        let Some(every_us) = self.every_us else { return };
        let now = self.clock.monotonic();
        // One thread beats; relaxed, since the number guards nothing else.
        if now.0 >= self.next.load(Ordering::Relaxed) {
            self.next.store(now.plus(every_us).0, Ordering::Relaxed);
            self.manager.tell("WATCHDOG=1\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::Duration,
    };

    use aviary_core::{Micros, Timestamp};

    use super::*;

    #[derive(Clone, Default)]
    struct Paused(Arc<AtomicU64>);

    impl Clock for Paused {
        fn wall(&self) -> Timestamp {
            Timestamp(0)
        }

        fn monotonic(&self) -> Micros {
            Micros(self.0.load(Ordering::Relaxed))
        }
    }

    fn received(socket: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    fn manager_of(address: &OsStr, listening: &UnixDatagram, patience_us: Option<u64>) -> ServiceManager {
        listening.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        ServiceManager::at(address, patience_us).unwrap()
    }

    #[test]
    fn a_manager_in_the_file_system_is_told_of_each_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = manager_of(path.as_os_str(), &socket, None);
        manager.ready("6 series\nfrom eu");
        assert_eq!(received(&socket).as_deref(), Some("READY=1\nSTATUS=6 series from eu\n"));
        manager.reloading();
        let told = received(&socket).unwrap();
        let micros: u64 =
            told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end().parse().unwrap();
        assert!(micros > 0);
        manager.stopping("SIGTERM");
        assert_eq!(received(&socket).as_deref(), Some("STOPPING=1\nSTATUS=SIGTERM\n"));
        manager.watchdog(Paused::default()).beat();
        assert_eq!(received(&socket), None, "no watchdog was asked for");
    }

    #[test]
    fn a_sign_of_life_is_sent_twice_within_the_patience_however_often_we_beat() {
        let name = format!("aviary-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let manager = manager_of(OsStr::new(&format!("@{name}")), &socket, Some(1_000_000));
        let clock = Paused::default();
        let watchdog = manager.watchdog(clock.clone());
        for _ in 0..100 {
            clock.0.fetch_add(25_000, Ordering::Relaxed);
            watchdog.beat();
        }
        let mut count = 0;
        while let Some(told) = received(&socket) {
            assert_eq!(told, "WATCHDOG=1\n");
            count += 1;
        }
        assert_eq!(count, 5, "2.5 s at one each half second");
    }

    #[test]
    fn a_manager_that_does_not_read_or_is_gone_holds_up_nothing() {
        let name = format!("aviary-test-gone-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let manager = manager_of(OsStr::new(&format!("@{name}")), &socket, None);
        for _ in 0..10_000 {
            manager.ready("more than its queue takes");
        }
        drop(socket);
        manager.stopping("nobody is there");
    }

    #[test]
    fn an_address_that_cannot_be_used_says_so() {
        for address in ["vsock:2:1234", "relative/path"] {
            let error = ServiceManager::at(OsStr::new(address), None).unwrap_err().to_string();
            assert!(error.contains(address) && error.contains("told nothing"), "{error}");
        }
        let long = format!("/{}", "x".repeat(200));
        assert!(ServiceManager::at(OsStr::new(&long), None).is_err());
    }
}
