//! Drawings of a plan: text for a terminal, Mermaid and Graphviz for documents.
//!
//! A drawing leaves out an edge that follows from others, so that a chain looks like a chain. It knows the plan only;
//! what a run did with it comes in as words beside the steps.

use std::fmt::Write as _;
use std::time::Duration;

use super::graph;
use super::node::{Action, Plan, Step, StepIx, Wait, WaitLimit};

/// Above this number of steps every edge is drawn, because finding those that follow from others takes the square.
const REDUCED_UP_TO: usize = 2_000;

/// What is written beside a plan: nothing, or how a run of it stands.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// Behind the plan's name.
    pub title: Option<String>,
    /// Beside each step, by its index.
    pub steps: Vec<String>,
}

impl Marks {
    fn of(&self, step: usize) -> Option<&str> {
        self.steps.get(step).map(String::as_str)
    }
}

/// Draws the plan as plain text for a terminal of `width` columns: one paragraph per layer, each step with what it
/// calls and, behind `<-`, the steps it waits for.
#[must_use]
pub fn ascii(plan: &Plan, marks: &Marks, width: usize) -> String {
    let needs = drawn_needs(plan);
    let layers = graph::layers(&needs);
    let mut by_layer: Vec<usize> = (0..plan.steps.len()).collect();
    by_layer.sort_by_key(|&i| (layers[i], i));

    let names = plan.steps.iter().map(|s| &s.name).chain(plan.finally.iter().map(|f| &f.name));
    let name_width = names.map(|n| n.as_str().len()).max().unwrap_or(0).min(24);
    let number_width = by_layer.last().map_or(1, |&i| (layers[i] + 1).to_string().len());
    let page = Page { indent: number_width + 2 + name_width + 2, name_width, number_width, width: width.max(40) };

    let title = marks.title.as_ref().map_or_else(String::new, |title| format!(", {title}"));
    let mut out = format!("{}{title}\n\n", plan.name);
    let mut last_layer = None;
    for i in by_layer {
        let step = &plan.steps[i];
        let number = if last_layer == Some(layers[i]) { String::new() } else { (layers[i] + 1).to_string() };
        last_layer = Some(layers[i]);
        let mut first = what(step);
        if !needs[i].is_empty() {
            let after: Vec<&str> = needs[i].iter().map(|&n| plan.steps[n].name.as_str()).collect();
            let _ = write!(first, "  <- {}", after.join(", "));
        }
        if let Some(mark) = marks.of(i) {
            let _ = write!(first, "  [{mark}]");
        }
        page.line(&mut out, &number, step.name.as_str(), &first);
        for detail in details(step) {
            page.detail(&mut out, &detail);
        }
    }
    if !plan.finally.is_empty() {
        out.push_str("\nfinally\n");
        for step in &plan.finally {
            page.line(&mut out, "", step.name.as_str(), step.call.handler.as_str());
        }
    }
    out
}

/// Draws the plan as a Mermaid flowchart. A step with `when` has a dashed border, a pivot a thick one.
#[must_use]
pub fn mermaid(plan: &Plan, marks: &Marks) -> String {
    let mut out = String::from("flowchart TD\n");
    for (i, step) in plan.steps.iter().enumerate() {
        let (open, close) = match (&step.action, &step.foreach) {
            (Action::Wait(_), _) => ("([", "])"),
            (Action::Call(_), Some(_)) => ("[[", "]]"),
            (Action::Call(_), None) => ("[", "]"),
        };
        let label = label(step, marks.of(i)).iter().map(|l| mermaid_text(l)).collect::<Vec<_>>().join("<br/>");
        let _ = writeln!(out, "    {}{open}\"{label}\"{close}", mermaid_id(step.name.as_str()));
    }
    for (i, needed) in drawn_needs(plan).iter().enumerate() {
        for &n in needed {
            let (from, to) = (plan.steps[n].name.as_str(), plan.steps[i].name.as_str());
            let _ = writeln!(out, "    {} --> {}", mermaid_id(from), mermaid_id(to));
        }
    }
    if !plan.finally.is_empty() {
        out.push_str("    subgraph finally_steps [finally]\n");
        for step in &plan.finally {
            let name = step.name.as_str();
            let handler = mermaid_text(step.call.handler.as_str());
            let _ = writeln!(out, "        finally_{name}[\"{name}<br/>{handler}\"]");
        }
        out.push_str("    end\n");
    }
    mermaid_class(&mut out, "conditional", "stroke-dasharray: 5 5", plan.steps.iter().filter(|s| s.when.is_some()));
    mermaid_class(&mut out, "pivot", "stroke-width: 4px", plan.steps.iter().filter(|s| s.pivot));
    out
}

