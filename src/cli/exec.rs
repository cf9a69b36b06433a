//! `exec`: runs a workflow once, or once for each line of its input.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::app::{App, read_text, shown};
use super::args::{Exec, Format};
use super::control::{Need, Rested, Session, Task};
use super::exit_code::ExitCode;
use super::input::{Ids, Input};
use super::output::batch::Batch;
use super::output::paint::Tone;
use super::problem::Problem;
use super::runs::{self, exit_code};
use super::workflow::{self, Wanted};
use crate::dsl::json::read_json;
use crate::engine::Workflow;
use crate::faults::Faults;
use crate::payload::Payload;

pub(super) async fn exec(app: &App, args: &Exec) -> Result<ExitCode, Problem> {
    let ids = Ids::parse(args.id.as_deref())?;
    let path = workflow::find(args.workflow.as_deref())?;
    let wanted = Wanted { strict: args.strict, proof: args.require_proof };
    let workflow = workflow::ready(app, &path, &args.settings, wanted)?;
    let faults = faults(app, args.faults.as_deref())?;
    if let Some(faults) = &faults {
        let misses = faults.check(&workflow.plan);
        if !misses.is_empty() {
            let file = args.faults.as_deref().map_or_else(String::new, shown);
            return Err(
                Problem::invalid(format!("{file}: some faults can never happen in this workflow")).details(misses)
            );
        }
    }
    let input = Input::open(app, args.input.as_deref())?;
    let need = Need::Run { create: true, faults, grace: args.staying.grace };
    match input {
        Input::One(input) => {
            let id = ids.of(&input, &app.limits)?;
            let unfit = |problem: Problem| {
                let bare = problem.exit == ExitCode::Invalid && problem.help.is_none() && args.input.is_none();
                if bare { problem.help("Give the input with --input FILE.") } else { problem }
            };
            // A store that is there may know the id; none is made for what cannot start.
            if !app.global.store.exists() {
                workflow.check_start(&Payload::of(input.clone())).map_err(|error| unfit(error.into()))?;
            }
            let session = open(app, need).await?;
            session.keep(&workflow).await;
            let task = Task::Submit { definition: Box::new(workflow.definition.clone()), input, id };
            let rested = runs::stay_with(app, &session, task, args.staying.stay()).await;
            let closed = session.close().await;
            let rested = rested.map_err(unfit)?;
            let code = runs::finish(app, &session, &rested)?;
            closed?;
            Ok(code)
        }
        Input::Lines(_) if ids.is_literal() => {
            Err(Problem::usage("--id must be a template for JSON Lines, or all runs would have the same id")
                .help("For example: --id '{{ input.orderId }}'"))
        }
        Input::Lines(lines) => {
            let many = Many {
                app,
                args,
                ids,
                workflow,
                batch: Batch::new(&app.screen),
                out: Out::new(app),
                codes: Vec::new(),
                interrupted: None,
            };
            many.all(lines, need).await
        }
    }
}

async fn open(app: &App, need: Need) -> Result<Session, Problem> {
    let session = Session::open(app, need).await?;
    session.ok_or_else(|| Problem::bug("a store that was to be made is not there"))
}

/// Reads the faults to inject.
pub(super) fn faults(app: &App, path: Option<&Path>) -> Result<Option<Arc<Faults>>, Problem> {
    let Some(path) = path else { return Ok(None) };
    let text = read_text(path, "definition_bytes", app.limits.definition_bytes)?;
    let faults = Faults::parse(&text, &app.limits)
        .map_err(|problems| Problem::invalid(format!("{} is no file of faults", shown(path))).details(problems))?;
    Ok(Some(Arc::new(faults)))
}

/// Many runs of one workflow.
struct Many<'a> {
    app: &'a App,
    args: &'a Exec,
    ids: Ids,
    workflow: Arc<Workflow>,
    batch: Batch,
    out: Out<'a>,
    codes: Vec<ExitCode>,
    interrupted: Option<ExitCode>,
}

type Line = (u64, Result<String, Problem>);
type Ended = (u64, Result<Rested, Problem>);

