//! `[[receiver]]` and `[[route]]`: whom to page. This version reads them, and pages nobody.

use super::{
    kind::{Boolean, choice, some, table},
    reader::Reader,
    scalar, secret,
};

const KINDS: [&str; 8] =
    ["pagerduty", "alertmanager", "opsgenie", "victorops", "slack", "webhook", "email", "command"];
const SEVERITIES: [&str; 4] = ["critical", "error", "warning", "info"];

/// Reads one `[[receiver]]`.
pub(super) fn receiver(reader: &mut Reader<'_>) -> Option<()> {
    reader.required("name", "what routes call it", scalar::name("oncall"));
    reader.required("kind", "what it is", choice(KINDS.map(|kind| (kind, ()))));
    reader.optional("key", "what it knows us by", secret::reference());
    let url = scalar::http_url("https://events.pagerduty.com/v2/enqueue");
    reader.optional("url", "where it is; the kind's own by default", url);
    reader.optional("secret", "what webhooks are signed with", secret::reference());
    reader.optional("allow_private", "whether its address may be private or loopback", Boolean);
    Some(())
}

/// Reads one `[[route]]`.
pub(super) fn route(reader: &mut Reader<'_>) -> Option<()> {
    reader.optional(
        "match",
        "which incidents; all by default",
        table("{ severity = [\"critical\"] }", matches),
    );
    reader.required("notify", "the receivers, all at once", some(scalar::name("oncall")));
    let step = table("{ after = \"5m\", notify = [\"oncall\"] }", escalation);
    reader.optional("escalate", "whom else when nobody has acknowledged", some(step));
    Some(())
}

fn matches(reader: &mut Reader<'_>) -> Option<()> {
    reader.optional("severity", "any of these", some(choice(SEVERITIES.map(|severity| (severity, ())))));
    reader.optional("service", "any of these", some(scalar::name("ingest")));
    Some(())
}

fn escalation(reader: &mut Reader<'_>) -> Option<()> {
    reader.required("after", "how long after the page", scalar::duration("5m"));
    reader.required("notify", "the receivers, all at once", some(scalar::name("oncall")));
    Some(())
}
