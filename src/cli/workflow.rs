//! Finding the workflow that is meant, and making it ready to run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::app::{App, beside, read_text, shown, unreadable};
use super::args::Settings;
use super::exit_code::ExitCode;
use super::output::screen::shell_word;
use super::problem::Problem;
use crate::check;
use crate::definition::{Definition, Loaded, Overrides};
use crate::diag::{self, Finding, FindingCode, Severity, SourceFile, in_file_order};
use crate::dsl::tree::read_small;
use crate::engine::Workflow;
use crate::limits::Limits;
use crate::plan::{self, Plan};
use crate::proof::{Proof, Verdict};
use crate::suggest::nearest;

/// Where workflows are looked for by name.
pub(super) const FOLDER: &str = "workflows";

/// States of possible runs that are looked at where nobody asked for a proof.
const STATES_IN_PASSING: u64 = 20_000;

/// The name of the workflow that is meant when several are there and none is named.
const DEFAULT: &str = "default";

/// Returns the workflow files in a folder, in the order of their names; scenario files are none.
pub(super) fn files_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let yaml = name.ends_with(".yaml") || name.ends_with(".yml");
        let scenario = name.ends_with(".test.yaml") || name.ends_with(".test.yml");
        if yaml && !scenario && !name.starts_with('.') && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Returns the files that paths name; a folder stands for the workflow files in it.
pub(super) fn files(paths: &[PathBuf], verb: &str) -> Result<Vec<PathBuf>, Problem> {
    let default = [PathBuf::from(FOLDER)];
    let paths = if paths.is_empty() {
        if !Path::new(FOLDER).is_dir() {
            return Err(Problem::usage(format!("there is no folder {FOLDER}/ here"))
                .help(format!("Name the files or folders to check: `flowrun {verb} PATH...`.")));
        }
        &default[..]
    } else {
        paths
    };
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let found = files_in(path).map_err(|error| unreadable(path, &error))?;
            if found.is_empty() {
                return Err(Problem::not_found(format!("there is no workflow file in {}", path.display())));
            }
            files.extend(found);
        } else if path.exists() {
            files.push(path.clone());
        } else if let Some(named) = path.to_str().and_then(find_named) {
            files.push(named);
        } else {
            return Err(Problem::not_found(format!("there is no workflow file {}", path.display())));
        }
    }
    Ok(files)
}

/// Tells whether a word on the command line is a path and not a name.
fn is_path(word: &str) -> bool {
    word.contains('/') || word.ends_with(".yaml") || word.ends_with(".yml")
}

/// Returns the file of the workflow that is meant by a path, by a name, or by nothing.
pub(super) fn find(word: Option<&str>) -> Result<PathBuf, Problem> {
    match word {
        Some(word) if is_path(word) => {
            let path = PathBuf::from(word);
            if path.exists() {
                return Ok(path);
            }
            let problem = Problem::not_found(format!("there is no workflow file {word}"));
            Err(match beside(&path) {
                Some(meant) => problem.help(format!("Did you mean `{}`?", meant.display())),
                None => problem,
            })
        }
        Some(name) => named(name),
        None => only_one(),
    }
}

/// Returns the file of the workflow with this name, if there is one.
pub(super) fn find_named(name: &str) -> Option<PathBuf> {
    let folder = Path::new(FOLDER);
    [format!("{name}.yaml"), format!("{name}.yml")].into_iter().map(|f| folder.join(f)).find(|path| path.is_file())
}

fn named(name: &str) -> Result<PathBuf, Problem> {
    if let Some(path) = find_named(name) {
        return Ok(path);
    }
    let files = files_in(Path::new(FOLDER)).unwrap_or_default();
    let names = names_of(&files);
    let problem = Problem::not_found(format!("there is no workflow `{name}` in {FOLDER}/"));
    Err(match nearest(name, names.iter().map(String::as_str)) {
        Some(meant) => problem.help(format!("Did you mean `{meant}`?")),
        None if names.is_empty() => problem.help("Name a file by its path."),
        None => problem.help(format!("There are {}.", names.join(", "))),
    })
}

