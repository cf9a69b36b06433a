//! A story in a test file: one course of a run, told by names, with every handler played by what it declares.
//!
//! It owns how a course is written down and how it is made of names again, for the workflow as it is by then. What a
//! course means is the rehearsal's to know.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dsl::Part;
use crate::dsl::tree::join;
use crate::failure::ErrorKind;
use crate::names::PRIMARY;
use crate::plan::{Action, Plan};
use crate::suggest::nearest;
use crate::teeth::{Bug, awake};
use crate::verify::findings::{
    Answer, Attempt, Course, List, MemberCourse, MemberIx, Problem, Reader, Spot, StepCourse, Stop, UndoEnd, World,
};
use crate::verify::outline::ending_of;
use crate::verify::sketch::{Failing, Sketch};

/// The `error` of an attempt that works.
const NONE: &str = "none";

/// The `error` of an attempt in which the process dies.
const CRASHED: &str = "crashed";

/// What happens in a run whose handlers are played: none is called, each does what it declares. What is not told goes
/// well; a step that is not told and is begun in a run that stops comes to nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Story {
    /// How conditions over values come out, by their text; false without it.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub conditions: IndexMap<String, bool>,
    /// How many items a step with `foreach` has.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub items: IndexMap<String, u32>,
    /// Steps with `foreach` whose last item is left: it had not begun when the run stopped, and never does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
    /// What became of steps that wait, and of those that called nothing.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub steps: IndexMap<String, StoryStep>,
    /// What became of calls, in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<StoryCall>,
    /// What stops the run before its last step has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StoryStop>,
}

/// What became of a step that called nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoryStep {
    /// It was skipped.
    Skipped,
    /// What it reads before it begins was not there.
    Unreadable,
    /// What it waited for came.
    Waited,
    /// The signal that it waited for did not come in time.
    Missed,
    /// It was still waiting.
    Waiting,
}

/// What became of a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoryCall {
    /// The step.
    pub step: String,
    /// The member: `primary` without it, or the name of a fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The item, from 0, of a step with `foreach`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
    /// How its attempts end, in order; those that are not told work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<StoryAttempt>,
    /// What its `confirm` answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<StoryAnswer>,
    /// How its undo ends that comes before a fallback, or before the run goes on without the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo_first: Option<StoryUndo>,
    /// How its undo ends once the run is being undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<StoryUndo>,
}

/// How an attempt ends, and what came of it outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoryAttempt {
    /// The error's code; `none` if it works, `crashed` if the process dies during it.
    pub error: String,
    /// The kind of the error; as the handler declares it without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ErrorKind>,
    /// What came of it outside, after an error that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub world: Option<StoryWorld>,
}

/// What came of an attempt outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoryWorld {
    /// It was not done and never will be.
    Nothing,
    /// It was done.
    Done,
    /// It is still on its way, and is done later.
    OnItsWay,
}

/// What a `confirm` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoryAnswer {
    /// It was done.
    Done,
    /// It was not.
    NotDone,
    /// Nobody knows.
    Unknown,
}

/// How an undo ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoryUndo {
    /// It works.
    Done,
    /// It fails for good.
    Failed,
}

/// What stops a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoryStop {
    /// Somebody cancels it, as soon as nothing else can happen.
    Cancelled,
    /// Its output cannot be made.
    Output,
    /// This step fails for good, after everything else that was under way has ended.
    Failed(String),
}

/// What a bad course comes to, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FlawKind {
    /// An effect stands that no result speaks for.
    LeftBehind,
    /// Something was done twice.
    HappensTwice,
    /// Something is read that is not there.
    MissingInput,
    /// A point of no return was undone.
    PivotUndone,
    /// A step was undone before one that depends on it.
    UndoOrder,
    /// Nothing ends a wait.
    WaitsForEver,
    /// What the workflow says must never be true.
    Invariant,
}

