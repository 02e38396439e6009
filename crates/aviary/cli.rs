//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{
    check::CheckArguments,
    enrol::EnrolArguments,
    generate::GenerateArguments,
    graphite_schema::GraphiteSchemaArguments,
    health::HealthArguments,
    import::ImportArguments,
    incident::{AckArguments, ExplainArguments, IncidentArguments},
    init::InitArguments,
    page_test::PageTestArguments,
    probe::ProbeArguments,
    replay::ReplayArguments,
    report::ReportArguments,
    rollout::RolloutArguments,
    rotation::RotationArguments,
    selftest::SelftestArguments,
    silence::SilenceArguments,
    status::StatusArguments,
    store::StoreArguments,
    sums::SumsArguments,
    telemetry::LogFormat,
    token::TokenArguments,
};

const EXIT_STATUS: &str = "\
Exit status: 0 all well; 1 what was asked about is not well (a lost probe, a problem found by check, a service \
that is degraded, down or blind); 2 usage, or something that cannot be started or reached.";

/// What `--version` says: which build this is.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit    ",
    env!("AVIARY_COMMIT"),
    "\ntarget    ",
    env!("AVIARY_TARGET"),
    "\nfeatures  ",
    env!("AVIARY_FEATURES"),
);

/// External canary probers that count every second, and say where loss is.
///
/// Agents send one datapoint of value 1 a second and protocol to the Graphite endpoints of a service, each over a fresh
/// connection that is given up after one second. A collector sums what was delivered.
#[derive(Debug, Parser)]
#[command(name = "aviary", version, long_version = LONG_VERSION, after_help = EXIT_STATUS, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// How the log on standard error is written; AVIARY_LOG sets its level, such as `debug`
    #[arg(long, global = true, value_enum, env = "AVIARY_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the roles that a configuration has sections for, in one process
    #[command(after_help = RUN_EXAMPLES, about = "Run the roles that the file has sections for: [agent], [collector], [sink], in one process")]
    Run(RunArguments),
    /// Break a fleet of three regions on this machine, and see which pages that gives
    #[command(after_help = DEMO_EXAMPLES)]
    Demo,
    /// Find which protocols HOST answers and whether it can be read back; write a configuration
    #[command(after_help = INIT_EXAMPLES)]
    Init(InitArguments),
    /// Make one attempt per URL and show its phases; writes a datapoint called aviary.probe.PROTOCOL
    #[command(after_help = PROBE_EXAMPLES)]
    Probe(ProbeArguments),
    /// Say every problem in configuration files, each with its line and what would be right
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArguments),
    /// Play each fault that can be played here against each protocol, and see whether probes tell it right
    #[command(after_help = SELFTEST_EXAMPLES)]
    Selftest(SelftestArguments),
    /// Show a collector's verdict on each service
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArguments),
    /// Show incidents, say something of one, say that it is over, or let customers know
    #[command(after_help = INCIDENT_EXAMPLES)]
    Incident(IncidentArguments),
    /// Say that you are on an incident: nobody else is woken for it
    #[command(after_help = ACK_EXAMPLES)]
    Ack(AckArguments),
    /// Page nobody about some series for a while
    #[command(after_help = SILENCE_EXAMPLES)]
    Silence(SilenceArguments),
    /// Which nodes are left out, and who stopped that; stop it, so that all are in; go on with it
    #[command(after_help = ROTATION_EXAMPLES)]
    Rotation(RotationArguments),
    /// Which version of the services agents probe by, and what holds the next one; force it, go back, try again
    #[command(after_help = ROLLOUT_EXAMPLES)]
    Rollout(RolloutArguments),
    /// Send a test page to a receiver, and show what it says
    #[command(after_help = PAGE_TEST_EXAMPLES)]
    PageTest(PageTestArguments),
    /// Say what was delivered in a month, how much of what may be lost was, and for how long nobody measured
    #[command(after_help = REPORT_EXAMPLES)]
    Report(ReportArguments),
    /// Say what a configuration's rules would have paged of stored slots, and when
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(ReplayArguments),
    /// Say why an incident paged: its windows, counts and causes, and who was told what
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArguments),
    /// Look a collector's store through, copy it, or put a copy in its place
    #[command(after_help = STORE_EXAMPLES)]
    Store(StoreArguments),
    /// Show a collector's sums of delivered and lost slots, by any tags
    #[command(after_help = SUMS_EXAMPLES)]
    Sums(SumsArguments),
    /// Make, list and revoke what agents and people show a collector
    #[command(after_help = TOKEN_EXAMPLES)]
    Token(TokenArguments),
    /// Make this host an agent of a collector, with the secret that `aviary token new` showed
    #[command(after_help = ENROL_EXAMPLES)]
    Enrol(Box<EnrolArguments>),
    /// Write what it can of another prober's configuration as ours, and list the rest
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(ImportArguments),
    /// Print the storage schema that carbon needs so that single seconds can be read back
    #[command(after_help = GRAPHITE_SCHEMA_EXAMPLES)]
    GraphiteSchema(GraphiteSchemaArguments),
    /// Ask a running agent or collector whether it lives, as a container's health check does
    #[command(after_help = HEALTH_EXAMPLES)]
    Health(HealthArguments),
    /// Write what is made from the code
    #[command(hide = true)]
    Generate(GenerateArguments),
}

