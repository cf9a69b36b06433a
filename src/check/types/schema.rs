//! A JSON Schema as a value's type: every way to fit it, and what each way says of fields and items.
//!
//! Says only what is certain: a keyword it does not know allows everything, and so does a reference it cannot follow.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{Field, Items, Type, a_kind};

/// References and unions inside each other that are followed.
const NESTING_MAX: usize = 24;
/// Ways to read one schema that are looked at.
const VIEWS_MAX: usize = 128;
/// Schemas that are visited for it.
const VISITS_MAX: usize = 2_000;

/// A schema inside the document that its references lead into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schema<'a> {
    /// The schema.
    pub schema: &'a Value,
    /// The whole document.
    pub root: &'a Value,
    /// Whether null is left out of what fits.
    pub non_null: bool,
}

/// Whether a field is there; the later, the less certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Presence {
    /// Always.
    Always,
    /// Nobody says.
    Unsaid,
    /// The value may be null, which has no fields.
    OfNull,
    /// Not always: the schema does not require it.
    Optional,
    /// Not always: of the values that it may be one, some do not have it.
    Lacking,
}

impl<'a> Schema<'a> {
    /// Makes a schema of a part of a document.
    pub fn new(schema: &'a Value, root: &'a Value) -> Self {
        Self { schema, root, non_null: false }
    }

    /// Returns the schema without null; nothing if nothing is left of it.
    pub fn without_null(self) -> Option<Self> {
        let only_null = self.views().is_some_and(|views| views.iter().all(only_null));
        (!only_null).then_some(Self { non_null: true, ..self })
    }
}

/// Tells whether a way to fit a schema is to be null.
fn only_null(view: &View<'_>) -> bool {
    view.iter().any(|part| types_of(part).is_some_and(|types| types == ["null"]))
}

/// Tells whether a way to fit a schema allows null, as it says itself.
pub(super) fn names_null(view: &View<'_>) -> bool {
    let mut named = view.iter().filter_map(|part| types_of(part)).peekable();
    named.peek().is_some() && named.all(|types| types.contains(&"null"))
}

/// Tells whether all that a way to fit a schema says is known here, so that a value which fits it surely exists.
pub(super) fn is_plain(view: &View<'_>) -> bool {
    const OTHER: &[&str] = &[
        "not",
        "if",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "propertyNames",
        "minProperties",
        "$dynamicRef",
        "$recursiveRef",
        "unevaluatedProperties",
        "unevaluatedItems",
        "contains",
    ];
    view.iter().all(|part| OTHER.iter().all(|key| !part.contains_key(*key)))
}

/// Returns whether a value that fits one of these has a field.
pub(super) fn presence(schemas: &[Schema<'_>], name: &str) -> Presence {
    let mut all: Vec<(*const Value, Presence)> = Vec::new();
    for schema in schemas {
        let one = schema.presence(name);
        match all.iter_mut().find(|(root, _)| std::ptr::eq(*root, schema.root)) {
            // Of one document's branches another field may tell which it is.
            Some((_, known)) if *known != one => *known = Presence::Unsaid,
            Some(_) => {}
            None => all.push((std::ptr::from_ref(schema.root), one)),
        }
    }
    all.into_iter().map(|(_, one)| one).max().unwrap_or(Presence::Unsaid)
}

impl Schema<'_> {
    fn presence(self, name: &str) -> Presence {
        let Some(views) = self.views() else { return Presence::Unsaid };
        if !self.non_null && views.iter().all(is_plain) && views.iter().any(|v| names_null(v)) {
            return Presence::OfNull;
        }
        let mut answers = views.iter().filter(|v| !only_null(v)).map(|view| view_presence(view, name));
        let Some(first) = answers.next() else { return Presence::Unsaid };
        if answers.all(|answer| answer == first) { first } else { Presence::Unsaid }
    }
}

fn view_presence(view: &View<'_>, name: &str) -> Presence {
    let mut required = view.iter().filter_map(|part| part.get("required")?.as_array()).peekable();
    let says = required.peek().is_some();
    if required.flatten().any(|field| field == name) {
        return Presence::Always;
    }
    let listed = |name: &str| view.iter().any(|part| part.get("properties").is_some_and(|p| p.get(name).is_some()));
    // A schema that requires nothing at all was written by someone who did not think of it.
    if !says || !is_plain(view) {
        Presence::Unsaid
    } else if listed(name) {
        Presence::Optional
    } else if matches!(view_field(view, &Value::Null, name), Field::Absent(_)) {
        Presence::Lacking
    } else {
        Presence::Unsaid
    }
}

pub(super) fn field_of<'a>(schemas: &[Schema<'a>], name: &str) -> Field<'a> {
    let mut known = Vec::new();
    let mut names: Vec<Cow<'a, str>> = Vec::new();
    let mut listed = false;
    let mut kind = None;
    for schema in schemas {
        let Some(views) = schema.views() else { return Field::Known(Type::Any) };
        for view in views {
            match view_field(&view, schema.root, name) {
                Field::Known(Type::Schemas(found)) => known.extend(found),
                Field::Known(_) => return Field::Known(Type::Any),
                Field::Absent(more) => {
                    listed = true;
                    names.extend(more);
                }
                Field::None("null") => {}
                Field::None(k) => kind = Some(k),
            }
        }
    }
    if !known.is_empty() {
        return Field::Known(Type::Schemas(known));
    }
    if listed {
        let mut seen = std::collections::HashSet::new();
        names.retain(|n| seen.insert(n.clone()));
        return Field::Absent(names);
    }
    Field::None(kind.unwrap_or("null"))
}

