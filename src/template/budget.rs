//! What one evaluation may use: steps of work, bytes of text, and size of its result.
//!
//! Whatever allocates asks here first, so a limit is an error and never an allocation.

use std::ops::Range;

use serde_json::Value;

use super::TemplateError;
use crate::limits::Limits;

/// Work is counted in units, so that a byte can be charged without rounding; one fuel is this many.
const UNITS_PER_FUEL: u64 = 64;
/// One node evaluated.
pub(super) const NODE: u64 = UNITS_PER_FUEL;
/// One item visited, compared or copied.
pub(super) const ITEM: u64 = 16;
/// Levels of a value that a template builds; what builds and drops values recurses.
const DEPTH_MAX: usize = 100;

/// What went wrong, before it is known where.
#[derive(Debug)]
pub(super) struct Fault {
    pub message: String,
    pub help: Option<String>,
    pub limit: bool,
}

impl Fault {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, limit: false }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Returns it as an error at `range`.
    pub fn at(self, range: &Range<usize>) -> TemplateError {
        TemplateError { message: self.message, help: self.help, range: Some(range.clone()), limit: self.limit }
    }
}

/// What is left to use.
#[derive(Debug)]
pub(super) struct Budget {
    fuel: u64,
    units: u64,
    text_max: u64,
    text: u64,
    size_max: u64,
    size: u64,
}

impl Budget {
    pub fn new(limits: &Limits) -> Self {
        // A value passed through whole may be as large as any input; text is held to its own limit.
        let size_max = limits.rendered_bytes.max(limits.payload_bytes);
        Self {
            fuel: limits.template_fuel,
            units: limits.template_fuel.saturating_mul(UNITS_PER_FUEL),
            text_max: limits.rendered_bytes,
            text: limits.rendered_bytes,
            size_max,
            size: size_max,
        }
    }

    /// Pays for work.
    pub fn spend(&mut self, units: u64) -> Result<(), Fault> {
        match self.units.checked_sub(units) {
            Some(left) => {
                self.units = left;
                Ok(())
            }
            None => {
                self.units = 0;
                Err(Fault {
                    message: format!("the template needs more than {} units of work", self.fuel),
                    help: Some("Move the computation into a handler, or raise `--limit template_fuel=N`.".to_owned()),
                    limit: true,
                })
            }
        }
    }

    /// Pays for visiting `count` items.
    pub fn items(&mut self, count: usize) -> Result<(), Fault> {
        self.spend((count as u64).saturating_mul(ITEM))
    }

    /// Pays for a text of `bytes` that is about to be made.
    pub fn string(&mut self, bytes: usize) -> Result<(), Fault> {
        self.string_fits(bytes)?;
        self.spend(bytes as u64)
    }

    /// Checks that a text of `bytes` is allowed.
    pub fn string_fits(&self, bytes: usize) -> Result<(), Fault> {
        if bytes as u64 > self.text_max {
            return Err(too_large(self.text_max, "rendered_bytes"));
        }
        Ok(())
    }

    /// Pays for `bytes` of the final text.
    pub fn rendered(&mut self, bytes: usize) -> Result<(), Fault> {
        match self.text.checked_sub(bytes as u64) {
            Some(left) => {
                self.text = left;
                self.produced(bytes)
            }
            None => Err(too_large(self.text_max, "rendered_bytes")),
        }
    }

    /// Pays for `bytes` of the final value.
    fn produced(&mut self, bytes: usize) -> Result<(), Fault> {
        match self.size.checked_sub(bytes as u64) {
            Some(left) => {
                self.size = left;
                Ok(())
            }
            None => Err(too_large(self.size_max, "rendered_bytes")),
        }
    }

    /// Copies a value into another value.
    pub fn copy(&mut self, value: &Value) -> Result<Value, Fault> {
        self.charge(value, 0)?;
        Ok(value.clone())
    }

    /// Pays for a walk over a value and all it contains.
    fn charge(&mut self, value: &Value, depth: usize) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault {
                message: format!("the template builds a value of more than {DEPTH_MAX} levels"),
                help: None,
                limit: true,
            });
        }
        self.spend(ITEM)?;
        match value {
            Value::String(text) => self.spend(text.len() as u64),
            Value::Array(items) => items.iter().try_for_each(|item| self.charge(item, depth + 1)),
            Value::Object(members) => members.iter().try_for_each(|(key, member)| {
                self.spend(key.len() as u64 + ITEM)?;
                self.charge(member, depth + 1)
            }),
            _ => Ok(()),
        }
    }

    /// Pays for a value that becomes a part of the result.
    pub fn result(&mut self, value: &Value) -> Result<(), Fault> {
        match value {
            Value::String(text) => self.produced(text.len() + 2),
            Value::Array(items) => {
                self.produced(2 + items.len())?;
                items.iter().try_for_each(|item| self.result(item))
            }
            Value::Object(members) => {
                self.produced(2)?;
                members.iter().try_for_each(|(key, member)| {
                    self.produced(key.len() + 4)?;
                    self.result(member)
                })
            }
            _ => self.produced(4),
        }
    }
}

fn too_large(limit: u64, name: &str) -> Fault {
    Fault {
        message: format!("the template renders more than {limit} bytes"),
        help: Some(format!("Pass less through the template, or raise `--limit {name}=N`.")),
        limit: true,
    }
}
