//! Runs the real program in a folder of its own.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// One call of the program: what it is given, and what it must answer.
pub(super) struct Test {
    dir: TempDir,
    args: Vec<String>,
    stdin: String,
    env: Vec<(String, String)>,
    code: i32,
}

/// What a call answered.
pub(super) struct Answered {
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) dir: TempDir,
}

impl Test {
    pub(super) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a folder"),
            args: Vec::new(),
            stdin: String::new(),
            env: Vec::new(),
            code: 0,
        }
    }

    /// Goes on in the folder of the call before.
    pub(super) fn after(before: Answered) -> Self {
        Self { dir: before.dir, ..Self::new() }
    }

    /// Adds a workflow `NAME.yaml`, of which only what follows the name is given.
    pub(super) fn workflow(self, name: &str, rest: &str) -> Self {
        let text = format!("flowrun: 1\nname: {name}\n{rest}");
        self.file(&format!("workflows/{name}.yaml"), &text)
    }

    pub(super) fn file(self, path: &str, text: &str) -> Self {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        std::fs::write(path, text).expect("a file");
        self
    }

    pub(super) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn args(mut self, line: &str) -> Self {
        self.args = line.split_whitespace().map(str::to_owned).collect();
        self
    }

    /// Adds an argument with spaces in it.
    pub(super) fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    pub(super) fn stdin(mut self, text: &str) -> Self {
        self.stdin = text.to_owned();
        self
    }

    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Says what the program must return; 0 unless something else is said.
    pub(super) fn code(mut self, code: i32) -> Self {
        self.code = code;
        self
    }

    fn command(&self) -> Command {
        let mut command = command(self.dir.path());
        command.args(&self.args).envs(self.env.iter().cloned());
        command
    }

    /// Calls the program and waits until it has ended.
    pub(super) fn run(self) -> Answered {
        let mut child = self.command().stdin(Stdio::piped()).spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        // The program may not want to read it.
        let _ = stdin.write_all(self.stdin.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        check(&self.args, &output, self.code);
        Answered { stdout: text(output.stdout), stderr: text(output.stderr), dir: self.dir }
    }

    /// Calls the program and returns while it runs.
    pub(super) fn start(self) -> Running {
        let child = self.command().stdin(Stdio::null()).spawn().expect("the program starts");
        Running { child, dir: self.dir }
    }
}

/// The program under way.
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) dir: TempDir,
}

impl Running {
    /// Calls the program again, in the same folder, until its stdout has `wanted`.
    pub(super) fn until(&self, line: &str, wanted: &str) {
        for _ in 0..500 {
            let output = command(self.dir.path()).args(line.split_whitespace()).output().expect("it runs");
            if text(output.stdout).contains(wanted) {
                return;
            }
        }
        panic!("`flowrun {line}` never said {wanted:?}");
    }

    /// Calls the program again, in the same folder, whatever comes of it.
    pub(super) fn attempt(&self, line: &str) {
        let _ = command(self.dir.path()).args(line.split_whitespace()).output().expect("it runs");
    }

    /// Calls the program again, in the same folder.
    pub(super) fn call(&self, line: &str, code: i32) -> (String, String) {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let output = command(self.dir.path()).args(&args).output().expect("it runs");
        check(&args, &output, code);
        (text(output.stdout), text(output.stderr))
    }

    pub(super) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status().expect("kill is there");
        assert!(status.success());
    }

    /// Waits until the program has ended.
    pub(super) fn end(self, code: i32) -> Answered {
        let output = self.child.wait_with_output().expect("it ends");
        check(&[], &output, code);
        Answered { stdout: text(output.stdout), stderr: text(output.stderr), dir: self.dir }
    }
}

impl Answered {
    /// Reads stdout as one JSON document.
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }

    /// Reads stdout as JSON Lines.
    pub(super) fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }

    pub(super) fn stderr_has(self, wanted: &str) -> Self {
        assert!(self.stderr.contains(wanted), "stderr lacks {wanted:?}:\n{}", self.stderr);
        self
    }

    pub(super) fn stdout_has(self, wanted: &str) -> Self {
        assert!(self.stdout.contains(wanted), "stdout lacks {wanted:?}:\n{}", self.stdout);
        self
    }
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowrun"));
    command.current_dir(dir).env_remove("FLOWRUN_STORE").env_remove("NO_COLOR").env("TERM", "xterm");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn check(args: &[String], output: &Output, code: i32) {
    let (out, err) = (text(output.stdout.clone()), text(output.stderr.clone()));
    assert_eq!(output.status.code(), Some(code), "flowrun {}\n--- stdout\n{out}--- stderr\n{err}", args.join(" "));
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("the program writes UTF-8")
}
