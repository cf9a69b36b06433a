use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::{Value, json};

use super::ledger::{FILE, read_entries};
use super::registry;
use crate::failure::ErrorKind;
use crate::handlers::{Confirmation, Handlers, LedgerEntry, Reply, StepCtx, StepError, World};
use crate::time::{Clock, Sleep, Timestamp};

/// A clock that is set by hand.
#[derive(Default)]
struct Hands(AtomicI64);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        self.0.fetch_max(at.0, Ordering::SeqCst);
        Box::pin(std::future::ready(()))
    }
}

struct Shop {
    handlers: Handlers,
    clock: Arc<Hands>,
}

impl Shop {
    fn new(stock: Value) -> Self {
        Self::open(None, stock)
    }

    fn open(dir: Option<&Path>, stock: Value) -> Self {
        Self::at(dir, false, stock)
    }

    fn at(dir: Option<&Path>, shared: bool, stock: Value) -> Self {
        let clock = Arc::new(Hands::default());
        let mut world = World::in_memory(Arc::clone(&clock) as Arc<dyn Clock>);
        world.dir = dir.map(Path::to_owned);
        world.shared = shared;
        world.setup.insert("stock".into(), stock);
        Self { handlers: registry().build(&world).expect("the registry is in order"), clock }
    }

    async fn reply(&self, name: &str, key: &str, input: Value) -> Result<Reply, StepError> {
        let handler = self.handlers.get(name).expect("it is registered");
        handler.check_input(&input)?;
        let ctx = StepCtx::new("step", key, Arc::clone(&self.clock) as Arc<dyn Clock>);
        let reply = handler.call(ctx, input).await?;
        if let Reply::Output(output) | Reply::Confirmation(Confirmation::Done(output)) = &reply {
            assert_eq!(handler.check_output(output), Ok(()), "{name}");
        }
        Ok(reply)
    }

    async fn call(&self, name: &str, key: &str, input: Value) -> Value {
        match self.reply(name, key, input).await {
            Ok(Reply::Output(output)) => Value::clone(output.value()),
            other => panic!("{name}: {other:?}"),
        }
    }

    async fn fail(&self, name: &str, key: &str, input: Value) -> (ErrorKind, String) {
        let error = self.reply(name, key, input).await.expect_err(name);
        (error.kind(), error.code().to_owned())
    }

    fn pass(&self, ms: i64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    fn entries(&self) -> Vec<LedgerEntry> {
        self.handlers.ledger().expect("there is a ledger").entries(None).expect("it can be read")
    }

    /// How often each effect happened.
    fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for entry in self.entries() {
            *counts.entry(entry.effect).or_default() += 1;
        }
        counts
    }

    async fn free(&self, product: &str) -> i64 {
        let items = json!([{ "product_id": product, "quantity": 1000, "unit_price": 1 }]);
        match self.reply("inventory.check", "-", json!({ "items": items, "allow_partial": true })).await {
            Ok(Reply::Output(output)) => output.value()["items"][0]["quantity"].as_i64().expect("a count"),
            _ => 0,
        }
    }
}

fn counts(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs.iter().map(|(effect, n)| ((*effect).to_owned(), *n)).collect()
}

fn charge(token: &str, amount: i64) -> Value {
    json!({ "order_id": "O", "method": { "type": "card", "token": token }, "amount": amount })
}

fn undo(key: &str) -> Value {
    json!({ "order_id": "O", "key": key })
}

fn reserve(lines: &[(&str, i64)], allow_partial: bool) -> Value {
    let items: Vec<Value> =
        lines.iter().map(|(p, n)| json!({ "product_id": p, "quantity": n, "unit_price": 2_999 })).collect();
    json!({ "order_id": "O", "items": items, "allow_partial": allow_partial, "hold": "5m" })
}

fn take(hold: &Value) -> Value {
    json!({ "order_id": "O", "hold_id": hold["hold_id"] })
}

fn permanent(code: &str) -> (ErrorKind, String) {
    (ErrorKind::Permanent, code.to_owned())
}

fn order(items: Value) -> Value {
    json!({ "order": {
        "orderId": "ORD-1", "customerId": "C", "items": items, "paymentMethod": { "type": "card" },
        "shippingAddress": { "street": "Main St 1", "city": "Springfield", "country": "US", "postalCode": "1" },
    } })
}

