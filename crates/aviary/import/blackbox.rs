//! The blackbox exporter of Prometheus: what is asked is in its modules, and of whom in the scrape jobs of Prometheus.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    draft::Draft,
    yaml::{Node, document},
};

/// What becomes of a module's targets.
struct Module {
    /// The scheme of our endpoints, or why there are none, and of what line.
    scheme: Result<&'static str, (usize, String)>,
    ca: Option<String>,
    family: Option<&'static str>,
    line: usize,
}

/// What `modules` ask of the targets in `scrape`; each is the name of a file and its text.
pub(super) fn translate((file, text): (&str, &str), scrape: Option<(&str, &str)>) -> anyhow::Result<Draft> {
    let mut draft = Draft::default();
    let modules = document(file, text, |root| {
        let modules = root.get("modules").into_iter().flat_map(Node::entries);
        let modules =
            modules.filter_map(|(name, it)| Some((name.text()?, module(file, name.line(), it, &mut draft))));
        modules.collect::<BTreeMap<String, Module>>()
    })?;
    let mut used = BTreeSet::new();
    if let Some((scrape, text)) = scrape {
        document(scrape, text, |root| {
            for job in root.get("scrape_configs").into_iter().flat_map(Node::items) {
                self::job(scrape, job, (file, &modules), &mut used, &mut draft);
            }
        })?;
    }
    let why = match scrape {
        Some(_) => "no job with targets of its own scrapes it",
        None => "which targets it is asked of stands in Prometheus' file; name it with --scrape",
    };
    for (name, module) in modules.iter().filter(|(name, _)| !used.contains(*name)) {
        match &module.scheme {
            Ok(_) => draft.lose((file, module.line), &format!("module {name}"), why),
            Err((line, why)) => draft.lose((file, *line), &format!("module {name}"), why),
        }
    }
    Ok(draft)
}

fn module(file: &str, line: usize, module: Node<'_>, draft: &mut Draft) -> Module {
    let prober = module.word("prober").unwrap_or_default();
    let settings = module.get(&prober);
    let setting = |keys: &[&str]| settings.and_then(|settings| settings.at(keys));
    let has = |key: &str| setting(&[key]).map(|node| node.line());
    let insecure = setting(&["tls_config"]).filter(|tls| tls.is("insecure_skip_verify"));
    let cannot = |line: usize, why: &str| Err((line, why.to_owned()));
    let scheme = match prober.as_str() {
        _ if insecure.is_some() => cannot(
            insecure.map_or(line, Node::line),
            "it takes any certificate, and aviary always looks at them; say which authority with `ca`",
        ),
        "tcp" => match (has("query_response"), has("starttls")) {
            (Some(line), _) => cannot(line, "it talks by turns, and aviary hands over one datapoint"),
            (_, Some(line)) => cannot(line, "it begins in the clear and turns to TLS, which aviary does not"),
            _ if settings.is_some_and(|settings| settings.is("tls")) => Ok("tls"),
            _ => Ok("tcp"),
        },
        "http" => match setting(&["method"]).and_then(Node::text).as_deref() {
            Some("POST") => Ok("https"),
            _ => cannot(line, "it fetches a page, and aviary posts a datapoint to an API that takes them"),
        },
        "icmp" => cannot(line, "aviary sends datapoints over TCP, UDP, TLS and HTTPS, and no echo requests"),
        "dns" => {
            cannot(line, "aviary looks names up to probe what is behind them, and probes no name servers")
        }
        "" => cannot(line, "it names no prober"),
        other => cannot(line, &format!("aviary has nothing like the prober `{other}`")),
    };
    if scheme.is_ok() {
        for (key, why) in [
            ("fail_if_body_matches_regexp", "what an answer says beside its status is not looked at"),
            ("fail_if_body_not_matches_regexp", "what an answer says beside its status is not looked at"),
            ("fail_if_header_matches", "what an answer says beside its status is not looked at"),
            ("fail_if_header_not_matches", "what an answer says beside its status is not looked at"),
            ("valid_status_codes", "2xx is taken as delivered, and nothing else"),
            (
                "basic_auth",
                "`api_key` of the service is the user of an HTTPS API; other credentials are not sent",
            ),
            ("body", "the body is a datapoint"),
            ("headers", "headers of your own are not sent"),
        ] {
            if let Some(line) = has(key) {
                draft.lose((file, line), key, why);
            }
        }
        if let Some(timeout) = module.get("timeout") {
            let said = timeout.text().unwrap_or_default();
            draft.differ((file, timeout.line()), &format!("timeout {said}"), "each attempt has one second");
        }
    }
    let family = match (
        setting(&["preferred_ip_protocol"]).and_then(Node::text).as_deref(),
        has("ip_protocol_fallback"),
    ) {
        (Some("ip4"), Some(_)) => Some("ipv4"),
        (Some("ip6"), Some(_)) => Some("ipv6"),
        _ => None,
    };
    let ca = setting(&["tls_config", "ca_file"]).and_then(Node::text);
    Module { scheme, ca, family, line }
}

/// Takes up the targets of one scrape job.
fn job(
    scrape: &str,
    job: Node<'_>,
    (file, modules): (&str, &BTreeMap<String, Module>),
    used: &mut BTreeSet<String>,
    draft: &mut Draft,
) {
    let name = job.word("job_name").unwrap_or_default();
    let what = format!("job {name}");
    let asked = job.at(&["params", "module"]).and_then(|module| module.items().next()).and_then(Node::text);
    let Some(asked) = asked else {
        if job.word("metrics_path").as_deref() == Some("/probe") {
            draft.lose((scrape, job.line()), &what, "it does not name its module in `params`");
        }
        // Another exporter's.
        return;
    };
    used.insert(asked.clone());
    let Some(module) = modules.get(&asked) else {
        let why = format!("{file} has no module `{asked}`");
        return draft.lose((scrape, job.line()), &what, &why);
    };
    let scheme = match &module.scheme {
        Ok(scheme) => *scheme,
        Err((line, why)) => return draft.lose((file, *line), &format!("module {asked}, for {what}"), why),
    };
    for (key, value) in job.entries() {
        let key = key.text().unwrap_or_default();
        if key.ends_with("_sd_configs") {
            draft.lose(
                (scrape, value.line()),
                &format!("{key} of {what}"),
                "its targets are not in the file",
            );
        }
    }
    if let Some(interval) = job.get("scrape_interval") {
        let said = interval.text().unwrap_or_default();
        draft.differ(
            (scrape, interval.line()),
            &format!("every {said} of {what}"),
            "each endpoint is probed each second",
        );
    }
    for target in job
        .get("static_configs")
        .into_iter()
        .flat_map(Node::items)
        .filter_map(|it| it.get("targets"))
        .flat_map(Node::items)
    {
        let given = target.text().unwrap_or_default();
        let url = match (scheme, given.split_once("://")) {
            ("https", Some(("https", _))) => given.clone(),
            (_, Some(_)) => {
                draft.lose(
                    (scrape, target.line()),
                    &given,
                    "its scheme is not that of its module as aviary has it",
                );
                continue;
            }
            (scheme, None) => format!("{scheme}://{given}"),
        };
        match draft.probe(&name, &url) {
            Ok(service) => {
                service.ca = service.ca.take().or_else(|| module.ca.clone());
                service.family = service.family.or(module.family);
            }
            Err(why) => draft.lose((scrape, target.line()), &given, &why),
        }
    }
}
