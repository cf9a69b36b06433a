//! What is known of a value before the run: its JSON Schemas, and which fields they have.
//!
//! Follows references inside a schema and looks into every branch of a union. Says only what is certain: a schema it
//! does not understand allows everything.

use serde_json::{Map, Value};

/// References and unions inside each other that are followed.
const NESTING_MAX: usize = 24;
/// Ways to read one schema that are looked at.
const VIEWS_MAX: usize = 128;

/// Schemas that are visited for it.
const VISITS_MAX: usize = 2_000;

/// What is known of a value.
#[derive(Clone, Debug)]
pub(crate) enum Type<'a> {
    /// Nothing.
    Any,
    /// It fits one of these schemas.
    Schemas(Vec<Schema<'a>>),
    /// It is a list of such values.
    List(Box<Type<'a>>),
    /// It is this value.
    Value(&'a Value),
    /// It is what becomes of this value once the templates in it are rendered.
    Written(&'a Value),
}

/// A schema inside the document that its references lead into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schema<'a> {
    /// The schema.
    pub schema: &'a Value,
    /// The whole document.
    pub root: &'a Value,
}

/// What a type says about a field.
#[derive(Clone, Debug)]
pub(crate) enum Field<'a> {
    /// The field may exist, and is of this type.
    Known(Type<'a>),
    /// There is no such field; these are those that exist.
    Absent(Vec<&'a str>),
    /// The value has no fields: it is, say, `a string`.
    None(&'static str),
}

/// What a type says about its items.
#[derive(Clone, Debug)]
pub(crate) enum Items<'a> {
    /// It may be a list, of items of this type.
    Known(Type<'a>),
    /// It is no list but, say, `a string`.
    None(&'static str),
}

impl<'a> Type<'a> {
    /// The values that fit a whole schema document.
    pub fn of(root: &'a Value) -> Self {
        Self::Schemas(vec![Schema { schema: root, root }])
    }

    /// What becomes of a value in which templates may stand.
    pub fn written(value: &'a Value) -> Self {
        match value {
            Value::String(text) if text.contains("{{") || text.contains("{%") => Self::Any,
            _ => Self::Written(value),
        }
    }

    /// The values that are of one of these types.
    pub fn union(types: Vec<Self>) -> Self {
        if let [one] = types.as_slice() {
            return one.clone();
        }
        let mut all = Vec::new();
        for one in types {
            match one {
                Self::Schemas(schemas) => all.extend(schemas),
                // Of what is no schema little is known beside others; nothing is the safe answer.
                _ => return Self::Any,
            }
        }
        if all.is_empty() { Self::Any } else { Self::Schemas(all) }
    }

    /// Returns what is known of a field.
    pub fn field(&self, name: &str) -> Field<'a> {
        match self {
            Self::Any => Field::Known(Self::Any),
            Self::List(_) => Field::None("a list"),
            Self::Written(Value::Object(map)) => match map.get(name) {
                Some(value) => Field::Known(Self::written(value)),
                None => Field::Absent(map.keys().map(String::as_str).collect()),
            },
            Self::Value(Value::Object(map)) => match map.get(name) {
                Some(value) => Field::Known(Self::Value(value)),
                None => Field::Absent(map.keys().map(String::as_str).collect()),
            },
            Self::Value(value) | Self::Written(value) => Field::None(kind_of(value)),
            Self::Schemas(schemas) => field_of(schemas, name),
        }
    }

    /// Returns what is known of the items.
    pub fn items(&self) -> Items<'a> {
        match self {
            Self::Any => Items::Known(Self::Any),
            Self::List(item) => Items::Known(Self::clone(item)),
            Self::Value(Value::Array(_)) | Self::Written(Value::Array(_)) => Items::Known(Self::Any),
            Self::Value(value) | Self::Written(value) => Items::None(kind_of(value)),
            Self::Schemas(schemas) => items_of(schemas),
        }
    }

    /// Returns what the type's values are if none of them is a text.
    pub fn never_text(&self) -> Option<&'static str> {
        match self {
            Self::Any => None,
            Self::List(_) => Some("a list"),
            Self::Value(value) | Self::Written(value) => (!value.is_string()).then(|| kind_of(value)),
            Self::Schemas(schemas) => {
                let mut kind = None;
                for schema in schemas {
                    for view in schema.views()? {
                        kind = kind.filter(|k| *k != "null").or(Some(excluded(&view, "string")?));
                    }
                }
                kind
            }
        }
    }

    /// Tells whether every value of the type is certainly a whole number.
    pub fn is_integer(&self) -> bool {
        match self {
            Self::Value(value) | Self::Written(value) => value.is_i64() || value.is_u64(),
            Self::Schemas(schemas) => schemas.iter().all(|s| {
                s.views().is_some_and(|views| {
                    views.iter().all(|view| view.iter().any(|part| part.get("type") == Some(&Value::from("integer"))))
                })
            }),
            Self::Any | Self::List(_) => false,
        }
    }
}

fn field_of<'a>(schemas: &[Schema<'a>], name: &str) -> Field<'a> {
    let mut known = Vec::new();
    let mut names: Vec<&'a str> = Vec::new();
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
        names.retain(|n| seen.insert(*n));
        return Field::Absent(names);
    }
    Field::None(kind.unwrap_or("null"))
}

