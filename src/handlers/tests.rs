use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::contract::{IfAbsent, Repeat};
use super::{Confirmation, Duration, Registry, Reply, Secret, State, StepCtx, StepError, World};
use crate::failure::ErrorKind;
use crate::payload::Payload;
use crate::time::SystemClock;

struct Gateway(&'static str);
struct Book(u32);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Charge {
    amount: u32,
    note: Option<String>,
    timeout: Option<Duration>,
    secret: Option<Secret>,
}

#[derive(Serialize, JsonSchema)]
struct Charged {
    payment_id: String,
    note: Option<String>,
}

async fn charge(ctx: StepCtx, State(gateway): State<Gateway>, input: Charge) -> Result<Charged, StepError> {
    let _ = (input.timeout, input.secret);
    Ok(Charged { payment_id: format!("{}-{}-{}", gateway.0, ctx.key, input.amount), note: input.note })
}

fn refund(_: StepCtx, State(book): State<Book>, gateway: State<Gateway>, _: Value) -> Result<u32, StepError> {
    Ok(book.0 + u32::try_from(gateway.0.0.len())?)
}

async fn lookup(_: StepCtx, key: String) -> Result<Confirmation<Charged>, StepError> {
    Ok(match &*key {
        "yes" => Confirmation::Done(Charged { payment_id: key, note: None }),
        "no" => Confirmation::NotDone,
        _ => Confirmation::Unknown,
    })
}

fn parses(_: StepCtx, text: String) -> Result<i64, std::num::ParseIntError> {
    text.parse()
}

fn world() -> World {
    World::in_memory(Arc::new(SystemClock))
}

fn ctx() -> StepCtx {
    StepCtx::new("charge", "k", Arc::new(SystemClock))
}

/// The registration of SPEC section 8, handlers before states.
fn registry() -> Registry {
    Registry::new()
        .handler("payment.charge", charge)
        .effect("charged")
        .keyed()
        .errors(["payment.declined", "payment.unavailable"])
        .retryable(["payment.unavailable"])
        .handler("payment.refund", refund)
        .undoes("charged", "refunded")
        .keyed()
        .if_absent_ok()
        .blocks_late()
        .state(Gateway("pay"))
        .handler("payment.lookup", lookup)
        .blocks_late()
        .describe("Asks the gateway.")
        .handler("text.parse", parses)
        .state_with(|world: &World| {
            let pages = world.setup.get("pages").and_then(Value::as_u64).unwrap_or(7);
            u32::try_from(pages).map(Book).map_err(|e| format!("`pages`: {e}"))
        })
}

async fn call(name: &str, input: Value) -> Result<Reply, StepError> {
    let handlers = registry().build(&world()).expect("the registry is in order");
    handlers.get(name).expect("it is registered").call(ctx(), input).await
}

fn problems(registry: Registry) -> Vec<String> {
    registry.finish().expect_err("there is a mistake in it")
}

#[test]
fn contracts_say_what_was_declared() {
    let contracts = registry().finish().expect("the registry is in order").contracts();
    let charge = &contracts["payment.charge"];
    assert_eq!((charge.effect.as_deref(), charge.repeat), (Some("charged"), Repeat::Keyed));
    assert_eq!(charge.errors["payment.declined"], None);
    assert_eq!(charge.errors["payment.unavailable"], Some(ErrorKind::Retryable));
    let refund = &contracts["payment.refund"];
    let undoes = refund.undoes.as_ref().expect("it is an undo");
    assert_eq!((&*undoes.effect, &*undoes.as_, undoes.if_absent), ("charged", "refunded", IfAbsent::Ok));
    assert!(refund.blocks_late && !refund.confirms);
    let lookup = &contracts["payment.lookup"];
    assert!(lookup.confirms && lookup.blocks_late);
    assert_eq!(lookup.output["required"], json!(["payment_id", "note"]), "the schema is that of what Done carries");
    assert_eq!(contracts.keys().filter(|n| n.as_str().starts_with("core.")).count(), 2);
}

#[test]
fn optional_fields_may_be_left_out_or_null() {
    let handlers = registry().build(&world()).expect("the registry is in order");
    let charge = handlers.get("payment.charge").expect("it is registered");
    assert_eq!(charge.contract().input["required"], json!(["amount"]));
    for good in [
        json!({"amount": 1}),
        json!({"amount": 1, "note": null, "timeout": null}),
        json!({"amount": 1, "timeout": "5m"}),
    ] {
        assert!(charge.check_input(&good).is_ok(), "{good}");
    }
    let why = |input| charge.check_input(&input).expect_err("it does not fit").message().to_owned();
    assert_eq!(why(json!({})), "\"amount\" is a required property");
    assert!(why(json!({"amount": 1, "timeout": "5"})).starts_with("timeout: a string does not match"));
    assert!(why(json!({"amount": 1, "nota": ""})).contains("'nota' was unexpected"));
    assert!(why(json!({"amount": -1})).starts_with("amount: a number is less than the minimum"));
}

#[tokio::test]
async fn async_and_blocking_functions_are_called_with_their_states() {
    let output = call("payment.charge", json!({"amount": 5})).await.expect("it works");
    assert_eq!(output, Reply::Output(Payload::of(json!({"payment_id": "pay-k-5", "note": null}))));
    let output = call("payment.refund", Value::Null).await.expect("it works");
    assert_eq!(output, Reply::Output(Payload::of(json!(10))));
}

#[tokio::test]
async fn confirm_handlers_answer_in_three_ways() {
    let done = Payload::of(json!({"payment_id": "yes", "note": null}));
    for (key, answer) in
        [("yes", Confirmation::Done(done)), ("no", Confirmation::NotDone), ("?", Confirmation::Unknown)]
    {
        assert_eq!(call("payment.lookup", json!(key)).await.expect("it works"), Reply::Confirmation(answer));
    }
}

#[tokio::test]
async fn input_that_cannot_be_read_is_permanent_and_other_errors_are_unknown() {
    let error = call("payment.charge", json!({"amount": "5"})).await.expect_err("5 is text");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Permanent, "bad_input"));
    let error = call("text.parse", json!("x")).await.expect_err("x is no number");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unknown, "handler.error"));
}

