//! A real Graphite: carbon-cache and graphite-web, one second a slot, and a client for `/render`.

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use aviary_core::{Second, Span};
use tempfile::TempDir;

use super::{
    http,
    ports::Port,
    process::{Process, program, test_python},
};

/// How long either process may take to listen; on an idle machine both need a second.
const START: Duration = Duration::from_secs(30);

/// How long `/render` may take: with carbon frozen, graphite-web gives up after some six seconds, and its four threads may each
/// have such a question before it that nobody waits for any more.
const RENDER: Duration = Duration::from_secs(60);

/// carbon-cache and graphite-web over one directory of whisper files that hold an hour of seconds.
pub(crate) struct Graphite {
    carbon: Process,
    web: Process,
    line: Port,
    pickle: Port,
    query: Port,
    http: Port,
    dir: TempDir,
}

/// carbon-cache by itself, of which nobody reads back.
pub(crate) struct Carbon {
    process: Process,
    line: Port,
    /// The ports that it listens on beside, and would share with others otherwise.
    _others: [Port; 2],
    _dir: TempDir,
}

impl Carbon {
    /// Starts it, empty.
    #[track_caller]
    pub(crate) fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("aviary-carbon-")
            .tempdir()
            .expect("the temporary directory can be written");
        for name in ["conf", "whisper", "log"] {
            fs::create_dir(dir.path().join(name)).expect("the temporary directory can be written");
        }
        let (line, pickle, query) = (Port::claim(), Port::claim(), Port::claim());
        let process = carbon(dir.path(), Setup::default(), &line, &pickle, &query);
        for port in [&query, &line, &pickle] {
            process.wait_until_listening(port.address(), START);
        }
        Self { process, line, _others: [pickle, query], _dir: dir }
    }

    /// Graphite lines.
    pub(crate) fn line(&self) -> SocketAddr {
        self.line.address()
    }

    /// The process, to freeze and thaw.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// How a Graphite is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// The archives of each series, as storage-schemas.conf has them; `None` for carbon's own default.
    pub(crate) retentions: Option<&'static str>,
    /// How many series carbon creates in a minute; it drops the points of the others.
    pub(crate) creates_per_minute: &'static str,
    /// Whether graphite-web caches its answers, as it does with memcached.
    pub(crate) is_cached: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { retentions: Some("1s:1h"), creates_per_minute: "inf", is_cached: false }
    }
}

