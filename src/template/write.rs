//! Templates written anew from their trees: always in the same way, or so that conditions come out as somebody says.

use serde_json::{Map, Value};

use super::flow::{Asked, Logic, Walk};
use super::syntax::{Arguments, CompareOp, For, Kind, MathOp, Node, Part};
use super::{Expression, Scope, Shape, Template};

/// Says how a condition that depends on values is to come out; nothing leaves it as it is.
pub type Assumed<'a> = dyn Fn(&Asked) -> Option<bool> + 'a;

impl Expression {
    /// Writes the expression so that, as a condition, it comes out as assumed. What it reads is still read: where a path
    /// is missing it fails as before.
    #[must_use]
    pub fn assuming(&self, known: &Scope, assumed: &Assumed<'_>) -> String {
        Writer { assumed: Some((Walk::new(known), assumed)) }.condition(&self.inner.code)
    }

    /// Writes the expression so that the conditions in it come out as assumed; its value is otherwise what it was.
    #[must_use]
    pub fn value_assuming(&self, known: &Scope, assumed: &Assumed<'_>) -> String {
        Writer { assumed: Some((Walk::new(known), assumed)) }.value(&self.inner.code)
    }
}

impl Template {
    /// Writes the value so that the conditions in its templates come out as assumed.
    #[must_use]
    pub fn assuming(&self, known: &Scope, assumed: &Assumed<'_>) -> Value {
        of_shape(&self.shape, known, assumed)
    }
}

fn of_shape(shape: &Shape, known: &Scope, assumed: &Assumed<'_>) -> Value {
    match shape {
        Shape::Literal(value) => value.clone(),
        Shape::Expression(expression) => format!("{{{{ {} }}}}", expression.value_assuming(known, assumed)).into(),
        Shape::Text(text) => Writer { assumed: Some((Walk::new(known), assumed)) }.parts(&text.inner.code).into(),
        Shape::List(items) => items.iter().map(|item| of_shape(item, known, assumed)).collect(),
        Shape::Object(members) => {
            let members = members.iter().map(|(key, shape)| (key.clone(), of_shape(shape, known, assumed)));
            Value::Object(members.collect::<Map<_, _>>())
        }
    }
}

/// Writes a node anew, the same for all that say the same.
pub(super) fn text(node: &Node) -> String {
    Writer { assumed: None }.value(node)
}

/// Writes a node anew, as an operand of another one.
pub(super) fn operand(node: &Node) -> String {
    Writer { assumed: None }.operand(node)
}

struct Writer<'n, 'a> {
    assumed: Option<(Walk<'n, 'a>, &'a Assumed<'a>)>,
}

