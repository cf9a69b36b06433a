//! One finding: what is wrong, where, and what to do.

use super::{FindingCode, Span};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The workflow cannot run.
    Error,
    /// The workflow can run, but probably not as meant.
    Warning,
}

impl Severity {
    /// Returns the word that is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// What is wrong in a file, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of finding it is.
    pub code: FindingCode,
    /// How bad it is.
    pub severity: Severity,
    /// What was found and what was expected: a lower-case fragment without a full stop.
    pub message: String,
    /// What to do about it: a full sentence.
    pub help: Option<String>,
    /// Where it is.
    pub span: Span,
    /// What stands beside the underline.
    pub label: Option<String>,
    /// Other places that belong to it, each with what to say there.
    pub related: Vec<(Span, String)>,
}

impl Finding {
    /// Makes an error.
    #[must_use]
    pub fn error(code: FindingCode, span: Span, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            help: None,
            span,
            label: None,
            related: Vec::new(),
        }
    }

    /// Makes a warning.
    #[must_use]
    pub fn warning(code: FindingCode, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds what to do about it, if there is anything to say.
    #[must_use]
    pub fn help_if(mut self, help: Option<impl Into<String>>) -> Self {
        self.help = help.map(Into::into).or(self.help);
        self
    }

    /// Adds what stands beside the underline.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }
}

/// Sorts findings by their place in the file and drops those that say the same about the same place.
pub fn in_file_order(findings: &mut Vec<Finding>) {
    findings.sort_by_key(|finding| (finding.span.start, finding.severity, finding.code));
    findings.dedup_by(|a, b| a.span == b.span && a.code == b.code && a.message == b.message);
}