impl Graphite {
    /// Starts both, empty.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::start_as(Setup::default())
    }

    /// Starts both, empty, with another setup.
    #[track_caller]
    pub(crate) fn start_as(setup: Setup) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("aviary-graphite-")
            .tempdir()
            .expect("the temporary directory can be written");
        let (line, pickle, query, http) = (Port::claim(), Port::claim(), Port::claim(), Port::claim());
        // graphite-web looks for the directory of the whisper files as it starts, and never again.
        for name in ["conf", "whisper", "log"] {
            fs::create_dir(dir.path().join(name)).expect("the temporary directory can be written");
        }
        let carbon = carbon(dir.path(), setup, &line, &pickle, &query);
        let caches = "CACHES = {'default': {'BACKEND': 'django.core.cache.backends.locmem.LocMemCache'}}\n";
        let caches = if setup.is_cached { caches } else { "" };
        let settings = format!("CARBONLINK_HOSTS = ['127.0.0.1:{}:a']\n{caches}", query.number());
        let web = web(dir.path(), &settings, &http);
        let graphite = Self { carbon, web, line, pickle, query, http, dir };
        graphite.wait_for_carbon();
        graphite.web.wait_until_listening(graphite.http.address(), START);
        graphite
    }

    /// Graphite lines, over TCP and over UDP.
    pub(crate) fn line(&self) -> SocketAddr {
        self.line.address()
    }

    /// Pickles over TCP.
    pub(crate) fn pickle(&self) -> SocketAddr {
        self.pickle.address()
    }

    /// graphite-web.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http.address()
    }

    /// The seconds of a series that are on disk with their values, read by whisper itself; `None` where there is no file.
    #[track_caller]
    pub(crate) fn on_disk(&self, name: &str, span: Span) -> Option<BTreeSet<Second>> {
        let file = self.dir.path().join("whisper").join(format!("{}.wsp", name.replace('.', "/")));
        if !file.exists() {
            return None;
        }
        let script = "import sys, whisper\n\
            (_, _, step), values = whisper.fetch(sys.argv[1], int(sys.argv[2]) - 1, int(sys.argv[3]) - 1)\n\
            assert step == 1, step\n\
            print(*(int(sys.argv[2]) + at for at, value in enumerate(values) if value is not None))";
        let output = std::process::Command::new(test_python())
            .args(["-c", script])
            .arg(&file)
            .args([span.from.to_string(), span.until.to_string()])
            .output()
            .expect("Python runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("digits");
        Some(text.split_whitespace().map(|second| Second(second.parse().expect("a second"))).collect())
    }

    /// Stops carbon in its tracks: the kernel goes on accepting for it.
    ///
    /// graphite-web then waits a second for each series and answers from disk, with nulls for what carbon had not
    /// written; where that takes six seconds in all it answers 500.
    #[track_caller]
    pub(crate) fn freeze_carbon(&mut self) {
        self.carbon.freeze();
    }

    /// Lets carbon run on; it then reads what the kernel had taken in the meantime.
    #[track_caller]
    pub(crate) fn thaw_carbon(&mut self) {
        self.carbon.thaw();
    }

    /// Stops carbon with SIGTERM. It loses what it had not written yet, which may be the last second or so.
    #[track_caller]
    pub(crate) fn stop_carbon(&mut self) {
        self.carbon.stop();
    }

    /// Starts carbon again on the same ports and files, after stopping it where it runs.
    #[track_caller]
    pub(crate) fn restart_carbon(&mut self) {
        if self.carbon.is_running() {
            self.carbon.stop();
        }
        // A carbon that was killed leaves it behind, and no carbon starts while any process has the number in it.
        match fs::remove_file(pidfile(self.dir.path())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                panic!("carbon's pidfile cannot be removed: {error}")
            }
            _ => {}
        }
        self.carbon.restart();
        self.wait_for_carbon();
    }

    /// The carbon process.
    pub(crate) fn carbon(&mut self) -> &mut Process {
        &mut self.carbon
    }

    /// The graphite-web process.
    pub(crate) fn web(&mut self) -> &mut Process {
        &mut self.web
    }

    /// Asks for the raw seconds of `span` of the series with these exact names.
    ///
    /// Until settled, an answer may lack a point that an earlier answer had: carbon's cache and its files are read one
    /// after the other. See [`render_until_stored`](Self::render_until_stored).
    ///
    /// # Errors
    /// [`RenderError`] where graphite-web does not answer, or answers with anything but 200.
    #[track_caller]
    pub(crate) fn render(&self, names: &[impl AsRef<str>], span: Span) -> Result<Rendered, RenderError> {
        assert!(!span.is_empty(), "graphite-web refuses an empty span");
        // `from` is exclusive and `until` inclusive; no maxDataPoints, which averages, and no cache, which lags by a minute.
        let mut form =
            format!("format=json&noCache=1&from={}&until={}", span.from.minus(1), span.until.minus(1));
        for name in names.iter().map(AsRef::as_ref) {
            let readable = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            assert!(name.chars().all(readable), "{name:?} would be taken for an expression");
            form.push_str("&target=");
            form.push_str(name);
        }
        let form_type = [("Content-Type", "application/x-www-form-urlencoded")];
        match http::request(self.http(), "POST", "/render", &form_type, form.as_bytes(), RENDER)? {
            (200, body) => Ok(Rendered::parse(&body)),
            (status, body) => Err(RenderError::Status(status, body)),
        }
    }

    /// Asks until every second of every series is stored, or until `patience` is over; returns the last answer.
    ///
    /// # Errors
    /// The last answer's, as [`render`](Self::render).
    #[track_caller]
    pub(crate) fn render_until_stored(
        &self,
        names: &[impl AsRef<str>],
        span: Span,
        patience: Duration,
    ) -> Result<Rendered, RenderError> {
        let deadline = Instant::now() + patience;
        loop {
            let answer = self.render(names, span);
            let complete = |answer: &Rendered| {
                names.iter().all(|name| answer.stored(name.as_ref()).len() as u64 == span.seconds())
            };
            if answer.as_ref().is_ok_and(complete) || Instant::now() >= deadline {
                return answer;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for all of carbon's ports; the pickle port is the last, and UDP is open before it.
    #[track_caller]
    fn wait_for_carbon(&self) {
        for port in [&self.query, &self.line, &self.pickle] {
            self.carbon.wait_until_listening(port.address(), START);
        }
    }
}

/// A graphite-web without a store of its own, which asks those of others.
pub(crate) struct Front {
    web: Process,
    http: Port,
    _dir: TempDir,
}

impl Front {
    /// Starts it before `backends`.
    #[track_caller]
    pub(crate) fn start(backends: &[&Graphite]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("aviary-graphite-front-")
            .tempdir()
            .expect("the temporary directory can be written");
        for name in ["conf", "whisper", "log"] {
            fs::create_dir(dir.path().join(name)).expect("the temporary directory can be written");
        }
        let servers: Vec<_> = backends.iter().map(|backend| format!("'{}'", backend.http())).collect();
        // A backend that failed is left alone for a minute by default.
        let settings = format!("CLUSTER_SERVERS = [{}]\nREMOTE_RETRY_DELAY = 5\n", servers.join(", "));
        let http = Port::claim();
        let web = web(dir.path(), &settings, &http);
        web.wait_until_listening(http.address(), START);
        Self { web, http, _dir: dir }
    }

    /// Where it answers.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http.address()
    }

    /// Everything that it printed.
    pub(crate) fn log(&self) -> String {
        self.web.log()
    }
}

/// Why there is no answer from which to tell what is stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenderError {
    /// graphite-web did not answer.
    #[error("graphite-web does not answer /render")]
    Io(#[from] io::Error),
    /// graphite-web answered with this status and body.
    #[error("graphite-web answers /render with {0}: {1}")]
    Status(u16, String),
}

/// What `/render` answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rendered(HashMap<String, Vec<(Second, Option<f64>)>>);

impl Rendered {
    /// The seconds of a series in order, each with its value if any; `None` where Graphite knows no such series.
    pub(crate) fn series(&self, name: &str) -> Option<&[(Second, Option<f64>)]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// The seconds of a series that hold a value.
    pub(crate) fn stored(&self, name: &str) -> BTreeSet<Second> {
        let series = self.series(name).unwrap_or_default();
        series.iter().filter(|(_, value)| value.is_some()).map(|&(second, _)| second).collect()
    }

    /// Reads `[{"target": NAME, "datapoints": [[VALUE, SECOND], ...]}, ...]`.
    #[track_caller]
    fn parse(body: &str) -> Self {
        let answer: serde_json::Value =
            serde_json::from_str(body).expect("graphite-web answers 200 with JSON");
        let mut all = HashMap::new();
        for series in answer.as_array().expect("a list of series") {
            let name = series["target"].as_str().expect("a series has a target");
            let points: Vec<(Second, Option<f64>)> = series["datapoints"]
                .as_array()
                .expect("a series has datapoints")
                .iter()
                .map(|point| (Second(point[1].as_u64().expect("a second")), point[0].as_f64()))
                .collect();
            // Anything but the one-second archive would be an average.
            assert!(
                points.windows(2).all(|pair| pair[1].0 == pair[0].0.plus(1)),
                "{name} was not answered second by second: {points:?}"
            );
            all.insert(name.to_owned(), points);
        }
        Self(all)
    }
}

/// Starts carbon-cache; the settings that are left out are carbon's own defaults.
#[track_caller]
fn carbon(dir: &Path, setup: Setup, line: &Port, pickle: &Port, query: &Port) -> Process {
    let (root, creates) = (dir.display(), setup.creates_per_minute);
    let (line, pickle, query) = (line.number(), pickle.number(), query.number());
    let conf = dir.join("conf");
    let write = |name: &str, text: &str| {
        fs::write(conf.join(name), text).expect("the temporary directory can be written")
    };
    write(
        "carbon.conf",
        &format!(
            "[cache]
STORAGE_DIR = {root}
LOCAL_DATA_DIR = {root}/whisper
CONF_DIR = {root}/conf
LOG_DIR = {root}/log
PID_DIR = {root}
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = {line}
ENABLE_UDP_LISTENER = True
UDP_RECEIVER_INTERFACE = 127.0.0.1
UDP_RECEIVER_PORT = {line}
PICKLE_RECEIVER_INTERFACE = 127.0.0.1
PICKLE_RECEIVER_PORT = {pickle}
CACHE_QUERY_INTERFACE = 127.0.0.1
CACHE_QUERY_PORT = {query}
# The shipped example creates 50 series a minute and drops the points of the rest.
MAX_CREATES_PER_MINUTE = {creates}
MAX_UPDATES_PER_SECOND = inf
# Its own metrics, and the index of tags, which it would post to graphite-web.
CARBON_METRIC_INTERVAL = 0
ENABLE_TAGS = False
LOG_UPDATES = False
LOG_CREATES = False
LOG_CACHE_HITS = False
LOG_CACHE_QUEUE_SORTS = False
LOG_LISTENER_CONN_SUCCESS = False
"
        ),
    );
    match setup.retentions {
        Some(retentions) => {
            write("storage-schemas.conf", &format!("[all]\npattern = .*\nretentions = {retentions}\n"));
        }
        // carbon wants the file, and falls back to slots of a minute for what no section matches.
        None => write("storage-schemas.conf", "[none]\npattern = ^nothing$\nretentions = 1s:1h\n"),
    }
    write("storage-aggregation.conf", "[all]\npattern = .*\nxFilesFactor = 0\naggregationMethod = sum\n");

    let python = test_python();
    let mut command = program(&python);
    command.arg(python.with_file_name("carbon-cache.py"));
    command.arg("--config").arg(conf.join("carbon.conf")).arg("--pidfile").arg(pidfile(dir));
    command.args(["--nodaemon", "start"]).env("GRAPHITE_ROOT", dir);
    Process::start("carbon", command, dir)
}

/// Starts graphite-web in gunicorn, which listens before its worker has loaded Django: the first answer takes a second.
#[track_caller]
fn web(dir: &Path, more_settings: &str, http: &Port) -> Process {
    let root = dir.display();
    // No CACHES and no MEMCACHE_HOSTS; and no database, which rendering does not ask.
    let settings = format!(
        "SECRET_KEY = 'of no use to anybody: this server lives for one test, on loopback'
ALLOWED_HOSTS = ['*']
TIME_ZONE = 'UTC'
STORAGE_DIR = '{root}'
CONF_DIR = '{root}/conf'
LOG_DIR = '{root}/log'
WHISPER_DIR = '{root}/whisper'
INDEX_FILE = '{root}/index'
LOG_FILE_INFO = LOG_FILE_EXCEPTION = '-'
LOG_INFO_PERFORMANCE = LOG_CACHE_PERFORMANCE = LOG_RENDERING_PERFORMANCE = False
# Django takes a thousand fields in a form, and each series is one.
DATA_UPLOAD_MAX_NUMBER_FIELDS = None
{more_settings}"
    );
    fs::write(dir.join("conf/test_settings.py"), settings).expect("the temporary directory can be written");

    let mut command = program(test_python());
    command.args(["-m", "gunicorn", "--workers", "1", "--threads", "4", "--worker-tmp-dir"]).arg(dir);
    command.args(["--log-level", "warning", "--bind", &http.address().to_string(), "graphite.wsgi"]);
    command.env("PYTHONPATH", dir.join("conf")).env("GRAPHITE_SETTINGS_MODULE", "test_settings");
    command.env("DJANGO_SETTINGS_MODULE", "graphite.settings");
    Process::start("graphite-web", command, dir)
}

fn pidfile(dir: &Path) -> PathBuf {
    dir.join("carbon.pid")
}
