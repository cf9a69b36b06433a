//! From a workflow as written to its plan: names resolved, policies complete, steps in order.
//!
//! Meant for what `check` found no error in. It still never panics on anything else, because a run compiles its pinned
//! workflow again: what cannot be compiled comes back as findings.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use petgraph::graph::DiGraph;
use serde_json::{Map, Value};

use super::calls::{self, At, CallAt, MemberAt};
use super::graph;
use super::node::{
    Action, Breaker, Call, FinallyStep, Foreach, Member, Plan, Retry, Service, Step, StepIx, Wait, WaitLimit,
};
use super::settings::{Misfit, Settings};
use crate::definition::Loaded;
use crate::diag::{Finding, FindingCode, Span, in_file_order};
use crate::dsl::document::{self, Document};
use crate::dsl::setting::Duration as DurationSetting;
use crate::dsl::setting::{Condition, Count};
use crate::dsl::tree::{FINDINGS_MAX, Part, Tree, join};
use crate::handlers::contract::Contracts;
use crate::names::{Code, StepName};
use crate::template::{Expression, Reference, Template, TemplateError};

/// The longest time of an attempt that says nothing about it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How many items run at once in a `foreach` that says nothing about it.
const FOREACH_CONCURRENCY: u32 = 16;

/// Makes the plan of a workflow.
///
/// A handler that is not among `contracts` is no error here: a run that was started by another binary compiles too.
///
/// # Errors
/// Returns findings for policy fields that do not fit the configuration, and for whatever `check` would have found
/// that no plan can be made of.
pub fn compile(loaded: &Loaded, contracts: &Contracts) -> Result<Plan, Vec<Finding>> {
    let document = &loaded.parsed.document;
    let config = Arc::new(loaded.definition.config.clone());
    let index: HashMap<StepName, StepIx> =
        (0..).zip(document.steps.keys()).map(|(i, n)| (n.as_str().into(), StepIx(i))).collect();
    let mut compiler = Compiler {
        document,
        tree: &loaded.parsed.tree,
        contracts,
        settings: Settings::new(config.clone()),
        index: &index,
        reads: BTreeSet::new(),
        findings: Vec::new(),
    };

    let mut steps: Vec<Step> = document.steps.iter().map(|(name, step)| compiler.step(name, step)).collect();
    let needs: Vec<Vec<usize>> = steps.iter().map(|s| s.needs.iter().map(|n| n.0 as usize).collect()).collect();
    let order = graph::order(&needs);
    if let Some(&stuck) = order.stuck.first() {
        let span = compiler.tree.span(&join("/steps", steps[stuck].name.as_str()), Part::Key);
        compiler.findings.push(Finding::error(FindingCode::Cycle, span, "this step waits for itself"));
    }
    for (step, dependents) in steps.iter_mut().zip(graph::dependents(&needs)) {
        step.dependents = dependents.into_iter().map(step_ix).collect();
    }

    let finally = document
        .finally
        .iter()
        .map(|(name, step)| FinallyStep {
            name: name.as_str().into(),
            call: compiler.call(&calls::finally_call(document, name, step)),
        })
        .collect();
    let services = document.services.iter().map(|(n, s)| (n.as_str().into(), compiler.service(n, s))).collect();
    let deadline = compiler.bound(document.deadline.as_ref(), "/deadline");
    let output = document.output.as_ref().map(|map| compiler.template(&Value::Object(map.clone()), "/output"));

    let mut findings = compiler.findings;
    if !findings.is_empty() {
        in_file_order(&mut findings);
        return Err(findings);
    }
    Ok(Plan {
        name: document.name.clone(),
        description: document.description.clone(),
        graph: graph_of(&needs),
        order: order.sorted.into_iter().map(step_ix).collect(),
        steps,
        index,
        finally,
        services,
        deadline,
        config,
        secrets: document.secrets.clone(),
        input_schema: loaded.input_schema.clone().map(Arc::new),
        output,
    })
}

fn step_ix(i: usize) -> StepIx {
    StepIx(u32::try_from(i).expect("steps are counted in 32 bits"))
}

fn graph_of(needs: &[Vec<usize>]) -> DiGraph<StepIx, ()> {
    let mut graph = DiGraph::with_capacity(needs.len(), needs.iter().map(Vec::len).sum());
    let nodes: Vec<_> = (0..needs.len()).map(|i| graph.add_node(step_ix(i))).collect();
    for (step, needed) in needs.iter().enumerate() {
        for &n in needed {
            graph.add_edge(nodes[n], nodes[step], ());
        }
    }
    graph
}

struct Compiler<'a> {
    document: &'a Document,
    tree: &'a Tree,
    contracts: &'a Contracts,
    settings: Settings,
    index: &'a HashMap<StepName, StepIx>,
    /// The steps that the templates of the present step refer to.
    reads: BTreeSet<StepIx>,
    findings: Vec<Finding>,
}

