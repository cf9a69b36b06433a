//! What a template asks on its way: which paths it uses under which conditions, and what a condition comes down to.
//!
//! A condition is taken apart at `and`, `or`, `not` and `if`; what is left is either known before (because everything in
//! it is), or about the presence of a path or its value, or a text that stands for itself. Two conditions that say the
//! same are the same: the text is written anew from the tree, and what has an opposite is written in one way. Whether a
//! path is there, and what a value can be, is for others to say.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value;

use super::budget::Budget;
use super::eval::Machine;
use super::refs::path;
use super::syntax::{Arguments, CompareOp, Kind, Node, Part};
use super::write::{operand, sign, text};
use super::{Expression, Scope, Shape, Template, inside};
use crate::limits::Limits;

/// How often conditions inside each other are taken apart: `if` and `default` repeat what they ask.
const DEPTH_MAX: u8 = 6;

/// A condition, taken apart as far as its form tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logic {
    /// Known before.
    Const(bool),
    /// It depends on a name that the template itself has given: an item of its own loop, a part of its own text.
    Open,
    /// A path is there.
    Defined(Asked),
    /// A path's value is one of these.
    Among(Asked, Vec<Value>),
    /// Anything else.
    Other(Asked),
    /// The opposite.
    Not(Box<Logic>),
    /// All of them.
    All(Vec<Logic>),
    /// At least one of them.
    Any(Vec<Logic>),
}

/// A question that cannot be taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// How it is written, the same for all that ask the same.
    pub text: String,
    /// The path it is about; empty if it is about more than one path.
    pub path: Vec<String>,
    /// The first names of all paths in it.
    pub names: BTreeSet<String>,
}

/// A path whose value is used, so that it has to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Its names, the first being the variable.
    pub path: Vec<String>,
    /// Where each name stands, as byte ranges in the string that holds the template.
    pub ranges: Vec<Range<usize>>,
    /// It is used only if this holds.
    pub when: Logic,
}

impl Expression {
    /// Takes the expression apart as a condition. What depends on nothing but `known` is evaluated.
    #[must_use]
    pub fn logic(&self, known: &Scope) -> Logic {
        Walk::new(known).logic(&self.inner.code, 0)
    }

    /// Returns the paths whose values it uses, in the order in which they stand. A path whose absence it allows for, by
    /// `default`, `is defined` or `is undefined`, is not among them.
    #[must_use]
    pub fn uses(&self, known: &Scope) -> Vec<Use> {
        Walk::new(known).uses_of(&self.inner.code)
    }
}

impl Template {
    /// Returns the paths whose values it uses, each with the JSON pointer of the string it stands in; as
    /// [`Expression::uses`].
    #[must_use]
    pub fn uses(&self, known: &Scope) -> Vec<(String, Use)> {
        let mut found = Vec::new();
        of_shape(&self.shape, &mut String::new(), known, &mut found);
        found
    }
}

fn of_shape(shape: &Shape, pointer: &mut String, known: &Scope, found: &mut Vec<(String, Use)>) {
    match shape {
        Shape::Literal(_) => {}
        Shape::Expression(expression) => {
            found.extend(expression.uses(known).into_iter().map(|used| (pointer.clone(), used)));
        }
        Shape::Text(text) => {
            let mut walk = Walk::new(known);
            walk.parts(&text.inner.code, &Logic::Const(true));
            found.extend(walk.finish().into_iter().map(|used| (pointer.clone(), used)));
        }
        Shape::List(items) => {
            for (index, item) in items.iter().enumerate() {
                inside(pointer, &index.to_string(), |pointer| of_shape(item, pointer, known, found));
            }
        }
        Shape::Object(members) => {
            for (key, member) in members {
                inside(pointer, key, |pointer| of_shape(member, pointer, known, found));
            }
        }
    }
}

fn not(logic: Logic) -> Logic {
    match logic {
        Logic::Const(known) => Logic::Const(!known),
        Logic::Not(inner) => *inner,
        other => Logic::Not(Box::new(other)),
    }
}

