//! From the text of a test file to cases: what each scenario starts from once `like` and `change` are resolved.
//!
//! Every finding has a place and says what to do. Whether the names of steps and handlers exist is for `fit` to say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::Invalid;
use super::file::{Action, Crash, Expect, RunStatus, Runs, Scenario, StepStatus, TestFile};
use super::story::Story;
use crate::definition;
use crate::diag::{Finding, FindingCode, SourceFile, Span, in_file_order};
use crate::dsl::schema::Form;
use crate::dsl::tree::join;
use crate::dsl::{Part, Tree, json};
use crate::faults::Faults;
use crate::limits::{Limits, raised_by};
use crate::names::{StepName, is_run_id};
use crate::suggest::nearest;
use crate::template::{Expression, Template};

/// A test file that was read.
#[derive(Clone, Debug)]
pub(super) struct Suite {
    pub(super) source: SourceFile,
    pub(super) tree: Tree,
    /// The workflow's file.
    pub(super) workflow: PathBuf,
    pub(super) cases: Vec<Case>,
}

/// A scenario with all that it starts from.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) input: Value,
    pub(crate) config: Option<Value>,
    pub(crate) seed: u64,
    /// What is for the handlers.
    pub(crate) setup: Map<String, Value>,
    pub(crate) faults: Faults,
    pub(crate) runs: Option<Runs>,
    /// What of the input differs from run to run.
    pub(crate) varies: Template,
    pub(crate) then: Vec<Deed>,
    pub(crate) expect: Expect,
    pub(crate) checks: Vec<(String, Expression)>,
    pub(crate) crash: bool,
    /// The handlers are played as it tells.
    pub(crate) story: Option<Story>,
    pub(crate) places: Places,
}

impl Case {
    /// Returns a case that stands in no file, and expects nothing.
    pub(crate) fn of(name: &str, input: Value) -> Self {
        Self {
            name: name.to_owned(),
            description: None,
            input,
            config: None,
            seed: 0,
            setup: Map::new(),
            faults: Faults::default(),
            runs: None,
            varies: Template::default(),
            then: Vec::new(),
            expect: Expect::default(),
            checks: Vec::new(),
            crash: false,
            story: None,
            places: Places::default(),
        }
    }
}

/// Where in the file the parts of a scenario stand, as JSON pointers; with `like` they may stand in another scenario.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    pub(crate) config: String,
    pub(crate) faults: String,
    pub(crate) then: String,
    pub(crate) story: String,
    pub(crate) expect: String,
}

/// What somebody does, and when.
#[derive(Clone, Debug)]
pub(crate) struct Deed {
    /// `STEP.STATUS` or `run.STATUS`.
    pub(crate) when: String,
    /// The step; nothing for the run.
    pub(crate) step: Option<StepName>,
    pub(crate) status: String,
    pub(crate) after: Duration,
    pub(crate) run: Option<u32>,
    pub(crate) verb: Verb,
}

/// What is done.
#[derive(Clone, Debug)]
pub(crate) enum Verb {
    Signal {
        name: String,
        data: Value,
        id: Option<String>,
    },
    Cancel {
        reason: Option<String>,
        compensate: bool,
    },
    Compensate,
    Retry {
        from: Option<StepName>,
    },
    MarkDone {
        step: StepName,
        item: Option<u32>,
        reason: String,
    },
    /// The process dies.
    Kill {
        down: Duration,
    },
    /// The process is stopped in order.
    Restart {
        down: Duration,
    },
}

impl Verb {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Signal { .. } => "signal",
            Self::Cancel { .. } => "cancel",
            Self::Compensate => "compensate",
            Self::Retry { .. } => "retry",
            Self::MarkDone { .. } => "mark_done",
            Self::Kill { .. } => "kill",
            Self::Restart { .. } => "resume",
        }
    }
}

static FORM: LazyLock<Form> = LazyLock::new(|| {
    Form::of::<TestFile>("the test file", "A test file starts with `flowrun_test: 1`, `workflow:` and `scenarios:`.")
});

