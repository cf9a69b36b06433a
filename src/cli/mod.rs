//! The command line: what is typed becomes requests to an engine or to whoever holds the store; answers become text.
//!
//! It owns arguments, exit codes and everything that is printed, and decides nothing about runs.

mod app;
mod args;
mod bench;
mod control;
mod db;
mod exec;
pub mod exit_code;
mod graph;
mod handlers;
mod input;
mod output;
mod problem;
mod runs;
mod store;
mod test;
mod validate;
mod verify;
#[cfg(feature = "restate")]
mod worker;
mod workflow;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process;
use std::sync::Mutex;

use clap::Parser as _;

use self::app::App;
use self::args::{Cli, Global, Verb};
use self::exit_code::ExitCode;
use self::output::screen::{Screen, tell};
use self::problem::Problem;
use crate::handlers::Registry;

/// Runs the command line of this process with these handlers, and returns what the process is to return.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     flowrun::cli(flowrun::Registry::new())
/// }
/// ```
#[must_use]
pub fn cli(registry: Registry) -> process::ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    notice_panics();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(registry, &arguments)));
    let code = caught.unwrap_or_else(|_| {
        let what = PANIC.lock().ok().and_then(|mut panic| panic.take()).unwrap_or_default();
        tell(&format!("error: flowrun has a bug: {what}"));
        tell("help: Please report it with this message and the command that was typed. What was recorded is safe.");
        ExitCode::Bug
    });
    code.into()
}

fn run(registry: Registry, arguments: &[OsString]) -> ExitCode {
    let program = arguments.first().and_then(|a| Path::new(a).file_name()).map(|n| n.to_string_lossy().into_owned());
    let program = program.unwrap_or_else(|| "flowrun".to_owned());
    let Cli { global, verb } = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            if error.use_stderr() && wants_json(arguments) {
                tell(&usage(&error).to_json().to_string());
                return ExitCode::Usage;
            }
            // Help and version are answers; both streams may be gone.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::Usage } else { ExitCode::Done };
        }
    };
    let screen = Screen::new(&global, &program);
    log(&global, &screen);
    let done = App::new(registry, global, &verb, screen.clone()).and_then(|app| start(&app, &verb, &program));
    done.unwrap_or_else(|problem| {
        screen.problem(&problem);
        problem.exit
    })
}

/// Tells whether a command line that cannot be understood asks for JSON all the same.
fn wants_json(arguments: &[OsString]) -> bool {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let joined = |word: &&str| ["-o", "-o=", "--output="].iter().any(|o| is_json(word.strip_prefix(o).unwrap_or("")));
    words.iter().any(joined) || words.windows(2).any(|w| matches!(w[0], "-o" | "--output") && is_json(w[1]))
}

fn is_json(format: &str) -> bool {
    matches!(format, "json" | "jsonl")
}

/// Returns what is wrong with a command line as a problem like any other.
fn usage(error: &clap::Error) -> Problem {
    let text = error.render().to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let message = lines.next().unwrap_or_default();
    let (help, details): (Vec<&str>, Vec<&str>) =
        lines.filter(|line| !line.starts_with("For more information")).partition(|line| line.starts_with("tip: "));
    let problem = Problem::usage(message.strip_prefix("error: ").unwrap_or(message));
    let problem = problem.details(details.into_iter().map(str::to_owned));
    match help.first().and_then(|tip| tip.strip_prefix("tip: ")) {
        Some(tip) => problem.help(tip),
        None => problem,
    }
}

fn start(app: &App, verb: &Verb, program: &str) -> Result<ExitCode, Problem> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Problem::bug(format!("the async runtime cannot be started: {error}")))?;
    let done = runtime.block_on(dispatch(app, verb, program));
    // A handler that blocks, or a read of stdin, must not keep the process.
    runtime.shutdown_background();
    done
}

async fn dispatch(app: &App, verb: &Verb, program: &str) -> Result<ExitCode, Problem> {
    match verb {
        Verb::Validate(args) => validate::validate(app, args),
        Verb::Verify(args) => verify::verify(app, args),
        Verb::Test(args) => test::test(app, args),
        Verb::Exec(args) => exec::exec(app, args).await,
        Verb::Resume(args) => runs::resume(app, args).await,
        Verb::List(args) => runs::list(app, args).await,
        Verb::Show(args) => runs::show(app, args).await,
        Verb::History(args) => runs::history(app, args).await,
        Verb::Cancel(args) => runs::cancel(app, args).await,
        Verb::Compensate(args) => runs::compensate(app, args).await,
        Verb::Retry(args) => runs::retry(app, args).await,
        Verb::Signal(args) => runs::signal(app, args).await,
        Verb::Handlers(args) => handlers::handlers(app, args),
        Verb::Graph(args) => graph::graph(app, args).await,
        Verb::Schema(args) => handlers::schema(app, args),
        Verb::Ledger(args) => store::ledger(app, args),
        Verb::Db(args) => db::db(app, args).await,
        Verb::Bench(args) => bench::bench(app, args).await,
        #[cfg(feature = "restate")]
        Verb::Worker(args) => worker::worker(app, args).await,
        Verb::Completions(args) => handlers::completions(app, args, program),
    }
}

/// Writes the log to stderr.
fn log(global: &Global, screen: &Screen) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => tracing::Level::ERROR,
        (false, 0) => tracing::Level::WARN,
        (false, 1) => tracing::Level::INFO,
        (false, 2) => tracing::Level::DEBUG,
        (false, _) => tracing::Level::TRACE,
    };
    let log = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(level)
        .with_ansi(screen.err.is_on())
        .with_target(false)
        .finish();
    // A program that has set up a log of its own keeps it.
    let _ = tracing::subscriber::set_global_default(log);
}

static PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Keeps what a panic said. A handler that panics has an outcome, and that is how it is told; a panic on the main
/// thread is a mistake of ours.
fn notice_panics() {
    let main = std::thread::current().id();
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let text =
            payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("it panicked");
        let place = panic.location().map_or_else(String::new, |at| format!(" ({}:{})", at.file(), at.line()));
        if std::thread::current().id() == main {
            if let Ok(mut known) = PANIC.lock() {
                *known = Some(format!("{text}{place}"));
            }
        } else {
            tracing::info!("a thread panicked: {text}{place}");
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_that_do_not_fit_together_are_a_bug_of_the_program() {
        let registry = Registry::new().effect("lost");
        let Cli { global, verb } = Cli::try_parse_from(["flowrun", "handlers"]).expect("it is well typed");
        let screen = Screen::new(&global, "flowrun");
        let problem = App::new(registry, global, &verb, screen).err().expect("a declaration stands alone");
        assert_eq!(problem.exit, ExitCode::Bug);
        assert_eq!(problem.details.len(), 1);
    }
}
