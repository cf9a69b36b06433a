//! Lists, whatever number of items they have, and what both searches once got wrong.

use super::*;
use crate::verify::explore::explore_lists;
use crate::verify::explore::state::{Stage, Verdict};
use crate::verify::findings::{Course, List, MemberCourse, Missing, Reader, StepCourse, Stop};
use crate::verify::random;

/// A list with so many places, whose items nobody has to let in.
fn list(concurrency: u32, step: Step) -> Step {
    Step { items: Some(Vec::new()), concurrency, let_in: false, ..step }
}

#[test]
fn a_list_with_two_places_is_cut_short_with_a_third_item_left() {
    let mut cut = sketch(vec![list(2, one(charge_by_key()))]);
    cut.invariants = vec![never("charged and s0.failed")];
    let expected = [(Problem::LeftByUndone((0, 0)), 1), (Problem::Invariant(0), 1)];
    shows(&cut, &expected);
    let faults = |items: usize| -> BTreeMap<Problem, u32> {
        let found = explore_lists(&cut, items, 100_000).expect("it is small");
        found.problems.into_iter().map(|(problem, course)| (problem, course.faults)).collect()
    };
    assert!(!faults(2).contains_key(&Problem::Invariant(0)), "two items are not enough");
    assert_eq!(faults(4), BTreeMap::from(expected), "and a fourth shows nothing new");
}

/// Returns the two courses to the first invariant: the explorer's and the sweep's.
fn broken(sketch: &Sketch) -> [Course; 2] {
    let found =
        [explore_lists(sketch, 4, 1_000_000).expect("it is small"), sweep(sketch, 10_000).expect("it is small")];
    found.map(|found| found.problems[&Problem::Invariant(0)].clone())
}

fn told(course: &Course) -> &List {
    match &course.steps[&0] {
        StepCourse::Listed(list) => list,
        other => panic!("a list is told otherwise: {other:?}"),
    }
}

#[test]
fn a_course_says_that_an_item_is_left() {
    let of = |places: u32, let_in: bool, formula: &str| {
        let mut cut = sketch(vec![on_error(OnError::Continue, list(places, one(charge_by_key())))]);
        cut.steps[0].let_in = let_in;
        cut.invariants = vec![never(formula)];
        broken(&cut).map(|course| (told(&course).items.len(), told(&course).left))
    };
    // Only a list that was not begun to its end counts as failed, as the items that fail are passed over.
    assert_eq!(of(1, false, "charged and s0.failed"), [(1, true); 2]);
    assert_eq!(of(2, false, "charged and s0.failed"), [(2, true); 2]);
    assert_eq!(of(2, true, "s0.failed and not charged"), [(0, true); 2], "nobody let one in");
    assert_eq!(of(2, false, "charged and s0.ok"), [(1, false); 2]);
}

#[test]
fn what_is_left_has_no_place_to_begin_in() {
    for seed in 0..80 {
        let sketch = random::sketch(seed);
        let (Ok(explored), Ok(swept)) = (explore(&sketch, 2_000), sweep(&sketch, 10_000)) else { continue };
        for (problem, course) in explored.problems.iter().chain(&swept.problems) {
            for (step, told) in &course.steps {
                let (plan, StepCourse::Listed(list)) = (&sketch.steps[*step], told) else { continue };
                let went_wrong = plan.on_error != OnError::Continue && list.items.iter().any(|item| !ended_well(item));
                if list.left && !went_wrong {
                    let stopped = matches!(course.stop, Some(Stop::Failed(_) | Stop::Cancelled));
                    let full = plan.let_in || list.items.len() >= plan.concurrency as usize;
                    assert!(stopped && full, "{seed}: {problem:?} {course:#?}");
                }
            }
        }
    }
}

fn ended_well(item: &[MemberCourse]) -> bool {
    let last = item.last().expect("an item that began called something");
    last.worked()
}

#[test]
fn a_pivot_of_which_all_items_failed_is_undone_though_some_are_left() {
    let lookup = Member { endings: vec![unclear()], confirm: Some(confirm(false)), ..charge_by_key() };
    let pivot = Step { pivot: true, on_error: OnError::Continue, ..one(lookup) };
    // An item is cut short in the cancel, found not done by `confirm`, and lands later.
    shows(
        &sketch(vec![list(1, pivot.clone())]),
        &[(Problem::LeftByUndone((0, 0)), 2), (Problem::LeftByCompleted((0, 0)), 1)],
    );
    shows(&sketch(vec![list(2, pivot)]), &[(Problem::LeftByUndone((0, 0)), 3), (Problem::LeftByCompleted((0, 0)), 1)]);
}

