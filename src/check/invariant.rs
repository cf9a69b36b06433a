//! The language of `invariants`: facts joined by `and`, `or`, `not` and parentheses.
//!
//! Owns the grammar and keeps the place of every fact. Whether a fact can ever hold is for the rules to say, and
//! whether a formula does is for `verify`.

use std::ops::Range;

/// Parentheses and `not`s that may stand inside each other.
const NESTING_MAX: usize = 64;

/// How a step can have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// It succeeded.
    Ok,
    /// It failed for good.
    Failed,
    /// Nobody knows whether it was done.
    Unknown,
    /// It was not run.
    Skipped,
}

impl Ending {
    /// The words for the endings.
    pub const WORDS: [&'static str; 4] = ["ok", "failed", "unknown", "skipped"];

    fn of(word: &str) -> Option<Self> {
        match word {
            "ok" => Some(Self::Ok),
            "failed" => Some(Self::Failed),
            "unknown" => Some(Self::Unknown),
            "skipped" => Some(Self::Skipped),
            _ => None,
        }
    }
}

/// Something that is true or false of a run that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// An effect, or the undoing of one, has happened.
    Happened(String),
    /// A step has ended in a certain way.
    Step {
        /// The step.
        step: String,
        /// How it ended.
        ending: Ending,
    },
}

/// A statement about a run that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Formula {
    /// A fact.
    Fact {
        /// The fact.
        fact: Fact,
        /// Where it stands in the text.
        range: Range<usize>,
    },
    /// The opposite.
    Not(Box<Formula>),
    /// All of them.
    All(Vec<Formula>),
    /// At least one of them.
    Any(Vec<Formula>),
}

impl Formula {
    /// Returns all facts with their places, in the order of the text.
    #[must_use]
    pub fn facts(&self) -> Vec<(&Fact, Range<usize>)> {
        let mut facts = Vec::new();
        let mut open = vec![self];
        while let Some(formula) = open.pop() {
            match formula {
                Self::Fact { fact, range } => facts.push((fact, range.clone())),
                Self::Not(inner) => open.push(inner),
                Self::All(parts) | Self::Any(parts) => open.extend(parts.iter().rev()),
            }
        }
        facts
    }

    /// Tells whether the formula is true where `holds` says which facts are.
    pub fn holds(&self, facts: &impl Fn(&Fact) -> bool) -> bool {
        match self {
            Self::Fact { fact, .. } => facts(fact),
            Self::Not(inner) => !inner.holds(facts),
            Self::All(parts) => parts.iter().all(|p| p.holds(facts)),
            Self::Any(parts) => parts.iter().any(|p| p.holds(facts)),
        }
    }
}

/// What is wrong with the text of an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvariantError {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Where, in bytes of the text.
    pub range: Range<usize>,
}

/// Reads an invariant.
///
/// # Errors
/// Says what is wrong, and where.
pub fn parse(text: &str) -> Result<Formula, InvariantError> {
    let mut parser = Parser { words: words(text)?, next: 0, end: text.len(), depth: 0 };
    let formula = parser.any()?;
    match parser.words.get(parser.next) {
        None => Ok(formula),
        Some(word) if word.text == ")" => Err(error("this parenthesis was never opened", None, word.range.clone())),
        Some(word) => Err(error(
            format!("expected `and` or `or` before `{}`", word.text),
            Some("An invariant joins facts by `and`, `or`, `not` and parentheses.".to_owned()),
            word.range.clone(),
        )),
    }
}

#[derive(Clone, Debug)]
struct Word<'t> {
    text: &'t str,
    range: Range<usize>,
}

fn words(text: &str) -> Result<Vec<Word<'_>>, InvariantError> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let mut words = Vec::new();
    let mut rest = text.char_indices().peekable();
    while let Some((start, c)) = rest.next() {
        if c.is_whitespace() {
            continue;
        }
        let mut end = start + c.len_utf8();
        if is_name(c) {
            while let Some((at, c)) = rest.next_if(|(_, c)| is_name(*c)) {
                end = at + c.len_utf8();
            }
        } else if !matches!(c, '(' | ')') {
            let help = match c {
                '&' => "Write `and`.",
                '|' => "Write `or`.",
                '!' => "Write `not`.",
                _ => "An invariant joins facts by `and`, `or`, `not` and parentheses.",
            };
            return Err(error(format!("`{c}` has no meaning in an invariant"), Some(help.to_owned()), start..end));
        }
        words.push(Word { text: &text[start..end], range: start..end });
    }
    Ok(words)
}

fn error(message: impl Into<String>, help: Option<String>, range: Range<usize>) -> InvariantError {
    InvariantError { message: message.into(), help, range }
}