#[test]
fn the_shipped_handlers_are_registered_in_order() {
    let contracts = registry().finish().expect("there is no mistake in it").contracts();
    for contract in contracts.values() {
        assert!(contract.description.is_some(), "{} says nothing", contract.name);
        assert!(contract.repeatable(), "{} does something twice", contract.name);
        let undo =
            contracts.values().find(|c| c.undoes.as_ref().is_some_and(|u| Some(&u.effect) == contract.effect.as_ref()));
        if let Some(undo) = undo {
            assert!(undo.blocks_late, "{} lets a late original through", undo.name);
        }
    }
}

/// The schema that editors and the workflow use is the one of the type that reads the order.
#[test]
fn the_order_schema_is_that_of_the_handler() {
    let mut schema = crate::handlers::schema::of_input::<super::types::Order>();
    let object = schema.as_object_mut().expect("a struct has an object as schema");
    object.shift_insert(0, "$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    object.shift_insert(1, "title".into(), json!("Order"));
    let made = serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/order.schema.json");
    if std::env::var_os("FLOWRUN_BLESS").is_some() {
        std::fs::write(&path, &made).expect("the file can be written");
    }
    let kept = std::fs::read_to_string(&path).expect("the file is there");
    assert!(kept == made, "{} is stale: run the tests with FLOWRUN_BLESS=1", path.display());
}

#[tokio::test]
async fn the_example_order_totals_109_97() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/order.json");
    let text = std::fs::read_to_string(path).expect("the example is there");
    let example: Value = serde_json::from_str(&text).expect("it is JSON");
    let output = Shop::new(json!({})).call("order.validate", "k", json!({ "order": example })).await;
    assert_eq!((&output["total"], &output["display_total"]), (&json!(10_997), &json!("109.97")));
}

#[tokio::test]
async fn every_example_order_fits_the_schema() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/orders.jsonl");
    let text = std::fs::read_to_string(path).expect("the examples are there");
    let shop = Shop::new(json!({}));
    let validate = shop.handlers.get("order.validate").expect("it is registered");
    for line in text.lines() {
        let order: Value = serde_json::from_str(line).expect("each line is JSON");
        assert!(validate.check_input(&json!({ "order": order })).is_ok(), "{line}");
    }
}

#[tokio::test]
async fn an_order_that_makes_no_sense_is_invalid_for_good() {
    let shop = Shop::new(json!({}));
    let item = |quantity: i64, price: Value| json!({ "productId": "P", "quantity": quantity, "price": price });
    let large = json!({ "productId": "Q", "quantity": 1_000_000, "price": 9_999_999_999.99 });
    for items in [
        json!([item(1, json!(1)), item(2, json!(1))]),
        json!([item(1, json!(29.999))]),
        json!([item(1, json!(0.001))]),
        json!([large]),
    ] {
        assert_eq!(shop.fail("order.validate", "k", order(items.clone())).await, permanent("order.invalid"), "{items}");
    }
    // The schema refuses these before a run begins; the handler does not rely on it.
    let validate = shop.handlers.get("order.validate").expect("it is registered");
    for items in [
        json!([]),
        json!([item(0, json!(1))]),
        json!([item(-1, json!(1))]),
        json!([item(1, json!(-1))]),
        json!([item(1, json!(0))]),
    ] {
        let input = order(items);
        assert!(validate.check_input(&input).is_err(), "{input}");
        let ctx = StepCtx::new("validate", "k", Arc::clone(&shop.clock) as Arc<dyn Clock>);
        let error = validate.call(ctx, input.clone()).await.expect_err("it is refused");
        assert_eq!((error.kind(), error.code()), (ErrorKind::Permanent, "order.invalid"), "{input}");
    }
}

#[tokio::test]
async fn a_charge_is_made_once_per_key_and_a_late_original_is_refused() {
    let shop = Shop::new(json!({}));
    let first = shop.call("payment.charge", "k", charge("tok_visa", 10_997)).await;
    assert_eq!(shop.call("payment.charge", "k", charge("tok_visa", 10_997)).await, first);
    assert_eq!(shop.fail("payment.charge", "k", charge("tok_visa", 1)).await, permanent("bad_input"));
    assert_eq!(shop.call("payment.refund", "k/undo", undo("k")).await, json!({ "undone": true }));
    assert_eq!(shop.call("payment.refund", "k/undo", undo("k")).await, json!({ "undone": true }));
    assert_eq!(shop.fail("payment.charge", "k", charge("tok_visa", 10_997)).await, permanent("payment.refused"));
    assert_eq!(shop.counts(), counts(&[("charged", 1), ("refunded", 1)]));
    assert!(shop.entries().iter().all(|e| e.amount == Some(10_997)));
}

