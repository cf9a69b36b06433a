//! A store that the engine wrote, changed behind its back: what is read of it is what was written, or an error.

use std::sync::Arc;

use super::crash::calm;
use super::judge::look;
use super::life::{InTurn, Notary, Past, engine, live};
use super::story::{Story, services_after};
use crate::dice::Dice;
use crate::engine::EngineError;
use crate::store::conformance::{Dump, dump};
use crate::store::fault::{FaultDisk, Op, PAGES_AT, Replay, Surviving, edit_records};
use crate::store::format;
use crate::store::journal::{Journal as _, StoreError};
use crate::store::redb::RedbStore;

const PAGE: usize = 4096;

/// In each part of so many bytes one bit is flipped.
const PART: usize = PAGE / 8;

/// Where redb's header keeps its two commit slots.
const SLOTS: [std::ops::Range<usize>; 2] = [PAGES_AT + 64..PAGES_AT + 192, PAGES_AT + 192..PAGES_AT + 320];

/// The order that is under way when the process dies.
fn unfinished() -> Story {
    Story { id: "ORD-2", ..Story::compensation() }
}

/// Returns a disk with a finished order and one that is under way; it was closed in order.
fn written() -> Vec<u8> {
    let first = FaultDisk::holding(calm(&Story::success()).before);
    live(&Story::success(), &first, Past::none()).expect("the store opens").end.expect("it ends");
    let disk = FaultDisk::holding(first.image());
    let life = live(&unfinished(), &disk, Past::none()).expect("the store opens");
    let mut replay = Replay::from(life.before.clone());
    life.log.iter().take(life.log.len() / 2).for_each(|op| replay.step(op));
    let disk = FaultDisk::holding(replay.image(Surviving::Everything));
    RedbStore::with_backend(disk.clone()).expect("it is repaired").close().expect("closed");
    disk.image()
}

/// Reads a damaged image as a store that is opened from a file is read.
fn read(image: Vec<u8>) -> Result<Dump, StoreError> {
    RedbStore::with_backend_checked(FaultDisk::holding(image)).and_then(|store| dump(&store))
}

/// Holds what is read of a damaged image to what was written. Tells whether the damage was noticed.
fn is_noticed_or_harmless(image: Vec<u8>, content: &Dump, what: &str) -> bool {
    match read(image) {
        Ok(found) => {
            assert!(found == *content, "{what}: other data was read");
            false
        }
        Err(StoreError::Corrupt { .. } | StoreError::Newer { .. } | StoreError::NoStore { .. }) => true,
        Err(error) => panic!("{what}: {error}"),
    }
}

#[test]
fn b09_a_flipped_bit_in_any_page_of_an_engines_store_is_noticed_or_harmless() {
    let whole = written();
    let content = read(whole.clone()).expect("it is whole");
    let mut dice = Dice(20);
    let mut noticed = 0;
    for part in 0..whole.len() / PART {
        let bit = part * PART * 8 + dice.below(PART as u64 * 8) as usize;
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        noticed += usize::from(is_noticed_or_harmless(damaged, &content, &format!("bit {bit}")));
    }
    println!("{noticed} of {} flipped bits were noticed, the others were harmless", whole.len() / PART);
    assert!(noticed > 20, "only {noticed}");
}

#[test]
fn b10_an_engines_store_that_was_cut_or_grew_is_refused_or_whole() {
    let whole = written();
    let content = read(whole.clone()).expect("it is whole");
    for length in (0..whole.len()).step_by(PAGE).chain([100, whole.len() - 1]) {
        assert!(is_noticed_or_harmless(whole[..length].to_vec(), &content, &format!("{length} bytes")), "{length}");
    }
    let mut longer = whole.clone();
    longer.resize(whole.len() + 2 * PAGE, 0);
    is_noticed_or_harmless(longer, &content, "longer");
    let mut dice = Dice(10);
    for (kept, length) in [(16, 100), (PAGE, PAGES_AT), (PAGE, PAGES_AT + 320), (PAGES_AT + 9, PAGES_AT + 20 * PAGE)] {
        let noise = whole[..kept].iter().copied().chain((kept..length).map(|_| dice.below(256) as u8)).collect();
        assert!(is_noticed_or_harmless(noise, &content, "noise"));
    }
}

#[test]
fn b11_of_a_torn_header_the_other_slot_is_used() {
    let story = Story::success();
    let life = calm(&story);
    let mut replay = Replay::from(life.before.clone());
    let mut torn = 0;
    for op in &life.log {
        if matches!(op, Op::Sync) {
            let (old, new) = (replay.image(Surviving::Nothing), replay.image(Surviving::Everything));
            let past = life.past_at(replay.acknowledged());
            for slot in SLOTS.into_iter().filter(|slot| old[slot.clone()] != new[slot.clone()]) {
                let (middle, end) = (slot.start + slot.len() / 2, slot.end);
                for kept in [slot.start..middle, middle..end] {
                    let mut image = new.clone();
                    image[kept.clone()].copy_from_slice(&old[kept]);
                    let seen = look(&story, image, &past);
                    assert!(seen.is_ok(), "slot {slot:?}: {seen:?}");
                    torn += 1;
                }
            }
        }
        replay.step(op);
    }
    assert!(torn >= 6, "only {torn}");
}

#[test]
fn b20_a_run_with_an_edited_event_is_not_resumed_and_the_event_is_named() {
    let whole = written();
    let store = RedbStore::with_backend(FaultDisk::holding(whole.clone())).expect("the store");
    let find = |id: &str| store.run_by_id(id).expect("readable").expect("it is there");
    let (finished, run) = (find("ORD-1001"), find("ORD-2"));
    let events = store.records(run).expect("readable").len() as u64;
    drop(store);
    for number in 0..events {
        for well_formed in [true, false] {
            let disk = FaultDisk::holding(whole.clone());
            // An event that was exchanged as a whole can be told by its commit alone.
            let mut named = number;
            edit_records(&disk, run, |first, at, record| {
                if at == number && well_formed {
                    // Somebody who knows the format puts the clock back.
                    let mut entry = format::decode(record).expect("it was written by the engine");
                    entry.at.0 -= 1;
                    *record = format::encode(&entry);
                    named = first;
                } else if at == number {
                    *record.last_mut().expect("it has bytes") ^= 1;
                }
            });
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            runtime.expect("a runtime").block_on(async {
                let store = Arc::new(RedbStore::with_backend(disk.clone()).expect("it opens"));
                let notary = Notary::new(&disk, services_after(Vec::new()), &Past::none());
                let journal = Arc::new(InTurn { store, notary: notary.clone(), sync: None });
                let engine = engine(&unfinished(), journal).expect("an engine");
                engine.resume_all().await.expect("the others go on");
                assert_eq!(engine.report(finished).map(|r| r.status).ok().as_deref(), Some("completed"));
                let error = engine.resume(run).await.expect_err("it is not resumed");
                let EngineError::Store(StoreError::Corrupt { message, .. }) = &error else { panic!("{error}") };
                assert!(
                    message.contains(&run.to_string()) && message.contains(&format!("event {named} ")),
                    "{message}"
                );
                assert_eq!(notary.calls(), 0, "nothing was called");
            });
        }
    }
    assert!(events > 10, "only {events}");
}
