//! The step view on stderr: live on a terminal, one line per event elsewhere.
//!
//! On a terminal what is under way stands in rows at the bottom, and what has ended scrolls away above them, so that a
//! workflow of any size fits a screen of any size.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::describe::{Motion, Told, describe, moment, time};
use super::paint::{Tone, columns, one_line};
use super::screen::{Screen, tell};
use crate::cli::control::Happened;
use crate::time::{Clock as _, SystemClock, Timestamp};

/// How often the live view is drawn.
const TICK: Duration = Duration::from_millis(100);

/// No more rows stand at the bottom at once; a note says how many are left out.
const ROWS_MAX: usize = 12;

/// How wide the column of names is at most.
const NAME_MAX: usize = 24;

/// Shows what happens to runs while it happens.
pub(in crate::cli) struct StepView {
    screen: Screen,
    several: bool,
    live: Option<(Sender<Happened>, JoinHandle<()>)>,
    width: usize,
}

impl StepView {
    /// Makes a view of one run, or of several whose ids are to be shown.
    pub(in crate::cli) fn new(screen: &Screen, several: bool) -> Self {
        let live = screen.live.then(|| {
            let (sender, receiver) = channel();
            let mut rows = Rows::new(screen.clone(), several);
            (sender, std::thread::spawn(move || rows.run(&receiver)))
        });
        Self { screen: screen.clone(), several, live, width: 12 }
    }

    /// Shows an event.
    pub(in crate::cli) fn happened(&mut self, event: &Happened) {
        if self.screen.is_quiet() {
            return;
        }
        if let Some((live, _)) = &self.live {
            // The thread ends only when the sender is gone.
            let _ = live.send(event.clone());
            return;
        }
        let Some(told) = describe(&event.entry) else { return };
        let run = if self.several { format!("{}  ", event.id) } else { String::new() };
        self.width = self.width.max(columns(&told.subject)).min(NAME_MAX);
        let gap = " ".repeat(self.width.saturating_sub(columns(&told.subject)));
        let paint = self.screen.err;
        tell(&format!(
            "{} {run}{}{gap}  {}",
            paint.text(Tone::Quiet, &moment(event.entry.at)),
            paint.text(Tone::Strong, &told.subject),
            paint.text(told.tone, &one_line(&told.text, 2_000)),
        ));
    }

    /// Ends the view; what is under way is no longer shown.
    pub(in crate::cli) fn end(&mut self) {
        if let Some((live, thread)) = self.live.take() {
            drop(live);
            // A view that has panicked has been told by the hook.
            let _ = thread.join();
        }
    }
}

impl Drop for StepView {
    fn drop(&mut self) {
        self.end();
    }
}

/// The rows at the bottom of a terminal.
struct Rows {
    screen: Screen,
    several: bool,
    multi: MultiProgress,
    style: ProgressStyle,
    rows: BTreeMap<(String, String), Row>,
    order: u64,
    items: HashMap<(String, String), (usize, usize)>,
    ended: HashSet<(String, String)>,
    more: Option<ProgressBar>,
    width: usize,
}

struct Row {
    bar: Option<ProgressBar>,
    order: u64,
    since: Timestamp,
    due: Option<Timestamp>,
    text: String,
}

