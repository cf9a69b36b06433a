//! JSON that is written once and read when somebody asks.
//!
//! A payload is a step's input or output, a signal's data, an error. It travels from the handler to the journal as
//! text; only a template that looks inside makes it a tree, once.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::scratch;
use crate::teeth::{Bug, awake};

/// Levels of nesting that no payload exceeds, whoever made it.
///
/// What reads, writes, compares and drops JSON recurses, and serde_json reads 127 levels at most: a deeper value could be
/// recorded and never read back. The levels between are for what payloads are wrapped in when they are sent or listed.
pub const DEPTH_MAX: usize = 100;

/// A JSON document, cheap to clone.
#[derive(Clone)]
pub struct Payload(Arc<Inner>);

struct Inner {
    text: OnceLock<Arc<str>>,
    value: OnceLock<Arc<Value>>,
}

impl Payload {
    /// Makes a payload of a value.
    #[must_use]
    pub fn of(value: impl Into<Arc<Value>>) -> Self {
        Self(Arc::new(Inner { text: OnceLock::new(), value: OnceLock::from(value.into()) }))
    }

    /// Makes a payload of JSON text.
    ///
    /// # Errors
    /// When `text` is not one JSON document.
    pub fn from_text(text: impl Into<Arc<str>>) -> Result<Self, serde_json::Error> {
        let text = text.into();
        let value: Value = serde_json::from_str(&text)?;
        Ok(Self(Arc::new(Inner { text: OnceLock::from(text), value: OnceLock::from(Arc::new(value)) })))
    }

    /// Writes a value as JSON, unless it nests more than [`DEPTH_MAX`] levels. A value that is a tree already is kept
    /// beside its text, so that nobody has to read the text.
    ///
    /// # Errors
    /// When the value cannot be written as JSON, or nests too deeply; writing stops there.
    pub(crate) fn write<T: Serialize + 'static>(mut value: T) -> Result<Self, serde_json::Error> {
        let tree = (&mut value as &mut dyn Any).downcast_mut::<Value>().map(Value::take);
        let mut depth = Depth { levels: 0, most: DEPTH_MAX };
        let written = text_of(|bytes| match &tree {
            Some(tree) => write_tree(tree, bytes, &mut depth),
            None => value.serialize(&mut serde_json::Serializer::with_formatter(bytes, depth)),
        });
        match (written, tree) {
            (Ok(text), tree) => {
                let value = tree.map_or_else(OnceLock::new, |tree| OnceLock::from(Arc::new(tree)));
                Ok(Self(Arc::new(Inner { text: OnceLock::from(text), value })))
            }
            (Err(error), tree) => {
                // A value too deep to be written is also too deep to be dropped as it is.
                tree.into_iter().for_each(dismantle);
                Err(error)
            }
        }
    }

    /// Tells whether the document nests at most [`DEPTH_MAX`] levels.
    #[must_use]
    pub fn is_shallow(&self) -> bool {
        self.0.value.get().is_none_or(|value| is_shallow(value, DEPTH_MAX))
    }

    /// Returns the document as compact JSON.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.text.get_or_init(|| {
            let value = self.0.value.get().expect("a payload is made of a text or of a value");
            // Whoever made the tree has looked how deep it is.
            let mut depth = Depth { levels: 0, most: usize::MAX };
            text_of(|bytes| write_tree(value, bytes, &mut depth)).expect("a tree of JSON is written to memory")
        })
    }

    /// Returns the document as a tree.
    #[must_use]
    pub fn value(&self) -> &Arc<Value> {
        self.0.value.get_or_init(|| {
            let text = self.0.text.get().expect("a payload is made of a text or of a value");
            Arc::new(read(text))
        })
    }

    /// Returns the same document as text alone: what is kept of it then is small, and its tree is left to whoever has
    /// this one.
    #[must_use]
    pub(crate) fn as_text(&self) -> Self {
        let _ = self.text();
        Self(Arc::new(Inner { text: self.0.text.clone(), value: OnceLock::new() }))
    }

    /// Returns the tree; it is copied only if somebody else has the document too.
    #[must_use]
    pub(crate) fn into_value(self) -> Value {
        let (text, value) = match Arc::try_unwrap(self.0) {
            Ok(inner) => (inner.text.into_inner(), inner.value.into_inner()),
            Err(shared) => (shared.text.get().cloned(), shared.value.get().cloned()),
        };
        match value {
            Some(value) => Arc::unwrap_or_clone(value),
            None => read(&text.expect("a payload is made of a text or of a value")),
        }
    }
}

/// Returns what `write` writes.
fn text_of(write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>) -> serde_json::Result<Arc<str>> {
    scratch::with(|bytes| {
        write(bytes)?;
        Ok(std::str::from_utf8(bytes).expect("serde_json writes UTF-8").into())
    })
}

/// Reads the text of a payload: it was written by `text` or checked on the way in, and records carry a checksum besides.
fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

