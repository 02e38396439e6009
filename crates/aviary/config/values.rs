//! Every key with the value that it has in effect, given or by default: what two configurations are compared by.

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use aviary_collector::{
    Publish, Reader as Api, SecretHash, ServiceStatus, StatusPage, Steering, Subject, TestPages,
};
use aviary_core::rotation::Rules;
use aviary_notify::{OutletKind, Request, Webhook};
use aviary_probe::Family;

use super::{
    Config,
    access::{self, Client, Proxy},
    agent::Agent,
    collector::Collector,
    debugging::{Debugging, Statsd},
    discovery::{Discovery, Source},
    log::Log,
    readback::Readback,
    rotation::{Outlet, Rotation},
    secret::{Pem, Secret},
    service::Service,
    sink::Sink,
    status::Status,
    steer::{Consul, Told},
    vantage::{Tag, Vantage},
};
use crate::telemetry::LogFormat;

mod alerting;

/// The value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    /// The value as it may be shown.
    pub(super) shown: String,
    hidden: Option<Hidden>,
}

/// What a value is compared by and nobody may see.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hidden {
    Text(Secret),
    Shared(aviary_notify::Secret),
    Hash(SecretHash),
}

/// The keys that have a value, such as `agent.spool.size` and `service.ingest.family`. What a service probes is no such
/// key: its series are compared one by one.
pub(super) fn values(config: &Config) -> BTreeMap<String, Value> {
    let mut keys = Keys::default();
    if let Some(vantage) = &config.vantage {
        keys.vantage(vantage);
    }
    if let Some(agent) = &config.agent {
        keys.agent(agent);
    }
    if let Some(collector) = &config.collector {
        keys.collector(collector);
    }
    if let Some(sink) = &config.sink {
        keys.sink(sink);
    }
    keys.log(&config.log);
    for service in &config.services {
        keys.service(service);
    }
    for receiver in &config.receivers {
        keys.receiver(receiver);
    }
    for (index, route) in config.routes.iter().enumerate() {
        keys.route(index + 1, route);
    }
    for silence in &config.silences {
        keys.silence(silence);
    }
    keys.found
}

#[derive(Default)]
struct Keys {
    section: String,
    found: BTreeMap<String, Value>,
}

impl Keys {
    fn add(&mut self, key: &str, value: impl Display) {
        let value = Value { shown: value.to_string(), hidden: None };
        self.found.insert(format!("{}.{key}", self.section), value);
    }

