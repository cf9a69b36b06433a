//! The holder's side of the control socket: owner-only, one request per connection.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::desk::Desk;
use super::place::{self, Holder};
use super::request::{Line, Notice, Request, VERSION};
use crate::cli::problem::Problem;
use crate::time::{Clock as _, SystemClock};

/// The longest request: a definition with its files, an input, and room.
const REQUEST_MAX: u64 = 64 << 20;

/// How long it takes before the next try, when nobody can be let in.
const PAUSE: Duration = Duration::from_millis(20);

/// How long those who have asked may take to get their answers, once all runs have been put down.
const FAREWELL: Duration = Duration::from_millis(500);

/// Serves a desk to other processes of the same user until it is dropped.
pub(super) struct Server {
    store: PathBuf,
    socket: PathBuf,
    leaving: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Starts to serve. Only who holds the store's lock may call this: what lies at the socket's place is replaced.
    pub(super) fn start(store: &Path, desk: Arc<Desk>) -> io::Result<Self> {
        let socket = place::socket_for(store)?;
        place::remove_old_socket(&socket);
        let listener = UnixListener::bind(&socket)?;
        // Between these two lines another user could connect; whoever does is turned away by `is_ours`.
        std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let holder = Holder { pid: std::process::id(), socket: socket.clone() };
        if let Err(error) = place::write_holder(store, &holder) {
            place::remove_old_socket(&socket);
            return Err(error);
        }
        let identity = place::identity(store).unwrap_or_default();
        let (leaving, told) = watch::channel(false);
        let task = tokio::spawn(accept(listener, desk, identity, told));
        Ok(Self { store: store.to_owned(), socket, leaving, task })
    }

    /// Stops to serve: nobody new is let in, and who has asked gets an answer while the store is still open. To be called
    /// when all runs have been put down, so that no answer is long in coming.
    pub(super) async fn stop(mut self) {
        place::remove_holder(&self.store, &self.socket);
        let _ = self.leaving.send(true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        place::remove_holder(&self.store, &self.socket);
    }
}

async fn accept(listener: UnixListener, desk: Arc<Desk>, store: (u64, u64), leaving: watch::Receiver<bool>) {
    let mut connections = tokio::task::JoinSet::new();
    let mut told = leaving.clone();
    loop {
        tokio::select! {
            () = async { drop(told.wait_for(|leaving| *leaving).await) } => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if is_ours(&stream) => {
                    let (desk, leaving) = (Arc::clone(&desk), leaving.clone());
                    connections.spawn(async move {
                        if let Err(error) = serve(stream, &desk, store, leaving).await {
                            tracing::debug!(%error, "a connection to the control socket ended early");
                        }
                    });
                }
                Ok(_) => tracing::warn!("another user tried to reach the control socket"),
                Err(error) => {
                    // Too many open files, for example: others may close theirs.
                    tracing::warn!(%error, "the control socket cannot be served");
                    SystemClock.sleep_until(SystemClock.now().after(PAUSE)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    let answered = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        () = answered => {}
        () = SystemClock.sleep_until(SystemClock.now().after(FAREWELL)) => connections.shutdown().await,
    }
}

/// Tells whether the other end belongs to this user, or to root.
pub(super) fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::getuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

async fn serve(
    stream: UnixStream,
    desk: &Desk,
    store: (u64, u64),
    mut leaving: watch::Receiver<bool>,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let hello = Line::Hello { flowrun: VERSION, pid: std::process::id(), store };
    writer.write_all(&encode(&hello)).await?;
    let mut reader = BufReader::new(reader.take(REQUEST_MAX));
    let mut text = Vec::new();
    let left = async { drop(leaving.wait_for(|leaving| *leaving).await) };
    let in_time = tokio::select! {
        read = reader.read_until(b'\n', &mut text) => read.map(|_| true)?,
        () = left => false,
    };
    if !in_time {
        return writer.write_all(&encode(&Line::Leaving)).await;
    }
    if text.is_empty() {
        return Ok(());
    }
    let (notices, mut noticed) = mpsc::unbounded_channel();
    let answer = async {
        match serde_json::from_slice::<Request>(&text) {
            Ok(request) => {
                let mut sink = |notice: Notice| {
                    // The other end may be gone; the run goes on.
                    let _ = notices.send(notice);
                };
                match desk.ask(request, &mut sink).await {
                    Ok(answer) => Line::Answer(Box::new(answer)),
                    Err(problem) if problem.untouched => Line::Leaving,
                    Err(problem) => Line::Problem(problem),
                }
            }
            Err(error) => Line::Problem(
                Problem::conflict(format!("the process that holds the store does not understand this one: {error}"))
                    .help("Both must be the same version of the same program."),
            ),
        }
    };
    let mut answer = std::pin::pin!(answer);
    let mut gone = [0; 1];
    let last = loop {
        tokio::select! {
            biased;
            Some(notice) = noticed.recv() => writer.write_all(&encode(&Line::Notice(notice))).await?,
            last = &mut answer => break last,
            // Nothing more is expected: the other end has hung up.
            _ = reader.read(&mut gone) => return Ok(()),
        }
    };
    while let Ok(notice) = noticed.try_recv() {
        writer.write_all(&encode(&Line::Notice(notice))).await?;
    }
    writer.write_all(&encode(&last)).await?;
    writer.shutdown().await
}

pub(super) fn encode(line: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(line).expect("requests and answers are JSON by construction");
    bytes.push(b'\n');
    bytes
}
