//! What is known of a value before the run.
//!
//! A type is a set of values. It may be larger than the values that can occur, never smaller: what is not known is
//! `Any`. Which expression has which type is for `infer` to say.

mod fits;
mod schema;

use std::borrow::Cow;
use std::rc::Rc;

use serde_json::Value;

pub(crate) use fits::{Degree, Misfit, fits};
pub(crate) use schema::{Presence, Schema, View, types_of};
use schema::{excluded, field_of, items_of};

/// Items of a written list whose types are kept apart.
const ITEMS_MAX: usize = 64;
/// Types inside each other.
const DEPTH_MAX: usize = 24;
/// Types beside each other.
const UNION_MAX: usize = 32;

/// What is known of a value.
#[derive(Clone, Debug)]
pub(crate) enum Type<'a> {
    /// Nothing.
    Any,
    /// It fits one of these schemas.
    Schemas(Vec<Schema<'a>>),
    /// It is of this kind.
    Kind(Kind),
    /// It is a list of such values.
    List(Rc<Type<'a>>, usize),
    /// It has exactly these fields.
    Map(Rc<Vec<(String, Type<'a>)>>, usize),
    /// It is this value of the file.
    Value(&'a Value),
    /// It is this value.
    Literal(Rc<Value>),
    /// It is of one of these types.
    Union(Rc<Vec<Type<'a>>>, usize),
}

/// A kind of values, as operators and filters give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Null.
    Null,
    /// True or false.
    Boolean,
    /// A whole number.
    Integer,
    /// A number of which nobody says whether it is whole.
    Number,
    /// A string.
    Text,
    /// A map of some fields.
    Map,
}

impl Kind {
    /// Returns its name in a schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Text => "string",
            Self::Map => "object",
        }
    }
}

/// What a type says about a field.
#[derive(Clone, Debug)]
pub(crate) enum Field<'a> {
    /// The field may exist, and is of this type.
    Known(Type<'a>),
    /// There is no such field; these are those that exist.
    Absent(Vec<Cow<'a, str>>),
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
        Self::Schemas(vec![Schema::new(root, root)])
    }

    /// The lists of such values.
    pub fn list(item: Self) -> Self {
        let depth = item.depth() + 1;
        let item = if depth > DEPTH_MAX { Self::Any } else { item };
        Self::List(Rc::new(item), depth.min(DEPTH_MAX))
    }

    /// The maps with exactly these fields.
    pub fn map(fields: Vec<(String, Self)>) -> Self {
        let depth = fields.iter().map(|(_, field)| field.depth()).max().unwrap_or(0) + 1;
        if depth > DEPTH_MAX { Self::Kind(Kind::Map) } else { Self::Map(Rc::new(fields), depth) }
    }

    /// Returns how many types are inside each other.
    fn depth(&self) -> usize {
        match self {
            Self::List(_, depth) | Self::Map(_, depth) | Self::Union(_, depth) => *depth,
            Self::Any | Self::Schemas(_) | Self::Kind(_) | Self::Value(_) | Self::Literal(_) => 0,
        }
    }

    /// The values that are of one of these types.
    pub fn union(types: Vec<Self>) -> Self {
        let mut all: Vec<Self> = Vec::new();
        for one in types {
            match one {
                Self::Union(inner, _) => inner.iter().for_each(|one| add(&mut all, one.clone())),
                one => add(&mut all, one),
            }
        }
        match all.len() {
            0 => Self::Any,
            1 => all.remove(0),
            // Where steps hand on what others handed on, the ways grow without end.
            n if n > UNION_MAX => Self::Any,
            _ if all.iter().all(|t| matches!(t, Self::Schemas(_))) => {
                let schemas = all.into_iter().filter_map(|t| if let Self::Schemas(s) = t { Some(s) } else { None });
                let schemas: Vec<_> = schemas.flatten().collect();
                if schemas.len() > UNION_MAX { Self::Any } else { Self::Schemas(schemas) }
            }
            _ => {
                let depth = all.iter().map(Self::depth).max().unwrap_or(0);
                Self::Union(Rc::new(all), depth)
            }
        }
    }

    /// Returns the value, if there is only one.
    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Value(value) => Some(value),
            Self::Literal(value) => Some(value),
            _ => None,
        }
    }

    /// Returns what is known of a field.
    pub fn field(&self, name: &str) -> Field<'a> {
        match self {
            Self::Any | Self::Kind(Kind::Map) => Field::Known(Self::Any),
            Self::List(..) => Field::None("a list"),
            Self::Kind(kind) => Field::None(a_kind(kind.name())),
            Self::Map(fields, _) => match fields.iter().find(|(field, _)| field == name) {
                Some((_, known)) => Field::Known(known.clone()),
                None => Field::Absent(fields.iter().map(|(field, _)| Cow::Owned(field.clone())).collect()),
            },
            Self::Value(Value::Object(map)) => match map.get(name) {
                Some(value) => Field::Known(Self::Value(value)),
                None => Field::Absent(map.keys().map(|key| Cow::Borrowed(key.as_str())).collect()),
            },
            Self::Value(value) => Field::None(kind_of(value)),
            Self::Literal(value) => match &**value {
                Value::Object(map) => match map.get(name) {
                    Some(value) => Field::Known(Self::Literal(Rc::new(value.clone()))),
                    None => Field::Absent(map.keys().map(|key| Cow::Owned(key.clone())).collect()),
                },
                value => Field::None(kind_of(value)),
            },
            Self::Schemas(schemas) => field_of(schemas, name),
            Self::Union(types, _) => {
                let (mut known, mut listed, mut none) = (Vec::new(), None::<Vec<Cow<'a, str>>>, "null");
                for one in types.iter() {
                    match one.field(name) {
                        Field::Known(field) => known.push(field),
                        Field::Absent(names) => {
                            let all = listed.get_or_insert_default();
                            for name in names {
                                if !all.contains(&name) {
                                    all.push(name);
                                }
                            }
                        }
                        Field::None("null") => {}
                        Field::None(kind) => none = kind,
                    }
                }
                match listed {
                    _ if !known.is_empty() => Field::Known(Self::union(known)),
                    Some(names) => Field::Absent(names),
                    None => Field::None(none),
                }
            }
        }
    }

    /// Returns what is known of the items.
    pub fn items(&self) -> Items<'a> {
        match self {
            Self::Any => Items::Known(Self::Any),
            Self::List(item, _) => Items::Known(Self::clone(item)),
            Self::Kind(kind) => Items::None(a_kind(kind.name())),
            Self::Map(..) => Items::None("a map"),
            Self::Value(Value::Array(items)) if items.len() <= ITEMS_MAX => {
                Items::Known(Self::union(items.iter().map(Self::Value).collect()))
            }
            Self::Value(Value::Array(_)) => Items::Known(Self::Any),
            Self::Value(value) => Items::None(kind_of(value)),
            Self::Literal(value) => match &**value {
                Value::Array(items) if items.len() <= ITEMS_MAX => {
                    Items::Known(Self::union(items.iter().map(|item| Self::Literal(Rc::new(item.clone()))).collect()))
                }
                Value::Array(_) => Items::Known(Self::Any),
                value => Items::None(kind_of(value)),
            },
            Self::Schemas(schemas) => items_of(schemas),
            Self::Union(types, _) => {
                let (mut known, mut none) = (Vec::new(), "null");
                for one in types.iter() {
                    match one.items() {
                        Items::Known(item) => known.push(item),
                        Items::None("null") => {}
                        Items::None(kind) => none = kind,
                    }
                }
                if known.is_empty() { Items::None(none) } else { Items::Known(Self::union(known)) }
            }
        }
    }

    /// Returns what the type's values are if none of them is a text.
    pub fn never_text(&self) -> Option<&'static str> {
        self.never("string")
    }

    /// Returns what the type's values are if none of them is of a kind of schemas, such as `string`.
    pub fn never(&self, wanted: &str) -> Option<&'static str> {
        match self {
            Self::Any => None,
            Self::List(..) => (wanted != "array").then_some("a list"),
            Self::Map(..) => (wanted != "object").then_some("a map"),
            Self::Kind(kind) => (!may_be(kind.name(), wanted)).then(|| a_kind(kind.name())),
            Self::Value(_) | Self::Literal(_) => {
                let value = self.value()?;
                (!may_be(type_name(value), wanted)).then(|| kind_of(value))
            }
            Self::Schemas(schemas) => {
                let mut kind = None;
                for schema in schemas {
                    for view in schema.views()? {
                        kind = kind.filter(|k| *k != "null").or(Some(excluded(&view, wanted)?));
                    }
                }
                kind
            }
            Self::Union(types, _) => {
                let mut kind = None;
                for one in types.iter() {
                    kind = kind.filter(|k| *k != "null").or(Some(one.never(wanted)?));
                }
                kind
            }
        }
    }

    /// Tells whether every value of the type is certainly a whole number.
    pub fn is_integer(&self) -> bool {
        self.is_only("integer")
    }

    /// Tells whether every value of the type is certainly of a kind of schemas, such as `string`.
    pub fn is_only(&self, kind: &str) -> bool {
        match self {
            Self::Any => false,
            Self::List(..) => kind == "array",
            Self::Map(..) => kind == "object",
            Self::Kind(own) => is_a(own.name(), kind),
            Self::Value(_) | Self::Literal(_) => self.value().is_some_and(|value| is_a(type_name(value), kind)),
            Self::Schemas(schemas) => schemas.iter().all(|s| {
                s.views().is_some_and(|views| {
                    views.iter().all(|view| {
                        view.iter().any(|part| {
                            types_of(part)
                                .is_some_and(|types| !types.is_empty() && types.iter().all(|own| is_a(own, kind)))
                        })
                    })
                })
            }),
            Self::Union(types, _) => types.iter().all(|one| one.is_only(kind)),
        }
    }

    /// Returns the type without null.
    pub fn without_null(&self) -> Self {
        match self {
            Self::Schemas(schemas) => {
                let kept: Vec<_> = schemas.iter().flat_map(|s| s.without_null()).collect();
                if kept.is_empty() { Self::Any } else { Self::Schemas(kept) }
            }
            Self::Union(types, _) => {
                let kept = types.iter().filter(|t| !t.is_only("null")).map(Self::without_null).collect();
                Self::union(kept)
            }
            other if other.is_only("null") => Self::Any,
            other => other.clone(),
        }
    }

    /// Tells whether a field is always there, as far as the type says.
    pub fn presence(&self, name: &str) -> Presence {
        match self {
            Self::Schemas(schemas) => schema::presence(schemas, name),
            Self::Union(types, _) => types.iter().map(|one| one.presence(name)).max().unwrap_or(Presence::Unsaid),
            Self::Map(fields, _) => {
                if fields.iter().any(|(field, _)| field == name) {
                    Presence::Always
                } else {
                    Presence::Lacking
                }
            }
            Self::Value(_) | Self::Literal(_) => match self.value() {
                Some(Value::Object(map)) if map.contains_key(name) => Presence::Always,
                Some(Value::Object(_)) => Presence::Lacking,
                _ => Presence::Unsaid,
            },
            Self::Any | Self::Kind(_) | Self::List(..) => Presence::Unsaid,
        }
    }
}

