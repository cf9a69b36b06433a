//! The facts that invariants speak of, gathered step by step.

use super::world::{Stands, Trace};
use crate::teeth::{Bug, awake};
use crate::verify::sketch::{Fact, Formula, Sketch, StepEnding};

/// What is known of the facts so far: one byte for each thing that an invariant mentions.
pub(super) type Facts = Vec<u8>;

const HAPPENED: u8 = 1;
const STANDS: u8 = 2;
const COMING: u8 = 4;

/// Where each fact is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    effects: Vec<usize>,
    undos: Vec<String>,
    steps: Vec<usize>,
    /// The effects that are undone under each name.
    undone: Vec<Vec<usize>>,
}

impl Slots {
    pub fn new(sketch: &Sketch) -> Self {
        let mut slots = Self::default();
        for invariant in &sketch.invariants {
            for (fact, _) in invariant.formula.facts() {
                match fact {
                    Fact::Happened(name) => slots.name(sketch, name),
                    Fact::Step { step, .. } => {
                        let at = sketch.steps.iter().position(|known| known.name == *step);
                        slots.steps.extend(at.filter(|at| !slots.steps.contains(at)));
                    }
                }
            }
        }
        slots
    }

    fn name(&mut self, sketch: &Sketch, name: &str) {
        if let Some(effect) = sketch.effects.iter().position(|known| known == name) {
            return self.effect(effect);
        }
        if self.undos.iter().any(|known| known == name) {
            return;
        }
        let undoes = |undo: &crate::verify::sketch::Undo| undo.undoes && undo.undone.as_deref() == Some(name);
        let effects: Vec<usize> = sketch
            .members()
            .filter(|member| member.undo.as_ref().is_some_and(undoes))
            .filter_map(|member| member.effect)
            .collect();
        effects.iter().for_each(|effect| self.effect(*effect));
        self.undos.push(name.to_owned());
        self.undone.push(effects);
    }

    fn effect(&mut self, effect: usize) {
        if !self.effects.contains(&effect) {
            self.effects.push(effect);
        }
    }

    /// The facts of a run in which nothing has happened.
    pub fn none(&self) -> Facts {
        vec![0; self.effects.len() + self.undos.len() + self.steps.len()]
    }

    /// Notes what a member left at the end.
    pub fn note(&self, facts: &mut Facts, effect: usize, undone: Option<&str>, trace: Trace) {
        if let Some(at) = self.effects.iter().position(|known| *known == effect) {
            let stands = trace.stands != Stands::No;
            facts[at] |= if stands || trace.gone { HAPPENED } else { 0 };
            facts[at] |= if stands { STANDS } else { 0 };
            facts[at] |= if trace.coming && !stands { COMING } else { 0 };
        }
        if let Some(at) = undone.and_then(|name| self.undos.iter().position(|known| known == name))
            && trace.gone
        {
            facts[self.effects.len() + at] = 1;
        }
    }

    /// Notes how a step ended.
    pub fn note_step(&self, facts: &mut Facts, step: usize, ending: StepEnding) {
        if let Some(at) = self.steps.iter().position(|known| *known == step) {
            facts[self.effects.len() + self.undos.len() + at] = ending as u8 + 1;
        }
    }

    /// Adds what another step brings.
    pub fn add(facts: &mut Facts, more: &Facts) {
        facts.iter_mut().zip(more).for_each(|(fact, more)| *fact |= more);
    }

    /// Tells whether a formula is true at the end, for some choice of what is still on its way and arrives.
    pub fn holds(&self, sketch: &Sketch, formula: &Formula, facts: &Facts) -> bool {
        let coming: Vec<usize> = (0..self.effects.len()).filter(|at| facts[*at] & COMING != 0).collect();
        (0..1_u32 << coming.len().min(16)).any(|choice| {
            let mut facts = facts.clone();
            for (nth, at) in coming.iter().enumerate() {
                if choice & (1 << nth) != 0 {
                    facts[*at] |= HAPPENED | STANDS;
                }
            }
            formula.holds(&|fact| self.fact(sketch, &facts, fact))
        })
    }

    fn fact(&self, sketch: &Sketch, facts: &Facts, fact: &Fact) -> bool {
        match fact {
            Fact::Happened(name) => {
                if let Some(effect) = sketch.effects.iter().position(|known| known == name) {
                    return self.bits(facts, effect) & HAPPENED != 0;
                }
                let Some(at) = self.undos.iter().position(|known| known == name) else { return false };
                let stands = self.undone[at].iter().any(|effect| self.bits(facts, *effect) & STANDS != 0);
                facts[self.effects.len() + at] != 0 && (!stands || awake(Bug::SweepUndoneThoughItStands))
            }
            Fact::Step { step, ending } => {
                let at = self.steps.iter().position(|known| sketch.steps[*known].name == *step);
                at.is_some_and(|at| facts[self.effects.len() + self.undos.len() + at] == *ending as u8 + 1)
            }
        }
    }

    fn bits(&self, facts: &Facts, effect: usize) -> u8 {
        self.effects.iter().position(|known| *known == effect).map_or(0, |at| facts[at])
    }
}