fn only_one() -> Result<PathBuf, Problem> {
    let files = files_in(Path::new(FOLDER)).unwrap_or_default();
    match files.as_slice() {
        [] => Err(Problem::usage(format!("which workflow? There is none in {FOLDER}/"))
            .help("Name a workflow file: `flowrun exec PATH`.")),
        [only] => Ok(only.clone()),
        several => find_named(DEFAULT).ok_or_else(|| {
            Problem::usage(format!("which workflow? There are several in {FOLDER}/: {}", names_of(several).join(", ")))
                .help(format!("Name one of them; one called {FOLDER}/{DEFAULT}.yaml is taken when none is named."))
        }),
    }
}

fn names_of(files: &[PathBuf]) -> Vec<String> {
    files.iter().filter_map(|path| path.file_stem()).map(|stem| stem.to_string_lossy().into_owned()).collect()
}

/// Reads what is laid over a workflow's configuration.
pub(super) fn overrides(settings: &Settings, limits: &Limits) -> Result<Overrides, Problem> {
    let config = match &settings.config {
        Some(path) => {
            let text = read_text(path, "definition_bytes", limits.definition_bytes)?;
            let told = |findings: Vec<String>| match findings.as_slice() {
                [only] => Problem::invalid(format!("{}: {only}", shown(path))),
                _ => Problem::invalid(format!("{} cannot be used", shown(path))).details(findings),
            };
            Some(read_small(&text, limits).map_err(told)?)
        }
        None => None,
    };
    let mut sets = Vec::new();
    for set in &settings.sets {
        let (path, value) =
            set.split_once('=').filter(|(path, _)| path.split('.').all(|name| !name.is_empty())).ok_or_else(|| {
                Problem::usage(format!("--set {set}: a setting is given as PATH=VALUE, such as payment.timeout=10s"))
            })?;
        sets.push((path.to_owned(), value.to_owned()));
    }
    Ok(Overrides { config, sets })
}

/// A workflow file that was read and checked.
pub(super) struct Examined {
    /// The file.
    pub(super) file: SourceFile,
    /// What was found, in file order.
    pub(super) findings: Vec<Finding>,
    /// The definition, if there is one.
    pub(super) loaded: Option<Loaded>,
}

impl Examined {
    /// Returns what was found, for programs.
    pub(super) fn json(&self) -> Vec<Value> {
        self.findings.iter().map(|finding| diag::json(finding, &self.file)).collect()
    }

    /// Tells whether the workflow can run; with `strict` warnings keep it from doing so.
    pub(super) fn is_valid(&self, strict: bool) -> bool {
        self.loaded.is_some() && !self.findings.iter().any(|f| strict || f.severity == Severity::Error)
    }
}

/// Reads and checks a workflow file, and looks at what runs of it can come to.
pub(super) fn examine_wholly(app: &App, path: &Path, overrides: &Overrides) -> Examined {
    let mut examined = examine(app, path, overrides);
    if let Some(loaded) = &examined.loaded
        && examined.is_valid(false)
    {
        let found = failures(app, loaded);
        let new: Vec<Finding> = found.into_iter().filter(|found| !is_said(found, &examined.findings)).collect();
        examined.findings.extend(new);
        in_file_order(&mut examined.findings);
    }
    examined
}

/// Reads and checks a workflow file; every finding comes at once.
pub(super) fn examine(app: &App, path: &Path, overrides: &Overrides) -> Examined {
    let (loaded, mut findings, file) = Definition::load_with_source(path, overrides, &app.limits);
    if let Some(loaded) = &loaded {
        findings.extend(check::check(loaded, &app.contracts));
        in_file_order(&mut findings);
    }
    Examined { file, findings, loaded }
}

/// Returns what some run of a valid workflow can come to, as warnings; nothing if there is too much to look at in passing.
fn failures(app: &App, loaded: &Loaded) -> Vec<Finding> {
    let Ok(plan) = plan::compile(loaded, &app.contracts) else { return Vec::new() };
    let proof = Proof::of(loaded, &plan, app.limits.states.min(STATES_IN_PASSING));
    proof.findings(&plan, &loaded.parsed.tree)
}

