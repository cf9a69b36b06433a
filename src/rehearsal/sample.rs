//! A value that fits a schema, for handlers that are played.
//!
//! It understands what schemas of Rust types are made of. Optional fields are there and lists have two items, or as many
//! as somebody wants, so that whatever may be read can be read. The whole is checked in the end; where no value is found,
//! that is said.

use serde_json::{Map, Value, json};

/// Levels of a value.
const DEPTH_MAX: usize = 8;

/// Items of a list of which nobody wants more.
pub(super) const ITEMS: usize = 2;

/// A time after the start of every rehearsal, and after its end.
const LATER: &str = "2026-06-01T00:00:00Z";

/// Texts that patterns often want.
const COMMON: [&str; 13] =
    ["a", "A", "1", "1.00", "a.b", "ORD-1", "PROD-1", "a-1", LATER, "somebody@example.org", "30s", "EUR", ""];

/// Makes a value that fits `schema`; `paths` are the fields that are read of it where the schema allows any. Its lists have
/// so many `items` where the schema allows that, and those inside of their items two.
///
/// # Errors
/// Says what of the schema no value could be made for.
pub(super) fn sample(schema: &Value, paths: &[Vec<String>], items: usize) -> Result<Value, String> {
    let value = if is_open(schema) { skeleton(paths, items) } else { of(schema, schema, DEPTH_MAX, items) };
    let validator = crate::dsl::schema::compile(schema).map_err(|error| error.to_string())?;
    let wrong =
        validator.iter_errors(&value).next().map(|error| (error.instance_path().to_string(), error.to_string()));
    match wrong {
        None => Ok(value),
        Some((path, error)) => Err(format!("no value was found for the schema at `{path}`: {error}")),
    }
}

/// Makes a value in which each of these paths leads somewhere, to a list of so many items.
pub(super) fn skeleton(paths: &[Vec<String>], items: usize) -> Value {
    let mut heads: Vec<&String> = paths.iter().filter_map(|path| path.first()).collect();
    heads.sort_unstable();
    heads.dedup();
    if heads.is_empty() {
        return ["one", "two"].into_iter().cycle().take(items).collect();
    }
    let fields = heads.into_iter().map(|head| {
        let below = paths.iter().filter(|path| path.first() == Some(head) && path.len() > 1);
        (head.clone(), skeleton(&below.map(|path| path[1..].to_vec()).collect::<Vec<_>>(), items))
    });
    Value::Object(fields.collect())
}

fn is_open(schema: &Value) -> bool {
    match schema {
        Value::Bool(all) => *all,
        Value::Object(map) => map.keys().all(|key| matches!(key.as_str(), "description" | "title" | "$schema")),
        _ => false,
    }
}

fn of(schema: &Value, root: &Value, depth: usize, items: usize) -> Value {
    let Value::Object(map) = schema else { return json!("sample") };
    if let Some(value) = map.get("const") {
        return value.clone();
    }
    if let Some(value) = map.get("enum").and_then(Value::as_array).and_then(|values| values.first()) {
        return value.clone();
    }
    let mut value = own(map, root, depth, items);
    if let Some(target) = map.get("$ref").and_then(Value::as_str).and_then(|reference| resolve(root, reference)) {
        lay(&mut value, deeper(target, root, depth, items));
    }
    for part in map.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        lay(&mut value, deeper(part, root, depth, items));
    }
    for union in ["anyOf", "oneOf"] {
        let branches = map.get(union).and_then(Value::as_array);
        let is_null = |branch: &&Value| branch.get("type") == Some(&json!("null"));
        let chosen = branches.and_then(|all| all.iter().find(|branch| !is_null(branch)).or(all.first()));
        if let Some(branch) = chosen {
            lay(&mut value, deeper(branch, root, depth, items));
        }
    }
    value.unwrap_or_else(|| json!("sample"))
}

fn deeper(schema: &Value, root: &Value, depth: usize, items: usize) -> Value {
    if depth == 0 { Value::Null } else { of(schema, root, depth - 1, items) }
}

/// Lays a value over another: objects are joined, everything else is replaced.
fn lay(under: &mut Option<Value>, over: Value) {
    match (under.as_mut(), over) {
        (Some(Value::Object(under)), Value::Object(over)) => under.extend(over),
        (_, over) => *under = Some(over),
    }
}

/// Makes what a schema says itself, without the schemas that it joins.
fn own(map: &Map<String, Value>, root: &Value, depth: usize, items: usize) -> Option<Value> {
    let kind = match map.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null")?,
        _ if map.contains_key("properties") => "object",
        _ => return None,
    };
    Some(match kind {
        "object" => object(map, root, depth, items),
        "array" => {
            let bound = |key| map.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
            let count = items.max(bound("minItems").unwrap_or(0)).min(bound("maxItems").unwrap_or(usize::MAX));
            let first = map.get("prefixItems").and_then(Value::as_array);
            let all = (0..count).map(|i| match (first.and_then(|first| first.get(i)), map.get("items")) {
                (Some(schema), _) | (None, Some(schema)) => deeper(schema, root, depth, ITEMS),
                (None, None) => json!("item"),
            });
            all.collect()
        }
        "string" => text(map),
        "integer" | "number" => number(map),
        "boolean" => json!(true),
        _ => Value::Null,
    })
}