impl Compiler<'_> {
    fn step(&mut self, name: &str, step: &document::Step) -> Step {
        self.reads.clear();
        let at = join("/steps", name);
        for (i, need) in step.needs.iter().enumerate() {
            match self.index.get(need.as_str()) {
                Some(&ix) => {
                    self.reads.insert(ix);
                }
                None => {
                    let span = self.tree.span(&format!("{at}/needs/{i}"), Part::Value);
                    self.error(FindingCode::UnknownStep, span, format!("unknown step `{need}`"), None);
                }
            }
        }
        let when = self.condition(step.when.as_ref(), &join(&at, "when"));
        let foreach = step.foreach.as_ref().and_then(|items| {
            let items = self.expression(items, &join(&at, "foreach"))?;
            Some(Foreach {
                items,
                var: step.as_.clone().unwrap_or_else(|| "item".to_owned()),
                concurrency: self.count(step.concurrency.as_ref(), &join(&at, "concurrency"), FOREACH_CONCURRENCY),
            })
        });
        let action = match &step.wait {
            Some(wait) => Action::Wait(self.wait(wait, &join(&at, "wait"))),
            None => {
                if step.uses.is_none() {
                    let span = self.tree.span(&join(&at, "workflow"), Part::Key);
                    self.error(FindingCode::NotBuilt, span, "child workflows cannot be run yet".to_owned(), None);
                }
                let members = calls::members(self.document, name, step);
                Action::Call(members.iter().map(|member| self.member(member)).collect())
            }
        };
        Step {
            name: name.into(),
            description: step.description.clone(),
            needs: std::mem::take(&mut self.reads).into_iter().collect(),
            dependents: Vec::new(),
            when,
            on_skip: step.on_skip,
            on_error: step.on_error.unwrap_or_default(),
            pivot: step.pivot,
            foreach,
            action,
        }
    }

    fn wait(&mut self, wait: &document::Wait, at: &str) -> Wait {
        let until = wait.until.as_ref().and_then(|until| self.expression(until, &join(at, "until")));
        if let Some(name) = &wait.signal {
            let limit = match (until, self.optional_duration(wait.timeout.as_ref(), &join(at, "timeout"))) {
                (Some(until), _) => WaitLimit::Until(until),
                (None, Some(time)) => WaitLimit::For(time),
                (None, None) => WaitLimit::None,
            };
            let schema = wait.schema.clone().map(|schema| Arc::new(Value::Object(schema)));
            return Wait::Signal { name: name.clone(), limit, schema };
        }
        match until {
            Some(until) => Wait::Until(until),
            None => Wait::For(self.duration(wait.for_.as_ref(), &join(at, "for"), Duration::ZERO)),
        }
    }

    fn member(&mut self, member: &MemberAt<'_>) -> Member {
        Member {
            name: member.name.into(),
            errors: member.errors.as_ref().map(codes),
            when: member.when.as_ref().and_then(|when| self.condition(Some(when.value), &when.pointer)),
            call: self.call(&member.call),
            confirm: member.confirm.as_ref().map(|call| self.call(call)),
            compensate: member.compensate.as_ref().map(|call| self.call(call)),
        }
    }

    fn call(&mut self, call: &CallAt<'_>) -> Call {
        let contract = self.contracts.get(call.uses).cloned();
        let with = match &call.with {
            Some(with) => self.template(with.value, &with.pointer),
            // A handler without an input takes null, every other one an object of which nothing is given.
            None if contract.as_ref().is_some_and(|c| c.input.get("type") == Some(&"null".into())) => {
                Template::default()
            }
            None => Template::parse(&Value::Object(Map::new())).0,
        };
        Call {
            handler: call.uses.into(),
            contract,
            with,
            service: call.service.as_ref().map(|service| service.value.into()),
            timeout: match &call.timeout {
                Some(timeout) => self.bound(Some(timeout.value), &timeout.pointer).unwrap_or(TIMEOUT),
                None => TIMEOUT,
            },
            retry: call.retry.as_ref().map_or_else(Retry::default, |retry| self.retry(retry)),
        }
    }

    fn retry(&mut self, written: &At<'_, document::Retry>) -> Retry {
        let merged = calls::retry(self.document, written);
        let otherwise = Retry::default();
        Retry {
            attempts: match &merged.attempts {
                Some(at) => self.count(Some(at.value), &at.pointer, otherwise.attempts),
                None => otherwise.attempts,
            },
            backoff: merged.backoff.unwrap_or(otherwise.backoff),
            delay: self.duration_at(merged.delay.as_ref()).unwrap_or(otherwise.delay),
            factor: match &merged.factor {
                Some(At { value, pointer }) => {
                    let factor = self.settings.factor(value);
                    self.fitting(factor, pointer).unwrap_or(otherwise.factor)
                }
                None => otherwise.factor,
            },
            max_delay: self.duration_at(merged.max_delay.as_ref()).unwrap_or(otherwise.max_delay),
            jitter: merged.jitter.unwrap_or(otherwise.jitter),
            errors: merged.errors.as_ref().map(codes),
            except: merged.except.as_ref().map(codes).unwrap_or_default(),
            within: merged.within.as_ref().and_then(|at| self.bound(Some(at.value), &at.pointer)),
        }
    }

    fn service(&mut self, name: &str, service: &document::Service) -> Service {
        let at = join("/services", name);
        let breaker = service.breaker.as_ref().map(|breaker| {
            let at = join(&at, "breaker");
            Breaker {
                failures: self.count(Some(&breaker.failures), &join(&at, "failures"), 1),
                within: self.bound(Some(&breaker.within), &join(&at, "within")).unwrap_or_default(),
                cooldown: self.duration(Some(&breaker.cooldown), &join(&at, "cooldown"), Duration::ZERO),
            }
        });
        let concurrency = service.concurrency.as_ref().map(|c| self.count(Some(c), &join(&at, "concurrency"), 1));
        Service { breaker, concurrency }
    }

    fn condition(&mut self, condition: Option<&Condition>, pointer: &str) -> Option<Expression> {
        self.expression(&condition_text(condition?), pointer)
    }

    fn expression(&mut self, text: &str, pointer: &str) -> Option<Expression> {
        match Expression::parse(text) {
            Ok(expression) => {
                self.read(expression.references().iter());
                Some(expression)
            }
            Err(error) => {
                self.template_error(pointer, error);
                None
            }
        }
    }

    fn template(&mut self, value: &Value, pointer: &str) -> Template {
        let (template, errors) = Template::parse(value);
        self.read(template.references().iter().map(|(_, reference)| reference));
        for (inner, error) in errors {
            self.template_error(&format!("{pointer}{inner}"), error);
        }
        template
    }

    fn read<'r>(&mut self, references: impl Iterator<Item = &'r Reference>) {
        let index = self.index;
        self.reads.extend(references.filter_map(|r| match r.path.as_slice() {
            [steps, name, ..] if steps == "steps" => index.get(name.as_str()).copied(),
            _ => None,
        }));
    }

    fn duration_at(&mut self, at: Option<&At<'_, DurationSetting>>) -> Option<Duration> {
        at.and_then(|at| self.optional_duration(Some(at.value), &at.pointer))
    }

    fn duration(&mut self, written: Option<&DurationSetting>, pointer: &str, otherwise: Duration) -> Duration {
        self.optional_duration(written, pointer).unwrap_or(otherwise)
    }

    fn optional_duration(&mut self, written: Option<&DurationSetting>, pointer: &str) -> Option<Duration> {
        let read = self.settings.duration(written?);
        self.fitting(read, pointer)
    }

    /// A length of time that may not be zero.
    fn bound(&mut self, written: Option<&DurationSetting>, pointer: &str) -> Option<Duration> {
        let read = self.settings.bound(written?);
        self.fitting(read, pointer)
    }

    fn count(&mut self, written: Option<&Count>, pointer: &str, otherwise: u32) -> u32 {
        let Some(written) = written else { return otherwise };
        let read = self.settings.count(written);
        self.fitting(read, pointer).unwrap_or(otherwise)
    }

    fn fitting<T>(&mut self, read: Result<T, Misfit>, pointer: &str) -> Option<T> {
        read.map_err(|misfit| {
            let span = self.tree.span(pointer, Part::Value);
            self.error(FindingCode::SettingMisfit, span, misfit.message, misfit.help);
        })
        .ok()
    }

    fn template_error(&mut self, pointer: &str, error: TemplateError) {
        let span = match error.range {
            Some(range) => self.tree.inside(pointer, range),
            None => self.tree.span(pointer, Part::Value),
        };
        self.error(FindingCode::TemplateSyntax, span, error.message, error.help);
    }

    fn error(&mut self, code: FindingCode, span: Span, message: String, help: Option<String>) {
        // Whoever wants to know what is wrong with a workflow checks it; here one finding says that it cannot be used.
        if self.findings.len() <= FINDINGS_MAX {
            self.findings.push(Finding::error(code, span, message).help_if(help));
        }
    }
}

/// Returns a condition as the text of an expression.
pub(crate) fn condition_text(condition: &Condition) -> String {
    match &condition.0 {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn codes(at: &At<'_, Vec<String>>) -> Vec<Code> {
    at.value.iter().map(|code| code.as_str().into()).collect()
}