impl<'n> Writer<'n, '_> {
    fn operand(&self, node: &'n Node) -> String {
        let text = self.value(node);
        match &node.kind {
            Kind::Not(_)
            | Kind::Negate(_)
            | Kind::And(_)
            | Kind::Or(_)
            | Kind::Math(..)
            | Kind::Compare(..)
            | Kind::If(_)
            | Kind::Defined(..)
            | Kind::Test(..) => format!("({text})"),
            Kind::Default(..) if self.assumed.is_some() => format!("({text})"),
            _ => text,
        }
    }

    /// Writes a node that is asked whether it holds.
    fn condition(&self, node: &'n Node) -> String {
        let Some((walk, assumed)) = &self.assumed else { return self.value(node) };
        match &node.kind {
            Kind::Not(inner) => format!("not ({})", self.condition(inner)),
            Kind::And(sides) => format!("({}) and ({})", self.condition(&sides.0), self.condition(&sides.1)),
            Kind::Or(sides) => format!("({}) or ({})", self.condition(&sides.0), self.condition(&sides.1)),
            Kind::If(branches) => {
                let [test, then, otherwise] = [&branches.0, &branches.1, &branches.2].map(|n| self.condition(n));
                format!("({then}) if ({test}) else ({otherwise})")
            }
            Kind::Default(inner, Some(other), None) => {
                let there = self.there(inner);
                format!("({}) if ({there}) else ({})", self.condition(inner), self.condition(other))
            }
            Kind::Defined(inner, expected) => {
                let there = self.there(inner);
                if *expected { there } else { format!("not ({there})") }
            }
            _ => {
                let (asked, opposite) = match walk.logic(node, 0) {
                    Logic::Other(asked) | Logic::Among(asked, _) => (asked, false),
                    Logic::Not(inner) => match *inner {
                        Logic::Other(asked) | Logic::Among(asked, _) => (asked, true),
                        _ => return self.value(node),
                    },
                    _ => return self.value(node),
                };
                match assumed(&asked).map(|holds| holds != opposite) {
                    Some(true) => format!("({}) or true", self.read(node)),
                    Some(false) => format!("({}) and false", self.read(node)),
                    None => self.value(node),
                }
            }
        }
    }

    /// Writes something that fails where the node finds a path missing, and for no other reason if that can be.
    fn read(&self, node: &'n Node) -> String {
        let nothing = Scope::default();
        let uses = Walk::new(&nothing).uses_of(node);
        if uses.iter().any(|used| used.when != Logic::Const(true)) {
            return self.value(node);
        }
        let paths: Vec<String> = uses.iter().map(|used| path_text(&used.path)).collect();
        format!("[{}]", paths.join(", "))
    }

    /// Writes the question whether a node is there.
    fn there(&self, node: &'n Node) -> String {
        let plain = format!("{} is defined", self.operand(node));
        let Some((walk, assumed)) = &self.assumed else { return plain };
        let mut parts = vec![walk.defined(node, 0)];
        let mut absent = false;
        while let Some(part) = parts.pop() {
            match part {
                Logic::All(more) => parts.extend(more),
                Logic::Defined(asked) | Logic::Other(asked) => absent |= assumed(&asked) == Some(false),
                _ => {}
            }
        }
        if absent { format!("({plain}) and false") } else { plain }
    }

    fn parts(&self, parts: &'n [Part]) -> String {
        parts.iter().map(|part| self.part(part)).collect()
    }

    fn part(&self, part: &'n Part) -> String {
        match part {
            Part::Text(raw) if raw.contains("{{") || raw.contains("{%") || raw.contains("{#") => {
                format!("{{% raw %}}{raw}{{% endraw %}}")
            }
            Part::Text(raw) => raw.clone(),
            Part::Print(node) => format!("{{{{ {} }}}}", self.value(node)),
            Part::If(test, then, otherwise) => format!(
                "{{% if {} %}}{}{{% else %}}{}{{% endif %}}",
                self.condition(test),
                self.parts(then),
                self.parts(otherwise)
            ),
            Part::For(each) => self.each(each),
            Part::Set(name, node) => format!("{{% set {name} = {} %}}", self.value(node)),
            Part::Capture(name, body) => format!("{{% set {name} %}}{}{{% endset %}}", self.parts(body)),
            Part::With(names, body) => {
                let names: Vec<String> =
                    names.iter().map(|(name, node)| format!("{name} = {}", self.operand(node))).collect();
                format!("{{% with {} %}}{}{{% endwith %}}", names.join(", "), self.parts(body))
            }
        }
    }

    fn each(&self, each: &'n For) -> String {
        let filter = each.filter.as_ref().map(|filter| format!(" if {}", self.condition(filter))).unwrap_or_default();
        format!(
            "{{% for {} in {}{filter} %}}{}{{% else %}}{}{{% endfor %}}",
            each.names.join(", "),
            self.operand(&each.iter),
            self.parts(&each.body),
            self.parts(&each.otherwise)
        )
    }

    fn value(&self, node: &'n Node) -> String {
        let list = |nodes: &'n [Node]| nodes.iter().map(|node| self.value(node)).collect::<Vec<_>>().join(", ");
        match &node.kind {
            Kind::And(sides) if self.assumed.is_some() => {
                format!("({}) if ({}) else false", self.value(&sides.1), self.condition(&sides.0))
            }
            Kind::Or(sides) if self.assumed.is_some() => {
                format!("({}) if ({}) else ({})", self.value(&sides.0), self.condition(&sides.0), self.value(&sides.1))
            }
            Kind::Default(inner, Some(other), None) if self.assumed.is_some() => {
                format!("({}) if ({}) else ({})", self.value(inner), self.there(inner), self.value(other))
            }
            Kind::If(branches) if self.assumed.is_some() => format!(
                "({}) if ({}) else ({})",
                self.value(&branches.1),
                self.condition(&branches.0),
                self.value(&branches.2)
            ),
            Kind::Defined(..) if self.assumed.is_some() => self.condition(node),
            Kind::Literal(value) => literal(value),
            Kind::Name(name) => name.clone(),
            Kind::Member(base, name, _) if is_plain(name) => format!("{}.{name}", self.operand(base)),
            Kind::Member(base, name, _) => format!("{}[{}]", self.operand(base), literal(&Value::from(name.as_str()))),
            Kind::Item(base, index) => format!("{}[{}]", self.operand(base), self.value(index)),
            Kind::Slice(base, bounds) => {
                let mut shown: Vec<String> = bounds
                    .iter()
                    .map(|bound| bound.as_ref().map(|node| self.value(node)).unwrap_or_default())
                    .collect();
                if bounds[2].is_none() {
                    shown.pop();
                }
                format!("{}[{}]", self.operand(base), shown.join(":"))
            }
            Kind::Not(inner) => format!("not {}", self.operand(inner)),
            Kind::Negate(inner) => format!("-{}", self.operand(inner)),
            Kind::And(sides) => format!("{} and {}", self.operand(&sides.0), self.operand(&sides.1)),
            Kind::Or(sides) => format!("{} or {}", self.operand(&sides.0), self.operand(&sides.1)),
            Kind::Math(op, sides, _) => {
                let sign = match op {
                    MathOp::Add => "+",
                    MathOp::Subtract => "-",
                    MathOp::Multiply => "*",
                    MathOp::Divide => "/",
                    MathOp::FloorDivide => "//",
                    MathOp::Remainder => "%",
                    MathOp::Power => "**",
                    MathOp::Concat => "~",
                };
                format!("{} {sign} {}", self.operand(&sides.0), self.operand(&sides.1))
            }
            Kind::Compare(first, rest) => {
                let rest = rest.iter().map(|(op, node)| format!(" {} {}", sign(*op), self.operand(node)));
                self.operand(first) + &rest.collect::<String>()
            }
            Kind::If(branches) => format!(
                "{} if {} else {}",
                self.operand(&branches.1),
                self.operand(&branches.0),
                self.operand(&branches.2)
            ),
            Kind::Default(inner, other, lax) => {
                let arguments: Vec<String> = other.iter().chain(lax).map(|node| self.value(node)).collect();
                format!("{} | default({})", self.operand(inner), arguments.join(", "))
            }
            Kind::Defined(inner, true) => format!("{} is defined", self.operand(inner)),
            Kind::Defined(inner, false) => format!("{} is undefined", self.operand(inner)),
            Kind::Filter(inner, filter, given) => {
                format!("{} | {}{}", self.operand(inner), filter.name, self.arguments(given))
            }
            Kind::Test(inner, test, given) => {
                format!("{} is {}{}", self.operand(inner), test.names.first().unwrap_or(&""), self.arguments(given))
            }
            Kind::Range(nodes) => format!("range({})", list(nodes)),
            Kind::List(nodes) => format!("[{}]", list(nodes)),
            Kind::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| format!("{}: {}", self.value(key), self.value(value)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn arguments(&self, given: &'n Arguments) -> String {
        let named = given.named.iter().map(|(name, node)| format!("{name}={}", self.value(node)));
        let all: Vec<String> = given.positional.iter().map(|node| self.value(node)).chain(named).collect();
        if all.is_empty() { String::new() } else { format!("({})", all.join(", ")) }
    }
}

fn path_text(path: &[String]) -> String {
    let mut text = path[0].clone();
    for name in &path[1..] {
        if is_plain(name) {
            text.push('.');
            text.push_str(name);
        } else {
            text.push_str(&format!("[{}]", literal(&Value::from(name.as_str()))));
        }
    }
    text
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) if !text.contains(['\'', '\\', '\n']) => format!("'{text}'"),
        Value::Array(items) => format!("[{}]", items.iter().map(literal).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members =
                members.iter().map(|(key, value)| format!("{}: {}", literal(&key.as_str().into()), literal(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

pub(super) fn sign(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Equal => "==",
        CompareOp::NotEqual => "!=",
        CompareOp::Less => "<",
        CompareOp::LessOrEqual => "<=",
        CompareOp::Greater => ">",
        CompareOp::GreaterOrEqual => ">=",
        CompareOp::In => "in",
        CompareOp::NotIn => "not in",
    }
}

fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use crate::limits::Limits;
    use crate::template::{Asked, Expression, Scope, StepScope, Template};

    fn scope() -> Scope {
        let mut scope = Scope::default();
        scope.vars.insert("input".into(), Arc::new(json!({ "a": 1, "b": "x", "list": [1, 2] })));
        let done = StepScope { status: "succeeded", output: Some(Arc::new(json!({ "n": 3 }))), ..StepScope::default() };
        scope.steps.insert("done".into(), done);
        scope.steps.insert("skipped".into(), StepScope { status: "skipped", ..StepScope::default() });
        scope
    }

    fn holds(source: &str, assumed: &dyn Fn(&Asked) -> Option<bool>) -> Option<bool> {
        let written = Expression::parse(source).expect(source).assuming(&Scope::default(), assumed);
        let again = Expression::parse(&written).unwrap_or_else(|e| panic!("{source} became {written}: {e}"));
        again.holds(&scope(), &Limits::default()).ok()
    }

    #[test]
    fn a_condition_comes_out_as_assumed_and_reads_what_it_read() {
        for wanted in [true, false] {
            let all = |_: &Asked| Some(wanted);
            for source in ["input.a > 5", "5 < input.a", "input.list | length > 0", "input.b", "input.b in ['y']"] {
                assert_eq!(holds(source, &all), Some(wanted), "{source}");
            }
            for source in ["input.a <= 5", "input.b != 'y'", "not input.b", "input.b not in ['y']"] {
                assert_eq!(holds(source, &all), Some(!wanted), "{source}");
            }
            assert_eq!(holds("steps.skipped.output.n > 5", &all), None, "what is missing is still missing");
        }
        let none = |_: &Asked| None;
        assert_eq!(holds("steps.skipped.output.n | default(input.a > 5)", &none), Some(false));
        assert_eq!(
            holds("steps.skipped.output.n | default(input.a > 5)", &|a| Some(
                a.text != "steps.skipped.output.n is defined"
            )),
            Some(true)
        );
        assert_eq!(holds("input.a is defined", &|_| Some(false)), Some(false));
        assert_eq!(holds("steps.skipped.output is defined", &|_| Some(true)), Some(false), "it is not there");
        assert_eq!(holds("input.a == 1 and (input.b == 'y' or input.a > 0)", &none), Some(true));
    }

    #[test]
    fn values_are_what_they_were_but_for_what_is_assumed() {
        let values = json!({
            "plain": "{{ input.list[0:1] }}", "sum": "{{ (input.a + 1) * 2 }}", "map": "{{ {'k': [none, 'q']} }}",
            "text": "x{% for i in input.list %}{{ i }}{% if i > 1 %}!{% endif %}{% else %}none{% endfor %}",
            "set": "{% set y = input.b ~ 'z' %}{{ y | upper }}", "odd": "{{ input['b'] }}{% raw %}{{ }}{% endraw %}",
        });
        let render = |assumed: &dyn Fn(&Asked) -> Option<bool>, value: &Value| {
            let (template, errors) = Template::parse(value);
            assert!(errors.is_empty(), "{errors:?}");
            let written = template.assuming(&Scope::default(), assumed);
            let (again, errors) = Template::parse(&written);
            assert!(errors.is_empty(), "{written}: {errors:?}");
            again.render(&scope(), &Limits::default()).expect("it renders")
        };
        let (plain, _) = Template::parse(&values);
        assert_eq!(render(&|_| None, &values), plain.render(&scope(), &Limits::default()).expect("it renders"));
        let by = json!("{{ 'yes' if input.a > 5 else 'no' }}{% if input.b == 'y' %}!{% endif %}");
        assert_eq!(render(&|_| Some(true), &by), "yes!");
        assert_eq!(render(&|_| Some(false), &by), "no");
    }
}
