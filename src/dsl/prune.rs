//! Takes faulty parts out of a workflow, so that the rest can still be understood.

use serde_json::{Value, json};

/// Takes out what a pointer leads to, or as much around it as must go with it; tells whether something useful is left.
///
/// Names that others may refer to stay: a faulty step becomes an empty one. Lists go as a whole, because places are
/// found by position.
pub(super) fn prune(value: &mut Value, pointer: &str) -> bool {
    let mut path: Vec<String> =
        pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
    loop {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        match names.as_slice() {
            [] => {
                // A key that the top level lacks.
                let Some(map) = value.as_object_mut() else { return false };
                map.entry("flowrun").or_insert(json!(1));
                map.entry("name").or_insert(json!("unnamed"));
                return map.get("steps").is_some_and(Value::is_object);
            }
            ["steps"] => return false,
            ["flowrun"] => return set(value, "flowrun", json!(1)),
            ["name"] => return set(value, "name", json!("unnamed")),
            [kind @ ("steps" | "services" | "retries" | "defaults"), name] => {
                return value.get_mut(*kind).is_some_and(|map| set(map, name, json!({})));
            }
            _ => {}
        }
        let last = path.pop().unwrap_or_default();
        let parent = path.iter().fold(String::new(), |at, name| super::tree::join(&at, name));
        match value.pointer_mut(&parent) {
            Some(Value::Object(map)) if !required(&path, &last) => {
                // Only the steps of `finally` have an order, and a map may have very many faulty keys.
                if path == ["finally"] {
                    map.shift_remove(&last)
                } else {
                    map.swap_remove(&last)
                };
                return true;
            }
            // Gone with something around it.
            None => return true,
            _ => {}
        }
    }
}

fn set(map: &mut Value, key: &str, to: Value) -> bool {
    map.as_object_mut().is_some_and(|map| {
        map.insert(key.to_owned(), to);
        true
    })
}

/// Tells whether a map cannot be understood without a key.
fn required(parent: &[String], key: &str) -> bool {
    let holder = parent.last().map(String::as_str).unwrap_or_default();
    let in_list = holder.bytes().all(|b| b.is_ascii_digit());
    let in_finally = parent.len() == 2 && parent[0] == "finally";
    match key {
        "uses" => holder == "confirm" || in_list || in_finally,
        "name" | "never" => in_list,
        "failures" | "within" | "cooldown" => holder == "breaker",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pruned(pointer: &str) -> Option<Value> {
        let mut value = json!({
            "flowrun": 1, "name": "a",
            "services": { "s": { "breaker": { "failures": 0, "within": "1s", "cooldown": "1s" }, "concurrency": 1 } },
            "steps": { "a": { "uses": "x", "needs": ["b", 1], "fallback": [{ "name": "f", "uses": "y" }] } },
            "finally": { "z": { "uses": "x", "timeout": 3 } }
        });
        prune(&mut value, pointer).then_some(value)
    }

    #[test]
    fn as_little_as_possible_goes() {
        assert_eq!(pruned("/steps/a/uses").expect("usable")["steps"]["a"]["needs"], json!(["b", 1]));
        assert_eq!(pruned("/steps/a/needs/1").expect("usable")["steps"]["a"].get("needs"), None);
        assert_eq!(pruned("/steps/a/fallback/0/uses").expect("usable")["steps"]["a"].get("fallback"), None);
        assert_eq!(pruned("/steps/a").expect("usable")["steps"]["a"], json!({}));
        assert_eq!(
            pruned("/services/s/breaker/failures").expect("usable")["services"]["s"],
            json!({ "concurrency": 1 })
        );
        assert_eq!(pruned("/finally/z/timeout").expect("usable")["finally"]["z"], json!({ "uses": "x" }));
        assert_eq!(pruned("/finally/z/uses").expect("usable")["finally"], json!({}));
        assert_eq!(pruned("/name").expect("usable")["name"], "unnamed");
        assert_eq!(pruned("/steps"), None);
    }
}