/// Adds one of several types, unless it is plainly there.
fn add<'a>(all: &mut Vec<Type<'a>>, one: Type<'a>) {
    let known = all.iter().any(|other| match (other, &one) {
        (Type::Any, Type::Any) => true,
        (Type::Kind(a), Type::Kind(b)) => a == b,
        (Type::Literal(a), Type::Literal(b)) => a == b,
        (Type::Value(a), Type::Value(b)) => std::ptr::eq(*a, *b),
        (Type::List(a, _), Type::List(b, _)) => Rc::ptr_eq(a, b),
        (Type::Map(a, _), Type::Map(b, _)) => Rc::ptr_eq(a, b),
        (Type::Schemas(a), Type::Schemas(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| std::ptr::eq(a.schema, b.schema) && a.non_null == b.non_null)
        }
        _ => false,
    });
    if !known && all.len() <= UNION_MAX {
        all.push(one);
    }
}

/// Whether a value of one kind may be of another, as the kinds of schemas go.
fn may_be(own: &str, wanted: &str) -> bool {
    is_a(own, wanted) || (own == "number" && wanted == "integer")
}

/// Whether every value of one kind is of another, as the kinds of schemas go.
fn is_a(own: &str, kind: &str) -> bool {
    own == kind || (own == "integer" && kind == "number")
}

