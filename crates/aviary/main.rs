//! aviary: external canary probers that count every second, and say where loss is.

mod admin;
mod allocator;
mod ask;
mod bounded;
mod check;
mod cli;
mod config;
mod cost;
mod demo;
mod enrol;
mod generate;
mod graphite_schema;
mod health;
mod import;
mod incident;
mod init;
mod metadata;
mod output;
mod page_test;
mod probe;
mod replace;
mod replay;
mod report;
mod rollout;
mod rotation;
mod run;
mod selftest;
mod service_manager;
mod silence;
mod statsd;
mod status;
mod steer;
mod store;
mod sums;
mod telemetry;
mod terminal;
mod token;

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;

use crate::{
    cli::{Cli, Command},
    config::{Environment, limits::HostLimits},
    telemetry::LogOptions,
};

/// What a command came to, as its exit status says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// All is well: 0.
    Well,
    /// What was asked about is not well: 1.
    Unwell,
    /// A configuration that cannot be run: 2.
    Unusable,
}

impl From<bool> for Ending {
    fn from(well: bool) -> Self {
        if well { Self::Well } else { Self::Unwell }
    }
}

fn main() -> ExitCode {
    allocator::give_large_blocks_back();
    let cli = Cli::parse();
    // What runs for days writes its log as its configuration has it.
    let log = match cli.command {
        Command::Run(_) => Ok(None),
        Command::Enrol(ref arguments) if arguments.runs() => Ok(None),
        // Their terminal is for what they show.
        Command::Demo | Command::Status(_) => {
            telemetry::start(&LogOptions::from_environment("error", cli.log_format.unwrap_or_default()))
                .map(Some)
        }
        _ => telemetry::start(&LogOptions::from_environment("info", cli.log_format.unwrap_or_default()))
            .map(Some),
    };
    let _log = match log {
        Ok(log) => log,
        Err(error) => return unusable(&error),
    };
    let environment: Environment = std::env::vars_os().collect();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    // Everything that asks for a default gets aws-lc-rs: control traffic, where probes bring their own.
    aviary_probe::install_crypto_provider();
    match perform(cli, &environment, &host) {
        Ok(Ending::Well) => ExitCode::SUCCESS,
        Ok(Ending::Unwell) => ExitCode::from(1),
        Ok(Ending::Unusable) => ExitCode::from(2),
        // Whoever read our output has gone, as `aviary sums | head` does: nothing is wrong.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => unusable(&error),
    }
}

fn unusable(error: &dyn std::fmt::Display) -> ExitCode {
    // Standard error may be closed as well, and then there is nobody left to tell.
    _ = writeln!(std::io::stderr(), "aviary: {error:#}");
    ExitCode::from(2)
}

fn perform(cli: Cli, environment: &Environment, host: &str) -> anyhow::Result<Ending> {
    let mut out = std::io::stdout().lock();
    match cli.command {
        Command::Ack(arguments) => incident::ack(&arguments, &mut out).map(Ending::from),
        Command::Check(arguments) => {
            let limits = HostLimits::of_this_process();
            check::check(&arguments, &mut out, environment, host, &limits).map(Ending::from)
        }
        Command::Demo => demo::demo(&mut out).map(Ending::from),
        Command::Enrol(arguments) => enrol::enrol(&arguments, out, environment, host, cli.log_format),
        Command::Explain(arguments) => incident::explain(&arguments, &mut out).map(Ending::from),
        Command::Generate(arguments) => generate::generate(&arguments).map(|()| Ending::Well),
        Command::GraphiteSchema(arguments) => {
            graphite_schema::graphite_schema(&arguments, &mut out, environment, host).map(Ending::from)
        }
        Command::Health(arguments) => health::health(&arguments, &mut out).map(Ending::from),
        Command::Import(arguments) => import::import(&arguments, &mut out).map(Ending::from),
        Command::Incident(arguments) => incident::incident(&arguments, &mut out).map(Ending::from),
        Command::Init(arguments) => init::init(&arguments, &mut out).map(Ending::from),
        Command::PageTest(arguments) => page_test::page_test(&arguments, &mut out).map(Ending::from),
        Command::Probe(arguments) => probe::probe(&arguments, &mut out).map(Ending::from),
        Command::Report(arguments) => report::report(&arguments, &mut out).map(Ending::from),
        Command::Replay(arguments) => {
            replay::replay(&arguments, &mut out, environment, host).map(Ending::from)
        }
        Command::Run(arguments) => {
            // Its lines come from several threads over days; the lock is for commands that print and end.
            drop(out);
            run::run(&arguments.config, environment, host, cli.log_format)
        }
        Command::Selftest(arguments) => selftest::selftest(&arguments, &mut out).map(Ending::from),
        Command::Rollout(arguments) => rollout::rollout(&arguments, &mut out).map(Ending::from),
        Command::Rotation(arguments) => rotation::rotation(&arguments, &mut out).map(Ending::from),
        Command::Silence(arguments) => silence::silence(&arguments, &mut out).map(Ending::from),
        Command::Status(arguments) => status::status(&arguments, &mut out).map(Ending::from),
        Command::Store(arguments) => store::store(&arguments, &mut out).map(Ending::from),
        Command::Sums(arguments) => sums::sums(&arguments, &mut out).map(Ending::from),
        Command::Token(arguments) => token::token(&arguments, &mut out).map(Ending::from),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
