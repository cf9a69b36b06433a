//! Calls of the disk that fail, at every one in turn: the process stops and says why, and the next one goes on.

use super::crash::{calm, full};
use super::judge::{Calm, after_crash, look};
use super::life::{Life, Past, live};
use super::story::{Story, parts};
use crate::engine::EngineError;
use crate::store::fault::{Calls, EIO, FaultDisk, Misbehaviour, Op, Replay, Surviving};
use crate::store::journal::StoreError;

const EFBIG: i32 = 27;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

/// What a story comes to on a disk that behaves.
struct Scene {
    story: Story,
    life: Life,
    calm: Calm,
    /// What was done to the disk.
    changes: Vec<Op>,
}

impl Scene {
    fn of(story: Story) -> Self {
        let life = calm(&story);
        let changes = life.log.iter().filter(|op| !matches!(op, Op::Mark(_))).cloned().collect();
        Self { calm: Calm::of(&life), story, life, changes }
    }

    /// Lets the story begin on a disk that misbehaves, and hold to what must follow. Tells whether anything failed.
    fn survives(&self, misbehaviour: Misbehaviour, says: &str) -> bool {
        let disk = FaultDisk::holding(parts().new_store.clone());
        disk.misbehave(misbehaviour);
        let result = live(&self.story, &disk, Past::none());
        let Some(tried) = disk.tried_since_failure() else {
            assert!(result.is_ok_and(|life| life.end.is_ok()), "{misbehaviour:?}: nothing failed");
            return false;
        };
        let said = |error: &StoreError| {
            let text = error.to_string();
            assert!(text.starts_with("the store: ") && text.contains(says), "{misbehaviour:?}: {text}");
        };
        let records = self.life.records.clone();
        let past = match result {
            Err(error) => {
                said(&error);
                Past { records, ..Past::none() }
            }
            Ok(life) => {
                if let Err(error) = &life.end {
                    let EngineError::Store(error) = error else { panic!("{misbehaviour:?}: {error}") };
                    said(error);
                    assert_eq!(life.halted.as_ref(), Some(error), "{misbehaviour:?}");
                    assert_eq!(life.calls_after_failure, 0, "{misbehaviour:?}: a step was started");
                }
                Past { records, ..life.latest() }
            }
        };
        assert_eq!(tried, 0, "{misbehaviour:?}: the disk was written to after it had failed");
        // The next process finds what the system still has in memory, or after a loss of power what was synced.
        if let Err(flaw) = after_crash(&self.story, &self.calm, disk.image(), &past) {
            panic!("{misbehaviour:?}: {flaw}");
        }
        let mut replay = Replay::from(parts().new_store.clone());
        disk.log().iter().for_each(|op| replay.step(op));
        if let Err(flaw) = look(&self.story, replay.image(Surviving::Nothing), &past) {
            panic!("{misbehaviour:?}, and then a loss of power: {flaw}");
        }
        true
    }

    /// Lets the changes that `wanted` names fail, one in each life, with an error of the system.
    fn fails_at(&self, wanted: impl Fn(&Op) -> bool, lasting: bool, errno: i32, says: &str) {
        let at = self.changes.iter().enumerate().filter(|(_, op)| wanted(op)).map(|(at, _)| at as u64);
        let tried = at
            .map(|at| Misbehaviour::Fail { calls: Calls::Changes, at, lasting, errno })
            .map(|fault| assert!(self.survives(fault, says), "{fault:?}: it did not fail"))
            .count();
        assert!(tried > 10, "only {tried}");
    }
}

fn is_write(op: &Op) -> bool {
    matches!(op, Op::Write(..) | Op::Length(_))
}

fn is_sync(op: &Op) -> bool {
    matches!(op, Op::Sync)
}

#[test]
fn b01_a_write_that_fails_once_stops_the_process_and_loses_nothing() {
    Scene::of(Story::success()).fails_at(is_write, false, EIO, "os error 5");
}

#[test]
fn b02_writes_that_fail_for_ever_stop_the_next_process_too() {
    let scene = Scene::of(Story::success());
    scene.fails_at(is_write, true, EIO, "os error 5");
    let changes = scene.changes.len();
    for at in (0..changes).step_by(if full() { 1 } else { 9 }) {
        let fault = Misbehaviour::Fail { calls: Calls::Changes, at: at as u64, lasting: true, errno: EIO };
        let disk = FaultDisk::holding(parts().new_store.clone());
        disk.misbehave(fault);
        let first = live(&scene.story, &disk, Past::none());
        let records = scene.life.records.clone();
        let past = first.map_or_else(|_| Past::none(), |life| Past { records, ..life.latest() });
        let (before, calls) = (disk.image(), past.calls.len());
        disk.misbehave(Misbehaviour::Fail { calls: Calls::Changes, at: 0, lasting: true, errno: EIO });
        match live(&scene.story, &disk, past) {
            Err(error) => assert!(error.to_string().contains("os error 5"), "{error}"),
            Ok(life) => {
                assert!(life.end.is_err() || disk.tried_since_failure().is_none(), "{fault:?}");
                assert_eq!(life.calls.len(), calls, "{fault:?}: a step was started");
            }
        }
        assert!(disk.image() == before, "{fault:?}: the disk was changed");
    }
}

