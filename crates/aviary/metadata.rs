//! Where this host runs, as its cloud's metadata service says it.
//!
//! The three clouds answer at one address, each to questions of its own. All are asked at once: which cloud it is, is
//! what the answers say. An answer that is empty or strange is refused whole, since a wrong region would blame another
//! place for what happens here, for as long as the agent runs.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Url, header::HeaderMap};
use serde::Deserialize;

/// Where the metadata services of all three clouds answer.
pub(crate) const ADDRESS: &str = "http://169.254.169.254/";

/// How long one question may take. The service is on the host itself: it answers in milliseconds, or not at all.
const QUESTION: Duration = Duration::from_secs(2);

/// How often all are asked before that is given up. A host that has just booted may not have its network yet.
const TRIES: u32 = 15;

/// How long until they are asked again: with what each try takes, they are given up after about half a minute.
const PAUSE: Duration = Duration::from_secs(2);

/// The largest answer that is read: Azure's tells everything of a host.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The longest name of a region or zone.
const NAME_BYTES_MAX: usize = 64;

/// Where a host runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The cloud: `aws`, `gcp` or `azure`.
    pub(crate) network: &'static str,
    /// Its region.
    pub(crate) region: String,
    /// The zone in it, where there are such.
    pub(crate) zone: Option<String>,
}

/// Why it is not known where this host runs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetadataError {
    /// Nobody answered, or not rightly.
    #[error("no cloud says at {base} where this host runs (aws: {aws}; gcp: {gcp}; azure: {azure})")]
    NoAnswer {
        /// Where they were asked.
        base: Url,
        /// What came of asking in the words of AWS.
        aws: String,
        /// Likewise of Google Cloud.
        gcp: String,
        /// Likewise of Azure.
        azure: String,
    },
    /// More than one cloud answered: one of them is an imitation.
    #[error("two clouds say at {base} that this host is theirs: {one} and {other}")]
    Ambiguous {
        /// Where they were asked.
        base: Url,
        /// One of them.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// The client could not be made.
    #[error("cannot ask the metadata service: {0}")]
    Client(#[from] reqwest::Error),
}

/// How patiently the clouds are asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How long one question may take.
    question: Duration,
    /// How often all are asked.
    tries: u32,
    /// How long between two tries.
    pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { question: QUESTION, tries: TRIES, pause: PAUSE }
    }
}

/// Asks the metadata services at `base` where this host runs. They are asked directly, and nobody whom they send us to.
///
/// # Errors
///
/// When none has answered rightly until `patience` has run out, or more than one has.
pub(crate) async fn place(base: &Url, patience: Patience) -> Result<Place, MetadataError> {
    let client = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(patience.question)
        .build()?;
    let mut tries = 1;
    loop {
        match ask_all(&client, base).await {
            Err(error @ MetadataError::NoAnswer { .. }) if tries < patience.tries => {
                tracing::debug!(%error, tries, "The cloud is asked again.");
            }
            outcome => return outcome,
        }
        tries += 1;
        tokio::time::sleep(patience.pause).await;
    }
}

async fn ask_all(client: &Client, base: &Url) -> Result<Place, MetadataError> {
    let (aws, gcp, azure) = tokio::join!(aws(client, base), gcp(client, base), azure(client, base));
    let base = base.clone();
    match (aws, gcp, azure) {
        (Ok(one), Ok(other), _) | (Ok(one), _, Ok(other)) | (_, Ok(one), Ok(other)) => {
            Err(MetadataError::Ambiguous { base, one: one.network, other: other.network })
        }
        (Ok(place), _, _) | (_, Ok(place), _) | (_, _, Ok(place)) => Ok(place),
        (Err(aws), Err(gcp), Err(azure)) => Err(MetadataError::NoAnswer { base, aws, gcp, azure }),
    }
}

/// AWS, with a session as the second version of its service wants it.
async fn aws(client: &Client, base: &Url) -> Result<Place, String> {
    let token =
        client.put(at(base, "latest/api/token")?).header("X-aws-ec2-metadata-token-ttl-seconds", "60");
    let (_, token) = answer(token).await?;
    let question = |path| {
        let request = client.get(at(base, path)?).header("X-aws-ec2-metadata-token", token.trim());
        Ok::<_, String>(async move { Ok::<_, String>(answer(request).await?.1) })
    };
    let region = question("latest/meta-data/placement/region")?.await?;
    let zone = question("latest/meta-data/placement/availability-zone")?.await?;
    let (region, zone) = (name("region", &region)?, name("zone", &zone)?);
    // The names of zones begin with their region, as in eu-west-1a and us-west-2-lax-1a.
    if zone == region || !zone.starts_with(&region) {
        return Err(format!("zone {zone} is not in region {region}"));
    }
    Ok(Place { network: "aws", region, zone: Some(zone) })
}

/// Google Cloud: the zone as `projects/NUMBER/zones/ZONE`, and the region is the zone without its last part.
async fn gcp(client: &Client, base: &Url) -> Result<Place, String> {
    const FLAVOR: &str = "Metadata-Flavor";
    let question = client.get(at(base, "computeMetadata/v1/instance/zone")?).header(FLAVOR, "Google");
    let (headers, text) = answer(question).await?;
    if headers.get(FLAVOR).is_none_or(|flavor| flavor != "Google") {
        return Err("the answer is not Google's".to_owned());
    }
    let parts: Vec<&str> = text.trim().split('/').collect();
    let &["projects", _, "zones", zone] = parts.as_slice() else {
        return Err(format!("strange answer `{}`", shown(&text)));
    };
    let zone = name("zone", zone)?;
    let Some((region, _)) = zone.rsplit_once('-').filter(|(region, _)| region.contains('-')) else {
        return Err(format!("strange zone `{zone}`"));
    };
    Ok(Place { network: "gcp", region: region.to_owned(), zone: Some(zone) })
}

/// Azure: all of a host in one document. Zones are numbers, and many regions have none.
async fn azure(client: &Client, base: &Url) -> Result<Place, String> {
    #[derive(Deserialize)]
    struct Instance {
        compute: Compute,
    }
    #[derive(Deserialize)]
    struct Compute {
        location: String,
        #[serde(default)]
        zone: String,
    }
    let question =
        client.get(at(base, "metadata/instance?api-version=2021-02-01")?).header("Metadata", "true");
    let (_, text) = answer(question).await?;
    let Instance { compute } =
        serde_json::from_str(&text).map_err(|error| format!("strange answer: {error}"))?;
    let region = name("location", &compute.location)?;
    let zone = if compute.zone.is_empty() { None } else { Some(name("zone", &compute.zone)?) };
    Ok(Place { network: "azure", region, zone })
}

fn at(base: &Url, path: &str) -> Result<Url, String> {
    base.join(path).map_err(|error| error.to_string())
}

/// The headers and the text of a successful answer.
async fn answer(request: RequestBuilder) -> Result<(HeaderMap, String), String> {
    let mut response = request.send().await.map_err(in_words)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("status {}", response.status().as_u16()));
    }
    let headers = response.headers().clone();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(in_words)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err("the answer has no end".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    let text = String::from_utf8(body).map_err(|_| "the answer is not text".to_owned())?;
    Ok((headers, text))
}

/// The innermost reason, which is what somebody can do something about.
fn in_words(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer".to_owned();
    }
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// `text` if it is the name of a region or zone in any cloud's spelling.
fn name(what: &str, text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_name = !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if is_name { Ok(text.to_owned()) } else { Err(format!("strange {what} `{}`", shown(text))) }
}

fn shown(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(NAME_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests;
