//! Hosts with addresses of their own on a routed network: a namespace each, and one between them for the router, through which
//! all that they send each other goes. Made by `ip` and `nft`, as root.

use std::{
    cell::RefCell,
    fs::{self, File},
    io::Write as _,
    net::Ipv4Addr,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns` keeps the names of namespaces.
const NAMES: &str = "/run/netns";

/// What all of ours are called, before the process and the number of the network in it.
const PREFIX: &str = "aviary-";

thread_local! {
    /// The namespace that the thread was moved into.
    static INSIDE: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Where programs that this thread starts are to be started; `None` for where the process itself is.
pub(super) fn namespace_of_thread() -> Option<PathBuf> {
    INSIDE.with_borrow(Clone::clone)
}

/// A network namespace with a name; it goes with its devices and rules when this is dropped.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    #[track_caller]
    fn new(name: String) -> Self {
        ip(&format!("netns add {name}"));
        let namespace = Self { name };
        namespace.batch("link set lo up");
        namespace
    }

    /// Runs `body` inside, on a thread of its own: what it binds, connects and starts is there, and stays there.
    #[track_caller]
    pub(crate) fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let path = Path::new(NAMES).join(&self.name);
        let enter = || {
            let file = File::open(&path).expect("the namespace was made");
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("we are root");
            INSIDE.set(Some(path));
            body()
        };
        let ended = thread::scope(|scope| scope.spawn(enter).join());
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs a script of `nft` inside, all of it or nothing.
    #[track_caller]
    pub(crate) fn nft(&self, script: &str) {
        feed(&["netns", "exec", &self.name, "nft", "-f", "-"], script);
    }

    /// Of the named counters of a table: how many packets each has counted.
    #[track_caller]
    pub(crate) fn counted(&self, table: &str, counter: &str) -> u64 {
        let listed = ip(&format!("netns exec {} nft -j list counter ip {table} {counter}", self.name));
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("nft prints JSON");
        let all = listed["nftables"].as_array().expect("a list");
        let packets = all.iter().find_map(|it| it["counter"]["packets"].as_u64());
        packets.unwrap_or_else(|| panic!("{table} has no counter {counter}: {listed}"))
    }

    /// Runs commands of `ip` inside, one a line.
    #[track_caller]
    pub(crate) fn batch(&self, commands: &str) {
        feed(&["-n", &self.name, "-batch", "-"], commands);
    }

    /// Waits until somebody serves a TUN device inside.
    #[track_caller]
    pub(crate) fn wait_until_up(&self, device: &str) {
        let carrier = || {
            let listed = ip(&format!("-n {} -o link show dev {device}", self.name));
            listed.contains("LOWER_UP")
        };
        let tries = (0..1_200).find(|_| {
            carrier() || {
                thread::sleep(Duration::from_millis(25));
                false
            }
        });
        assert!(tries.is_some(), "nobody serves {device}");
    }

    /// Sets a value below `/proc/sys/net` inside.
    #[track_caller]
    pub(crate) fn set(&self, key: &str, value: &str) {
        let file = Path::new("/proc/sys/net").join(key);
        let set = self.inside(|| fs::write(&file, value));
        set.unwrap_or_else(|error| panic!("{} = {value}: {error}", file.display()));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What is left behind is found and taken away by the next network.
        _ = Command::new("ip").args(["netns", "delete", &self.name]).stderr(Stdio::null()).status();
    }
}

/// A host on the network.
pub(crate) struct Host {
    pub(crate) address: Ipv4Addr,
    /// The router's device towards it.
    pub(crate) link: String,
    pub(crate) namespace: Namespace,
}

/// The router and all hosts. A host's address is `10.9.NUMBER.2`, and its gateway's `10.9.NUMBER.1`.
pub(crate) struct Network {
    /// Where everything passes that one host sends another.
    pub(crate) router: Namespace,
    name: String,
}

impl Network {
    /// A router without hosts.
    #[track_caller]
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);

        sweep();
        let name = format!("{PREFIX}{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let router = Namespace::new(format!("{name}-router"));
        router.set("ipv4/ip_forward", "1");
        // What comes back from a detour comes from another device than its sender is behind.
        router.set("ipv4/conf/all/rp_filter", "0");
        router.set("ipv4/conf/default/rp_filter", "0");
        Self { router, name }
    }

    /// One host more.
    #[track_caller]
    pub(crate) fn host(&self, name: &str, number: u8) -> Host {
        let namespace = Namespace::new(format!("{}-{name}", self.name));
        let link = format!("to-{name}");
        self.router.batch(&format!(
            "link add {link} type veth peer name eth0 netns {inside}\n\
             address add 10.9.{number}.1/24 dev {link}\n\
             link set {link} up",
            inside = namespace.name
        ));
        namespace.batch(&format!(
            "address add 10.9.{number}.2/24 dev eth0\n\
             link set eth0 up\n\
             route add default via 10.9.{number}.1"
        ));
        Host { address: Ipv4Addr::new(10, 9, number, 2), link, namespace }
    }
}

impl Host {
    /// Has what comes for its address at `ports` taken by a server on its loopback; what it sends itself too.
    ///
    /// So servers know nothing of all this, and one server has as many ports as a test wants.
    #[track_caller]
    pub(crate) fn doors(&self, doors: &[(&str, &str, u16)]) {
        self.namespace.set("ipv4/conf/all/route_localnet", "1");
        // What comes twice or in another order is nothing that a host turns away.
        self.namespace.set("netfilter/nf_conntrack_tcp_be_liberal", "1");
        let rules: String = doors
            .iter()
            .map(|(protocol, ports, server)| {
                format!("ip daddr {} {protocol} dport {ports} dnat to 127.0.0.1:{server}\n", self.address)
            })
            .collect();
        self.namespace.nft(&format!(
            "table ip doors {{\n\
             chain from_others {{\ntype nat hook prerouting priority -100;\n{rules}}}\n\
             chain from_itself {{\ntype nat hook output priority -100;\n{rules}}}\n\
             }}\n"
        ));
    }
}

/// Takes away what runs left behind that were killed.
fn sweep() {
    let names = fs::read_dir(NAMES).into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Somebody else may be at it as well.
            drop(Namespace { name });
        }
    }
}

/// Runs `ip`, which must succeed, and returns what it printed; `arguments` are separated by spaces.
#[track_caller]
fn ip(arguments: &str) -> String {
    feed(&arguments.split(' ').collect::<Vec<_>>(), "")
}

#[track_caller]
fn feed(arguments: &[&str], text: &str) -> String {
    let mut command = Command::new("ip");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; it is of Debian's package iproute2: run tests/setup")
    });
    child.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("it reads");
    let ran = child.wait_with_output().expect("it is our child");
    assert!(
        ran.status.success(),
        "{command:?}: {}; network namespaces need root\n{text}",
        String::from_utf8_lossy(&ran.stderr)
    );
    String::from_utf8_lossy(&ran.stdout).into_owned()
}
