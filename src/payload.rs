//! JSON that is written once and read when somebody asks.
//!
//! A payload is a step's input or output, a signal's data, an error. It travels from the handler to the journal as
//! text; only a template that looks inside makes it a tree, once.

use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A JSON document, cheap to clone.
#[derive(Clone)]
pub struct Payload(Arc<Inner>);

struct Inner {
    text: OnceLock<Box<str>>,
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
    pub fn from_text(text: impl Into<Box<str>>) -> Result<Self, serde_json::Error> {
        let text = text.into();
        let value: Value = serde_json::from_str(&text)?;
        Ok(Self(Arc::new(Inner { text: OnceLock::from(text), value: OnceLock::from(Arc::new(value)) })))
    }

    /// Makes a payload of text that a JSON writer has just produced, without reading it again.
    pub(crate) fn of_json(text: String) -> Self {
        Self(Arc::new(Inner { text: OnceLock::from(text.into_boxed_str()), value: OnceLock::new() }))
    }

    /// Returns the document as compact JSON.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.text.get_or_init(|| {
            let value = self.0.value.get().expect("a payload is made of a text or of a value");
            value.to_string().into()
        })
    }

    /// Returns the document as a tree.
    #[must_use]
    pub fn value(&self) -> &Arc<Value> {
        self.0.value.get_or_init(|| {
            let text = self.0.text.get().expect("a payload is made of a text or of a value");
            // The text was written by `text` or checked on the way in; records carry a checksum besides.
            Arc::new(serde_json::from_str(text).unwrap_or(Value::Null))
        })
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
            Ok(Self(Arc::new(Inner { text: OnceLock::from(text.into_boxed_str()), value: OnceLock::new() })))
        }
    }
}