const DEMO_EXAMPLES: &str = "\
Everything runs in this process and on free loopback ports; nothing is sent anywhere else. At a terminal, keys break \
udp (u), a region (r), one address of four (a) and an agent (n), and mend them again; m mends all, e says why the \
last page was sent, q ends it. Elsewhere the same letters are read as words from standard input, with `wait` for the \
pages of what is broken, or else for the end of every incident, and pauses such as 20s. Without a word each fault is \
played once.
Examples:
  aviary demo
  echo u wait e m wait | aviary demo                a fault, why it paged, and its end
  aviary demo < /dev/null                           all four, in about two minutes
Exit status: 0 every fault of a script gave its page, with the right extent, or keys were pressed; 1 one did not, or \
the script was interrupted; 2 a word that means nothing, or it cannot be played.";

const INIT_EXAMPLES: &str = "\
Examples:
  aviary init graphite.example.com                  looks at the usual ports, and sends nothing
  aviary init --send graphite.example.com           sends three datapoints to each, and looks for them in storage
  aviary init 192.0.2.7 --also tls://192.0.2.7:12030 --also http://192.0.2.7:18080 --output lab.toml
Exit status: 0 a configuration was written; 1 nobody answers; 2 usage, or the file exists.";

const GRAPHITE_SCHEMA_EXAMPLES: &str = "\
Examples:
  aviary graphite-schema /etc/aviary/collector.toml
Exit status: 0 printed; 1 the configuration has problems, or no service.";

const HEALTH_EXAMPLES: &str = "\
Examples:
  aviary health http://127.0.0.1:8611               an agent at its `listen`
  aviary health --ready http://127.0.0.1:8610       a collector, and whether it has come back to where it was
Exit status: 0 it answers that it is well; 1 it does not, or does not answer; 2 usage.";

const RUN_EXAMPLES: &str = "\
Examples:
  aviary run config/local.toml                      sink, agent and collector on this machine
  AVIARY_VANTAGE_REGION=eu-west-1 aviary run agent.toml
SIGTERM and Ctrl-C end it: what is in flight is finished or given up, and the last report is sent.";

const PROBE_EXAMPLES: &str = "\
Examples:
  aviary probe tcp://graphite.example.com:2003
  aviary probe --count 10 tls://127.0.0.1:2030 --ca ca.pem
  aviary probe --count 60 --all-addresses https://graphite.example.com/api/v1/sink
  aviary probe tls://graphite.example.com:2030 --resolve graphite.example.com:2030:192.0.2.7
  aviary probe --name-server 192.0.2.53 tcp://graphite.example.com:2003
  aviary probe --format json tcp://graphite.example.com:2003 udp://graphite.example.com:2003
Exit status: 0 all delivered, as far as the protocol can show; 1 one was not, or Ctrl-C; 2 usage.";

const SELFTEST_EXAMPLES: &str = "\
Examples:
  aviary selftest
  aviary selftest --only tls --only https
  aviary selftest --format json | jq 'select(.verdict != \"same\")'
It starts servers and name servers on free loopback ports, needs neither privileges nor a network, and sends nothing \
anywhere else.
Exit status: 0 nothing differs; 1 something does; 2 it could not be played.";

const CHECK_EXAMPLES: &str = "\
Examples:
  aviary check agent.toml collector.toml
  aviary check --against /etc/aviary/agent.toml new.toml      what a reload would change
  aviary check --cost --agents 300 --regions 6 collector.toml  what a fleet would cost
  aviary check --schema > aviary.schema.json                  for editors";

