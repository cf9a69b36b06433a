//! What is known to hold where an expression is read, because a condition was met before it.
//!
//! From `when`, `if`, `and` and `or`: which paths exist, which are not null, which values they can have. A path that
//! was asked about in any way counts as existing; so a warning may be missed here, and is never wrong.

use std::rc::Rc;

use serde_json::Value;

use crate::template::syntax::{CompareOp, Kind, Node};
use crate::template::{path, truth};

/// What is known of one path.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fact {
    /// It exists.
    Defined(Vec<String>),
    /// It exists and is not null.
    NotNull(Vec<String>),
    /// It is one of these values.
    OneOf(Vec<String>, Vec<Value>),
    /// It exists and is none of these values.
    NoneOf(Vec<String>, Vec<Value>),
}

impl Fact {
    fn path(&self) -> &[String] {
        match self {
            Self::Defined(path) | Self::NotNull(path) | Self::OneOf(path, _) | Self::NoneOf(path, _) => path,
        }
    }
}

/// All that is known at a place.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    known: Rc<Vec<Fact>>,
}

impl Facts {
    /// Returns these facts and more.
    pub fn and(&self, more: Vec<Fact>) -> Self {
        if more.is_empty() {
            return self.clone();
        }
        let mut known = Vec::clone(&self.known);
        known.extend(more.into_iter().filter(|fact| !self.known.contains(fact)));
        Self { known: Rc::new(known) }
    }

    /// Returns all facts.
    pub fn iter(&self) -> impl Iterator<Item = &Fact> {
        self.known.iter()
    }

    /// Tells whether a path exists.
    pub fn is_defined(&self, path: &[String]) -> bool {
        self.known.iter().any(|fact| fact.path().starts_with(path))
    }

    /// Tells whether a path is not null: something inside it exists, or it was asked.
    pub fn is_not_null(&self, path: &[String]) -> bool {
        self.known.iter().any(|fact| match fact {
            Fact::NotNull(known) => known.starts_with(path),
            Fact::OneOf(known, values) if known == path => values.iter().all(|value| !value.is_null()),
            Fact::NoneOf(known, values) if known == path => values.contains(&Value::Null),
            Fact::Defined(known) | Fact::OneOf(known, _) | Fact::NoneOf(known, _) => {
                known.len() > path.len() && known.starts_with(path)
            }
        })
    }

    /// Tells whether a path may be a value, as far as conditions say.
    pub fn allows(&self, path: &[String], value: &str) -> bool {
        self.known.iter().all(|fact| match fact {
            Fact::OneOf(known, values) if known == path => values.iter().any(|v| v == value),
            Fact::NoneOf(known, values) if known == path => !values.iter().any(|v| v == value),
            _ => true,
        })
    }

    /// Tells whether a path was found not to be some values.
    pub fn excludes_any(&self, path: &[String]) -> bool {
        self.known.iter().any(|fact| matches!(fact, Fact::NoneOf(known, _) if known == path))
    }

    /// Returns the values that a path can have, if they are known.
    pub fn one_of(&self, path: &[String]) -> Option<Vec<&Value>> {
        let mut known = self.known.iter().filter_map(|fact| match fact {
            Fact::OneOf(known, values) if known == path => Some(values),
            _ => None,
        });
        let first = known.next()?;
        let more: Vec<&Vec<Value>> = known.collect();
        Some(first.iter().filter(|value| more.iter().all(|values| values.contains(value))).collect())
    }
}

/// Returns what is known once a condition was found to hold, or not to.
pub(super) fn of(node: &Node, holds: bool) -> Vec<Fact> {
    match &node.kind {
        Kind::Not(inner) => of(inner, !holds),
        Kind::And(sides) | Kind::Or(sides) => {
            // `and` that does not hold ended on its left, or on its right after the left did hold; `or` likewise.
            let ends_left = matches!(node.kind, Kind::Or(_));
            let mut both = of(&sides.0, !ends_left);
            both.extend(of(&sides.1, holds));
            if holds == ends_left { common(of(&sides.0, ends_left), both) } else { both }
        }
        Kind::Defined(operand, expected) if *expected == holds => {
            names(operand).map(Fact::Defined).into_iter().collect()
        }
        Kind::Defined(..) => Vec::new(),
        Kind::Name(_) | Kind::Member(..) => match names(node) {
            Some(path) if holds => vec![Fact::NotNull(path)],
            Some(path) => vec![Fact::Defined(path)],
            None => evaluated(node),
        },
        Kind::Compare(first, rest) => {
            let mut facts = evaluated(node);
            if let [(op, right)] = rest.as_slice() {
                facts.extend(compared(first, *op, right, holds));
                if !matches!(op, CompareOp::In | CompareOp::NotIn) {
                    facts.extend(compared(right, turned(*op), first, holds));
                }
            }
            facts
        }
        Kind::Test(operand, test, _) => {
            let mut facts = evaluated(node);
            if let Some(path) = names(operand) {
                match (test.names[0], holds) {
                    ("none", true) => facts.push(Fact::OneOf(path, vec![Value::Null])),
                    ("none", false) => facts.push(Fact::NotNull(path)),
                    ("true", true) => facts.push(Fact::OneOf(path, vec![Value::Bool(true)])),
                    ("ne" | "false" | "true" | "eq" | "in", _) | (_, false) => {}
                    (_, true) => facts.push(Fact::NotNull(path)),
                }
            }
            facts
        }
        Kind::Default(operand, other, _) => {
            let mut facts = evaluated(node);
            let falsy = other.as_ref().is_some_and(|o| matches!(&o.kind, Kind::Literal(v) if !truth(v)) || is_empty(o));
            if holds && falsy {
                facts.extend(names(operand).map(Fact::NotNull));
            }
            facts
        }
        _ => evaluated(node),
    }
}