/// Reads a test file.
pub(super) fn read(path: &Path, limits: &Limits) -> Result<Suite, Invalid> {
    let shown = path.display().to_string();
    let source = match definition::read_bounded(path, limits).map(|bytes| definition::source(&shown, bytes)) {
        Ok(Ok(source)) => source,
        Ok(Err((source, finding))) => return Err((source, vec![*finding])),
        Err(error) => {
            let message = format!("the file cannot be read: {error}");
            let finding = Finding::error(FindingCode::Unreadable, Span::default(), message);
            return Err((SourceFile::new(shown, ""), vec![finding]));
        }
    };
    let (tree, mut findings) = Tree::read(&source, limits);
    let Some(tree) = tree else { return Err((source, findings)) };
    findings.extend(FORM.misfits(&tree));
    find_bad_faults(&tree, &mut findings);
    if !findings.is_empty() {
        in_file_order(&mut findings);
        return Err((source, findings));
    }
    let file: TestFile = match serde_json::from_value(tree.value().clone()) {
        Ok(file) => file,
        Err(error) => {
            let finding = Finding::error(FindingCode::WrongType, tree.span("", Part::Key), error.to_string());
            return Err((source, vec![finding]));
        }
    };
    let folder = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    let workflow = folder.join(&file.workflow);
    let mut reader = Reader { tree: &tree, file: &file, folder: &folder, limits, findings: Vec::new() };
    let cases = reader.cases();
    let mut findings = reader.findings;
    if findings.is_empty() {
        return Ok(Suite { source, tree, workflow, cases });
    }
    in_file_order(&mut findings);
    Err((source, findings))
}

/// The actions of faults are checked by their own reader: a schema can only say that none of its forms fits.
fn find_bad_faults(tree: &Tree, findings: &mut Vec<Finding>) {
    let scenarios = tree.value().get("scenarios").and_then(Value::as_object);
    for (name, scenario) in scenarios.into_iter().flatten() {
        let at = join(&join("/scenarios", name), "faults");
        for (number, rule) in scenario.get("faults").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let at = join(&at, &number.to_string());
            let extent = tree.extent(&at).range();
            if findings.iter().any(|f| extent.contains(&f.span.start)) {
                continue;
            }
            for problem in Faults::read(&Value::Array(vec![rule.clone()])).err().unwrap_or_default() {
                let message = problem.strip_prefix("faults[0]: ").unwrap_or(&problem);
                let message = message.replace("says neither", "the rule says neither");
                let place = if message.starts_with("do:") { join(&at, "do") } else { at.clone() };
                findings.push(Finding::error(FindingCode::UnknownValue, tree.span(&place, Part::Value), message));
            }
        }
    }
}

struct Reader<'a> {
    tree: &'a Tree,
    file: &'a TestFile,
    folder: &'a Path,
    limits: &'a Limits,
    findings: Vec<Finding>,
}

/// A part of a scenario, and where it stands.
type Own<T> = Option<(T, String)>;

/// A scenario and those it is like, put together.
#[derive(Clone, Default)]
struct Whole {
    changes: Vec<(Map<String, Value>, String)>,
    faults: Own<Faults>,
    runs: Own<Runs>,
    then: Own<Vec<Action>>,
    story: Own<Story>,
    expect: Own<Expect>,
}

