//! The real program in a folder of its own, for tests that kill it and tests that give it bad input.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// No command of these tests takes so long; one that does hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with the shipped workflow, its schemas and its examples, and with a store once something has run.
pub struct Place {
    dir: TempDir,
    /// What is set in the environment of every command.
    pub environment: Vec<(&'static str, String)>,
}

/// What became of a command.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Returns the exit code; a command that a signal killed has none.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Returns the number of the signal that ended the command.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Tells whether SIGKILL ended the command.
    pub fn was_killed(&self) -> bool {
        self.signal() == Some(Signal::KILL.as_raw())
    }

    /// Returns stdout as one JSON document.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON on stdout ({error}): {self:#?}"))
    }

    /// Returns stdout as JSON Lines.
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// Holds the command to an exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "{self:#?}");
        self
    }
}

/// A command that is under way.
pub struct Running {
    child: Child,
    pid: Pid,
    lines: Receiver<String>,
    seen: Vec<String>,
    stdout: JoinHandle<String>,
}

impl Place {
    pub fn new() -> Self {
        let dir = TempDir::new().expect("a folder");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (folder, name) in [
            ("workflows", "ecommerce-order.yaml"),
            ("schemas", "order.schema.json"),
            ("schemas", "workflow.schema.json"),
            ("examples", "order.json"),
        ] {
            fs::create_dir_all(dir.path().join(folder)).expect("a folder can be made");
            fs::copy(root.join(folder).join(name), dir.path().join(folder).join(name)).expect("a file can be copied");
        }
        Self { dir, environment: Vec::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file, with the folders it is in.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a folder can be made");
        fs::write(path, text).expect("a file can be written");
    }

    /// Writes rules of faults, one a line.
    pub fn faults(&self, name: &str, rules: &[&str]) {
        let rules: String = rules.iter().map(|rule| format!("  - {rule}\n")).collect();
        self.write(name, if rules.is_empty() { "faults: []\n".to_owned() } else { format!("faults:\n{rules}") });
    }

    /// Writes the example order, changed by a function.
    pub fn order(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let text = fs::read_to_string(self.path("examples/order.json")).expect("the example is there");
        let mut order = serde_json::from_str(&text).expect("the example is JSON");
        change(&mut order);
        self.write(name, order.to_string());
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowrun"));
        command.current_dir(self.dir.path()).args(args).env_remove("FLOWRUN_STORE").env("NO_COLOR", "1");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Prepares a call of the program whose handlers are deadly, with limits that the shell sets before it (`ulimit`).
    pub fn deadly(&self, limits: &str, args: &[&str]) -> Command {
        self.limited(env!("CARGO_BIN_EXE_flowrun-deadly"), limits, args)
    }

    /// Prepares a call of the program with limits that the shell sets before it (`ulimit`).
    pub fn limits(&self, limits: &str, args: &[&str]) -> Command {
        self.limited(env!("CARGO_BIN_EXE_flowrun"), limits, args)
    }

    fn limited(&self, program: &str, limits: &str, args: &[&str]) -> Command {
        let mut command = Command::new("sh");
        // No test leaves the memory of a dead process behind.
        let script = format!("ulimit -c 0 && {limits} && exec \"$0\" \"$@\"");
        command.args(["-c", &script, program]).args(args);
        command.current_dir(self.dir.path()).env_remove("FLOWRUN_STORE").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts a command that was prepared.
    pub fn begin(&self, mut command: Command) -> Running {
        Running::new(command.spawn().expect("the program starts"))
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.start(args).end()
    }

    /// Runs a command with something on stdin.
    pub fn feed(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        let input = input.to_vec();
        // Whoever has read enough closes the pipe.
        std::thread::spawn(move || drop(stdin.write_all(&input)));
        Running::new(child).end()
    }

    /// Starts a command.
    pub fn start(&self, args: &[&str]) -> Running {
        Running::new(self.command(args).spawn().expect("the program starts"))
    }

    /// Returns the entries of the ledger.
    pub fn ledger(&self) -> Vec<Value> {
        let ledger = self.run(&["ledger", "-o", "json"]).expect(0).json();
        ledger["entries"].as_array().expect("a list of entries").clone()
    }
}

impl Running {
    fn new(mut child: Child) -> Self {
        let mut stdout = child.stdout.take().expect("stdout is a pipe");
        let stdout = std::thread::spawn(move || {
            let mut text = Vec::new();
            // What a killed process wrote is all there is.
            let _ = stdout.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let stderr = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let pid = Pid::from_child(&child);
        Self { child, pid, lines, seen: Vec::new(), stdout }
    }

    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends a signal; a process that has ended already does not mind.
    pub fn signal(&self, signal: Signal) {
        // The child has not been waited for yet, so its number belongs to nobody else.
        let _ = kill_process(self.pid, signal);
    }

    /// Returns the most memory that the process has had so far, in KiB; nothing once it has ended.
    pub fn memory_kib(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    }

    /// Waits for the next line of stderr; nothing once it is closed.
    pub fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.seen.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                self.signal(Signal::KILL);
                panic!("nothing happens any more after {:#?}", self.seen);
            }
        }
    }

    /// Waits until a line of stderr has this text in it.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        while let Some(line) = self.line() {
            if line.contains(text) {
                return;
            }
        }
        panic!("it ended without saying {text:?}: {:#?}", self.seen);
    }

    /// Lets it run for this long, or until it has ended.
    pub fn run_for(&mut self, mut time: Duration) {
        // Counted in pieces between lines: close enough for a moment that is random anyway.
        loop {
            let piece = time.min(Duration::from_millis(2));
            match self.lines.recv_timeout(piece) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => time -= piece,
            }
            if time.is_zero() {
                return;
            }
        }
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ran {
        while self.line().is_some() {}
        let status = self.child.wait().expect("it can be waited for");
        let stdout = self.stdout.join().expect("the reader does not panic");
        Ran { status, stdout, stderr: self.seen.join("\n") }
    }
}