#[tokio::test]
async fn a_panic_of_a_blocking_function_arrives() {
    fn panics(_: StepCtx, _: Value) -> Result<(), StepError> {
        panic!("on purpose")
    }
    let handlers = Registry::new().handler("a.b", panics).build(&world()).expect("it is in order");
    let call = handlers.get("a.b").expect("it is registered").call(ctx(), Value::Null);
    assert!(tokio::spawn(call).await.expect_err("it panics").is_panic());
}

/// A choice is refused as a whole by the schema; the message is about the branch that was meant.
#[test]
fn a_mistake_inside_a_choice_is_told_at_its_place() {
    #[derive(Deserialize, JsonSchema)]
    struct Outer {
        means: Option<Means>,
    }
    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Means {
        Card { number: u32 },
        Account { iban: String },
    }
    async fn nothing(_: StepCtx, input: Outer) -> Result<Option<String>, StepError> {
        Ok(input.means.map(|means| match means {
            Means::Card { number } => number.to_string(),
            Means::Account { iban } => iban,
        }))
    }
    let handlers = Registry::new().handler("a.b", nothing).build(&world()).expect("it is in order");
    let handler = handlers.get("a.b").expect("it is registered");
    let why = |input| handler.check_input(&input).expect_err("it does not fit").message().to_owned();
    assert_eq!(
        why(json!({"means": {"card": {"number": "1"}}})),
        "means.card.number: a string is not of type \"integer\""
    );
    assert_eq!(why(json!({"means": {"account": {}}})), "means.account: \"iban\" is a required property");
    assert_eq!(why(json!({"means": 1})), "means: a number is not of type \"object\"");
    assert!(handler.check_input(&json!({"means": null})).is_ok());
}

#[test]
fn an_output_is_held_against_its_schema() {
    let handlers = registry().build(&world()).expect("the registry is in order");
    let charge = handlers.get("payment.charge").expect("it is registered");
    assert!(charge.check_output(&Payload::of(json!({"payment_id": "x", "note": null}))).is_ok());
    let why = charge.check_output(&Payload::of(json!({"payment_id": 1, "note": null}))).expect_err("1 is no text");
    assert_eq!(why, "payment_id: a number is not of type \"string\"");
    let pass = handlers.get("core.pass").expect("it is built in");
    assert!(pass.check_output(&Payload::of(json!([1, "x", null]))).is_ok());
}

#[tokio::test]
async fn builtins_pass_and_fail() {
    let input = json!({"a": [1, null]});
    assert_eq!(call("core.pass", input.clone()).await.expect("it works"), Reply::Output(Payload::of(input)));
    let told = json!({"code": "payment.declined", "kind": "unknown", "message": "no"});
    let error = call("core.fail", told).await.expect_err("it fails");
    assert_eq!((error.kind(), error.code(), error.message()), (ErrorKind::Unknown, "payment.declined", "no"));
    let error = call("core.fail", json!({})).await.expect_err("it fails");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Permanent, "core.failed"));
}

