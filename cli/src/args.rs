//! The command line and its dispatch.

use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::exit::Failed;
use crate::observe::Observe;
use crate::stderr::{farewell, say};
use crate::streams::{print, written};
use crate::{bench, call, decode, demo, discover, doctor, exit, limits, publish, record, serve, subscribe, top};
#[cfg(feature = "nats")]
use crate::{object, queue};

/// The version with what this build has beyond every other's.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let features = [
        ("etcd", cfg!(feature = "etcd")),
        ("http", cfg!(feature = "http")),
        ("monoio", cfg!(feature = "monoio")),
        ("nats", cfg!(feature = "nats")),
        ("otel", cfg!(feature = "otel")),
        ("tokio-uring", cfg!(feature = "tokio-uring")),
        ("zmq", cfg!(feature = "zmq")),
    ];
    let built: Vec<&str> = features.into_iter().filter(|(_, built)| *built).map(|(name, _)| name).collect();
    let built = if built.is_empty() { "none".to_owned() } else { built.join(", ") };
    format!("{} (features: {built})", env!("CARGO_PKG_VERSION"))
});

/// Discovery, routing and streaming calls for distributed inference.
#[derive(Debug, Parser)]
#[command(
    name = "ringplane",
    version = VERSION.as_str(),
    after_help = "Environment:\n  \
        RINGPLANE_DISCOVERY  discovery of serve, call and discover; else DYN_DISCOVERY_BACKEND with DYN_FILE_KV or\n                       \
        ETCD_ENDPOINTS (default: a private directory of this user)\n  \
        RINGPLANE_LOG        what is logged to stderr, for example `debug` or `warn,ringplane=debug`; else DYN_LOG, RUST_LOG\n                       \
        (default: warn)"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    observe: Observe,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show it at work: workers and a caller in one process, over the loopback
    Demo(demo::Args),
    /// Serve an endpoint, with a built-in handler or a command
    Serve(serve::Args),
    /// Call an endpoint and print what it streams back, one line of JSON per item
    #[command(after_help = exit::table())]
    Call(call::Args),
    /// Put load on an endpoint, and say how fast it answers
    #[command(after_help = exit::table())]
    Bench(bench::Args),
    /// Show which instances there are
    #[command(subcommand)]
    Discover(discover::Command),
    /// Publish events
    Pub(publish::Args),
    /// Print events, and what is missing of them
    Sub(subscribe::Args),
    /// Put tasks into a queue on the NATS server of NATS_SERVER, take them out, look at it
    #[cfg(feature = "nats")]
    #[command(subcommand, after_help = exit::table())]
    Queue(queue::Command),
    /// Put files into a bucket on the NATS server of NATS_SERVER, get them, list them
    #[cfg(feature = "nats")]
    #[command(subcommand, after_help = exit::table())]
    Object(object::Command),
    /// Pass connections on to a worker and record their bytes, for `decode`
    Record(record::Args),
    /// Print recorded bytes of a connection, one line per frame
    Decode(decode::Args),
    /// Hand on events over ZeroMQ, from publishers to subscribers
    #[cfg(feature = "zmq")]
    ZmqBroker(crate::zmq_broker::Args),
    /// Show what a process does, or all that discovery finds, and keep it up to date
    Top(top::Args),
    /// Say what this machine offers and which driver would run
    Doctor(doctor::Args),
    /// Print a script that completes this tool's words in a shell
    Completions {
        /// The shell that the script is for
        shell: Shell,
    },
}

/// Runs the tool.
pub(crate) fn run() -> ExitCode {
    let ended = match Cli::try_parse() {
        Ok(cli) => cli.observe.during(|| command(cli.command)).map(|()| ExitCode::SUCCESS),
        // Nobody hears a usage that stderr does not take; the exit code says it too.
        Err(usage) if usage.use_stderr() => Ok(usage.print().map_or(2, |()| 2).into()),
        Err(help) => written(help.print()).map(|()| ExitCode::SUCCESS),
    };
    let code = ended.unwrap_or_else(|Failed { exit, message, .. }| {
        if !message.is_empty() {
            say(format_args!("ringplane: {message}"));
        }
        ExitCode::from(exit.code())
    });
    farewell();
    code
}

fn command(command: Command) -> Result<(), Failed> {
    if let Some((from, to)) = limits::raise() {
        tracing::info!(from, to, "the limit of descriptors is raised");
    }
    match command {
        Command::Demo(args) => asynchronous(demo::run(args)),
        Command::Serve(args) => asynchronous(serve::run(args)),
        Command::Call(args) => asynchronous(call::run(args)),
        Command::Bench(args) => asynchronous(bench::run(args)),
        Command::Discover(command) => asynchronous(discover::run(command)),
        Command::Pub(args) => asynchronous(publish::run(args)),
        Command::Sub(args) => asynchronous(subscribe::run(args)),
        #[cfg(feature = "nats")]
        Command::Queue(command) => asynchronous(queue::run(command)),
        #[cfg(feature = "nats")]
        Command::Object(command) => asynchronous(object::run(command)),
        Command::Record(args) => asynchronous(record::run(args)),
        Command::Decode(args) => decode::run(&args),
        #[cfg(feature = "zmq")]
        Command::ZmqBroker(args) => asynchronous(crate::zmq_broker::run(args)),
        Command::Top(args) => asynchronous(top::run(args)),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions { shell } => print([completions(shell)]),
    }
}

/// The script that completes the tool's words.
fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ringplane", &mut script);
    String::from_utf8_lossy(&script).trim_end().to_owned()
}

/// Runs a subcommand on a runtime of this thread. Whatever still runs on it then is dropped.
fn asynchronous(command: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failed::local("tokio does not start", error))?;
    let ended = runtime.block_on(command);
    runtime.shutdown_background();
    ended
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::exit::Exit;

    #[test]
    fn the_command_line_is_consistent_and_its_help_names_every_exit_code() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        let help = command.find_subcommand_mut("call").unwrap().render_help().to_string();
        for (exit, meaning) in Exit::ALL {
            assert!(help.contains(&format!("{:>2}  {meaning}", exit.code())), "{help}");
        }
    }

    #[test]
    fn the_script_of_every_shell_names_every_subcommand() {
        let names: Vec<String> = Cli::command().get_subcommands().map(|one| one.get_name().to_owned()).collect();
        assert!(names.len() > 10, "{names:?}");
        for shell in Shell::value_variants() {
            let script = completions(*shell);
            for name in &names {
                assert!(script.contains(name.as_str()), "{shell} lacks {name}");
            }
        }
    }

    #[test]
    fn a_command_after_exec_keeps_its_own_options() {
        let cli = Cli::try_parse_from(["ringplane", "serve", "a.b.c", "--cores", "2", "--exec", "sh", "-c", "cat"]);
        let Ok(Cli { command: Command::Serve(args), .. }) = cli else { panic!("{cli:?}") };
        assert_eq!((args.cores, args.exec.as_slice()), (2, ["sh", "-c", "cat"].map(Into::into).as_slice()));
        for line in ["serve a.b", "serve a.b.c --handler what", "call a.b.c --router what", "call a.b.c --driver what"]
        {
            let words = ["ringplane"].into_iter().chain(line.split(' '));
            assert_eq!(Cli::try_parse_from(words).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
