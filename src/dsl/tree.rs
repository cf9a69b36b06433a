//! A YAML file as a tree in which every key and value knows its place.
//!
//! The tree owns the limits on size, nesting and aliases, and applies them to the events of the scanner, before anything
//! is built. It refuses what a workflow file does without: duplicate keys, tags, merge keys, several documents. What
//! the keys mean it does not know.

use std::ops::Range;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Span as Mark, StructureStyle};
use indexmap::IndexMap;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::resolve::{Scalar, resolve};
use super::syntax;
use crate::diag::{Finding, FindingCode, SourceFile, Span};
use crate::limits::Limits;

/// Levels of nesting that are never exceeded, whatever `--limit` says: values this deep are dropped recursively.
const NESTING_MAX: u64 = crate::payload::DEPTH_MAX as u64;
/// How many unquoted templates are looked at in one go; each costs a further reading of the file.
const UNQUOTED_MAX: usize = 20;
/// How many times the size of the largest file the values may have once aliases are replaced.
const EXPANSION_MAX: u64 = 4;

/// How many findings are gathered; nobody reads more, and a hostile file must not cost more.
pub(crate) const FINDINGS_MAX: usize = 1_000;

/// Leaves out what nobody reads any more, and says so.
pub(crate) fn shorten(findings: &mut Vec<Finding>) {
    if findings.len() > FINDINGS_MAX {
        let last = findings[FINDINGS_MAX].span;
        findings.truncate(FINDINGS_MAX);
        findings.push(too_many(last));
    }
}

/// Says that the rest is not shown.
pub(super) fn too_many(span: Span) -> Finding {
    Finding::error(
        FindingCode::Limit,
        span,
        format!("there are more than {FINDINGS_MAX} errors; the rest is not shown"),
    )
}

/// Which half of an entry is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
}

/// A YAML file with the place of every key and value.
#[derive(Clone, Debug)]
pub struct Tree {
    text: Arc<str>,
    nodes: Vec<Node>,
    root: usize,
    value: Value,
}

#[derive(Clone, Debug)]
struct Node {
    span: Span,
    kind: Kind,
    /// Bytes it stands for once aliases are replaced; nothing while it is open.
    weight: Option<u64>,
    height: u64,
}

#[derive(Clone, Debug)]
enum Kind {
    Scalar { style: ScalarStyle, value: Value },
    Map { block: bool, entries: IndexMap<String, (Span, usize)> },
    List { items: Vec<usize> },
    Alias(usize),
}

/// Where a pointer leads.
struct Found {
    node: usize,
    key: Option<Span>,
}

impl Tree {
    /// Reads a file.
    ///
    /// Findings may come with a tree (a duplicate key) or without one (a bracket that is never closed).
    #[must_use]
    pub fn read(file: &SourceFile, limits: &Limits) -> (Option<Self>, Vec<Finding>) {
        let mut findings = Vec::new();
        if let Some(finding) = syntax::unfit_text(file, limits) {
            return (None, vec![finding]);
        }
        // An unquoted template is read as if it were quoted: its bytes are blanked for the scanner, with the same
        // length so that all places stay right, and put back into the value. So the rest of the file is still checked.
        let mut text = file.text.to_string();
        let mut quoted: Vec<Range<usize>> = Vec::new();
        loop {
            let mut builder = Builder::new(file, &quoted, limits);
            match builder.run(&text) {
                Ok(root) => {
                    findings.append(&mut builder.findings);
                    let mut nodes = builder.nodes;
                    nodes.shrink_to_fit();
                    let value = value_of(&nodes, root);
                    return (Some(Self { text: file.text.clone(), nodes, root, value }), findings);
                }
                Err(Stop::Unquoted(at)) if quoted.len() < UNQUOTED_MAX => {
                    let (range, finding) = syntax::unquoted_template(&text, at);
                    findings.push(finding);
                    match range {
                        Some(range) => {
                            let blank = format!("\"{}\"", "_".repeat(range.len() - 2));
                            text.replace_range(range.clone(), &blank);
                            quoted.push(range);
                        }
                        None => return (None, findings),
                    }
                }
                Err(Stop::Unquoted(_)) => return (None, findings),
                Err(Stop::Finding(finding)) => {
                    findings.append(&mut builder.findings);
                    findings.push(*finding);
                    return (None, findings);
                }
            }
        }
    }