impl Rows {
    fn new(screen: Screen, several: bool) -> Self {
        let style = ProgressStyle::with_template(if screen.err.is_on() {
            "{spinner:.cyan} {wide_msg}"
        } else {
            "{spinner} {wide_msg}"
        })
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ");
        Self {
            screen,
            several,
            multi: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(20)),
            style,
            rows: BTreeMap::new(),
            order: 0,
            items: HashMap::new(),
            ended: HashSet::new(),
            more: None,
            width: 12,
        }
    }

    fn run(&mut self, events: &Receiver<Happened>) {
        loop {
            match events.recv_timeout(TICK) {
                Ok(event) => self.take(&event),
                Err(RecvTimeoutError::Timeout) => self.draw(),
                Err(RecvTimeoutError::Disconnected) => {
                    let _ = self.multi.clear();
                    return;
                }
            }
        }
    }

    fn take(&mut self, event: &Happened) {
        let Some(told) = describe(&event.entry) else { return };
        let step = told.subject.split('[').next().unwrap_or_default().to_owned();
        let is_item = step != told.subject;
        let key = (event.id.clone(), step);
        if let crate::machine::event::Event::ItemsListed { items, .. } = &event.entry.event {
            self.items.insert(key.clone(), (0, items.value().as_array().map_or(0, Vec::len)));
        }
        if is_item
            && told.motion == Motion::Log
            && let Some((ended, _)) = self.items.get_mut(&key)
        {
            *ended += 1;
        }
        match told.motion {
            Motion::Goes | Motion::Due(_) => self.goes(key, event.entry.at, &told),
            Motion::Ends => {
                let since = self.rows.remove(&key).map(|row| {
                    if let Some(bar) = row.bar {
                        self.multi.remove(&bar);
                    }
                    row.since
                });
                let took = since.map_or_else(String::new, |since| time(event.entry.at.since(since)));
                self.line(&event.id, &told, &took);
                self.ended.insert(key);
            }
            Motion::Note => self.line(&event.id, &told, ""),
            Motion::Log => {}
        }
        self.draw();
    }

    fn goes(&mut self, key: (String, String), at: Timestamp, told: &Told) {
        self.order += 1;
        let due = if let Motion::Due(due) = told.motion { Some(due) } else { None };
        let order = self.order;
        let row = self.rows.entry(key).or_insert_with(|| Row { bar: None, order, since: at, due, text: String::new() });
        row.due = due;
        // The countdown in the row says when, more exactly with every moment.
        let text = told.text.split("; next in ").next().unwrap_or_default();
        row.text = text.to_owned();
    }

    /// Writes a line above the rows, where it stays.
    fn line(&mut self, run: &str, told: &Told, took: &str) {
        let paint = self.screen.err;
        let mark = match (told.tone, told.motion) {
            (Tone::Good, _) => "✓",
            (Tone::Bad, _) => "✗",
            (Tone::Quiet, _) => "-",
            _ => "!",
        };
        let (name, gap) = self.name(run, &told.subject);
        let used = 2 + columns(&name) + gap.len() + 2;
        let text = if took.is_empty() { told.text.clone() } else { format!("{}  {took}", told.text) };
        let text = one_line(&text, self.screen.width().saturating_sub(used + 1));
        let line = format!(
            "{} {}{gap}  {}",
            paint.text(told.tone, mark),
            paint.text(Tone::Strong, &name),
            paint.text(told.tone, &text)
        );
        let _ = self.multi.println(line);
    }

    fn name(&mut self, run: &str, subject: &str) -> (String, String) {
        let name = if self.several { format!("{run} {subject}") } else { subject.to_owned() };
        let most = (self.screen.width() / 2).min(if self.several { 48 } else { NAME_MAX });
        let name = one_line(&name, most);
        self.width = self.width.max(columns(&name));
        let gap = " ".repeat(self.width - columns(&name));
        (name, gap)
    }

    fn draw(&mut self) {
        let now = SystemClock.now();
        let mut keys: Vec<_> = self.rows.iter().map(|(key, row)| (row.order, key.clone())).collect();
        keys.sort();
        for (n, (_, key)) in keys.iter().enumerate() {
            let (name, gap) = self.name(&key.0, &key.1);
            let Some(row) = self.rows.get_mut(key) else { continue };
            if n >= ROWS_MAX {
                continue;
            }
            let items = self.items.get(key).map_or_else(String::new, |(done, all)| format!("{done}/{all} items, "));
            let left = row.due.map(|due| due.since(now)).filter(|left| !left.is_zero());
            let due = left.map_or_else(String::new, |left| format!("; next in {}", time(left)));
            let elapsed = time(now.since(row.since));
            let text = format!("{name}{gap}  {elapsed:>7}  {items}{}{due}", row.text);
            let text = one_line(&text, self.screen.width().saturating_sub(3));
            let bar = row.bar.get_or_insert_with(|| {
                let bar = self.multi.add(ProgressBar::new_spinner());
                bar.set_style(self.style.clone());
                bar
            });
            bar.set_message(text);
            bar.tick();
        }
        let hidden = keys.len().saturating_sub(ROWS_MAX);
        if hidden > 0 {
            let more = self.more.get_or_insert_with(|| {
                let bar = self.multi.add(ProgressBar::new_spinner());
                bar.set_style(self.style.clone());
                bar
            });
            more.set_message(format!("and {hidden} more"));
            more.tick();
        } else if let Some(more) = self.more.take() {
            self.multi.remove(&more);
        }
    }
}
