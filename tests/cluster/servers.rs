//! Real Restate servers on this machine, one or three, for as long as a test needs them.
//!
//! The server is looked for in `FLOWRUN_RESTATE_SERVER`, then on the `PATH`, then it is installed from the npm registry
//! below `target/`. Without any of them tests are passed over and say so, unless `FLOWRUN_CLUSTER=required`.

#![expect(clippy::disallowed_methods, reason = "servers are other processes and live in real time")]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The version that is installed; the one that the tests are known to pass with.
const VERSION: &str = "1.7.12";

/// How long servers may take until they answer.
const UP: Duration = Duration::from_secs(90);

/// Returns the server program, or says why there is none.
fn program() -> Result<&'static Path, &'static str> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(find).as_deref().map_err(String::as_str)
}

fn find() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("FLOWRUN_RESTATE_SERVER") {
        return Ok(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("restate-server")).find(|file| file.is_file());
    if let Some(found) = on_path {
        return Ok(found);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(format!("restate-{VERSION}"));
    let server = folder.join("node_modules/@restatedev/restate-server-linux-x64/bin/restate-server");
    if !server.is_file() {
        fs::create_dir_all(&folder).map_err(|error| format!("{} cannot be made: {error}", folder.display()))?;
        // Test programs may run side by side; one of them installs.
        let lock = File::create(folder.join("lock")).map_err(|error| error.to_string())?;
        lock.lock().map_err(|error| error.to_string())?;
        if !server.is_file() {
            let package = format!("@restatedev/restate-server@{VERSION}");
            let mut npm = Command::new("npm");
            npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"]).arg(&folder).arg(package);
            let done = npm.output().map_err(|error| format!("npm cannot be run: {error}"))?;
            if !done.status.success() {
                return Err(format!("npm cannot install it: {}", String::from_utf8_lossy(&done.stderr).trim()));
            }
        }
    }
    if server.is_file() { Ok(server) } else { Err(format!("npm installed nothing at {}", server.display())) }
}

/// Servers of one cluster. They end when this is dropped.
pub struct Servers {
    folder: tempfile::TempDir,
    nodes: Vec<Node>,
}

struct Node {
    ports: [u16; 3],
    process: Option<Child>,
}

impl Servers {
    /// Starts a cluster of one or three nodes; nothing, and a word about it, where that cannot be done.
    ///
    /// # Panics
    /// When servers do not come up, or have to be there and are not.
    #[must_use]
    pub fn start(count: usize) -> Option<Self> {
        let program = match program() {
            Ok(program) => program,
            Err(why) => {
                let required = std::env::var("FLOWRUN_CLUSTER").is_ok_and(|word| word == "required");
                assert!(!required, "there is no Restate server: {why}");
                eprintln!("passed over: there is no Restate server: {why}");
                return None;
            }
        };
        let folder = tempfile::tempdir().expect("a folder for the servers");
        let nodes: Vec<Node> = (0..count).map(|_| Node { ports: free_ports(), process: None }).collect();
        let mut servers = Self { folder, nodes };
        for node in 0..count {
            servers.configure(node);
        }
        for node in 0..count {
            servers.spawn(node, program);
        }
        for node in 0..count {
            servers.until_up(node);
        }
        Some(servers)
    }

    /// Returns the ingress of a node.
    #[must_use]
    pub fn ingress(&self, node: usize) -> String {
        format!("http://127.0.0.1:{}", self.nodes[node].ports[1])
    }

    /// Returns the administration interface of a node.
    #[must_use]
    pub fn admin(&self, node: usize) -> String {
        format!("http://127.0.0.1:{}", self.nodes[node].ports[2])
    }

    /// Returns how many nodes there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Returns a node that is running.
    ///
    /// # Panics
    /// When none is.
    #[must_use]
    pub fn first_up(&self) -> usize {
        self.nodes.iter().position(|node| node.process.is_some()).expect("a node is running")
    }

    /// Kills a node without a warning.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill(&mut self, node: usize) {
        let mut process = self.nodes[node].process.take().expect("the node is running");
        process.kill().expect("it can be killed");
        process.wait().expect("it has ended");
    }

    /// Starts a node again that was killed.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self, node: usize) {
        self.spawn(node, program().expect("it was started before"));
        self.until_up(node);
    }

    fn configure(&self, node: usize) {
        let [bind, ingress, admin] = self.nodes[node].ports;
        let all: Vec<String> = self.nodes.iter().map(|n| format!("\"http://127.0.0.1:{}\"", n.ports[0])).collect();
        let (several, first) = (self.nodes.len() > 1, node == 0);
        let replication = if several { 2 } else { 1 };
        let text = format!(
            "cluster-name = \"flowrun\"\nnode-name = \"n{node}\"\nauto-provision = {first}\n\
             roles = [\"http-ingress\", \"admin\", \"worker\", \"log-server\", \"metadata-server\"]\n\
             default-num-partitions = 8\ndefault-replication = {replication}\n\
             bind-ip = \"127.0.0.1\"\nbind-port = {bind}\nlisten-mode = \"tcp\"\nadvertised-host = \"127.0.0.1\"\n\
             disable-telemetry = true\nlog-filter = \"warn\"\nlog-disable-ansi-codes = true\n\
             rocksdb-total-memory-size = \"128 MB\"\n\
             [metadata-client]\naddresses = [{}]\n\
             [ingress]\nbind-ip = \"127.0.0.1\"\nbind-port = {ingress}\n\
             [admin]\nbind-ip = \"127.0.0.1\"\nbind-port = {admin}\n",
            all.join(", ")
        );
        fs::write(self.file(node, "toml"), text).expect("the configuration is written");
    }

    fn spawn(&mut self, node: usize, program: &Path) {
        let log = File::options().create(true).append(true).open(self.file(node, "log")).expect("a log");
        let mut command = Command::new(program);
        command.arg("--no-logo").arg("--config-file").arg(self.file(node, "toml"));
        command.arg("--base-dir").arg(self.folder.path().join(format!("data{node}")));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("the same log")).stderr(log);
        self.nodes[node].process = Some(command.spawn().expect("the server can be started"));
    }

    fn until_up(&self, node: usize) {
        let begun = Instant::now();
        let [_, ingress, admin] = self.nodes[node].ports;
        while !(answers(ingress, "/restate/health") && answers(admin, "/health")) {
            assert!(begun.elapsed() < UP, "node {node} does not come up:\n{}", self.log(node));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns what a node has logged.
    #[must_use]
    pub fn log(&self, node: usize) -> String {
        fs::read_to_string(self.file(node, "log")).unwrap_or_default()
    }

    fn file(&self, node: usize, kind: &str) -> PathBuf {
        self.folder.path().join(format!("n{node}.{kind}"))
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(process) = &mut node.process {
                // They are gone either way.
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}

/// Returns ports that nobody listens on.
#[must_use]
pub fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a port of this machine"));
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}

/// Tells whether something answers with success.
fn answers(port: u16, path: &str) -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) else { return false };
    let wait = Some(Duration::from_secs(2));
    let set = stream.set_read_timeout(wait).and_then(|()| stream.set_write_timeout(wait));
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    let mut answer = [0; 12];
    set.is_ok()
        && stream.write_all(request.as_bytes()).is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer.ends_with(b" 200")
}