#[tokio::test]
async fn after_a_refund_or_lookup_of_nothing_the_charge_is_refused() {
    let shop = Shop::new(json!({}));
    assert_eq!(shop.call("payment.refund", "a/undo", undo("a")).await, json!({ "undone": false }));
    assert_eq!(shop.call("payment.refund", "a/undo", undo("a")).await, json!({ "undone": false }));
    assert_eq!(shop.fail("payment.charge", "a", charge("tok_visa", 1)).await, permanent("payment.refused"));
    let answer = shop.reply("payment.lookup", "b/confirm", undo("b")).await.expect("it answers");
    assert_eq!(answer, Reply::Confirmation(Confirmation::NotDone));
    assert_eq!(shop.fail("payment.charge", "b", charge("tok_visa", 1)).await, permanent("payment.refused"));
    assert_eq!(shop.counts(), counts(&[("blocked", 2)]), "no money moved");
}

#[tokio::test]
async fn a_lookup_finds_the_charge_and_changes_nothing() {
    let shop = Shop::new(json!({}));
    let charged = shop.call("payment.charge", "k", charge("tok_visa", 5)).await;
    match shop.reply("payment.lookup", "k/confirm", undo("k")).await.expect("it answers") {
        Reply::Confirmation(Confirmation::Done(found)) => assert_eq!(**found.value(), charged),
        other => panic!("{other:?}"),
    }
    assert_eq!(shop.call("payment.charge", "k", charge("tok_visa", 5)).await, charged);
    assert_eq!(shop.counts(), counts(&[("charged", 1)]));
}

#[tokio::test]
async fn a_decline_is_permanent_and_an_outage_is_not() {
    let shop = Shop::new(json!({}));
    assert_eq!(shop.fail("payment.charge", "k", charge("tok_declined", 5)).await, permanent("payment.declined"));
    let outage = (ErrorKind::Retryable, "payment.unavailable".to_owned());
    assert_eq!(shop.fail("payment.charge", "k", charge("tok_unavailable", 5)).await, outage);
    assert_eq!(shop.entries(), []);
}

#[tokio::test]
async fn a_queued_payment_is_settled_once_and_not_after_it_was_withdrawn() {
    let shop = Shop::new(json!({}));
    let settle =
        |queued: &Value, id: &str| json!({ "order_id": "O", "queue_id": queued["payment_id"], "payment_id": id });
    let queued = shop.call("payment.queue", "q", charge("tok_visa", 700)).await;
    assert_eq!(shop.call("payment.queue", "q", charge("tok_visa", 700)).await, queued);
    assert_eq!(shop.entries()[0].amount, None, "no money moves into a queue");
    let booked = shop.call("payment.book", "b", settle(&queued, "PAY-77")).await;
    assert_eq!(booked, json!({ "payment_id": "PAY-77", "amount": 700, "status": "charged" }));
    assert_eq!(shop.call("payment.book", "b", settle(&queued, "PAY-77")).await, booked);
    assert_eq!(shop.fail("payment.book", "b2", settle(&queued, "PAY-78")).await, permanent("payment.refused"));
    // The settlement's own refund failed for good: the withdrawal does not leave the money behind.
    shop.call("payment.withdraw", "q/undo", undo("q")).await;
    shop.call("payment.withdraw", "q/undo", undo("q")).await;
    assert_eq!(shop.call("payment.refund", "b/undo", undo("b")).await, json!({ "undone": true }));
    assert_eq!(shop.counts(), counts(&[("charged", 1), ("payment_queued", 1), ("refunded", 1), ("withdrawn", 1)]));

    let queued = shop.call("payment.queue", "q2", charge("tok_visa", 700)).await;
    shop.call("payment.withdraw", "q2/undo", undo("q2")).await;
    assert_eq!(shop.fail("payment.book", "b3", settle(&queued, "PAY-79")).await, permanent("payment.refused"));
    assert_eq!(shop.counts()["charged"], 1);
}