impl Many<'_> {
    /// Runs all lines, and returns the exit code for them.
    async fn all(mut self, mut lines: mpsc::Receiver<Line>, need: Need) -> Result<ExitCode, Problem> {
        // No store is made for lines of which none can start; one that is there may know their ids.
        let mut first = None;
        while first.is_none() && !self.app.global.store.exists() {
            let Some((number, line)) = lines.recv().await else { return self.end() };
            match self.read(line).and_then(|task| self.can_start(task)) {
                Ok(task) => first = Some((number, task)),
                Err(problem) => self.refused(number, &problem),
            }
        }
        let session = Arc::new(open(self.app, need).await?);
        session.keep(&self.workflow).await;
        let done = self.run(first, lines, &session).await;
        self.interrupted = session.interrupted();
        let closed = session.close().await;
        let code = self.end();
        done?;
        closed?;
        code
    }

    /// Starts a run for each line, so many at once, and shows each as it rests.
    async fn run(
        &mut self,
        first: Option<(u64, Task)>,
        mut lines: mpsc::Receiver<Line>,
        session: &Arc<Session>,
    ) -> Result<(), Problem> {
        let most = usize::try_from(self.args.concurrency).unwrap_or(usize::MAX);
        let mut runs: JoinSet<Ended> = JoinSet::new();
        let mut open = true;
        if let Some((number, task)) = first {
            self.start(&mut runs, session, number, Ok(task));
        }
        let mut interruption = std::pin::pin!(session.interruption());
        while open || !runs.is_empty() {
            tokio::select! {
                line = lines.recv(), if open && runs.len() < most => match line {
                    Some((number, line)) => {
                        let task = self.read(line);
                        self.start(&mut runs, session, number, task);
                    }
                    None => open = false,
                },
                Some(ended) = runs.join_next() => {
                    let (line, ended) = ended.map_err(|e| Problem::bug(format!("a run was lost: {e}")))?;
                    open &= self.ended(line, ended, session)?;
                }
                () = &mut interruption, if open => open = false,
            }
        }
        Ok(())
    }

    /// Reads a line as a run to be started.
    fn read(&self, line: Result<String, Problem>) -> Result<Task, Problem> {
        let limits = &self.app.limits;
        let input = read_json(line?.trim_end(), limits)
            .map_err(|e| Problem::invalid(format!("column {}: {}", e.column, e.message)))?;
        let id = self.ids.of(&input, limits)?;
        Ok(Task::Submit { definition: Box::new(self.workflow.definition.clone()), input, id })
    }

    /// Checks what can be checked without a store.
    fn can_start(&self, task: Task) -> Result<Task, Problem> {
        if let Task::Submit { input, .. } = &task {
            self.workflow.check_start(&Payload::of(input.clone()))?;
        }
        Ok(task)
    }

    fn start(&mut self, runs: &mut JoinSet<Ended>, session: &Arc<Session>, number: u64, task: Result<Task, Problem>) {
        let session = Arc::clone(session);
        let stay = self.args.staying.stay();
        runs.spawn(async move {
            match task {
                Ok(task) => (number, session.run(task, stay, false, &mut |_| {}).await),
                Err(problem) => (number, Err(problem)),
            }
        });
    }

    /// Notes how a run ended; returns whether more may be started.
    fn ended(&mut self, line: u64, ended: Result<Rested, Problem>, session: &Session) -> Result<bool, Problem> {
        match ended {
            Ok(rested) => {
                self.batch.rested(&rested.report);
                self.out.run(&rested)?;
                self.codes.push(exit_code(&rested.report));
                Ok(true)
            }
            Err(problem) if session.interrupted().is_some() => {
                tracing::debug!(line, %problem.message, "not started");
                Ok(false)
            }
            Err(problem) => {
                self.refused(line, &problem);
                // A store that has failed fails for every line.
                Ok(!matches!(problem.exit, ExitCode::Store | ExitCode::Bug))
            }
        }
    }

    fn refused(&mut self, line: u64, problem: &Problem) {
        self.batch.refused(line, problem);
        self.codes.push(problem.exit);
    }

    fn end(self) -> Result<ExitCode, Problem> {
        self.out.end()?;
        self.batch.end();
        if let Some(code) = self.interrupted {
            let paint = self.app.screen.err;
            let next = self.app.screen.command("resume");
            self.app.screen.say(&format!(
                "{}     {}",
                paint.text(Tone::Quiet, "next"),
                paint.text(Tone::Strong, &next)
            ));
            return Ok(code);
        }
        Ok(ExitCode::of_several(self.codes))
    }
}

/// Writes each run to stdout as soon as it rests.
struct Out<'a> {
    app: &'a App,
    written: u64,
}

impl<'a> Out<'a> {
    fn new(app: &'a App) -> Self {
        Self { app, written: 0 }
    }

    fn run(&mut self, rested: &Rested) -> Result<(), Problem> {
        let report = || serde_json::to_value(&rested.report).unwrap_or(Value::Null);
        let text = match self.app.screen.format {
            Format::Text => match &rested.report.output {
                Some(output) => format!("{output}\n"),
                None => return Ok(()),
            },
            Format::Jsonl => format!("{}\n", report()),
            // One object around all of them, without waiting for the last.
            Format::Json if self.written == 0 => format!("{{\"v\":1,\"runs\":[\n{}", report()),
            Format::Json => format!(",\n{}", report()),
        };
        self.written += 1;
        self.app.screen.answer(&text)
    }

    fn end(&self) -> Result<(), Problem> {
        match (self.app.screen.format, self.written) {
            (Format::Json, 0) => self.app.screen.answer("{\"v\":1,\"runs\":[]}\n"),
            (Format::Json, _) => self.app.screen.answer("\n]}\n"),
            (Format::Text | Format::Jsonl, _) => Ok(()),
        }
    }
}
