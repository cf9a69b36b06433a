//! Whether a JSON Schema ever comes to an end: one that refers to itself without going down into the value would be
//! followed for ever, until the stack is used up.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::tree::join;

/// Keywords that hold data and no schemas.
const DATA: [&str; 4] = ["const", "enum", "default", "examples"];
/// Keywords whose schema is applied to the same value.
const SAME: [&str; 4] = ["not", "if", "then", "else"];
/// Keywords whose list of schemas is applied to the same value.
const SAME_LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
/// Keywords whose map of schemas is applied to the same value.
const SAME_MAPS: [&str; 2] = ["dependentSchemas", "dependencies"];
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

/// A schema inside a schema, by what it refers to on the same value.
struct Graph<'a> {
    nodes: Vec<(String, &'a Map<String, Value>)>,
    index: HashMap<String, usize>,
    anchors: HashMap<&'a str, usize>,
}

/// Returns the place of a schema that is applied to a value again and again.
pub(super) fn endless(schema: &Value) -> Option<String> {
    let mut graph = Graph { nodes: Vec::new(), index: HashMap::new(), anchors: HashMap::new() };
    graph.collect(schema, String::new());
    // The usual walk in search of a circle: a node is on the way, or done with.
    let (mut done, mut on_the_way) = (vec![false; graph.nodes.len()], vec![false; graph.nodes.len()]);
    for start in 0..graph.nodes.len() {
        let mut way: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut next = (!done[start]).then_some(start);
        loop {
            if let Some(node) = next.take() {
                if on_the_way[node] {
                    return Some(graph.nodes[node].0.clone());
                }
                if !done[node] {
                    on_the_way[node] = true;
                    way.push((node, graph.same(node)));
                }
            }
            let Some((node, left)) = way.last_mut() else { break };
            next = left.pop();
            if next.is_none() {
                (done[*node], on_the_way[*node]) = (true, false);
                way.pop();
            }
        }
    }
    None
}

impl<'a> Graph<'a> {
    /// Recurses as deep as the schema nests, which is bounded where it is read.
    fn collect(&mut self, value: &'a Value, pointer: String) {
        match value {
            Value::Object(map) => {
                for (key, below) in map.iter().filter(|(key, _)| !DATA.contains(&key.as_str())) {
                    self.collect(below, join(&pointer, key));
                }
                let node = self.nodes.len();
                for key in ["$anchor", "$dynamicAnchor"] {
                    self.anchors.extend(map.get(key).and_then(Value::as_str).map(|name| (name, node)));
                }
                self.index.insert(pointer.clone(), node);
                self.nodes.push((pointer, map));
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.collect(item, join(&pointer, &index.to_string()));
                }
            }
            _ => {}
        }
    }

    /// Returns the schemas that one schema applies to the same value.
    fn same(&self, node: usize) -> Vec<usize> {
        let (pointer, map) = &self.nodes[node];
        let mut found = Vec::new();
        let mut below = |pointer: String| found.extend(self.index.get(&pointer).copied());
        for key in SAME {
            below(join(pointer, key));
        }
        for key in SAME_LISTS {
            let count = map.get(key).and_then(Value::as_array).map_or(0, Vec::len);
            (0..count).for_each(|item| below(format!("{pointer}/{key}/{item}")));
        }
        for key in SAME_MAPS {
            for name in map.get(key).and_then(Value::as_object).into_iter().flat_map(Map::keys) {
                below(join(&join(pointer, key), name));
            }
        }
        for key in REFERENCES {
            found.extend(map.get(key).and_then(Value::as_str).and_then(|to| self.resolve(to)));
        }
        found
    }

    fn resolve(&self, to: &str) -> Option<usize> {
        let fragment = decoded(to.strip_prefix('#')?);
        if fragment.is_empty() || fragment.starts_with('/') {
            self.index.get(&fragment).copied()
        } else {
            self.anchors.get(fragment.as_str()).copied()
        }
    }
}

/// Undoes the escapes of a URI.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
