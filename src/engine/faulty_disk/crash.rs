//! A loss of power at every write and every sync, and again while the next process recovers from it.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use parking_lot::Mutex;

use super::judge::{Calm, after_crash};
use super::life::{Life, Past, live};
use super::story::{Story, parts};
use crate::store::fault::{FaultDisk, Misbehaviour, Op, Replay, Surviving};

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
struct Crash {
    at: usize,
    surviving: Surviving,
    image: Vec<u8>,
    past: Past,
}

/// What came of a sweep.
#[derive(Debug, Default)]
struct Swept {
    /// Crashes that were tried.
    crashes: usize,
    /// Different disks among them.
    images: HashSet<u64>,
    flaws: Vec<String>,
}

impl Swept {
    fn report(&self, what: &str) {
        println!("{what}: {} crashes, {} different images", self.crashes, self.images.len());
        assert!(self.flaws.is_empty(), "{what}: {} of {}:\n{}", self.flaws.len(), self.crashes, self.flaws.join("\n"));
    }
}

/// Returns the crashes of a life at those entries of its log that `wanted` names. None is there twice.
fn crashes<'a>(life: &'a Life, wanted: impl Fn(usize) -> bool + 'a) -> impl Iterator<Item = Crash> + 'a {
    let (mut replay, mut seen) = (Replay::from(life.before.clone()), HashSet::new());
    life.log.iter().enumerate().flat_map(move |(at, op)| {
        replay.step(op);
        if matches!(op, Op::Mark(_)) || !wanted(at) {
            return Vec::new();
        }
        let seed = at as u64;
        let ways: &[Surviving] = match op {
            // Nothing is unsynced just after a sync.
            Op::Sync => &[Surviving::Nothing],
            _ => &[Surviving::Nothing, Surviving::Everything, Surviving::Some(seed), Surviving::Torn(seed)],
        };
        let note = replay.acknowledged();
        let crash = |surviving: &Surviving| Crash {
            at,
            surviving: *surviving,
            image: replay.image(*surviving),
            past: life.past_at(note),
        };
        ways.iter().map(crash).filter(|crash| seen.insert((fingerprint(&crash.image), note))).collect()
    })
}

fn fingerprint(image: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    image.hash(&mut hasher);
    hasher.finish()
}

/// Tries crashes, on two threads.
fn sweep(story: &Story, calm: &Calm, crashes: impl Iterator<Item = Crash> + Send) -> Swept {
    let (crashes, swept) = (Mutex::new(crashes), Mutex::new(Swept::default()));
    let work = || {
        loop {
            let next = crashes.lock().next();
            let Some(Crash { at, surviving, image, past }) = next else { return };
            let print = fingerprint(&image);
            let result = after_crash(story, calm, image, &past);
            let mut swept = swept.lock();
            swept.crashes += 1;
            swept.images.insert(print);
            if let Err(flaw) = result {
                swept
                    .flaws
                    .push(format!("{}: crash after operation {at}, surviving {surviving:?}: {flaw}", story.name));
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    swept.into_inner()
}

fn sweep_all(story: &Story) {
    let life = calm(story);
    let calm = Calm::of(&life);
    let swept = sweep(story, &calm, crashes(&life, |_| true));
    swept.report(story.name);
}

#[test]
fn a01_a02_a03_an_order_survives_a_crash_at_every_write_and_sync() {
    sweep_all(&Story::success());
}

#[test]
fn a04_a_failed_order_is_undone_whatever_write_or_sync_it_crashes_at() {
    sweep_all(&Story::compensation());
}