fn object(map: &Map<String, Value>, root: &Value, depth: usize, items: usize) -> Value {
    let mut members = Map::new();
    let required: Vec<&str> =
        map.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, schema) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if depth > 0 || required.contains(&name.as_str()) {
            members.insert(name.clone(), deeper(schema, root, depth, items));
        }
    }
    for name in required {
        let open = map.get("additionalProperties").filter(|schema| schema.is_object());
        members.entry(name).or_insert_with(|| open.map_or_else(|| json!("sample"), |s| deeper(s, root, depth, items)));
    }
    Value::Object(members)
}

fn text(map: &Map<String, Value>) -> Value {
    let bound = |key| map.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let known = match map.get("format").and_then(Value::as_str) {
        Some("date-time") => LATER,
        Some("date") => "2026-06-01",
        Some("time") => "12:00:00Z",
        Some("email") => "somebody@example.org",
        Some("uri" | "uri-reference") => "https://example.org/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        Some("ipv4") => "192.0.2.1",
        _ => "sample",
    };
    let least = bound("minLength").unwrap_or(0);
    let long = [known.to_owned(), "a".repeat(least), "1".repeat(least)];
    let examples = map.get("examples").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let tries: Vec<String> =
        examples.map(str::to_owned).chain(long).chain(COMMON.iter().map(|&text| text.to_owned())).collect();
    let schema = Value::Object(map.clone());
    let fits =
        |text: &&String| crate::dsl::schema::compile(&schema).is_ok_and(|validator| validator.is_valid(&json!(text)));
    tries.iter().find(fits).map_or_else(|| json!(known), |text| json!(text))
}

fn number(map: &Map<String, Value>) -> Value {
    let schema = Value::Object(map.clone());
    let fits = |value: &Value| crate::dsl::schema::compile(&schema).is_ok_and(|validator| validator.is_valid(value));
    let bounds = ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf"];
    let mut tries = vec![json!(1), json!(0)];
    for bound in bounds.iter().filter_map(|key| map.get(*key)) {
        tries.push(bound.clone());
        if let Some(whole) = bound.as_i64() {
            tries.extend([whole.saturating_add(1), whole.saturating_sub(1)].map(|n| json!(n)));
        }
    }
    tries.iter().find(|value| fits(value)).cloned().unwrap_or_else(|| json!(1))
}

fn resolve<'r>(root: &'r Value, reference: &str) -> Option<&'r Value> {
    root.pointer(reference.strip_prefix('#')?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ITEMS, sample};

    #[test]
    fn what_handlers_of_the_order_return_can_be_played() {
        for contract in crate::orders::registry().contracts().values() {
            sample(&contract.output, &[], ITEMS).unwrap_or_else(|why| panic!("{}: {why}", contract.name));
            sample(&contract.input, &[], ITEMS).unwrap_or_else(|why| panic!("{}: {why}", contract.name));
        }
    }

    #[test]
    fn optional_fields_are_there_and_bounds_are_kept() {
        let schema = json!({
            "type": "object", "required": ["n"], "additionalProperties": false,
            "properties": {
                "n": { "type": "integer", "minimum": 7 }, "s": { "type": ["string", "null"], "minLength": 9 },
                "l": { "type": "array", "minItems": 3, "items": { "$ref": "#/$defs/e" } },
                "u": { "anyOf": [{ "type": "null" }, { "const": 4 }] },
                "t": { "type": "string", "format": "date-time" }
            },
            "$defs": { "e": { "enum": ["x", "y"] } }
        });
        let value = sample(&schema, &[], ITEMS).expect("a value");
        assert_eq!(
            value,
            json!({ "n": 7, "s": "aaaaaaaaa", "l": ["x", "x", "x"], "u": 4, "t": "2026-06-01T00:00:00Z" })
        );
    }

    #[test]
    fn lists_have_as_many_items_as_are_wanted_and_allowed() {
        let list = json!({ "type": "array", "items": { "type": "array", "items": { "const": 1 } } });
        assert_eq!(sample(&list, &[], 3), Ok(json!([[1, 1], [1, 1], [1, 1]])));
        assert_eq!(sample(&json!({ "type": "array", "maxItems": 1, "items": { "const": 1 } }), &[], 3), Ok(json!([1])));
        assert_eq!(sample(&json!(true), &[vec!["a".into()]], 3), Ok(json!({ "a": ["one", "two", "one"] })));
    }

    #[test]
    fn a_schema_that_is_beyond_it_is_said_to_be() {
        let why =
            sample(&json!({ "type": "string", "pattern": "^q{7}$" }), &[], ITEMS).expect_err("no such text is tried");
        assert!(why.contains("no value was found"), "{why}");
        assert_eq!(
            sample(&json!(true), &[vec!["a".into(), "b".into()]], ITEMS),
            Ok(json!({ "a": { "b": ["one", "two"] } }))
        );
    }
}