fn view_field<'a>(view: &View<'a>, root: &'a Value, name: &str) -> Field<'a> {
    if let Some(kind) = excluded(view, "object") {
        return Field::None(kind);
    }
    let mut known = Vec::new();
    let mut names = Vec::new();
    let mut open = None;
    let mut closed = false;
    for part in view {
        if let Some(Value::Object(properties)) = part.get("properties") {
            known.extend(properties.get(name).map(|schema| Schema { schema, root }));
            names.extend(properties.keys().map(String::as_str));
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
        Some(schema) => Field::Known(Type::Schemas(vec![Schema { schema, root }])),
        None if names.is_empty() && !closed => Field::Known(Type::Any),
        None => Field::Absent(names),
    }
}

fn items_of<'a>(schemas: &[Schema<'a>]) -> Items<'a> {
    let mut known = Vec::new();
    let mut kind = None;
    for schema in schemas {
        let Some(views) = schema.views() else { return Items::Known(Type::Any) };
        for view in views {
            match excluded(&view, "array") {
                Some(other) => kind = kind.filter(|k| *k != "null").or(Some(other)),
                None => {
                    let items: Vec<_> = view.iter().filter_map(|p| p.get("items")).collect();
                    if items.is_empty() {
                        return Items::Known(Type::Any);
                    }
                    known.extend(items.into_iter().map(|i| Schema { schema: i, root: schema.root }));
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
        self.views_within(NESTING_MAX, &mut { VISITS_MAX })
    }

    fn views_within(self, depth: usize, visits: &mut usize) -> Option<Vec<View<'a>>> {
        let Value::Object(map) = self.schema else {
            return if *self.schema == Value::Bool(false) { Some(Vec::new()) } else { None };
        };
        let depth = depth.checked_sub(1)?;
        *visits = visits.checked_sub(1)?;
        let mut views: Vec<View<'a>> = vec![vec![map]];
        let mut within = |schema| Schema { schema, root: self.root }.views_within(depth, visits);
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
fn excluded(view: &View<'_>, wanted: &str) -> Option<&'static str> {
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

/// Returns a type's name with its article.
pub(crate) fn a_kind(type_name: &str) -> &'static str {
    match type_name {
        "object" => "a map",
        "array" => "a list",
        "string" => "a string",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        _ => "null",
    }
}

/// Returns what kind of value it is, with its article.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(n) if n.is_i64() || n.is_u64() => "a whole number",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Field, Items, Type};

    fn path(root: &Value, path: &str) -> String {
        let mut type_ = Type::of(root);
        for name in path.split('.') {
            match type_.field(name) {
                Field::Known(next) => type_ = next,
                Field::Absent(names) => return format!("no {name} among {}", names.join(" ")),
                Field::None(kind) => return format!("no {name} in {kind}"),
            }
        }
        match type_.items() {
            Items::Known(Type::Any) => "anything".to_owned(),
            Items::Known(_) => "a list".to_owned(),
            Items::None(kind) => kind.to_owned(),
        }
    }

    #[test]
    fn fields_are_looked_up_through_references_and_unions() {
        let root = json!({
            "type": "object",
            "properties": {
                "total": { "type": "integer" },
                "lines": { "type": "array", "items": { "$ref": "#/$defs/line" } },
                "best": { "anyOf": [{ "$ref": "#/$defs/line" }, { "type": "null" }] },
                "kind": { "oneOf": [
                    { "type": "object", "properties": { "a": {} } },
                    { "type": "object", "properties": { "b": { "type": "string" } } }
                ] },
                "labels": { "type": "object", "additionalProperties": { "type": "integer" } },
                "free": { "type": "object" },
                "any": true,
                "closed": { "type": "object", "additionalProperties": false },
                "both": { "allOf": [{ "$ref": "#/$defs/line" }, { "properties": { "extra": { "type": "boolean" } } }] },
                "self": { "$ref": "#" },
                "loop": { "$ref": "#/$defs/loop" }
            },
            "$defs": {
                "line": { "type": "object", "properties": { "sku": { "type": "string" } } },
                "loop": { "$ref": "#/$defs/loop" }
            }
        });
        for (asked, answer) in [
            ("total", "a whole number"),
            ("total.cents", "no cents in a whole number"),
            ("totl", "no totl among total lines best kind labels free any closed both self loop"),
            ("lines", "a list"),
            ("lines.sku", "no sku in a list"),
            ("best.sku", "a string"),
            ("best.skew", "no skew among sku"),
            ("kind.b", "a string"),
            ("kind.c", "no c among a b"),
            ("labels.red", "a whole number"),
            ("free.x.y", "anything"),
            ("any.x.y", "anything"),
            ("closed.x", "no x among "),
            ("both.sku", "a string"),
            ("both.extra", "true or false"),
            ("both.other", "no other among sku extra"),
            ("self.self.total", "a whole number"),
            ("loop.x", "anything"),
        ] {
            assert_eq!(path(&root, asked), answer, "{asked}");
        }
    }

    #[test]
    fn configuration_has_the_fields_it_has() {
        let config = json!({ "payment": { "timeout": "30s" } });
        let Field::Known(payment) = Type::Value(&config).field("payment") else { panic!("it exists") };
        assert!(matches!(payment.field("timeout"), Field::Known(_)));
        assert!(matches!(payment.field("timeuot"), Field::Absent(names) if names == ["timeout"]));
    }
}