    /// Returns the file's content as JSON.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Returns the place of the key or value that a JSON pointer leads to.
    ///
    /// What the pointer names but the file lacks is shown where it would be: at the nearest map around it. A value of
    /// several lines is shown at its key.
    #[must_use]
    pub fn span(&self, pointer: &str, part: Part) -> Span {
        let found = self.find(pointer);
        let value = self.nodes[found.node].span;
        let one_line = !self.text[value.range()].contains('\n');
        match (part, found.key) {
            (Part::Key, Some(key)) => key,
            (Part::Value, Some(key)) if !one_line || value.len == 0 => key,
            (Part::Key, None) if pointer.is_empty() => self.first_line(),
            _ if one_line => value,
            _ => self.line_at(value.start),
        }
    }

    /// Returns the whole extent of a value, which may have many lines.
    #[must_use]
    pub fn extent(&self, pointer: &str) -> Span {
        self.nodes[self.find(pointer).node].span
    }

    /// Tells whether the file has what a JSON pointer names.
    #[must_use]
    pub fn has(&self, pointer: &str) -> bool {
        self.value.pointer(pointer).is_some()
    }

    /// Returns the place in the file of a byte range inside a string value, as it is after quotes and escapes are read.
    #[must_use]
    pub fn inside(&self, pointer: &str, range: Range<usize>) -> Span {
        let node = &self.nodes[self.target(self.find(pointer).node)];
        match (&node.kind, self.value.pointer(pointer)) {
            (Kind::Scalar { style, .. }, Some(Value::String(decoded))) => {
                super::resolve::inside(&self.text, node.span, *style, decoded, range)
                    .unwrap_or_else(|| self.span(pointer, Part::Value))
            }
            _ => self.span(pointer, Part::Value),
        }
    }

    fn first_line(&self) -> Span {
        if let Kind::Map { entries, .. } = &self.nodes[self.root].kind
            && let Some((_, (key, _))) = entries.first()
            && !self.text[..key.start].contains('\n')
        {
            return *key;
        }
        self.line_at(0)
    }

    fn line_at(&self, start: usize) -> Span {
        let line = self.text[start..].split('\n').next().unwrap_or_default();
        Span::new(start, line.trim_end().len())
    }

    /// Follows a pointer as far as the file goes.
    fn find(&self, pointer: &str) -> Found {
        let mut found = Found { node: self.root, key: None };
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            match &self.nodes[self.target(found.node)].kind {
                Kind::Map { entries, .. } => match entries.get(&token) {
                    Some((key, node)) => found = Found { node: *node, key: Some(*key) },
                    None => break,
                },
                Kind::List { items } => match token.parse().ok().and_then(|at: usize| items.get(at)) {
                    Some(node) => found = Found { node: *node, key: None },
                    None => break,
                },
                Kind::Scalar { .. } | Kind::Alias(_) => break,
            }
        }
        found
    }

    fn target(&self, mut node: usize) -> usize {
        while let Kind::Alias(to) = self.nodes[node].kind {
            node = to;
        }
        node
    }
}