#[test]
fn mistakes_are_reported_before_anything_runs() {
    async fn nothing(_: StepCtx, _: Value) -> Result<(), StepError> {
        Ok(())
    }
    let new = || Registry::new().handler("a.b", nothing);
    for (registry, problem) in [
        (new().handler("a.b", nothing), "`a.b` is registered twice"),
        (new().handler("core.pass", nothing), "`core.pass` is built in"),
        (new().handler("A.b", nothing), "`A.b` cannot name a handler"),
        (new().handler("a..b", nothing), "`a..b` cannot name a handler"),
        (new().errors(["Declined"]), "`Declined` cannot be the code of an error"),
        (new().errors(["timeout"]), "`timeout` cannot be the code of an error"),
        (new().permanent(["a.x"]).retryable(["a.x"]), "`a.b` declares `a.x` as permanent and as retryable"),
        (new().undoes("charged", "refunded"), "`a.b` undoes `charged`, which no handler declares"),
        (new().effect("done").handler("c.d", nothing).undoes("done", "done"), "which is the name of an effect"),
        (
            new().effect("done").handler("c.d", nothing).effect("x").undoes("done", "undone"),
            "a handler does one of them",
        ),
        (new().effect("Done"), "`Done` cannot name an effect"),
        (new().effect("x").effect("y"), "declares two effects"),
        (new().keyed().safe(), "both keyed and safe"),
        (new().if_absent_ok(), "say undoes(..) before it"),
        (new().blocks_late(), "blocks_late() is about an undo"),
        (new().state(Book(1)).keyed(), "keyed or safe(..) must follow the handler(..)"),
        (Registry::new().effect("x"), "effect(..) must follow"),
        (new().state(Book(1)).state(Book(2)), "there are two states of type"),
        (new().handler("c.d", lookup).effect("x"), "must not have an effect of its own"),
        (new().handler("c.d", charge), "`c.d` asks for a state of type `flowrun::handlers::tests::Gateway`"),
    ] {
        let found = problems(registry);
        assert!(found.len() == 1 && found[0].contains(problem), "{problem}: {found:?}");
    }
}

#[test]
fn a_state_that_cannot_be_made_is_reported_and_made_anew_for_each_world() {
    let mut world = world();
    world.setup.insert("pages".into(), json!(u64::MAX));
    let problems = registry().build(&world).expect_err("so many pages do not fit");
    assert!(problems[0].starts_with("`pages`: "), "{problems:?}");
}

/// Returns a list in a list in a list, so many levels deep.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| Value::Array(vec![inner]))
}

#[tokio::test]
async fn f02_what_a_handler_returns_is_written_and_dropped_without_recursion() {
    async fn returns(_: StepCtx, levels: usize) -> Result<Value, StepError> {
        Ok(nested(levels))
    }
    async fn confirms(_: StepCtx, levels: usize) -> Result<Confirmation<Value>, StepError> {
        Ok(Confirmation::Done(nested(levels)))
    }
    async fn fails(_: StepCtx, levels: usize) -> Result<Value, StepError> {
        Err(StepError::permanent("a.b", "no").details(nested(levels)))
    }
    let registry =
        Registry::new().handler("a.returns", returns).handler("a.confirms", confirms).handler("a.fails", fails);
    let handlers = registry.build(&world()).expect("the registry is in order");
    let call = async |name: &str, levels: usize| {
        handlers.get(name).expect("it is registered").call(ctx(), json!(levels)).await
    };
    for name in ["a.returns", "a.confirms"] {
        assert!(call(name, 100).await.is_ok(), "{name}");
        for levels in [101, 10_000, 200_000] {
            let error = call(name, levels).await.expect_err("it is too deep");
            assert_eq!((error.code(), error.kind()), ("bad_output", ErrorKind::Unknown), "{name} {levels}");
            assert!(error.message().contains("more than 100 levels"), "{error}");
        }
    }
    for levels in [10_000, 200_000] {
        let error = call("a.fails", levels).await.expect_err("it fails");
        assert_eq!((error.code(), error.kind()), ("a.b", ErrorKind::Permanent), "the error counts all the same");
        assert!(error.message().contains("its details nest more than 100 levels"), "{error}");
    }
}
