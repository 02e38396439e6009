//! One question, and what its answer says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use aviary_agent::{Push, Token, http_client};
use aviary_core::Endpoint;
use aviary_probe::{Dns, Family, Records, RecordsError};
use serde::{Deserialize, de::IgnoredAny};

use super::Answer;
use crate::config::discovery::{Discovery, Http, Source};

/// DNS is asked again when the records have run out, within these bounds.
const TTL_MIN: Duration = Duration::from_secs(5);
const TTL_MAX: Duration = Duration::from_secs(60);

/// How often files are read: they are small, and so the change of one is never overlooked.
const READ_EVERY: Duration = Duration::from_secs(2);

/// How soon it is asked again after what was no answer.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// The largest answer or file, and the most files of one question.
const BYTES_MAX: usize = 1 << 20;
const FILES_MAX: usize = 64;

/// A question.
pub(super) struct Asker {
    discovery: Discovery,
    dns: Dns,
    family: Family,
}

/// Targets in the form of Prometheus' `file_sd` and `http_sd`.
#[derive(Deserialize)]
struct Group {
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, IgnoredAny>,
}

impl Asker {
    /// Asks for what `discovery` says, names of which `dns` knows.
    pub(super) fn new(discovery: &Discovery, dns: Dns, family: Family) -> Self {
        Self { discovery: discovery.clone(), dns, family }
    }

    /// Asks once.
    pub(super) async fn ask(&self) -> Answer {
        match &self.discovery.source {
            Source::Srv(name) => {
                let records = self.dns.hosts_of_service(name).await;
                self.of_records(records, |record| format!("{}:{}", record.host, record.port))
            }
            Source::Addresses(name, port) => {
                let records = self.dns.addresses_of(name, self.family).await;
                self.of_records(records, |address: &IpAddr| SocketAddr::new(*address, *port).to_string())
            }
            Source::Files(pattern) => {
                let pattern = pattern.clone();
                let read = tokio::task::spawn_blocking(move || read(&pattern)).await;
                self.of_groups(read.map_err(|error| error.to_string()).flatten(), READ_EVERY)
            }
            Source::Http(http) => self.of_groups(get(http).await, http.every),
        }
    }

    fn of_records<T>(
        &self,
        records: Result<Records<T>, RecordsError>,
        authority: impl Fn(&T) -> String,
    ) -> Answer {
        match records {
            Ok(Records { found, ttl }) => Answer {
                found: found.iter().map(|record| self.discovery.endpoint(&authority(record))).collect(),
                labels: 0,
                ask_again: ttl.clamp(TTL_MIN, TTL_MAX),
            },
            Err(error) => Answer { found: Err(error.to_string()), labels: 0, ask_again: RETRY_EVERY },
        }
    }

    /// All targets of all groups; where one of them is none, nothing is taken of any.
    fn of_groups(&self, groups: Result<Vec<Group>, String>, every: Duration) -> Answer {
        let groups = match groups {
            Ok(groups) => groups,
            Err(error) => return Answer { found: Err(error), labels: 0, ask_again: every.min(RETRY_EVERY) },
        };
        let labels = groups.iter().map(|group| group.labels.len() as u64).sum();
        let targets = groups.iter().flat_map(|group| &group.targets);
        let found: Result<BTreeSet<Endpoint>, String> =
            targets.map(|target| self.discovery.endpoint(target)).collect();
        Answer { found, labels, ask_again: every }
    }
}

/// The groups in all files of `pattern`. Where one cannot be read, whoever writes it may be about to.
fn read(pattern: &Path) -> Result<Vec<Group>, String> {
    let files =
        matching(pattern).map_err(|error| format!("cannot look for {}: {error}", pattern.display()))?;
    if files.is_empty() {
        return Err(format!("there is no file {}", pattern.display()));
    }
    if files.len() > FILES_MAX {
        return Err(format!("{} has {} files, and {FILES_MAX} are the most", pattern.display(), files.len()));
    }
    let mut groups = Vec::new();
    for path in files {
        let in_file = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let mut text = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(BYTES_MAX as u64 + 1).read_to_end(&mut text));
        read.map_err(|error| in_file(&error))?;
        groups.extend(parse(&text).map_err(|error| in_file(&error))?);
    }
    Ok(groups)
}

