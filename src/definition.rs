//! The definition of a run: a workflow's text with everything it refers to, pinned, so that a run never depends on files
//! that may change under it.

use std::collections::VecDeque;
use std::path::{Component, Path, PathBuf};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::diag::{Finding, FindingCode, SourceFile, Span, in_file_order};
use crate::dsl::tree::{join, read_value};
use crate::dsl::{self, Parsed, Part, Tree, json, schema};
use crate::limits::{Limits, raised_by};
use crate::suggest::nearest;
use crate::teeth::{Bug, awake};

/// How many files one input schema may be made of.
const FILES_MAX: usize = 64;

/// A workflow with everything that a run of it depends on, except its input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// The path of the workflow file, as the user gave it.
    pub path: String,
    /// Its text.
    pub text: String,
    /// The files it refers to, by their path from the workflow's folder.
    pub files: IndexMap<String, String>,
    /// The effective configuration: the file's defaults with what the user changed.
    pub config: Value,
}

/// What the user changes in a workflow's configuration.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The content of the file given by `--config`.
    pub config: Option<Value>,
    /// Each `--set PATH=VALUE`, in order.
    pub sets: Vec<(String, String)>,
}

/// A definition that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What a run stores.
    pub definition: Definition,
    /// The workflow file.
    pub parsed: Parsed,
    /// JSON Schema of the input, files it refers to included.
    pub input_schema: Option<Value>,
}

/// Makes a text of a file's bytes.
///
/// # Errors
/// When the bytes are not UTF-8; the file then shows a replacement at the place.
pub fn source(path: &str, bytes: Vec<u8>) -> Result<SourceFile, (SourceFile, Box<Finding>)> {
    String::from_utf8(bytes).map(|text| SourceFile::new(path, text)).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(valid).copied().unwrap_or_default();
        let raw = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let mark = raw.len() - raw.trim_start_matches('\u{FEFF}').len();
        let file = SourceFile::new(path, raw);
        let span = Span::new(valid - mark.min(valid), '\u{FFFD}'.len_utf8());
        let finding = Finding::error(FindingCode::Encoding, span, format!("the file is not UTF-8: byte 0x{byte:02X}"))
            .help("Save the file as UTF-8.");
        (file, Box::new(finding))
    })
}

impl Definition {
    /// Reads a workflow file and everything it refers to.
    ///
    /// Findings may come with a definition (it has warnings or errors that leave the rest readable) or without one.
    #[must_use]
    pub fn load(path: &Path, overrides: &Overrides, limits: &Limits) -> (Option<Loaded>, Vec<Finding>) {
        let (loaded, findings, _) = Self::load_with_source(path, overrides, limits);
        (loaded, findings)
    }

    /// Reads a workflow file as `load` does, and also returns the file that the findings belong to.
    #[must_use]
    pub fn load_with_source(
        path: &Path,
        overrides: &Overrides,
        limits: &Limits,
    ) -> (Option<Loaded>, Vec<Finding>, SourceFile) {
        let shown = path.display().to_string();
        let file = match read_bounded(path, limits).map(|bytes| source(&shown, bytes)) {
            Ok(Ok(file)) => file,
            Ok(Err((file, finding))) => return (None, vec![*finding], file),
            Err(why) => {
                let finding =
                    Finding::error(FindingCode::Unreadable, Span::default(), format!("the file cannot be read: {why}"));
                return (None, vec![finding], SourceFile::new(shown, ""));
            }
        };
        let (parsed, mut findings) = dsl::parse(&file, limits);
        let Some(parsed) = parsed else { return (None, findings, file) };
        let folder = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        let mut read = |name: &str| read_beside(&folder, name, limits);
        let (files, input_schema) = input_schema(&parsed, limits, &mut read, &mut findings);
        let config = effective_config(&parsed, overrides, limits, &mut findings);
        in_file_order(&mut findings);
        let definition = Self { path: shown, text: file.text.to_string(), files, config };
        (Some(Loaded { definition, parsed, input_schema }), findings, file)
    }