/// Draws the plan in Graphviz's language. A step with `when` has a dashed border, a pivot a thick one.
#[must_use]
pub fn dot(plan: &Plan, marks: &Marks) -> String {
    let mut out = format!("digraph {} {{\n    rankdir=TB;\n    node [shape=box];\n", dot_text(&plan.name));
    for (i, step) in plan.steps.iter().enumerate() {
        let mut extra = String::new();
        if matches!(step.action, Action::Wait(_)) {
            extra.push_str(", shape=oval");
        } else if step.foreach.is_some() {
            extra.push_str(", peripheries=2");
        }
        if step.when.is_some() {
            extra.push_str(", style=dashed");
        }
        if step.pivot {
            extra.push_str(", penwidth=3");
        }
        let label = label(step, marks.of(i)).join("\n");
        let _ = writeln!(out, "    {} [label={}{extra}];", dot_text(step.name.as_str()), dot_text(&label));
    }
    for (i, needed) in drawn_needs(plan).iter().enumerate() {
        for &n in needed {
            let (from, to) = (plan.steps[n].name.as_str(), plan.steps[i].name.as_str());
            let _ = writeln!(out, "    {} -> {};", dot_text(from), dot_text(to));
        }
    }
    if !plan.finally.is_empty() {
        out.push_str("    subgraph cluster_finally {\n        label=\"finally\";\n");
        for step in &plan.finally {
            let text = format!("{}\n{}", step.name, step.call.handler);
            let _ =
                writeln!(out, "        {} [label={}];", dot_text(&format!("finally.{}", step.name)), dot_text(&text));
        }
        out.push_str("    }\n");
    }
    out.push_str("}\n");
    out
}

/// The columns of the text drawing.
struct Page {
    number_width: usize,
    name_width: usize,
    indent: usize,
    width: usize,
}

impl Page {
    fn line(&self, out: &mut String, number: &str, name: &str, text: &str) {
        let Self { number_width, indent, .. } = *self;
        let head = format!("{number:>number_width$}  {name}");
        if name.len() > self.name_width {
            // A very long name stands alone, rather than pushing every other line to the right.
            let _ = writeln!(out, "{head}");
            self.detail(out, text);
            return;
        }
        let mut lines = fold(text, self.width - self.indent.min(self.width / 2)).into_iter();
        let first = lines.next().unwrap_or_default();
        let _ = writeln!(out, "{}", format!("{head:<indent$}{first}").trim_end());
        for line in lines {
            let _ = writeln!(out, "{:1$}  {line}", "", self.indent);
        }
    }

    fn detail(&self, out: &mut String, text: &str) {
        let words = text.trim_start();
        let indent = self.indent + text.len() - words.len();
        for (i, line) in fold(words, self.width - indent.min(self.width / 2)).into_iter().enumerate() {
            let _ = writeln!(out, "{:2$}{}{line}", "", if i == 0 { "" } else { "  " }, indent);
        }
    }
}

/// Breaks text at spaces into lines of at most `width` characters, the later ones leaving room for two more; a word
/// that is longer keeps a line of its own.
fn fold(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let room = if lines.len() == 1 { width } else { width.saturating_sub(2) };
        let last = lines.last_mut().expect("there is always a line");
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= room {
            last.push(' ');
            last.push_str(word);
        } else {
            last.truncate(last.trim_end().len());
            lines.push(word.to_owned());
        }
    }
    lines
}

