use jsonschema::validator_for;
use serde_json::{Map, Value, json};

use super::{Degree, fits};
use crate::check::types::{Schema, Type};
use crate::dice::Dice;

fn judged(source: &Value, target: &Value) -> Option<(Degree, String)> {
    fits(&Type::of(source), Schema::new(target, target))
        .map(|m| (m.degree, format!("{}: expected {}, found {}", m.path.join("."), m.expected, m.found)))
}

#[test]
fn misfits_are_found_where_they_are() {
    let line = json!({ "type": "object", "required": ["sku"], "properties": { "sku": { "type": "string" } } });
    for (source, target, expected) in [
        (
            json!({ "type": "string" }),
            json!({ "type": "integer" }),
            Some((Degree::Always, ": expected a whole number, found a string")),
        ),
        (json!({ "type": "integer" }), json!({ "type": "number" }), None),
        (
            json!({ "type": "number" }),
            json!({ "type": "integer" }),
            Some((Degree::Sometimes, ": expected a whole number, found a number that may have a fraction")),
        ),
        (
            json!({ "type": ["string", "null"] }),
            json!({ "type": "string" }),
            Some((Degree::Sometimes, ": expected a string, found null")),
        ),
        (
            json!({ "type": ["string", "null"] }),
            json!({ "type": "integer" }),
            Some((Degree::Always, ": expected a whole number, found a string")),
        ),
        (json!({ "enum": ["a", "b"] }), json!({ "enum": ["b", "a", "c"] }), None),
        (
            json!({ "enum": ["a", "b"] }),
            json!({ "const": "a" }),
            Some((Degree::Sometimes, ": expected `\"a\"`, found `\"b\"`")),
        ),
        (
            json!({ "enum": ["a", "b"] }),
            json!({ "enum": [1] }),
            Some((Degree::Always, ": expected `1`, found `\"a\"`")),
        ),
        (json!({ "type": "string" }), json!({ "enum": ["a"] }), None),
        (json!({ "const": 1 }), json!({ "const": 1.0 }), None),
        (
            json!({ "type": "array", "items": { "type": "string" } }),
            json!({ "type": "array", "items": { "type": "integer" } }),
            Some((Degree::Filled, "[]: expected a whole number, found a string")),
        ),
        (
            json!({ "type": "array", "minItems": 1, "items": { "type": "string" } }),
            json!({ "type": "array", "items": { "type": "integer" } }),
            Some((Degree::Always, "[]: expected a whole number, found a string")),
        ),
        (
            json!({ "type": "object", "required": ["a"], "properties": { "a": {} } }),
            line.clone(),
            Some((Degree::Always, ": expected a map with the field `sku`, found a map without `sku`")),
        ),
        (
            json!({ "type": "object", "required": ["a"], "properties": { "a": {}, "sku": {} } }),
            line.clone(),
            Some((Degree::Sometimes, ": expected a map with the field `sku`, found a map in which `sku` is optional")),
        ),
        (json!({ "type": "object", "properties": { "sku": {} } }), line.clone(), None),
        (
            json!({ "type": "object", "required": ["sku"], "properties": { "sku": { "type": "integer" } } }),
            line.clone(),
            Some((Degree::Always, "sku: expected a string, found a whole number")),
        ),
        (json!({ "type": "object", "additionalProperties": true, "properties": { "a": {} } }), line.clone(), None),
        (
            line.clone(),
            json!({ "type": "object", "additionalProperties": false, "properties": { "a": {} } }),
            Some((Degree::Always, ": expected a map without the field `sku`, found a map with `sku`")),
        ),
        (
            json!({ "type": "boolean" }),
            json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }),
            Some((Degree::Always, ": expected a string or null, found true or false")),
        ),
        // What is not known fits: another keyword may keep null out, a reference may lead anywhere.
        (json!({ "type": ["string", "null"], "not": { "type": "null" } }), json!({ "type": "string" }), None),
        (json!({ "allOf": [{ "type": ["string", "null"] }, { "type": "string" }] }), json!({ "type": "string" }), None),
        (json!({ "$ref": "other.json" }), json!({ "type": "string" }), None),
        (json!({ "type": "string" }), json!({ "$ref": "#/$defs/none" }), None),
        (json!(true), json!({ "type": "string" }), None),
        (json!({ "minimum": 1 }), json!({ "type": "string" }), None),
    ] {
        let expected = expected.map(|(degree, text): (_, &str)| (degree, text.to_owned()));
        assert_eq!(judged(&source, &target), expected, "{source} into {target}");
    }
}

/// Numbers that follow from a seed.
struct Luck(Dice);

impl Luck {
    fn below(&mut self, n: usize) -> usize {
        self.0.place(n)
    }

    fn schema(&mut self, depth: usize) -> Value {
        let simple = ["string", "integer", "number", "boolean", "null"];
        match self.below(if depth == 0 { 6 } else { 12 }) {
            0..=2 => json!({ "type": simple[self.below(5)] }),
            3 => json!({ "type": [simple[self.below(4)], "null"] }),
            4 => json!({ "enum": [self.simple(), self.simple()] }),
            5 => [json!(true), json!({ "const": self.simple() }), json!({ "minimum": 1 })][self.below(3)].clone(),
            6 | 7 => json!({ "anyOf": [self.schema(depth - 1), self.schema(depth - 1)] }),
            8 => {
                let mut list = json!({ "type": "array", "items": self.schema(depth - 1) });
                if self.below(3) == 0 {
                    list["minItems"] = json!(1);
                }
                list
            }
            9 => json!({ "allOf": [self.schema(depth - 1), self.schema(depth - 1)] }),
            _ => {
                let mut properties = Map::new();
                let mut required = Vec::new();
                for name in ["a", "b", "c"] {
                    if self.below(3) > 0 {
                        properties.insert(name.to_owned(), self.schema(depth - 1));
                        if self.below(2) == 0 {
                            required.push(name);
                        }
                    }
                }
                let mut map = json!({ "type": "object", "properties": properties, "required": required });
                match self.below(4) {
                    0 => map["additionalProperties"] = json!(false),
                    1 => map["additionalProperties"] = self.schema(0),
                    _ => {}
                }
                map
            }
        }
    }

