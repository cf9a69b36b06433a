//! What the process returns: the one table of exit codes (SPEC section 9).

use std::process;

use serde::{Deserialize, Serialize};

macro_rules! exit_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $meaning:literal;)*) => {
        /// How flowrun ended, for scripts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(into = "u8", try_from = "u8")]
        pub enum ExitCode {
            $($(#[$doc])* $name,)*
        }

        impl ExitCode {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns the number that the process returns.
            #[must_use]
            pub const fn number(self) -> u8 {
                match self {
                    $(Self::$name => $number,)*
                }
            }

            /// Returns what it means, in a few words.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                }
            }
        }
    };
}

exit_codes! {
    /// What was asked for is done: completed, valid, listed.
    Done = 0, "done";
    /// The run failed, and nothing needed undoing.
    Failed = 1, "failed, nothing needed undoing";
    /// The command line cannot be understood.
    Usage = 2, "usage";
    /// A workflow, an input or a configuration is not valid.
    Invalid = 3, "definition, input or config invalid";
    /// The run failed, and everything it did was undone.
    Undone = 4, "failed, compensation complete";
    /// Something is left that a person has to undo.
    Incomplete = 5, "compensation incomplete: a person is needed";
    /// The run was cancelled, and owes nothing.
    Cancelled = 6, "cancelled, nothing owed";
    /// The run waits or is parked.
    Waiting = 7, "waiting or parked";
    /// There is no such run, step, workflow, handler or signal.
    NotFound = 8, "no such run, step, workflow, handler or signal";
    /// What was asked for contradicts what is there.
    Conflict = 9, "conflict: id with other input, final run, or store not reachable";
    /// The store failed.
    Store = 10, "store: I/O, full, corrupt or newer format";
    /// A mistake of flowrun's own.
    Bug = 70, "our bug";
    /// Ctrl-C; the state is saved.
    Interrupted = 130, "interrupted, state saved";
    /// SIGTERM; the state is saved.
    Terminated = 143, "terminated, state saved";
}

/// Which code stands for several runs: the first of these that occurred.
///
/// SPEC fixes 10, 5, 4, 1, 6, 7, 0. Lines of an input that could not be started (3, 9, 8) come after the runs that
/// failed and before those that merely did not complete.
const WORST_FIRST: [ExitCode; 12] = [
    ExitCode::Bug,
    ExitCode::Store,
    ExitCode::Incomplete,
    ExitCode::Undone,
    ExitCode::Failed,
    ExitCode::Invalid,
    ExitCode::Conflict,
    ExitCode::NotFound,
    ExitCode::Cancelled,
    ExitCode::Waiting,
    ExitCode::Usage,
    ExitCode::Done,
];

impl ExitCode {
    /// Returns the code with this number.
    #[must_use]
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.number() == number)
    }

    /// Returns the code for several runs.
    #[must_use]
    pub fn of_several(codes: impl IntoIterator<Item = Self>) -> Self {
        let place = |code: &Self| WORST_FIRST.iter().position(|c| c == code).unwrap_or(0);
        codes.into_iter().min_by_key(place).unwrap_or(Self::Done)
    }
}

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> Self {
        code.number()
    }
}

impl TryFrom<u8> for ExitCode {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        Self::of_number(number).ok_or_else(|| format!("{number} is no exit code of flowrun"))
    }
}

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> Self {
        code.number().into()
    }
}

#[cfg(test)]
mod tests {
    use super::ExitCode as E;

    #[test]
    fn the_numbers_are_those_of_the_specification() {
        let numbers: Vec<u8> = E::ALL.iter().map(|c| c.number()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 70, 130, 143]);
    }

    #[test]
    fn several_runs_exit_with_the_first_of_the_list_that_occurred() {
        let order = [E::Store, E::Incomplete, E::Undone, E::Failed, E::Cancelled, E::Waiting, E::Done];
        for (n, worst) in order.iter().enumerate() {
            let mut rest = order[n..].to_vec();
            rest.reverse();
            assert_eq!(E::of_several(rest), *worst);
        }
        assert_eq!(E::of_several([]), E::Done);
        assert_eq!(E::of_several([E::Done, E::Invalid, E::Waiting]), E::Invalid);
        assert_eq!(E::of_several([E::Invalid, E::Failed]), E::Failed);
    }
}