const STATUS_EXAMPLES: &str = "\
Examples:
  aviary status
  aviary status --watch https://collector.example.net:8610
  aviary status --watch --by zone --interval 1m >> status.log
  AVIARY_TOKEN=... aviary status --format json https://collector.example.net:8610";

const INCIDENT_EXAMPLES: &str = "\
Examples:
  aviary incident list --open
  aviary incident list --all --format json | jq -r 'select(.severity == \"critical\") | .summary'
  aviary incident note 01KAJ27J80 'the relay in eu-west-1 restarts' --by ada
  aviary incident resolve 01KAJ27J80 --by ada --collector https://collector.example.net:8610
  aviary incident draft 01KAJ27J80                          what customers would be told, or are
  aviary incident edit 01KAJ27J80 --title 'UDP is lost in Europe' --impact minor --by ada
  aviary incident publish 01KAJ27J80 --by ada
  aviary incident update 01KAJ27J80 'A switch is replaced.' --status identified --by ada
  aviary incident post-mortem 01KAJ27J80 \"$(cat post-mortem.txt)\" --by ada
  aviary incident unpublish 01KAJ27J80 'Our own network was to blame.' --by ada
An id may be cut short where no other begins alike.
Exit status: 0 done, or none of those listed is there still; 1 one is; 2 usage, or the collector cannot be reached \
or refuses.";

const ACK_EXAMPLES: &str = "\
Examples:
  aviary ack 01KAJ27J80BQ3ZVZ6Z7R0B5N3T --by ada
  AVIARY_TOKEN=... aviary ack 01KAJ27J80 --collector https://collector.example.net:8610
Exit status: 0 noted, and nobody else is woken; 2 usage, or there is no such incident that is not over.";

const ROTATION_EXAMPLES: &str = "\
Examples:
  aviary rotation status
  aviary rotation stop --collector https://collector.example.net
  aviary rotation resume
Exit status: 0 all nodes are in; 1 one is out or is held back; 2 usage, or the collector cannot be reached or \
refuses.";

const ROLLOUT_EXAMPLES: &str = "\
Examples:
  aviary rollout status
  aviary rollout status --format json | jq -r '.agents[] | select(.objection) | .node + \": \" + .objection'
  aviary rollout force                              those that can take the new version on do it now
  aviary rollout rollback                           break a rollout off, or go back to the version before
  aviary rollout retry                              what was held back, once it can go well
What was rolled back, or was not available to all agents in time, waits until the collector's file says something \
else or somebody says `retry`.
Exit status: 0 done, or every agent has what the file says; 1 not yet, or an agent cannot; 2 usage, or the collector \
cannot be reached or refuses.";

const SILENCE_EXAMPLES: &str = "\
Examples:
  aviary silence list
  aviary silence add --match region=eu-west-1 --for 2h --author ada --reason 'new switches'
  aviary silence add --match service=ingest --match protocol=udp,tcp --from 2026-11-22T02:00 \\
      --until 2026-11-22T04:00 --zone Europe/Berlin --author ada --reason 'carbon is upgraded'
  aviary silence add --match region=eu-west-1 --for 2160h --hours 02:00-04:00 --days sunday \\
      --zone Europe/Berlin --author ada --reason 'maintenance window'
  aviary silence add --match service=ingest --for 2h --from 2026-11-22T02:00Z --author ada \\
      --reason 'rack 4 moves' --announce 'We move some of our servers.'         customers read it on the status page
  aviary silence expire 5f2c9a1e00b3d874
What is lost meanwhile is counted and shown; what reaches further than the silence, or goes on when it ends, is \
paged.
Exit status: 0 done; 2 usage, or the collector cannot be reached or refuses.";

const PAGE_TEST_EXAMPLES: &str = "\
Examples:
  aviary page-test oncall
  AVIARY_TOKEN=... aviary page-test hook --within 30s --collector https://collector.example.net:8610
The collector sends it as it sends any page, marked as a test, and then its end.
Exit status: 0 both were taken; 1 they were refused, or not taken in time; 2 usage, there is no such receiver, or \
the collector cannot be reached.";

