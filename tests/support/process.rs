//! A child process that cannot outlive its test.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        OnceLock,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};

use super::{network::namespace_of_thread, ports::is_listening};

/// How long a process may take over SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(30);

/// The same when nobody waits for the answer, because its test is over.
const GRACE_AT_DROP: Duration = Duration::from_secs(2);

/// How much of a log is shown when a test fails.
const TAIL_LINES: usize = 40;

/// A running program in a process group of its own, its output in a file.
///
/// Its group is ended on drop, a panic included; where the test's process is killed, the kernel kills the program too.
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    /// Taken while the spawning thread has it.
    command: Option<Command>,
    child: Option<Child>,
    frozen: bool,
}

impl Process {
    /// Starts `command`, made by [`program`], and writes what it prints to `NAME.log` in `dir`.
    #[track_caller]
    pub(crate) fn start(name: &str, mut command: Command, dir: &Path) -> Self {
        let log = dir.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log).expect("the log can be written");
        let err = out.try_clone().expect("a file can be duplicated");
        // An open, silent standard input: `openssl s_server` ends, or spins, where there is none.
        command.stdin(Stdio::piped()).stdout(out).stderr(err);
        let mut process =
            Self { name: name.to_owned(), log, command: Some(command), child: None, frozen: false };
        process.spawn();
        process
    }

    /// What it has printed so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it listens on the TCP port of `address`; panics with its log where it ends first or takes too long.
    ///
    /// The kernel is asked rather than the port tried: a peer that serves one connection at a time is not kept busy.
    #[track_caller]
    pub(crate) fn wait_until_listening(&self, address: SocketAddr, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while !is_listening(address.port()) {
            assert!(
                self.is_running(),
                "{} ended before it listened on {address}; its log:\n{}",
                self.name,
                self.tail()
            );
            assert!(
                Instant::now() < deadline,
                "{} does not listen on {address} after {timeout:?}; its log:\n{}",
                self.name,
                self.tail()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it runs (or is frozen).
    pub(crate) fn is_running(&self) -> bool {
        self.child.as_ref().is_some_and(|child| !has_exited(pid(child)))
    }

    /// Sends it SIGHUP.
    #[track_caller]
    pub(crate) fn hang_up(&self) {
        kill_process_group(self.pid(), Signal::HUP).expect("the process runs");
    }

    /// Stops it in its tracks: what it holds open stays open, and nobody answers. Returns once it stands still.
    #[track_caller]
    pub(crate) fn freeze(&mut self) {
        let pid = self.pid();
        kill_process_group(pid, Signal::STOP).expect("the process runs");
        waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT).expect("it is our child");
        self.frozen = true;
    }

    /// Lets it run on after [`freeze`](Self::freeze).
    #[track_caller]
    pub(crate) fn thaw(&mut self) {
        kill_process_group(self.pid(), Signal::CONT).expect("the process runs");
        self.frozen = false;
    }

    /// Asks it to end with SIGTERM, kills it after ten seconds, and says how it ended.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.end(GRACE).unwrap_or_else(|| panic!("{} does not run", self.name))
    }

    /// Kills it at once, so that it can finish nothing.
    #[track_caller]
    pub(crate) fn kill(&mut self) -> ExitStatus {
        self.end(Duration::ZERO).unwrap_or_else(|| panic!("{} does not run", self.name))
    }

    /// Starts it again as it was started first, after stopping it where it runs.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.end(GRACE);
        self.spawn();
    }

    #[track_caller]
    fn spawn(&mut self) {
        let command = self.command.take().expect("put back after each use");
        let (command, child) = spawn_for_good(command);
        self.command = Some(command);
        self.frozen = false;
        self.child = Some(child.unwrap_or_else(|error| panic!("{} cannot be started: {error}", self.name)));
    }

    /// Its process id.
    #[track_caller]
    pub(crate) fn pid(&self) -> Pid {
        pid(self.child.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name)))
    }

    /// What it has had of a processor since it was started.
    #[track_caller]
    pub(crate) fn processor_time(&self) -> Duration {
        processor_time(self.pid().as_raw_nonzero().get().unsigned_abs()).expect("the process runs")
    }

    /// The last lines that it printed.
    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
    }

    fn end(&mut self, grace: Duration) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        let pid = pid(&child);
        // A frozen process would act on SIGTERM only after it had run on, and nobody asked for that.
        if !self.frozen && !grace.is_zero() && signal(pid, Signal::TERM) {
            let deadline = Instant::now() + grace;
            while !has_exited(pid) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
        }
        // The group outlives its leader where a worker does, and its number is ours until the leader is waited for.
        signal(pid, Signal::KILL);
        self.frozen = false;
        Some(child.wait().expect("it is our child"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.child.is_some() && !self.is_running();
        self.end(GRACE_AT_DROP);
        if thread::panicking() {
            let state = if ended { ", which had ended by itself" } else { "" };
            eprintln!("---- the end of the log of {}{state} ----\n{}\n----", self.name, self.tail());
        }
    }
}