/// Tells whether a check has said the same about the same place: both look at what may be missing and at what is idle.
fn is_said(found: &Finding, known: &[Finding]) -> bool {
    let alike = |other: FindingCode| match found.code {
        FindingCode::MissingInput => other == FindingCode::MayBeMissing,
        FindingCode::NeverReached => other == FindingCode::FallbackNeverUsed,
        FindingCode::DeadlineTooShort => other == FindingCode::DeadlineTooShort,
        _ => false,
    };
    let over = |other: &Finding| found.span.start < other.span.end() && other.span.start < found.span.end();
    known.iter().any(|other| alike(other.code) && over(other))
}

/// What is demanded of a workflow besides being valid.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// That there is nothing to warn of.
    pub(super) strict: bool,
    /// That it is proved.
    pub(super) proof: bool,
}

/// Reads, checks and compiles a workflow for running it. What is wrong with it goes to stderr.
pub(super) fn ready(app: &App, path: &Path, settings: &Settings, wanted: Wanted) -> Result<Arc<Workflow>, Problem> {
    let strict = wanted.strict;
    let examined = examine(app, path, &overrides(settings, &app.limits)?);
    let count = |severity| examined.findings.iter().filter(|f| f.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let valid = examined.is_valid(strict);
    if app.screen.is_text() && !valid {
        app.screen.findings(&examined.findings, &examined.file);
    }
    if valid && warnings > 0 {
        let command = app.screen.command(&format!("validate {}", shell_word(&path.display().to_string())));
        app.screen.say(&format!("{} in {}; `{command}` shows them", counted(warnings, "warning"), path.display()));
    }
    let invalid = |message: String, findings: &[Finding]| {
        let problem = Problem::invalid(message);
        if app.screen.is_text() {
            return problem;
        }
        problem.details(findings.iter().map(|f| {
            let place = examined.file.place(f.span.start);
            format!("{}:{}:{}: {} {}", examined.file.path, place.line, place.column, f.code, f.message)
        }))
    };
    let (true, Some(loaded)) = (valid, &examined.loaded) else {
        let what = if errors > 0 {
            counted(errors, "error")
        } else {
            format!("{} and --strict", counted(warnings, "warning"))
        };
        return Err(invalid(
            format!("{} is not valid: {what}; nothing was started", path.display()),
            &examined.findings,
        ));
    };
    tracing::info!(path = %path.display(), warnings, "the workflow is valid");
    let workflow = Workflow::compile(loaded, &app.contracts).map_err(|findings| {
        if app.screen.is_text() {
            app.screen.findings(&findings, &examined.file);
        }
        invalid(format!("{} is not valid; nothing was started", path.display()), &findings)
    })?;
    if wanted.proof {
        proved(app, path, loaded, &workflow.plan)?;
    }
    Ok(Arc::new(workflow))
}

/// Demands that a valid workflow is proved.
fn proved(app: &App, path: &Path, loaded: &Loaded, plan: &Plan) -> Result<(), Problem> {
    let proof = Proof::of(loaded, plan, app.limits.states);
    let why = match proof.verdict() {
        Verdict::Proved => return Ok(()),
        Verdict::Flawed => counted(proof.flaws().len(), "violation"),
        Verdict::LimitReached => "limit reached".to_owned(),
    };
    let shown = path.display().to_string();
    let problem = Problem::new(ExitCode::Failed, format!("{shown} is not proved: {why}; nothing was started"));
    Err(problem.help(format!("`flowrun verify {}` tells the story.", shell_word(&shown))))
}

/// Returns a number with its word: `1 error`, `2 errors`.
pub(super) fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// Returns the exit code of workflow files that were checked.
pub(super) fn exit_code(valid: bool) -> ExitCode {
    if valid { ExitCode::Done } else { ExitCode::Invalid }
}
