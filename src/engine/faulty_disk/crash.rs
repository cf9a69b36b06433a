//! A loss of power at every write and every sync, and again while the next process recovers from it.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use parking_lot::Mutex;

use super::judge::{Calm, Seen, after_crash, look};
use super::life::{Life, Past, live};
use super::story::{Story, parts};
use crate::store::fault::{FaultDisk, Misbehaviour, Op, Replay, Surviving};

/// Sectors of a page, after each of which a write may be torn.
const SECTORS: u64 = 8;

/// Tells whether everything is to be tried; by default the tests try a part, so that they take seconds.
pub(super) fn full() -> bool {
    std::env::var_os("FLOWRUN_FULL").is_some()
}

/// Returns the life of a story on a disk that behaves.
pub(super) fn calm(story: &Story) -> Life {
    on(story, Misbehaviour::None)
}

fn on(story: &Story, misbehaviour: Misbehaviour) -> Life {
    let disk = FaultDisk::holding(parts().new_store.clone());
    disk.misbehave(misbehaviour);
    live(story, &disk, Past::none()).expect("the store opens")
}

/// A crash that is to be tried.
pub(super) struct Crash {
    pub(super) at: usize,
    pub(super) surviving: Surviving,
    pub(super) image: Vec<u8>,
    pub(super) past: Past,
}

/// What came of a sweep.
#[derive(Debug, Default)]
struct Swept {
    /// Crashes that were tried, and those after which the run was brought to its end.
    crashes: usize,
    ended: usize,
    /// Different disks among them.
    images: HashSet<u64>,
    /// What was seen after them.
    seen: HashSet<(Seen, usize, usize)>,
    flaws: Vec<String>,
}

impl Swept {
    fn add(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.ended += other.ended;
        self.images.extend(other.images);
        self.flaws.extend(other.flaws);
    }

    /// Prints how much was tried, of which at least `images` must have been different.
    fn is_sound(&self, what: &str, images: usize) {
        let Self { crashes, ended, .. } = self;
        println!("{what}: {crashes} crashes, {} different images, {ended} runs to their end", self.images.len());
        assert!(self.flaws.is_empty(), "{what}: {} of {crashes}:\n{}", self.flaws.len(), self.flaws.join("\n"));
        assert!(self.images.len() >= images, "{what}: only {} different images", self.images.len());
    }
}

/// Returns the crashes of a life at those entries of its log that `wanted` names. None is there twice.
pub(super) fn crashes<'a>(life: &'a Life, wanted: impl Fn(usize) -> bool + 'a) -> impl Iterator<Item = Crash> + 'a {
    let (mut replay, mut seen) = (Replay::from(life.before.clone()), HashSet::new());
    life.log.iter().enumerate().flat_map(move |(at, op)| {
        replay.step(op);
        if matches!(op, Op::Mark(_)) || !wanted(at) {
            return Vec::new();
        }
        let seed = at as u64 * SECTORS;
        let mut ways = vec![Surviving::Nothing];
        // Nothing is unsynced just after a sync.
        if !matches!(op, Op::Sync) {
            ways.push(Surviving::Everything);
            let some = if full() { SECTORS } else { 3 };
            ways.extend((0..some).map(|n| Surviving::Some(seed + n)));
            ways.extend((0..SECTORS).map(|n| Surviving::Torn(seed + n)));
        }
        let note = replay.acknowledged();
        let crash = |surviving| Crash { at, surviving, image: replay.image(surviving), past: life.past_at(note) };
        ways.into_iter().map(crash).filter(|crash| seen.insert((fingerprint(&crash.image), note))).collect()
    })
}

fn fingerprint(image: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    image.hash(&mut hasher);
    hasher.finish()
}