#[test]
fn a_list_is_stopped_before_its_first_item_only_if_that_has_to_be_let_in() {
    let fails = Member { endings: vec![clear()], ..charge_by_key() };
    let mut stopped = sketch(vec![on_error(OnError::Continue, list(1, one(fails)))]);
    stopped.invariants = vec![never("s0.failed and not charged")];
    // The item under way has to fail too, or both of them.
    assert_eq!(problems(&stopped)[&Problem::Invariant(0)], 2);
    stopped.steps[0].concurrency = 2;
    assert_eq!(problems(&stopped)[&Problem::Invariant(0)], 3);
    stopped.steps[0].let_in = true;
    assert_eq!(problems(&stopped)[&Problem::Invariant(0)], 1);
}

#[test]
fn three_things_may_need_three_items_and_more() {
    let of = |effect: usize, endings: Vec<Failing>| Member { effect: Some(effect), endings, ..charge() };
    let members = vec![of(0, vec![taken_by(1, clear())]), of(1, vec![taken_by(2, clear())]), of(2, vec![clear()])];
    let mut three = sketch(vec![list(1, call(members))]);
    three.effects.push("told".to_owned());
    three.invariants = vec![never("charged and sent and told"), never("charged and sent and told and s0.failed")];
    let found = sweep(&three, 10_000).expect("it is small");
    let faults = |ix: usize| found.problems.get(&Problem::Invariant(ix)).map(|course| course.faults);
    // The second of the items fails once, the third twice, which are three calls; then a fourth fails, or a cancel comes.
    assert_eq!((faults(0), faults(1)), (Some(3), Some(4)));
    let explored = explore_lists(&three, 3, 100_000).expect("it is small");
    assert_eq!(explored.problems[&Problem::Invariant(0)].faults, 3);
}

#[test]
fn a_condition_is_the_same_wherever_the_output_names_it() {
    let never_read = Truth::All(vec![Truth::Free(0), Truth::Not(Box::new(Truth::Free(0)))]);
    let mut twice = sketch(vec![fine()]);
    twice.output = vec![Read { when: never_read, ..read(0, Aspect::Error) }];
    shows(&twice, &[]);
    twice.output[0].when = Truth::All(vec![Truth::Free(0), Truth::Free(0)]);
    let missing = Missing { reader: Reader::Output, read: 0, step: 0, what: Aspect::Error };
    shows(&twice, &[(Problem::Missing(missing), 0)]);
    let found = sweep(&twice, 1_000).expect("it is small");
    assert_eq!(found.problems[&Problem::Missing(missing)].conditions, BTreeMap::from([(0, true)]));
}

#[test]
fn a_confirm_behind_a_pivot_is_not_asked_if_nothing_stops_the_run_there() {
    let pivot = Step { pivot: true, ..fine() };
    // A step that does nothing may be repeated; only a drain leaves it unknown.
    let asked = after(&[0], one(Member { confirm: Some(confirm(false)), ..member() }));
    let mut behind = sketch(vec![pivot, asked]);
    assert!(!run(&behind).reached.contains(&Part::Confirm((1, 0))));
    behind.deadline = true;
    assert!(run(&behind).reached.contains(&Part::Confirm((1, 0))));
}

#[test]
fn a_deadline_does_not_come_to_a_run_that_rests_parked() {
    // Whatever it would lead to is found without it too, so that this looks at the moves and not at what is found.
    let parked = Sketch { deadline: true, ..sketch(vec![on_error(OnError::Park, fails())]) };
    let rules = Rules::new(&parked, 0);
    let mut state = State::new(&parked);
    state.step_mut(0).stage = Stage::Ended(Verdict::Failed);
    assert!(rules.own_moves(&state).is_empty(), "it rests");
    let stops = |rests: bool| {
        let moves = rules.outer_moves(&state, rests);
        moves.iter().filter(|after| after.told.iter().any(|told| matches!(told, Told::Stopped(_)))).count()
    };
    assert_eq!(stops(true), 1, "a cancel");
    assert_eq!(stops(false), 2, "a deadline comes to a run that goes on elsewhere");
}

#[test]
fn each_of_three_items_under_way_is_a_fault_of_its_own() {
    let fails = Member { endings: vec![clear()], ..charge_by_key() };
    let mut stopped = sketch(vec![on_error(OnError::Continue, list(3, one(fails)))]);
    stopped.invariants = vec![never("s0.failed and not charged")];
    let explored = explore_lists(&stopped, 4, 1_000_000).expect("it is small");
    let swept = sweep(&stopped, 10_000).expect("it is small");
    let faults = |found: &Found| found.problems.get(&Problem::Invariant(0)).map(|course| course.faults);
    // The cancel, and each of those that have begun before it.
    assert_eq!((faults(&explored), faults(&swept)), (Some(4), Some(4)));
    for (places, needed) in [(4, 5), (16, 17), (17, 17)] {
        stopped.steps[0].concurrency = places;
        let swept = sweep(&stopped, 10_000).expect("it is small");
        assert_eq!(faults(&swept), Some(needed));
        let told = told(&swept.problems[&Problem::Invariant(0)]);
        assert_eq!((told.items.len(), told.left), (places as usize, true), "each place is taken by somebody");
    }
}
