use super::*;
use crate::verify::explore::state::Standing::{self, Coming, Done, DoneComing, Gone, GoneComing, No, Twice};
use crate::verify::findings::World;

const ALL: [Standing; 7] = [No, Coming, Done, DoneComing, Twice, Gone, GoneComing];

#[test]
fn an_attempt_that_is_done_or_sent_leaves_what_its_contract_says() {
    for standing in ALL {
        for repeat in [Repeat::Once, Repeat::Safe, Repeat::Keyed] {
            assert_eq!(standing.after(World::Nothing, repeat), standing);
        }
    }
    let after = |world, repeat| ALL.map(|standing| standing.after(world, repeat));
    assert_eq!(after(World::Done, Repeat::Keyed), [Done; 7]);
    assert_eq!(after(World::Done, Repeat::Safe), [Done, DoneComing, Done, DoneComing, Done, Done, DoneComing]);
    assert_eq!(after(World::Done, Repeat::Once), [Done, Twice, Twice, Twice, Twice, Twice, Twice]);
    assert_eq!(after(World::OnItsWay, Repeat::Keyed), [Coming, Coming, Done, DoneComing, Twice, Gone, GoneComing]);
    assert_eq!(after(World::OnItsWay, Repeat::Safe)[..4], [Coming, Coming, DoneComing, DoneComing]);
    assert_eq!(after(World::OnItsWay, Repeat::Once)[..3], [Coming, Coming, Twice]);
}

#[test]
fn a_request_on_its_way_lands() {
    let landed = ALL.map(Standing::landed);
    assert_eq!(landed, [None, Some(Done), None, Some(Done), None, None, Some(Done)]);
    assert_eq!(ALL.map(Standing::refused_late), [No, No, Done, DoneComing, Twice, Gone, GoneComing]);
}

#[test]
fn an_undo_takes_back_what_was_done_and_perhaps_what_is_to_come() {
    let by = |undo: &Undo| ALL.map(|standing| standing.undone(undo));
    assert_eq!(by(&undo()), [No, No, Gone, Gone, Gone, Gone, GoneComing]);
    let lets_late = Undo { blocks_late: false, ..undo() };
    assert_eq!(by(&lets_late), [No, Coming, Gone, GoneComing, Gone, Gone, GoneComing]);
    assert_eq!(by(&Undo { undoes: false, ..undo() }), ALL);
    let minds = Undo { if_absent: IfAbsent::Error, ..undo() };
    assert_eq!(ALL.map(|standing| standing.defies(&minds)), [true, true, false, false, false, false, false]);
    assert_eq!(ALL.map(|standing| standing.defies(&undo())), [false; 7]);
}

#[test]
fn what_is_there_is_told_apart_from_what_was() {
    assert_eq!(ALL.map(Standing::may_be_left), [false, true, true, true, true, false, true]);
    assert_eq!(ALL.map(Standing::is_done), [false, false, true, true, true, false, false]);
    assert_eq!(ALL.map(Standing::happened), [false, false, true, true, true, true, true]);
    assert_eq!(ALL.map(Standing::taken_back), [false, false, false, false, false, true, true]);
}
