//! `exec`: runs a workflow once, or once for each line of its input.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::app::{App, read_text, shown};
use super::args::{Exec, Format};
use super::control::{Need, Rested, Session, Task};
use super::exit_code::ExitCode;
use super::input::{Ids, Input, Line};
use super::output::batch::{Batch, NOW_AND_THEN};
use super::output::screen::shell_word;
use super::problem::Problem;
use super::runs::{self, exit_code};
use super::workflow::{self, Wanted};
use crate::dsl::json::read_json;
use crate::engine::Workflow;
use crate::faults::Faults;
use crate::payload::Payload;
use crate::time::{Clock as _, SystemClock};

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
            if !app.global.has_runs() {
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
        Input::Lines { .. } if ids.is_literal() => {
            Err(Problem::usage("--id must be a template for JSON Lines, or all runs would have the same id")
                .help("For example: --id '{{ input.orderId }}'"))
        }
        Input::Lines { lines, bytes } => {
            let many = Many {
                app,
                args,
                ids,
                workflow,
                batch: Batch::of_lines(&app.screen, bytes),
                out: Out::new(app),
                codes: Vec::new(),
                interrupted: None,
                taken: 0,
                not_begun: BTreeSet::new(),
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
    /// The exit codes of the runs, each once.
    codes: Vec<ExitCode>,
    interrupted: Option<ExitCode>,
    /// The number of the last line that was looked at.
    taken: u64,
    /// Lines up to that one that the interruption came before.
    not_begun: BTreeSet<u64>,
}

/// A line whose run rests, or of which none was made: its number, its bytes, and what came of it.
type Ended = (u64, u64, Result<Rested, Problem>);

/// A line that is a run to be started, or none.
type Ready = (u64, u64, Result<Task, Problem>);

impl Many<'_> {
    /// Runs all lines, and returns the exit code for them.
    async fn all(mut self, mut lines: mpsc::Receiver<Line>, need: Need) -> Result<ExitCode, Problem> {
        // No store is made for lines of which none can start; one that is there may know their ids.
        let mut first = None;
        while first.is_none() && !self.app.global.has_runs() {
            let Some(line) = lines.recv().await else { return self.end() };
            let (number, bytes, task) = self.read(line);
            match task.and_then(|task| self.can_start(task)) {
                Ok(task) => first = Some((number, bytes, Ok(task))),
                Err(problem) => self.refused(number, bytes, &problem),
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
        first: Option<Ready>,
        mut lines: mpsc::Receiver<Line>,
        session: &Arc<Session>,
    ) -> Result<(), Problem> {
        let most = usize::try_from(self.args.concurrency).unwrap_or(usize::MAX);
        let mut runs: JoinSet<Ended> = JoinSet::new();
        let mut open = true;
        if let Some(first) = first {
            self.start(&mut runs, session, first);
        }
        let mut interruption = std::pin::pin!(session.interruption());
        let now_and_then = || SystemClock.sleep_until(SystemClock.now().after(NOW_AND_THEN));
        let mut next_word = now_and_then();
        while open || !runs.is_empty() {
            tokio::select! {
                line = lines.recv(), if open && runs.len() < most => match line {
                    Some(line) => {
                        let ready = self.read(line);
                        self.start(&mut runs, session, ready);
                    }
                    None => open = false,
                },
                Some(ended) = runs.join_next() => {
                    open &= self.ended(ended.map_err(|e| Problem::bug(format!("a run was lost: {e}")))?)?;
                }
                () = &mut next_word => {
                    self.batch.now_and_then();
                    next_word = now_and_then();
                }
                () = &mut interruption, if open => open = false,
            }
        }
        Ok(())
    }

    /// Reads a line as a run to be started.
    fn read(&mut self, line: Line) -> Ready {
        self.taken = line.number;
        let limits = &self.app.limits;
        let task = |text: String| {
            let input = read_json(text.trim_end(), limits)
                .map_err(|e| Problem::invalid(format!("column {}: {}", e.column, e.message)))?;
            let id = self.ids.of(&input, limits)?;
            Ok(Task::Submit { definition: Box::new(self.workflow.definition.clone()), input, id })
        };
        (line.number, line.bytes, line.text.and_then(task))
    }

    /// Checks what can be checked without a store.
    fn can_start(&self, task: Task) -> Result<Task, Problem> {
        if let Task::Submit { input, .. } = &task {
            self.workflow.check_start(&Payload::of(input.clone()))?;
        }
        Ok(task)
    }

    fn start(&mut self, runs: &mut JoinSet<Ended>, session: &Arc<Session>, (number, bytes, task): Ready) {
        let session = Arc::clone(session);
        let stay = self.args.staying.stay();
        runs.spawn(async move {
            match task {
                Ok(task) => (number, bytes, session.run(task, stay, false, &mut |_| {}).await),
                Err(problem) => (number, bytes, Err(problem)),
            }
        });
    }

    /// Notes how a run ended; returns whether more may be started.
    fn ended(&mut self, (line, bytes, ended): Ended) -> Result<bool, Problem> {
        match ended {
            Ok(rested) => {
                self.batch.passed(bytes);
                self.batch.rested(Some(line), &rested.report);
                self.out.run(&rested)?;
                self.note(exit_code(&rested.report));
                Ok(true)
            }
            Err(problem) if matches!(problem.exit, ExitCode::Interrupted | ExitCode::Terminated) => {
                // Another process that was asked may have begun it, and goes on with it then.
                if problem.untouched {
                    self.not_begun.insert(line);
                }
                Ok(false)
            }
            Err(problem) => {
                self.refused(line, bytes, &problem);
                // A store that has failed fails for every line.
                Ok(!matches!(problem.exit, ExitCode::Store | ExitCode::Bug))
            }
        }
    }

    fn refused(&mut self, line: u64, bytes: u64, problem: &Problem) {
        self.batch.passed(bytes);
        self.batch.refused(line, problem);
        self.note(problem.exit);
    }

    fn note(&mut self, code: ExitCode) {
        if !self.codes.contains(&code) {
            self.codes.push(code);
        }
    }

    fn end(self) -> Result<ExitCode, Problem> {
        self.out.end()?;
        self.batch.end();
        let Some(code) = self.interrupted else { return Ok(ExitCode::of_several(self.codes)) };
        let screen = &self.app.screen;
        let lines: Vec<String> = self.not_begun.iter().map(u64::to_string).collect();
        let before = if lines.is_empty() { String::new() } else { format!("{} and ", lines.join(", ")) };
        screen.say(&format!("interrupted: what was begun is saved; lines {before}from {} on were not", self.taken + 1));
        screen.next("next", &screen.command("resume"));
        match (&self.ids, self.args.input.as_deref().filter(|path| path.as_os_str() != "-")) {
            // What has the same id is the same run.
            (Ids::Template(_), Some(_)) => screen.next("then", screen.called()),
            (Ids::Template(_), None) => screen.say("then the same command with the same input: no line is run twice"),
            (_, Some(path)) => {
                let wanted: String = lines.iter().map(|line| format!("{line}p;")).collect();
                let file = shell_word(&path.to_string_lossy());
                let rest = format!("sed -n '{wanted}{},$p' {file} > rest.jsonl", self.taken + 1);
                screen.next("then", &rest);
                screen.say("         and the same command with --input rest.jsonl");
            }
            (_, None) => {}
        }
        Ok(code)
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