    fn maybe(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.add(key, value);
        }
    }

    fn all(&mut self, key: &str, values: impl IntoIterator<Item = impl Display>) {
        let shown: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
        if !shown.is_empty() {
            self.add(key, shown.join(", "));
        }
    }

    fn secret(&mut self, key: &str, secret: Option<&Secret>) {
        let value =
            secret.map(|secret| Value { shown: String::new(), hidden: Some(Hidden::Text(secret.clone())) });
        self.found.extend(value.map(|value| (format!("{}.{key}", self.section), value)));
    }

    fn shared(&mut self, key: &str, secret: Option<&aviary_notify::Secret>) {
        let value =
            secret.map(|secret| Value { shown: String::new(), hidden: Some(Hidden::Shared(secret.clone())) });
        self.found.extend(value.map(|value| (format!("{}.{key}", self.section), value)));
    }

    fn hash(&mut self, key: &str, hash: &SecretHash) {
        let value = Value { shown: String::new(), hidden: Some(Hidden::Hash(*hash)) };
        self.found.insert(format!("{}.{key}", self.section), value);
    }

    /// Of a certificate the place is shown; where it is the same, its text may still have changed.
    fn pem(&mut self, key: &str, pem: Option<&Pem>) {
        let shown = |pem: &Pem| pem.path.as_ref().map_or_else(String::new, |path| path.display().to_string());
        let value =
            pem.map(|pem| Value { shown: shown(pem), hidden: Some(Hidden::Text(pem.secret().clone())) });
        self.found.extend(value.map(|value| (format!("{}.{key}", self.section), value)));
    }

    fn vantage(&mut self, vantage: &Vantage) {
        let Vantage { kind, region, zone, network, node } = vantage;
        "vantage".clone_into(&mut self.section);
        self.add("kind", kind);
        self.add("region", region.text());
        self.maybe("zone", zone.as_ref().map(Tag::text));
        self.maybe("network", network.as_ref().map(Tag::text));
        self.add("node", node);
    }

    fn agent(&mut self, agent: &Agent) {
        let Agent {
            collectors,
            token,
            ca,
            identity,
            data,
            spool,
            listen,
            debugging,
            statsd,
            controls,
            name_servers,
            source,
            services_from_collector,
            fallback,
            fallback_after,
            read_token,
            probe_auth,
            steering,
        } = agent;
        "agent".clone_into(&mut self.section);
        self.all("collector", collectors);
        self.secret("token", token.as_ref());
        self.pem("ca", ca.as_ref());
        self.pem("certificate", identity.as_ref().map(|identity| &identity.certificate));
        self.pem("key", identity.as_ref().map(|identity| &identity.key));
        self.maybe("data", data.as_ref().map(|path| path.display()));
        self.add("spool.size", bytesize::ByteSize(spool.bytes).display().iec());
        self.add("spool.age", duration(spool.age));
        self.maybe("listen", *listen);
        self.debugging(debugging);
        self.statsd(statsd);
        self.all("controls", controls);
        self.all("name_servers", name_servers);
        self.maybe("source", source.as_ref());
        self.maybe("services.from", services_from_collector.then_some("collector"));
        self.maybe("fallback", fallback.as_ref());
        self.add("fallback_after", duration(Duration::from_secs(*fallback_after)));
        if let Some(token) = read_token {
            self.hash("read_token", token);
        }
        self.add("probe_auth", probe_auth);
        self.steering(steering);
    }

    fn steering(&mut self, steering: &Told) {
        let Told { agent_check, file, command, consul } = steering;
        self.maybe("agent_check", *agent_check);
        self.maybe("rotation.file", file.as_ref());
        self.all("rotation.command", command);
        if let Some(Consul { url, token, ca, check, instance, every, ttl }) = consul {
            self.add("consul.url", url);
            self.secret("consul.token", token.as_ref());
            self.pem("consul.ca", ca.as_ref());
            self.add("consul.check", check);
            self.add("consul.instance", instance);
            self.add("consul.every", duration(*every));
            self.add("consul.ttl", duration(*ttl));
        }
    }

    fn debugging(&mut self, debugging: &Debugging) {
        let Debugging { listen, profiling } = debugging;
        self.maybe("debug_listen", *listen);
        self.add("profiling", profiling);
    }

    fn statsd(&mut self, statsd: &Statsd) {
        let Statsd { address, tags } = statsd;
        self.maybe("statsd", address.as_ref());
        self.add("statsd_tags", tags);
    }

    fn collector(&mut self, collector: &Collector) {
        "collector".clone_into(&mut self.section);
        self.add("name", &collector.name);
        self.add("listen", collector.listen);
        self.debugging(&collector.debugging);
        self.statsd(&collector.statsd);
        self.maybe("url", collector.url.as_ref());
        self.add("open", collector.open);
        self.add("retain", format!("{}s", collector.retain.as_secs()));
        self.add("rollout.timeout", format!("{}s", collector.rollout_timeout.as_secs()));
        self.maybe("data", collector.data.as_ref().map(|path| path.display()));
        self.add("shadow", collector.shadow);
        self.maybe("quiet_hours", collector.quiet_hours.as_ref());
        if let Some(TestPages { hours, notify }) = &collector.test_pages {
            self.add("test_pages.hours", hours);
            self.all("test_pages.notify", notify);
        }
        if let Some(watchdog) = &collector.watchdog {
            self.watchdog(watchdog);
        }
        self.add("probe_auth", collector.probe_auth);
        if let Some(Proxy { from, user, groups, scope, group }) = &collector.proxy {
            self.all("proxy.from", from);
            self.add("proxy.user", user);
            self.maybe("proxy.groups", groups.as_ref());
            self.all("proxy.scope", scope.iter().map(|scope| scope.name()));
            for (name, scope) in group {
                self.all(&format!("proxy.group.{name}"), scope.iter().map(|scope| scope.name()));
            }
        }
        for Client { name, subjects, scope, region, node } in &collector.clients {
            self.section = format!("collector.client.{name}");
            for key in access::SUBJECTS {
                self.all(key, subjects.iter().filter(|it| access::key_of(it) == key).map(Subject::text));
            }
            self.all("scope", scope.iter().map(|scope| scope.name()));
            self.maybe("region", region.as_ref());
            self.maybe("node", node.as_ref());
        }
        if let Some(Status { listen, page: StatusPage { title, url, contact, directory } }) =
            &collector.status
        {
            self.add("status.title", title);
            self.maybe("status.listen", *listen);
            self.maybe("status.directory", directory.as_ref().map(|path| path.display()));
            self.maybe("status.url", url.as_ref());
            self.maybe("status.contact", contact.as_ref());
        }
        if let Some(Rotation { agent_check, stop_file, per_hour, outlets }) = &collector.rotation {
            self.maybe("rotation.agent_check", *agent_check);
            self.maybe("rotation.stop_file", stop_file.as_ref().map(|path| path.display()));
            self.add("rotation.per_hour", per_hour);
            outlets.iter().for_each(|outlet| self.outlet(outlet));
        }
        for token in &collector.tokens {
            self.section = format!("collector.token.{}", token.name);
            self.hash("secret", &token.secret);
            self.all("scope", token.scope.iter().map(|scope| scope.name()));
            self.maybe("region", token.region.as_ref());
            self.maybe("node", token.node.as_ref());
            self.add("reports_per_second", token.limits.reports);
            self.add("slots_per_second", token.limits.slots);
            self.add("report_size", bytesize::ByteSize(token.limits.bytes as u64).display().iec());
            self.add("series", token.limits.series);
        }
        if let Some(tls) = &collector.tls {
            "collector".clone_into(&mut self.section);
            self.pem("certificate", Some(&tls.certificate));
            self.pem("key", Some(&tls.key));
            self.pem("client_ca", tls.client_ca.as_ref());
        }
    }

    fn sink(&mut self, sink: &Sink) {
        "sink".clone_into(&mut self.section);
        for (key, address) in sink.listeners() {
            self.add(key, address);
        }
        self.secret("certificate", sink.certificate.as_ref());
    }

    fn log(&mut self, log: &Log) {
        let Log { level, format, file, summary } = log;
        "log".clone_into(&mut self.section);
        self.add("level", level);
        self.add("format", if *format == LogFormat::Json { "json" } else { "text" });
        self.maybe("file", file.as_ref().map(|path| path.display()));
        self.maybe("summary", summary.map(duration));
    }

    fn service(&mut self, service: &Service) {
        let Service {
            name,
            prefix,
            policy,
            nodes,
            endpoints,
            discoveries,
            elsewhere: _,
            counts_as_delivered,
            ca,
            api_key,
            family,
            source,
            owner,
            runbook,
            readback,
            alerting,
            status,
            rotation,
        } = service;
        self.section = format!("service.{name}");
        self.add("prefix", prefix);
        self.add("acceptable_loss", policy.acceptable_loss);
        for (protocol, loss) in &policy.by_protocol {
            self.add(&format!("acceptable_loss.{protocol}"), loss);
        }
        for (endpoint, loss) in &policy.by_endpoint {
            self.add(&format!("endpoints.{endpoint}.acceptable_loss"), loss);
        }
        self.all("nodes", nodes);
        for endpoint in endpoints {
            let key = format!("endpoints.{}", endpoint.endpoint);
            self.add(&format!("{key}.required"), endpoint.required);
            self.add(&format!("{key}.addresses"), endpoint.addresses.name());
            self.all(&format!("{key}.kinds"), endpoint.kinds.names());
        }
        for discovery in discoveries {
            self.discovery(discovery);
        }
        self.add("min_vantages", policy.min_vantages);
        self.maybe("counts_as_delivered", *counts_as_delivered);
        self.pem("ca", ca.as_ref());
        self.secret("api_key", api_key.as_ref());
        let family = match family {
            Family::Any => "any",
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        };
        self.add("family", family);
        self.maybe("source", source.as_ref());
        self.maybe("owner", owner.as_ref());
        self.maybe("runbook", runbook.as_ref());
        self.alerting(alerting);
        self.status(status);
        if let Some(rotation) = rotation {
            self.rotation(rotation);
        }
        if let Some(readback) = readback {
            self.readback(name, readback);
        }
    }

    fn discovery(&mut self, discovery: &Discovery) {
        let Discovery { source, grace, at_most, addresses, kinds, .. } = discovery;
        let key = |key: &str| format!("found.{}.{key}", discovery.name());
        self.add(&key("grace"), duration(*grace));
        self.add(&key("at_most"), at_most);
        self.add(&key("addresses"), addresses.name());
        self.all(&key("kinds"), kinds.names());
        if let Source::Http(http) = source {
            self.add(&key("every"), duration(http.every));
            self.secret(&key("token"), http.token.as_ref());
            self.pem(&key("ca"), http.ca.as_ref());
        }
    }

    fn status(&mut self, status: &ServiceStatus) {
        let ServiceStatus { name, description, group, publish } = status;
        self.maybe("status.name", name.as_ref());
        self.maybe("status.description", description.as_ref());
        self.maybe("status.group", group.as_ref());
        match publish {
            Publish::Draft => self.add("status.publish", "draft"),
            Publish::Hidden => self.add("status.publish", "hidden"),
            Publish::Automatic { after_seconds } => {
                self.add("status.publish", "automatic");
                self.add("status.publish_after", duration(Duration::from_secs(*after_seconds)));
            }
        }
    }

    fn outlet(&mut self, Outlet { kind, ca }: &Outlet) {
        let section = format!("rotation.{}", kind.name());
        let key = |name: &str| format!("{section}.{name}");
        match kind {
            OutletKind::Webhook(Webhook { url, secret, allow_private }) => {
                self.add(&key("url"), url);
                self.shared(&key("secret"), Some(secret));
                self.add(&key("allow_private"), allow_private);
            }
            OutletKind::Request(Request { method, url, headers, body, statuses, allow_private }) => {
                self.add(&key("method"), method);
                self.add(&key("url"), url);
                for (name, value) in headers {
                    self.shared(&key(&format!("headers.{name}")), Some(value));
                }
                self.maybe(&key("body"), body.as_ref());
                self.all(&key("statuses"), statuses);
                self.add(&key("allow_private"), allow_private);
            }
        }
        self.pem(&key("ca"), ca.as_ref());
    }

    fn rotation(&mut self, rotation: &Steering) {
        let Steering { mode, rules, nodes, named } = rotation;
        let Rules { window, loss, max_out, min_in, min_vantages, every, readmit_after } = rules;
        let seconds = |seconds: u64| duration(Duration::from_secs(seconds));
        let share = |share: f64| format!("{}%", (share * 1e6).round() / 1e4);
        self.add("rotation.mode", mode);
        for (node, zone) in nodes {
            self.add(&format!("rotation.nodes.{node}"), zone.as_deref().unwrap_or_default());
        }
        for (endpoint, node) in named {
            self.add(&format!("endpoints.{endpoint}.node"), node);
        }
        self.add("rotation.window", seconds(*window));
        self.add("rotation.loss", share(*loss));
        self.add("rotation.max_out", share(*max_out));
        self.add("rotation.min_in", share(*min_in));
        self.add("rotation.min_vantages", min_vantages);
        self.add("rotation.every", seconds(*every));
        self.add("rotation.readmit_after", seconds(*readmit_after));
    }

    fn readback(&mut self, service: &str, readback: &Readback) {
        let Readback { api, url, settle, token, user, password, key, ca } = readback;
        self.section = format!("service.{service}.readback");
        match api {
            Api::Graphite { resolution_seconds, sum } => {
                self.add("graphite", url);
                self.add("resolution", duration(Duration::from_secs(*resolution_seconds)));
                self.add("sum", sum);
            }
            Api::Prometheus => self.add("prometheus", url),
        }
        self.add("settle", duration(*settle));
        self.secret("token", token.as_ref());
        self.maybe("user", user.as_ref());
        self.secret("password", password.as_ref());
        self.secret("key", key.as_ref());
        self.pem("ca", ca.as_ref());
    }
}

/// A duration as a file has it, in the largest unit that it is a whole number of.
fn duration(duration: Duration) -> String {
    const UNITS: [(u128, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let millis = duration.as_millis();
    let unit = UNITS.iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit));
    match unit {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None if millis == 0 => "0s".to_owned(),
        None => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_as_a_file_has_it() {
        let table = [
            (0, "0s"),
            (1, "1ms"),
            (1_500, "1500ms"),
            (90_000, "90s"),
            (3_600_000, "1h"),
            (604_800_000, "7d"),
        ];
        for (millis, expected) in table {
            assert_eq!(duration(Duration::from_millis(millis)), expected);
        }
    }
}
