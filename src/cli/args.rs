//! What can be typed: verbs, options and their help. Nothing is decided here but the shape of a command line.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

/// Where the store is unless somebody says otherwise.
pub(super) const STORE: &str = ".flowrun/flowrun.redb";

/// Runs business processes that are written as data.
#[derive(Debug, Parser)]
#[command(
    name = "flowrun",
    version,
    propagate_version = false,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Examples:\n  flowrun validate                                 check every workflow in workflows/\n  \
                  flowrun exec --input examples/order.json         run the only workflow there is\n  \
                  flowrun resume                                   continue after a crash or Ctrl-C\n  \
                  flowrun show @last                               what became of the last run\n\n\
                  Exit codes: 0 done, 1 failed, 2 usage, 3 invalid, 4 failed and undone, 5 a person is needed,\n\
                  6 cancelled, 7 waiting or parked, 8 not found, 9 conflict, 10 store, 70 bug, 130/143 interrupted."
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// Options of every verb.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(super) struct Global {
    /// How the answer on stdout is written: text, json, or jsonl.
    #[arg(
        id = "answer",
        short = 'o',
        long = "output",
        value_name = "FORMAT",
        value_enum,
        default_value = "text",
        global = true
    )]
    pub(super) format: Format,
    /// When colours are used: auto, always or never; NO_COLOR turns them off as well.
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto", hide_possible_values = true, global = true)]
    pub(super) color: Colour,
    /// Say nothing on stderr but errors.
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
    /// Log on stderr what flowrun does; twice for more.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub(super) verbose: u8,
    /// The file that runs are recorded in.
    #[arg(long, value_name = "FILE", env = "FLOWRUN_STORE", default_value = STORE, hide_env_values = true, global = true)]
    pub(super) store: PathBuf,
    /// Set a limit, such as steps=2000; may be given several times.
    #[arg(long = "limit", value_name = "NAME=N", global = true)]
    pub(super) limits: Vec<String>,
    #[cfg(feature = "restate")]
    #[command(flatten)]
    pub(super) cluster: Clustered,
}

/// Where runs are, if not in a store of this machine.
#[cfg(feature = "restate")]
#[derive(Clone, Debug, Args)]
pub(super) struct Clustered {
    /// What makes runs durable: embedded (the store) or restate (a cluster).
    #[arg(
        long,
        value_name = "ENGINE",
        env = "FLOWRUN_ENGINE",
        value_enum,
        default_value = "embedded",
        hide_possible_values = true,
        hide_env_values = true,
        global = true
    )]
    pub(super) engine: EngineKind,
    /// The ingress of the cluster; those of several nodes with commas between them.
    #[arg(
        long,
        value_name = "URL",
        env = "FLOWRUN_URL",
        default_value = "http://127.0.0.1:8080",
        hide_env_values = true,
        global = true
    )]
    pub(super) url: String,
}

/// What makes runs durable.
#[cfg(feature = "restate")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum EngineKind {
    /// The store of this machine.
    Embedded,
    /// A Restate cluster.
    Restate,
}

impl Global {
    /// Returns the ingress of the cluster that runs are on, if they are on one.
    #[cfg(feature = "restate")]
    pub(super) fn cluster(&self) -> Option<&str> {
        (self.cluster.engine == EngineKind::Restate).then_some(self.cluster.url.as_str())
    }

    /// Tells whether there is anything to be read: a cluster, or a store.
    pub(super) fn has_runs(&self) -> bool {
        #[cfg(feature = "restate")]
        if self.cluster().is_some() {
            return true;
        }
        self.store.exists()
    }
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// One JSON document.
    Json,
    /// One JSON document a line, each as soon as it is known.
    Jsonl,
}

