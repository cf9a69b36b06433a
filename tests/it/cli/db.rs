//! `flowrun db`: copies, compaction, exports, and files that are not what they should be.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use redb::ReadableTable as _;
use serde_json::Value;

use super::codes::{FAIL, PASS, WAITS};
use super::harness::{Answered, Test};

const STORE: &str = ".flowrun/flowrun.redb";

/// A run that has a secret in its input, and one in what it fails with.
const SECRET: &str = "secrets: [API_KEY]
steps:
  call: { uses: core.pass, with: { auth: \"Bearer {{ secrets.API_KEY }}\" } }
  shout: { needs: [call], uses: core.fail, with: { code: my.code, kind: permanent, message: \"{{ secrets.API_KEY }}\" } }
";

/// A run that waits for somebody.
fn waiting() -> super::harness::Running {
    let long = WAITS.replace("signal: answer", "signal: answer, timeout: 1h");
    let holder = Test::new().workflow("w", &long).workflow("p", PASS).args("exec w --id long").start();
    holder.until("list", "waiting");
    holder
}

/// A closed store with a completed, a failed and a waiting run.
fn three() -> Answered {
    let test = Test::new().workflow("p", PASS).workflow("f", FAIL).workflow("w", WAITS);
    let done = test.args("exec p --id passed").run();
    let done = Test::after(done).args("exec f --id broken").code(1).run();
    Test::after(done).args("exec w --id open").code(7).run()
}

fn ids(lines: &[Value]) -> Vec<&str> {
    let mut ids: Vec<&str> = lines.iter().map(|line| line["run_id"].as_str().expect("each has one")).collect();
    ids.dedup();
    ids
}

#[test]
fn b19_a_backup_is_made_while_the_store_is_held_and_while_it_is_not() {
    let holder = waiting();
    let (out, _) = holder.call("db backup held.redb -o json", 0);
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&told["runs"], &told["unfinished"]), (&1.into(), &1.into()));
    holder.call("exec p --id later", 0);
    holder.signal("-TERM");
    let done = holder.end(143);
    let done = Test::after(done).args("db backup free.redb").run().stdout_has("free.redb: ");
    for (copy, runs) in [("held.redb", 1), ("free.redb", 2)] {
        let path = done.dir.path().join(copy);
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).expect("it is there").permissions());
        assert_eq!(mode & 0o777, 0o600);
        let call = |line: &str| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_flowrun"));
            command.current_dir(done.dir.path()).args(line.split(' ')).args(["--store", copy, "-o", "json"]);
            let output = command.output().expect("it runs");
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
            serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
        };
        assert_eq!(call("db check")["sound"], true);
        let listed = call("list");
        assert_eq!(listed["runs"].as_array().expect("a list").len(), runs);
    }
    // The copy of the running store goes on by itself.
    let sent = Test::after(done).args("signal long answer --store held.redb").run();
    let sent = sent.stderr_has("warning: held.redb is a backup of ");
    let done = Test::after(sent).args("resume long --store held.redb").run();
    assert!(!done.stderr.contains("warning"), "{}", done.stderr);
}

#[test]
fn a_backup_replaces_nothing() {
    let done = three();
    fs::write(done.dir.path().join("taken"), "mine").expect("written");
    fs::create_dir(done.dir.path().join("backups")).expect("made");
    let done = Test::after(done).args("db backup taken").code(9).run().stderr_has("is there already");
    let done = Test::after(done).args("db backup .flowrun/flowrun.redb").code(9).run();
    let done = Test::after(done).args("db backup no/backup.redb").code(2).run().stderr_has("mkdir -p ");
    assert_eq!(fs::read(done.dir.path().join("taken")).expect("readable"), b"mine");
    // In a folder it gets a name of its own.
    let done = Test::after(done).args("db backup backups -o json").run();
    let made = done.json()["path"].as_str().expect("a path").to_owned();
    assert!(made.contains("/backups/flowrun-20") && made.ends_with("Z.redb"), "{made}");
    assert_eq!(fs::read_dir(done.dir.path().join("backups")).expect("readable").count(), 1);
    let none = Test::new().args("db backup b.redb").code(8).run().stderr_has("nothing to copy");
    assert!(!none.dir.path().join("b.redb").exists());
}

