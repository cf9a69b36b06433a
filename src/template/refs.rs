//! Which names a template refers to: the paths, where they stand, and whether they are guarded.

use std::ops::Range;

use super::Reference;
use super::syntax::{Kind, MathOp, Node, Part};

/// Returns what an expression refers to, and where it divides.
pub(super) fn of_expression(node: &Node) -> (Vec<Reference>, Vec<Range<usize>>) {
    let mut walk = Walk::default();
    walk.node(node, Place { guarded: false, plain: true });
    walk.finish()
}

/// Returns what a text refers to, and where it divides.
pub(super) fn of_text(parts: &[Part]) -> (Vec<Reference>, Vec<Range<usize>>) {
    let mut walk = Walk::default();
    walk.parts(parts);
    walk.finish()
}

/// How a node is used.
#[derive(Clone, Copy, Default)]
struct Place {
    guarded: bool,
    plain: bool,
}

#[derive(Default)]
struct Walk<'n> {
    locals: Vec<&'n str>,
    references: Vec<Reference>,
    divisions: Vec<Range<usize>>,
}

impl<'n> Walk<'n> {
    fn finish(mut self) -> (Vec<Reference>, Vec<Range<usize>>) {
        self.references.sort_by_key(|reference| reference.ranges[0].start);
        self.divisions.sort_by_key(|range| range.start);
        (self.references, self.divisions)
    }

    fn parts(&mut self, parts: &'n [Part]) {
        let depth = self.locals.len();
        for part in parts {
            match part {
                Part::Text(_) => {}
                Part::Print(node) => self.node(node, Place { guarded: false, plain: true }),
                Part::If(test, then, otherwise) => {
                    self.used(test);
                    self.parts(then);
                    self.parts(otherwise);
                }
                Part::For(each) => {
                    self.used(&each.iter);
                    let outside = self.locals.len();
                    self.locals.extend(each.names.iter().map(String::as_str));
                    self.locals.push("loop");
                    if let Some(filter) = &each.filter {
                        self.used(filter);
                    }
                    self.parts(&each.body);
                    self.locals.truncate(outside);
                    self.parts(&each.otherwise);
                }
                Part::Set(name, node) => {
                    self.used(node);
                    self.locals.push(name);
                }
                Part::Capture(name, body) => {
                    self.parts(body);
                    self.locals.push(name);
                }
                Part::With(names, body) => {
                    let outside = self.locals.len();
                    for (name, node) in names {
                        self.used(node);
                        self.locals.push(name);
                    }
                    self.parts(body);
                    self.locals.truncate(outside);
                }
            }
        }
        self.locals.truncate(depth);
    }

    fn used(&mut self, node: &'n Node) {
        self.node(node, Place::default());
    }

    fn node(&mut self, node: &'n Node, place: Place) {
        match &node.kind {
            Kind::Literal(_) => {}
            Kind::Name(_) | Kind::Member(..) => match path(node) {
                Some((path, ranges)) => {
                    if !self.locals.contains(&path[0]) {
                        let path = path.into_iter().map(str::to_owned).collect();
                        self.references.push(Reference { path, ranges, guarded: place.guarded, plain: place.plain });
                    }
                }
                None => {
                    if let Kind::Member(base, ..) = &node.kind {
                        self.node(base, Place { plain: false, ..place });
                    }
                }
            },
            Kind::Item(base, index) => {
                self.node(base, Place { plain: false, ..place });
                self.used(index);
            }
            Kind::Default(operand, other, lax) => {
                self.node(operand, Place { guarded: true, plain: false });
                for node in other.iter().chain(lax) {
                    self.used(node);
                }
            }
            Kind::Defined(operand, _) => self.node(operand, Place { guarded: true, plain: false }),
            Kind::Slice(base, bounds) => {
                self.used(base);
                bounds.iter().flatten().for_each(|node| self.used(node));
            }
            Kind::Not(operand) | Kind::Negate(operand) => self.used(operand),
            Kind::And(sides) | Kind::Or(sides) => {
                self.used(&sides.0);
                self.used(&sides.1);
            }
            Kind::Math(op, sides, place) => {
                self.used(&sides.0);
                self.used(&sides.1);
                if *op == MathOp::Divide {
                    self.divisions.push(place.clone());
                }
            }
            Kind::Compare(first, rest) => {
                self.used(first);
                rest.iter().for_each(|(_, node)| self.used(node));
            }
            Kind::If(branches) => {
                self.used(&branches.0);
                self.used(&branches.1);
                self.used(&branches.2);
            }
            Kind::Filter(operand, _, args) | Kind::Test(operand, _, args) => {
                self.used(operand);
                args.positional.iter().for_each(|node| self.used(node));
                args.named.iter().for_each(|(_, node)| self.used(node));
            }
            Kind::Range(args) | Kind::List(args) => args.iter().for_each(|node| self.used(node)),
            Kind::Map(entries) => {
                for (key, value) in entries {
                    self.used(key);
                    self.used(value);
                }
            }
        }
    }
}

/// Returns the names of a node that is a path and nothing else, and where they stand.
pub(crate) fn path(node: &Node) -> Option<(Vec<&str>, Vec<Range<usize>>)> {
    match &node.kind {
        Kind::Name(name) => Some((vec![name], vec![node.range.clone()])),
        Kind::Member(base, name, range) => {
            let (mut names, mut ranges) = path(base)?;
            names.push(name);
            ranges.push(range.clone());
            Some((names, ranges))
        }
        _ => None,
    }
}