pub(super) struct Walk<'n, 's> {
    known: &'s Scope,
    locals: Vec<&'n str>,
    uses: Vec<Use>,
}

impl<'n, 's> Walk<'n, 's> {
    pub(super) fn new(known: &'s Scope) -> Self {
        Self { known, locals: Vec::new(), uses: Vec::new() }
    }

    pub(super) fn uses_of(mut self, node: &'n Node) -> Vec<Use> {
        self.node(node, false, &Logic::Const(true));
        self.finish()
    }

    fn finish(mut self) -> Vec<Use> {
        self.uses.sort_by_key(|used| used.ranges[0].start);
        self.uses
    }

    fn parts(&mut self, parts: &'n [Part], when: &Logic) {
        let depth = self.locals.len();
        for part in parts {
            match part {
                Part::Text(_) => {}
                Part::Print(node) => self.node(node, false, when),
                Part::If(test, then, otherwise) => {
                    self.node(test, false, when);
                    let holds = self.logic(test, 0);
                    self.parts(then, &both(when, holds.clone()));
                    self.parts(otherwise, &both(when, not(holds)));
                }
                Part::For(each) => {
                    self.node(&each.iter, false, when);
                    // What there is to go over holds, as a condition, if it is not empty.
                    let some = self.logic(&each.iter, 0);
                    let outside = self.locals.len();
                    self.locals.extend(each.names.iter().map(String::as_str));
                    self.locals.push("loop");
                    let (mut inner, mut none) = (both(when, some.clone()), both(when, not(some)));
                    if let Some(filter) = &each.filter {
                        self.node(filter, false, &inner);
                        inner = both(&inner, Logic::Open);
                        none = both(when, Logic::Open);
                    }
                    self.parts(&each.body, &inner);
                    self.locals.truncate(outside);
                    self.parts(&each.otherwise, &none);
                }
                Part::Set(name, node) => {
                    self.node(node, false, when);
                    self.locals.push(name);
                }
                Part::Capture(name, body) => {
                    self.parts(body, when);
                    self.locals.push(name);
                }
                Part::With(names, body) => {
                    let outside = self.locals.len();
                    for (name, node) in names {
                        self.node(node, false, when);
                        self.locals.push(name);
                    }
                    self.parts(body, when);
                    self.locals.truncate(outside);
                }
            }
        }
        self.locals.truncate(depth);
    }

    fn node(&mut self, node: &'n Node, guarded: bool, when: &Logic) {
        match &node.kind {
            Kind::Literal(_) => {}
            Kind::Name(_) | Kind::Member(..) => match path(node) {
                Some((path, ranges)) => {
                    if !guarded && !self.locals.contains(&path[0]) {
                        let path = path.into_iter().map(str::to_owned).collect();
                        self.uses.push(Use { path, ranges, when: when.clone() });
                    }
                }
                None => {
                    if let Kind::Member(base, ..) = &node.kind {
                        self.node(base, guarded, when);
                    }
                }
            },
            Kind::Item(base, index) => {
                self.node(base, guarded, when);
                self.node(index, false, when);
            }
            Kind::Default(operand, other, lax) => {
                self.node(operand, true, when);
                if let Some(lax) = lax {
                    let there = self.defined(operand, 0);
                    self.node(lax, false, &both(when, there));
                }
                if let Some(other) = other {
                    let taken = self.falls_back(operand, lax.as_deref(), 0);
                    self.node(other, guarded, &both(when, taken));
                }
            }
            Kind::Defined(operand, _) => self.node(operand, true, when),
            Kind::And(sides) => {
                self.node(&sides.0, false, when);
                let first = self.logic(&sides.0, 0);
                self.node(&sides.1, false, &both(when, first));
            }
            Kind::Or(sides) => {
                self.node(&sides.0, false, when);
                let first = self.logic(&sides.0, 0);
                self.node(&sides.1, false, &both(when, not(first)));
            }
            Kind::If(branches) => {
                self.node(&branches.0, false, when);
                let test = self.logic(&branches.0, 0);
                self.node(&branches.1, guarded, &both(when, test.clone()));
                self.node(&branches.2, guarded, &both(when, not(test)));
            }
            _ => each_child(node, &mut |child| self.node(child, false, when)),
        }
    }

