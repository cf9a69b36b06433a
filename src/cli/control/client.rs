//! The other side of the control socket: asks the process that holds the store.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::desk::Sink;
use super::place;
use super::request::{Asked, Line, Request, VERSION};
use super::server::{encode, is_ours};
use crate::cli::problem::Problem;
use crate::teeth::{Bug, awake};
use crate::time::{Clock as _, SystemClock};

/// How long the holder may take to say hello. It does so before it reads, so that a stopped one is known at once.
const HELLO: Duration = Duration::from_millis(400);

/// The process that holds the store.
#[derive(Clone, Debug)]
pub(super) struct Client {
    socket: PathBuf,
    store: PathBuf,
    /// The process.
    pub(super) pid: u32,
}

impl Client {
    /// Looks for the holder of the store; nothing if it does not answer within `patience`.
    pub(super) async fn find(store: &Path, patience: Duration) -> Option<Self> {
        tokio::select! {
            found = Self::look(store) => found,
            () = SystemClock.sleep_until(SystemClock.now().after(patience)) => None,
        }
    }

    async fn look(store: &Path) -> Option<Self> {
        let mut places = Vec::new();
        places.extend(place::read_holder(store).map(|holder| holder.socket));
        places.extend(place::socket_for(store).ok());
        places.dedup();
        for socket in places {
            if let Ok((_, pid)) = greet(&socket, store).await {
                return Some(Self { socket, store: store.to_owned(), pid });
            }
        }
        None
    }

    /// Asks, and passes on what is said before the answer.
    pub(super) async fn ask(&self, request: &Request, sink: Sink<'_>) -> Asked {
        // What was not asked to its end was not understood.
        let Ok((mut stream, _)) = greet(&self.socket, &self.store).await else { return Asked::Leaving };
        if stream.get_mut().write_all(&encode(request)).await.is_err() {
            return Asked::Leaving;
        }
        let mut text = String::new();
        loop {
            text.clear();
            match stream.read_line(&mut text).await {
                Ok(0) | Err(_) => return Asked::Lost,
                Ok(_) => {}
            }
            match serde_json::from_str::<Line>(&text) {
                Ok(Line::Hello { .. }) => {}
                Ok(Line::Notice(notice)) => sink(notice),
                Ok(Line::Answer(answer)) => return Asked::Answered(*answer),
                Ok(Line::Problem(problem)) => return Asked::Problem(problem),
                Ok(Line::Leaving) => return Asked::Leaving,
                // A line that was cut off says that the holder is gone.
                Err(error) if error.is_eof() => return Asked::Lost,
                Err(error) => {
                    return Asked::Problem(Problem::conflict(format!(
                        "process {} that holds the store speaks another language: {error}",
                        self.pid
                    )));
                }
            }
        }
    }
}

/// Connects, and waits for the first line.
async fn greet(socket: &Path, store: &Path) -> Result<(BufReader<UnixStream>, u32), String> {
    let greeting = async {
        let stream = UnixStream::connect(socket).await.map_err(|e| e.to_string())?;
        if !is_ours(&stream) {
            return Err("the socket belongs to another user".to_owned());
        }
        let mut stream = BufReader::new(stream);
        let mut text = String::new();
        stream.read_line(&mut text).await.map_err(|e| e.to_string())?;
        match serde_json::from_str::<Line>(&text) {
            // What says who holds the store may have been copied together with it.
            Ok(Line::Hello { flowrun: VERSION, store: held, .. })
                if place::identity(store) != Some(held) && !awake(Bug::HolderOfAnotherStore) =>
            {
                Err("the process holds another store".to_owned())
            }
            Ok(Line::Hello { flowrun: VERSION, pid, .. }) => Ok((stream, pid)),
            Ok(_) => Err("the holder is another version of flowrun".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    };
    tokio::select! {
        greeted = greeting => greeted,
        () = SystemClock.sleep_until(SystemClock.now().after(HELLO)) => Err("no answer".to_owned()),
    }
}
