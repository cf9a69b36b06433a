//! The kinds of findings: one code each, stable, so that tools and people can look them up.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        /// What kind of finding it is. The number never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FindingCode {
            $($(#[$doc])* $name,)*
        }

        impl FindingCode {
            /// All kinds of findings.
            pub const ALL: &'static [FindingCode] = &[$(Self::$name),*];

            /// Returns the code as it is shown: `FR0201`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }
        }
    };
}

codes! {
    // 01: the text itself.
    /// The file cannot be read.
    Unreadable = "FR0101";
    /// The file is not UTF-8, or holds characters that no text has.
    Encoding = "FR0102";
    /// The file is not YAML.
    Syntax = "FR0103";
    /// A bracket, a brace or a quote is never closed.
    Unclosed = "FR0104";
    /// A template stands without quotes where YAML reads it as a map.
    UnquotedTemplate = "FR0105";
    /// YAML that workflow files do without: tags, merge keys, several documents, directives.
    UnsupportedYaml = "FR0106";
    /// A key stands twice in one map.
    DuplicateKey = "FR0107";
    /// A key that is no name.
    BadKey = "FR0108";
    /// A number that cannot be kept exactly.
    BadNumber = "FR0109";
    /// A limit is exceeded.
    Limit = "FR0110";

    // 02: the shape of the workflow file.
    /// A key that does not exist.
    UnknownKey = "FR0201";
    /// A required key is missing.
    MissingKey = "FR0202";
    /// A value of the wrong type.
    WrongType = "FR0203";
    /// A key without a value.
    NoValue = "FR0204";
    /// A value that is not among the possible ones.
    UnknownValue = "FR0205";
    /// A name of the wrong form.
    BadName = "FR0206";
    /// A number that is too small or too large.
    OutOfRange = "FR0207";
    /// A duration that cannot be understood.
    BadDuration = "FR0208";
    /// Keys that exclude each other, or do not go together.
    Excludes = "FR0209";
    /// A name that is given twice.
    DuplicateName = "FR0210";
    /// The language version is not known.
    Version = "FR0211";
    /// Something that is not built yet.
    NotBuilt = "FR0212";
    /// A JSON Schema that is none.
    BadSchema = "FR0213";
    /// A `$ref` that leads nowhere, or out of the project.
    BadRef = "FR0214";
    /// A value of `--config` or `--set` that does not fit.
    BadOverride = "FR0215";

    // 03: names that refer to something.
    /// No handler of that name.
    UnknownHandler = "FR0301";
    /// No step of that name.
    UnknownStep = "FR0302";
    /// No service of that name.
    UnknownService = "FR0303";
    /// No retry policy of that name.
    UnknownRetry = "FR0304";
    /// No such configuration value.
    UnknownConfig = "FR0305";
    /// No secret of that name.
    UnknownSecret = "FR0306";
    /// No field of that name.
    UnknownField = "FR0307";
    /// No variable of that name.
    UnknownVariable = "FR0308";
    /// An error code that cannot occur.
    UnknownErrorCode = "FR0309";
    /// A name that exists, but cannot be read at this place.
    NotInScope = "FR0310";
    /// An effect or undo in an invariant that no handler of the workflow has.
    UnknownFact = "FR0311";
    /// An invariant that cannot be understood.
    InvariantSyntax = "FR0312";
    /// A name that already means something else.
    NameTaken = "FR0313";

    // 04: templates and references.
    /// A template that cannot be understood.
    TemplateSyntax = "FR0401";
    /// A secret where none may stand.
    SecretMisused = "FR0402";
    /// A `foreach` over what is no list.
    NotAList = "FR0403";
    /// An `until` that is no point in time.
    NotATime = "FR0404";

    // 05: policies.
    /// A value that does not fit its policy field.
    SettingMisfit = "FR0501";
    /// An error that is never tried again, in a retry.
    NotRetryable = "FR0502";
    /// A handler in `confirm` that does not confirm.
    NotAConfirm = "FR0503";
    /// Retry policies that start from each other.
    RetryCircle = "FR0504";
    /// A step that does not say what happens when all it needs is skipped.
    SkipUndecided = "FR0505";

    // 06: the graph.
    /// Steps that wait for each other.
    Cycle = "FR0601";
    /// A step that waits for itself.
    NeedsItself = "FR0602";

    // 07: the input of handlers.
    /// A field that the handler's input does not have.
    UnknownInputField = "FR0701";
    /// A field that the handler's input must have.
    MissingInputField = "FR0702";
    /// A literal that does not fit the handler's input.
    WrongLiteral = "FR0703";
    /// A value of the data flow that does not fit the handler's input.
    WrongFlow = "FR0704";
    /// A value of the data flow that does not fit the handler's input on some path.
    MayNotFit = "FR0705";

    // 08: what can run but is probably not meant.
    /// A value that may be missing where it is read.
    MayBeMissing = "FR0801";
    /// A retry policy that is never used.
    UnusedRetry = "FR0802";
    /// A service that is never used.
    UnusedService = "FR0803";
    /// A configuration value that is never used.
    UnusedConfig = "FR0804";
    /// A secret that is never used.
    UnusedSecret = "FR0805";
    /// A fallback that can never be used.
    FallbackNeverUsed = "FR0806";
    /// A deadline that a run may miss although nothing is wrong.
    DeadlineTooShort = "FR0807";
    /// An undo of a handler that declares no effect.
    NothingToUndo = "FR0808";
    /// A division that turns whole numbers into a fraction.
    FloatDivision = "FR0809";
    /// A first delay that the longest delay cuts short.
    DelayCutShort = "FR0810";

    // 09: what some run can come to; `flowrun verify` tells how.
    /// An effect that no result speaks for and nothing takes back.
    LeftBehind = "FR0901";
    /// An effect that can happen twice.
    HappensTwice = "FR0902";
    /// Something that is read and is missing on some path.
    MissingInput = "FR0903";
    /// A point of no return that can be undone.
    PivotUndone = "FR0904";
    /// A step that is undone before one that depends on it.
    UndoOrder = "FR0905";
    /// A wait that nothing ends.
    WaitsForEver = "FR0906";
    /// An invariant that can be broken.
    InvariantBroken = "FR0907";
    /// A part that no run reaches.
    NeverReached = "FR0908";
    /// A harmless step whose failure undoes what others did.
    CostlyFailure = "FR0909";
}

impl fmt::Display for FindingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::FindingCode;

    #[test]
    fn no_code_is_used_twice() {
        let codes: BTreeSet<_> = FindingCode::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(codes.len(), FindingCode::ALL.len());
        assert!(codes.iter().all(|c| c.len() == 6 && c.starts_with("FR")));
    }
}