    /// Takes a node apart as a condition.
    pub(super) fn logic(&self, node: &'n Node, depth: u8) -> Logic {
        if let Some(known) = self.constant(node) {
            return Logic::Const(known);
        }
        let deeper = depth + 1;
        match &node.kind {
            Kind::Not(operand) => not(self.logic(operand, depth)),
            Kind::And(sides) => Logic::All(vec![self.logic(&sides.0, depth), self.logic(&sides.1, depth)]),
            Kind::Or(sides) => Logic::Any(vec![self.logic(&sides.0, depth), self.logic(&sides.1, depth)]),
            Kind::If(branches) if depth < DEPTH_MAX => {
                let test = self.logic(&branches.0, deeper);
                let then = Logic::All(vec![test.clone(), self.logic(&branches.1, deeper)]);
                let otherwise = Logic::All(vec![not(test), self.logic(&branches.2, deeper)]);
                Logic::Any(vec![then, otherwise])
            }
            Kind::Default(operand, Some(other), lax) if depth < DEPTH_MAX => {
                let taken = self.falls_back(operand, lax.as_deref(), deeper);
                let kept = Logic::All(vec![not(taken.clone()), self.logic(operand, deeper)]);
                Logic::Any(vec![kept, Logic::All(vec![taken, self.logic(other, deeper)])])
            }
            Kind::Defined(operand, expected) => {
                let there = self.defined(operand, depth);
                if *expected { there } else { not(there) }
            }
            Kind::Compare(left, rest) => match rest.as_slice() {
                [(op, right)] => self.comparison(left, *op, right),
                _ => self.other(node),
            },
            _ => self.other(node),
        }
    }

    /// Whether a node with a path in it is there.
    pub(super) fn defined(&self, node: &'n Node, depth: u8) -> Logic {
        match &node.kind {
            Kind::Name(_) | Kind::Member(..) | Kind::Item(..) => {
                let is_defined = |node: &'n Node| format!("{} is defined", operand(node));
                if let Some((path, _)) = path(node) {
                    if self.locals.contains(&path[0]) {
                        return Logic::Open;
                    }
                    let names = BTreeSet::from([path[0].to_owned()]);
                    let asked =
                        Asked { text: is_defined(node), path: path.into_iter().map(str::to_owned).collect(), names };
                    return if self.is_known(node) { self.present(node) } else { Logic::Defined(asked) };
                }
                let (Kind::Member(base, ..) | Kind::Item(base, _)) = &node.kind else { return Logic::Const(true) };
                let asked = self.asked(node, is_defined(node));
                Logic::All(vec![self.defined(base, depth), asked])
            }
            Kind::Default(operand, Some(other), _) if depth < DEPTH_MAX => {
                Logic::Any(vec![self.defined(operand, depth + 1), self.defined(other, depth + 1)])
            }
            Kind::If(..) | Kind::Default(..) => Logic::Open,
            _ => Logic::Const(true),
        }
    }

    /// Whether `default` takes its argument.
    fn falls_back(&self, operand: &'n Node, lax: Option<&'n Node>, depth: u8) -> Logic {
        let absent = not(self.defined(operand, depth));
        match lax.map(|lax| self.constant(lax)) {
            None | Some(Some(false)) => absent,
            Some(Some(true)) => Logic::Any(vec![absent, not(self.logic(operand, depth))]),
            Some(None) => Logic::Any(vec![absent, Logic::All(vec![Logic::Open, not(self.logic(operand, depth))])]),
        }
    }

