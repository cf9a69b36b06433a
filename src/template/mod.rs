//! Templates and expressions: which names they refer to, and their value in a scope.
//!
//! The grammar is minijinja's: its parser reads every template. The values are ours (`eval`), because the rules of
//! flowrun are about every single use of a name: a path that is missing is an error wherever it is used except in
//! `default`, `is defined` and `is undefined`, integers are exact, and nothing is allocated before it was paid for.
//!
//! This module knows nothing of steps' schemas or policies: whether a name exists is for `check` to say, and what
//! stands in the scope is for the machine.

mod budget;
mod eval;
mod filters;
mod flow;
mod guard;
mod refs;
pub(crate) mod syntax;
mod value;
mod write;

pub(crate) use filters::known_filter;
pub use flow::{Asked, Logic, Use};
pub(crate) use refs::path;
pub(crate) use value::kind as kind_of;
pub(crate) use value::truth;
pub use write::Assumed;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use crate::limits::Limits;
use crate::names::{MemberName, StepName};
use crate::ordered::Ordered;
use budget::Budget;
use eval::Machine;
use syntax::{Node, Part};

/// One expression, such as a `when`: parsed once, evaluated often.
#[derive(Clone, Debug)]
pub struct Expression {
    inner: Arc<Compiled<Node>>,
}

/// A text with templates in it: parsed once, rendered often.
#[derive(Clone, Debug)]
pub struct Text {
    inner: Arc<Compiled<Vec<Part>>>,
}

/// What is known of a template once it is parsed.
#[derive(Debug)]
struct Compiled<T> {
    source: Box<str>,
    code: T,
    references: Vec<Reference>,
    divisions: Vec<Range<usize>>,
}

/// A JSON value in whose strings templates may stand, such as a `with`: parsed once, rendered often.
#[derive(Clone, Debug, Default)]
pub struct Template {
    shape: Shape,
}

/// A JSON value with its templates, as a tree.
#[derive(Clone, Debug)]
pub enum Shape {
    /// A value without any template in it, at any depth.
    Literal(Value),
    /// A string that is exactly one `{{ ... }}`: it keeps the type of its value.
    Expression(Expression),
    /// A string with templates in it: it stays a string.
    Text(Text),
    /// A list, at least one item of which has a template in it.
    List(Vec<Shape>),
    /// An object, at least one value of which has a template in it.
    Object(Vec<(String, Shape)>),
}

/// A path that a template refers to: `steps.reserve.output.total`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its names, the first being the variable; an index or a computed key ends the path.
    pub path: Vec<String>,
    /// Where each name stands, as byte ranges in the string that holds the template.
    pub ranges: Vec<Range<usize>>,
    /// Whether it may be missing: it is an operand of `default`, `is defined` or `is undefined`.
    pub guarded: bool,
    /// Whether it is all that is printed: the whole of a `{{ ... }}`, without filter or operator.
    pub plain: bool,
}

/// What is wrong with a template, or went wrong while it was evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Where, as a byte range in the string that holds the template.
    pub range: Option<Range<usize>>,
    /// Whether a limit was reached, and not a mistake made.
    pub limit: bool,
}

impl TemplateError {
    fn new(message: impl Into<String>, range: Range<usize>) -> Self {
        Self { message: message.into(), help: None, range: Some(range), limit: false }
    }

    fn with_help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }
}

/// What a template can see.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Variables by name: `input`, `config`, `run`, `item`, `index`, `output`, `error`, `key`.
    pub vars: Ordered<Cow<'static, str>, Arc<Value>>,
    /// The steps it may read.
    pub steps: Ordered<StepName, StepScope>,
    /// What each secret's name stands for: a placeholder.
    pub secrets: BTreeMap<String, String>,
}

/// What a template sees of a step.
#[derive(Clone, Debug, Default)]
pub struct StepScope {
    /// Its status.
    pub status: &'static str,
    /// Its output, if it succeeded.
    pub output: Option<Arc<Value>>,
    /// Its error, if it did not.
    pub error: Option<Arc<Value>>,
    /// The member by which it succeeded.
    pub via: Option<MemberName>,
}