/// Returns the name of a value's kind in a schema.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() || n.is_u64() => "integer",
        // 2.0 is a whole number by JSON Schema.
        Value::Number(n) if n.as_f64().is_some_and(|f| f.fract() == 0.0) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
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

    use super::{Field, Items, Kind, Type};

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
    fn types_neither_nest_nor_grow_without_end() {
        let mut nested = Type::Kind(Kind::Text);
        for i in 0..200_000_u64 {
            let field = if i % 2 == 0 { Type::list(nested) } else { nested };
            nested = Type::map(vec![("x".to_owned(), field)]);
        }
        assert!(nested.depth() <= super::DEPTH_MAX);
        // What is left out must not make the type smaller: then anything is possible.
        let roots: Vec<Value> = (0..100).map(|i| json!({ "const": i })).collect();
        assert!(matches!(Type::union(roots.iter().map(Type::of).collect()), Type::Any));
        assert!(matches!(Type::union(roots.iter().map(Type::Value).collect()), Type::Any));
        let few = Type::union(roots[..2].iter().map(Type::of).collect());
        assert!(matches!(Type::union(vec![few.clone(), few]), Type::Schemas(both) if both.len() == 2));
    }

    #[test]
    fn configuration_has_the_fields_it_has() {
        let config = json!({ "payment": { "timeout": "30s" } });
        let Field::Known(payment) = Type::Value(&config).field("payment") else { panic!("it exists") };
        assert!(matches!(payment.field("timeout"), Field::Known(_)));
        assert!(matches!(payment.field("timeuot"), Field::Absent(names) if names == ["timeout"]));
    }
}