/// What a step does, in a few words.
fn what(step: &Step) -> String {
    match &step.action {
        Action::Call(members) => members.first().map(|m| m.call.handler.to_string()).unwrap_or_default(),
        Action::Wait(Wait::For(time)) => format!("wait {}", time_text(*time)),
        Action::Wait(Wait::Until(until)) => format!("wait until {}", until.source().trim()),
        Action::Wait(Wait::Signal { name, .. }) => format!("wait for signal {name}"),
    }
}

/// What else there is to say about a step, one line each.
fn details(step: &Step) -> Vec<String> {
    let mut details = Vec::new();
    if let Some(when) = &step.when {
        details.push(format!("when {}", when.source().trim()));
    }
    if let Some(foreach) = &step.foreach {
        details.push(format!("for each {} in {}", foreach.var, foreach.items.source().trim()));
    }
    match &step.action {
        Action::Call(members) => {
            for (i, member) in members.iter().enumerate() {
                if i > 0 {
                    details.push(format!("else {}: {}", member.name, member.call.handler));
                }
                // An undo stands under what it undoes.
                let under = if i > 0 { "  " } else { "" };
                details.extend(member.compensate.as_ref().map(|call| format!("{under}undo {}", call.handler)));
            }
        }
        Action::Wait(Wait::Signal { limit: WaitLimit::For(time), .. }) => {
            details.push(format!("at most {}", time_text(*time)));
        }
        Action::Wait(Wait::Signal { limit: WaitLimit::Until(until), .. }) => {
            details.push(format!("until {}", until.source().trim()));
        }
        Action::Wait(_) => {}
    }
    if step.pivot {
        details.push("pivot: nothing is undone after it".to_owned());
    }
    details
}

/// The lines of a step's box.
fn label(step: &Step, mark: Option<&str>) -> Vec<String> {
    let mut lines = vec![step.name.to_string(), what(step)];
    if let Action::Call(members) = &step.action {
        lines.extend(members.iter().skip(1).map(|m| format!("else {}", m.call.handler)));
    }
    lines.extend(mark.map(|mark| format!("[{mark}]")));
    lines
}

/// What each step waits for, without what follows from the rest.
fn drawn_needs(plan: &Plan) -> Vec<Vec<usize>> {
    let index = |ix: &StepIx| ix.0 as usize;
    let needs: Vec<Vec<usize>> = plan.steps.iter().map(|s| s.needs.iter().map(index).collect()).collect();
    if needs.len() > REDUCED_UP_TO {
        return needs;
    }
    let words = needs.len().div_ceil(64);
    let mut before: Vec<Vec<u64>> = vec![vec![0; words]; needs.len()];
    let has = |set: &[u64], n: usize| set[n / 64] >> (n % 64) & 1 == 1;
    let mut reduced = needs.clone();
    for step in graph::order(&needs).sorted {
        let mut further = vec![0; words];
        for &n in &needs[step] {
            for (word, more) in further.iter_mut().zip(&before[n]) {
                *word |= more;
            }
        }
        reduced[step].retain(|&n| !has(&further, n));
        for &n in &needs[step] {
            further[n / 64] |= 1 << (n % 64);
        }
        before[step] = further;
    }
    reduced
}

/// Writes a length of time with its largest units: `90s` is `1m 30s`.
pub(crate) fn time_text(time: Duration) -> String {
    let mut left = time.as_millis();
    let mut parts = Vec::new();
    for (unit, ms) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if left >= ms {
            parts.push(format!("{}{unit}", left / ms));
            left %= ms;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// Mermaid reads some names as words of its own language.
fn mermaid_id(name: &str) -> String {
    const RESERVED: &[&str] =
        &["call", "class", "click", "default", "end", "flowchart", "graph", "href", "style", "subgraph"];
    if RESERVED.contains(&name) { format!("{name}_") } else { name.to_owned() }
}

fn mermaid_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

fn mermaid_class<'a>(out: &mut String, class: &str, style: &str, steps: impl Iterator<Item = &'a Step>) {
    let ids: Vec<String> = steps.map(|s| mermaid_id(s.name.as_str())).collect();
    if !ids.is_empty() {
        let _ = writeln!(out, "    classDef {class} {style}\n    class {} {class}", ids.join(","));
    }
}

fn dot_text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
