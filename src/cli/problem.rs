//! Why a verb could not do what was asked: what is shown, and the exit code it stands for.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::exit_code::ExitCode;
use crate::engine::EngineError;
use crate::machine::Refusal;
use crate::store::copy::CopyError;
use crate::store::journal::StoreError;

/// Something that kept a verb from being done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Problem {
    /// What the process returns.
    pub(super) exit: ExitCode,
    /// What is wrong, in a line.
    pub(super) message: String,
    /// What else belongs to it, a line each.
    pub(super) details: Vec<String>,
    /// What to do about it.
    pub(super) help: Option<String>,
    /// The process that was asked is ending and has done nothing of it: another one may be asked.
    #[serde(skip)]
    pub(super) untouched: bool,
}

impl Problem {
    pub(super) fn new(exit: ExitCode, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), details: Vec::new(), help: None, untouched: false }
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Invalid, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ExitCode::NotFound, message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Conflict, message)
    }

    pub(super) fn bug(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Bug, message).help("This is a mistake in flowrun. Please report it with this message.")
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn details(mut self, details: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(details);
        self
    }

    /// Returns it as one JSON object.
    pub(super) fn to_json(&self) -> Value {
        json!({ "v": 1, "error": {
            "exit": self.exit.number(), "message": self.message, "details": self.details, "help": self.help,
        } })
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::IdTaken { .. } => Self::conflict(message),
            StoreError::Busy { .. } => Self::conflict(message),
            StoreError::Absent { .. } => Self::not_found(message),
            StoreError::Newer { .. } => {
                Self::new(ExitCode::Store, message).help("Nothing was changed. Use that flowrun, or a newer one.")
            }
            StoreError::NoStore { .. } => Self::new(ExitCode::Store, message),
            StoreError::Corrupt { .. } => Self::new(ExitCode::Store, message)
                .help("Nothing was changed. `flowrun db check` says what is damaged; restore a backup of the file."),
            StoreError::Io { .. } => Self::new(ExitCode::Store, message)
                .help("What was recorded before is safe. Once the disk works again, `flowrun resume` goes on."),
            StoreError::Missing { .. } => Self::new(ExitCode::Store, message)
                .help("`flowrun db check` says what else is damaged; restore a backup of the file."),
            StoreError::Refused { .. } => Self::bug(message),
        }
    }
}

impl From<CopyError> for Problem {
    fn from(error: CopyError) -> Self {
        let message = error.to_string();
        match error {
            CopyError::Exists(_) => {
                Self::conflict(message).help("Nothing is ever replaced: name another file, or remove this one first.")
            }
            CopyError::Target { .. } => Self::new(ExitCode::Store, message)
                .help("There is no backup. The store is not affected; name another place, or make room there."),
            CopyError::Store(error) => error.into(),
            CopyError::Damaged(_, problems) => Self::new(ExitCode::Store, message)
                .details(problems)
                .help("There is no new backup. Keep the last good one; `cp` copies the file as it is."),
            CopyError::Stopped => Self::conflict(message),
        }
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::Store(error) => error.into(),
            EngineError::NotFound { .. } => Self::not_found(message).help("`flowrun list` shows the runs there are."),
            EngineError::Ambiguous { text, candidates } => {
                Self::usage(format!("`{text}` is the beginning of several runs"))
                    .details(candidates)
                    .help("Type as much of the id as only one of them has.")
            }
            EngineError::Refused(Refusal::Final { run, .. }) => {
                Self::conflict(message).help(format!("`flowrun show {run}` shows how it ended."))
            }
            EngineError::Refused(Refusal::Pivot { run }) => Self::conflict(message)
                .help(format!("`flowrun cancel {run} --no-compensate` ends it and lists what is owed.")),
            EngineError::Refused(Refusal::Conflict { .. }) | EngineError::Conflict { .. } => Self::conflict(message),
            EngineError::Refused(Refusal::Unknown { .. }) => Self::not_found(message),
            EngineError::Refused(Refusal::Invalid { .. }) => Self::invalid(message),
            EngineError::Input(errors) => Self::invalid(message).details(errors.into_iter().map(|e| {
                let at = if e.pointer.is_empty() { "the input".to_owned() } else { e.pointer };
                format!("{at}: {}", e.message)
            })),
            EngineError::Secrets(_) => Self::invalid(message)
                .help("The workflow names them under `secrets`; set them in the environment and try again."),
            EngineError::Definition(_) => Self::invalid(message),
            EngineError::Stopping => Self { untouched: true, ..Self::conflict(message) },
            EngineError::Bug(_) => Self::bug(message),
        }
    }
}