    fn simple(&mut self) -> Value {
        [json!("x"), json!("y"), json!(1), json!(2.5), json!(2.0), json!(true), json!(null), json!([])][self.below(8)]
            .clone()
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0..=4 => self.simple(),
            5 => (0..self.below(3)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let names = ["a", "b", "c"].into_iter().filter(|_| self.below(3) > 0).collect::<Vec<_>>();
                Value::Object(names.into_iter().map(|name| (name.to_owned(), self.value(depth - 1))).collect())
            }
        }
    }

    /// Makes a value that is meant to fit a schema; whether it does is for the caller to see.
    fn fitting(&mut self, schema: &Value, depth: usize) -> Value {
        if depth == 0 || self.below(12) == 0 {
            return self.value(1);
        }
        for union in ["anyOf", "allOf"] {
            if let Some(Value::Array(branches)) = schema.get(union) {
                let branch = branches[self.below(branches.len())].clone();
                return self.fitting(&branch, depth - 1);
            }
        }
        if let Some(constant) = schema.get("const") {
            return constant.clone();
        }
        if let Some(Value::Array(choices)) = schema.get("enum") {
            return choices[self.below(choices.len())].clone();
        }
        let kind = match schema.get("type") {
            Some(Value::Array(kinds)) => kinds[self.below(kinds.len())].as_str(),
            Some(kind) => kind.as_str(),
            None => None,
        };
        match kind {
            Some("string") => json!(["x", "y"][self.below(2)]),
            Some("integer") => json!(1),
            Some("number") => [json!(1), json!(2.5)][self.below(2)].clone(),
            Some("boolean") => json!(self.below(2) == 0),
            Some("null") => Value::Null,
            Some("array") => (0..1 + self.below(2)).map(|_| self.fitting(&schema["items"], depth - 1)).collect(),
            Some("object") => {
                let listed = schema["properties"].as_object().expect("every map has them");
                let wanted = |name: &str| schema["required"].as_array().is_some_and(|r| r.contains(&json!(name)));
                let kept: Vec<_> = listed.iter().filter(|(name, _)| wanted(name) || self.below(2) == 0).collect();
                Value::Object(kept.into_iter().map(|(name, s)| (name.clone(), self.fitting(s, depth - 1))).collect())
            }
            _ => self.value(1),
        }
    }
}

/// Whether a value has, of every map, only the fields that its schema lists: the reading that types go by.
fn within(value: &Value, schema: &Value) -> bool {
    if let Some(Value::Array(branches)) = schema.get("anyOf") {
        let fits = |s: &Value| validator_for(s).expect("it is a schema").is_valid(value);
        return branches.iter().any(|branch| fits(branch) && within(value, branch));
    }
    if let Some(Value::Array(parts)) = schema.get("allOf") {
        // The fields of all parts together are listed; a value of none is left to the other cases.
        return !has_map(value) && parts.iter().all(|part| within(value, part));
    }
    match value {
        Value::Object(map) if schema.get("properties").is_some() => {
            let listed = schema["properties"].as_object().expect("they are a map");
            let open = schema.get("additionalProperties").is_some();
            let lists = !listed.is_empty();
            map.iter().all(|(name, inner)| match listed.get(name) {
                Some(schema) => within(inner, schema),
                None => open || !lists,
            })
        }
        Value::Array(items) => schema.get("items").is_none_or(|schema| items.iter().all(|item| within(item, schema))),
        _ => true,
    }
}

fn has_map(value: &Value) -> bool {
    match value {
        Value::Object(_) => true,
        Value::Array(items) => items.iter().any(has_map),
        _ => false,
    }
}

fn has_empty_list(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty() || items.iter().any(has_empty_list),
        Value::Object(map) => map.values().any(has_empty_list),
        _ => false,
    }
}

#[test]
fn no_value_fits_where_a_misfit_is_certain() {
    let seed = std::env::var("FLOWRUN_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_123);
    let pairs = if std::env::var_os("FLOWRUN_FULL").is_some() { 40_000 } else { 1_500 };
    println!("FLOWRUN_SEED={seed}");
    let mut luck = Luck(Dice(seed));
    let (mut misfits, mut values) = (0, 0);
    for _ in 0..pairs {
        let (source, target) = (luck.schema(3), luck.schema(3));
        let Some(misfit) = fits(&Type::of(&source), Schema::new(&target, &target)) else { continue };
        if misfit.degree == Degree::Sometimes {
            continue;
        }
        misfits += 1;
        let takes = validator_for(&source).expect("the source is a schema");
        let wants = validator_for(&target).expect("the target is a schema");
        for i in 0..24 {
            let value = if i % 2 == 0 { luck.fitting(&source, 5) } else { luck.fitting(&target, 5) };
            let of_type = takes.is_valid(&value) && within(&value, &source);
            if !of_type || (misfit.degree == Degree::Filled && has_empty_list(&value)) {
                continue;
            }
            values += 1;
            assert!(!wants.is_valid(&value), "{value} fits {source} and {target}, in spite of {misfit:?}");
        }
    }
    assert!(misfits > pairs / 10 && values > pairs, "only {misfits} misfits and {values} values were looked at");
}