/// Reads a YAML file of which only the content matters, under the same limits and as strictly as a workflow; an empty one
/// is null.
///
/// # Errors
/// What is wrong with it, each with its line and column.
pub fn read_value(text: &str, limits: &Limits) -> Result<Value, Vec<String>> {
    let is_blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.len() as u64 <= limits.definition_bytes && text.lines().all(is_blank) {
        return Ok(Value::Null);
    }
    let file = SourceFile::new("", text);
    let (tree, findings) = Tree::read(&file, limits);
    match tree {
        Some(tree) if findings.is_empty() => Ok(tree.value),
        _ => Err(findings
            .iter()
            .map(|finding| {
                let place = file.place(finding.span.start);
                format!("line {}, column {}: {}", place.line, place.column, finding.message)
            })
            .collect()),
    }
}

/// Reads a small file of which only the content matters: the tree judges it, and then it is safe to be read by serde.
///
/// # Errors
/// What is wrong with it, each with its line and column.
pub fn read_small<T: DeserializeOwned>(text: &str, limits: &Limits) -> Result<T, Vec<String>> {
    read_value(text, limits)?;
    serde_yaml::from_str(text.trim_start_matches('\u{FEFF}')).map_err(|error| vec![error.to_string()])
}

/// Makes a JSON pointer longer by one name.
#[must_use]
pub fn join(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// The depth is bounded by the limit on nesting, aliases included, and the size by that on expansion.
fn value_of(nodes: &[Node], node: usize) -> Value {
    match &nodes[node].kind {
        Kind::Scalar { value, .. } => value.clone(),
        Kind::Alias(to) => value_of(nodes, *to),
        Kind::List { items } => items.iter().map(|item| value_of(nodes, *item)).collect(),
        Kind::Map { entries, .. } => {
            let mut map = Map::with_capacity(entries.len());
            map.extend(entries.iter().map(|(name, (_, node))| (name.clone(), value_of(nodes, *node))));
            Value::Object(map)
        }
    }
}

/// Why reading ends early.
enum Stop {
    Finding(Box<Finding>),
    Unquoted(usize),
}

impl From<Finding> for Stop {
    fn from(finding: Finding) -> Self {
        Self::Finding(Box::new(finding))
    }
}

struct Frame {
    node: usize,
    key: Option<Key>,
    /// The collection stands where a key belongs.
    is_key: bool,
}

struct Key {
    name: String,
    span: Span,
    /// Its value is read but not kept.
    refused: bool,
}

struct Builder<'a> {
    file: &'a SourceFile,
    text: &'a str,
    quoted: &'a [Range<usize>],
    limits: &'a Limits,
    nesting: u64,
    nodes: Vec<Node>,
    frames: Vec<Frame>,
    anchors: std::collections::HashMap<usize, usize>,
    aliases: u64,
    last_alias: Option<Span>,
    root: Option<usize>,
    findings: Vec<Finding>,
}

impl<'a> Builder<'a> {
    fn new(file: &'a SourceFile, quoted: &'a [Range<usize>], limits: &'a Limits) -> Self {
        Self {
            file,
            text: &file.text,
            quoted,
            limits,
            nesting: limits.nesting.min(NESTING_MAX),
            nodes: Vec::new(),
            frames: Vec::new(),
            anchors: std::collections::HashMap::new(),
            aliases: 0,
            last_alias: None,
            root: None,
            findings: Vec::new(),
        }
    }