    fn comparison(&self, left: &'n Node, op: CompareOp, right: &'n Node) -> Logic {
        let constant = |node: &Node| matches!(node.kind, Kind::Literal(_));
        let turned = constant(left) && !constant(right) && !matches!(op, CompareOp::In | CompareOp::NotIn);
        let (left, right, op) = if turned { (right, left, turned_round(op)) } else { (left, right, op) };
        let (op, opposite) = match op {
            CompareOp::NotEqual => (CompareOp::Equal, true),
            CompareOp::LessOrEqual => (CompareOp::Greater, true),
            CompareOp::GreaterOrEqual => (CompareOp::Less, true),
            CompareOp::NotIn => (CompareOp::In, true),
            op => (op, false),
        };
        let text = format!("{} {} {}", operand(left), sign(op), operand(right));
        let values = match (op, &right.kind) {
            (CompareOp::Equal, Kind::Literal(value)) => Some(vec![value.clone()]),
            (CompareOp::In, Kind::Literal(Value::Array(values))) => Some(values.clone()),
            (CompareOp::In, Kind::List(nodes)) => nodes.iter().map(literal).collect(),
            _ => None,
        };
        let logic = match (values, path(left)) {
            (Some(values), Some((path, _))) if !self.locals.contains(&path[0]) => {
                let names = BTreeSet::from([path[0].to_owned()]);
                Logic::Among(Asked { text, path: path.into_iter().map(str::to_owned).collect(), names }, values)
            }
            _ => {
                let mut names = self.names(left);
                names.append(&mut self.names(right));
                self.of_names(text, &names)
            }
        };
        if opposite { not(logic) } else { logic }
    }

    fn other(&self, node: &'n Node) -> Logic {
        self.asked(node, text(node))
    }

    fn asked(&self, node: &'n Node, text: String) -> Logic {
        let names = self.names(node);
        self.of_names(text, &names)
    }

    fn of_names(&self, text: String, names: &BTreeSet<&'n str>) -> Logic {
        if self.locals.iter().any(|local| names.contains(local)) {
            return Logic::Open;
        }
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Logic::Other(Asked { text, path: Vec::new(), names })
    }

    /// Returns the first names of all paths in a node.
    fn names(&self, node: &'n Node) -> BTreeSet<&'n str> {
        let mut names = BTreeSet::new();
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            if let Kind::Name(name) = &node.kind {
                names.insert(name.as_str());
            }
            each_child(node, &mut |child| open.push(child));
        }
        names
    }

    fn is_known(&self, node: &'n Node) -> bool {
        let known = |name: &&str| self.known.vars.contains_key(*name) && !self.locals.contains(name);
        self.names(node).iter().all(known)
    }

    /// Returns whether a node holds if everything in it is known.
    fn constant(&self, node: &'n Node) -> Option<bool> {
        if !self.is_known(node) {
            return None;
        }
        let mut budget = Budget::new(&Limits::default());
        Machine::new("", self.known, &mut budget).holds(node).ok()
    }

    fn present(&self, node: &'n Node) -> Logic {
        let mut budget = Budget::new(&Limits::default());
        Logic::Const(Machine::new("", self.known, &mut budget).result(node).is_ok())
    }
}

fn both(first: &Logic, second: Logic) -> Logic {
    match first {
        Logic::Const(true) => second,
        Logic::Const(false) => Logic::Const(false),
        _ => Logic::All(vec![first.clone(), second]),
    }
}

fn literal(node: &Node) -> Option<Value> {
    match &node.kind {
        Kind::Literal(value) => Some(value.clone()),
        _ => None,
    }
}