#[test]
fn compacting_needs_the_store_for_itself() {
    let holder = waiting();
    let (_, said) = holder.call("db compact", 9);
    assert!(said.contains(&format!("is held by process {}", holder.child.id())), "{said}");
    let (_, said) = holder.call("db check", 9);
    assert!(said.contains(&format!("is held by process {}", holder.child.id())), "{said}");
    holder.signal("-TERM");
    let before = holder.end(143);
    let before = Test::after(before).args("db export").run();
    let kept = before.stdout.clone();
    let done = Test::after(before).args("db compact -o json").run();
    let told = done.json();
    assert!(told["bytes_after"].as_u64() <= told["bytes_before"].as_u64(), "{told}");
    let after = Test::after(done).args("db export").run();
    assert_eq!(after.stdout, kept);
    Test::after(after).args("db compact").run().stdout_has(" before, ");
    Test::new().args("db compact").run().stderr_has("there is no store");
}

#[test]
fn g05_a_secret_that_begins_like_another_is_taken_out_whole() {
    let shouts = "secrets: [SHORT, LONG]
steps:
  shout: { uses: core.fail, with: { code: my.code, kind: permanent, message: \"{{ secrets.LONG }}, {{ secrets.SHORT }}\" } }
";
    let test = Test::new().workflow("w", shouts).env("SHORT", "hush").env("LONG", "hush-money");
    let done = test.args("exec -o json").code(1).run();
    assert_eq!(done.json()["error"]["message"], "***, ***");
}

#[test]
fn an_export_has_every_event_and_no_secret() {
    // So many events that they do not fit into one page.
    let large = format!("{{\"pad\":\"{}\"}}\n", "x".repeat(300_000)).repeat(5);
    let done = Test::new().workflow("p", PASS).file("many.jsonl", &large).workflow("s", SECRET);
    let done = done.args("exec p --input many.jsonl").run();
    let done = Test::after(done).args("exec s --id secret").env("API_KEY", "hunter2").code(1).run();
    let done = Test::after(done).args("list -o jsonl").run();
    let listed = done.lines();
    let exported = Test::after(done).args("db export").run();
    assert!(!exported.stdout.contains("hunter2"));
    let lines = exported.lines();
    // Each run as `history` shows it, newest first.
    let order: Vec<&str> = ids(&listed);
    assert_eq!(ids(&lines), order);
    let mut done = exported;
    for id in order {
        done = Test::after(done).args(&format!("history {id} -o jsonl")).run();
        let history = done.lines();
        let mut of_run: Vec<Value> = lines.iter().filter(|line| line["run_id"] == id).cloned().collect();
        for (line, event) in of_run.iter_mut().zip(&history) {
            if event.get("run_id").is_none() {
                line.as_object_mut().expect("an object").remove("run_id");
            }
        }
        assert_eq!(of_run, history, "{id}");
    }
    let secret: Vec<&Value> = lines.iter().filter(|line| line["run_id"] == "secret").collect();
    assert_eq!(secret.iter().find(|e| e["type"] == "step_started").expect("it started")["input"]["auth"], "Bearer ***");

    let one = Test::after(done).args("db export --run secret -o json").run();
    assert_eq!(one.json()["events"].as_array().expect("a list").len(), secret.len());
    let written = Test::after(one).args("db export --to all.jsonl").run().stderr_has("all.jsonl: ");
    assert_eq!(written.stdout, "");
    let path = written.dir.path().join("all.jsonl");
    let text = fs::read_to_string(&path).expect("it is there");
    assert_eq!(text.lines().count(), lines.len());
    Test::after(written).args("db export --to all.jsonl").code(9).run();
}

#[test]
fn an_export_goes_through_the_holder() {
    let holder = waiting();
    let (out, _) = holder.call("db export", 0);
    assert!(out.lines().count() == 2 && out.contains("\"run_id\":\"long\""), "{out}");
    let (_, said) = holder.call("db export --run lnog", 8);
    assert!(said.contains("no run `lnog`"), "{said}");
    holder.signal("-TERM");
    holder.end(143);
    let none = Test::new().args("db export -o json").run();
    assert_eq!(none.json()["events"], serde_json::json!([]));
    Test::new().args("db exprot").code(2).run().stderr_has("'export'");
}

/// What is seen of a file from outside.
fn state(path: &Path) -> (Vec<u8>, SystemTime) {
    let modified = fs::metadata(path).expect("it is there").modified().expect("it has a time");
    (fs::read(path).expect("readable"), modified)
}

#[test]
fn b10_what_is_damaged_or_foreign_is_refused_by_name_and_kept() {
    let done = three();
    let dir = done.dir.path().to_owned();
    let whole = fs::read(dir.join(STORE)).expect("readable");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for at in (4096..whole.len()).step_by(4096) {
        flipped[at + 40] ^= 4;
    }
    let files: [(&str, Vec<u8>, &str); 5] = [
        ("cut.redb", whole[..whole.len() / 2].to_vec(), "damaged"),
        ("flipped.redb", flipped, "damaged"),
        ("empty.redb", Vec::new(), "is empty, not a flowrun store"),
        ("sqlite.db", b"SQLite format 3\0 and so on".repeat(100), "is not a flowrun store"),
        ("half.redb", whole[..40].to_vec(), ""),
    ];
    let mut done = done;
    for (name, content, said) in files {
        fs::write(dir.join(name), content).expect("written");
        let before = state(&dir.join(name));
        for verb in ["db check", "db compact", "db backup b.redb", "db export", "resume", "list"] {
            let Answered { stdout, stderr, dir: folder } =
                Test::after(done).args(&format!("{verb} --store {name}")).code(10).run();
            let told = format!("{stdout}{stderr}");
            assert!(told.contains(name) && told.contains(said), "{verb} of {name}: {told}");
            assert_eq!(state(&dir.join(name)), before, "{verb} changed {name}");
            assert!(!dir.join("b.redb").exists());
            done = Answered { stdout, stderr, dir: folder };
        }
    }
    // A sound one is not changed by looking at it either.
    let before = state(&dir.join(STORE));
    let done = Test::after(done).args("db check").run();
    assert_eq!(state(&dir.join(STORE)), before);
    drop(done);
}

#[test]
fn b07_a_path_that_cannot_be_a_store_is_refused_before_any_step_runs() {
    let marker = "steps:\n  only: { uses: core.pass, with: { a: 1 } }\n";
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    let pipe = root.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    std::os::unix::fs::symlink("nowhere", root.join("link")).expect("a link");
    fs::write(root.join("file"), "x").expect("written");
    for (path, said) in [
        (root.to_owned(), "is a folder; name the file in it"),
        (pipe, "is not a regular file"),
        (root.join("link"), "leads nowhere"),
        (root.join("file/flowrun.redb"), "cannot be reached"),
        // Nobody may write there, not even root.
        ("/proc/flowrun.redb".into(), ""),
    ] {
        let test = Test::new().workflow("w", marker).args("exec --store").arg(&path.display().to_string());
        let done = test.code(10).run().stderr_has(said);
        assert!(!done.stderr.contains("only"), "a step ran: {}", done.stderr);
    }
    // A folder that is not there yet is made.
    let done = Test::new().workflow("w", PASS).args("exec --store deep/down/store.redb").run();
    assert!(done.dir.path().join("deep/down/store.redb").is_file());
}

#[test]
fn b16_no_name_of_a_store_is_that_of_a_file_beside_it() {
    for name in ["x.mark", "x.sock", "x.holder", "x.bak", "x"] {
        let done = Test::new().workflow("p", PASS).args("exec --id it --store").arg(name).run();
        let done = Test::after(done).args("db check --store").arg(name).run().stdout_has("sound, 1 runs");
        Test::after(done).args("show it --store").arg(name).run();
    }
    // Nor is a file that somebody else gave such a name.
    for name in ["x.mark", "x.sock", "x.holder"] {
        let done = Test::new().workflow("p", PASS).file(name, "my notes").args("exec --store x.redb").run();
        assert_eq!(fs::read_to_string(done.dir.path().join(name)).expect("it is there"), "my notes");
        assert!(name == "x.sock" || !done.dir.path().join("x.sock").exists(), "it is left");
    }
}

#[test]
fn b13_a_store_that_goes_away_while_it_runs_ends_the_run() {
    for replaced in [false, true] {
        let holder = waiting();
        let store = holder.dir.path().join(STORE);
        fs::rename(&store, store.with_extension("gone")).expect("renamed");
        if replaced {
            fs::copy(store.with_extension("gone"), &store).expect("copied");
        }
        // Its next commit, made by the cancellation, finds out. Who asks finds the holder by the file beside the store.
        holder.signal("-TERM");
        let ended = holder.end(10);
        let said = if replaced { "replaced by another file" } else { "deleted while flowrun was running" };
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
        fs::rename(store.with_extension("gone"), &store).expect("renamed");
        let done = Test::after(ended).args("db check").run().stdout_has("sound, 1 runs (1 unfinished)");
        let sent = Test::after(done).args("signal long answer").run();
        Test::after(sent).args("resume long").run();
    }
}

#[test]
fn b14_the_holder_of_another_store_is_not_asked() {
    let holder = waiting();
    // The folder was copied as it is, with what says who holds the store.
    let copied = Test::new().file("workflows/p.yaml", "flowrun: 1\nname: p\n");
    let copied = copied.args("list").run();
    let (from, to) = (holder.dir.path().join(".flowrun"), copied.dir.path().join(".flowrun"));
    fs::create_dir(&to).expect("made");
    for name in ["flowrun.redb", "flowrun.holder"] {
        fs::copy(from.join(name), to.join(name)).expect("copied");
    }
    // Somebody has the copy, and does not talk.
    let lock = fs::File::open(to.join("flowrun.redb")).expect("it opens");
    lock.lock().expect("locked");
    let refused = Test::after(copied).args("list").code(9).run();
    refused.stderr_has(&format!("is held by process {}, which does not answer", std::process::id()));
    holder.signal("-TERM");
    holder.end(143);
}

#[test]
fn b12_an_older_copy_is_told_when_it_is_resumed() {
    let done = three();
    let store = done.dir.path().join(STORE);
    let older = fs::read(&store).expect("readable");
    let done = Test::after(done).args("signal open answer").run();
    let done = Test::after(done).args("resume open").run();
    fs::write(&store, older).expect("restored");
    let warning = "is an older copy: ";
    let done = Test::after(done).args("list").run().stderr_has(warning);
    let done = Test::after(done).args("resume").code(7).run().stderr_has(warning).stderr_has("with the same keys");
    let done = Test::after(done).args("signal open answer").run();
    let done = Test::after(done).args("list").run();
    assert!(!done.stderr.contains(warning), "it has gone on from there: {}", done.stderr);
}

#[test]
fn b16_a_store_in_memory_is_told_when_it_is_made() {
    let memory = Path::new("/dev/shm");
    if !memory.is_dir() || fs::File::create(memory.join(".flowrun-probe")).is_err() {
        println!("there is no /dev/shm here; store::ground tells file systems apart by their numbers");
        return;
    }
    let _ = fs::remove_file(memory.join(".flowrun-probe"));
    let folder = tempfile::tempdir_in(memory).expect("a folder");
    let path = folder.path().join("flowrun.redb").display().to_string();
    let done = Test::new().workflow("w", PASS).args("exec --id r --store").arg(&path).run();
    let done = done.stderr_has("lies in memory, and is gone when the machine stops");
    let done = Test::after(done).args("exec --id r --store").arg(&path).run();
    assert!(!done.stderr.contains("warning"), "{}", done.stderr);
}

/// The store that version 0.1.0 wrote; `tests/fixtures/README.md` says how.
fn golden(test: Test) -> Test {
    let packed = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/store-1.redb.zst")).expect("readable");
    let plain = zstd::decode_all(packed.as_slice()).expect("it unpacks");
    let test = test.file("old.redb", "");
    let mut file = fs::File::create(test.path("old.redb")).expect("it can be made");
    file.write_all(&plain).expect("written");
    test
}

#[test]
fn b17_e04_the_store_of_an_earlier_release_is_read_and_goes_on() {
    let done = golden(Test::new()).args("db check --store old.redb").run();
    let done = done.stdout_has("sound, 4 runs (2 unfinished), ").stdout_has("it was not closed in order");
    let done = Test::after(done).args("db export --store old.redb").run();
    // Replayed, each history has the state that it had then, and is printed as it was.
    let expected = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/store-1.jsonl");
    if std::env::var_os("FLOWRUN_BLESS").is_some() {
        fs::write(expected, &done.stdout).expect("written");
    }
    assert_eq!(done.stdout, fs::read_to_string(expected).expect("readable"));
    let done = Test::after(done).args("list -o jsonl --store old.redb").run();
    let told: Vec<(String, String)> = done
        .lines()
        .iter()
        .map(|run| {
            (run["run_id"].as_str().unwrap_or_default().into(), run["status"].as_str().unwrap_or_default().into())
        })
        .collect();
    let told: Vec<(&str, &str)> = told.iter().map(|(id, status)| (id.as_str(), status.as_str())).collect();
    assert_eq!(told, [("cut-off", "running"), ("waits", "waiting"), ("undone", "failed"), ("passed", "completed")]);
    let done = Test::after(done).args("signal waits answer --store old.redb").run();
    let done = Test::after(done).args("resume --store old.redb -o json").run();
    let resumed: Vec<Value> = done.json()["runs"].as_array().expect("a list").clone();
    assert!(resumed.iter().all(|run| run["status"] == "completed") && resumed.len() == 2, "{resumed:?}");
    Test::after(done).args("db check --store old.redb").run().stdout_has("sound, 4 runs (0 unfinished), ");
}

#[test]
fn e05_b17_a_store_of_a_newer_release_is_refused_and_kept() {
    let test = golden(Test::new());
    let path = test.path("old.redb");
    change(&path, |tx| {
        let table = redb::TableDefinition::<&str, &[u8]>::new("meta");
        let mut meta = tx.open_table(table).expect("the table");
        meta.insert("format", 2_u32.to_le_bytes().as_slice()).expect("written");
        meta.insert("needs", b"0.7.0".as_slice()).expect("written");
    });
    let before = state(&path);
    let mut done = test.args("list --store old.redb").code(10).run();
    for verb in ["db check", "db backup b.redb", "db compact", "db export", "resume", "cancel waits", "show waits"] {
        done = Test::after(done).args(&format!("{verb} --store old.redb")).code(10).run();
        assert!(done.stderr.contains("old.redb needs flowrun >= 0.7.0"), "{verb}: {}", done.stderr);
        assert_eq!(state(&path), before, "{verb} changed it");
    }
}

/// Changes the tables of a store behind flowrun's back: they are a database by itself, behind the head and the log.
fn change(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let whole = fs::read(path).expect("readable");
    let log = u64::from_le_bytes(whole[16..24].try_into().expect("8 bytes"));
    let (front, pages) = whole.split_at(4096 + usize::try_from(log).expect("a file in memory"));
    let apart = path.with_extension("pages");
    fs::write(&apart, pages).expect("written");
    let database = redb::Database::open(&apart).expect("it opens");
    let tx = database.begin_write().expect("a transaction");
    change(&tx);
    tx.commit().expect("written");
    drop(database);
    fs::write(path, [front, &fs::read(&apart).expect("readable")].concat()).expect("written");
    fs::remove_file(apart).expect("removed");
}

#[test]
fn b20_a_damaged_run_does_not_keep_the_others_from_going_on() {
    let steps: String = (1..20).map(|n| format!("  s{n}: {{ needs: [s{}], uses: core.pass }}\n", n - 1)).collect();
    let long = format!("steps:\n  s0: {{ wait: {{ signal: answer }} }}\n{steps}");
    type Damage = fn(&redb::WriteTransaction);
    let event: Damage = |tx| {
        let mut journal = tx.open_table(redb::TableDefinition::<u64, &[u8]>::new("journal")).expect("the table");
        let mut row = journal.get(0).expect("readable").expect("a row").value().to_vec();
        *row.last_mut().expect("it has bytes") ^= 1;
        journal.insert(0, row.as_slice()).expect("written");
    };
    let definition: Damage = |tx| {
        let table = redb::TableDefinition::<&[u8; 32], &[u8]>::new("definitions");
        let mut definitions = tx.open_table(table).expect("the table");
        let is_the_first = |_: &[u8; 32], text: &[u8]| String::from_utf8_lossy(text).contains("name: first");
        definitions.retain(|key, text| !is_the_first(key, text)).expect("changed");
    };
    for (damage, said) in [(event, "is not the one that was written"), (definition, "definition ")] {
        let test = Test::new().workflow("first", WAITS).workflow("second", &long);
        let done = test.args("exec first --id first").code(7).run();
        let done = Test::after(done).args("exec second --id second").code(7).run();
        let done = Test::after(done).args("signal second answer").run();
        change(&done.dir.path().join(STORE), damage);
        let done = Test::after(done).args("resume").code(10).run().stderr_has(said);
        let done = Test::after(done).args("show second -o json").run();
        assert_eq!(done.json()["status"], "completed");
    }
}

#[test]
fn a_damaged_event_is_named_by_its_run_and_number() {
    let done = three();
    change(&done.dir.path().join(STORE), |tx| {
        let mut journal = tx.open_table(redb::TableDefinition::<u64, &[u8]>::new("journal")).expect("the table");
        // The first commit of the oldest run: its start, and that of its first step.
        let mut row = journal.get(0).expect("readable").expect("a row").value().to_vec();
        *row.last_mut().expect("it has bytes") ^= 1;
        journal.insert(0, row.as_slice()).expect("written");
    });
    let done = Test::after(done).args("db check").code(10).run();
    let done = done.stdout_has("damaged, 3 runs").stdout_has("  run passed, event 1: ");
    let done = Test::after(done).args("db check -o json").code(10).run();
    assert_eq!(done.json()["problems"][0]["run_id"], "passed");
    let done = Test::after(done).args("db backup b.redb").code(10).run().stderr_has("run passed, event 1: ");
    // The rest is exported, and what is left out is named.
    let done = Test::after(done).args("db export").code(10).run().stderr_has("what is damaged was left out");
    assert_eq!(ids(&done.lines()), ["open", "broken"]);
}