#[test]
fn b03_a_sync_that_fails_is_not_tried_again_and_loses_nothing() {
    let scene = Scene::of(Story::success());
    scene.fails_at(is_sync, false, EIO, "os error 5");
}

#[test]
fn b03_syncs_that_fail_for_ever_stop_the_process() {
    Scene::of(Story::success()).fails_at(is_sync, true, EIO, "os error 5");
}

/// Short: what a failed commit leads to, once.
#[test]
fn b03_the_first_error_is_the_one_that_is_told() {
    let scene = Scene::of(Story::success());
    let syncs = scene.changes.iter().enumerate().filter(|(_, op)| is_sync(op)).map(|(at, _)| at as u64);
    let at = syncs.clone().nth(syncs.count() / 2).expect("a sync in the middle");
    assert!(scene.survives(Misbehaviour::Fail { calls: Calls::Changes, at, lasting: false, errno: EIO }, "os error 5"));
}

#[test]
fn b04_a_read_that_fails_stops_the_process_and_loses_nothing() {
    let scene = Scene::of(Story::compensation());
    // A process that died in the middle.
    let mut replay = Replay::from(parts().new_store.clone());
    scene.life.log.iter().take(scene.life.log.len() / 2).for_each(|op| replay.step(op));
    let (image, past) = (replay.image(Surviving::Everything), scene.life.past_at(replay.acknowledged()));
    let after = after_crash(&scene.story, &scene.calm, image.clone(), &past).expect("it goes on");
    let mut fired = 0;
    for at in 0.. {
        let fault = |lasting| Misbehaviour::Fail { calls: Calls::Reads, at, lasting, errno: EIO };
        let disk = FaultDisk::holding(image.clone());
        disk.misbehave(fault(at % 2 == 0));
        let result = live(&scene.story, &disk, past.clone());
        if disk.tried_since_failure().is_none() {
            break;
        }
        fired += 1;
        let records = after.records.clone();
        let past = match result {
            Err(error) => {
                assert!(error.to_string().contains("os error 5"), "read {at}: {error}");
                past.clone()
            }
            Ok(life) => {
                match &life.end {
                    Ok(_) => {}
                    Err(EngineError::Store(error)) => {
                        assert!(error.to_string().contains("os error 5"), "read {at}: {error}");
                    }
                    Err(error) => panic!("read {at}: {error}"),
                }
                Past { records, ..life.latest() }
            }
        };
        if let Err(flaw) = after_crash(&scene.story, &scene.calm, disk.image(), &past) {
            panic!("read {at}: {flaw}");
        }
    }
    assert!(fired > 10, "only {fired}");
}

#[test]
fn b05_a_full_disk_at_every_write_stops_the_process_and_says_what_to_do() {
    let advice = "; free some space, then `flowrun resume`: everything that was recorded is kept";
    let scene = Scene::of(Story::success());
    scene.fails_at(is_write, true, ENOSPC, advice);
}

#[test]
fn b06_a_quota_or_a_limit_of_size_stops_the_process_and_says_what_to_do() {
    let scene = Scene::of(Story::success());
    for (errno, advice) in
        [(EDQUOT, "; free some space, then `flowrun resume`"), (EFBIG, "; raise the limit on the size of files")]
    {
        for at in
            (0..scene.changes.len()).filter(|at| is_write(&scene.changes[*at])).step_by(if full() { 1 } else { 6 })
        {
            let at = at as u64;
            let fault = Misbehaviour::Fail { calls: Calls::Changes, at, lasting: true, errno };
            assert!(scene.survives(fault, advice), "{fault:?}: it did not fail");
        }
    }
}

#[test]
fn b08_a_write_that_is_cut_short_is_an_error_and_loses_nothing() {
    let scene = Scene::of(Story::success());
    let writes =
        scene.changes.iter().enumerate().filter(|(_, op)| matches!(op, Op::Write(..))).map(|(at, _)| at as u64);
    let tried = writes
        .step_by(if full() { 1 } else { 4 })
        .map(|at| assert!(scene.survives(Misbehaviour::ShortWrite(at), "write zero")))
        .count();
    assert!(tried > 5, "only {tried}");
}

#[test]
fn a16_a_panic_in_the_middle_of_a_transaction_stops_the_process_and_loses_nothing() {
    let scene = Scene::of(Story::success());
    // The first few changes are made by whoever opens the store.
    let first = 4.min(scene.changes.len());
    for at in (first..scene.changes.len()).step_by(if full() { 1 } else { 5 }) {
        assert!(scene.survives(Misbehaviour::Panic(at as u64), "the disk's driver has a bug"));
    }
}
