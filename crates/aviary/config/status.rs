//! `[collector.status]`, the public status page, and what customers know a service as: `status` of a `[[service]]`.

use std::net::SocketAddr;

use aviary_collector::{Publish, ServiceStatus, StatusPage};

use super::{context::Refusal, kind::choice, reader::Reader, scalar};

/// What is published by itself has been there for so many seconds, unless told otherwise.
const PUBLISH_AFTER_SECONDS: u64 = 60;

/// And at most so many: who wants to wait longer wants a person to decide.
const PUBLISH_AFTER_SECONDS_MAX: u64 = 3_600;

/// The public status page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// Where it is served; absent: it is only written.
    pub(crate) listen: Option<SocketAddr>,
    /// What it says of itself, and where it is written.
    pub(crate) page: StatusPage,
}

/// Reads `[collector.status]`.
pub(super) fn status(reader: &mut Reader<'_>) -> Option<Status> {
    let title = reader.required("title", "what stands above it", scalar::line("Example status"));
    let listen = "where it is served, to everybody; absent: it is only written";
    let listen = reader.optional("listen", listen, scalar::listener("0.0.0.0:8612"));
    let directory =
        "where it is written as files at each change, to be hosted elsewhere; absent: it is only served";
    let directory = reader.optional("directory", directory, scalar::place("/var/lib/aviary/status"));
    let url = scalar::http_url("https://status.example.com");
    let url =
        reader.optional("url", "under which customers find it, for links in the feed and the JSON", url);
    let contact = "whom customers turn to, in a line";
    let contact = reader.optional("contact", contact, scalar::line("support@example.com"));
    if !reader.has("listen") && !reader.has("directory") {
        let help = "write listen = \"0.0.0.0:8612\", directory = \"/var/lib/aviary/status\", or both";
        reader.refuse_whole(Refusal::new("the status page is neither served nor written").help(help));
    }
    let url = url.map(|url| url.as_str().trim_end_matches('/').to_owned());
    Some(Status { listen, page: StatusPage { title: title?, url, contact, directory } })
}

/// Who lets customers know, as the file has it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Draft,
    Automatic,
    Hidden,
}

/// Reads `status` of a `[[service]]`.
pub(super) fn of_service(reader: &mut Reader<'_>) -> Option<ServiceStatus> {
    let name =
        reader.optional("name", "what customers call it; its own name by default", scalar::line("Ingest"));
    let description = "what it is, in a line for customers";
    let description = reader.optional("description", description, scalar::line("Takes your metrics."));
    let group = reader.optional("group", "under which heading it stands", scalar::line("Metrics"));
    let about = "who publishes its incidents: a person, from a draft, which is the default; automatic; or hidden, where customers do not know of it";
    let who = [("draft", Who::Draft), ("automatic", Who::Automatic), ("hidden", Who::Hidden)];
    let who = reader.optional("publish", about, choice(who)).unwrap_or(Who::Draft);
    let about = "how long an incident was there when it is published by itself; 60s by default";
    let after = reader.optional("publish_after", about, scalar::seconds("60s"));
    if reader.has("publish_after") && who != Who::Automatic {
        let refusal = Refusal::new("`publish_after` is of no use where nothing is published by itself");
        reader.refuse("publish_after", refusal.help("add publish = \"automatic\", or take it out"));
    }
    if after.is_some_and(|after| after > PUBLISH_AFTER_SECONDS_MAX) {
        let refusal = Refusal::new("customers would read of it more than an hour late");
        reader.refuse("publish_after", refusal.help("write at most \"1h\", or publish = \"draft\""));
    }
    let publish = match who {
        Who::Draft => Publish::Draft,
        Who::Hidden => Publish::Hidden,
        Who::Automatic => Publish::Automatic { after_seconds: after.unwrap_or(PUBLISH_AFTER_SECONDS) },
    };
    Some(ServiceStatus { name, description, group, publish })
}