impl FlawKind {
    /// Returns the kind of a problem.
    #[must_use]
    pub fn of(problem: &Problem) -> Self {
        match problem {
            Problem::LeftByCompleted(_) | Problem::LeftByUndone(_) => Self::LeftBehind,
            Problem::Twice(_) => Self::HappensTwice,
            Problem::Missing(_) => Self::MissingInput,
            Problem::PivotUndone(_) => Self::PivotUndone,
            Problem::UndoOrder(..) => Self::UndoOrder,
            Problem::WaitsForEver(_) => Self::WaitsForEver,
            Problem::Invariant(_) => Self::Invariant,
        }
    }

    /// Returns it in a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::LeftBehind => "left_behind",
            Self::HappensTwice => "happens_twice",
            Self::MissingInput => "missing_input",
            Self::PivotUndone => "pivot_undone",
            Self::UndoOrder => "undo_order",
            Self::WaitsForEver => "waits_for_ever",
            Self::Invariant => "invariant",
        }
    }
}

/// A name in a story that the workflow does not have, or that does not fit there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// Where, as a JSON pointer inside the story.
    pub(crate) at: String,
    /// Whether the key there is meant, or its value.
    pub(crate) part: Part,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Story {
    /// Tells the course that shows a problem.
    pub(crate) fn of(plan: &Plan, sketch: &Sketch, course: &Course, problem: &Problem) -> Self {
        let name = |step: usize| sketch.steps[step].name.clone();
        let mut story = Self::default();
        let asked = course.conditions.iter().filter(|_| !awake(Bug::StoryConditionsLost));
        story.conditions = asked.map(|(ix, holds)| (sketch.conditions[*ix].clone(), *holds)).collect();
        story.stop = course.stop.map(|stop| match stop {
            Stop::Cancelled => StoryStop::Cancelled,
            Stop::Output => StoryStop::Output,
            Stop::Failed(step) => StoryStop::Failed(name(step)),
        });
        // What could not be called because of what it reads did not fail by itself.
        let unread = |reader| matches!(problem, Problem::Missing(missing) if missing.reader == reader);
        for (&step, told) in &course.steps {
            let end = match told {
                StepCourse::Skipped => StoryStep::Skipped,
                StepCourse::Unreadable => StoryStep::Unreadable,
                StepCourse::Waited => StoryStep::Waited,
                StepCourse::Missed => StoryStep::Missed,
                StepCourse::Waiting => StoryStep::Waiting,
                StepCourse::Called(_) | StepCourse::Listed(_) => {
                    if let StepCourse::Listed(list) = told {
                        story.items.insert(name(step), list.count());
                        let left = list.left && !awake(Bug::StoryLeftItemLost);
                        story.left.extend(left.then(|| name(step)));
                    }
                    for (item, members) in told.calls() {
                        for told in members {
                            let ix = (step, told.member);
                            let spot = Spot { step, item, member: told.member };
                            let back = course.undone.iter().find(|(undone, _)| *undone == spot).map(|(_, end)| *end);
                            let undo = |end: Option<UndoEnd>| {
                                end.filter(|end| *end == UndoEnd::Done || !unread(Reader::Undo(ix))).map(StoryUndo::of)
                            };
                            let member = sketch.member(ix).filter(|_| told.member > 0).map(|m| m.name.clone());
                            story.calls.push(StoryCall {
                                step: name(step),
                                member,
                                item: spot.item,
                                attempts: told.attempts.iter().map(|a| attempt(plan, sketch, ix, *a)).collect(),
                                confirm: told.confirm.filter(|_| !unread(Reader::Confirm(ix))).map(StoryAnswer::of),
                                undo_first: undo(told.undo),
                                undo: undo(back),
                            });
                        }
                    }
                    continue;
                }
            };
            story.steps.insert(name(step), end);
        }
        story
    }

    /// Makes the course of it again. The sketch is given the errors that the story names and no other stands for.
    ///
    /// # Errors
    /// What of it the workflow does not have.
    pub(crate) fn course(&self, plan: &Plan, sketch: &mut Sketch) -> Result<Course, Vec<Misfit>> {
        let mut names = Names { plan, misfits: Vec::new() };
        let mut course = Course::default();
        for (text, holds) in &self.conditions {
            match sketch.conditions.iter().position(|known| known == text) {
                Some(ix) => {
                    course.conditions.insert(ix, *holds);
                }
                None => {
                    let near = nearest(text, sketch.conditions.iter().map(String::as_str));
                    let help = near.map(|near| format!("Did you mean `{near}`?"));
                    names.misfit_at(
                        &join("/conditions", text),
                        Part::Key,
                        format!("the workflow has no condition `{text}`"),
                        help,
                    );
                }
            }
        }
        for (name, end) in &self.steps {
            let Some(step) = names.step(&join("/steps", name), Part::Key, name) else { continue };
            let told = match end {
                StoryStep::Skipped => StepCourse::Skipped,
                StoryStep::Unreadable => StepCourse::Unreadable,
                StoryStep::Waited => StepCourse::Waited,
                StoryStep::Missed => StepCourse::Missed,
                StoryStep::Waiting => StepCourse::Waiting,
            };
            course.steps.insert(step, told);
        }
        let mut calls: BTreeMap<usize, Vec<Vec<MemberCourse>>> = BTreeMap::new();
        for (name, count) in &self.items {
            let at = join("/items", name);
            let Some(step) = names.step(&at, Part::Key, name) else { continue };
            if sketch.steps[step].items.is_none() {
                names.misfit_at(&at, Part::Key, format!("step `{name}` has no `foreach`"), None);
                continue;
            }
            calls.insert(step, vec![Vec::new(); usize::try_from(*count).unwrap_or(0).min(ITEMS_MAX)]);
        }
        let mut left: BTreeSet<usize> = BTreeSet::new();
        for (n, name) in self.left.iter().enumerate() {
            let at = format!("/left/{n}");
            let Some(step) = names.step(&at, Part::Value, name) else { continue };
            if sketch.steps[step].items.is_none() {
                names.misfit(&at, format!("step `{name}` has no `foreach`"), None);
            } else if left.contains(&step) || calls.get_mut(&step).is_some_and(|items| items.pop().is_some()) {
                left.insert(step);
            } else {
                let help = format!("Say how many there are, with the one that is left: `items: {{ {name}: 2 }}`.");
                names.misfit(&at, format!("`{name}` has no item that is left"), Some(help));
            }
        }
        for (n, told) in self.calls.iter().enumerate() {
            let at = format!("/calls/{n}");
            let Some(step) = names.step(&format!("{at}/step"), Part::Value, &told.step) else { continue };
            let Some(member) = names.member(&format!("{at}/member"), step, told.member.as_deref()) else { continue };
            let listed = sketch.steps[step].items.is_some();
            let items = calls.entry(step).or_default();
            let item = match (listed, told.item) {
                (true, Some(item)) => usize::try_from(item).unwrap_or(usize::MAX),
                (false, None) => {
                    items.resize(1, Vec::new());
                    0
                }
                (true, None) => {
                    names.misfit(&at, format!("step `{}` has `foreach`: say which `item`", told.step), None);
                    continue;
                }
                (false, Some(_)) => {
                    names.misfit(&format!("{at}/item"), format!("step `{}` has no `foreach`", told.step), None);
                    continue;
                }
            };
            let Some(members) = items.get_mut(item) else {
                let count = item.saturating_add(1).saturating_add(usize::from(left.contains(&step)));
                let help = format!("Say how many there are: `items: {{ {}: {count} }}`.", told.step);
                names.misfit(&format!("{at}/item"), format!("`{}` has no item {item}", told.step), Some(help));
                continue;
            };
            let mut attempts = Vec::new();
            for (a, attempt) in told.attempts.iter().enumerate() {
                attempts.extend(names.attempt(&format!("{at}/attempts/{a}"), sketch, (step, member), attempt));
            }
            let (confirm, undo) = (told.confirm.map(Answer::from), told.undo_first.map(UndoEnd::from));
            members.push(MemberCourse { member, attempts, confirm, undo });
            if let Some(end) = told.undo {
                course.undone.push((Spot { step, item: told.item, member }, end.into()));
            }
        }
        let is_list = |step: usize| sketch.steps[step].items.is_some();
        course.steps.extend(calls.into_iter().map(|(step, items)| match is_list(step) {
            true => (step, StepCourse::Listed(List { items, left: left.contains(&step) })),
            false => (step, StepCourse::Called(items.into_iter().flatten().collect())),
        }));
        course.stop = match &self.stop {
            None => None,
            Some(StoryStop::Cancelled) => Some(Stop::Cancelled),
            Some(StoryStop::Output) => Some(Stop::Output),
            Some(StoryStop::Failed(name)) => names.step("/stop/failed", Part::Value, name).map(Stop::Failed),
        };
        if names.misfits.is_empty() { Ok(course) } else { Err(names.misfits) }
    }
}