/// When colours are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Colour {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What flowrun is asked to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Check workflow files without running anything.
    #[command(after_help = "Examples:\n  flowrun validate\n  flowrun validate workflows/order.yaml --strict\n  \
                            flowrun validate -o json | jq '.files[].findings'")]
    Validate(Validate),
    /// Prove that no failure leaves a workflow in a state it must not come to.
    #[command(
        after_help = "Looks at every combination of success, failure and unclear answer of every call, the death of the process at\n\
                      any moment, cancel and deadline, failing undos and signals that do not come. Nothing is run.\n\n\
                      Exit codes: 0 proved, 1 not proved, 3 a file is not valid.\n\n\
                      Examples:\n  flowrun verify\n  flowrun verify workflows/order.yaml --contracts\n  \
                      flowrun verify --set payment.fallback_enabled=false\n  \
                      flowrun verify order --save-story workflows/tests/order-flaws.test.yaml\n  \
                      flowrun verify -o json | jq '.files[].violations[].title'"
    )]
    Verify(Verify),
    /// Play the scenarios of test files in virtual time.
    #[command(after_help = "Exit codes: 0 everything passed, 1 a scenario failed, 3 a file is not valid.\n\n\
                            Examples:\n  flowrun test\n  flowrun test workflows/tests --filter declined\n  \
                            flowrun test -o json | jq '.files[].scenarios[] | select(.passed | not)'")]
    Test(Test),
    /// Run a workflow and stay until it rests.
    #[command(
        alias = "run",
        after_help = "The output of the run goes to stdout, its progress to stderr. JSON Lines start one run per line.\n\n\
                      Examples:\n  flowrun exec --input examples/order.json\n  \
                      flowrun exec ecommerce-order --input - --id order-17 < order.json\n  \
                      flowrun exec --input orders.jsonl --id '{{ input.orderId }}' --concurrency 16 -o jsonl\n  \
                      flowrun exec --input order.json --set payment.timeout=10s"
    )]
    Exec(Exec),
    /// Continue a run, or all that are unfinished.
    #[command(after_help = "Examples:\n  flowrun resume\n  flowrun resume @last\n  flowrun resume order-17 --no-wait")]
    Resume(Resume),
    /// List runs, newest first.
    #[command(
        alias = "ls",
        after_help = "Examples:\n  flowrun list\n  flowrun list --needs-attention\n  \
                      flowrun list --status failed --limit 100 -o json | jq '.runs[].run_id'"
    )]
    List(List),
    /// Show a run: its status, its steps, what it waits for or owes.
    #[command(
        alias = "status",
        after_help = "Examples:\n  flowrun show @last\n  flowrun show order-17 -o json | jq .steps"
    )]
    Show(OneRun),
    /// Show everything that was recorded of a run.
    #[command(after_help = "Examples:\n  flowrun history @last\n  flowrun history order-17 -o jsonl | jq -r .type")]
    History(OneRun),
    /// Cancel a run and undo what it did.
    #[command(after_help = "Examples:\n  flowrun cancel order-17 --reason 'customer changed their mind'\n  \
                            flowrun cancel order-17 --no-compensate")]
    Cancel(Cancel),
    /// Try again what a run could not undo, or record that a person did.
    #[command(after_help = "Examples:\n  flowrun compensate order-17\n  \
                            flowrun compensate order-17 --mark-done charge --reason 'refunded by hand, ticket 4711'")]
    Compensate(Compensate),
    /// Let a parked run try its failed and unknown steps again.
    #[command(after_help = "Examples:\n  flowrun retry order-17\n  flowrun retry order-17 --from charge")]
    Retry(Retry),
    /// Send a message to a run that waits for it.
    #[command(after_help = "Examples:\n  flowrun signal order-17 payment.settled --input settled.json\n  \
                            echo '{\"ok\":true}' | flowrun signal @last approved --input - --id mail-99")]
    Signal(Signal),
    /// List the handlers that steps can use, or show one.
    #[command(after_help = "Examples:\n  flowrun handlers\n  flowrun handlers payment.charge\n  \
                            flowrun handlers -o json | jq '.handlers[].name'")]
    Handlers(Handlers),
    /// Draw a workflow, or a run with how each step stands.
    #[command(after_help = "Examples:\n  flowrun graph\n  flowrun graph ecommerce-order --format mermaid\n  \
                            flowrun graph --format dot | dot -Tsvg > order.svg")]
    Graph(Graph),
    /// Print the JSON Schema of a kind of file, for editors.
    #[command(after_help = "Examples:\n  flowrun schema > schemas/workflow.schema.json\n  flowrun schema faults")]
    Schema(Schema),
    /// Show what really happened outside, by the services' own book.
    #[command(after_help = "Examples:\n  flowrun ledger\n  flowrun ledger ORD-17 -o json | jq '.entries[].effect'")]
    Ledger(Ledger),
    /// Look after the store.
    #[command(after_help = "Examples:\n  flowrun db check\n  flowrun db backup backups/\n  flowrun db compact\n  \
                            flowrun db export --run order-17 | jq -r .type\n  flowrun db check --store backup.redb")]
    Db(Db),
    /// Measure how many durable steps a second the store's disk gives.
    #[command(
        after_help = "Runs a workflow of six steps that do nothing, in a store of its own beside yours, and beside it a\n\
                            plain log with one sync for all that waits: the floor, which no engine can be faster than.\n\n\
                            Examples:\n  flowrun bench\n  flowrun bench --concurrency 1,16 --runs 1000\n  \
                            flowrun bench -o json | jq '.rows[] | {concurrency, steps_per_s, ratio}'"
    )]
    Bench(Bench),
    /// Serve the runs of a cluster with the handlers of this program.
    #[cfg(feature = "restate")]
    #[command(
        after_help = "Checks every workflow in workflows/ first: a worker that could not run one of them does not begin.\n\
                            Ctrl-C or SIGTERM stops it; what it was doing goes on at another worker, or at the next one.\n\n\
                            Examples:\n  flowrun worker --listen 127.0.0.1:9080 --register http://127.0.0.1:9070\n  \
                            flowrun worker --listen 0.0.0.0:9080 --advertise http://workers.internal:9080 \\\n      \
                            --register http://restate.internal:9070"
    )]
    Worker(Worker),
    /// Print a completion script for a shell.
    #[command(
        after_help = "Examples:\n  flowrun completions bash > ~/.local/share/bash-completion/completions/flowrun\n  \
                            flowrun completions zsh > ~/.zfunc/_flowrun"
    )]
    Completions(Completions),
}