impl Expression {
    /// Parses an expression, bare or as one whole `{{ ... }}`.
    ///
    /// # Errors
    /// When it is not a valid expression; the error's range is inside `source`.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let code = syntax::parse_expression(source)?;
        Ok(Self::compiled(source, code))
    }

    fn compiled(source: &str, code: Node) -> Self {
        let (references, divisions) = refs::of_expression(&code);
        Self { inner: Arc::new(Compiled { source: source.into(), code, references, divisions }) }
    }

    /// Returns the text it was parsed from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.inner.source
    }

    /// Returns the paths it refers to, in the order in which they stand.
    #[must_use]
    pub fn references(&self) -> &[Reference] {
        &self.inner.references
    }

    /// Returns where it divides with `/`, which always gives a float.
    #[must_use]
    pub fn uses_division(&self) -> Vec<Range<usize>> {
        self.inner.divisions.clone()
    }

    /// Returns its tree.
    pub(crate) fn node(&self) -> &Node {
        &self.inner.code
    }

    /// Returns its value if it is a constant.
    #[must_use]
    pub fn literal(&self) -> Option<Value> {
        if !self.inner.references.is_empty() {
            return None;
        }
        self.eval(&Scope::default(), &Limits::default()).ok()
    }

    /// Evaluates it.
    ///
    /// # Errors
    /// When a path is missing, an operation does not fit its values, or a limit is reached.
    pub fn eval(&self, scope: &Scope, limits: &Limits) -> Result<Value, TemplateError> {
        let mut budget = Budget::new(limits);
        self.eval_within(scope, &mut budget)
    }

    /// Evaluates it as a condition: `false`, `none`, `0`, and what is empty do not hold.
    ///
    /// # Errors
    /// As [`Expression::eval`].
    pub fn holds(&self, scope: &Scope, limits: &Limits) -> Result<bool, TemplateError> {
        let mut budget = Budget::new(limits);
        Machine::new(&self.inner.source, scope, &mut budget).holds(&self.inner.code)
    }

    fn eval_within(&self, scope: &Scope, budget: &mut Budget) -> Result<Value, TemplateError> {
        Machine::new(&self.inner.source, scope, budget).result(&self.inner.code)
    }
}

impl Text {
    /// Returns the text it was parsed from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.inner.source
    }

    /// Returns the paths it refers to, in the order in which they stand.
    #[must_use]
    pub fn references(&self) -> &[Reference] {
        &self.inner.references
    }

    /// Returns where it divides with `/`, which always gives a float.
    #[must_use]
    pub fn uses_division(&self) -> Vec<Range<usize>> {
        self.inner.divisions.clone()
    }

    /// Returns its parts.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.inner.code
    }

    fn render_within(&self, scope: &Scope, budget: &mut Budget) -> Result<String, TemplateError> {
        Machine::new(&self.inner.source, scope, budget).text(&self.inner.code)
    }
}

impl Default for Shape {
    fn default() -> Self {
        Self::Literal(Value::Null)
    }
}

impl Template {
    /// Parses every string of `value`; the errors come with the JSON pointers of their strings.
    ///
    /// A string that is wrong is kept as it stands, so that the rest can be looked at.
    #[must_use]
    pub fn parse(value: &Value) -> (Self, Vec<(String, TemplateError)>) {
        let mut errors = Vec::new();
        let shape = parse_shape(value, &mut String::new(), &mut errors);
        (Self { shape }, errors)
    }

    /// Returns the tree of its literals and templates.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns the shape at a JSON pointer inside the value, or `None` where there is none or it is inside a literal.
    #[must_use]
    pub fn shape_at(&self, pointer: &str) -> Option<&Shape> {
        let mut shape = &self.shape;
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            shape = match shape {
                Shape::List(items) => items.get(token.parse::<usize>().ok()?)?,
                Shape::Object(members) => members.iter().find(|(key, _)| *key == token).map(|(_, shape)| shape)?,
                Shape::Literal(_) | Shape::Expression(_) | Shape::Text(_) => return None,
            };
        }
        Some(shape)
    }

    /// Returns the literal at a JSON pointer inside the value, if there is no template in it.
    #[must_use]
    pub fn literal_at(&self, pointer: &str) -> Option<&Value> {
        let mut shape = &self.shape;
        let mut rest = pointer;
        loop {
            if let Shape::Literal(value) = shape {
                return value.pointer(rest);
            }
            let step = rest.strip_prefix('/')?;
            let end = step.find('/').unwrap_or(step.len());
            let token = step[..end].replace("~1", "/").replace("~0", "~");
            rest = &step[end..];
            shape = match shape {
                Shape::List(items) => items.get(token.parse::<usize>().ok()?)?,
                Shape::Object(members) => members.iter().find(|(key, _)| *key == token).map(|(_, shape)| shape)?,
                Shape::Literal(_) | Shape::Expression(_) | Shape::Text(_) => return None,
            };
        }
    }

    /// Returns the paths it refers to, each with the JSON pointer of the string it stands in.
    #[must_use]
    pub fn references(&self) -> Vec<(String, Reference)> {
        let mut found = Vec::new();
        each_template(&self.shape, &mut String::new(), &mut |pointer, references, _| {
            found.extend(references.iter().map(|reference| (pointer.to_owned(), reference.clone())));
        });
        found
    }

    /// Returns where it divides with `/`, each with the JSON pointer of the string it stands in.
    #[must_use]
    pub fn uses_division(&self) -> Vec<(String, Range<usize>)> {
        let mut found = Vec::new();
        each_template(&self.shape, &mut String::new(), &mut |pointer, _, divisions| {
            found.extend(divisions.iter().map(|range| (pointer.to_owned(), range.clone())));
        });
        found
    }

    /// Renders it: one budget of fuel and of size for the whole value.
    ///
    /// # Errors
    /// When a path is missing, an operation does not fit its values, or a limit is reached.
    pub fn render(&self, scope: &Scope, limits: &Limits) -> Result<Value, TemplateError> {
        render_shape(&self.shape, scope, &mut Budget::new(limits))
    }
}

