//! Where handlers are registered by name, with what their authors declare about them.
//!
//! Mistakes are collected while registering and reported together by [`Registry::finish`], before anything runs.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::builtin;
use super::context::{States, StepCtx, World};
use super::contract::{Contract, Contracts, IfAbsent, Repeat, Undoes};
use super::ledger::{Ledger, LedgerEntry};
use super::outcome::{BAD_INPUT, StepError};
use super::schema::Checker;
use super::typed::{Erased, HandlerFn, Replying, StateType};
use crate::failure::ErrorKind;
use crate::names::{Code, HandlerName};
use crate::payload::Payload;

type AnyState = Arc<dyn Any + Send + Sync>;
type MakeState = Arc<dyn Fn(&World) -> Result<AnyState, String> + Send + Sync>;
type AsLedger = Arc<dyn Fn(&States) -> Option<Arc<dyn Ledger>> + Send + Sync>;
type ReadLedger = Arc<dyn Fn(&Path) -> Result<Vec<LedgerEntry>, String> + Send + Sync>;

/// The handlers a workflow may use, and the state they share.
///
/// What is said after [`handler`](Self::handler) (`effect`, `keyed`, `errors` ...) is about that handler. The order
/// of handlers and states does not matter.
///
/// ```
/// # use flowrun::handlers::{Registry, State, StepCtx, StepError};
/// # struct Greetings(&'static str);
/// async fn greet(_: StepCtx, State(hello): State<Greetings>, name: String) -> Result<String, StepError> {
///     Ok(format!("{} {name}", hello.0))
/// }
///
/// let registry = Registry::new()
///     .state(Greetings("hello"))
///     .handler("greet.person", greet).describe("Greets a person.");
/// assert!(registry.finish().is_ok());
/// ```
#[derive(Clone)]
pub struct Registry {
    handlers: Vec<Entry>,
    /// The handler that declarations are about: the last registered, unless something else came after it.
    current: Option<usize>,
    states: Vec<(StateType, MakeState)>,
    ledger: Option<(StateType, AsLedger)>,
    read_ledger: Option<ReadLedger>,
    problems: Vec<String>,
    /// Its handlers only play those that were checked where they are registered.
    played: bool,
}

/// What plays a handler: it is told what the handler declares, and answers in its place.
pub(crate) type Player = Arc<dyn Fn(&Contract, StepCtx, Value) -> Replying + Send + Sync>;

#[derive(Clone)]
struct Entry {
    contract: Contract,
    erased: Arc<Erased>,
    input: Arc<Checker>,
    output: Arc<Checker>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// Returns a registry with the built-in handlers.
    #[must_use]
    pub fn new() -> Self {
        let empty = Self {
            handlers: Vec::new(),
            current: None,
            states: Vec::new(),
            ledger: None,
            read_ledger: None,
            problems: Vec::new(),
            played: false,
        };
        let mut registry = builtin::register(empty);
        registry.current = None;
        registry
    }

    /// Returns a registry in which `player` plays every one of these handlers. They take any input.
    pub(crate) fn played(contracts: &Contracts, player: &Player) -> Self {
        let entry = |contract: &Arc<Contract>| {
            let (player, played) = (Arc::clone(player), Arc::clone(contract));
            let erased = Erased {
                states: Vec::new(),
                input: Value::Bool(true),
                output: Value::clone(&contract.output),
                confirms: contract.confirms,
                call: Box::new(move |_, ctx, input| player(&played, ctx, input.clone())),
            };
            Entry {
                contract: Contract::clone(contract),
                erased: Arc::new(erased),
                input: Arc::new(Checker::new(Arc::new(Value::Bool(true)))),
                output: Arc::new(Checker::new(Arc::clone(&contract.output))),
            }
        };
        Self {
            handlers: contracts.values().map(entry).collect(),
            current: None,
            states: Vec::new(),
            ledger: None,
            read_ledger: None,
            problems: Vec::new(),
            played: true,
        }
    }

    /// Registers `handler` under a dotted lower-case name.
    #[must_use]
    pub fn handler<M>(mut self, name: &str, handler: impl HandlerFn<M>) -> Self {
        if !is_name(name) {
            self.problems.push(format!("`{name}` cannot name a handler: names look like `payment.charge`"));
        }
        if self.handlers.iter().any(|h| h.contract.name == name) {
            self.problems.push(if name.starts_with(builtin::PREFIX) {
                format!("`{name}` is built in and cannot be registered again")
            } else {
                format!("`{name}` is registered twice")
            });
        }
        let erased = handler.erase();
        let contract = Contract {
            name: name.into(),
            description: None,
            effect: None,
            repeat: Repeat::Once,
            errors: BTreeMap::new(),
            any_error: false,
            undoes: None,
            blocks_late: false,
            confirms: erased.confirms,
            input: Arc::new(erased.input.clone()),
            output: Arc::new(erased.output.clone()),
        };
        self.current = Some(self.handlers.len());
        // Compiled once for all worlds that are built: a test builds many.
        let input = Arc::new(Checker::new(Arc::clone(&contract.input)));
        let output = Arc::new(Checker::new(Arc::clone(&contract.output)));
        self.handlers.push(Entry { contract, erased: Arc::new(erased), input, output });
        self
    }