    /// Reads a stored definition again; no file is touched.
    #[must_use]
    pub fn reopen(self, limits: &Limits) -> (Option<Loaded>, Vec<Finding>) {
        let file = SourceFile::new(&self.path, &self.text);
        let (parsed, mut findings) = dsl::parse(&file, limits);
        let Some(parsed) = parsed else { return (None, findings) };
        let mut read =
            |name: &str| self.files.get(name).cloned().ok_or_else(|| "it was not stored with the run".to_owned());
        let (_, input_schema) = input_schema(&parsed, limits, &mut read, &mut findings);
        in_file_order(&mut findings);
        (Some(Loaded { definition: self, parsed, input_schema }), findings)
    }

    /// Returns a hash of all that decides how a run goes; where the file lay does not.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            // Lengths keep two parts from being taken for one.
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        part("flowrun definition 1");
        part(&self.text);
        part(&self.files.len().to_string());
        for (name, text) in &self.files {
            part(name);
            part(text);
        }
        part(&self.config.to_string());
        hash.finalize().into()
    }
}

/// Reads a file of definitions, or the beginning of one that is too large, which its reader then says.
pub(crate) fn read_bounded(path: &Path, limits: &Limits) -> Result<Vec<u8>, String> {
    // A mark at the start is no content, and the last character may be cut in two.
    let mut bytes = read_at_most(path, limits.definition_bytes.saturating_add(7))?;
    if bytes.len() as u64 > limits.definition_bytes
        && let Err(error) = std::str::from_utf8(&bytes)
        && error.error_len().is_none()
    {
        bytes.truncate(error.valid_up_to());
    }
    Ok(bytes)
}

