use super::*;
use crate::verify::findings::{
    Answer, Attempt, Course, LimitReached, MemberCourse, Spot, StepCourse, Stop, UndoEnd, World,
};
use crate::verify::random;

#[test]
fn a_search_that_reaches_its_limit_says_so() {
    let many = sketch((0..4).map(|_| fails()).collect());
    let all = run(&many).states;
    assert!(explore(&many, all).is_ok());
    let cut = explore(&many, all - 1).expect_err("one state is left");
    assert_eq!(cut, LimitReached { states: all });
}

#[test]
fn a_course_tells_the_cheapest_run_to_its_end() {
    let undone = Member { endings: vec![clear()], undo: Some(undo()), ..charge_by_key() };
    let left = Member { effect: Some(1), endings: vec![unclear()], ..member() };
    let skipped = when(Truth::Free(1), fine());
    let found = run(&sketch(vec![one(undone), after(&[0], one(left)), skipped]));
    let [(problem, course)] = Vec::from_iter(found.problems).try_into().expect("there is one problem");
    assert_eq!(problem, Problem::LeftByUndone((1, 0)));
    let called = |attempt| {
        StepCourse::Called(vec![MemberCourse { member: 0, attempts: vec![attempt], confirm: None, undo: None }])
    };
    let expected = Course {
        faults: 1,
        conditions: BTreeMap::from([(1, false)]),
        steps: BTreeMap::from([
            (0, called(Attempt::Succeeded)),
            (1, called(Attempt::Failed(0, World::Done))),
            (2, StepCourse::Skipped),
        ]),
        stop: Some(Stop::Failed(1)),
        undone: vec![(Spot { step: 0, item: None, member: 0 }, UndoEnd::Done)],
    };
    assert_eq!(course, expected);
}

#[test]
fn a_problem_on_the_way_is_told_to_the_end_of_the_run() {
    // The second is refused; nothing else goes wrong, so that the first is undone.
    let first = one(Member { undo: Some(undo()), ..charge_by_key() });
    let second = after(&[0], one(Member { reads: vec![read(0, Aspect::Error)], ..member() }));
    let found = run(&sketch(vec![first, second]));
    let (_, course) = found.problems.first_key_value().expect("something is missing");
    assert_eq!((course.faults, course.stop), (0, Some(Stop::Failed(1))));
    let refused = MemberCourse { member: 0, attempts: Vec::new(), confirm: None, undo: None };
    assert_eq!(course.steps[&1], StepCourse::Called(vec![refused]));
    assert_eq!(course.undone, [(Spot { step: 0, item: None, member: 0 }, UndoEnd::Done)]);
}

#[test]
fn what_waits_for_ever_is_told_as_waiting() {
    let found = run(&sketch(vec![waits(true, false), fine(), after(&[0], fine())]));
    let course = &found.problems[&Problem::WaitsForEver(0)];
    assert_eq!(course.steps[&0], StepCourse::Waiting);
    assert!(matches!(course.steps[&1], StepCourse::Called(_)) && !course.steps.contains_key(&2));
    assert_eq!((course.faults, course.stop), (0, None));
}

#[test]
fn the_fewest_faults_are_found_though_the_way_is_longer() {
    // By a clear failure of the first and then of its fallback, or by the long way round without any fault.
    let skipped = when(Truth::Free(0), fine());
    let reader = Step {
        on_skip: Some(crate::verify::sketch::OnSkip::Run),
        ..one(Member { reads: vec![read(2, Aspect::Output)], ..member() })
    };
    let found = run(&sketch(vec![fails(), after(&[0], fine()), after(&[1], skipped), after(&[2], reader)]));
    let (_, course) = found.problems.first_key_value().expect("something is missing");
    assert_eq!((course.faults, course.conditions.clone()), (0, BTreeMap::from([(0, false)])));
}

/// Returns how many faults a course tells at least, and at most: nobody can see there whether an undo or a confirm failed
/// for want of something to read.
fn told_faults(course: &Course) -> (u32, u32) {
    let (mut least, mut unsure) = (u32::from(course.stop == Some(Stop::Cancelled)), 0);
    let failed = |end: &UndoEnd| u32::from(*end == UndoEnd::Failed);
    unsure += course.undone.iter().map(|(_, end)| failed(end)).sum::<u32>();
    for step in course.steps.values() {
        least += u32::from(*step == StepCourse::Missed);
        for member in step.calls().flat_map(|(_, members)| members) {
            let marred = !member.attempts.is_empty() && member.attempts != [Attempt::Succeeded];
            least += u32::from(marred);
            unsure += u32::from(member.confirm == Some(Answer::Unknown)) + member.undo.as_ref().map_or(0, failed);
        }
    }
    (least, least + unsure)
}

#[test]
fn a_course_tells_as_many_faults_as_it_takes_and_ends_as_its_problem_says() {
    for seed in 0..60 {
        let sketch = random::sketch(seed);
        let Ok(found) = explore(&sketch, 2_000) else { continue };
        for (problem, course) in &found.problems {
            let (least, most) = told_faults(course);
            assert!((least..=most).contains(&course.faults), "{seed}: {problem:?} {course:?}");
            match problem {
                Problem::LeftByCompleted(_) => assert_eq!(course.stop, None, "{seed}"),
                Problem::LeftByUndone(_) => assert!(course.stop.is_some(), "{seed}"),
                _ => {}
            }
        }
    }
}
