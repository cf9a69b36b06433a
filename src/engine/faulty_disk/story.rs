//! What happens to an order in these tests: the ways through the shipped workflow, and the parts that all lives share.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use crate::definition::{Definition, Overrides};
use crate::engine::Workflow;
use crate::faults::Faults;
use crate::handlers::{Contracts, Handlers, LedgerEntry, World};
use crate::limits::Limits;
use crate::orders;
use crate::store::fault::FaultDisk;
use crate::store::journal::Journal as _;
use crate::store::redb::RedbStore;
use crate::time::{SystemClock, Timestamp};

/// When every story begins: 2026-01-01T00:00:00Z.
pub(super) const BEGIN: Timestamp = Timestamp(1_767_225_600_000);

/// A way through the order process.
#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) name: &'static str,
    /// The run's id.
    pub(super) id: &'static str,
    pub(super) input: Value,
    pub(super) faults: Arc<Faults>,
    /// The news of the payment comes while the run waits for it.
    pub(super) settled: bool,
    /// The process is stopped in order when the run waits for the first time, and another one goes on.
    pub(super) stopped: bool,
}

impl Story {
    fn new(name: &'static str, change: impl FnOnce(&mut Value), faults: &Value) -> Self {
        let mut input = serde_json::from_str(include_str!("../../../examples/order.json")).expect("an order");
        change(&mut input);
        let faults = Arc::new(Faults::read(faults).expect("rules"));
        Self { name, id: "ORD-1001", input, faults, settled: false, stopped: false }
    }

    /// Everything works.
    pub(super) fn success() -> Self {
        Self::new("success", |_| {}, &json!([]))
    }

    /// The carrier refuses the parcel when everything else is done; an undo works at its second attempt.
    pub(super) fn compensation() -> Self {
        let faults = json!([
            { "step": "label", "call": "forward", "do": { "error": "shipping.refused", "kind": "permanent" } },
            { "step": "charge", "call": "undo", "attempts": 1,
              "do": { "error": "payment.unavailable", "kind": "retryable" } },
        ]);
        Self::new("compensation", |_| {}, &faults)
    }

    /// The gateway is down, so the payment is queued, and settled while the run waits for it.
    pub(super) fn wait() -> Self {
        let faults = json!([
            { "step": "charge", "member": "primary", "do": { "error": "payment.unavailable", "kind": "retryable" } },
        ]);
        let without_alternative = |input: &mut Value| {
            input.as_object_mut().expect("an order").remove("alternativePayment");
        };
        Self { settled: true, ..Self::new("wait", without_alternative, &faults) }
    }

    /// The same, and the process is stopped while the run waits.
    pub(super) fn resumed_wait() -> Self {
        Self { name: "resumed wait", stopped: true, ..Self::wait() }
    }

    /// The payment is never settled: the wait ends by itself, and the order is undone.
    pub(super) fn expired_wait() -> Self {
        Self { name: "expired wait", settled: false, ..Self::wait() }
    }

    /// The gateway, the carrier and the mail are down for the first choice of each.
    pub(super) fn fallback() -> Self {
        let down =
            |step, code| json!({ "step": step, "member": "primary", "do": { "error": code, "kind": "retryable" } });
        let faults = json!([
            down("charge", "payment.unavailable"),
            down("label", "shipping.unavailable"),
            down("notify", "mail.unavailable"),
        ]);
        Self::new("fallback", |_| {}, &faults)
    }

    /// All of them.
    pub(super) fn all() -> Vec<Self> {
        vec![
            Self::success(),
            Self::compensation(),
            Self::wait(),
            Self::resumed_wait(),
            Self::expired_wait(),
            Self::fallback(),
        ]
    }
}

/// What is made once for all lives.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) workflow: Arc<Workflow>,
    pub(super) limits: Limits,
    /// The disk of a store in which nothing has happened yet.
    pub(super) new_store: Vec<u8>,
}

/// Returns what is made once for all lives.
pub(super) fn parts() -> &'static Parts {
    static PARTS: OnceLock<Parts> = OnceLock::new();
    PARTS.get_or_init(|| {
        let limits = Limits::default();
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows/ecommerce-order.yaml");
        let (loaded, findings) = Definition::load(&path, &Overrides::default(), &limits);
        let loaded = loaded.unwrap_or_else(|| panic!("{findings:#?}"));
        let contracts: Contracts = orders::registry().contracts();
        let workflow = Arc::new(Workflow::compile(&loaded, &contracts).expect("the shipped workflow"));
        let disk = FaultDisk::default();
        RedbStore::with_backend(disk.clone()).expect("a new store").close().expect("closed");
        Parts { workflow, limits, new_store: disk.image() }
    })
}

/// Returns the handlers over services that have done what the ledger says.
pub(super) fn services_after(ledger: Vec<LedgerEntry>) -> Handlers {
    let world = World::in_memory(Arc::new(SystemClock));
    orders::registry_after(move || ledger.clone()).build(&world).expect("the services start")
}
