//! `flowrun test`: scenarios of a workflow, played in virtual time.
//!
//! It owns test files, the lives of a scenario's process, crash sweeps and the judgement; it drives the same engine,
//! machine and handlers as everything else, and knows nothing of their insides.
//!
//! `read` makes cases of a file, `fit` holds them against the workflow, `play` plays one through, `judge` says whether
//! it ended as expected, `show` tells.

mod clock;
mod file;
mod fit;
pub(crate) mod judge;
pub(crate) mod play;
pub(crate) mod read;
pub(crate) mod rules;
mod show;
pub mod story;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use self::judge::Effects;
use self::play::{Committed, CrashPoint, Ending, Script};
use self::read::{Case, Suite};
use self::story::Story;
use crate::check;
use crate::definition::{Definition, Overrides};
use crate::diag::{Finding, FindingCode, Severity, SourceFile, in_file_order};
use crate::dsl::Part;
use crate::dsl::document::Document;
use crate::engine::{Moment, Workflow};
use crate::handlers::{Contracts, Registry};
use crate::limits::Limits;
use crate::plan::Plan;
use crate::rehearsal::{self, Beyond, Performed};
use crate::verify::sketch::Sketch;

pub use self::file::test_schema;
pub use self::judge::Mismatch;

/// What test files end with.
pub const SUFFIX: &str = ".test.yaml";

/// How many differing crash points of one scenario are told.
const CRASHES_TOLD: usize = 3;

/// What `flowrun test` can be told.
#[derive(Clone, Debug, Default)]
pub struct TestOptions {
    /// Only scenarios with this in their name.
    pub filter: Option<String>,
    /// Takes up every scenario from every so manieth prefix of its journals, whatever it says of crashes and instead of
    /// them; from none if this is 0.
    pub prefixes: usize,
    /// The limits in force.
    pub limits: Limits,
}

/// What came of all files.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The files, in the order given.
    pub files: Vec<FileResult>,
}

/// A file that is not valid, and its findings.
pub type Invalid = (SourceFile, Vec<Finding>);

/// What came of one file.
#[derive(Clone, Debug)]
pub struct FileResult {
    /// Its path.
    pub path: PathBuf,
    /// What is wrong with it or its workflow, with the files that the findings are in.
    pub findings: Vec<Invalid>,
    /// Its scenarios; none if the file is not valid.
    pub scenarios: Vec<ScenarioResult>,
}

/// What came of a scenario.
#[derive(Clone, Debug)]
pub struct ScenarioResult {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub description: Option<String>,
    /// How long it took in its own time.
    pub took: Duration,
    /// How many times it was repeated with a crash.
    pub crash_points: usize,
    /// From how many prefixes of its journals it was taken up.
    pub prefixes: usize,
    /// What is not as expected; nothing if it passed.
    pub failures: Vec<Failure>,
}

/// What is not as expected, in one playthrough.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Where the process was killed; nothing for the undisturbed playthrough.
    pub crash: Option<String>,
    /// What is not as expected.
    pub mismatches: Vec<Mismatch>,
    /// Each run's events in short.
    pub histories: Vec<Vec<String>>,
}

impl ScenarioResult {
    /// Tells whether everything was as expected.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

impl Summary {
    /// Returns how many scenarios passed and failed.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let all = || self.files.iter().flat_map(|f| &f.scenarios);
        (all().filter(|s| s.passed()).count(), all().filter(|s| !s.passed()).count())
    }

    /// Returns 0 if everything passed, 1 if a scenario failed, 3 if a file is not valid.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.files.iter().any(|f| !f.findings.is_empty()) { 3 } else { u8::from(self.counts().1 > 0) }
    }
}