/// The command that runs `name`, a program on the PATH or a path; panics where it is not installed.
///
/// By way of `setpriv`, which stays on as the program itself: the kernel is to kill it when this process dies. In the network
/// namespace of whoever calls.
#[track_caller]
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let path = installed(name.as_ref());
    let mut command = Command::new(installed(OsStr::new("setpriv")));
    command.args(["--pdeathsig", "KILL", "--"]);
    if let Some(namespace) = namespace_of_thread() {
        let mut enter = OsString::from("--net=");
        enter.push(namespace);
        command.arg(installed(OsStr::new("nsenter"))).arg(enter).arg("--");
    }
    command.arg(path);
    command.process_group(0);
    command
}

/// The Python that has carbon and graphite-web, in the virtual environment that `tests/setup` makes.
#[track_caller]
pub(crate) fn test_python() -> PathBuf {
    let target =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo puts it into the target directory");
    let python = target.join("test-venv/bin/python");
    assert!(python.exists(), "{} is missing: run tests/setup", python.display());
    python
}

/// Where `tests/setup` has put who reads metrics and profiles.
#[track_caller]
pub(crate) fn readers() -> PathBuf {
    let target =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo puts it into the target directory");
    let readers = target.join("tools/readers");
    assert!(readers.join("stamp").exists(), "{} is missing: run tests/setup", readers.display());
    readers
}

#[track_caller]
fn installed(name: &OsStr) -> PathBuf {
    // Debian keeps daemons where only root's PATH looks.
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    // `join` leaves an absolute path as it is.
    dirs.map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{} is not installed: run tests/setup", name.display()))
}

/// Spawns from a thread that never ends.
///
/// The kernel's "when the parent dies" is about the thread that spawned, and a test's thread ends before its process.
fn spawn_for_good(command: Command) -> (Command, io::Result<Child>) {
    type Job = (Command, SyncSender<(Command, io::Result<Child>)>);
    static SPAWNER: OnceLock<SyncSender<Job>> = OnceLock::new();

    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = sync_channel::<Job>(0);
        thread::spawn(move || {
            for (mut command, answer) in jobs {
                let child = command.spawn();
                answer.send((command, child)).expect("whoever asked waits for the answer");
            }
        });
        sender
    });
    let (sender, answer) = sync_channel(1);
    spawner.send((command, sender)).expect("the spawning thread never ends");
    answer.recv().expect("the spawning thread answers everybody")
}

/// Processor time of a process since its start: all its threads, in user space and the kernel. Exact to a hundredth of a second.
pub(crate) fn processor_time(id: u32) -> io::Result<Duration> {
    /// The kernel counts in hundredths of a second for its users, on every machine that Rust runs on.
    const TICK: Duration = Duration::from_millis(10);

    let text = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The second field is the program's name in parentheses, and may hold anything.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: Vec<u32> =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    if ticks.len() != 2 {
        return Err(io::Error::other(format!("no processor time in: {text}")));
    }
    Ok(TICK * ticks.iter().sum())
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Whether the process has ended; its number is not given up.
fn has_exited(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), options).expect("it is our child").is_some()
}

/// Signals the group; false where nobody is left in it.
fn signal(group: Pid, signal: Signal) -> bool {
    match kill_process_group(group, signal) {
        Ok(()) => true,
        Err(Errno::SRCH) => false,
        Err(error) => panic!("process group {} cannot be signalled: {error}", group.as_raw_nonzero()),
    }
}