    /// Says in a sentence what the handler does.
    #[must_use]
    pub fn describe(self, description: &str) -> Self {
        self.declare("describe", |c, _| c.description = Some(description.into()))
    }

    /// Declares what has changed outside when the handler has worked, as a past participle: `charged`.
    #[must_use]
    pub fn effect(self, effect: &str) -> Self {
        self.declare("effect", |c, problems| {
            if !is_word(effect) {
                problems.push(format!(
                    "`{}`: `{effect}` cannot name an effect: names are lower-case words such as `charged`",
                    c.name
                ));
            }
            if c.effect.replace(effect.into()).is_some() {
                problems.push(format!("`{}` declares two effects", c.name));
            }
        })
    }

    /// Declares that calling the handler again with the same key has no further effect and gives the same answer.
    #[must_use]
    pub fn keyed(self) -> Self {
        self.repeat(Repeat::Keyed)
    }

    /// Declares that calling the handler again leaves the same state.
    #[must_use]
    pub fn safe(self) -> Self {
        self.repeat(Repeat::Safe)
    }

    fn repeat(self, repeat: Repeat) -> Self {
        self.declare("keyed or safe", |c, problems| {
            if c.repeat != Repeat::Once && c.repeat != repeat {
                problems.push(format!("`{}` is declared both keyed and safe; keyed is the stronger one", c.name));
            }
            c.repeat = repeat;
        })
    }