pub(super) fn view_field<'a>(view: &View<'a>, root: &'a Value, name: &str) -> Field<'a> {
    if let Some(kind) = excluded(view, "object") {
        return Field::None(kind);
    }
    let mut known = Vec::new();
    let mut names: Vec<Cow<'a, str>> = Vec::new();
    let mut open = None;
    let mut closed = false;
    for part in view {
        if let Some(Value::Object(properties)) = part.get("properties") {
            known.extend(properties.get(name).map(|schema| Schema::new(schema, root)));
            names.extend(properties.keys().map(|name| Cow::Borrowed(name.as_str())));
        }
        match part.get("additionalProperties") {
            None | Some(Value::Null) => {}
            Some(Value::Bool(false)) => closed = true,
            Some(schema) => open = Some(schema),
        }
        if part.contains_key("patternProperties") || part.contains_key("propertyNames") {
            open = open.or(Some(&Value::Bool(true)));
        }
    }
    if !known.is_empty() {
        return Field::Known(Type::Schemas(known));
    }
    match open {
        Some(Value::Bool(_)) => Field::Known(Type::Any),
        Some(schema) => Field::Known(Type::Schemas(vec![Schema::new(schema, root)])),
        None if names.is_empty() && !closed => Field::Known(Type::Any),
        None => Field::Absent(names),
    }
}

pub(super) fn items_of<'a>(schemas: &[Schema<'a>]) -> Items<'a> {
    let mut known = Vec::new();
    let mut kind = None;
    for schema in schemas {
        let Some(views) = schema.views() else { return Items::Known(Type::Any) };
        for view in views {
            match excluded(&view, "array") {
                Some(other) => kind = kind.filter(|k| *k != "null").or(Some(other)),
                None => {
                    let items: Vec<_> = view.iter().filter_map(|p| p.get("items")).collect();
                    // `items` is about the items after those of `prefixItems` alone.
                    if items.is_empty() || view.iter().any(|p| p.contains_key("prefixItems")) {
                        return Items::Known(Type::Any);
                    }
                    known.extend(items.into_iter().map(|i| Schema::new(i, schema.root)));
                }
            }
        }
    }
    match kind {
        Some(kind) if known.is_empty() => Items::None(kind),
        _ => Items::Known(Type::Schemas(known)),
    }
}

/// One way to fit a schema: all of these objects hold at once.
pub(crate) type View<'a> = Vec<&'a Map<String, Value>>;

impl<'a> Schema<'a> {
    /// Returns every way to fit the schema; nothing if it allows everything, or too much to look at.
    pub fn views(self) -> Option<Vec<View<'a>>> {
        let mut views = self.views_within(NESTING_MAX, &mut { VISITS_MAX })?;
        if self.non_null {
            views.retain(|view| !only_null(view));
        }
        Some(views)
    }

    fn views_within(self, depth: usize, visits: &mut usize) -> Option<Vec<View<'a>>> {
        let Value::Object(map) = self.schema else {
            return if *self.schema == Value::Bool(false) { Some(Vec::new()) } else { None };
        };
        let depth = depth.checked_sub(1)?;
        *visits = visits.checked_sub(1)?;
        let mut views: Vec<View<'a>> = vec![vec![map]];
        let mut within = |schema| Schema::new(schema, self.root).views_within(depth, visits);
        if let Some(Value::String(reference)) = map.get("$ref") {
            // A part that allows everything narrows nothing; the others still hold.
            if let Some(more) = within(resolve(self.root, reference)?) {
                views = product(&views, &more)?;
            } else if map.len() == 1 {
                return None;
            }
        }
        if let Some(Value::Array(parts)) = map.get("allOf") {
            for part in parts {
                if let Some(more) = within(part) {
                    views = product(&views, &more)?;
                }
            }
        }
        for union in ["anyOf", "oneOf"] {
            if let Some(Value::Array(branches)) = map.get(union) {
                let mut any = Vec::new();
                for branch in branches {
                    any.extend(within(branch)?);
                }
                views = product(&views, &any)?;
            }
        }
        Some(views)
    }
}

fn product<'a>(left: &[View<'a>], right: &[View<'a>]) -> Option<Vec<View<'a>>> {
    if left.len() * right.len() > VIEWS_MAX {
        return None;
    }
    Some(left.iter().flat_map(|l| right.iter().map(|r| l.iter().chain(r).copied().collect())).collect())
}

fn resolve<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    root.pointer(reference.strip_prefix('#')?)
}

/// Returns what the value is instead, if the view does not allow it to be of type `wanted`.
pub(super) fn excluded(view: &View<'_>, wanted: &str) -> Option<&'static str> {
    view.iter().find_map(|part| {
        let types = types_of(part)?;
        if types.contains(&wanted) { None } else { Some(types.first().map_or("nothing", |t| a_kind(t))) }
    })
}

/// Returns the types that a schema object names.
pub(crate) fn types_of(part: &Map<String, Value>) -> Option<Vec<&str>> {
    match part.get("type")? {
        Value::String(one) => Some(vec![one]),
        Value::Array(many) => Some(many.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}