/// `validate`.
#[derive(Debug, Args)]
pub(super) struct Validate {
    /// Workflow files, or folders of them [default: workflows/]
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// Take warnings for errors.
    #[arg(long)]
    pub(super) strict: bool,
    #[command(flatten)]
    pub(super) settings: Settings,
}

/// `verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Workflow files, or folders of them [default: workflows/]
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// Also list what is taken on trust of each handler.
    #[arg(long)]
    pub(super) contracts: bool,
    /// Keep the stories of a workflow's violations as a test file, which fails until they are mended.
    #[arg(long, value_name = "FILE")]
    pub(super) save_story: Option<PathBuf>,
    #[command(flatten)]
    pub(super) settings: Settings,
}

/// `test`.
#[derive(Debug, Args)]
pub(super) struct Test {
    /// Test files, or folders of them and of their folders [default: .]
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// Only scenarios with this in their name.
    #[arg(long, value_name = "NAME")]
    pub(super) filter: Option<String>,
}

/// What changes a workflow's configuration.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Settings {
    /// A YAML or JSON file that is laid over the workflow's config.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Set one value of the config, such as payment.timeout=10s; may be given several times.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(super) sets: Vec<String>,
}

/// How long a verb stays with a run.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Staying {
    /// Return as soon as nothing but waits is left, timed ones included.
    #[arg(long)]
    pub(super) no_wait: bool,
    /// How long running attempts may take to end after Ctrl-C.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) grace: std::time::Duration,
}

/// `exec`.
#[derive(Debug, Args)]
pub(super) struct Exec {
    /// A workflow file, or its name in workflows/; left out, the only one there.
    #[arg(value_name = "WORKFLOW")]
    pub(super) workflow: Option<String>,
    /// The input: a JSON document or JSON Lines; - reads stdin [default: {}]
    #[arg(short, long, value_name = "FILE")]
    pub(super) input: Option<PathBuf>,
    /// The id of the run, or a template for ids such as '{{ input.orderId }}'.
    #[arg(long, value_name = "ID")]
    pub(super) id: Option<String>,
    /// How many runs of a JSON Lines input are under way at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) concurrency: u32,
    /// Take warnings about the workflow for errors.
    #[arg(long)]
    pub(super) strict: bool,
    /// Start nothing unless `flowrun verify` proves the workflow.
    #[arg(long)]
    pub(super) require_proof: bool,
    /// Faults to inject, for trying out what happens.
    #[arg(long, value_name = "FILE")]
    pub(super) faults: Option<PathBuf>,
    #[command(flatten)]
    pub(super) settings: Settings,
    #[command(flatten)]
    pub(super) staying: Staying,
}

/// `resume`.
#[derive(Debug, Args)]
pub(super) struct Resume {
    /// The run: its id, the beginning of it, or @last; left out, all unfinished runs.
    #[arg(value_name = "RUN")]
    pub(super) run: Option<String>,
    /// Faults to inject, for trying out what happens.
    #[arg(long, value_name = "FILE")]
    pub(super) faults: Option<PathBuf>,
    #[command(flatten)]
    pub(super) staying: Staying,
}