/// Reads a file, or its first `limit` bytes and one more, which shows that it has more.
pub(crate) fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    if file.metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err("it is a folder".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Reads a file that a workflow refers to; it must lie under the parent of the workflow's folder, links resolved.
fn read_beside(folder: &Path, name: &str, limits: &Limits) -> Result<String, String> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let full = |path: &Path| path.canonicalize().map_err(|error| error.to_string());
    let home = full(folder)?;
    let root = home.parent().unwrap_or(&home).to_path_buf();
    let path = full(&folder.join(name))?;
    if !path.starts_with(&root) && !awake(Bug::ForeignRefFollowed) {
        return Err(
            "it lies outside the project: only files under the parent of the workflow's folder are read".to_owned()
        );
    }
    let bytes = read_bounded(&path, limits)?;
    if bytes.len() as u64 > limits.definition_bytes {
        let raise = raised_by("definition_bytes");
        return Err(format!("it has more than {} bytes, the limit `definition_bytes`{raise}", limits.definition_bytes));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

type Files = IndexMap<String, String>;
type Read<'a> = &'a mut dyn FnMut(&str) -> Result<String, String>;

/// Puts the input schema together from the workflow and the files it refers to.
fn input_schema(
    parsed: &Parsed,
    limits: &Limits,
    read: Read<'_>,
    findings: &mut Vec<Finding>,
) -> (Files, Option<Value>) {
    let mut files = Files::new();
    let Some(input) = &parsed.document.input else { return (files, None) };
    let mut root = Value::Object(input.clone());
    let mut definitions = Map::new();
    let mut references: IndexMap<String, String> = IndexMap::new();
    let mut waiting = VecDeque::new();
    let mut sound = true;
    // A schema that is nothing but a reference to a file is that file; so its places need no detour.
    let whole = input.get("$ref").and_then(Value::as_str).filter(|_| input.len() == 1).and_then(|to| {
        let (name, fragment) = local(to, "").ok()?;
        (fragment.is_empty() && !name.is_empty()).then_some(name)
    });
    if let Some(name) = &whole {
        match fetch(name, limits, read, &mut files) {
            Ok(schema) => root = schema,
            Err(why) => {
                findings.push(bad_ref(parsed, "/input/$ref", name, &why));
                return (files, None);
            }
        }
    }
    let base = whole.clone().unwrap_or_default();
    let mut problems = Vec::new();
    rewrite(&mut root, "/input", &base, &base, &mut waiting, &mut problems);
    while let Some((name, at)) = waiting.pop_front() {
        if definitions.contains_key(&name) || Some(&name) == whole.as_ref() {
            continue;
        }
        if files.len() >= FILES_MAX {
            problems.push((at, name, format!("the schema is made of more than {FILES_MAX} files")));
            break;
        }
        match fetch(&name, limits, read, &mut files) {
            Ok(mut schema) => {
                rewrite(&mut schema, &at, &name, &base, &mut waiting, &mut problems);
                references.insert(name.clone(), at);
                definitions.insert(name, schema);
            }
            Err(why) => problems.push((at, name, why)),
        }
    }
    for (at, name, why) in problems {
        sound = false;
        let place = if whole.is_some() { "/input/$ref" } else { &at };
        findings.push(bad_ref(parsed, place, &name, &why));
    }
    if !definitions.is_empty()
        && let Some(map) = root.as_object_mut()
        && let Some(known) = map.entry("$defs").or_insert_with(|| Value::Object(Map::new())).as_object_mut()
    {
        known.extend(definitions);
    }
    if !sound {
        return (files, None);
    }
    if let Err(error) = schema::compile(&root) {
        // The file at fault may be one that another file names; findings are shown in the workflow.
        let below = error.pointer.strip_prefix("/$defs/").and_then(|rest| {
            let (name, inner) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
            let name = name.replace("~1", "/").replace("~0", "~");
            files.contains_key(&name).then(|| (name, inner.to_owned()))
        });
        let at_fault = below.or_else(|| whole.clone().map(|name| (name, error.pointer.clone())));
        let message = match &at_fault {
            Some((name, inner)) => {
                let place = place_in(&files[name], inner, limits);
                format!("`{name}` is not a valid JSON Schema: {place}{error}")
            }
            None => format!("not a valid JSON Schema: {error}"),
        };
        let place = match (&whole, at_fault) {
            (Some(_), _) => "/input/$ref".to_owned(),
            (None, Some((name, _))) => references.get(&name).cloned().unwrap_or_else(|| "/input".to_owned()),
            (None, None) => format!("/input{}", error.pointer),
        };
        findings.push(Finding::error(FindingCode::BadSchema, parsed.tree.span(&place, Part::Value), message));
        return (files, None);
    }
    (files, Some(root))
}

/// Says where in a file a JSON pointer leads to; JSON is YAML too.
fn place_in(text: &str, pointer: &str, limits: &Limits) -> String {
    let file = SourceFile::new("", text);
    let (tree, _) = Tree::read(&file, limits);
    tree.map_or_else(String::new, |tree| {
        let place = file.place(tree.span(pointer, Part::Value).start);
        format!("line {}, column {}: ", place.line, place.column)
    })
}

fn bad_ref(parsed: &Parsed, at: &str, name: &str, why: &str) -> Finding {
    Finding::error(FindingCode::BadRef, parsed.tree.span(at, Part::Value), format!("`{name}` cannot be used: {why}"))
        .help("A `$ref` names a JSON file by its path from the file that refers to it, or a place in the same schema: `#/$defs/NAME`.")
}

fn fetch(name: &str, limits: &Limits, read: Read<'_>, files: &mut Files) -> Result<Value, String> {
    let text = read(name)?;
    let bytes = files.values().map(|file| file.len() as u64).sum::<u64>() + text.len() as u64;
    if bytes > limits.definition_bytes {
        return Err(format!(
            "the files of the schema have more than {} bytes, the limit `definition_bytes`{}",
            limits.definition_bytes,
            raised_by("definition_bytes")
        ));
    }
    let mut value = if Path::new(name).extension().is_some_and(|e| e == "yaml" || e == "yml") {
        read_value(&text, limits).map_err(|findings| findings.into_iter().next().unwrap_or_default())?
    } else {
        json::read_json(&text, limits).map_err(|error| error.to_string())?
    };
    // An `$id` would make every reference relative to an address that nobody asks.
    if let Some(map) = value.as_object_mut() {
        map.shift_remove("$id");
    }
    files.insert(name.to_owned(), text);
    Ok(value)
}

/// Makes every reference to a file one to a place in the whole schema, and notes the files.
///
/// `at` is where findings are shown: followed inside the workflow file, kept inside another.
fn rewrite(
    schema: &mut Value,
    at: &str,
    from: &str,
    base: &str,
    waiting: &mut VecDeque<(String, String)>,
    problems: &mut Vec<(String, String, String)>,
) {
    let inner = |name: &str| if from.is_empty() { join(at, name) } else { at.to_owned() };
    match schema {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                if let ("$ref" | "$dynamicRef", Value::String(to)) = (key.as_str(), &mut *value) {
                    match local(to, from) {
                        Ok((name, fragment)) if name == base => *to = format!("#{fragment}"),
                        Ok((name, fragment)) => {
                            *to = format!("#/$defs/{}{fragment}", encode(&name));
                            waiting.push_back((name, inner(key)));
                        }
                        Err(why) => problems.push((inner(key), to.clone(), why)),
                    }
                } else if !matches!(key.as_str(), "const" | "enum" | "default" | "examples") {
                    rewrite(value, &inner(key), from, base, waiting, problems);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                rewrite(item, &inner(&index.to_string()), from, base, waiting, problems);
            }
        }
        _ => {}
    }
}

/// Splits a reference into a file, by its path from the workflow's folder, and a place in it.
fn local(to: &str, from: &str) -> Result<(String, String), String> {
    let (path, fragment) = to.split_once('#').unwrap_or((to, ""));
    if path.is_empty() {
        return Ok((from.to_owned(), fragment.to_owned()));
    }
    if path.contains("://") || path.starts_with("urn:") || path.starts_with("data:") {
        return Err("nothing is fetched from the network; keep the schema in a file of the project".to_owned());
    }
    if Path::new(path).is_absolute() {
        return Err("the path must be relative".to_owned());
    }
    let folder = Path::new(from).parent().unwrap_or(Path::new(""));
    let mut parts: Vec<String> = Vec::new();
    for part in folder.join(path).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::ParentDir if parts.last().is_some_and(|last| last != "..") => {
                parts.pop();
            }
            Component::ParentDir => parts.push("..".to_owned()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok((parts.join("/"), fragment.to_owned()))
}

/// Writes a file's name as one part of a JSON pointer inside a URI.
fn encode(name: &str) -> String {
    let mut out = String::new();
    for byte in name.replace('~', "~0").replace('/', "~1").bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Lays what the user changed over the defaults of the file.
fn effective_config(parsed: &Parsed, overrides: &Overrides, limits: &Limits, findings: &mut Vec<Finding>) -> Value {
    let mut config = Value::Object(parsed.document.config.clone());
    let mut changes = Changes { parsed, limits, findings };
    if let Some(file) = &overrides.config {
        if file.is_object() {
            changes.merge(&mut config, file, "");
        } else {
            changes.complain("", "`--config`: the file must hold a map".to_owned(), None);
        }
    }
    for (path, text) in &overrides.sets {
        changes.set(&mut config, path, text);
    }
    config
}

struct Changes<'a> {
    parsed: &'a Parsed,
    limits: &'a Limits,
    findings: &'a mut Vec<Finding>,
}

impl Changes<'_> {
    fn complain(&mut self, at: &str, message: String, help: Option<String>) {
        let span = self.parsed.tree.span(&format!("/config{at}"), Part::Key);
        let finding = Finding::error(FindingCode::BadOverride, span, message).label("the defaults are here");
        self.findings.push(finding.help_if(help));
    }

    fn unknown(&mut self, flag: &str, at: &str, path: &str, name: &str, known: &Value) {
        let names: Vec<&str> = known.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let prefix = path.strip_suffix(name).unwrap_or_default();
        let help = nearest(name, names.iter().copied()).map_or_else(
            || (!names.is_empty()).then(|| format!("Known here: `{}`.", names.join("`, `"))),
            |near| Some(format!("Did you mean `{prefix}{near}`?")),
        );
        self.complain(at, format!("`{flag}`: the workflow has no configuration `{path}`"), help);
    }

    fn merge(&mut self, into: &mut Value, from: &Value, at: &str) {
        let Some(entries) = from.as_object() else { return };
        // An empty map is open: the workflow says that anything may be put there.
        let open = !at.is_empty() && into.as_object().is_some_and(Map::is_empty);
        for (name, value) in entries {
            let below = join(at, name);
            let path = below[1..].replace('/', ".");
            match into.get_mut(name) {
                Some(known @ Value::Object(_)) if value.is_object() => self.merge(known, value, &below),
                Some(known) => match fits(known, value) {
                    Ok(()) => *known = value.clone(),
                    Err(expected) => {
                        self.complain(&below, format!("`--config`: `{path}` must be {expected}, found {value}"), None)
                    }
                },
                None if open => {
                    into[name] = value.clone();
                }
                None => {
                    let known = into.clone();
                    self.unknown("--config", at, &path, name, &known);
                }
            }
        }
    }

    fn set(&mut self, config: &mut Value, path: &str, text: &str) {
        let flag = format!("--set {path}={text}");
        let mut at = String::new();
        let mut target = config;
        for (index, name) in path.split('.').enumerate() {
            let open = index > 0 && target.as_object().is_some_and(Map::is_empty);
            if open && !name.is_empty() {
                target[name] = Value::Null;
            }
            if target.get(name).is_none() {
                let so_far = path.split('.').take(index + 1).collect::<Vec<_>>().join(".");
                let known = target.clone();
                self.unknown(&flag, &at, &so_far, name, &known);
                return;
            }
            at = join(&at, name);
            target = target.get_mut(name).expect("the name was just found");
        }
        let value = if target.is_string() { Ok(Value::String(text.to_owned())) } else { self.scalar(text) };
        match value.and_then(|value| fits(target, &value).map(|()| value)) {
            Ok(value) => *target = value,
            Err(expected) => self.complain(&at, format!("`{flag}`: the value must be {expected}"), None),
        }
    }

    fn scalar(&self, text: &str) -> Result<Value, String> {
        let (tree, findings) = Tree::read(&SourceFile::new("--set", text), self.limits);
        match (tree, findings.first()) {
            (Some(tree), None) => Ok(tree.value().clone()),
            (_, Some(finding)) => Err(format!("a YAML value ({})", finding.message)),
            (None, None) => Err("a YAML value".to_owned()),
        }
    }
}

/// Tells whether a value may take the place of a default: it must be of the same kind.
fn fits(default: &Value, value: &Value) -> Result<(), String> {
    let expected = match (default, value) {
        (Value::Null, _)
        | (Value::Bool(_), Value::Bool(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::String(_), Value::String(_))
        | (Value::Array(_), Value::Array(_))
        | (Value::Object(_), Value::Object(_)) => return Ok(()),
        (Value::Bool(_), _) => "`true` or `false`, like its default",
        (Value::Number(_), _) => "a number, like its default",
        (Value::String(_), _) => "a text, like its default",
        (Value::Array(_), _) => "a list, like its default",
        (Value::Object(_), _) => "a map, like its default",
    };
    Err(expected.to_owned())
}

#[cfg(test)]
mod tests;