struct Parser<'t> {
    words: Vec<Word<'t>>,
    next: usize,
    end: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn take(&mut self, wanted: &str) -> bool {
        let found = self.words.get(self.next).is_some_and(|w| w.text == wanted);
        self.next += usize::from(found);
        found
    }

    fn any(&mut self) -> Result<Formula, InvariantError> {
        let mut parts = vec![self.all()?];
        while self.take("or") {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Formula::Any(parts) })
    }

    fn all(&mut self) -> Result<Formula, InvariantError> {
        let mut parts = vec![self.one()?];
        while self.take("and") {
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Formula::All(parts) })
    }

    fn one(&mut self) -> Result<Formula, InvariantError> {
        let Some(word) = self.words.get(self.next).cloned() else {
            return Err(error("a fact is missing at the end", None, self.end..self.end));
        };
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(error(format!("more than {NESTING_MAX} levels of nesting"), None, word.range));
        }
        self.next += 1;
        let formula = match word.text {
            "not" => Formula::Not(Box::new(self.one()?)),
            "(" => {
                let inner = self.any()?;
                if !self.take(")") {
                    return Err(match self.words.get(self.next) {
                        None => error("this parenthesis is never closed", None, word.range),
                        Some(w) => {
                            error(format!("expected `and`, `or` or `)` before `{}`", w.text), None, w.range.clone())
                        }
                    });
                }
                inner
            }
            ")" | "and" | "or" => {
                return Err(error(format!("a fact is missing before `{}`", word.text), None, word.range));
            }
            _ => Formula::Fact { fact: fact(&word)?, range: word.range },
        };
        self.depth -= 1;
        Ok(formula)
    }
}

fn fact(word: &Word<'_>) -> Result<Fact, InvariantError> {
    let Some((step, ending)) = word.text.rsplit_once('.') else {
        return Ok(Fact::Happened(word.text.to_owned()));
    };
    match Ending::of(ending) {
        Some(ending) => Ok(Fact::Step { step: step.to_owned(), ending }),
        None => {
            let start = word.range.end - ending.len();
            let help = "Of a step an invariant can say `STEP.ok`, `STEP.failed`, `STEP.unknown` and `STEP.skipped`.";
            Err(error(format!("`{ending}` is not how a step ends"), Some(help.to_owned()), start..word.range.end))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ending, Fact, Formula, parse};

    fn truth(text: &str, true_facts: &[&str]) -> bool {
        parse(text).expect("it parses").holds(&|fact| match fact {
            Fact::Happened(name) => true_facts.contains(&name.as_str()),
            Fact::Step { step, ending } => true_facts.contains(&format!("{step}.{ending:?}").to_lowercase().as_str()),
        })
    }

    #[test]
    fn and_binds_closer_than_or_and_not_closest() {
        let text = "charged and not (labelled or handed_over) and not refunded";
        assert!(truth(text, &["charged"]));
        assert!(!truth(text, &["charged", "handed_over"]));
        assert!(!truth(text, &["charged", "refunded"]));
        assert!(truth("a or b and c", &["a"]));
        assert!(!truth("(a or b) and c", &["a"]));
        assert!(truth("not a and b", &["b"]));
        assert!(truth("not not ship.failed", &["ship.failed"]));
    }

    #[test]
    fn facts_keep_their_places() {
        let text = "charged and not (ship.ok or x)";
        let formula = parse(text).expect("it parses");
        let facts = formula.facts();
        let seen: Vec<&str> = facts.iter().map(|(_, range)| &text[range.clone()]).collect();
        assert_eq!(seen, ["charged", "ship.ok", "x"]);
        assert_eq!(*facts[1].0, Fact::Step { step: "ship".to_owned(), ending: Ending::Ok });
    }

    #[test]
    fn mistakes_are_shown_where_they_are() {
        for (text, at, message) in [
            ("charged and", 11..11, "a fact is missing at the end"),
            ("", 0..0, "a fact is missing at the end"),
            ("and charged", 0..3, "a fact is missing before `and`"),
            ("(charged or x", 0..1, "this parenthesis is never closed"),
            ("charged)", 7..8, "this parenthesis was never opened"),
            ("charged labelled", 8..16, "expected `and` or `or` before `labelled`"),
            ("(charged labelled)", 9..17, "expected `and`, `or` or `)` before `labelled`"),
            ("charged && x", 8..9, "`&` has no meaning in an invariant"),
            ("ship.done", 5..9, "`done` is not how a step ends"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!((error.range, error.message.as_str()), (at, message), "{text}");
        }
        let deep = format!("{}a{}", "(".repeat(100), ")".repeat(100));
        assert!(parse(&deep).expect_err("too deep").message.contains("nesting"));
        assert!(matches!(parse("a"), Ok(Formula::Fact { .. })));
    }
}