#[tokio::test]
async fn a_reservation_is_one_decision_over_all_lines() {
    let shop = Shop::new(json!({ "A": 5, "B": 0 }));
    let both = [("A", 2), ("B", 1)];
    assert_eq!(shop.fail("inventory.reserve", "k", reserve(&both, false)).await, permanent("inventory.out_of_stock"));
    assert_eq!(shop.free("A").await, 5, "the first line is not left reserved");
    assert_eq!(shop.entries(), []);
    let held = shop.call("inventory.reserve", "k", reserve(&both, true)).await;
    assert_eq!(held["total"], json!(5_998), "only what is reserved is charged");
    assert_eq!(held["short"], json!([{ "product_id": "B", "ordered": 1, "missing": 1 }]));
    assert_eq!(shop.call("inventory.reserve", "k", reserve(&both, true)).await, held);
    assert_eq!(shop.free("A").await, 3);
    assert_eq!(
        shop.fail("inventory.reserve", "n", reserve(&[("B", 1)], true)).await,
        permanent("inventory.out_of_stock")
    );
}

#[tokio::test]
async fn a_hold_becomes_a_sale_and_goes_all_the_way_back() {
    let shop = Shop::new(json!({ "A": 5 }));
    let held = shop.call("inventory.reserve", "r", reserve(&[("A", 2)], false)).await;
    assert_eq!(held["expires_at"], json!("1970-01-01T00:05:00.000Z"));
    shop.call("inventory.take", "t", take(&held)).await;
    shop.call("inventory.take", "t", take(&held)).await;
    assert_eq!(shop.fail("inventory.release", "r/undo", undo("r")).await, permanent("inventory.hold_sold"));
    shop.pass(600_000);
    assert_eq!(shop.free("A").await, 3, "a sale does not expire");
    shop.call("inventory.put_back", "t/undo", undo("t")).await;
    shop.call("inventory.put_back", "t/undo", undo("t")).await;
    shop.call("inventory.release", "r/undo", undo("r")).await;
    shop.call("inventory.release", "r/undo", undo("r")).await;
    assert_eq!(shop.free("A").await, 5);
    assert_eq!(shop.fail("inventory.take", "t", take(&held)).await, permanent("inventory.refused"));
    assert_eq!(shop.fail("inventory.reserve", "r", reserve(&[("A", 2)], false)).await, permanent("inventory.refused"));
    assert_eq!(shop.counts(), counts(&[("put_back", 1), ("released", 1), ("reserved", 1), ("taken", 1)]));
}

