use super::{draft::Draft, *};

/// What is written as TOML, and the list of the rest.
fn shown(draft: &Draft) -> (toml::Table, String) {
    let mut list = Vec::new();
    draft.list(&mut list).unwrap();
    (draft.configuration().parse().unwrap(), String::from_utf8(list).unwrap())
}

fn endpoints(configuration: &toml::Table) -> Vec<(String, Vec<String>)> {
    let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
    let services = configuration["service"].as_array().unwrap().iter();
    services
        .map(|it| (text(&it["name"]), it["endpoints"].as_array().unwrap().iter().map(text).collect()))
        .collect()
}

const MODULES: &str = "\
modules:
  carbon:
    prober: tcp
    timeout: 5s
  carbon_tls:
    prober: tcp
    tcp:
      tls: true
      tls_config:
        ca_file: /etc/ssl/ours.pem
      preferred_ip_protocol: ip4
      ip_protocol_fallback: false
  banner:
    prober: tcp
    tcp:
      query_response:
        - expect: '^SSH'
  page:
    prober: http
  ping:
    prober: icmp
  post:
    prober: http
    http:
      method: POST
      valid_status_codes: [202]
  any:
    prober: tcp
    tcp:
      tls: true
      tls_config: { insecure_skip_verify: true }
";

const SCRAPE: &str = "\
scrape_configs:
  - job_name: node
    static_configs: [{ targets: ['localhost:9100'] }]
  - job_name: graphite
    metrics_path: /probe
    scrape_interval: 30s
    params: { module: [carbon] }
    static_configs:
      - targets:
          - graphite.example.com:2003
          - no port
  - job_name: graphite tls
    metrics_path: /probe
    params: { module: [carbon_tls] }
    static_configs: [{ targets: ['graphite.example.com:2030'] }]
  - job_name: api
    metrics_path: /probe
    params: { module: [post] }
    static_configs: [{ targets: ['https://api.example.com/v1/sink'] }]
  - job_name: hosts
    metrics_path: /probe
    params: { module: [ping] }
    static_configs: [{ targets: ['192.0.2.7'] }]
  - job_name: found
    metrics_path: /probe
    params: { module: [carbon] }
    file_sd_configs: [{ files: ['targets.json'] }]
";

#[test]
fn a_blackbox_configuration_is_taken_over_with_its_targets_and_the_rest_is_listed() {
    let draft = blackbox::translate(("blackbox.yml", MODULES), Some(("prometheus.yml", SCRAPE))).unwrap();
    let (written, list) = shown(&draft);
    let expected = [
        ("graphite", "tcp://graphite.example.com:2003"),
        ("graphite_tls", "tls://graphite.example.com:2030"),
        // A service cannot be called as a path of the API is.
        ("import_api", "https://api.example.com:443/v1/sink"),
    ];
    assert_eq!(endpoints(&written), expected.map(|(name, url)| (name.to_owned(), vec![url.to_owned()])));
    let tls = &written["service"][1];
    assert_eq!(
        (tls["ca"]["file"].as_str(), tls["family"].as_str()),
        (Some("/etc/ssl/ours.pem"), Some("ipv4"))
    );
    let lines = [
        "blackbox.yml:26: left out: valid_status_codes: ",
        "prometheus.yml:11: left out: no port: ",
        "blackbox.yml:20: left out: module ping, for job hosts: ",
        "prometheus.yml:27: left out: file_sd_configs of job found: ",
        "blackbox.yml:31: left out: module any: it takes any certificate",
        "blackbox.yml:17: left out: module banner: it talks by turns",
        "blackbox.yml:18: left out: module page: it fetches a page",
        "blackbox.yml:4: otherwise: timeout 5s: each attempt has one second",
        "prometheus.yml:6: otherwise: every 30s of job graphite: ",
    ];
    for (found, expected) in list.lines().zip(lines) {
        assert!(found.starts_with(expected), "{found}\nis not\n{expected}\nin\n{list}");
    }
    assert_eq!(list.lines().count(), lines.len(), "{list}");
    assert!(!draft.is_whole());
}