/// The files that `pattern` means, in which one `*` may stand in the last part.
fn matching(pattern: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((start, end)) = name.split_once('*') else { return Ok([pattern.to_owned()].into()) };
    let directory =
        pattern.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_long_enough = name.len() >= start.len() + end.len();
        if is_long_enough && name.starts_with(start) && name.ends_with(end) {
            found.insert(path);
        }
    }
    Ok(found)
}

fn parse(text: &[u8]) -> Result<Vec<Group>, String> {
    if text.len() > BYTES_MAX {
        return Err("is larger than 1 MiB".to_owned());
    }
    serde_json::from_slice(text).map_err(|error| {
        format!("is no list of targets, such as [{{\"targets\": [\"host:2003\"]}}]: {error}")
    })
}

async fn get(http: &Http) -> Result<Vec<Group>, String> {
    let Http { url, token, ca, .. } = http;
    let asked = async {
        // As reports are pushed: with roots of our own, a deadline, and no redirection that would take the token along.
        let client = http_client(&Push {
            token: token.as_ref().map(|token| Token::new(token.expose())),
            ca: ca.as_ref().map(|pem| pem.text().as_bytes().to_vec()),
            ..Push::default()
        })?;
        let mut response = client.get(url.clone()).header("accept", "application/json").send().await?;
        anyhow::ensure!(response.status() == reqwest::StatusCode::OK, "it answers {}", response.status());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            anyhow::ensure!(body.len() <= BYTES_MAX, "it answers more than 1 MiB");
        }
        Ok(body)
    };
    let body = asked.await.map_err(|error: anyhow::Error| format!("{url}: {error:#}"))?;
    parse(&body).map_err(|error| format!("{url}: what it answers {error}"))
}

#[cfg(test)]
mod tests {
    use aviary_core::Protocol;

    use super::*;

    fn asker(source: Source) -> Asker {
        let discovery = Discovery {
            source,
            protocol: Protocol::Tcp,
            path: String::new(),
            grace: Duration::from_secs(60),
            at_most: 9,
            addresses: Default::default(),
            kinds: Default::default(),
        };
        Asker::new(&discovery, Dns::with_servers(&[([127, 0, 0, 1], 9).into()]).unwrap(), Family::Any)
    }

    async fn found(asker: &Asker) -> (Result<Vec<String>, String>, u64) {
        let Answer { found, labels, .. } = asker.ask().await;
        (found.map(|found| found.iter().map(ToString::to_string).collect()), labels)
    }

    #[tokio::test]
    async fn files_are_read_as_prometheus_reads_them() {
        let directory = tempfile::tempdir().unwrap();
        let asker = asker(Source::Files(directory.path().join("gr-*.json")));
        let place = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        assert!(found(&asker).await.0.unwrap_err().starts_with("there is no file "));

        place("gr-1.json", r#"[{"targets": ["gr-1:2003", "[2001:db8::1]:2003"], "labels": {"rack": "7"}}]"#);
        place("gr-2.json", r#"[{"targets": ["gr-2:2003", "GR-1.:2003"]}, {"targets": []}]"#);
        place("other.json", "no JSON");
        let expected = ["tcp://[2001:db8::1]:2003", "tcp://gr-1:2003", "tcp://gr-2:2003"];
        assert_eq!(found(&asker).await, (Ok(expected.map(str::to_owned).to_vec()), 1));

        for (text, expected) in [
            ("", "is no list of targets"),
            ("[{\"targets\": [\"gr-3:2003\"]", "is no list of targets"),
            ("{\"targets\": []}", "is no list of targets"),
            ("[{\"targets\": [\"gr-3\"]}]", "`gr-3`: the port is missing"),
            ("[{\"targets\": [\"gr-3:1/x\"]}]", "after the port is not understood"),
            ("[{\"targets\": [\"key@gr-3:1\"]}]", "use api_key"),
        ] {
            place("gr-2.json", text);
            let refused = found(&asker).await.0.unwrap_err();
            assert!(refused.contains(expected), "{text}: {refused}");
        }
        place("gr-2.json", &" ".repeat(BYTES_MAX + 1));
        assert!(found(&asker).await.0.unwrap_err().ends_with("gr-2.json: is larger than 1 MiB"));
    }
}
