//! Loopback ports that no other test, and no outgoing connection, takes in the meantime.

use std::{
    env,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    process,
    sync::atomic::{AtomicU16, Ordering},
};

/// A port of 127.0.0.1, TCP and UDP, held for one server from before it starts until the claim is dropped.
///
/// Binding port 0 and handing on what came out does not do: between a server's stop and its restart the kernel may give
/// that number to an outgoing connection, or connect a prober to itself. So ports come from outside the range that the
/// kernel gives out, and a locked file keeps other tests away, in this process and in others.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// Unlocked by the kernel when closed, however the process ends.
    _claim: File,
}

impl Port {
    /// Claims a port on which nobody listens.
    #[track_caller]
    pub(crate) fn claim() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);

        let dir = env::temp_dir().join(format!("aviary-test-ports-{}", rustix::process::getuid().as_raw()));
        fs::create_dir_all(&dir).expect("the temporary directory can be written");
        let range = outside_the_ephemeral();
        let size = range.end - range.start;
        // Test runs side by side begin at different places, so that they seldom try the same port.
        let first = u16::try_from(process::id().wrapping_mul(7919) % u32::from(size)).expect("below a u16");
        (0..size)
            .find_map(|_| {
                let step = NEXT.fetch_add(1, Ordering::Relaxed);
                let offset = (u32::from(first) + u32::from(step)) % u32::from(size);
                let number = range.start + u16::try_from(offset).expect("below a u16");
                let claim = File::create(dir.join(number.to_string()))
                    .expect("the temporary directory can be written");
                claim.try_lock().ok()?;
                is_free(number).then_some(Self { number, _claim: claim })
            })
            .unwrap_or_else(|| panic!("no port from {range:?} is free on 127.0.0.1"))
    }

    /// The number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// 127.0.0.1 with this port.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

/// Whether nobody on this machine has a socket at the port; of TCP, one that waits for connections.
///
/// The kernel is asked rather than the port tried: a child that is being started at this moment would hold the socket that was
/// tried with for a little longer than we do.
fn is_free(port: u16) -> bool {
    !is_listening(port) && !["udp", "udp6"].iter().any(|table| is_local(table, port, |_| true))
}

/// Whether anybody on this machine listens on the TCP port.
pub(super) fn is_listening(port: u16) -> bool {
    const LISTEN: &str = "0A";
    ["tcp", "tcp6"].iter().any(|table| is_local(table, port, |state| state == LISTEN))
}

/// Whether a socket in one of the kernel's tables is at the port, in a state that is looked for.
fn is_local(table: &str, port: u16, is_sought: impl Fn(&str) -> bool) -> bool {
    let suffix = format!(":{port:04X}");
    // Of the thread's own network, which need not be the process's.
    fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default().lines().any(|line| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1);
        let state = fields.nth(1);
        local.is_some_and(|local| local.ends_with(&suffix)) && state.is_some_and(&is_sought)
    })
}

/// The larger of what lies below and above the ports that the kernel gives to outgoing connections.
fn outside_the_ephemeral() -> Range<u16> {
    const LOWEST: u16 = 10_240;
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("Linux");
    let bounds: Vec<u16> = text.split_whitespace().map(|bound| bound.parse().expect("a port")).collect();
    let &[low, high] = bounds.as_slice() else { panic!("ip_local_port_range holds {text:?}") };
    let (below, above) = (LOWEST..low.max(LOWEST), high..u16::MAX);
    if below.len() >= above.len() { below } else { above.start + 1..above.end }
}
