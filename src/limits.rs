//! Every limit of flowrun: its name, its default and its unit.

use serde::{Deserialize, Serialize};

/// Says how a limit is raised, to go after what was said about it: a message that is recorded has no help beside it.
pub(crate) fn raised_by(name: &str) -> String {
    format!("; raise it with `--limit {name}=N`")
}

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident = $default:expr;)*) => {
        /// The limits in force; each can be raised by `--limit NAME=N`.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Limits {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            /// The names of all limits.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// Sets the limit called `name`.
            ///
            /// # Errors
            /// When there is no limit of that name.
            pub fn set(&mut self, name: &str, value: u64) -> Result<(), String> {
                match name {
                    $(stringify!($name) => self.$name = value,)*
                    _ => return Err(format!("there is no limit called `{name}`; the limits are {}", Self::NAMES.join(", "))),
                }
                Ok(())
            }
        }
    };
}

limits! {
    /// Bytes of a workflow file.
    definition_bytes = 1 << 20;
    /// Bytes of the input of a run, of a line of JSON Lines, and of the file with a signal's data.
    input_bytes = 1 << 20;
    /// Levels of nesting in a workflow file or a JSON input.
    nesting = 32;
    /// Aliases in a workflow file.
    aliases = 100;
    /// Steps of a workflow.
    steps = 1_000;
    /// Items of a `foreach`.
    items = 10_000;
    /// Bytes of a step's input or output.
    payload_bytes = 1 << 20;
    /// Events of a run, before room is taken for its compensation.
    events = 50_000;
    /// Instructions that one template may use.
    template_fuel = 50_000;
    /// Bytes of text that one template may render.
    rendered_bytes = 1 << 20;
    /// States of possible runs that `verify` looks at.
    states = 5_000_000;
}
