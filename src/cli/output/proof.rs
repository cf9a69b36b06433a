//! A proof on one screen, or the stories of what goes wrong; and the same as JSON.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::paint::{Tone, columns, wrapped};
use super::screen::Screen;
use crate::cli::workflow::counted;
use crate::definition::Loaded;
use crate::diag::{SourceFile, Span};
use crate::plan::Plan;
use crate::plan::draw::time_text;
use crate::proof::{Fix, Flaw, Proof, Remark, Row, Story, Verdict, span};
use crate::scenario::story::FlawKind;
use crate::verify::findings::Problem;
use crate::verify::sketch::Member;

/// A flaw with its story and, if one was found, an edit that removes it.
pub(in crate::cli) struct Told<'a> {
    pub(in crate::cli) flaw: &'a Flaw<'a>,
    pub(in crate::cli) story: Story,
    pub(in crate::cli) fix: Option<Fix>,
    pub(in crate::cli) replay: Replay,
}

/// What became of a story when it was played on the real engine.
pub(in crate::cli) enum Replay {
    /// It came to the same.
    Shown,
    /// The run ended with this status, and did not come to it.
    Otherwise(String),
    /// It cannot be played.
    Impossible(String),
}

impl Replay {
    fn words(&self) -> String {
        match self {
            Self::Shown => "played on the real engine, it came to the same".to_owned(),
            Self::Otherwise(status) => format!("played on the real engine, it came to something else ({status})"),
            Self::Impossible(why) => format!("not played on the real engine: {why}"),
        }
    }
}

/// Everything that is shown of one file.
pub(in crate::cli) struct Page<'a> {
    pub(in crate::cli) path: &'a Path,
    pub(in crate::cli) file: &'a SourceFile,
    pub(in crate::cli) loaded: &'a Loaded,
    pub(in crate::cli) plan: &'a Plan,
    pub(in crate::cli) proof: &'a Proof,
    pub(in crate::cli) told: &'a [Told<'a>],
    pub(in crate::cli) took: Duration,
}

/// How wide a table is on a page that nobody sees at once.
const TABLE_MAX: usize = 120;

/// How wide prose is that stands under a table.
const PROSE_MAX: usize = 106;

/// What can be done about a search that reached its limit.
const RAISE: &str = "Nothing is known of the rest. Raise the limit with `--limit states=N`.";

/// One of the questions that a proof answers.
struct Asked {
    question: &'static str,
    answer: String,
    tone: Tone,
    more: String,
}

/// Returns the answer about a file that is not valid.
pub(in crate::cli) fn invalid(path: &Path, findings: Vec<Value>) -> Value {
    json!({ "path": path.display().to_string(), "verdict": "invalid", "findings": findings })
}