/// Returns the test files among and below `paths`, sorted; a path that names a file is taken as it is.
///
/// # Errors
/// When a path cannot be read.
pub fn find_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = paths.iter().rev().cloned().collect();
    while let Some(path) = open.pop() {
        let told = |error: std::io::Error| format!("{}: {error}", path.display());
        let meta = std::fs::metadata(&path).map_err(told)?;
        if !meta.is_dir() {
            found.push(path);
            continue;
        }
        let mut below = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(told)? {
            let entry = entry.map_err(told)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if (is_dir && !name.starts_with('.') && name != "target") || (!is_dir && name.ends_with(SUFFIX)) {
                below.push(entry.path());
            }
        }
        below.sort_unstable_by(|a, b| b.cmp(a));
        open.extend(below);
    }
    Ok(found)
}

/// Plays the scenarios of test files.
#[must_use]
pub fn run_files(paths: &[PathBuf], registry: &Registry, options: &TestOptions) -> Summary {
    // Each life is an async runtime, and none can be started where another one runs: so on a thread of its own.
    let all = || paths.iter().map(|path| run_file(path, registry, options)).collect();
    let files = std::thread::scope(|scope| scope.spawn(all).join());
    match files {
        Ok(files) => Summary { files },
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn run_file(path: &Path, registry: &Registry, options: &TestOptions) -> FileResult {
    each_case(path, registry, options, |script, effects| match &script.case.story {
        Some(story) => run_story(script, story, effects),
        None => run_case(script, effects, options.prefixes),
    })
}

/// Plays the scenarios of a file by `play`.
pub(crate) fn each_case(
    path: &Path,
    registry: &Registry,
    options: &TestOptions,
    mut play: impl FnMut(Script<'_>, &Effects) -> ScenarioResult,
) -> FileResult {
    let mut result = FileResult { path: path.to_path_buf(), findings: Vec::new(), scenarios: Vec::new() };
    let contracts = registry.contracts();
    let prepared = read::read(path, &options.limits)
        .map_err(|refused| vec![refused])
        .and_then(|suite| prepare(&suite, &contracts, &options.limits).map(|workflows| (suite, workflows)));
    let (suite, workflows) = match prepared {
        Ok(prepared) => prepared,
        Err(findings) => {
            result.findings = findings;
            return result;
        }
    };
    let effects = Effects::of(&contracts);
    for (case, workflow) in suite.cases.iter().zip(&workflows) {
        if options.filter.as_ref().is_some_and(|part| !case.name.contains(part.as_str())) {
            continue;
        }
        let script = Script { case, workflow, registry, limits: &options.limits, secrets: None, watch: None };
        result.scenarios.push(play(script, &effects));
    }
    result
}

/// Compiles the workflow of each case with the case's configuration, and holds the case against it.
fn prepare(suite: &Suite, contracts: &Contracts, limits: &Limits) -> Result<Vec<Arc<Workflow>>, Vec<Invalid>> {
    let mut known: HashMap<String, Arc<Workflow>> = HashMap::new();
    let mut workflows = Vec::new();
    let mut own: Vec<Finding> = Vec::new();
    for case in &suite.cases {
        let key = case.config.as_ref().map_or_else(String::new, ToString::to_string);
        let workflow = match known.get(&key) {
            Some(workflow) => Arc::clone(workflow),
            None => {
                let workflow = match compile(suite, case, contracts, limits) {
                    Ok(workflow) => Arc::new(workflow),
                    Err(Uncompiled::Case(finding)) => {
                        own.push(*finding);
                        continue;
                    }
                    Err(Uncompiled::Workflow(source, findings)) => return Err(vec![(*source, findings)]),
                };
                known.insert(key, Arc::clone(&workflow));
                workflow
            }
        };
        own.extend(fit::fit(suite, case, &workflow, contracts, limits));
        workflows.push(workflow);
    }
    if own.is_empty() {
        return Ok(workflows);
    }
    in_file_order(&mut own);
    Err(vec![(suite.source.clone(), own)])
}

enum Uncompiled {
    /// The case's configuration does not fit, or there is no such workflow.
    Case(Box<Finding>),
    /// The workflow has errors of its own.
    Workflow(Box<SourceFile>, Vec<Finding>),
}

fn compile(suite: &Suite, case: &Case, contracts: &Contracts, limits: &Limits) -> Result<Workflow, Uncompiled> {
    let at = |pointer: &str, part| suite.tree.span(pointer, part);
    let own = |code, pointer: &str, message: String, help: Option<String>| {
        Uncompiled::Case(Box::new(Finding::error(code, at(pointer, Part::Value), message).help_if(help)))
    };
    let overrides = Overrides { config: case.config.clone(), sets: Vec::new() };
    let (loaded, mut findings, source) = Definition::load_with_source(&suite.workflow, &overrides, limits);
    if let Some(unreadable) = findings.iter().find(|f| f.code == FindingCode::Unreadable && f.span.len == 0) {
        let message = format!("workflow {}: {}", suite.workflow.display(), unreadable.message);
        return Err(own(FindingCode::Unreadable, "/workflow", message, None));
    }
    if let Some(misfit) = findings.iter().find(|f| f.code == FindingCode::BadOverride) {
        let message = misfit.message.replace("`--config`: ", "");
        return Err(own(FindingCode::BadOverride, &case.places.config, message, misfit.help.clone()));
    }
    if let Some(loaded) = &loaded {
        findings.extend(check::check(loaded, contracts));
    }
    let errors = |findings: Vec<Finding>| -> Vec<Finding> {
        findings.into_iter().filter(|f| f.severity == Severity::Error).collect()
    };
    let mut wrong = errors(findings);
    if let (Some(loaded), true) = (&loaded, wrong.is_empty()) {
        match Workflow::compile(loaded, contracts) {
            Ok(workflow) => return Ok(workflow),
            Err(findings) => wrong = findings,
        }
    }
    // A setting that does not fit only with this configuration is the scenario's mistake.
    if let (Some(config), Some(misfit)) = (&case.config, wrong.iter().find(|f| f.code == FindingCode::SettingMisfit)) {
        let message = format!("with `config: {config}` the workflow is not valid: {}", misfit.message);
        return Err(own(FindingCode::BadOverride, &case.places.config, message, misfit.help.clone()));
    }
    in_file_order(&mut wrong);
    Err(Uncompiled::Workflow(Box::new(source), wrong))
}

fn run_case(script: Script<'_>, effects: &Effects, prefixes: usize) -> ScenarioResult {
    let case = script.case;
    let calm = play::play(script, None);
    let wrong = judge::judge(case, &calm, effects, script.limits, false);
    let mut result = ScenarioResult {
        name: case.name.clone(),
        description: case.description.clone(),
        took: calm.took,
        crash_points: 0,
        prefixes: 0,
        failures: Vec::new(),
    };
    if !wrong.is_empty() {
        result.failures.push(Failure { crash: None, mismatches: wrong, histories: calm.histories });
        return result;
    }
    if case.crash && prefixes == 0 {
        let points = crash_points(&calm);
        (result.crash_points, result.failures) = sweep(script, &calm, &points, effects);
    }
    if prefixes > 0 {
        let points: Vec<_> =
            prefix_points(&calm).into_iter().skip(case.name.len() % prefixes).step_by(prefixes).collect();
        let (played, failures) = sweep(script, &calm, &points, effects);
        result.prefixes = played;
        result.failures.extend(failures);
    }
    result
}

/// Plays a story. Its names were found in the workflow before.
fn run_story(script: Script<'_>, story: &Story, effects: &Effects) -> ScenarioResult {
    let case = script.case;
    let (took, failures) = match played_story(script, story) {
        Ok((performed, sketch)) => {
            let mut wrong = judge::judge(case, &performed.ending, effects, script.limits, false);
            wrong.extend(case.expect.flaws.iter().flat_map(|flaws| judge::flaws(flaws, &performed.problems, &sketch)));
            let histories = performed.ending.histories;
            let failure = (!wrong.is_empty()).then_some(Failure { crash: None, mismatches: wrong, histories });
            (performed.ending.took, failure.into_iter().collect())
        }
        Err(why) => {
            let wrong = vec![Mismatch::said("story", format!("it cannot be played: {why}"))];
            (Duration::ZERO, vec![Failure { crash: None, mismatches: wrong, histories: Vec::new() }])
        }
    };
    let (name, description) = (case.name.clone(), case.description.clone());
    ScenarioResult { name, description, took, crash_points: 0, prefixes: 0, failures }
}

fn played_story(script: Script<'_>, story: &Story) -> Result<(Performed, Sketch), String> {
    let (loaded, _) = script.workflow.definition.clone().reopen(script.limits);
    let document = loaded.ok_or("the workflow cannot be read")?.parsed.document;
    perform(&script.workflow.plan, &document, story)
}

/// Plays a story, and returns the sketch of the workflow that it was played with.
///
/// # Errors
/// Why it cannot be played.
pub(crate) fn perform(plan: &Plan, document: &Document, story: &Story) -> Result<(Performed, Sketch), String> {
    let mut sketch = Sketch::of(plan, document);
    let told = |misfits: Vec<story::Misfit>| misfits.into_iter().map(|m| m.message).collect::<Vec<_>>().join("; ");
    let course = story.course(plan, &mut sketch).map_err(told)?;
    let performed = rehearsal::perform(plan, document, &sketch, &course, Beyond::Well);
    Ok((performed.map_err(|why| why.to_string())?, sketch))
}

/// Plays a scenario with a crash at each point, on all processors. Returns how many points were played, and the first
/// failures in the order of the points.
fn sweep(
    script: Script<'_>,
    calm: &Ending,
    points: &[(CrashPoint, String)],
    effects: &Effects,
) -> (usize, Vec<Failure>) {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some((point, text)) = points.get(n) else { return };
            if failures.lock().len() >= CRASHES_TOLD {
                // Points are taken in order: those before this one are being played.
                next.fetch_sub(1, Ordering::Relaxed);
                return;
            }
            let crashed = play::play(script, Some(*point));
            let mut wrong = if script.case.crash && !matches!(point, CrashPoint::Part { whole: false, .. }) {
                let mut wrong = judge::judge(script.case, &crashed, effects, script.limits, true);
                wrong.extend(judge::compare(calm, &crashed, effects));
                wrong
            } else {
                crashed.problems.iter().map(|problem| Mismatch::said("scenario", problem.clone())).collect()
            };
            wrong.extend(rules::broken(&script.workflow.plan, &crashed, effects));
            if !crashed.crashed {
                wrong.push(Mismatch::said("scenario", "the crash point was not reached".to_owned()));
            }
            if !wrong.is_empty() {
                let failure = Failure { crash: Some(text.clone()), mismatches: wrong, histories: crashed.histories };
                failures.lock().insert(n, failure);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let played = next.into_inner().min(points.len());
    (played, failures.into_inner().into_values().take(CRASHES_TOLD).collect())
}

/// Returns every place in a playthrough where the process can die.
pub(crate) fn crash_points(calm: &Ending) -> Vec<(CrashPoint, String)> {
    let mut points = Vec::new();
    for (n, Committed { last, .. }) in (0..).zip(&calm.commits) {
        let told = |word: &str| format!("killed just {word} commit {n} (`{last}`) was durable");
        points.push((CrashPoint::Commit { number: n, durable: false }, told("before")));
        points.push((CrashPoint::Commit { number: n, durable: true }, told("after")));
    }
    for (n, attempt) in calm.attempts.iter().enumerate() {
        let before = format!("killed in {attempt}, before the handler acted");
        points.push((CrashPoint::Attempt { number: n, moment: Moment::Before }, before));
        if attempt.acted {
            let after = format!("killed in {attempt}, after the handler acted");
            points.push((CrashPoint::Attempt { number: n, moment: Moment::After }, after));
        }
    }
    points
}

/// Returns every prefix that the journals of a playthrough have: after each record of each commit.
fn prefix_points(calm: &Ending) -> Vec<(CrashPoint, String)> {
    let mut points = Vec::new();
    for (number, Committed { last, records: all }) in (0..).zip(&calm.commits) {
        for records in 1..=*all {
            let text = format!("cut after record {records} of {all} of commit {number} (`{last}`)");
            points.push((CrashPoint::Part { number, records, whole: records == *all }, text));
        }
    }
    points
}