/// Tells whether a value nests at most so many levels; looks no deeper than that.
pub(crate) fn is_shallow(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| is_shallow(item, levels - 1)),
        Value::Object(members) => levels > 0 && members.values().all(|member| is_shallow(member, levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// Drops a value level by level, however deep it is; dropping it as it is recurses.
pub(crate) fn dismantle(value: Value) {
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(members) => left.extend(members.into_iter().map(|(_, member)| member)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// Writes a tree as serde_json does, but with its texts whole instead of byte by byte: hardly any has something to escape.
fn write_tree(value: &Value, out: &mut Vec<u8>, depth: &mut Depth) -> serde_json::Result<()> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => return serde_json::to_writer(out, number),
        Value::String(text) => return write_text(text, out),
        Value::Array(items) => {
            depth.down().map_err(serde_json::Error::io)?;
            out.push(b'[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write_tree(item, out, depth)?;
            }
            out.push(b']');
            depth.up();
        }
        Value::Object(members) => {
            depth.down().map_err(serde_json::Error::io)?;
            out.push(b'{');
            for (n, (key, member)) in members.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write_text(key, out)?;
                out.push(b':');
                write_tree(member, out, depth)?;
            }
            out.push(b'}');
            depth.up();
        }
    }
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) -> serde_json::Result<()> {
    // Without a way out in the middle the compiler looks at many bytes at once.
    let escaped = |byte: &u8| (*byte < b' ') | (*byte == b'"') | (*byte == b'\\');
    let any = |bytes: &[u8]| bytes.iter().fold(false, |any, byte| any | escaped(byte));
    if any(text.as_bytes()) {
        return serde_json::to_writer(out, text);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
    Ok(())
}

/// Compact JSON that ends with an error where it would nest too deeply.
struct Depth {
    levels: usize,
    most: usize,
}

impl Depth {
    fn down(&mut self) -> io::Result<()> {
        self.levels += 1;
        if self.levels > self.most && !awake(Bug::DeepValueRecorded) {
            return Err(io::Error::other(format!("it nests more than {DEPTH_MAX} levels deep")));
        }
        Ok(())
    }

    fn up(&mut self) {
        self.levels -= 1;
    }
}

impl serde_json::ser::Formatter for Depth {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.down()?;
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.up();
        writer.write_all(b"]")
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.down()?;
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.up();
        writer.write_all(b"}")
    }
}

impl From<Value> for Payload {
    fn from(value: Value) -> Self {
        Self::of(value)
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.value() == other.value()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// In records a payload is its text, because a tree cannot be read back from a format that does not describe itself.
impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.value().serialize(serializer)
        } else {
            serializer.serialize_str(self.text())
        }
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Ok(Self::of(Value::deserialize(deserializer)?))
        } else {
            let text = String::deserialize(deserializer)?;
            Ok(Self(Arc::new(Inner { text: OnceLock::from(Arc::from(text)), value: OnceLock::new() })))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tree_that_is_kept_is_the_one_that_its_text_is_read_as() {
        let mut state = 1_u64;
        for _ in 0..2_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let float = f64::from_bits(state >> 2);
            let value = json!({ "float": float, "whole": state, "below": i64::MIN, "text": "ä\n\u{1}" });
            let written = Payload::write(value.clone()).expect("it is shallow");
            assert_eq!(**written.value(), value);
            assert_eq!(**written.as_text().value(), value, "{}", written.text());
        }
    }

    #[test]
    fn a_tree_is_written_as_serde_json_writes_it() {
        let odd: String = (0..0x100).filter_map(char::from_u32).chain(['\u{2028}', '\u{1f600}']).collect();
        let mut trees = vec![
            json!({ "": [], "a": {}, "b": [null, true, false, [1, -1, 0.5, 1e300, -0.0, u64::MAX, i64::MIN]] }),
            json!({ odd.clone(): odd.clone() }),
        ];
        // What has to be escaped may be anywhere in a text.
        trees.extend((0..40).map(|at| json!(["x".repeat(at) + "\"" + &"y".repeat(40 - at), "\\", "\u{7f}"])));
        trees.extend(odd.chars().map(|c| json!(c)));
        for tree in trees {
            let expected = serde_json::to_string(&tree).expect("it is written");
            assert_eq!(Payload::of(tree.clone()).text(), expected);
            assert_eq!(Payload::write(tree).expect("it is shallow").text(), expected);
        }
    }

    #[test]
    fn a_value_that_is_a_tree_already_is_not_read_again() {
        let written = Payload::write(json!({ "a": [1] })).expect("it is shallow");
        assert!(written.0.value.get().is_some());
        let written = Payload::write(vec![1]).expect("it is shallow");
        assert!(written.0.value.get().is_none());
        assert_eq!(**written.value(), json!([1]));
    }

    #[test]
    fn a_tree_is_given_away_once_and_copied_for_others() {
        let payload = Payload::of(json!({ "a": "b" }));
        let kept = payload.as_text();
        assert!(kept.0.value.get().is_none());
        assert_eq!(kept.text(), r#"{"a":"b"}"#);
        let shared = payload.clone();
        assert_eq!(payload.into_value(), json!({ "a": "b" }));
        assert_eq!(shared.into_value(), json!({ "a": "b" }));
        let shared = kept.clone();
        assert_eq!(kept.into_value(), json!({ "a": "b" }));
        assert!(shared.0.value.get().is_none(), "a copy for one is not kept for all");
    }
}