/// Shows every node directly below one.
fn each_child<'n>(node: &'n Node, visit: &mut impl FnMut(&'n Node)) {
    let of_arguments = |arguments: &'n Arguments, visit: &mut dyn FnMut(&'n Node)| {
        arguments.positional.iter().for_each(&mut *visit);
        arguments.named.iter().for_each(|(_, node)| visit(node));
    };
    match &node.kind {
        Kind::Literal(_) | Kind::Name(_) => {}
        Kind::Member(base, ..) => visit(base),
        Kind::Item(base, index) => {
            visit(base);
            visit(index);
        }
        Kind::Slice(base, bounds) => {
            visit(base);
            bounds.iter().flatten().for_each(visit);
        }
        Kind::Not(operand) | Kind::Negate(operand) | Kind::Defined(operand, _) => visit(operand),
        Kind::And(sides) | Kind::Or(sides) | Kind::Math(_, sides, _) => {
            visit(&sides.0);
            visit(&sides.1);
        }
        Kind::Compare(first, rest) => {
            visit(first);
            rest.iter().for_each(|(_, node)| visit(node));
        }
        Kind::If(branches) => {
            visit(&branches.0);
            visit(&branches.1);
            visit(&branches.2);
        }
        Kind::Default(operand, other, lax) => {
            visit(operand);
            other.iter().chain(lax).for_each(|node| visit(node));
        }
        Kind::Filter(operand, _, arguments) | Kind::Test(operand, _, arguments) => {
            visit(operand);
            of_arguments(arguments, visit);
        }
        Kind::Range(nodes) | Kind::List(nodes) => nodes.iter().for_each(visit),
        Kind::Map(entries) => {
            for (key, value) in entries {
                visit(key);
                visit(value);
            }
        }
    }
}