impl Reader<'_> {
    fn complain(&mut self, code: FindingCode, at: &str, part: Part, message: impl Into<String>) -> &mut Finding {
        self.findings.push(Finding::error(code, self.tree.span(at, part), message));
        self.findings.last_mut().expect("it was pushed just now")
    }

    fn cases(&mut self) -> Vec<Case> {
        if self.file.scenarios.is_empty() {
            self.complain(FindingCode::MissingKey, "/scenarios", Part::Key, "`scenarios` is empty").help =
                Some("A test file has at least one scenario.".to_owned());
        }
        let base = self.base();
        let mut cases = Vec::new();
        for (name, scenario) in &self.file.scenarios {
            let at = join("/scenarios", name);
            if !is_run_id(name) || name.len() > 100 {
                let message = format!("`{name}` cannot name a scenario");
                self.complain(FindingCode::BadName, &at, Part::Key, message).help =
                    Some("Names are 1 to 100 of A-Z a-z 0-9 . _ -: the run is called like the scenario.".to_owned());
            }
            if let Some(whole) = self.whole(name, scenario)
                && let Some(case) = self.case(name, scenario, whole, &base)
            {
                cases.push(case);
            }
        }
        cases
    }

    /// Returns what all scenarios start from, with the input's file read.
    fn base(&mut self) -> Map<String, Value> {
        let mut base = self.file.base.0.clone();
        let named = base.get("input").and_then(Value::as_object).filter(|input| input.len() == 1);
        let Some(name) = named.and_then(|input| input.get("file")).and_then(Value::as_str) else { return base };
        let path = self.folder.join(name);
        let limit = self.limits.input_bytes;
        let read = definition::read_at_most(&path, limit).and_then(|bytes| {
            if bytes.len() as u64 > limit {
                return Err(format!(
                    "it has more than {limit} bytes, the limit `input_bytes`{}",
                    raised_by("input_bytes")
                ));
            }
            String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
        });
        match read.and_then(|text| json::read_json(&text, self.limits).map_err(|error| error.to_string())) {
            Ok(input) => {
                base.insert("input".to_owned(), input);
            }
            Err(why) => {
                let message = format!("`{}` cannot be read: {why}", path.display());
                self.complain(FindingCode::Unreadable, "/base/input/file", Part::Value, message);
            }
        }
        base
    }

    fn whole(&mut self, name: &str, scenario: &Scenario) -> Option<Whole> {
        let mut chain: Vec<(&str, &Scenario)> = vec![(name, scenario)];
        let file = self.file;
        while let Some(like) = chain.last().and_then(|(_, scenario)| scenario.like.as_deref()) {
            let from = chain.last().map_or(name, |(name, _)| name);
            let at = join(&join("/scenarios", from), "like");
            let Some((found, other)) = file.scenarios.get_key_value(like) else {
                if chain.len() == 1 {
                    let near = nearest(like, file.scenarios.keys().map(String::as_str));
                    let message = format!("there is no scenario `{like}`");
                    self.complain(FindingCode::UnknownValue, &at, Part::Value, message).help =
                        near.map(|near| format!("Did you mean `{near}`?"));
                }
                return None;
            };
            if chain.iter().any(|(known, _)| known == found) {
                let message = format!("the scenario is like itself: {} -> {found}", names(&chain));
                self.complain(FindingCode::Cycle, &at, Part::Value, message).help =
                    Some("Let one of them start from `base` alone.".to_owned());
                return None;
            }
            chain.push((found, other));
        }
        let mut whole = Whole::default();
        for (name, scenario) in chain.into_iter().rev() {
            let at = join("/scenarios", name);
            if !scenario.change.is_empty() {
                whole.changes.push((scenario.change.clone(), join(&at, "change")));
            }
            replace(&mut whole.faults, scenario.faults.as_ref(), &at, "faults");
            replace(&mut whole.runs, scenario.runs.as_ref(), &at, "runs");
            replace(&mut whole.then, scenario.then.as_ref(), &at, "then");
            replace(&mut whole.story, scenario.story.as_ref(), &at, "story");
            replace(&mut whole.expect, scenario.expect.as_ref(), &at, "expect");
        }
        Some(whole)
    }

    fn case(&mut self, name: &str, scenario: &Scenario, whole: Whole, base: &Map<String, Value>) -> Option<Case> {
        let at = join("/scenarios", name);
        self.played(scenario, &whole);
        let Some((expect, expect_at)) = whole.expect.filter(|(expect, _)| !expect.is_empty()) else {
            let (place, message) = if scenario.expect.is_some() {
                (join(&at, "expect"), format!("scenario `{name}` expects nothing: `expect` is empty"))
            } else {
                (at, format!("scenario `{name}` has no `expect`"))
            };
            self.complain(FindingCode::MissingKey, &place, Part::Key, message).help =
                Some("Say how it must end, e.g. `expect: { status: completed, ledger: { charged: 1 } }`.".to_owned());
            return None;
        };
        let mut base = Value::Object(base.clone());
        for (change, _) in &whole.changes {
            merge(&mut base, &Value::Object(change.clone()));
        }
        let Value::Object(mut base) = base else { return None };
        let config_at = whole.changes.iter().rev().map(|(_, at)| join(at, "config")).find(|at| self.tree.has(at));
        let config_at = config_at.unwrap_or_else(|| "/base/config".to_owned());
        let input = base.shift_remove("input").unwrap_or_else(|| Value::Object(Map::new()));
        let config = base.shift_remove("config");
        let seed = base.shift_remove("seed").map_or(Some(0), |seed| seed.as_u64());
        let seed = seed.unwrap_or_else(|| {
            let place = if self.tree.has(&join(&at, "change/seed")) { join(&at, "change") } else { "/base".into() };
            self.complain(FindingCode::WrongType, &join(&place, "seed"), Part::Value, "`seed` is a whole number");
            0
        });
        let (faults, faults_at) = whole.faults.unwrap_or_else(|| (Faults::default(), join(&at, "faults")));
        let (runs, runs_at) = match whole.runs {
            Some((runs, at)) => (Some(runs), at),
            None => (None, join(&at, "runs")),
        };
        let patch = runs.as_ref().map_or_else(Map::new, |runs| runs.input.clone());
        let (varies, errors) = Template::parse(&Value::Object(patch));
        for (pointer, error) in errors {
            let place = format!("{}{pointer}", join(&runs_at, "input"));
            self.template_error(&place, error);
        }
        let (story, story_at) = match whole.story {
            Some((story, at)) => (Some(story), at),
            None => (None, join(&at, "story")),
        };
        let (then, then_at) = whole.then.unwrap_or_else(|| (Vec::new(), join(&at, "then")));
        let deeds = then.iter().enumerate().filter_map(|(n, action)| {
            let place = join(&then_at, &n.to_string());
            self.deed(action, &place)
        });
        let then: Vec<Deed> = deeds.collect();
        let mut checks = Vec::new();
        for (n, source) in expect.check.iter().enumerate() {
            match Expression::parse(source) {
                Ok(expression) => checks.push((source.clone(), expression)),
                Err(error) => self.template_error(&join(&join(&expect_at, "check"), &n.to_string()), error),
            }
        }
        Some(Case {
            name: name.to_owned(),
            description: scenario.description.clone(),
            input,
            config,
            seed,
            setup: base,
            faults,
            runs,
            varies,
            then,
            expect,
            checks,
            crash: scenario.crash == Some(Crash::Everywhere),
            story,
            places: Places { config: config_at, faults: faults_at, then: then_at, story: story_at, expect: expect_at },
        })
    }

    /// Complains of what does not go with a story, and of what goes with nothing else.
    fn played(&mut self, scenario: &Scenario, whole: &Whole) {
        let (flaws, ledger, expect_at) = match &whole.expect {
            Some((expect, at)) => (expect.flaws.is_some(), !expect.ledger.is_empty(), at.clone()),
            None => (false, false, String::new()),
        };
        let Some((_, at)) = &whole.story else {
            if flaws {
                let message = "`flaws` goes only with a `story`";
                self.complain(FindingCode::Excludes, &join(&expect_at, "flaws"), Part::Key, message).help =
                    Some("Handlers that are really called do not say what they leave behind.".to_owned());
            }
            return;
        };
        let at = at.clone();
        let given = [
            ("faults", whole.faults.is_some()),
            ("runs", whole.runs.is_some()),
            ("then", whole.then.is_some()),
            ("crash", scenario.crash.is_some()),
        ];
        for (key, _) in given.iter().filter(|(_, given)| *given) {
            let message = format!("`story` does not go with `{key}`");
            self.complain(FindingCode::Excludes, &at, Part::Key, message).help =
                Some("A story tells all that happens in its run.".to_owned());
        }
        if ledger {
            let message = "`ledger` does not go with a `story`";
            self.complain(FindingCode::Excludes, &join(&expect_at, "ledger"), Part::Key, message).help = Some(
                "No handler is called, so there is none. Say what must not be left behind: `flaws: []`.".to_owned(),
            );
        }
    }

    fn template_error(&mut self, at: &str, error: crate::template::TemplateError) {
        let span = match error.range {
            Some(range) => self.tree.inside(at, range),
            None => self.tree.span(at, Part::Value),
        };
        self.findings.push(Finding::error(FindingCode::TemplateSyntax, span, error.message).help_if(error.help));
    }

    fn deed(&mut self, action: &Action, at: &str) -> Option<Deed> {
        let verb = self.verb(action, at)?;
        let place = join(at, "when");
        let Some((subject, status)) = action.when.split_once('.') else {
            let message = format!("`{}` does not say what is waited for", action.when);
            self.complain(FindingCode::WrongType, &place, Part::Value, message).help =
                Some("Write `STEP.STATUS` or `run.STATUS`, e.g. `charge.running` or `run.parked`.".to_owned());
            return None;
        };
        let words: &[&str] = if subject == "run" { &RunStatus::WORDS } else { &StepStatus::WORDS };
        if !words.contains(&status) {
            let near = nearest(status, words.iter().copied());
            let message =
                format!("there is no status `{status}` of a {}", if subject == "run" { "run" } else { "step" });
            self.complain(FindingCode::UnknownValue, &place, Part::Value, message).help = Some(
                near.map_or_else(|| format!("There are {}.", words.join(", ")), |n| format!("Did you mean `{n}`?")),
            );
            return None;
        }
        Some(Deed {
            when: action.when.clone(),
            step: (subject != "run").then(|| subject.into()),
            status: status.to_owned(),
            after: action.after.map_or(Duration::ZERO, |after| after.0),
            run: action.run,
            verb,
        })
    }

    fn verb(&mut self, action: &Action, at: &str) -> Option<Verb> {
        let down = action.down.map_or(Duration::ZERO, |down| down.0);
        let mut verbs: Vec<Verb> = Vec::new();
        if let Some(name) = &action.signal {
            let data = action.data.clone().unwrap_or(Value::Null);
            verbs.push(Verb::Signal { name: name.clone(), data, id: action.id.clone() });
        }
        if let Some(cancel) = &action.cancel {
            let reason = cancel.as_str().map(str::to_owned);
            verbs.push(Verb::Cancel { reason, compensate: action.compensate != Some(false) });
        } else if action.compensate == Some(true) {
            verbs.push(Verb::Compensate);
        }
        if action.kill.is_some() {
            verbs.push(Verb::Kill { down });
        }
        if action.resume.is_some() {
            verbs.push(Verb::Restart { down });
        }
        if let Some(retry) = &action.retry {
            verbs.push(Verb::Retry { from: retry.as_str().map(Into::into) });
        }
        if let Some(done) = &action.mark_done {
            let step = done.step.as_str().into();
            verbs.push(Verb::MarkDone { step, item: done.item, reason: done.reason.clone() });
        }
        const VERBS: &str = "`signal`, `cancel`, `kill`, `resume`, `retry`, `compensate: true` or `mark_done`";
        match verbs.len() {
            0 => {
                self.complain(FindingCode::MissingKey, at, Part::Key, "the action does not say what is done").help =
                    Some(format!("Add one of {VERBS}."));
                None
            }
            1 => {
                let verb = verbs.pop()?;
                let stray = [
                    ("data", action.data.is_some() && action.signal.is_none()),
                    ("id", action.id.is_some() && action.signal.is_none()),
                    ("down", action.down.is_some() && !matches!(verb, Verb::Kill { .. } | Verb::Restart { .. })),
                ];
                for (key, is_stray) in stray {
                    if is_stray {
                        let message = format!("`{key}` does not go with `{}`", verb.word());
                        self.complain(FindingCode::Excludes, &join(at, key), Part::Key, message);
                    }
                }
                Some(verb)
            }
            _ => {
                let words: Vec<&str> = verbs.iter().map(Verb::word).collect();
                let message = format!("one action does one thing, not `{}`", words.join("` and `"));
                self.complain(FindingCode::Excludes, at, Part::Key, message).help =
                    Some("Write a second entry with the same `when`.".to_owned());
                None
            }
        }
    }
}

fn replace<T: Clone>(whole: &mut Own<T>, own: Option<&T>, at: &str, key: &str) {
    if let Some(own) = own {
        *whole = Some((own.clone(), join(at, key)));
    }
}

fn names(chain: &[(&str, &Scenario)]) -> String {
    chain.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" -> ")
}

/// Lays a JSON merge patch (RFC 7396) over a value.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Counts by name, in the order of the names.
pub(crate) type Counts = BTreeMap<String, u64>;

/// What a map of expectations names.
pub(super) fn keys<T>(map: &IndexMap<String, T>) -> impl Iterator<Item = &str> {
    map.keys().map(String::as_str)
}