impl Page<'_> {
    /// Returns the page for people.
    pub(in crate::cli) fn text(&self, screen: &Screen, contracts: bool) -> String {
        let paint = screen.out;
        let mut out = String::new();
        let (tone, verdict) = self.verdict();
        let head = format!("{}   {}", self.path.display(), self.size());
        let used = columns(&head) + columns(&verdict);
        let gap = match screen.out_width() {
            Some(width) if used + 3 > width => "\n".to_owned(),
            _ => " ".repeat(78_usize.saturating_sub(used).max(3)),
        };
        let _ = writeln!(out, "{}{gap}{}\n", paint.text(Tone::Strong, &head), paint.text(tone, &verdict));
        for told in self.told {
            out.push_str(&self.flaw(told, screen));
        }
        if self.proof.verdict() == Verdict::LimitReached {
            prose(&mut out, screen, 2, "", RAISE, None);
            out.push('\n');
        } else {
            for asked in self.questions() {
                let head = format!("{:<37}{}", asked.question, paint.text(asked.tone, &format!("{:<7}", asked.answer)));
                let room = screen.out_width().map_or(usize::MAX, |width| width.saturating_sub(46).max(20));
                for (nth, line) in wrapped(&asked.more, room).iter().enumerate() {
                    let _ = if nth == 0 { writeln!(out, "  {head}{line}") } else { writeln!(out, "{:46}{line}", "") };
                }
            }
            out.push('\n');
        }
        for remark in self.proof.remarks(self.plan) {
            self.title(&mut out, screen, (Tone::Care, "!"), &remark.title, &remark.site);
            prose(&mut out, screen, 4, "why:", &remark.why, None);
            prose(&mut out, screen, 4, "do: ", &remark.help, None);
            out.push('\n');
        }
        if self.proof.verdict() != Verdict::LimitReached {
            out.push_str(&self.covered(contracts, screen));
        }
        out
    }

    fn verdict(&self) -> (Tone, String) {
        let took = format!("{:.1} ms", self.took.as_secs_f64() * 1e3);
        match self.proof.verdict() {
            Verdict::Proved => match self.proof.remarks(self.plan).len() {
                0 => (Tone::Good, format!("PROVED in {took}")),
                many => (Tone::Good, format!("PROVED in {took}, {} below", counted(many, "remark"))),
            },
            Verdict::Flawed => (Tone::Bad, format!("NOT PROVED: {}", counted(self.told.len(), "violation"))),
            Verdict::LimitReached => (Tone::Bad, "NOT PROVED: limit reached".to_owned()),
        }
    }

    fn size(&self) -> String {
        let members: Vec<&Member> = self.proof.sketch.members().collect();
        let effects: BTreeSet<usize> = members.iter().filter_map(|member| member.effect).collect();
        let undos = members.iter().filter(|member| member.undo.is_some()).count();
        [counted(self.proof.sketch.steps.len(), "step"), counted(effects.len(), "effect"), counted(undos, "undo")]
            .join(", ")
    }

    /// The questions, each with its answer in a word and a reason.
    fn questions(&self) -> Vec<Asked> {
        let count = |is: fn(&Problem) -> bool| self.told.iter().filter(|told| is(told.flaw.problem)).count();
        let ask = |question, bad: usize, more: String| Asked {
            question,
            answer: if bad == 0 { "no".to_owned() } else { "YES".to_owned() },
            tone: if bad == 0 { Tone::Good } else { Tone::Bad },
            more: if bad == 0 { more } else { counted(bad, "way") + ", see above" },
        };
        let members: Vec<&Member> = self.proof.sketch.members().collect();
        let mut effects: Vec<&str> = Vec::new();
        for member in members.iter().filter(|member| !member.harmless) {
            if let Some(effect) = member.effect.and_then(|effect| self.proof.sketch.effects.get(effect))
                && !effects.contains(&effect.as_str())
            {
                effects.push(effect);
            }
        }
        let kept = if effects.is_empty() {
            "no step leaves anything that matters".to_owned()
        } else {
            format!("every run keeps or undoes {}", short(&effects))
        };
        let timing = &self.proof.timing;
        let mut longest = format!("every run ends; the way forward takes {} at most", time_text(timing.longest));
        if !timing.open.is_empty() {
            longest = format!("every run ends; {} plus {}", time_text(timing.longest), short(&timing.open));
        }
        if let Some(deadline) = timing.deadline {
            let _ = write!(longest, ", deadline {}", time_text(deadline));
        }
        let repeated = members.iter().filter(|member| member.effect.is_some() && member.repeatable).count();
        let pivots: Vec<&str> =
            self.proof.sketch.steps.iter().filter(|step| step.pivot).map(|step| step.name.as_str()).collect();
        let pivot = if pivots.is_empty() { "there is none".to_owned() } else { short(&pivots) };
        let left = |p: &Problem| matches!(p, Problem::LeftByCompleted(_) | Problem::LeftByUndone(_));
        let mut asked = vec![
            ask("can it get stuck?", count(|p| matches!(p, Problem::WaitsForEver(_))), longest),
            ask("can an effect be left behind?", count(left), kept),
            ask(
                "can something happen twice?",
                count(|p| matches!(p, Problem::Twice(_))),
                match repeated {
                    0 => "no call that leaves something is ever repeated after an unclear answer".to_owned(),
                    1 => "1 call may be repeated, by its contract without harm".to_owned(),
                    many => format!("{many} calls may be repeated, by their contracts without harm"),
                },
            ),
            ask(
                "can a step or undo miss its input?",
                count(|p| matches!(p, Problem::Missing(_))),
                "also on the paths of fallbacks, skips and undos".to_owned(),
            ),
            ask("can a point of no return be undone?", count(|p| matches!(p, Problem::PivotUndone(_))), pivot),
            ask(
                "can an undo come too early?",
                count(|p| matches!(p, Problem::UndoOrder(..))),
                "each waits for all that depends on its step".to_owned(),
            ),
        ];
        let invariants = self.proof.sketch.invariants.len();
        if invariants > 0 {
            let broken = count(|p| matches!(p, Problem::Invariant(_)));
            asked.push(Asked {
                question: "do the file's invariants hold?",
                answer: if broken == 0 { "yes".to_owned() } else { "NO".to_owned() },
                tone: if broken == 0 { Tone::Good } else { Tone::Bad },
                more: format!("{} of {invariants}", invariants - broken),
            });
        }
        asked
    }

    fn covered(&self, contracts: bool, screen: &Screen) -> String {
        let mut out = String::new();
        let mut persons: Vec<String> = self.proof.persons().into_iter().map(|(_, text)| text).collect();
        persons.dedup();
        if !persons.is_empty() {
            let _ = writeln!(out, "  A person is needed if:");
            for person in &persons {
                prose(&mut out, screen, 4, "", person, None);
            }
        }
        let states = self.proof.found.as_ref().map_or(0, |found| found.states);
        let covered = format!(
            "Covered: success, failure and unclear answer of every call, a death of the process at any moment, cancel \
             and deadline at any moment, failing undos, absent signals, both ways of every condition ({states} states)."
        );
        prose(&mut out, screen, 2, "", &covered, Some(PROSE_MAX));
        let trusted = self.proof.trusted();
        if contracts {
            let _ = writeln!(out, "  Taken on trust:");
            for (handler, what) in &trusted {
                prose(&mut out, screen, 4, &format!("{handler:<27}"), what, None);
            }
        } else if !trusted.is_empty() {
            let who = match trusted.len() {
                1 => "1 handler declares about itself".to_owned(),
                many => format!("{many} handlers declare about themselves"),
            };
            let trust = format!("Taken on trust: what {who} (`--contracts` lists it).");
            prose(&mut out, screen, 2, "", &trust, None);
        }
        out
    }

    fn flaw(&self, told: &Told<'_>, screen: &Screen) -> String {
        let mut out = String::new();
        self.title(&mut out, screen, (Tone::Bad, "x"), &told.flaw.title, &told.flaw.site);
        let faults = match told.story.faults {
            0 => "nothing has to go wrong for it".to_owned(),
            n => format!("it takes {}", counted(n as usize, "fault")),
        };
        let told_how = format!("the shortest story; {faults}; {}", told.replay.words());
        prose(&mut out, screen, 4, "", &told_how, None);
        for given in &told.story.given {
            prose(&mut out, screen, 4, "", given, None);
        }
        out.push('\n');
        out.push_str(&self.table(&told.story, screen));
        out.push('\n');
        prose(&mut out, screen, 4, "why:", &told.flaw.why, None);
        if let Some(fix) = &told.fix {
            out.push_str(&fix_text(fix, screen));
        }
        out.push('\n');
        out
    }

    /// A title with its place, and the line of the file under it.
    fn title(
        &self,
        out: &mut String,
        screen: &Screen,
        (tone, sign): (Tone, &str),
        title: &str,
        site: &crate::verify::sketch::Site,
    ) {
        let paint = screen.out;
        let line = self.line(site);
        let place = format!("{}:{line}", self.path.display());
        let room = screen.out_width().map_or(usize::MAX, |width| width.saturating_sub(4));
        let lines = wrapped(title, room);
        let fits = lines.last().is_some_and(|last| columns(last) + 2 + columns(&place) <= room);
        for (nth, line) in lines.iter().enumerate() {
            let sign = if nth == 0 { paint.text(tone, sign) } else { " ".to_owned() };
            let end = if nth + 1 == lines.len() && fits { format!("  {place}") } else { String::new() };
            let _ = writeln!(out, "  {sign} {}{end}", paint.text(Tone::Strong, line));
        }
        if !fits {
            let _ = writeln!(out, "    {place}");
        }
        let source = self.file.text.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim_end();
        let number = format!("{line} |");
        let _ = writeln!(out, "    {} {source}", paint.text(Tone::Quiet, &number));
    }

    fn table(&self, story: &Story, screen: &Screen) -> String {
        let paint = screen.out;
        let width = |of: fn(&Row) -> &str, head: &str| {
            story.rows.iter().map(|row| columns(of(row))).max().unwrap_or(0).max(columns(head))
        };
        let all = screen.out_width().unwrap_or(TABLE_MAX);
        let knows = width(|row| &row.knows, "flowrun knows").min(24);
        let world = width(|row| &row.world, "the world").min(24);
        let what = width(|row| &row.what, "what happens").min(all.saturating_sub(19 + knows + world).max(24));
        let mut out = String::new();
        let head = format!("    {:>9}  {:<what$}  {:<knows$}  the world", "time", "what happens", "flowrun knows");
        let _ = writeln!(out, "{}", paint.text(Tone::Quiet, &head));
        for row in &story.rows {
            let at = row.at.map_or_else(|| "later".to_owned(), clock);
            let cells = [wrapped(&row.what, what), wrapped(&row.knows, knows), wrapped(&row.world, world)];
            for nth in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
                let [what_now, knows_now, world_now] =
                    [0, 1, 2].map(|cell| cells[cell].get(nth).map_or("", String::as_str));
                let at = if nth == 0 { at.as_str() } else { "" };
                let text = format!("    {at:>9}  {what_now:<what$}  {knows_now:<knows$}  {world_now}");
                let text = text.trim_end();
                let _ = writeln!(out, "{}", if row.bad { paint.text(Tone::Bad, text) } else { text.to_owned() });
            }
        }
        out
    }

    fn line(&self, site: &crate::verify::sketch::Site) -> usize {
        let span: Span = span(&self.loaded.parsed.tree, site);
        self.file.place(span.start).line
    }

    /// Returns the page for programs.
    pub(in crate::cli) fn json(&self) -> Value {
        let verdict = match self.proof.verdict() {
            Verdict::Proved => "proved",
            Verdict::Flawed => "not_proved",
            Verdict::LimitReached => "limit_reached",
        };
        let persons: Vec<String> = self.proof.persons().into_iter().map(|(_, text)| text).collect();
        let remark = |remark: Remark| json!({ "title": remark.title, "why": remark.why, "help": remark.help, "line": self.line(&remark.site) });
        let remarks: Vec<Value> = self.proof.remarks(self.plan).into_iter().map(remark).collect();
        let trusted: Vec<Value> = self
            .proof
            .trusted()
            .into_iter()
            .map(|(handler, declares)| json!({ "handler": handler, "declares": declares }))
            .collect();
        json!({
            "path": self.path.display().to_string(),
            "workflow": self.proof.sketch.name,
            "verdict": verdict,
            "help": (self.proof.verdict() == Verdict::LimitReached).then_some(RAISE),
            "states": match &self.proof.found { Ok(found) => found.states, Err(limit) => limit.states },
            "violations": self.told.iter().map(|told| self.violation(told)).collect::<Vec<_>>(),
            "remarks": remarks,
            "needs_person": persons,
            "trusted": trusted,
            "longest_ms": u64::try_from(self.proof.timing.longest.as_millis()).unwrap_or(u64::MAX),
            "deadline_ms": self.proof.timing.deadline.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        })
    }

    fn violation(&self, told: &Told<'_>) -> Value {
        let span = span(&self.loaded.parsed.tree, &told.flaw.site);
        let place = self.file.place(span.start);
        let rows: Vec<Value> = told
            .story
            .rows
            .iter()
            .map(|row| {
                let at = row.at.map(|at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
                json!({ "at_ms": at, "what": row.what, "flowrun_knows": row.knows, "world": row.world })
            })
            .collect();
        json!({
            "kind": FlawKind::of(told.flaw.problem).word(),
            "title": told.flaw.title,
            "why": told.flaw.why,
            "line": place.line,
            "column": place.column,
            "faults": told.story.faults,
            "replayed": match &told.replay {
                Replay::Shown => "shown",
                Replay::Otherwise(_) => "otherwise",
                Replay::Impossible(_) => "impossible",
            },
            "given": told.story.given,
            "story": rows,
            "fix": told.fix.as_ref().map(|fix| match fix {
                Fix::Text { line, old, new } => json!({ "line": line, "old": old, "new": new }),
                Fix::Contract { handler, add, means } => json!({ "handler": handler, "declare": add, "means": means }),
            }),
        })
    }
}