/// Whether a string has anything in it that is not plain text.
fn has_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || (text.contains("{#") && text.contains("#}"))
}

fn parse_shape(value: &Value, pointer: &mut String, errors: &mut Vec<(String, TemplateError)>) -> Shape {
    match value {
        Value::String(text) if has_template(text) => match syntax::parse_text(text) {
            Ok(syntax::Parsed::Whole(code)) => Shape::Expression(Expression::compiled(text, code)),
            Ok(syntax::Parsed::Parts(code)) => {
                let (references, divisions) = refs::of_text(&code);
                Shape::Text(Text {
                    inner: Arc::new(Compiled { source: text.as_str().into(), code, references, divisions }),
                })
            }
            Err(error) => {
                errors.push((pointer.clone(), error));
                Shape::Literal(value.clone())
            }
        },
        Value::Array(items) => {
            let shapes: Vec<Shape> = items
                .iter()
                .enumerate()
                .map(|(index, item)| inside(pointer, &index.to_string(), |pointer| parse_shape(item, pointer, errors)))
                .collect();
            if shapes.iter().all(|shape| matches!(shape, Shape::Literal(_))) {
                Shape::Literal(value.clone())
            } else {
                Shape::List(shapes)
            }
        }
        Value::Object(members) => {
            let shapes: Vec<(String, Shape)> = members
                .iter()
                .map(|(key, member)| {
                    let shape = inside(pointer, key, |pointer| {
                        if key.contains("{{") || key.contains("{%") {
                            let error = TemplateError {
                                message: "a key cannot have a template in it".to_owned(),
                                help: Some("Build the object in an expression: `{{ {input.name: 1} }}`.".to_owned()),
                                range: None,
                                limit: false,
                            };
                            errors.push((pointer.clone(), error));
                        }
                        parse_shape(member, pointer, errors)
                    });
                    (key.clone(), shape)
                })
                .collect();
            if shapes.iter().all(|(_, shape)| matches!(shape, Shape::Literal(_))) {
                Shape::Literal(value.clone())
            } else {
                Shape::Object(shapes)
            }
        }
        _ => Shape::Literal(value.clone()),
    }
}

/// Runs `then` with `token` appended to the JSON pointer.
fn inside<T>(pointer: &mut String, token: &str, then: impl FnOnce(&mut String) -> T) -> T {
    let length = pointer.len();
    pointer.push('/');
    pointer.push_str(&token.replace('~', "~0").replace('/', "~1"));
    let result = then(pointer);
    pointer.truncate(length);
    result
}

fn each_template(shape: &Shape, pointer: &mut String, visit: &mut impl FnMut(&str, &[Reference], &[Range<usize>])) {
    match shape {
        Shape::Literal(_) => {}
        Shape::Expression(expression) => visit(pointer, &expression.inner.references, &expression.inner.divisions),
        Shape::Text(text) => visit(pointer, &text.inner.references, &text.inner.divisions),
        Shape::List(items) => {
            for (index, item) in items.iter().enumerate() {
                inside(pointer, &index.to_string(), |pointer| each_template(item, pointer, visit));
            }
        }
        Shape::Object(members) => {
            for (key, member) in members {
                inside(pointer, key, |pointer| each_template(member, pointer, visit));
            }
        }
    }
}

fn render_shape(shape: &Shape, scope: &Scope, budget: &mut Budget) -> Result<Value, TemplateError> {
    Ok(match shape {
        Shape::Literal(value) => value.clone(),
        Shape::Expression(expression) => expression.eval_within(scope, budget)?,
        Shape::Text(text) => Value::String(text.render_within(scope, budget)?),
        Shape::List(items) => {
            Value::Array(items.iter().map(|item| render_shape(item, scope, budget)).collect::<Result<_, _>>()?)
        }
        Shape::Object(members) => Value::Object(
            members
                .iter()
                .map(|(key, member)| Ok((key.clone(), render_shape(member, scope, budget)?)))
                .collect::<Result<_, TemplateError>>()?,
        ),
    })
}
