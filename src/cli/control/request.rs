//! What can be asked of whoever holds the store, and the answers: the language of the control socket.
//!
//! One JSON document a line. A connection carries one request; notices may come before the answer.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::args::Drawing;
use crate::cli::problem::Problem;
use crate::definition::Definition;
use crate::engine::export::{ExportAt, Exported};
use crate::engine::report::RunReport;
use crate::engine::view::RunSummary;
use crate::machine::event::Entry;
use crate::names::RunKey;
use crate::store::copy::Copied;

/// The version of this language. A holder of another one is not talked to.
pub(super) const VERSION: u32 = 1;

/// Something that is asked of the holder of the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Request {
    /// Runs, newest first.
    List { statuses: Vec<String>, workflow: Option<String>, needs_attention: bool, limit: usize },
    /// One run.
    Show { run: String },
    /// Everything that was recorded of a run.
    History { run: String },
    /// A copy of the store, made by its holder at an absolute path.
    Backup { to: PathBuf },
    /// A page of the events of all runs, or of one.
    Export { run: Option<String>, at: Option<ExportAt> },
    /// A drawing of a run's workflow.
    Graph { run: String, format: Drawing, width: usize },
    /// Something done to one run.
    Run { task: Task, stay: Stay, watch: bool },
    /// Every unfinished run taken over.
    ResumeAll { stay: Stay, watch: bool },
}

/// What is done to one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Task {
    /// It is started.
    Submit { definition: Box<Definition>, input: Value, id: Option<String> },
    /// It goes on.
    Resume { run: String },
    /// It gets a message.
    Signal { run: String, id: Option<String>, name: String, data: Value },
    /// It is cancelled.
    Cancel { run: String, reason: Option<String>, compensate: bool },
    /// A parked run tries again.
    Retry { run: String, from: Option<String> },
    /// What it owes is tried again.
    Compensate { run: String },
    /// A repair by hand is recorded.
    MarkDone { run: String, step: String, item: Option<u32>, reason: String },
}

/// How long somebody stays with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Stay {
    /// Not at all: what was asked for is durable.
    No,
    /// Until nothing but waits is left.
    UntilWaits,
    /// Until nothing but waits without a time is left.
    UntilIdle,
}

/// What the holder of the store says to a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Answer {
    /// Runs.
    Runs(Vec<RunSummary>),
    /// One run.
    Report(Box<RunReport>),
    /// Events, for people and for programs.
    History { entries: Vec<(u64, Entry)>, json: Vec<Value> },
    /// What a copy of the store holds.
    Copied(Copied),
    /// A page of events.
    Exported(Exported),
    /// A drawing.
    Text(String),
    /// A run after something was done to it.
    Rested(Box<Rested>),
    /// Several runs after they were taken over, and what kept others from it.
    AllRested { rested: Vec<Rested>, left_alone: Vec<Problem> },
}

/// A run after something was done to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::cli) struct Rested {
    /// How it stands.
    pub(in crate::cli) report: RunReport,
    /// It was final before anything was asked.
    pub(in crate::cli) was_final: bool,
    /// It was put down because the process that drove it is ending.
    pub(in crate::cli) put_down: bool,
}

/// An event of a run, durable.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::cli) struct Happened {
    /// The run.
    pub(in crate::cli) run: RunKey,
    /// Its id.
    pub(in crate::cli) id: String,
    /// The event.
    pub(in crate::cli) entry: Entry,
}

/// What is said before the answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Notice {
    /// What was asked of the run with this id is durable.
    Taken(String),
    /// Something happened to a run.
    Happened(Box<Happened>),
}

/// How a request ended: with an answer, a problem, or without either because the holder went away.
#[derive(Clone, Debug)]
pub(in crate::cli) enum Asked {
    /// The answer.
    Answered(Answer),
    /// What kept it from being done.
    Problem(Problem),
    /// The holder ended before it answered.
    Lost,
    /// The holder is ending, and has done nothing of it.
    Leaving,
}

/// A line from the holder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// The first line: who answers.
    Hello {
        flowrun: u32,
        pid: u32,
        /// The device and the number of the store's file.
        store: (u64, u64),
    },
    /// Before the answer.
    Notice(Notice),
    /// The last line.
    Answer(Box<Answer>),
    /// The last line.
    Problem(Problem),
    /// The last line: nothing was done, and the holder is ending.
    Leaving,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn good() -> Vec<Vec<u8>> {
        let signal = Task::Signal {
            run: "order-1".into(),
            id: Some("s".into()),
            name: "payment.settled".into(),
            data: json!({ "a": [1, "\u{e4}"] }),
        };
        let definition = Definition {
            path: "a.yaml".into(),
            text: "flowrun: 1".into(),
            files: indexmap::IndexMap::new(),
            config: json!({}),
        };
        let submit = Task::Submit { definition: Box::new(definition), input: json!({ "n": u64::MAX }), id: None };
        [signal, submit, Task::Retry { run: "x".into(), from: Some("charge".into()) }]
            .map(|task| {
                serde_json::to_vec(&Request::Run { task, stay: Stay::UntilIdle, watch: true }).expect("it is JSON")
            })
            .into()
    }

    /// Whatever comes over the socket is a request that can be said again, or none.
    fn read(bytes: &[u8]) {
        if let Ok(request) = serde_json::from_slice::<Request>(bytes) {
            let again = serde_json::to_vec(&request).expect("a request is JSON");
            assert!(serde_json::from_slice::<Request>(&again).is_ok());
        }
        let _ = serde_json::from_slice::<Line>(bytes);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn f14_whatever_comes_over_the_socket_is_answered(
            which in 0..3_usize,
            at in any::<prop::sample::Index>(),
            less in 0..6_usize,
            new in prop::collection::vec(any::<u8>(), 0..6),
        ) {
            let mut bytes = good().swap_remove(which);
            read(&bytes);
            let from = at.index(bytes.len());
            let to = (from + less).min(bytes.len());
            bytes.splice(from..to, new.clone());
            read(&bytes);
            read(&new);
        }
    }

    #[test]
    fn f02_deep_requests_are_refused_without_recursion() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        let text = String::from_utf8(good().swap_remove(0)).expect("it is text").replace("[1,\"\u{e4}\"]", &deep);
        assert!(text.contains("[[[["));
        let error = serde_json::from_str::<Request>(&text).expect_err("it is too deep");
        assert!(error.to_string().contains("recursion limit"), "{error}");
    }
}