/// A list in a story has no more items.
const ITEMS_MAX: usize = 100;

fn attempt(plan: &Plan, sketch: &Sketch, ix: MemberIx, attempt: Attempt) -> StoryAttempt {
    let (failing, world) = match attempt {
        Attempt::Succeeded => return StoryAttempt { error: NONE.to_owned(), kind: None, world: None },
        Attempt::CutOff(world) => {
            return StoryAttempt { error: CRASHED.to_owned(), kind: None, world: Some(StoryWorld::of(world)) };
        }
        Attempt::Failed(ending, world) => (sketch.member(ix).and_then(|member| member.endings.get(ending)), world),
    };
    let (code, clear, retried) = failing.map_or(("timeout", false, false), |f| (&f.code, f.clear, f.retried));
    let declared = contract_kind(plan, ix, code);
    let kind = match (declared, clear, retried) {
        (Some(_), ..) => None,
        (None, false, _) => Some(ErrorKind::Unknown),
        (None, true, true) => Some(ErrorKind::Retryable),
        (None, true, false) => Some(ErrorKind::Permanent),
    };
    StoryAttempt { error: code.to_owned(), kind, world: (!clear).then(|| StoryWorld::of(world)) }
}

/// Returns the kind that a handler declares its error to be of.
fn contract_kind(plan: &Plan, (step, member): MemberIx, code: &str) -> Option<ErrorKind> {
    let Action::Call(members) = &plan.steps.get(step)?.action else { return None };
    let contract = members.get(member)?.call.contract.as_ref()?;
    contract.errors.iter().find(|(known, _)| known.as_str() == code).and_then(|(_, kind)| *kind)
}