fn turned_round(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Less => CompareOp::Greater,
        CompareOp::LessOrEqual => CompareOp::GreaterOrEqual,
        CompareOp::Greater => CompareOp::Less,
        CompareOp::GreaterOrEqual => CompareOp::LessOrEqual,
        CompareOp::Equal | CompareOp::NotEqual | CompareOp::In | CompareOp::NotIn => op,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::{Asked, Logic};
    use crate::template::{Expression, Scope, Template};

    fn known() -> Scope {
        let mut scope = Scope::default();
        scope.vars.insert("config".into(), Arc::new(json!({ "on": true, "off": false, "max": 3 })));
        scope
    }

    /// A short way to write what a condition comes down to.
    fn short(logic: &Logic) -> String {
        let join =
            |parts: &[Logic], word: &str| format!("({})", parts.iter().map(short).collect::<Vec<_>>().join(word));
        match logic {
            Logic::Const(known) => known.to_string(),
            Logic::Open => "?".to_owned(),
            Logic::Defined(Asked { path, .. }) => format!("def {}", path.join(".")),
            Logic::Among(Asked { path, .. }, values) => format!("{} in {}", path.join("."), json!(values)),
            Logic::Other(asked) => format!("<{}>", asked.text),
            Logic::Not(inner) => format!("!{}", short(inner)),
            Logic::All(parts) => join(parts, " & "),
            Logic::Any(parts) => join(parts, " | "),
        }
    }

    fn logic(source: &str) -> String {
        short(&Expression::parse(source).expect(source).logic(&known()))
    }

    fn uses(source: &str) -> Vec<String> {
        let (template, errors) = Template::parse(&json!(source));
        assert!(errors.is_empty(), "{source}: {errors:?}");
        template.uses(&known()).iter().map(|(_, u)| format!("{} if {}", u.path.join("."), short(&u.when))).collect()
    }

    #[test]
    fn what_is_the_same_or_the_opposite_is_written_so() {
        for (one, other) in [
            ("input.a  ==  \"x\"", "input['a'] == 'x'"),
            ("(input.a) > 3", "3 < input.a"),
            ("input.a is not defined", "input.a is undefined"),
            ("input.a not in [1, 2]", "not (input.a in [1,2])"),
        ] {
            assert_eq!(logic(one), logic(other), "{one} and {other}");
        }
        for (one, other) in [
            ("input.a != input.b", "input.a == input.b"),
            ("input.a <= 3", "input.a > 3"),
            ("input.a >= 3", "input.a < 3"),
            ("3 >= input.a", "input.a > 3"),
            ("input.a is undefined", "input.a is defined"),
            ("input.a not in input.b", "input.a in input.b"),
        ] {
            assert_eq!(logic(one), format!("!{}", logic(other)), "{one} and {other}");
        }
        assert_eq!(logic("(input.a + 1) * 2 > (input.b | length)"), "<((input.a + 1) * 2) > input.b | length>");
    }

    #[test]
    fn what_depends_on_known_names_alone_is_evaluated() {
        assert_eq!(logic("config.on"), "true");
        assert_eq!(logic("config.max > 3 or config.off"), "false");
        assert_eq!(logic("config.nothing is defined"), "false");
        assert_eq!(logic("config.on is defined"), "true");
        assert_eq!(logic("config.on and input.x"), "(true & <input.x>)");
        assert_eq!(logic("input.a > config.max"), "<input.a > config.max>");
        assert_eq!(logic("false"), "false");
    }

    #[test]
    fn conditions_come_apart_at_their_joints() {
        assert_eq!(logic("steps.a.status in ['failed', 'unknown']"), "steps.a.status in [\"failed\",\"unknown\"]");
        assert_eq!(logic("not (steps.a.output is defined and input.x)"), "!(def steps.a.output & <input.x>)");
        assert_eq!(logic("input.x if input.c else input.y"), "((<input.c> & <input.x>) | (!<input.c> & <input.y>))");
        assert_eq!(
            logic("steps.a.output.ok | default(false)"),
            "((def steps.a.output.ok & <steps.a.output.ok>) | (!def steps.a.output.ok & false))"
        );
        assert_eq!(logic("input.x[0] is defined"), "(def input.x & <input.x[0] is defined>)");
    }

    #[test]
    fn a_use_stands_under_the_conditions_before_it() {
        assert_eq!(uses("{{ input.a and steps.b.output.c }}"), ["input.a if true", "steps.b.output.c if <input.a>"]);
        assert_eq!(uses("{{ input.a or input.b }}")[1], "input.b if !<input.a>");
        assert_eq!(
            uses("{{ input.x if input.c else input.y }}"),
            ["input.x if <input.c>", "input.c if true", "input.y if !<input.c>"]
        );
        assert_eq!(
            uses("{{ steps.b.output.id | default(steps.a.output.id) }}"),
            ["steps.a.output.id if !def steps.b.output.id"]
        );
        assert!(uses("{{ steps.b.output.id is defined }}").is_empty());
        assert_eq!(uses("{{ steps.b.output[input.i] | default(0) }}"), ["input.i if true"]);
        assert_eq!(uses("{{ steps.b.output.n | abs | default(0) }}"), ["steps.b.output.n if true"]);
        assert_eq!(uses("{{ input.a | default(input.b, true) }}"), ["input.b if (!def input.a | !<input.a>)"]);
    }

    #[test]
    fn statements_are_conditions_too() {
        assert_eq!(
            uses("x{% if input.c %}{{ steps.a.output }}{% else %}{{ steps.b.output }}{% endif %}"),
            ["input.c if true", "steps.a.output if <input.c>", "steps.b.output if !<input.c>"]
        );
        let text =
            "{% for x in input.l %}{% if x.ok %}{{ x.n }}{{ input.a }}{% endif %}{% else %}{{ input.b }}{% endfor %}";
        assert_eq!(uses(text), ["input.l if true", "input.a if (<input.l> & ?)", "input.b if !<input.l>"]);
        assert_eq!(uses("{% set x = steps.a.output %}{{ x.y }}"), ["steps.a.output if true"]);
    }

    #[test]
    fn conditions_inside_each_other_stay_small() {
        let nested = (0..30).fold("input.a".to_owned(), |inner, _| format!("(input.x if {inner} else input.y)"));
        assert!(short(&Expression::parse(&nested).expect("it parses").logic(&known())).len() < 1_000_000);
    }
}
