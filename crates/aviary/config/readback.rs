//! `[service.readback]`: where a service tells what it stored.

use std::{sync::Arc, time::Duration};

use aviary_collector::{Credentials, RESOLUTION_SECONDS_MAX, Reader as Api, SETTLE_SECONDS_MAX};
use reqwest::Url;

use super::{
    agent::is_loopback,
    context::Refusal,
    kind::{Kind, text},
    reader::Reader,
    scalar,
    secret::{self, Pem, Secret},
};

/// What stands in a path where the key belongs.
const KEY_PLACE: &str = "%7Bkey%7D";

/// How a service tells what it stored.
#[derive(Clone, Debug)]
pub(crate) struct Readback {
    /// Which API it speaks.
    pub(crate) api: Api,
    /// The root of that API.
    pub(crate) url: Url,
    /// How long storage may take.
    pub(crate) settle: Duration,
    /// A bearer token.
    pub(crate) token: Option<Secret>,
    /// Whom the password is of.
    pub(crate) user: Option<String>,
    /// The user's password.
    pub(crate) password: Option<Secret>,
    /// What takes the place of `{key}` in the URL's path.
    pub(crate) key: Option<Secret>,
    /// PEM certificates to trust, beside the system's.
    pub(crate) ca: Option<Pem>,
}

impl Readback {
    /// What is shown to whoever reads.
    pub(crate) fn credentials(&self) -> Credentials {
        let text = |secret: &Secret| -> Arc<str> { secret.expose().into() };
        let Self { token, user, password, key, .. } = self;
        match (token, user, password, key) {
            (Some(token), ..) => Credentials::Bearer(text(token)),
            (_, Some(user), Some(password), _) => Credentials::Basic(user.as_str().into(), text(password)),
            (.., Some(key)) => Credentials::InPath(text(key)),
            _ => Credentials::None,
        }
    }

    /// The same for the collector.
    pub(crate) fn options(&self) -> aviary_collector::Readback {
        aviary_collector::Readback {
            reader: self.api.clone(),
            url: self.url.clone(),
            credentials: self.credentials(),
            ca: self.ca.as_ref().map(|pem| pem.text().as_bytes().to_vec()),
            settle_seconds: self.settle.as_secs(),
        }
    }
}

