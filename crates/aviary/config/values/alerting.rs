//! The keys that say whom to tell of what.

use std::time::Duration;

use aviary_collector::{Alerting, Burst};
use aviary_core::{
    fnv::fnv1a,
    page::{Choice, Escalation, Route},
    silence::{Matches, Silence, When},
};
use aviary_notify::{Alertmanager, Kind, Security, Settings, WatchdogKind};

use super::{
    super::{receiver::Receiver, watchdog::Watchdog},
    Keys, duration,
};

impl Keys {
    /// Of the service whose section this is.
    pub(super) fn alerting(&mut self, alerting: &Alerting) {
        let Alerting {
            page_after,
            down,
            degraded,
            blind,
            burst,
            start_up_grace,
            latency_p99,
            certificate_days,
            quiet_hours,
            shadow,
        } = alerting;
        self.add("severity.down", down);
        self.add("severity.degraded", degraded);
        self.add("severity.blind", blind);
        self.add("page_after", seconds(*page_after));
        match burst {
            Burst::Learnt => self.add("burst", "learnt"),
            Burst::Fixed(dispersion) => self.add("burst", dispersion),
        }
        self.add("start_up_grace", seconds(*start_up_grace));
        for (phase, micros) in latency_p99 {
            self.add(&format!("latency_p99.{phase}"), duration(Duration::from_micros(*micros)));
        }
        let days = certificate_days.map_or_else(Vec::new, |(warning, error)| vec![warning, error]);
        self.all("certificate_days", &days);
        self.maybe("quiet_hours", quiet_hours.as_ref());
        self.add("shadow", shadow);
    }

    pub(super) fn watchdog(&mut self, watchdog: &Watchdog) {
        let Watchdog { kind, interval, ca } = watchdog;
        match kind {
            WatchdogKind::Alertmanager(Alertmanager { urls, key }) => {
                self.all("watchdog.alertmanager", urls);
                self.shared("watchdog.key", key.as_ref());
            }
            WatchdogKind::Ping(url) => self.shared("watchdog.ping", Some(url)),
        }
        self.add("watchdog.interval", duration(*interval));
        self.pem("watchdog.ca", ca.as_ref());
    }

    pub(super) fn receiver(&mut self, receiver: &Receiver) {
        let Receiver { settings: Settings { name, kind, template }, ca, webhook_secret } = receiver;
        self.section = format!("receiver.{name}");
        self.add("kind", kind.name());
        self.pem("ca", ca.as_ref());
        self.secret("webhook_secret", webhook_secret.as_ref());
        self.maybe("template", template.as_ref().map(|text| format!("{:016x}", fnv1a(text.bytes()))));
        match kind {
            Kind::Alertmanager(it) => {
                self.all("url", &it.urls);
                self.shared("key", it.key.as_ref());
            }
            Kind::Command(it) => self.add("command", it.argv.join(" ")),
            Kind::Email(it) => {
                self.add("server", &it.server);
                self.add("port", it.port.unwrap_or_else(|| it.security.port()));
                let security = match it.security {
                    Security::None => "none",
                    Security::StartTls => "starttls",
                    Security::Tls => "tls",
                };
                self.add("security", security);
                self.maybe("user", it.login.as_ref().map(|(user, _)| user));
                self.shared("password", it.login.as_ref().map(|(_, password)| password));
                self.add("from", &it.from);
                self.all("to", &it.to);
            }
            Kind::Opsgenie(it) => {
                self.add("url", &it.url);
                self.shared("key", Some(&it.key));
            }
            Kind::PagerDuty(it) => {
                self.add("url", &it.url);
                self.shared("key", Some(&it.key));
            }
            Kind::Slack(it) => self.shared("key", Some(&it.url)),
            Kind::VictorOps(it) => {
                self.add("url", &it.url);
                self.shared("key", Some(&it.key));
                self.add("routing_key", &it.routing_key);
            }
            Kind::Webhook(it) => {
                self.add("url", &it.url);
                self.shared("secret", Some(&it.secret));
                self.add("allow_private", it.allow_private);
            }
        }
    }

    /// Routes have no names: the first that matches wins, so each is known by its number.
    pub(super) fn route(&mut self, number: usize, route: &Route) {
        let Route { choice: Choice { severity, tags }, notify, escalate } = route;
        self.section = format!("route.{number}");
        self.all("match.severity", severity);
        self.matches(tags);
        self.all("notify", notify);
        let step = |Escalation { after, notify }: &Escalation| {
            format!("{} after {}", notify.join(" and "), seconds(*after))
        };
        self.all("escalate", escalate.iter().map(step));
    }

    pub(super) fn silence(&mut self, silence: &Silence) {
        let Silence { id, matches, when, author, reason, announce } = silence;
        self.section = format!("silence.{id}");
        self.matches(matches);
        let span = when.span();
        self.add("from", span.from);
        self.add("until", span.until);
        if let When::Recurring(hours, _) = when {
            self.add("hours", hours);
        }
        self.add("author", author);
        self.add("reason", reason);
        self.maybe("announce", announce.as_ref());
    }

    fn matches(&mut self, Matches(tags): &Matches) {
        for (tag, values) in tags {
            self.all(&format!("match.{tag}"), values);
        }
    }
}

fn seconds(seconds: u64) -> String {
    duration(Duration::from_secs(seconds))
}
