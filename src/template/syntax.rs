//! The tree of a template: minijinja's, with its names resolved to our filters and tests and a range at every node.
//!
//! What would be wrong in every run is refused here: unknown filters and tests, statements we do not have, a field
//! that no step has, numbers that do not fit.

use std::ops::Range;
use std::sync::LazyLock;

use minijinja::machinery::{self, ast};
use minijinja::syntax::SyntaxConfig;
use serde_json::Value;

use super::TemplateError;
use super::filters::{self, Filter, Test};
use super::guard;
use crate::suggest::nearest;

/// Levels of one expression, so that an unoptimised build still fits the 2 MiB stack of a worker thread.
const DEPTH_MAX: usize = 48;

/// The fields of a step in a template.
pub(super) const STEP_FIELDS: [&str; 4] = ["status", "output", "error", "via"];

/// An expression or a part of one.
#[derive(Debug)]
pub(crate) struct Node {
    pub kind: Kind,
    pub range: Range<usize>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Literal(Value),
    Name(String),
    /// `base.name` or `base['name']`, and where the name stands.
    Member(Box<Node>, String, Range<usize>),
    /// `base[index]`
    Item(Box<Node>, Box<Node>),
    /// `base[start:stop:step]`
    Slice(Box<Node>, Box<[Option<Node>; 3]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<(Node, Node)>),
    Or(Box<(Node, Node)>),
    /// An operation and where its sign stands.
    Math(MathOp, Box<(Node, Node)>, Range<usize>),
    Compare(Box<Node>, Vec<(CompareOp, Node)>),
    /// Condition, value if it holds, value if not.
    If(Box<(Node, Node, Node)>),
    /// `operand | default(other, lax)`: `other` is evaluated only if it is needed.
    Default(Box<Node>, Option<Box<Node>>, Option<Box<Node>>),
    /// `operand is defined`, or `is undefined` when false.
    Defined(Box<Node>, bool),
    Filter(Box<Node>, &'static Filter, Arguments),
    Test(Box<Node>, &'static Test, Arguments),
    /// `range(...)`
    Range(Vec<Node>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MathOp {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
    Concat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CompareOp {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

/// The arguments of a filter or test.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub positional: Vec<Node>,
    pub named: Vec<(String, Node)>,
}

/// A part of a text.
#[derive(Debug)]
pub(crate) enum Part {
    Text(String),
    Print(Node),
    If(Node, Vec<Part>, Vec<Part>),
    For(Box<For>),
    Set(String, Node),
    /// `{% set name %} ... {% endset %}`
    Capture(String, Vec<Part>),
    With(Vec<(String, Node)>, Vec<Part>),
}

#[derive(Debug)]
pub(crate) struct For {
    pub names: Vec<String>,
    pub iter: Node,
    pub filter: Option<Node>,
    pub body: Vec<Part>,
    pub otherwise: Vec<Part>,
}

/// What a string turned out to be.
pub(super) enum Parsed {
    /// Exactly one `{{ ... }}`.
    Whole(Node),
    /// Text with templates in it.
    Parts(Vec<Part>),
}

static SYNTAX: LazyLock<SyntaxConfig> = LazyLock::new(|| {
    SyntaxConfig::builder().keep_trailing_newline(true).build().expect("the default delimiters are valid")
});

/// Parses a bare expression, or one whole `{{ ... }}`.
pub(super) fn parse_expression(source: &str) -> Result<Node, TemplateError> {
    if source.trim().is_empty() {
        return Err(TemplateError::new("the expression is empty", 0..source.len()));
    }
    if source.trim_start().starts_with("{{") || source.trim_start().starts_with("{%") {
        return match parse_string(source, |around| around.trim().is_empty())? {
            Parsed::Whole(node) => Ok(node),
            Parsed::Parts(_) => Err(TemplateError::new("this is text, not one expression", 0..source.len())
                .with_help("Write a bare expression, or one whole `{{ ... }}` with nothing around it.".to_owned())),
        };
    }
    let open = guard::check(source, true, &SYNTAX)?;
    let tree = machinery::parse_expr(source).map_err(|error| guard::explain(source, true, &error, open))?;
    Lower { source }.expr(&tree, 0)
}

/// Parses a string that has templates in it.
pub(super) fn parse_text(source: &str) -> Result<Parsed, TemplateError> {
    // A block scalar ends with a newline that nobody meant.
    parse_string(source, |around| around == "\n")
}

/// Parses a string; `nothing` says which text around a single `{{ ... }}` is as good as none.
fn parse_string(source: &str, nothing: fn(&str) -> bool) -> Result<Parsed, TemplateError> {
    let open = guard::check(source, false, &SYNTAX)?;
    let tree = machinery::parse(source, "template", SYNTAX.clone())
        .map_err(|error| guard::explain(source, false, &error, open))?;
    let ast::Stmt::Template(tree) = &tree else {
        return Err(TemplateError::new("this is not a template", 0..source.len()));
    };
    let lower = Lower { source };
    let mut meant = tree.children.iter().filter(|part| !matches!(part, ast::Stmt::EmitRaw(raw) if nothing(raw.raw)));
    if let (Some(ast::Stmt::EmitExpr(only)), None) = (meant.next(), meant.next()) {
        return Ok(Parsed::Whole(lower.expr(&only.expr, 0)?));
    }
    Ok(Parsed::Parts(lower.parts(&tree.children)?))
}

/// Turns minijinja's tree into ours.
struct Lower<'s> {
    source: &'s str,
}

impl Lower<'_> {
    fn parts(&self, statements: &[ast::Stmt<'_>]) -> Result<Vec<Part>, TemplateError> {
        statements.iter().map(|statement| self.part(statement)).collect()
    }

    fn part(&self, statement: &ast::Stmt<'_>) -> Result<Part, TemplateError> {
        let unsupported = |what: &str, span: machinery::Span| {
            Err(TemplateError::new(format!("templates have no `{what}`"), guard::span_range(span))
                .with_help("There are `if`, `for`, `set` and `with`.".to_owned()))
        };
        Ok(match statement {
            ast::Stmt::EmitRaw(raw) => Part::Text(raw.raw.to_owned()),
            ast::Stmt::EmitExpr(print) => Part::Print(self.expr(&print.expr, 0)?),
            ast::Stmt::IfCond(cond) => {
                Part::If(self.expr(&cond.expr, 0)?, self.parts(&cond.true_body)?, self.parts(&cond.false_body)?)
            }
            ast::Stmt::ForLoop(each) => {
                if each.recursive {
                    return unsupported("recursive loop", each.span());
                }
                Part::For(Box::new(For {
                    names: names(&each.target)?,
                    iter: self.expr(&each.iter, 0)?,
                    filter: each.filter_expr.as_ref().map(|filter| self.expr(filter, 0)).transpose()?,
                    body: self.parts(&each.body)?,
                    otherwise: self.parts(&each.else_body)?,
                }))
            }
            ast::Stmt::Set(set) => Part::Set(name(&set.target)?, self.expr(&set.expr, 0)?),
            ast::Stmt::SetBlock(set) => match &set.filter {
                Some(filter) => return unsupported("filtered set block", filter.span()),
                None => Part::Capture(name(&set.target)?, self.parts(&set.body)?),
            },
            ast::Stmt::WithBlock(with) => Part::With(
                with.assignments
                    .iter()
                    .map(|(target, node)| Ok((name(target)?, self.expr(node, 0)?)))
                    .collect::<Result<_, TemplateError>>()?,
                self.parts(&with.body)?,
            ),
            ast::Stmt::AutoEscape(block) => return unsupported("autoescape", block.span()),
            ast::Stmt::FilterBlock(block) => return unsupported("filter block", block.filter_span),
            ast::Stmt::Do(block) => return unsupported("do", block.span()),
            ast::Stmt::Template(block) => return unsupported("template inside a template", block.span()),
        })
    }

    fn expr(&self, expr: &ast::Expr<'_>, depth: usize) -> Result<Node, TemplateError> {
        let span = guard::span_range(expr.span());
        if depth > DEPTH_MAX {
            return Err(TemplateError {
                message: format!("an expression can have {DEPTH_MAX} levels at most"),
                help: Some("Split it with `{% set %}`, or compute it in a handler.".to_owned()),
                range: Some(span),
                limit: true,
            });
        }
        let down = |expr| self.expr(expr, depth + 1);
        let boxed = |expr| down(expr).map(Box::new);
        Ok(match expr {
            ast::Expr::Var(var) => {
                if matches!(var.id, "null" | "Null" | "NULL" | "nil") {
                    return Err(TemplateError::new(format!("there is no `{}`", var.id), span)
                        .with_help("Write `none`.".to_owned()));
                }
                Node { kind: Kind::Name(var.id.to_owned()), range: span }
            }
            ast::Expr::Const(constant) => Node { kind: Kind::Literal(literal(&constant.value, &span)?), range: span },
            ast::Expr::GetAttr(attr) => {
                let base = down(&attr.expr)?;
                let at = span.end.saturating_sub(attr.name.len())..span.end;
                member(base, attr.name.to_owned(), at, span.end)?
            }
            ast::Expr::GetItem(item) => {
                let base = down(&item.expr)?;
                let index = down(&item.subscript_expr)?;
                match index.kind {
                    Kind::Literal(Value::String(name)) => {
                        let inner = index.range.start + 1..index.range.end.saturating_sub(1).max(index.range.start + 1);
                        member(base, name, inner, span.end)?
                    }
                    _ => {
                        let range = base.range.start..span.end;
                        Node { kind: Kind::Item(Box::new(base), Box::new(index)), range }
                    }
                }
            }
            ast::Expr::Slice(slice) => {
                let base = boxed(&slice.expr)?;
                let bounds = Box::new([
                    slice.start.as_ref().map(down).transpose()?,
                    slice.stop.as_ref().map(down).transpose()?,
                    slice.step.as_ref().map(down).transpose()?,
                ]);
                let range = base.range.start..span.end;
                Node { kind: Kind::Slice(base, bounds), range }
            }
            ast::Expr::UnaryOp(unary) => {
                let operand = boxed(&unary.expr)?;
                let range = span.start.min(operand.range.start)..span.end.max(operand.range.end);
                match (&unary.op, operand.kind) {
                    // `x is not defined` and `x not in y` come as `not (...)`.
                    (ast::UnaryOpKind::Not, Kind::Defined(inner, expected)) => {
                        Node { kind: Kind::Defined(inner, !expected), range }
                    }
                    (ast::UnaryOpKind::Not, kind) => {
                        Node { kind: Kind::Not(Box::new(Node { kind, range: operand.range })), range }
                    }
                    (ast::UnaryOpKind::Neg, kind) => {
                        Node { kind: Kind::Negate(Box::new(Node { kind, range: operand.range })), range }
                    }
                }
            }
            ast::Expr::BinOp(binary) => self.binary(binary, depth)?,
            ast::Expr::Compare(compare) => {
                let first = boxed(&compare.expr)?;
                let rest = compare
                    .ops
                    .iter()
                    .map(|op| Ok((compare_op(op.op), down(&op.expr)?)))
                    .collect::<Result<Vec<_>, TemplateError>>()?;
                let range = first.range.start..span.end;
                Node { kind: Kind::Compare(first, rest), range }
            }
            ast::Expr::IfExpr(cond) => {
                let test = down(&cond.test_expr)?;
                let then = down(&cond.true_expr)?;
                let Some(otherwise) = &cond.false_expr else {
                    return Err(TemplateError::new("this `if` has no `else`", then.range.start..test.range.end)
                        .with_help("Write `a if condition else b`; `else none` gives null.".to_owned()));
                };
                let otherwise = down(otherwise)?;
                let range = then.range.start..otherwise.range.end;
                Node { kind: Kind::If(Box::new((test, then, otherwise))), range }
            }
            ast::Expr::Filter(filter) => {
                let Some(operand) = &filter.expr else {
                    return Err(TemplateError::new("a filter needs a value", span));
                };
                let operand = down(operand)?;
                let at = span.start..(span.start + filter.name.len()).min(span.end);
                let range = operand.range.start..span.end;
                self.filter(operand, filter.name, &at, self.arguments(&filter.args, depth)?, range)?
            }
            ast::Expr::Test(test) => {
                let operand = boxed(&test.expr)?;
                let at = span.start..(span.start + test.name.len()).min(span.end);
                let range = operand.range.start..span.end;
                let arguments = self.arguments(&test.args, depth)?;
                let kind = match test.name {
                    "defined" | "undefined" if arguments.positional.is_empty() && arguments.named.is_empty() => {
                        Kind::Defined(operand, test.name == "defined")
                    }
                    name => Kind::Test(operand, filters::find_test(name, &at, &arguments)?, arguments),
                };
                Node { kind, range }
            }
            ast::Expr::Call(call) => self.call(call, &span, depth)?,
            ast::Expr::List(list) => {
                Node { kind: Kind::List(list.items.iter().map(down).collect::<Result<_, _>>()?), range: span }
            }
            ast::Expr::Tuple(tuple) => {
                Node { kind: Kind::List(tuple.items.iter().map(down).collect::<Result<_, _>>()?), range: span }
            }
            ast::Expr::Map(map) => {
                let entries = map.keys.iter().zip(&map.values).map(|(key, value)| Ok((down(key)?, down(value)?)));
                Node { kind: Kind::Map(entries.collect::<Result<_, TemplateError>>()?), range: span }
            }
        })
    }

    fn binary(&self, binary: &ast::BinOp<'_>, depth: usize) -> Result<Node, TemplateError> {
        let left = self.expr(&binary.left, depth + 1)?;
        let right = self.expr(&binary.right, depth + 1)?;
        let range = left.range.start..right.range.end;
        let math = |op: MathOp, sign: &str, left: Node, right: Node| {
            let between = &self.source[left.range.end.min(right.range.start)..right.range.start];
            let at = left.range.end + between.find(sign).unwrap_or(0);
            Kind::Math(op, Box::new((left, right)), at..at + sign.len())
        };
        let compare = |op, left, right| Kind::Compare(Box::new(left), vec![(op, right)]);
        let kind = match binary.op {
            ast::BinOpKind::Eq => compare(CompareOp::Equal, left, right),
            ast::BinOpKind::Ne => compare(CompareOp::NotEqual, left, right),
            ast::BinOpKind::Lt => compare(CompareOp::Less, left, right),
            ast::BinOpKind::Lte => compare(CompareOp::LessOrEqual, left, right),
            ast::BinOpKind::Gt => compare(CompareOp::Greater, left, right),
            ast::BinOpKind::Gte => compare(CompareOp::GreaterOrEqual, left, right),
            ast::BinOpKind::In => compare(CompareOp::In, left, right),
            ast::BinOpKind::ScAnd => Kind::And(Box::new((left, right))),
            ast::BinOpKind::ScOr => Kind::Or(Box::new((left, right))),
            ast::BinOpKind::Add => math(MathOp::Add, "+", left, right),
            ast::BinOpKind::Sub => math(MathOp::Subtract, "-", left, right),
            ast::BinOpKind::Mul => math(MathOp::Multiply, "*", left, right),
            ast::BinOpKind::Div => math(MathOp::Divide, "/", left, right),
            ast::BinOpKind::FloorDiv => math(MathOp::FloorDivide, "//", left, right),
            ast::BinOpKind::Rem => math(MathOp::Remainder, "%", left, right),
            ast::BinOpKind::Pow => math(MathOp::Power, "**", left, right),
            ast::BinOpKind::Concat => math(MathOp::Concat, "~", left, right),
        };
        Ok(Node { kind, range })
    }

    fn filter(
        &self,
        operand: Node,
        name: &str,
        at: &Range<usize>,
        mut arguments: Arguments,
        range: Range<usize>,
    ) -> Result<Node, TemplateError> {
        if !matches!(name, "default" | "d") {
            let filter = filters::find_filter(name, at, &arguments)?;
            return Ok(Node { kind: Kind::Filter(Box::new(operand), filter, arguments), range });
        }
        let mut positional = arguments.positional.drain(..);
        let (mut other, mut lax) = (positional.next().map(Box::new), positional.next().map(Box::new));
        for (keyword, node) in arguments.named.drain(..) {
            match keyword.as_str() {
                "default_value" | "value" if other.is_none() => other = Some(Box::new(node)),
                "boolean" if lax.is_none() => lax = Some(Box::new(node)),
                _ => return Err(TemplateError::new(format!("`default` has no argument `{keyword}`"), node.range)),
            }
        }
        if let Some(extra) = positional.next() {
            return Err(TemplateError::new("`default` takes two arguments at most", extra.range));
        }
        if other.is_none() {
            return Err(TemplateError::new("`default` needs the value to take instead", at.clone())
                .with_help("Write `default(none)`, `default('')` or `default([])`.".to_owned()));
        }
        Ok(Node { kind: Kind::Default(Box::new(operand), other, lax), range })
    }

    fn arguments(&self, args: &[ast::CallArg<'_>], depth: usize) -> Result<Arguments, TemplateError> {
        let mut arguments = Arguments::default();
        for arg in args {
            match arg {
                ast::CallArg::Pos(node) => arguments.positional.push(self.expr(node, depth + 1)?),
                ast::CallArg::Kwarg(name, node) => {
                    arguments.named.push(((*name).to_owned(), self.expr(node, depth + 1)?));
                }
                ast::CallArg::PosSplat(node) | ast::CallArg::KwargSplat(node) => {
                    return Err(TemplateError::new(
                        "`*` and `**` arguments are not supported",
                        guard::span_range(node.span()),
                    ));
                }
            }
        }
        Ok(arguments)
    }

    fn call(&self, call: &ast::Call<'_>, span: &Range<usize>, depth: usize) -> Result<Node, TemplateError> {
        match call.identify_call() {
            ast::CallType::Function("range") => {
                let arguments = self.arguments(&call.args, depth)?;
                if !(1..=3).contains(&arguments.positional.len()) || !arguments.named.is_empty() {
                    return Err(TemplateError::new("`range` takes one to three numbers", span.clone()).with_help(
                        "Write `range(stop)`, `range(start, stop)` or `range(start, stop, step)`.".to_owned(),
                    ));
                }
                let start = guard::span_range(call.expr.span()).start;
                Ok(Node { kind: Kind::Range(arguments.positional), range: start..span.end })
            }
            ast::CallType::Function(name) => {
                let at = guard::span_range(call.expr.span());
                let help = if filters::is_filter(name) {
                    format!("It is a filter: write `value | {name}`.")
                } else {
                    "The only function is `range`; everything else is a filter, as in `value | length`.".to_owned()
                };
                Err(TemplateError::new(format!("there is no function `{name}`"), at).with_help(help))
            }
            ast::CallType::Method(_, name) => {
                let end = guard::span_range(call.expr.span()).end;
                let help = if filters::is_filter(name) {
                    Some(format!("It is a filter: write `value | {name}`."))
                } else {
                    filters::method_help(name).map(str::to_owned)
                };
                Err(TemplateError::new(format!("values have no method `{name}`"), end.saturating_sub(name.len())..end)
                    .with_help(help))
            }
            ast::CallType::Object(_) => Err(TemplateError::new("this cannot be called", span.clone())),
        }
    }
}

fn member(base: Node, name: String, at: Range<usize>, end: usize) -> Result<Node, TemplateError> {
    // Certain whatever the schemas say: a step has four fields.
    if let Kind::Member(steps, step, _) = &base.kind
        && matches!(&steps.kind, Kind::Name(root) if root == "steps")
        && !STEP_FIELDS.contains(&name.as_str())
    {
        let help = match nearest(&name, STEP_FIELDS) {
            Some(near) => format!("Did you mean `{near}`?"),
            None => {
                format!("What the step returned is in `steps.{step}.output`, so write `steps.{step}.output.{name}`.")
            }
        };
        let message = format!("a step has no `{name}`, only `status`, `output`, `error` and `via`");
        return Err(TemplateError::new(message, at).with_help(help));
    }
    let range = base.range.start..end;
    Ok(Node { kind: Kind::Member(Box::new(base), name, at), range })
}

fn name(target: &ast::Expr<'_>) -> Result<String, TemplateError> {
    match target {
        ast::Expr::Var(var) => Ok(var.id.to_owned()),
        other => Err(TemplateError::new("only one plain name can be set", guard::span_range(other.span()))),
    }
}

fn names(target: &ast::Expr<'_>) -> Result<Vec<String>, TemplateError> {
    match target {
        ast::Expr::List(list) => list.items.iter().map(name).collect(),
        ast::Expr::Tuple(tuple) => tuple.items.iter().map(name).collect(),
        other => Ok(vec![name(other)?]),
    }
}

fn literal(value: &minijinja::Value, range: &Range<usize>) -> Result<Value, TemplateError> {
    let unfit = |_| TemplateError::new("this number does not fit 64 bits", range.clone());
    let json = serde_json::to_value(value).map_err(unfit)?;
    if json.is_null() && !value.is_none() {
        return Err(TemplateError::new("this number is too large", range.clone()));
    }
    Ok(json)
}

fn compare_op(op: ast::CompareOpKind) -> CompareOp {
    match op {
        ast::CompareOpKind::Eq => CompareOp::Equal,
        ast::CompareOpKind::Ne => CompareOp::NotEqual,
        ast::CompareOpKind::Lt => CompareOp::Less,
        ast::CompareOpKind::Lte => CompareOp::LessOrEqual,
        ast::CompareOpKind::Gt => CompareOp::Greater,
        ast::CompareOpKind::Gte => CompareOp::GreaterOrEqual,
        ast::CompareOpKind::In => CompareOp::In,
        ast::CompareOpKind::NotIn => CompareOp::NotIn,
    }
}