/// Finds what a story names in the workflow, and notes what is not there.
struct Names<'a> {
    plan: &'a Plan,
    misfits: Vec<Misfit>,
}

impl Names<'_> {
    fn misfit(&mut self, at: &str, message: String, help: Option<String>) {
        self.misfit_at(at, Part::Value, message, help);
    }

    fn misfit_at(&mut self, at: &str, part: Part, message: String, help: Option<String>) {
        self.misfits.push(Misfit { at: at.to_owned(), part, message, help });
    }

    fn step(&mut self, at: &str, part: Part, name: &str) -> Option<usize> {
        let found = self.plan.steps.iter().position(|step| step.name.as_str() == name);
        if found.is_none() {
            let near = nearest(name, self.plan.steps.iter().map(|step| step.name.as_str()));
            let help = near.map(|near| format!("Did you mean `{near}`?"));
            self.misfit_at(at, part, format!("the workflow has no step `{name}`"), help);
        }
        found
    }

    fn member(&mut self, at: &str, step: usize, name: Option<&str>) -> Option<usize> {
        let name = name.unwrap_or(PRIMARY);
        let step = &self.plan.steps[step];
        let Action::Call(members) = &step.action else {
            self.misfit(at, format!("step `{}` calls nothing", step.name), None);
            return None;
        };
        let found = members.iter().position(|member| member.name.as_str() == name);
        if found.is_none() {
            let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
            let help = format!("Its members are {}.", names.join(", "));
            self.misfit(at, format!("step `{}` has no member `{name}`", step.name), Some(help));
        }
        found
    }

    fn attempt(&mut self, at: &str, sketch: &mut Sketch, ix: MemberIx, told: &StoryAttempt) -> Option<Attempt> {
        let world = told.world.map_or(World::Nothing, World::from);
        match told.error.as_str() {
            NONE => return Some(Attempt::Succeeded),
            CRASHED => return Some(Attempt::CutOff(world)),
            _ => {}
        }
        let kind = told.kind.or_else(|| contract_kind(self.plan, ix, &told.error));
        let failing = ending_of(self.plan, ix, &told.error, kind);
        let Some(failing) = failing else {
            let handler = sketch.member(ix).map_or("", |member| member.handler.as_str());
            self.misfit(&format!("{at}/error"), format!("`{handler}` does not fail with `{}`", told.error), None);
            return None;
        };
        if failing.clear && world != World::Nothing {
            self.misfit(
                &format!("{at}/world"),
                format!("`{}` means that nothing was done, so `world` is `nothing`", told.error),
                None,
            );
            return None;
        }
        Some(Attempt::Failed(place_of(sketch, ix, failing)?, world))
    }
}

