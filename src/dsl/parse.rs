//! From text to `Document`: every finding about syntax and shape in one pass.

use std::collections::HashSet;

use serde_json::Value;

use super::document::Document;
use super::schema::{self, Violation};
use super::tree::{FINDINGS_MAX, Tree, too_many};
use super::{prune, rules};
use crate::diag::{Finding, SourceFile, Span, in_file_order};
use crate::limits::Limits;

/// A workflow file that was read.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The file.
    pub file: SourceFile,
    /// Its content, with places.
    pub tree: Tree,
    /// Its content by its meaning.
    pub document: Document,
    /// Parts of the file were left out of the document because of errors in them. What the document lacks may well be
    /// in the file, so nothing should be called unused.
    pub partial: bool,
}

/// Reads a workflow file: syntax and shape, no meaning yet.
///
/// All findings come at once, in file order. With errors there is still a document if one could be made of the sound
/// parts, so that its meaning can be checked in the same pass.
#[must_use]
pub fn parse(file: &SourceFile, limits: &Limits) -> (Option<Parsed>, Vec<Finding>) {
    let (tree, mut findings) = Tree::read(file, limits);
    let Some(tree) = tree else {
        in_file_order(&mut findings);
        return (None, findings);
    };
    let mut value = tree.value().clone();
    let mut partial = !findings.is_empty();
    let mut usable = true;
    let of_text: HashSet<Span> = findings.iter().map(|finding| finding.span).collect();
    let violations = schema::violations(&tree);
    if violations.len() >= FINDINGS_MAX {
        findings.extend(violations.into_iter().map(|violation| violation.finding));
        in_file_order(&mut findings);
        findings.truncate(FINDINGS_MAX);
        let last = findings.last().map_or_else(Span::default, |finding| finding.span);
        findings.push(too_many(last));
        return (None, findings);
    }
    for Violation { finding, drop } in violations {
        partial = true;
        // What is wrong with the text of a value has been said already.
        if finding.span.len == 0 || !of_text.contains(&finding.span) {
            findings.push(finding);
        }
        usable &= drop.is_empty() || prune::prune(&mut value, &drop);
    }
    let document = if usable { serde_json::from_value::<Document>(value).ok() } else { None };
    rules::check(&tree, limits, &mut findings);
    in_file_order(&mut findings);
    let parsed = document.map(|document| Parsed { file: file.clone(), tree, document, partial });
    debug_assert!(parsed.is_some() || !findings.is_empty(), "a document that cannot be built has a finding");
    (parsed, findings)
}

/// Tells whether a value is null, which no key of a workflow file may be.
pub(super) fn is_empty(value: Option<&Value>) -> bool {
    value.is_some_and(Value::is_null)
}
