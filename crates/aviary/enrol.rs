//! `aviary enrol`: a new agent that reports, with one command and one secret.
//!
//! The collector is asked first what the secret allows, and for the services: what cannot work is said before anything is written.
//! Then the secret goes into a file that nobody else may read, and the configuration beside it; the program's own check looks at
//! both, and what does not pass it leaves everything as it was.

use std::{
    fs::{self, Permissions},
    io::{self, BufRead as _, IsTerminal as _, Read as _, Write},
    net::SocketAddr,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{self, Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, anyhow, bail};
use aviary_core::VantageKind;
use clap::Args;
use reqwest::Url;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde::Deserialize;

use crate::{
    Ending,
    ask::{self, Asker, Whom},
    config::{self, Environment, Problems},
    output::moment,
    replace::replace,
    run,
    telemetry::LogFormat,
};

/// Where packages have it, and their unit looks.
const CONFIG: &str = "/etc/aviary/agent.toml";

/// The unit that packages bring.
const UNIT: &str = "aviary-agent.service";

/// The user that it runs as.
const USER: &str = "aviary";

/// A line of a configuration that came with a package, and says nothing of this host yet.
const REPLACEABLE: &str = "# `aviary enrol` may replace this file.";

/// The longest line that is read as a secret.
const SECRET_BYTES_MAX: u64 = 4_096;

/// Makes this host an agent of a collector.
#[derive(Args, Debug)]
pub(crate) struct EnrolArguments {
    /// The collector
    #[arg(value_name = "URL")]
    url: Url,

    /// Read the secret from standard input; without it from AVIARY_TOKEN, or it is asked for
    #[arg(long, conflicts_with = "certificate")]
    token_stdin: bool,

    /// PEM certificates to trust beside the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// A certificate to show in the place of a token; read again when it changes
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,

    /// Its key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,

    /// What its probes show: whether customers get through, whether the data centre does, or how this node is
    #[arg(long, default_value = "external", value_parser = ["external", "datacentre", "loopback"])]
    kind: String,

    /// Where this host stands; by default what the token is for, or what the cloud says
    #[arg(long)]
    region: Option<String>,

    /// The availability zone
    #[arg(long)]
    zone: Option<String>,

    /// The network or provider
    #[arg(long)]
    network: Option<String>,

    /// A name that survives restarts; by default what the token is for, or the host's
    #[arg(long)]
    node: Option<String>,

    /// Where the configuration is written, with the secret beside it
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,

    /// Where the agent keeps what no collector has taken yet
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/aviary/agent")]
    data: PathBuf,

    /// Where the agent answers for its health and metrics
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8611")]
    listen: SocketAddr,

    /// Replace what was written before
    #[arg(long)]
    force: bool,

    /// Run the agent in this process, and not as a service
    #[arg(long)]
    run: bool,
}

/// Who the collector says that we are.
#[derive(Debug, Deserialize)]
struct Whoami {
    name: String,
    known_by: String,
    scope: Vec<String>,
    region: Option<String>,
    node: Option<String>,
    expires: Option<u64>,
}

/// Makes this host an agent of a collector.
pub(crate) fn enrol(
    arguments: &EnrolArguments,
    mut out: impl Write,
    environment: &Environment,
    host: &str,
    format: Option<LogFormat>,
) -> anyhow::Result<Ending> {
    let config = path::absolute(&arguments.config)?;
    let files = Files::beside(&config)?;
    if !arguments.force
        && let Some(there) = files.all().into_iter().find(|path| path.exists() && !is_replaceable(path))
    {
        bail!(
            "{} is there already; say --force to replace it, or --config FILE to write elsewhere",
            there.display()
        );
    }
    let secret = match arguments.certificate {
        Some(_) => None,
        None => Some(secret(arguments.token_stdin)?),
    };
    let whom = Whom::new(arguments.url.clone(), secret.clone(), arguments.ca.clone());
    let asker = whom.asker_showing(arguments.certificate.as_deref().zip(arguments.key.as_deref()))?;
    let (whoami, services) = ask(&asker)?;
    let region = arguments.place("region", &arguments.region, &whoami.region)?;
    let node = arguments.place("node", &arguments.node, &whoami.node)?;
    let text = arguments.configuration(region.as_deref().unwrap_or("auto"), node.as_deref(), &files)?;

    files.put_aside()?;
    let written = files.write(arguments, secret.as_deref(), &text);
    let checked = written.and_then(|()| {
        config::load(&config, environment, host).map_err(|Problems(problems)| {
            let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow!("what was to be written has problems, and is not kept:\n{}", said.join("\n"))
        })
    });
    if let Err(error) = checked {
        files.put_back();
        return Err(error);
    }
    files.forget();
    let as_whom = if whoami.name.is_empty() {
        "nobody, who may report from there".to_owned()
    } else {
        format!("`{}`, by its {}", whoami.name, whoami.known_by)
    };
    let until = whoami.expires.map_or_else(String::new, |at| format!(", until {}", moment(at)));
    writeln!(out, "{}: reports to {} as {as_whom}{until}", config.display(), arguments.url)?;
    writeln!(out, "Services, as the collector tells them: {services}")?;
    arguments.start(&config, out, environment, host, format)
}

/// Who the collector says we are, and how many services it tells of.
fn ask(asker: &Asker) -> anyhow::Result<(Whoami, usize)> {
    let runtime = ask::runtime()?;
    let whoami: Whoami =
        runtime.block_on(asker.get("api/v1/whoami", &[])).map_err(|error| in_words(&error))?;
    if !whoami.scope.iter().any(|scope| scope == "report" || scope == "admin") {
        let scope = whoami.scope.join(" and ");
        bail!(
            "`{}` may {scope}, and not report; make a token with `aviary token new NAME --scope report`",
            whoami.name
        );
    }
    let text = runtime.block_on(asker.text("api/v1/services.toml")).map_err(|error| in_words(&error))?;
    let services: toml::Table = text.parse().context("the collector's services cannot be read")?;
    // Whoever reads the agent's host would have it, too; where nobody is known by a name there is nothing to guard.
    let beyond: Vec<&str> =
        whoami.scope.iter().map(String::as_str).filter(|scope| *scope != "report").collect();
    if !whoami.name.is_empty() && !beyond.is_empty() {
        bail!(
            "`{}` may {} as well, which is more than an agent needs and is not left on its host; make a token with \
             `aviary token new NAME --scope report`, and see that AVIARY_TOKEN is not your own",
            whoami.name,
            beyond.join(" and ")
        );
    }
    Ok((whoami, services.get("service").and_then(toml::Value::as_array).map_or(0, Vec::len)))
}

/// What is wrong, and what helps.
fn in_words(error: &anyhow::Error) -> anyhow::Error {
    let said = format!("{error:#}");
    let help = if said.contains("invalid peer certificate") {
        "this host does not know the authority of its certificate, or the certificate is not for this name; copy the \
         authority's certificate here, and say --ca FILE"
    } else if said.contains("401") {
        "compare the secret with what `aviary token new` showed; `aviary token list` says whether it has expired"
    } else {
        return anyhow!("{said}\nNothing was written.");
    };
    anyhow!("{said}\n{help}. Nothing was written.")
}

/// The secret, from where it can be without everybody seeing it: arguments are in every list of processes.
fn secret(from_stdin: bool) -> anyhow::Result<String> {
    let given = std::env::var("AVIARY_TOKEN").ok().filter(|_| !from_stdin);
    let secret = match given {
        Some(secret) => secret,
        None if from_stdin || !io::stdin().is_terminal() => line(io::stdin())?,
        None => {
            write!(io::stderr(), "The secret that `aviary token new` showed: ")?;
            let line = unseen(|| line(io::stdin()))?;
            writeln!(io::stderr())?;
            line
        }
    };
    match secret.trim() {
        "" => bail!("no secret came; say --token-stdin and write it there, or set AVIARY_TOKEN"),
        secret => Ok(secret.to_owned()),
    }
}

fn line(from: io::Stdin) -> anyhow::Result<String> {
    let mut line = String::new();
    from.lock().take(SECRET_BYTES_MAX).read_line(&mut line).context("cannot read the secret")?;
    Ok(line)
}

/// Does `read` while the terminal shows nothing of what is typed.
fn unseen<T>(read: impl FnOnce() -> T) -> T {
    let Ok(before) = tcgetattr(io::stdin()) else { return read() };
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    // A terminal that cannot is a nuisance, and no reason to take nothing.
    _ = tcsetattr(io::stdin(), OptionalActions::Flush, &hidden);
    let read = read();
    _ = tcsetattr(io::stdin(), OptionalActions::Flush, &before);
    read
}

impl EnrolArguments {
    /// Whether the agent is to run in this process.
    pub(crate) const fn runs(&self) -> bool {
        self.run
    }

    /// What is said of `key`, if anything; what the token is for goes before everything.
    fn place(
        &self,
        key: &str,
        said: &Option<String>,
        granted: &Option<String>,
    ) -> anyhow::Result<Option<String>> {
        match (said, granted) {
            (Some(said), Some(granted)) if said != granted => {
                bail!("the token is for {key} {granted} alone, and --{key} says {said}; nothing was written")
            }
            _ => Ok(granted.clone().or_else(|| said.clone())),
        }
    }

    fn configuration(&self, region: &str, node: Option<&str>, files: &Files) -> anyhow::Result<String> {
        let Self { url, kind, zone, network, data, listen, .. } = self;
        let kind: VantageKind = kind.parse().map_err(|_| anyhow!("`{kind}` is no kind of vantage"))?;
        let mut text = format!(
            "# Written by `aviary enrol`; config/agent-external.toml says what else there is.\n\n[vantage]\nkind = {}\nregion = {}\n",
            quoted(kind.name()),
            quoted(region)
        );
        for (key, value) in [("zone", zone.as_deref()), ("network", network.as_deref()), ("node", node)] {
            text += &value.map(|value| format!("{key} = {}\n", quoted(value))).unwrap_or_default();
        }
        text += &format!("\n[agent]\ncollector = [{}]\n", quoted(url.as_str().trim_end_matches('/')));
        let file = |path: &Path| format!("{{ file = {} }}", quoted(&path.display().to_string()));
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let (certificate, key) = (path::absolute(certificate)?, path::absolute(key)?);
                text += &format!("certificate = {}\nkey = {}\n", file(&certificate), file(&key));
            }
            _ => text += &format!("token = {}\n", file(&files.token)),
        }
        if self.ca.is_some() {
            text += &format!("ca = {}\n", file(&files.ca));
        }
        let data = path::absolute(data)?.display().to_string();
        text += &format!(
            "services = {{ from = \"collector\" }}\ndata = {}\nlisten = \"{listen}\"\n",
            quoted(&data)
        );
        Ok(text)
    }

    /// Runs the agent, has systemd run it, or says how.
    fn start(
        &self,
        config: &Path,
        mut out: impl Write,
        environment: &Environment,
        host: &str,
        format: Option<LogFormat>,
    ) -> anyhow::Result<Ending> {
        let by_hand = format!("aviary run {}", config.display());
        if self.run {
            writeln!(out, "Runs until SIGTERM; later: {by_hand}")?;
            out.flush()?;
            // Lines of the log come from several threads over days; the lock is for commands that print and end.
            drop(out);
            return run::run(config, environment, host, format);
        }
        let has_unit = Path::new("/run/systemd/system").is_dir() && config == Path::new(CONFIG);
        if !has_unit {
            writeln!(out, "Start it: {by_hand}")?;
            return Ok(Ending::Well);
        }
        let started = Command::new("systemctl").args(["enable", "--now", UNIT]).output();
        match started {
            Ok(output) if output.status.success() => {
                writeln!(out, "{UNIT} runs, and will after each boot; see `journalctl -u {UNIT}`")?;
                Ok(Ending::Well)
            }
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                writeln!(out, "systemd does not start {UNIT}: {said}\nBy hand: {by_hand}")?;
                Ok(Ending::Unwell)
            }
            Err(error) => {
                writeln!(out, "systemctl cannot be run: {error}\nBy hand: {by_hand}")?;
                Ok(Ending::Unwell)
            }
        }
    }
}