/// Returns the place of a way to fail among those of its member, where it is put if it is not there.
fn place_of(sketch: &mut Sketch, (step, member): MemberIx, failing: Failing) -> Option<usize> {
    let endings = &mut sketch.steps.get_mut(step)?.members_mut().get_mut(member)?.endings;
    if let Some(place) = endings.iter().position(|known| *known == failing) {
        return Some(place);
    }
    endings.push(failing);
    Some(endings.len() - 1)
}

macro_rules! same_words {
    ($($told:ident and $meant:ident: $($word:ident)*;)*) => {$(
        impl $told {
            fn of(meant: $meant) -> Self {
                match meant {
                    $($meant::$word => Self::$word,)*
                }
            }
        }

        impl From<$told> for $meant {
            fn from(told: $told) -> Self {
                match told {
                    $($told::$word => Self::$word,)*
                }
            }
        }
    )*};
}

same_words! {
    StoryWorld and World: Nothing Done OnItsWay;
    StoryAnswer and Answer: Done NotDone Unknown;
    StoryUndo and UndoEnd: Done Failed;
}

/// A story that is to be kept.
pub(crate) struct Kept<'a> {
    /// The scenario's name.
    pub(crate) name: String,
    /// What it shows, in a sentence or two.
    pub(crate) description: String,
    pub(crate) story: &'a Story,
}

/// Writes a test file of stories. `workflow` is the path from that file.
pub(crate) fn file_text(workflow: &str, config: Option<&Value>, stories: &[Kept<'_>]) -> String {
    let mut out = String::from(
        "# Saved by `flowrun verify --save-story`: runs in which the workflow goes wrong. `flowrun test` plays them without\n\
         # calling a handler. Each fails until the workflow is mended, and keeps the flaw from coming back.\n\
         flowrun_test: 1\n",
    );
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("workflow: {}", flow(&workflow.into())));
    if let Some(config) = config {
        line(format!("base: {{ config: {} }}", flow(config)));
    }
    line("scenarios:".to_owned());
    for Kept { name, description, story } in stories {
        line(format!("  {name}:"));
        line(format!("    description: {}", flow(&description.as_str().into())));
        let story = serde_json::to_value(story).expect("names, words and numbers are JSON");
        let keys = story.as_object().into_iter().flatten();
        line(format!("    story:{}", if keys.clone().next().is_none() { " {}" } else { "" }));
        for (key, value) in keys {
            match value {
                Value::Array(calls) => {
                    line(format!("      {key}:"));
                    calls.iter().for_each(|call| line(format!("        - {}", flow(call))));
                }
                value => line(format!("      {key}: {}", flow(value))),
            }
        }
        line("    expect: { flaws: [] }".to_owned());
    }
    out
}

/// Writes a value in one line of YAML.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| format!("{}: {}", flow(&key.as_str().into()), flow(value));
            format!("{{ {} }}", map.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        // JSON is YAML.
        other => other.to_string(),
    }
}

/// Tells whether a text can stand without quotes and still be a text.
fn is_plain(text: &str) -> bool {
    const OTHERWISE: [&str; 11] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
        && !OTHERWISE.contains(&text.to_ascii_lowercase().as_str())
}