    /// Declares codes of errors that the handler may report, of whatever kind.
    #[must_use]
    pub fn errors<'a>(self, codes: impl IntoIterator<Item = &'a str>) -> Self {
        self.declare("errors", |c, problems| add_errors(c, codes, None, problems))
    }

    /// Declares codes that always mean: it did not happen, and may work later.
    #[must_use]
    pub fn retryable<'a>(self, codes: impl IntoIterator<Item = &'a str>) -> Self {
        self.declare("retryable", |c, problems| add_errors(c, codes, Some(ErrorKind::Retryable), problems))
    }

    /// Declares codes that always mean: it did not happen, and will not.
    #[must_use]
    pub fn permanent<'a>(self, codes: impl IntoIterator<Item = &'a str>) -> Self {
        self.declare("permanent", |c, problems| add_errors(c, codes, Some(ErrorKind::Permanent), problems))
    }

    /// Declares that the handler may report codes that nobody can list beforehand.
    #[must_use]
    pub fn any_error(self) -> Self {
        self.declare("any_error", |c, _| c.any_error = true)
    }

    /// Declares that the handler undoes `effect`, and what its undoing is called: `undoes("charged", "refunded")`.
    #[must_use]
    pub fn undoes(self, effect: &str, as_: &str) -> Self {
        self.declare("undoes", |c, problems| {
            if !is_word(as_) {
                problems.push(format!(
                    "`{}`: `{as_}` cannot name an undo: names are lower-case words such as `refunded`",
                    c.name
                ));
            }
            let undoes = Undoes { effect: effect.into(), as_: as_.into(), if_absent: IfAbsent::Error };
            if c.undoes.replace(undoes).is_some() {
                problems.push(format!("`{}` undoes two effects", c.name));
            }
        })
    }

    /// Declares that the undo succeeds when there is nothing to undo.
    #[must_use]
    pub fn if_absent_ok(self) -> Self {
        self.declare("if_absent_ok", |c, problems| match &mut c.undoes {
            Some(undoes) => undoes.if_absent = IfAbsent::Ok,
            None => problems.push(format!("`{}`: if_absent_ok() is about an undo: say undoes(..) before it", c.name)),
        })
    }

    /// Declares that after the handler's "undone" or "not done" a late original with the same key is refused.
    #[must_use]
    pub fn blocks_late(self) -> Self {
        self.declare("blocks_late", |c, _| c.blocks_late = true)
    }

    /// Adds a value that handlers share; they ask for it as [`State`](super::State).
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(self, value: T) -> Self {
        let value: Arc<T> = Arc::new(value);
        self.add_state::<T>(Arc::new(move |_| Ok(Arc::clone(&value) as AnyState)))
    }

    /// Adds a value that handlers share and that is made anew for each store or test scenario.
    #[must_use]
    pub fn state_with<T, F>(self, make: F) -> Self
    where
        T: Send + Sync + 'static,
        F: Fn(&World) -> Result<T, String> + Send + Sync + 'static,
    {
        self.add_state::<T>(Arc::new(move |world| make(world).map(|value| Arc::new(value) as AnyState)))
    }

    fn add_state<T: 'static>(mut self, make: MakeState) -> Self {
        self.current = None;
        let state = StateType::of::<T>();
        if self.states.iter().any(|(s, _)| *s == state) {
            self.problems.push(format!("there are two states of type `{}`", state.name));
        }
        self.states.push((state, make));
        self
    }

    /// Says that the state of type `T` is the ledger, which `flowrun ledger` and test scenarios read.
    #[must_use]
    pub fn ledger<T: Ledger + 'static>(mut self) -> Self {
        self.current = None;
        let state = StateType::of::<T>();
        if self.ledger.is_some() {
            self.problems.push("there are two ledgers".into());
        }
        let find: AsLedger = Arc::new(|states| states.get::<T>().map(|state| state.0 as Arc<dyn Ledger>));
        self.ledger = Some((state, find));
        self
    }

    /// Says how the ledger in a store's folder is read while another process may be writing it.
    #[must_use]
    pub fn ledger_reader<F>(mut self, read: F) -> Self
    where
        F: Fn(&Path) -> Result<Vec<LedgerEntry>, String> + Send + Sync + 'static,
    {
        self.current = None;
        self.read_ledger = Some(Arc::new(read));
        self
    }

    fn declare(mut self, what: &str, about: impl FnOnce(&mut Contract, &mut Vec<String>)) -> Self {
        match self.current.and_then(|at| self.handlers.get_mut(at)) {
            Some(entry) => about(&mut entry.contract, &mut self.problems),
            None => self.problems.push(format!("{what}(..) must follow the handler(..) it is about")),
        }
        self
    }

    /// Returns the registry if everything in it fits together.
    ///
    /// # Errors
    /// Every mistake that was made while registering, each in a sentence.
    pub fn finish(self) -> Result<Self, Vec<String>> {
        let problems = self.problems();
        if problems.is_empty() { Ok(self) } else { Err(problems) }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = self.problems.clone();
        if self.played {
            return problems;
        }
        let effects: Vec<&str> = self.handlers.iter().filter_map(|h| h.contract.effect.as_deref()).collect();
        for Entry { contract: c, erased, .. } in &self.handlers {
            for state in &erased.states {
                if !self.states.iter().any(|(s, _)| s == state) {
                    problems
                        .push(format!("`{}` asks for a state of type `{}`, which is not there", c.name, state.name));
                }
            }
            if let Some(undoes) = &c.undoes {
                if !effects.contains(&&*undoes.effect) {
                    problems.push(format!(
                        "`{}` undoes `{}`, which no handler declares as its effect; there {}",
                        c.name,
                        undoes.effect,
                        listed(&effects)
                    ));
                }
                if effects.contains(&&*undoes.as_) {
                    problems
                        .push(format!("`{}` calls its undo `{}`, which is the name of an effect", c.name, undoes.as_));
                }
                if c.effect.is_some() {
                    problems.push(format!(
                        "`{}` declares an effect and undoes another; a handler does one of them",
                        c.name
                    ));
                }
            }
            if c.confirms && (c.effect.is_some() || c.undoes.is_some()) {
                problems.push(format!("`{}` answers for `confirm` and must not have an effect of its own", c.name));
            }
            if c.blocks_late && c.undoes.is_none() && !c.confirms {
                problems.push(format!(
                    "`{}`: blocks_late() is about an undo or a handler that returns a Confirmation",
                    c.name
                ));
            }
        }
        if let Some((state, _)) = &self.ledger
            && !self.states.iter().any(|(s, _)| s == state)
        {
            problems.push(format!("the ledger is a state of type `{}`, which is not there", state.name));
        }
        problems
    }

    /// Returns what every handler declares.
    #[must_use]
    pub fn contracts(&self) -> Contracts {
        self.handlers.iter().map(|h| (h.contract.name.clone(), Arc::new(h.contract.clone()))).collect()
    }

    /// Makes the states for a world, and the handlers that work in it.
    ///
    /// # Errors
    /// What [`finish`](Self::finish) reports, or why a state could not be made.
    pub fn build(&self, world: &World) -> Result<Handlers, Vec<String>> {
        let mut problems = self.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut states = States::default();
        for (state, make) in &self.states {
            match make(world) {
                Ok(made) => states.insert(state.id, made),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let ledger = self.ledger.as_ref().and_then(|(_, find)| find(&states));
        let states = Arc::new(states);
        let handlers = self.handlers.iter().map(|entry| {
            let handler = Handler {
                contract: Arc::new(entry.contract.clone()),
                erased: Arc::clone(&entry.erased),
                states: Arc::clone(&states),
                input: Arc::clone(&entry.input),
                output: Arc::clone(&entry.output),
            };
            (entry.contract.name.clone(), Arc::new(handler))
        });
        Ok(Handlers { by_name: handlers.collect(), ledger, states })
    }

    /// Reads the ledger in a store's folder; absent if these handlers keep none.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn read_ledger(&self, dir: &Path, order: Option<&str>) -> Option<Result<Vec<LedgerEntry>, String>> {
        let read = self.read_ledger.as_ref()?;
        Some(read(dir).map(|mut entries| {
            entries.retain(|e| order.is_none_or(|order| e.order_id == order));
            entries
        }))
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.handlers.iter().map(|h| &h.contract.name)).finish()
    }
}