/// Reads `[service.readback]`.
pub(super) fn readback(reader: &mut Reader<'_>) -> Option<Readback> {
    let graphite = reader.optional(
        "graphite",
        "the root of graphite-web's or a compatible API; without it `prometheus`",
        scalar::http_url("https://graphite.example.com"),
    );
    let prometheus = reader.optional(
        "prometheus",
        "the root of Prometheus' or a compatible query API, in the place of `graphite`",
        scalar::http_url("https://prometheus.example.com"),
    );
    let about = "how long storage may take after a second is closed; 5s by default";
    let settle = reader.optional("settle", about, scalar::duration("5s")).unwrap_or(Duration::from_secs(5));
    let about = "how long the slots are that the service keeps, if it sums what is in them; 1s by default";
    let resolution = reader.optional("resolution", about, scalar::duration("30s"));
    let about = "what is appended to a name for the sum of a longer slot; :sum by default";
    let sum = reader.optional("sum", about, suffix());
    let token = reader.optional("token", "a bearer token of the API", secret::api_key());
    let user = reader.optional("user", "whom `password` is of", scalar::line("aviary"));
    let password = reader.optional("password", "the user's password", secret::api_key());
    let about = "what takes the place of {key} in the URL's path, where no log shows it";
    let key = reader.optional("key", about, secret::api_key());
    let ca = reader.optional("ca", "an authority to trust beside the system's", secret::authorities());

    refuse_half_a_reader(reader);
    if settle.subsec_nanos() != 0 || !(1..=SETTLE_SECONDS_MAX).contains(&settle.as_secs()) {
        let message = "storage settles in whole seconds";
        let help = format!("write from \"1s\" to \"{SETTLE_SECONDS_MAX}s\"");
        reader.refuse("settle", Refusal::new(message).help(help));
    }
    let resolution = resolution.unwrap_or(Duration::from_secs(1));
    if resolution.subsec_nanos() != 0 || !(1..=RESOLUTION_SECONDS_MAX).contains(&resolution.as_secs()) {
        let help = format!("write from \"1s\" to \"{RESOLUTION_SECONDS_MAX}s\"");
        reader.refuse("resolution", Refusal::new("slots are whole seconds long").help(help));
    }
    if reader.has("prometheus") {
        for key in ["resolution", "sum"] {
            if reader.has(key) {
                let message = format!("`{key}` is of no use to `prometheus`, which counts single seconds");
                reader.refuse(key, Refusal::new(message).help("take it out"));
            }
        }
    } else if reader.has("sum") && resolution.as_secs() == 1 {
        let help = "add such as resolution = \"30s\", or take `sum` out";
        reader.refuse("sum", Refusal::new("`sum` is for slots of more than a second").help(help));
    }
    let has_credentials = reader.has("token") || reader.has("password") || reader.has("key");
    for (name, url) in [("graphite", &graphite), ("prometheus", &prometheus)] {
        let Some(url) = url else { continue };
        if has_credentials && url.scheme() == "http" && !is_loopback(url) {
            let message = format!("the credentials for {} would cross the network in the clear", origin(url));
            let help = "write https://, with `ca` where the authority is your own";
            reader.refuse(name, Refusal::new(message).help(help));
        }
        if url.path().contains(KEY_PLACE) != reader.has("key") {
            let message = "`key` and {key} in the URL's path belong together";
            let help =
                "write such as \"https://graphite.example.com/{key}/graphite\" and key = { file = \"PATH\" }";
            reader.refuse(name, Refusal::new(message).help(help));
        }
    }
    let api = match &prometheus {
        Some(_) => Api::Prometheus,
        None => Api::Graphite {
            resolution_seconds: resolution.as_secs(),
            sum: sum.unwrap_or_else(|| ":sum".to_owned()),
        },
    };
    Some(Readback { api, url: graphite.or(prometheus)?, settle, token, user, password, key, ca })
}

fn refuse_half_a_reader(reader: &Reader<'_>) {
    match (reader.has("graphite"), reader.has("prometheus")) {
        (true, true) => {
            let message = "`graphite` and `prometheus` are both given";
            reader.refuse("prometheus", Refusal::new(message).help("keep one"));
        }
        (false, false) => {
            let help = "write graphite = \"https://graphite.example.com\", or prometheus = \"https://...\"";
            let message = "neither `graphite` nor `prometheus` says whom to ask";
            reader.refuse_whole(Refusal::new(message).help(help));
        }
        _ => {}
    }
    for (given, missing) in [("user", "password"), ("password", "user")] {
        if reader.has(given) && !reader.has(missing) {
            let message = format!("`{given}` is of no use without `{missing}`");
            reader.refuse(given, Refusal::new(message).help(format!("add `{missing}`, or take it out")));
        }
    }
    let ways = ["token", "password", "key"].into_iter().filter(|key| reader.has(key));
    if let Some(second) = ways.clone().nth(1) {
        let given: Vec<&str> = ways.collect();
        let message = format!("{} are both given", given.join(" and "));
        reader.refuse(second, Refusal::new(message).help("keep the one that the API asks for"));
    }
}

/// What a URL may be shown as where a key may stand in its path.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// What names a view of a metric: it is part of a target, and no expression.
fn suffix() -> impl Kind<Output = String> {
    text("a suffix", ":sum", |given| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":_.-".contains(&byte);
        if given.is_empty() || given.len() > 32 || !given.bytes().all(is_plain) {
            return Err(Refusal::new("it is no suffix of a name")
                .help("write 1 to 32 letters, digits, `:`, `.`, `_` and `-`, such as \":sum\""));
        }
        Ok(given.to_owned())
    })
}