#[tokio::test]
async fn a_hold_that_has_ended_cannot_be_sold() {
    let shop = Shop::new(json!({ "A": 2 }));
    let first = shop.call("inventory.reserve", "r1", reserve(&[("A", 2)], false)).await;
    shop.pass(299_999);
    assert_eq!(shop.free("A").await, 0);
    shop.pass(1);
    let second = shop.call("inventory.reserve", "r2", reserve(&[("A", 2)], false)).await;
    assert_eq!(shop.fail("inventory.take", "t1", take(&first)).await, permanent("inventory.hold_expired"));
    shop.call("inventory.take", "t2", take(&second)).await;
    shop.call("inventory.release", "r1/undo", undo("r1")).await;
    assert_eq!(shop.free("A").await, 0, "releasing an ended hold frees nothing twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_orders_for_the_last_piece_give_one_reservation() {
    let shop = Arc::new(Shop::new(json!({ "A": 1 })));
    let calls = (0..10).map(|n| {
        let shop = Arc::clone(&shop);
        tokio::spawn(async move {
            shop.reply("inventory.reserve", &format!("k{n}"), reserve(&[("A", 1)], true)).await.is_ok()
        })
    });
    let mut reserved = 0;
    for call in calls.collect::<Vec<_>>() {
        reserved += usize::from(call.await.expect("no handler panics"));
    }
    assert_eq!(reserved, 1);
    assert_eq!(shop.counts(), counts(&[("reserved", 1)]));
}

#[tokio::test]
async fn alternatives_are_in_stock() {
    let shop = Shop::new(json!({ "PROD-A1": 0 }));
    let missing = json!({ "items": [{ "product_id": "PROD-C3", "ordered": 1, "missing": 1 }, { "product_id": "X", "ordered": 1, "missing": 1 }] });
    let found = shop.call("catalog.alternatives", "k", missing).await;
    assert_eq!(found["items"][0], json!({ "product_id": "PROD-C3", "alternatives": ["PROD-D4"] }));
    assert_eq!(found["items"][1]["alternatives"], json!([]));
}

#[tokio::test]
async fn parcels_and_tasks_are_made_once_and_undone() {
    let shop = Shop::new(json!({}));
    let parcel = json!({
        "order_id": "O", "address": { "street": "S", "city": "C", "country": "D" },
        "items": [{ "product_id": "A", "quantity": 1, "unit_price": 1 }],
    });
    let label = shop.call("shipping.label", "l", parcel.clone()).await;
    assert_eq!(shop.call("shipping.label", "l", parcel.clone()).await, label);
    shop.call("shipping.void", "l/undo", undo("l")).await;
    assert_eq!(shop.fail("shipping.label", "l", parcel.clone()).await, permanent("shipping.refused"));
    let answer = shop.reply("shipping.lookup", "l/confirm", undo("l")).await.expect("it answers");
    assert_eq!(answer, Reply::Confirmation(Confirmation::NotDone));
    let task = shop.call("shipping.manual_task", "m", parcel).await;
    assert_eq!(task, json!({ "tracking": "MANUAL-O", "carrier": "manual" }));
    shop.call("shipping.close_task", "m/undo", undo("m")).await;
    shop.call("payment.charge", "c", charge("tok_visa", 1)).await;
    assert_eq!(shop.fail("shipping.void", "x", undo("c")).await, permanent("bad_input"));
}

#[tokio::test]
async fn a_mail_goes_out_once() {
    let shop = Shop::new(json!({}));
    let mail = |to: &str| json!({ "order_id": "O", "to": to, "template": "order_confirmed", "data": { "total": 1 } });
    let sent = shop.call("mail.send", "k", mail("ada@example.com")).await;
    assert_eq!(shop.call("mail.send", "k", mail("ada@example.com")).await, sent);
    assert_eq!(shop.fail("mail.send", "n", mail("nobody")).await, permanent("mail.refused"));
    assert_eq!(shop.call("mail.enqueue", "q", mail("ada@example.com")).await["queued"], json!(true));
    assert_eq!(shop.counts(), counts(&[("mail_queued", 1), ("mailed", 1)]));
}

#[tokio::test]
async fn the_ledger_survives_a_restart_and_answers_the_same() {
    let dir = tempfile::tempdir().expect("there is room for a folder");
    let shop = Shop::open(Some(dir.path()), json!({ "A": 2 }));
    let held = shop.call("inventory.reserve", "r", reserve(&[("A", 2)], false)).await;
    let paid = shop.call("payment.charge", "c", charge("tok_visa", 5_998)).await;
    shop.call("inventory.take", "t", take(&held)).await;
    let audit = json!({ "order_id": "O", "status": "failed", "error": { "code": "x" } });
    let noted = shop.call("audit.record", "a", audit.clone()).await;
    let before = shop.entries();
    drop(shop);

    let shop = Shop::open(Some(dir.path()), json!({ "A": 2 }));
    assert_eq!(shop.call("inventory.reserve", "r", reserve(&[("A", 2)], false)).await, held);
    assert_eq!(shop.call("payment.charge", "c", charge("tok_visa", 5_998)).await, paid);
    assert_eq!(shop.call("audit.record", "a", audit).await, noted);
    assert_eq!(shop.free("A").await, 0);
    assert_eq!(shop.entries(), before);
    assert_eq!(read_entries(dir.path()), Ok(before));
    let of_order = registry().read_ledger(dir.path(), Some("P")).expect("there is a ledger");
    assert_eq!(of_order, Ok(Vec::new()));
}

/// Two processes that share the folder know of each other's calls, also of one that died in the middle of a line.
#[tokio::test]
async fn processes_that_share_the_ledger_know_what_the_others_did() {
    let dir = tempfile::tempdir().expect("there is room for a folder");
    let (one, two) =
        (Shop::at(Some(dir.path()), true, json!({ "A": 3 })), Shop::at(Some(dir.path()), true, json!({ "A": 3 })));
    let held = one.call("inventory.reserve", "r1", reserve(&[("A", 2)], false)).await;
    assert_eq!(two.call("inventory.reserve", "r1", reserve(&[("A", 2)], false)).await, held);
    let more = two.reply("inventory.reserve", "r2", reserve(&[("A", 2)], false)).await;
    assert_eq!(more.expect_err("one piece is left").code(), "inventory.out_of_stock");
    let paid = two.call("payment.charge", "c", charge("tok_visa", 1)).await;
    let torn = std::fs::OpenOptions::new().append(true).open(dir.path().join(super::ledger::FILE));
    torn.and_then(|mut file| std::io::Write::write_all(&mut file, b"{\"order_id\":")).expect("it can be written");
    assert_eq!(one.call("payment.charge", "c", charge("tok_visa", 1)).await, paid);
    one.call("inventory.take", "t", take(&held)).await;
    two.call("payment.charge", "d", charge("tok_visa", 2)).await;
    let entries = read_entries(dir.path()).expect("every line is whole");
    let effects: Vec<&str> = entries.iter().map(|entry| entry.effect.as_str()).collect();
    assert_eq!(effects, ["reserved", "charged", "taken", "charged"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_share_a_write_are_all_on_disk_when_they_answer() {
    let dir = tempfile::tempdir().expect("there is room for a folder");
    let shop = Arc::new(Shop::open(Some(dir.path()), json!({})));
    let calls = (0..64).map(|n| {
        let (shop, dir) = (Arc::clone(&shop), dir.path().to_owned());
        tokio::spawn(async move {
            let key = format!("k{n}");
            shop.call("payment.charge", &key, charge("tok_visa", 1)).await;
            read_entries(&dir).expect("it can be read").iter().any(|e| e.key == key)
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(call.await.expect("no handler panics"), "it answered before it was on disk");
    }
    assert_eq!(read_entries(dir.path()), Ok(shop.entries()));
}

#[tokio::test]
async fn a_line_that_a_crash_cut_short_is_dropped_and_written_over() {
    let dir = tempfile::tempdir().expect("there is room for a folder");
    let shop = Shop::open(Some(dir.path()), json!({}));
    shop.call("payment.charge", "a", charge("tok_visa", 1)).await;
    drop(shop);
    let path = dir.path().join(FILE);
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("the file is there");
    file.write_all(br#"{"order_id":"O","key":"b","#).expect("the file can be written");
    assert_eq!(read_entries(dir.path()).expect("it can be read").len(), 1);
    let shop = Shop::open(Some(dir.path()), json!({}));
    shop.call("payment.charge", "c", charge("tok_visa", 1)).await;
    let keys: Vec<String> = read_entries(dir.path()).expect("it can be read").into_iter().map(|e| e.key).collect();
    assert_eq!(keys, ["a", "c"]);
}

#[tokio::test]
async fn a_damaged_ledger_is_not_taken_for_an_empty_one() {
    let dir = tempfile::tempdir().expect("there is room for a folder");
    std::fs::write(dir.path().join(FILE), "{}\n").expect("the file can be written");
    let problem = read_entries(dir.path()).expect_err("it is damaged");
    assert!(problem.contains("line 1: the ledger is damaged"), "{problem}");
    let shop = Shop::open(Some(dir.path()), json!({}));
    let unknown = (ErrorKind::Unknown, "handler.error".to_owned());
    assert_eq!(shop.fail("payment.charge", "a", charge("tok_visa", 1)).await, unknown);
}

#[tokio::test]
async fn a_ledger_that_cannot_be_written_leaves_the_call_unknown() {
    let dir = tempfile::tempdir().expect("there is room for a folder");
    let shop = Shop::open(Some(&dir.path().join("gone")), json!({}));
    let unknown = (ErrorKind::Unknown, "handler.error".to_owned());
    assert_eq!(shop.fail("payment.charge", "a", charge("tok_visa", 1)).await, unknown);
    assert_eq!(shop.fail("payment.charge", "a", charge("tok_visa", 1)).await, unknown, "it does not recover by itself");
}

#[test]
fn a_stock_that_is_no_count_is_refused() {
    let mut world = World::in_memory(Arc::new(Hands::default()));
    world.setup.insert("stock".into(), json!({ "A": -1 }));
    let problems = registry().build(&world).expect_err("there is no negative stock");
    assert!(problems[0].contains("`stock` maps products"), "{problems:?}");
}