/// A handler, ready to be called.
pub struct Handler {
    contract: Arc<Contract>,
    erased: Arc<Erased>,
    states: Arc<States>,
    input: Arc<Checker>,
    output: Arc<Checker>,
}

impl Handler {
    /// Returns what the handler declares about itself.
    #[must_use]
    pub fn contract(&self) -> &Arc<Contract> {
        &self.contract
    }

    /// Calls the handler. The input is read at once; nothing else happens before the future is polled.
    ///
    /// A panic of the handler is a panic of the future: whoever polls it has to be prepared.
    #[must_use]
    pub fn call(&self, ctx: StepCtx, input: Value) -> Replying {
        (self.erased.call)(&self.states, ctx, input)
    }

    /// Says what of `input` the handler cannot take.
    ///
    /// # Errors
    /// A permanent error with the code `bad_input`.
    pub fn check_input(&self, input: &Value) -> Result<(), StepError> {
        self.input.check(input).map_err(|why| StepError::permanent(BAD_INPUT, why))
    }

    /// Says what of `output` does not fit the schema that the handler declared.
    ///
    /// # Errors
    /// The violations, in a sentence.
    pub fn check_output(&self, output: &Payload) -> Result<(), String> {
        // Only a schema that says something makes a tree of the text.
        if self.output.accepts_all() { Ok(()) } else { self.output.check(output.value()) }
    }
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Handler").field(&self.contract.name).finish()
    }
}

/// The handlers of a world, by name.
#[derive(Clone)]
pub struct Handlers {
    by_name: BTreeMap<HandlerName, Arc<Handler>>,
    ledger: Option<Arc<dyn Ledger>>,
    states: Arc<States>,
}

impl Handlers {
    /// Returns the state of type `T` that these handlers share.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.states.get::<T>().map(|state| state.0)
    }

    /// Returns the handler called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Handler>> {
        self.by_name.get(name)
    }

    /// Returns all handlers in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Handler>> {
        self.by_name.values()
    }

    /// Returns what every handler declares.
    #[must_use]
    pub fn contracts(&self) -> Contracts {
        self.by_name.iter().map(|(name, handler)| (name.clone(), Arc::clone(&handler.contract))).collect()
    }

    /// Returns the ledger, if these handlers keep one.
    #[must_use]
    pub fn ledger(&self) -> Option<&Arc<dyn Ledger>> {
        self.ledger.as_ref()
    }
}

impl std::fmt::Debug for Handlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

fn add_errors<'a>(
    contract: &mut Contract,
    codes: impl IntoIterator<Item = &'a str>,
    kind: Option<ErrorKind>,
    problems: &mut Vec<String>,
) {
    for code in codes {
        // The engine's own codes have no dot, so that the two never meet.
        if !is_name(code) || !code.contains('.') {
            problems.push(format!(
                "`{}`: `{code}` cannot be the code of an error: codes are dotted and lower-case, `payment.declined`",
                contract.name
            ));
        }
        let known = contract.errors.entry(Code::from(code)).or_insert(kind);
        match (*known, kind) {
            (Some(before), Some(now)) if before != now => problems.push(format!(
                "`{}` declares `{code}` as {} and as {}; leave the kind open with errors([..])",
                contract.name,
                word(before),
                word(now)
            )),
            (None, Some(_)) => *known = kind,
            _ => {}
        }
    }
}

fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Retryable => "retryable",
        ErrorKind::Permanent => "permanent",
        ErrorKind::Unknown => "unknown",
    }
}

fn listed(effects: &[&str]) -> String {
    if effects.is_empty() { "are no effects".into() } else { format!("are {}", effects.join(", ")) }
}

/// Tells whether `text` is made of lower-case words joined by dots.
pub(crate) fn is_name(text: &str) -> bool {
    text.split('.').all(is_word)
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