/// Returns what is known once an expression was evaluated without an error.
pub(super) fn evaluated(node: &Node) -> Vec<Fact> {
    match &node.kind {
        Kind::Literal(_) => Vec::new(),
        Kind::Name(_) | Kind::Member(..) => match names(node) {
            Some(path) => vec![Fact::Defined(path)],
            None => match &node.kind {
                Kind::Member(base, ..) => evaluated(base),
                _ => Vec::new(),
            },
        },
        Kind::Not(inner) | Kind::Negate(inner) => evaluated(inner),
        Kind::And(sides) | Kind::Or(sides) => evaluated(&sides.0),
        Kind::If(branches) => evaluated(&branches.0),
        Kind::Math(_, sides, _) => [evaluated(&sides.0), evaluated(&sides.1)].concat(),
        Kind::Compare(first, rest) => {
            let second = rest.first().map(|(_, node)| evaluated(node)).unwrap_or_default();
            [evaluated(first), second].concat()
        }
        Kind::Default(operand, ..) | Kind::Defined(operand, _) => evaluated(operand),
        Kind::Filter(operand, filter, args) => {
            let mut facts = evaluated(operand);
            // These take null; every other filter refuses it.
            if !matches!(filter.name, "bool" | "string" | "tojson") {
                facts.extend(names(operand).map(Fact::NotNull));
            }
            facts.extend(args.positional.iter().flat_map(evaluated));
            facts
        }
        Kind::Test(operand, _, args) => {
            evaluated(operand).into_iter().chain(args.positional.iter().flat_map(evaluated)).collect()
        }
        Kind::Item(base, index) => [evaluated(base), evaluated(index)].concat(),
        Kind::Slice(base, _) => evaluated(base),
        Kind::Range(nodes) | Kind::List(nodes) => nodes.iter().flat_map(evaluated).collect(),
        Kind::Map(entries) => entries.iter().flat_map(|(_, value)| evaluated(value)).collect(),
    }
}

fn compared(left: &Node, op: CompareOp, right: &Node, holds: bool) -> Vec<Fact> {
    let (operand, instead) = match &left.kind {
        Kind::Default(operand, Some(other), None) => (&**operand, Some(&**other)),
        _ => (left, None),
    };
    if let (CompareOp::In, true, Kind::Literal(Value::String(name))) = (op, holds, &left.kind) {
        return names(right).map(|path| Fact::Defined([path, vec![name.clone()]].concat())).into_iter().collect();
    }
    let Some(path) = names(operand) else { return Vec::new() };
    let values = match (&right.kind, op) {
        (Kind::Literal(value), CompareOp::Equal | CompareOp::NotEqual) => vec![value.clone()],
        (Kind::List(items), CompareOp::In | CompareOp::NotIn) => {
            let literals = items.iter().map(|i| if let Kind::Literal(v) = &i.kind { Some(v.clone()) } else { None });
            let Some(values) = literals.collect() else { return Vec::new() };
            values
        }
        // What has an order is no null, whichever way it turned out.
        (_, CompareOp::Less | CompareOp::LessOrEqual | CompareOp::Greater | CompareOp::GreaterOrEqual)
            if instead.is_none() =>
        {
            return vec![Fact::NotNull(path)];
        }
        _ => return Vec::new(),
    };
    let is_one = matches!(op, CompareOp::Equal | CompareOp::In) == holds;
    if !is_one {
        // What was taken instead of a missing path says nothing of the path.
        return if instead.is_none() { vec![Fact::NoneOf(path, values)] } else { Vec::new() };
    }
    match instead.map(|node| &node.kind) {
        None => vec![Fact::OneOf(path, values)],
        Some(Kind::Literal(other)) if !values.contains(other) => vec![Fact::OneOf(path, values)],
        Some(_) => Vec::new(),
    }
}