    fn run(&mut self, text: &str) -> Result<usize, Stop> {
        let deepest = usize::try_from(NESTING_MAX).unwrap_or(usize::MAX);
        let options = granit_parser::options! {
            emit_comments: false,
            emit_unresolved_aliases: true,
            disallow_directives: true,
            block_scalar_eof_without_line_feed: true,
            flow_nesting_limit: deepest,
            block_nesting_limit: deepest,
        };
        let mut documents = 0;
        let mut reached = 0;
        for next in Parser::new_from_str_with_options(text, options) {
            let (event, mark) = match next {
                Ok(next) => next,
                Err(error) => return Err(self.scan_error(text, reached, &error)),
            };
            let span = span_of(mark);
            reached = reached.max(span.start);
            if self.findings.len() >= FINDINGS_MAX {
                return Err(too_many(span).into());
            }
            match event {
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(Finding::error(
                            FindingCode::UnsupportedYaml,
                            Span::new(span.start, 3.min(self.text.len() - span.start)),
                            "a second document starts here",
                        )
                        .help("A file holds one workflow; move this one to a file of its own.")
                        .into());
                    }
                }
                Event::Scalar(content, style, anchor, tag) => {
                    self.refuse_tag(tag.is_some(), mark);
                    self.scalar(&content, style, anchor, span)?;
                }
                Event::SequenceStart(_, anchor, tag) => {
                    self.refuse_tag(tag.is_some(), mark);
                    self.open(Kind::List { items: Vec::new() }, anchor, span)?;
                }
                Event::MappingStart(style, anchor, tag) => {
                    self.refuse_tag(tag.is_some(), mark);
                    let block = style == StructureStyle::Block;
                    if !block && self.text[span.start..].starts_with("{{") {
                        return Err(Stop::Unquoted(span.start));
                    }
                    self.open(Kind::Map { block, entries: IndexMap::new() }, anchor, span)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(span)?,
                Event::Alias(anchor) => self.alias(anchor, span)?,
                Event::UnresolvedAlias(name) => {
                    self.findings.push(
                        Finding::error(
                            FindingCode::Syntax,
                            span,
                            format!("nothing above this line has the anchor `&{name}`"),
                        )
                        .help("A text that starts with `*` must be quoted."),
                    );
                    self.scalar(&format!("*{name}"), ScalarStyle::DoubleQuoted, 0, span)?;
                }
                _ => {}
            }
        }
        self.root.ok_or_else(|| {
            Finding::error(FindingCode::Syntax, Span::new(0, 0), "the file is empty: there is no workflow in it")
                .help("A workflow starts with `flowrun: 1`, `name:` and `steps:`; `flowrun init` writes an example.")
                .into()
        })
    }

    fn scan_error(&self, text: &str, reached: usize, error: &granit_parser::ScanError) -> Stop {
        if *error.kind() == granit_parser::ErrorKind::RecursionLimitExceeded {
            return self.too_deep(Span::new(error.marker().byte_offset().unwrap_or(reached), 1)).into();
        }
        let open = self.frames.iter().rev().filter_map(|frame| match &self.nodes[frame.node].kind {
            Kind::Map { block: false, .. } | Kind::List { .. } => {
                let at = self.nodes[frame.node].span.start;
                matches!(text.as_bytes().get(at), Some(b'[' | b'{')).then_some(at)
            }
            _ => None,
        });
        match syntax::explain(text, reached, open.collect(), error) {
            syntax::Explained::Unquoted(at) => Stop::Unquoted(at),
            syntax::Explained::Finding(finding) => finding.into(),
        }
    }

    fn refuse_tag(&mut self, tagged: bool, mark: Mark) {
        if tagged {
            let span = mark.tag_span().map_or_else(|| span_of(mark), span_of);
            let name = &self.text[span.range()];
            self.findings.push(
                Finding::error(FindingCode::UnsupportedYaml, span, format!("the tag `{name}` is not supported"))
                    .help("Leave the tag out; to make a text of a value, quote it."),
            );
        }
    }

    fn wants_key(&self) -> bool {
        self.frames
            .last()
            .is_some_and(|frame| frame.key.is_none() && matches!(self.nodes[frame.node].kind, Kind::Map { .. }))
    }

    fn scalar(&mut self, content: &str, style: ScalarStyle, anchor: usize, span: Span) -> Result<(), Stop> {
        if self.wants_key() {
            self.key(content, style, span);
            return Ok(());
        }
        let span = if content.is_empty() && style == ScalarStyle::Plain { Span::new(span.start, 0) } else { span };
        let value = if self.quoted.iter().any(|range| range.start == span.start) {
            return self.quoted_scalar(anchor, span);
        } else if style == ScalarStyle::Plain {
            match resolve(content) {
                Scalar::Value(value) => value,
                Scalar::Refused(why) => {
                    self.findings
                        .push(Finding::error(FindingCode::BadNumber, span, why).help("Quote it to keep it as a text."));
                    Value::String(content.to_owned())
                }
            }
        } else {
            Value::String(content.to_owned())
        };
        self.leaf(Kind::Scalar { style, value }, anchor, span, content.len() as u64)
    }

    fn quoted_scalar(&mut self, anchor: usize, span: Span) -> Result<(), Stop> {
        let text = self.text[span.range()].to_owned();
        let weight = text.len() as u64;
        self.leaf(Kind::Scalar { style: ScalarStyle::Plain, value: Value::String(text) }, anchor, span, weight)
    }

    fn key(&mut self, name: &str, style: ScalarStyle, span: Span) {
        let plain = style == ScalarStyle::Plain;
        let problem = if plain && name == "<<" {
            Some(
                Finding::error(FindingCode::UnsupportedYaml, span, "the merge key `<<` is not supported")
                    .help("Write the keys out, or use `defaults` and `retries` for policies that several steps share."),
            )
        } else if name.is_empty() || plain && span.len == 0 {
            Some(Finding::error(FindingCode::BadKey, span, "this key has no name"))
        } else {
            syntax::unfit_name(name).map(|what| {
                Finding::error(FindingCode::BadKey, span, format!("this key contains {what}, which cannot be seen"))
                    .help("Type the key again.")
            })
        };
        // A key that merely looks wrong still has its value, and its map is not empty.
        let refused = problem.is_some() && (name.is_empty() || plain && (span.len == 0 || name == "<<"));
        self.findings.extend(problem);
        let frame = self.frames.last_mut().expect("a key was wanted by the innermost map");
        frame.key = Some(Key { name: name.to_owned(), span, refused });
    }

    fn leaf(&mut self, kind: Kind, anchor: usize, span: Span, weight: u64) -> Result<(), Stop> {
        let node = self.nodes.len();
        self.nodes.push(Node { span, kind, weight: Some(weight + 8), height: 0 });
        if anchor > 0 {
            self.anchors.insert(anchor, node);
        }
        self.place(node)
    }

    fn open(&mut self, kind: Kind, anchor: usize, span: Span) -> Result<(), Stop> {
        if self.frames.len() as u64 >= self.nesting {
            return Err(self.too_deep(Span::new(span.start, 1)).into());
        }
        let is_key = self.wants_key();
        if is_key {
            self.findings.push(
                Finding::error(
                    FindingCode::BadKey,
                    Span::new(span.start, 1),
                    "a key must be a name, not a list or map",
                )
                .help("If this is a text, quote it."),
            );
        }
        let node = self.nodes.len();
        self.nodes.push(Node { span, kind, weight: None, height: 0 });
        if anchor > 0 {
            self.anchors.insert(anchor, node);
        }
        self.frames.push(Frame { node, key: None, is_key });
        Ok(())
    }

    fn close(&mut self, end: Span) -> Result<(), Stop> {
        let frame = self.frames.pop().expect("the scanner closes what it opened");
        let (children, flow) = match &self.nodes[frame.node].kind {
            Kind::Map { entries, block } => (entries.values().map(|(_, node)| *node).collect::<Vec<_>>(), !block),
            Kind::List { items } => (items.clone(), end.len > 0),
            Kind::Scalar { .. } | Kind::Alias(_) => (Vec::new(), false),
        };
        let mut weight = 8_u64;
        let mut height = 0;
        let mut last = self.nodes[frame.node].span.start;
        for child in children {
            let child = &self.nodes[child];
            weight = weight.saturating_add(child.weight.unwrap_or_default());
            height = height.max(child.height);
            last = last.max(child.span.end());
        }
        if let Kind::Map { entries, .. } = &self.nodes[frame.node].kind {
            for (name, (key, _)) in entries {
                weight = weight.saturating_add(name.len() as u64);
                last = last.max(key.end());
            }
        }
        let node = &mut self.nodes[frame.node];
        let end = if flow { end.end() } else { last };
        node.span.len = end.saturating_sub(node.span.start);
        node.weight = Some(weight);
        node.height = height + 1;
        self.too_large(weight)?;
        if frame.is_key {
            let span = Span::new(self.nodes[frame.node].span.start, 1);
            if let Some(outer) = self.frames.last_mut() {
                outer.key = Some(Key { name: String::new(), span, refused: true });
            }
            return Ok(());
        }
        self.place(frame.node)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Stop> {
        self.aliases += 1;
        self.last_alias = Some(span);
        if self.aliases > self.limits.aliases {
            return Err(Finding::error(
                FindingCode::Limit,
                span,
                format!("the file has more than {} aliases", self.limits.aliases),
            )
            .help("Raise the limit with `--limit aliases=N`.")
            .into());
        }
        if self.wants_key() {
            self.findings.push(Finding::error(FindingCode::BadKey, span, "a key must be a name, not an alias"));
            let frame = self.frames.last_mut().expect("a key was wanted by the innermost map");
            frame.key = Some(Key { name: String::new(), span, refused: true });
            return Ok(());
        }
        let target = *self.anchors.get(&anchor).expect("the scanner resolves aliases only to anchors it has shown");
        let Some(weight) = self.nodes[target].weight else {
            return Err(Finding::error(FindingCode::Syntax, span, "this alias stands inside what it refers to").into());
        };
        let height = self.nodes[target].height;
        if self.frames.len() as u64 + height > self.nesting {
            return Err(self.too_deep(span).into());
        }
        let node = self.nodes.len();
        self.nodes.push(Node { span, kind: Kind::Alias(target), weight: Some(weight), height });
        self.place(node)?;
        self.too_large(weight)
    }

    fn place(&mut self, node: usize) -> Result<(), Stop> {
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut self.nodes[frame.node].kind {
            Kind::List { items } => items.push(node),
            Kind::Map { entries, .. } => {
                let key = frame.key.take().expect("a value comes after its key");
                if key.refused {
                    return Ok(());
                }
                if let Some((first, _)) = entries.get(&key.name) {
                    let line = |span: Span| self.file.place(span.start).line;
                    self.findings.push(
                        Finding::error(
                            FindingCode::DuplicateKey,
                            key.span,
                            format!(
                                "the key `{}` of line {} is given again in line {}",
                                key.name,
                                line(*first),
                                line(key.span)
                            ),
                        )
                        .label("again here")
                        .related(*first, "first given here")
                        .help("Remove one of the two."),
                    );
                    return Ok(());
                }
                entries.insert(key.name, (key.span, node));
            }
            Kind::Scalar { .. } | Kind::Alias(_) => {}
        }
        Ok(())
    }

    fn too_deep(&self, span: Span) -> Finding {
        Finding::error(FindingCode::Limit, span, format!("the file is nested more than {} levels deep", self.nesting))
            .help_if((self.limits.nesting < NESTING_MAX).then_some("Raise the limit with `--limit nesting=N`."))
    }

    fn too_large(&self, weight: u64) -> Result<(), Stop> {
        let limit = self.limits.definition_bytes.saturating_mul(EXPANSION_MAX);
        // Without an alias the text itself is the bound; the weight of a small file of many tiny values means nothing.
        let Some(alias) = self.last_alias.filter(|_| weight > limit.max(self.text.len() as u64 * 9)) else {
            return Ok(());
        };
        Err(Finding::error(FindingCode::Limit, alias, format!("aliases make the file larger than {limit} bytes"))
            .help("Write the values out, or raise the limit with `--limit definition_bytes=N`.")
            .into())
    }
}

fn span_of(mark: Mark) -> Span {
    mark.byte_range().unwrap_or_default().into()
}