/// What is written, and where.
struct Files {
    config: PathBuf,
    token: PathBuf,
    ca: PathBuf,
}

impl Files {
    fn beside(config: &Path) -> anyhow::Result<Self> {
        let file_name = config.file_name().with_context(|| format!("{} names no file", config.display()))?;
        let of = |extension: &str| config.with_file_name(file_name).with_extension(extension);
        Ok(Self { config: config.to_owned(), token: of("token"), ca: of("ca.pem") })
    }

    fn all(&self) -> [&Path; 3] {
        [&self.config, &self.token, &self.ca]
    }

    /// Keeps what is there by another name.
    fn put_aside(&self) -> anyhow::Result<()> {
        self.forget();
        for path in self.all().into_iter().filter(|path| path.exists()) {
            fs::hard_link(path, aside(path)).with_context(|| format!("cannot keep {}", path.display()))?;
        }
        Ok(())
    }

    /// Has all of it be as it was.
    fn put_back(&self) {
        for path in self.all() {
            match fs::rename(aside(path), path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => _ = fs::remove_file(path),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "What was there before is beside it, as .before.")
                }
                // One that was not replaced yet is the same file by two names, and such a rename does nothing.
                Ok(()) => _ = fs::remove_file(aside(path)),
            }
        }
    }

    /// Lets go of what was there.
    fn forget(&self) {
        self.all().into_iter().for_each(|path| _ = fs::remove_file(aside(path)));
    }

    fn write(&self, arguments: &EnrolArguments, secret: Option<&str>, text: &str) -> anyhow::Result<()> {
        if let Some(directory) = self.config.parent() {
            fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        if let Some(ca) = &arguments.ca {
            let pem = fs::read_to_string(ca).with_context(|| format!("cannot read {}", ca.display()))?;
            write(&self.ca, &pem, 0o644)?;
        }
        if let Some(secret) = secret {
            write(&self.token, &format!("{secret}\n"), 0o600)?;
            // Where the service runs as a user of its own, that one is to read it, and still nobody else.
            if let (true, Some((user, group))) = (rustix::process::geteuid().is_root(), service_user()) {
                let cannot = || format!("cannot give {} to the user {USER}", self.token.display());
                chown(&self.token, Some(user), Some(group)).with_context(cannot)?;
            }
        }
        write(&self.config, text, 0o644)
    }
}

/// Writes a file as a whole, which is nobody else's to read at any moment where `mode` says so.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    replace(path, text.as_bytes(), mode).with_context(cannot)?;
    // Whatever the umask takes away.
    fs::set_permissions(path, Permissions::from_mode(mode)).with_context(cannot)
}

/// What `path` is called as long as something else stands in its place.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".before");
    name.into()
}

/// Whether the file came with a package, and nobody has made it theirs.
fn is_replaceable(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line == REPLACEABLE))
}

/// The service's user and group on this host, if packages made them.
fn service_user() -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let mut fields =
        users.lines().map(|line| line.split(':')).find(|fields| fields.clone().next() == Some(USER))?;
    Some((fields.nth(2)?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
