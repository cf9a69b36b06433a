//! Whatever is wrong around a run is named, with what to do about it, and leaves no order half begun.

use std::time::Duration;

use crate::lab::Lab;
use crate::program::Place;
use crate::servers::free_ports;

const ORDER: [&str; 5] = ["exec", "--input", "examples/order.json", "--id", "order-1"];

#[test]
fn a_server_that_is_not_there_and_one_that_knows_no_worker() {
    let mut place = Place::new();
    place.environment.push(("FLOWRUN_ENGINE", "restate".to_owned()));
    place.environment.push(("FLOWRUN_URL", format!("http://127.0.0.1:{}", free_ports::<1>()[0])));
    for args in [&ORDER[..], &["list"], &["show", "@last"], &["signal", "x", "y"], &["cancel", "x"]] {
        let ran = place.run(args).expect(10);
        assert!(ran.stderr.contains("no Restate server answers at http://127.0.0.1:"), "{ran:#?}");
        assert!(ran.stderr.contains("--url"), "{ran:#?}");
    }
    let nowhere = format!("http://127.0.0.1:{}", free_ports::<1>()[0]);
    let ran = place.run(&["worker", "--listen", "127.0.0.1:0", "--register", &nowhere]).expect(10);
    assert!(ran.stderr.contains("--register"), "{ran:#?}");

    let Some(lab) = Lab::without_workers(1) else { return };
    let ran = lab.place.run(&ORDER).expect(10);
    assert!(ran.stderr.contains("knows no worker of flowrun") && ran.stderr.contains("flowrun worker"), "{ran:#?}");
}

#[test]
fn a_worker_that_is_gone_is_missed_and_the_order_is_carried_out_once_it_is_back() {
    let Some(mut lab) = Lab::with(1, 1, &["{ step: label, do: { delay: 300ms } }"]) else { return };
    let mut running = lab.place.start(&ORDER);
    running.wait_for("label         started");
    lab.kill_worker(0);
    let ran = lab.place.run(&["list"]).expect(10);
    assert!(ran.stderr.contains("no worker of the cluster"), "{ran:#?}");
    lab.start_worker(0);
    running.end().expect(0);
    let history = lab.place.run(&["history", "order-1", "-o", "jsonl"]).expect(0).lines();
    let count = |kind: &str| history.iter().filter(|event| event["type"] == kind).count();
    assert_eq!((count("run_resumed"), count("attempt_cut_off"), count("run_finished")), (1, 1, 1), "{history:#?}");
    let labelled = lab.place.ledger().iter().filter(|entry| entry["effect"] == "labelled").count();
    assert_eq!(labelled, 1);
}

/// The cluster's operator may cancel what he sees there. A call that was cut off so may have been made all the same.
#[test]
fn a_call_that_the_operator_of_the_cluster_cancels_may_have_happened() {
    let Some(lab) = Lab::with(1, 1, &["{ step: charge, member: primary, attempts: 1, do: { delay: 2s } }"]) else {
        return;
    };
    let mut running = lab.place.start(&[&ORDER[..], &["-o", "json"]].concat());
    running.wait_for("charge        started");
    running.run_for(Duration::from_millis(300));
    let admin = lab.servers.admin(0);
    let sql = "SELECT id FROM sys_invocation WHERE target_service_name = 'flowrun.Attempt' AND status = 'running'";
    let open = post(&format!("{admin}/query"), &serde_json::json!({ "query": sql }).to_string());
    let open: serde_json::Value = serde_json::from_str(&open).unwrap_or_else(|error| panic!("{error}: {open}"));
    let id = open["rows"][0]["id"].as_str().unwrap_or_else(|| panic!("one attempt is under way: {open}"));
    curl(&["-X", "PATCH", &format!("{admin}/invocations/{id}/cancel")]);
    running.end().expect(0);
    let history = lab.place.run(&["history", "order-1", "-o", "jsonl"]).expect(0).lines();
    let failed: Vec<_> = history.iter().filter(|e| e["type"] == "attempt_unknown").map(|e| &e["error"]).collect();
    assert_eq!(failed.len(), 1, "{history:#?}");
    assert_eq!((&failed[0]["code"], &failed[0]["kind"]), (&"crashed".into(), &"unknown".into()));
    let charged = lab.place.ledger().iter().filter(|entry| entry["effect"] == "charged").count();
    assert_eq!(charged, 1, "nobody is charged twice");
}

fn post(url: &str, body: &str) -> String {
    curl(&["-H", "accept: application/json", "-H", "content-type: application/json", "-d", body, url])
}

fn curl(args: &[&str]) -> String {
    let done = std::process::Command::new("curl").args(["-sS", "--fail-with-body"]).args(args).output();
    let done = done.expect("curl can be run");
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).expect("it is text")
}

/// Stopped in order, a worker leaves what it was doing to the next one.
#[test]
fn a_worker_that_is_stopped_says_so() {
    let Some(mut lab) = Lab::start(1, 2) else { return };
    let mut running = lab.place.start(&ORDER);
    running.run_for(Duration::from_millis(100));
    assert_eq!(lab.stop_worker(0), Some(143));
    running.end().expect(0);
}

#[test]
fn a_worker_does_not_begin_with_a_workflow_that_it_cannot_run() {
    let Some(lab) = Lab::without_workers(1) else { return };
    lab.place.write("workflows/other.yaml", "flowrun: 1\nname: other\nsteps: { a: { uses: not.there } }\n");
    let admin = lab.servers.admin(0);
    let ran = lab.place.run(&["worker", "--listen", "127.0.0.1:0", "--register", &admin]).expect(3);
    assert!(ran.stderr.contains("not.there"), "{ran:#?}");
}

#[test]
fn bad_input_is_refused_before_anything_begins() {
    let Some(lab) = Lab::start(1, 1) else { return };
    lab.place.order("bad.json", |order| order["items"] = serde_json::json!([]));
    let refused = [
        (&["exec", "--input", "bad.json", "--id", "order-1"][..], 3),
        (&["exec", "--input", "examples/order.json", "--id", "no spaces"], 2),
        (&["exec", "--input", "examples/order.json", "--faults", "faults.yaml"], 3),
    ];
    for (args, code) in refused {
        lab.place.run(args).expect(code);
    }
    lab.place.faults("faults.yaml", &["{ step: label, do: hang }"]);
    let ran = lab.place.run(&["exec", "--input", "examples/order.json", "--faults", "faults.yaml"]).expect(2);
    assert!(ran.stderr.contains("flowrun worker --faults"), "{ran:#?}");
    lab.place.run(&["show", "it's; DROP"]).expect(8);
    assert_eq!(lab.place.run(&["list", "-o", "jsonl"]).expect(0).stdout, "", "nothing was begun");
}