/// Writes a text under `indent`, after a word if there is one, broken where the terminal ends; a pipe gets whole lines
/// unless they are to be narrower.
fn prose(out: &mut String, screen: &Screen, indent: usize, word: &str, text: &str, most: Option<usize>) {
    let begin = indent + columns(word) + usize::from(!word.is_empty());
    let width = screen.out_width().into_iter().chain(most).min().unwrap_or(usize::MAX);
    for (nth, line) in wrapped(text, width.saturating_sub(begin).max(20)).iter().enumerate() {
        let _ = match (nth, word) {
            (0, "") => writeln!(out, "{:indent$}{line}", ""),
            (0, word) => writeln!(out, "{:indent$}{} {line}", "", screen.out.text(Tone::Strong, word)),
            _ => writeln!(out, "{:begin$}{line}", ""),
        };
    }
}

fn fix_text(fix: &Fix, screen: &Screen) -> String {
    let paint = screen.out;
    let mut out = String::new();
    let title = paint.text(Tone::Strong, "fix:");
    let _ = writeln!(out, "    {title} (verified: it removes this and adds nothing)");
    match fix {
        Fix::Text { line, old, new } => {
            let wide = (line + old.len().max(new.len())).to_string().len();
            for (n, text) in old.iter().enumerate() {
                let _ = writeln!(out, "    {}", paint.text(Tone::Bad, &format!("{:>wide$} - {text}", line + n)));
            }
            for (n, text) in new.iter().enumerate() {
                let _ = writeln!(out, "    {}", paint.text(Tone::Good, &format!("{:>wide$} + {text}", line + n)));
            }
        }
        Fix::Contract { handler, add, means } => {
            let _ = writeln!(out, "    register `{handler}` with `{add}`, if {means}");
        }
    }
    out
}

/// The first few of some names, and how many there are besides.
fn short<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<&str> = names.iter().take(4).map(AsRef::as_ref).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A time in a story: seconds with a tenth, or longer as people say it.
fn clock(at: Duration) -> String {
    if at < Duration::from_secs(60) { format!("{:.1}s", at.as_secs_f64()) } else { super::describe::time(at) }
}