/// `list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only runs with this status; may be given several times.
    #[arg(long, value_name = "STATUS", value_parser = ["running", "waiting", "parked", "completed", "failed", "cancelled"])]
    pub(super) status: Vec<String>,
    /// Only runs of this workflow.
    #[arg(long, value_name = "NAME")]
    pub(super) workflow: Option<String>,
    /// Only runs that need a person: parked, or not completely undone.
    #[arg(long)]
    pub(super) needs_attention: bool,
    /// At most so many; --limit N says the same [default: 20]
    #[arg(short = 'n', value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub(super) most: Option<usize>,
}

/// `show` and `history`.
#[derive(Debug, Args)]
pub(super) struct OneRun {
    /// The run: its id, the beginning of it, or @last.
    #[arg(value_name = "RUN", default_value = "@last")]
    pub(super) run: String,
}

/// `cancel`.
#[derive(Debug, Args)]
pub(super) struct Cancel {
    /// The run: its id, the beginning of it, or @last.
    #[arg(value_name = "RUN")]
    pub(super) run: String,
    /// Why; it is recorded.
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Undo nothing; what is owed is listed.
    #[arg(long)]
    pub(super) no_compensate: bool,
    #[command(flatten)]
    pub(super) staying: Staying,
}

/// `compensate`.
#[derive(Debug, Args)]
pub(super) struct Compensate {
    /// The run: its id, the beginning of it, or @last.
    #[arg(value_name = "RUN")]
    pub(super) run: String,
    /// Record that a person undid this step.
    #[arg(long, value_name = "STEP", requires = "reason")]
    pub(super) mark_done: Option<String>,
    /// Only this item of the step, counted from 0.
    #[arg(long, value_name = "N", requires = "mark_done")]
    pub(super) item: Option<u32>,
    /// How it was undone; it is recorded.
    #[arg(long, value_name = "TEXT", requires = "mark_done")]
    pub(super) reason: Option<String>,
    #[command(flatten)]
    pub(super) staying: Staying,
}

/// `retry`.
#[derive(Debug, Args)]
pub(super) struct Retry {
    /// The run: its id, the beginning of it, or @last.
    #[arg(value_name = "RUN")]
    pub(super) run: String,
    /// Only this step.
    #[arg(long, value_name = "STEP")]
    pub(super) from: Option<String>,
    #[command(flatten)]
    pub(super) staying: Staying,
}

/// `signal`.
#[derive(Debug, Args)]
pub(super) struct Signal {
    /// The run: its id, the beginning of it, or @last.
    #[arg(value_name = "RUN")]
    pub(super) run: String,
    /// The signal's name, as a step of the workflow waits for it.
    #[arg(value_name = "NAME")]
    pub(super) name: String,
    /// Its data as JSON; - reads stdin [default: null]
    #[arg(short, long, value_name = "FILE")]
    pub(super) input: Option<PathBuf>,
    /// An id of your own; the same signal sent again with it changes nothing.
    #[arg(long, value_name = "ID")]
    pub(super) id: Option<String>,
}

/// `handlers`.
#[derive(Debug, Args)]
pub(super) struct Handlers {
    /// Only this one, with the schemas of its input and output.
    #[arg(value_name = "NAME")]
    pub(super) name: Option<String>,
}

/// `graph`.
#[derive(Debug, Args)]
pub(super) struct Graph {
    /// A workflow file, its name in workflows/, or a run.
    #[arg(value_name = "WORKFLOW|RUN")]
    pub(super) what: Option<String>,
    /// What it is drawn for.
    #[arg(long = "format", value_enum, default_value = "ascii")]
    pub(super) drawing: Drawing,
}

/// The kinds of drawings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
pub(super) enum Drawing {
    /// A terminal.
    Ascii,
    /// Markdown.
    Mermaid,
    /// Graphviz.
    Dot,
}

/// `schema`.
#[derive(Debug, Args)]
pub(super) struct Schema {
    /// The kind of file.
    #[arg(value_enum, default_value = "workflow")]
    pub(super) kind: SchemaKind,
}

/// The kinds of files that have a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SchemaKind {
    /// Workflow files.
    Workflow,
    /// Scenario files of `flowrun test`.
    Test,
    /// Files of `--faults`.
    Faults,
}

/// `ledger`.
#[derive(Debug, Args)]
pub(super) struct Ledger {
    /// Only what belongs to this order.
    #[arg(value_name = "ORDER")]
    pub(super) order: Option<String>,
}

/// `db`.
#[derive(Debug, Args)]
pub(super) struct Db {
    #[command(subcommand)]
    pub(super) verb: DbVerb,
}

