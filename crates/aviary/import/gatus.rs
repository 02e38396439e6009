//! Gatus: endpoints with their conditions, and whom it alerts.

use super::{
    draft::{Draft, Said, variable},
    yaml::{Node, document},
};

/// What the file `name` with this `text` asks for.
pub(super) fn translate(name: &str, text: &str) -> anyhow::Result<Draft> {
    let mut draft = Draft::default();
    document(name, text, |root| {
        for endpoint in root.get("endpoints").into_iter().flat_map(Node::items) {
            self::endpoint(name, endpoint, &mut draft);
        }
        for key in ["external-endpoints", "suites"] {
            if let Some(these) = root.get(key) {
                draft.lose((name, these.line()), key, "aviary has nothing like them");
            }
        }
        for (kind, provider) in root.get("alerting").into_iter().flat_map(Node::entries) {
            receiver(name, &kind.text().unwrap_or_default(), kind.line(), provider, &mut draft);
        }
    })?;
    Ok(draft)
}

fn endpoint(file: &str, endpoint: Node<'_>, draft: &mut Draft) {
    let name = endpoint.word("name").unwrap_or_default();
    let what = format!("endpoint {name}");
    let here = (file, endpoint.line());
    if endpoint.word("enabled").as_deref() == Some("false") {
        return draft.differ(here, &what, "it is not enabled, and was not taken over");
    }
    let Some(url) = endpoint.get("url") else { return draft.lose(here, &what, "it has no url") };
    let (line, text) = (url.line(), url.text().unwrap_or_default());
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    let why = match scheme {
        _ if endpoint.at(&["client"]).is_some_and(|client| client.is("insecure")) => {
            "it takes any certificate, and aviary always looks at them; say which authority with `ca`"
        }
        _ if endpoint.get("dns").is_some() => {
            "aviary looks names up to probe what is behind them, and probes no name servers"
        }
        "tcp" | "tls" | "udp" => "",
        "https" if endpoint.word("method").as_deref() == Some("POST") => "",
        "http" | "https" => {
            "it fetches a page, and aviary posts a datapoint over HTTPS to an API that takes them"
        }
        "icmp" => "aviary sends datapoints over TCP, UDP, TLS and HTTPS, and no echo requests",
        "starttls" => "it begins in the clear and turns to TLS, which aviary does not",
        _ => "aviary has no such protocol",
    };
    if !why.is_empty() {
        return draft.lose((file, line), &format!("{what}, {text}"), why);
    }
    let service = endpoint.word("group").unwrap_or(name);
    if let Err(why) = draft.probe(&service, &text) {
        return draft.lose((file, line), &format!("{what}, {text}"), &why);
    }
    let interval = endpoint.get("interval");
    let interval = interval.map(|it| (it.line(), it.text().unwrap_or_default()));
    let (line, every) = interval.unwrap_or_else(|| (endpoint.line(), "60s".to_owned()));
    draft.differ((file, line), &format!("every {every} of {what}"), "each endpoint is probed each second");
    for key in ["body", "headers"] {
        if let Some(it) = endpoint.get(key) {
            draft.lose(
                (file, it.line()),
                &format!("{key} of {what}"),
                "the body is a datapoint, and headers of your own are not sent",
            );
        }
    }
    for condition in endpoint.get("conditions").into_iter().flat_map(Node::items) {
        let said = condition.text().unwrap_or_default();
        let placeholder = said.split_whitespace().next().unwrap_or_default();
        let here = (file, condition.line());
        match placeholder {
            "[CONNECTED]" => {}
            "[STATUS]"
                if ["[STATUS] == 200", "[STATUS] < 300", "[STATUS] < 400"].contains(&said.as_str()) => {}
            "[CERTIFICATE_EXPIRATION]" => {
                draft.differ(
                    here,
                    &said,
                    "agents tell when certificates end, and Prometheus' rules in deploy/ warn 14 days ahead",
                );
            }
            "[RESPONSE_TIME]" => draft.differ(
                here,
                &said,
                "what takes more than a second is lost; for less say `latency_p99` of the service",
            ),
            "[STATUS]" => draft.lose(here, &said, "2xx is taken as delivered, and nothing else"),
            _ => draft.lose(here, &said, "what an answer says beside its status is not looked at"),
        }
    }
    for alert in endpoint.get("alerts").into_iter().flat_map(Node::items) {
        for key in ["failure-threshold", "success-threshold"] {
            if let Some(it) = alert.get(key) {
                let what = format!("{key} of {what}");
                draft.differ(
                    (file, it.line()),
                    &what,
                    "aviary pages by how unlikely the loss is, and ends it when it is over",
                );
            }
        }
    }
}

fn receiver(file: &str, kind: &str, line: usize, provider: Node<'_>, draft: &mut Draft) {
    let what = format!("alerting by {kind}");
    let secret = |key: &str, ours: &str| provider.word(key).map(|given| variable(&given, ours));
    if let Some(overrides) = provider.get("overrides") {
        draft.lose(
            (file, overrides.line()),
            &format!("overrides of {what}"),
            "say [[route]] with `match` for each group",
        );
    }
    let (kind, keys) = match kind {
        "pagerduty" => ("pagerduty", [("key", secret("integration-key", "PAGERDUTY_KEY"))]),
        "slack" => ("slack", [("key", secret("webhook-url", "SLACK_WEBHOOK_URL"))]),
        "opsgenie" => ("opsgenie", [("key", secret("api-key", "OPSGENIE_KEY"))]),
        "email" => return email(file, line, provider, draft),
        "custom" => {
            let why = "its request is a template of its own; kind = \"webhook\" posts signed JSON, and takes a `template`";
            return draft.lose((file, line), &what, why);
        }
        _ => {
            return draft.lose(
                (file, line),
                &what,
                "aviary has no such receiver; kind = \"webhook\" or \"command\" may reach it",
            );
        }
    };
    let keys: Vec<_> = keys.into_iter().filter_map(|(key, said)| Some((key, said?))).collect();
    match keys.is_empty() {
        true => draft.lose((file, line), &what, "it has no key of its own"),
        false => draft.tell(kind, keys),
    }
}

fn email(file: &str, line: usize, provider: Node<'_>, draft: &mut Draft) {
    let word = |key: &str| provider.word(key);
    let (Some(server), Some(from), Some(to)) = (word("host"), word("from"), word("to")) else {
        return draft.lose((file, line), "alerting by email", "it lacks `host`, `from` or `to`");
    };
    let to = to.split(',').map(|one| one.trim().to_owned()).collect();
    let mut keys = vec![("server", Said::Text(server)), ("from", Said::Text(from)), ("to", Said::List(to))];
    if let Some(port) = word("port").and_then(|port| port.parse().ok()) {
        keys.push(("port", Said::Number(port)));
    }
    if let (Some(user), Some(password)) = (word("username"), word("password")) {
        keys.push(("user", Said::Text(user)));
        keys.push(("password", variable(&password, "SMTP_PASSWORD")));
    }
    draft.tell("email", keys);
}