#[test]
fn modules_without_targets_are_listed_each() {
    let draft = blackbox::translate(("blackbox.yml", "modules:\n  a: { prober: tcp }\n"), None).unwrap();
    assert!(draft.is_empty());
    let mut list = Vec::new();
    draft.list(&mut list).unwrap();
    assert!(
        String::from_utf8(list).unwrap().starts_with("blackbox.yml:2: left out: module a: which targets")
    );
}

const GATUS: &str = "\
alerting:
  pagerduty:
    integration-key: \"${PAGERDUTY_KEY}\"
  slack:
    webhook-url: https://hooks.slack.example/services/the-secret
  discord:
    webhook-url: https://discord.example/hook
  email:
    from: canary@example.com
    username: canary
    password: the-password
    host: mail.example.com
    port: 587
    to: a@example.com, b@example.com
endpoints:
  - name: line
    group: graphite
    url: tcp://graphite.example.com:2003
    interval: 10s
    conditions: ['[CONNECTED] == true']
    alerts: [{ type: pagerduty, failure-threshold: 3 }]
  - name: tls
    group: graphite
    url: tls://graphite.example.com:2030
    interval: 1m
    conditions:
      - '[CONNECTED] == true'
      - '[CERTIFICATE_EXPIRATION] > 48h'
  - name: site
    url: https://example.com
    conditions: ['[STATUS] == 200']
  - name: off
    enabled: false
    url: tcp://old.example.com:2003
  - name: ping
    url: icmp://example.com
  - name: sink api
    url: https://api.example.com/sink
    method: POST
    conditions: ['[STATUS] == 200', '[BODY].ok == true']
";

#[test]
fn a_gatus_configuration_is_taken_over_without_its_secrets() {
    let draft = gatus::translate("config.yaml", GATUS).unwrap();
    let (written, list) = shown(&draft);
    let text = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        endpoints(&written),
        [
            (
                "graphite".to_owned(),
                text(&["tcp://graphite.example.com:2003", "tls://graphite.example.com:2030"])
            ),
            ("sink_api".to_owned(), text(&["https://api.example.com:443/sink"])),
        ]
    );
    let receivers = written["receiver"].as_array().unwrap();
    let variable = |receiver: usize, key: &str| receivers[receiver][key]["env"].as_str().unwrap();
    assert_eq!(variable(0, "key"), "PAGERDUTY_KEY");
    assert_eq!((variable(1, "key"), variable(2, "password")), ("SLACK_WEBHOOK_URL", "SMTP_PASSWORD"));
    assert_eq!(receivers[2]["to"].as_array().unwrap().len(), 2);
    assert!(!draft.configuration().contains("the-secret") && !draft.configuration().contains("the-password"));
    assert!(!list.contains("the-secret"), "{list}");
    let lines = [
        "config.yaml:30: left out: endpoint site, https://example.com: it fetches a page",
        "config.yaml:36: left out: endpoint ping, icmp://example.com: ",
        "config.yaml:40: left out: [BODY].ok == true: ",
        "config.yaml:6: left out: alerting by discord: ",
    ];
    let left_out: Vec<&str> = list.lines().filter(|line| line.contains(": left out: ")).collect();
    for (found, expected) in left_out.iter().zip(lines) {
        assert!(found.starts_with(expected), "{found}\nis not\n{expected}\nin\n{list}");
    }
    assert_eq!(left_out.len(), lines.len(), "{list}");
    assert!(list.contains("config.yaml:28: otherwise: [CERTIFICATE_EXPIRATION] > 48h"), "{list}");
}

#[test]
fn what_is_no_yaml_is_said_with_its_line() {
    let error = gatus::translate("config.yaml", "endpoints: [\n").unwrap_err();
    assert!(error.to_string().starts_with("config.yaml: this is no YAML: "), "{error}");
}