const REPORT_EXAMPLES: &str = "\
Examples:
  aviary report                                     the last whole month
  aviary report --month 2026-11 --service ingest
  aviary report --month 2026-11 --format csv > november.csv
  aviary report --format json --collector https://collector.example.net:8610 | jq 'select(.spent > 100)'
Months are of UTC. Delivery is of what was measured, and 100 % only where all of it was measured and delivered; the \
budget is what may be lost of what was measured, and what is spent of it is rounded up.
Exit status: 0 every budget holds; 1 one is overspent; 2 usage, or the collector cannot be reached or knows nothing \
of that month.";

const REPLAY_EXAMPLES: &str = "\
Examples:
  aviary replay collector.toml                                   the newest day
  aviary replay stricter.toml --from 2026-11-14T00:00 --until 2026-11-21T00:00 --zone Europe/Berlin
  aviary replay shadow.toml --collector https://collector.example.net:8610 --format json | jq .summary
Slots are fetched from the collector part by part and judged second by second, as a collector with this \
configuration would have; nothing is sent to anybody. Which rung counts as delivered, and what storage showed, is \
taken as it was found then.
Exit status: 0 nobody would have been told of anything; 1 somebody would; 2 usage, or it cannot be done.";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  aviary explain 01KAJ27J80BQ3ZVZ6Z7R0B5N3T
  aviary explain 01KAJ27J80 --collector https://collector.example.net:8610
Incidents that are over are explained for as long as they are kept.
Exit status: 0 printed; 2 usage, or it is not known.";

const STORE_EXAMPLES: &str = "\
Examples:
  aviary store verify /var/lib/aviary/collector                    every page and every record
  aviary store backup --url http://127.0.0.1:8610 /var/backups/aviary.redb      while it runs
  aviary store backup --data /var/lib/aviary/collector aviary.redb              while it does not
  aviary store verify aviary.redb
  aviary store restore aviary.redb /var/lib/aviary/collector       refuses to replace without --force
  aviary store dump --table journal --format json aviary.redb | jq .
  aviary store compact /var/lib/aviary/collector
A store is the `data` directory of a [collector] that does not run, or a copy.
Exit status: 0 done, and all of it is whole; 1 something in it is not; 2 usage, or it cannot be used.";

const TOKEN_EXAMPLES: &str = "\
Examples:
  aviary token new eu-agents --region eu-west-1 --expires 90d
  aviary token new dashboards --scope read --collector https://collector.example.net:8610
  aviary token new eu-agents --rotate --expires 90d            both secrets hold for a day
  aviary token revoke eu-agents --old                           sooner, once nobody uses the older one
  aviary token list
  aviary token revoke eu-agents
Who asks needs a token with the scope `admin`, which stands in the collector's configuration; where that has none, \
this works on its host alone.
Exit status: 0 done; 2 usage, or the collector cannot be reached or refuses.";

const ENROL_EXAMPLES: &str = "\
Examples:
  aviary enrol https://collector.example.net:8610                      asks for the secret
  aviary enrol https://collector.example.net:8610 --token-stdin < secret
  AVIARY_TOKEN=... aviary enrol https://collector.example.net:8610 --region eu-west-1 --run
  aviary enrol https://collector.example.net:8610 --ca ca.pem --certificate agent.pem --key agent.key
It writes /etc/aviary/agent.toml, and the secret beside it for nobody else to read, and replaces nothing without \
--force. Services come from the collector. Where systemd runs, the packages' unit is started.
Exit status: 0 it is enrolled; 1 it is, and does not start; 2 usage, or the collector refuses: then nothing was \
written.";

const IMPORT_EXAMPLES: &str = "\
Examples:
  aviary import blackbox /etc/prometheus/blackbox.yml --scrape /etc/prometheus/prometheus.yml -o aviary.toml
  aviary import gatus config.yaml > aviary.toml
Each check that ours cannot say is listed with its line and why.
Exit status: 0 all of it was written; 1 something was left out; 2 usage, or nothing could be written.";

const SUMS_EXAMPLES: &str = "\
Examples:
  aviary sums --by protocol
  aviary sums --by protocol,region --window 5m --step 60s
  aviary sums --service ingest --by endpoint --format json http://127.0.0.1:8610
Tags: address, endpoint, kind, network, node, protocol, region, service, zone.";

#[derive(Args, Debug)]
pub(crate) struct RunArguments {
    /// The configuration file
    #[arg(value_name = "CONFIG")]
    pub(crate) config: PathBuf,
}