/// Returns the comparison of the right with the left.
fn turned(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Less => CompareOp::Greater,
        CompareOp::LessOrEqual => CompareOp::GreaterOrEqual,
        CompareOp::Greater => CompareOp::Less,
        CompareOp::GreaterOrEqual => CompareOp::LessOrEqual,
        same => same,
    }
}

/// Returns what both ways have in common; of values, those of either.
fn common(left: Vec<Fact>, right: Vec<Fact>) -> Vec<Fact> {
    let mut both = Vec::new();
    for fact in left {
        match &fact {
            Fact::OneOf(path, values) => {
                let others = right.iter().find_map(|f| match f {
                    Fact::OneOf(p, v) if p == path => Some(v),
                    _ => None,
                });
                match others {
                    Some(others) => {
                        both.push(Fact::OneOf(path.clone(), values.iter().chain(others).cloned().collect()));
                    }
                    None if right.iter().any(|f| f.path() == path) => both.push(Fact::Defined(path.clone())),
                    None => {}
                }
            }
            _ if right.contains(&fact) => both.push(fact),
            _ if right.iter().any(|f| f.path() == fact.path()) => both.push(Fact::Defined(fact.path().to_vec())),
            _ => {}
        }
    }
    both
}

fn is_empty(node: &Node) -> bool {
    match &node.kind {
        Kind::List(items) => items.is_empty(),
        Kind::Map(entries) => entries.is_empty(),
        _ => false,
    }
}

fn names(node: &Node) -> Option<Vec<String>> {
    path(node).map(|(names, _)| names.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Facts, of};
    use crate::template::Expression;

    fn facts(text: &str, holds: bool) -> Facts {
        let expression = Expression::parse(text).expect("the condition is valid");
        Facts::default().and(of(expression.node(), holds))
    }

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn conditions_say_what_exists() {
        for (condition, holds, asked, exists) in [
            ("a.b is defined", true, "a.b", true),
            ("a.b is defined", false, "a.b", false),
            ("a.b is undefined", false, "a.b", true),
            ("not (a.b is undefined)", true, "a.b", true),
            ("a.b is defined and c.d", true, "c.d", true),
            ("a.b is defined or c.d is defined", true, "a.b", false),
            ("a.b is defined or c.d is defined", false, "a.b", false),
            ("a.b is undefined or c", false, "a.b", true),
            ("a.b is defined and c or a.b is defined and d", true, "a.b", true),
            ("a.b > 1", false, "a.b", true),
            ("(a.b | default('')) == 'x'", true, "a.b", true),
            ("'b' in a", true, "a.b", true),
            ("a.b.c is defined", true, "a.b", true),
            ("a.b is defined", true, "a.b.c", false),
        ] {
            assert_eq!(facts(condition, holds).is_defined(&path(asked)), exists, "{condition} {holds} {asked}");
        }
    }

    #[test]
    fn conditions_say_what_is_not_null() {
        for (condition, holds, not_null) in [
            ("a.b is not none", true, true),
            ("a.b is none", true, false),
            ("a.b is none", false, true),
            ("a.b", true, true),
            ("a.b", false, false),
            ("a.b != none", true, true),
            ("a.b == none", false, true),
            ("a.b == 'x'", true, true),
            ("a.b != 'x'", true, false),
            ("a.b is string", true, true),
            ("a.b | length > 0", false, true),
            ("a.b is defined", true, false),
            ("a.b.c is defined", true, true),
        ] {
            assert_eq!(facts(condition, holds).is_not_null(&path("a.b")), not_null, "{condition} {holds}");
        }
    }

    #[test]
    fn conditions_say_which_values_are_possible() {
        for (condition, holds, values) in [
            ("a.b == 'x'", true, Some(vec![json!("x")])),
            ("'x' == a.b", true, Some(vec![json!("x")])),
            ("a.b != 'x'", false, Some(vec![json!("x")])),
            ("a.b != 'x'", true, None),
            ("a.b in ['x', 'y']", true, Some(vec![json!("x"), json!("y")])),
            ("a.b == 'x' or a.b == 'y'", true, Some(vec![json!("x"), json!("y")])),
            ("a.b == 'x' or c", true, None),
            ("a.b in ['x', 'y'] and a.b != 'x' or a.b == 'z'", true, Some(vec![json!("x"), json!("y"), json!("z")])),
        ] {
            let facts = facts(condition, holds);
            let found = facts.one_of(&path("a.b")).map(|v| v.into_iter().cloned().collect::<Vec<_>>());
            assert_eq!(found, values, "{condition} {holds}");
        }
    }
}