/// What can be done with a store.
#[derive(Debug, Subcommand)]
pub(super) enum DbVerb {
    /// Read all of the store and say whether it is sound. Nothing is written.
    #[command(after_help = "Exit codes: 0 sound, 9 held by another process, 10 damaged, or no store.\n\n\
                            Examples:\n  flowrun db check\n  flowrun db check --store backup.redb\n  \
                            flowrun db check -o json | jq '.problems[]'")]
    Check,
    /// Copy the store, as it is at one moment, also while runs go on.
    #[command(
        after_help = "A file that is there is never replaced; in a folder the copy gets the store's name and the \
                            time.\nThe copy is checked before it gets its name. It is used with --store, or moved to \
                            the place of the store.\n\n\
                            Examples:\n  flowrun db backup monday.redb\n  flowrun db backup backups/"
    )]
    Backup(Backup),
    /// Give space that is no longer used back to the disk. Nobody else may use the store meanwhile.
    #[command(after_help = "Examples:\n  flowrun db compact\n  flowrun db compact --store old.redb")]
    Compact,
    /// Print every event of every run as JSON Lines, newest run first, also while runs go on.
    #[command(after_help = "Each line is an event as `flowrun history -o jsonl` prints it, with its `run_id`. \
                            Secrets are ***.\n\n\
                            Examples:\n  flowrun db export > events.jsonl\n  flowrun db export --run @last\n  \
                            flowrun db export --to events.jsonl")]
    Export(Export),
}

/// `db backup`.
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The file to make, or the folder to make it in.
    #[arg(value_name = "TARGET")]
    pub(super) target: PathBuf,
}

/// `db export`.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// Only this run: its id, the beginning of it, or @last.
    #[arg(long, value_name = "RUN")]
    pub(super) run: Option<String>,
    /// Write to this file, which must not be there yet [default: stdout]
    #[arg(long, value_name = "FILE")]
    pub(super) to: Option<PathBuf>,
}

/// `bench`.
#[derive(Debug, Args)]
pub(super) struct Bench {
    /// How many runs there are at each level [default: 20 for each one in flight, at least 300]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) runs: Option<u64>,
    /// How many runs are in flight at once; one level after the other.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,64,1024", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) concurrency: Vec<u32>,
}

/// `completions`.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub(super) shell: clap_complete::Shell,
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    crate::dsl::duration::parse(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_fits_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_has_an_example() {
        for verb in Cli::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("flowrun {}", verb.get_name())), "`{}` has no example", verb.get_name());
        }
    }

    /// Two options of one name would meet in one command, and only show when that command is typed.
    #[test]
    fn no_verb_reuses_the_name_of_a_global_option() {
        fn names(command: &clap::Command, global: bool) -> Vec<String> {
            let arguments = command.get_arguments().filter(|a| a.is_global_set() == global);
            arguments.map(|a| a.get_id().to_string()).collect()
        }
        let command = Cli::command();
        let global = names(&command, true);
        assert!(global.len() >= 5, "{global:?}");
        for verb in command.get_subcommands() {
            let clash = names(verb, false).into_iter().find(|name| global.contains(name));
            assert_eq!(clash, None, "in `{}`", verb.get_name());
        }
    }

    #[test]
    fn hidden_aliases_work() {
        for (alias, verb) in [("run", "exec"), ("ls", "list"), ("status", "show")] {
            let typed = Cli::try_parse_from(["flowrun", alias]).expect("the alias is known");
            let meant = Cli::try_parse_from(["flowrun", verb]).expect("the verb is known");
            assert_eq!(std::mem::discriminant(&typed.verb), std::mem::discriminant(&meant.verb));
        }
        let help = Cli::command().render_long_help().to_string();
        assert!(!help.contains("  ls ") && !help.contains("[aliases"), "{help}");
    }
}

/// `worker`
#[cfg(feature = "restate")]
#[derive(Debug, Args)]
pub(super) struct Worker {
    /// Where the cluster's calls are taken.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9080")]
    pub(super) listen: std::net::SocketAddr,
    /// The administration interface of the cluster that is to know this worker.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9070")]
    pub(super) register: String,
    /// Where the cluster reaches this worker, if not where it listens: a balancer before several workers, or a name.
    #[arg(long, value_name = "URL")]
    pub(super) advertise: Option<String>,
    /// Faults to inject around handlers.
    #[arg(long, value_name = "FILE")]
    pub(super) faults: Option<PathBuf>,
}