/// Tries crashes, on two threads. Every disk is looked at; the run goes on from each that is seen for the first time,
/// and from some of the others.
fn sweep(story: &Story, calm: &Calm, crashes: impl Iterator<Item = Crash> + Send) -> Swept {
    let (crashes, swept) = (Mutex::new(crashes), Mutex::new(Swept::default()));
    let work = || {
        loop {
            let next = crashes.lock().next();
            let Some(Crash { at, surviving, image, past }) = next else { return };
            let print = fingerprint(&image);
            let seen = look(story, image.clone(), &past);
            let goes_on = {
                let mut swept = swept.lock();
                swept.crashes += 1;
                swept.images.insert(print);
                let mut new = |seen| swept.seen.insert((seen, past.calls.len(), past.ledger.len()));
                let goes_on = seen.map(|seen| new(seen) || full() || print.is_multiple_of(16));
                swept.ended += usize::from(goes_on == Ok(true));
                goes_on
            };
            let result = match goes_on {
                Ok(true) => after_crash(story, calm, image, &past).map(drop),
                Ok(false) => Ok(()),
                Err(flaw) => Err(flaw),
            };
            if let Err(flaw) = result {
                let flaw = format!("{}: crash after operation {at}, surviving {surviving:?}: {flaw}", story.name);
                swept.lock().flaws.push(flaw);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    swept.into_inner()
}

fn sweep_all(story: &Story, images: usize) {
    let life = calm(story);
    let calm = Calm::of(&life);
    sweep(story, &calm, crashes(&life, |_| true)).is_sound(story.name, images);
}

#[test]
fn a01_a02_a03_an_order_survives_a_crash_at_every_write_and_sync() {
    sweep_all(&Story::success(), 400);
}

#[test]
fn a01_a02_a03_an_order_that_waits_survives_a_crash_at_every_write_and_sync() {
    sweep_all(&Story::wait(), 400);
}

#[test]
fn a01_a02_a03_an_order_that_another_process_takes_over_survives_a_crash_at_every_write_and_sync() {
    sweep_all(&Story::resumed_wait(), 400);
}

#[test]
fn a01_a02_a03_an_order_by_fallbacks_survives_a_crash_at_every_write_and_sync() {
    sweep_all(&Story::fallback(), 400);
}

#[test]
fn a04_a_failed_order_is_undone_whatever_write_or_sync_it_crashes_at() {
    sweep_all(&Story::compensation(), 400);
}

#[test]
fn a04_an_order_that_waited_in_vain_is_undone_whatever_write_or_sync_it_crashes_at() {
    sweep_all(&Story::expired_wait(), 400);
}

#[test]
fn a05_an_order_survives_a_second_crash_while_it_recovers_from_the_first() {
    let mut all = Swept::default();
    for story in Story::all() {
        let life = calm(&story);
        let calm = Calm::of(&life);
        let step = if full() { 3 } else { 61 };
        for Crash { image, past, .. } in crashes(&life, |at| at % step == 7).step_by(if full() { 2 } else { 5 }) {
            let second = after_crash(&story, &calm, image, &past).expect("the first crash is survived");
            let every = if full() { 1 } else { 7 };
            all.add(sweep(&story, &calm, crashes(&second, |at| at < 24 || at % every == 0)));
        }
    }
    all.is_sound("a second crash", 500);
}

/// What is acknowledged, and what has been acted upon, is on the disk at that moment, and not a moment later.
#[test]
fn p1_what_was_acknowledged_and_what_was_acted_upon_is_on_the_disk() {
    let story = Story::success();
    let life = calm(&story);
    let mut replay = Replay::from(life.before.clone());
    for op in &life.log {
        replay.step(op);
        if matches!(op, Op::Mark(_)) {
            let seen = look(&story, replay.image(Surviving::Nothing), &life.past_at(replay.acknowledged()));
            assert!(seen.is_ok(), "{seen:?}");
        }
    }
}

/// That a run is final is recorded in its events and in the lists at the same moment.
#[test]
fn a02_the_end_of_a_run_is_recorded_in_one_piece() {
    let story = Story::success();
    let life = calm(&story);
    let end = life.log.len().saturating_sub(60);
    let mut tried = 0;
    for crash in crashes(&life, |at| at >= end && matches!(life.log[at], Op::Sync)) {
        tried += 1;
        let seen = look(&story, crash.image, &crash.past);
        assert!(seen.is_ok(), "{seen:?}");
    }
    assert!(tried > 3, "only {tried}");
}

/// The sweep has teeth: a disk that says it has synced, and has not, is found out.
#[test]
fn a_disk_that_lies_is_caught() {
    let story = Story::success();
    let honest = Calm::of(&calm(&story));
    let life = on(&story, Misbehaviour::Lie);
    let swept = sweep(&story, &honest, crashes(&life, |at| at % 9 == 0));
    assert!(swept.flaws.iter().any(|flaw| flaw.contains("events were acknowledged")), "{:?}", swept.flaws);
}
