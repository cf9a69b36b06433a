//! A program's side of a cluster: it hands runs in, asks and waits, over Restate's ingress.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::life::Row;
use super::message::{RUN, Reply, STORE, Submit, Taken, VERSION, Wish};
use super::reading::{ALL, Found, Read, Which};
use crate::definition::Definition;
use crate::engine::{EngineError, Known, Patience};
use crate::names::RunKey;
use crate::payload::Payload;
use crate::time::{Clock as _, SystemClock};

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(3);

/// How long the first answer of a worker may take.
const HELLO: Duration = Duration::from_secs(10);

/// How long any other answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// How long a cluster that answered before may be out of reach, while nodes are started again or take over.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it takes until a node is asked again that did not answer.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// How long it takes at first before a run is looked at again, and at most.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(15), Duration::from_secs(1));

/// Why a cluster did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// Nobody answers.
    #[error("no Restate server answers at {url}: {why}")]
    Unreachable {
        /// The address.
        url: String,
        /// What went wrong.
        why: String,
    },
    /// The server knows no worker.
    #[error("the Restate server at {url} knows no worker of flowrun")]
    NoWorker {
        /// The address.
        url: String,
    },
    /// There is a worker, and it does not answer.
    #[error("no worker of the cluster at {url} has answered within {within:?}")]
    Silent {
        /// The address.
        url: String,
        /// How long was waited.
        within: Duration,
    },
    /// Workers and this program speak different languages.
    #[error(
        "the workers of the cluster at {url} speak version {found} of flowrun's language, and this program {VERSION}"
    )]
    Version {
        /// The address.
        url: String,
        /// What they speak.
        found: u32,
    },
    /// The server answered with an error of its own.
    #[error("the Restate server at {url} answers {status}: {message}")]
    Answer {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// The workers refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl ClusterError {
    /// Tells whether the same question may be answered a moment later, or by another node.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } => true,
            // Servers that are starting or have lost a partition's leader.
            Self::Answer { status, .. } => matches!(status, 429 | 502 | 503 | 504),
            Self::NoWorker { .. } | Self::Version { .. } | Self::Engine(_) => false,
        }
    }
}

/// A cluster whose workers answer.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    http: reqwest::Client,
    /// The ingress of each node that was named.
    nodes: Arc<[String]>,
    /// The one that answered last.
    node: Arc<AtomicUsize>,
}

impl Cluster {
    /// Finds the workers behind the ingress of a node, or of one of several with commas between them.
    ///
    /// # Errors
    /// When there is no server, no worker, or one of another version.
    pub(crate) async fn reach(urls: &str) -> Result<Self, ClusterError> {
        let nodes: Vec<String> = urls.split(',').map(|url| url.trim().trim_end_matches('/').to_owned()).collect();
        let http = reqwest::Client::builder().connect_timeout(CONNECT).build();
        let unreachable =
            |error: reqwest::Error| ClusterError::Unreachable { url: urls.to_owned(), why: chain(&error) };
        let cluster = Self { http: http.map_err(unreachable)?, nodes: nodes.into(), node: Arc::default() };
        let mut failed = None;
        for _ in 0..cluster.nodes.len() {
            match cluster.post_once::<u32>(&format!("{STORE}/hello"), None::<&()>, HELLO, None).await {
                Ok(VERSION) => return Ok(cluster),
                Ok(found) => return Err(ClusterError::Version { url: cluster.url().to_owned(), found }),
                Err(error) => failed = Some(error),
            }
            cluster.turn_to_next();
        }
        Err(failed.unwrap_or_else(misread))
    }

    fn url(&self) -> &str {
        let node = self.node.load(Ordering::Relaxed);
        self.nodes.get(node % self.nodes.len().max(1)).map_or("", String::as_str)
    }

    fn turn_to_next(&self) {
        self.node.fetch_add(1, Ordering::Relaxed);
    }

    /// Hands a run in. It is durable when this returns.
    ///
    /// # Errors
    /// When it is refused, or the cluster does not answer.
    pub(crate) async fn submit(
        &self,
        id: &str,
        run: Option<RunKey>,
        definition: Definition,
        input: Payload,
    ) -> Result<Known, ClusterError> {
        let submit = Submit { flowrun: VERSION, run, definition: Box::new(definition), input };
        let taken: Reply<Taken> = self.post(&format!("{RUN}/{id}/submit"), Some(&submit)).await?;
        Ok(taken?.known)
    }

    /// Wants something of a run. It is durable when this returns.
    ///
    /// # Errors
    /// When it is refused, or the cluster does not answer.
    pub(crate) async fn wish(&self, id: &str, wish: Wish) -> Result<(), ClusterError> {
        Ok(self.post::<Reply<()>>(&format!("{RUN}/{id}/wish"), Some(&wish)).await??)
    }

    /// Leaves a message for a run. It is durable when this returns, and not yet decided on.
    #[cfg(test)]
    pub(super) async fn send(&self, id: &str, message: &super::message::Message) -> Result<(), ClusterError> {
        self.post::<Value>(&format!("{RUN}/{id}/tell/send"), Some(message)).await.map(drop)
    }

    /// Says where a run stands.
    pub(super) async fn standing(&self, id: &str) -> Result<Row, ClusterError> {
        let row: Option<Row> = self.post(&format!("{RUN}/{id}/standing"), None::<&()>).await?;
        row.ok_or_else(|| EngineError::NotFound { message: format!("there is no run `{id}`") }.into())
    }

    /// Waits until a run rests; `seen` is told of it each time that it has more records.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn rest(
        &self,
        id: &str,
        patience: Patience,
        mut seen: impl FnMut(RunKey) -> Result<(), ClusterError> + Send,
    ) -> Result<(), ClusterError> {
        let (mut pause, longest) = LOOK_AGAIN;
        let mut known = 0;
        loop {
            let row = self.standing(id).await?;
            if row.events > known {
                known = row.events;
                pause = LOOK_AGAIN.0;
                seen(row.run)?;
            }
            if row.finished_at.is_some() || row.standing.is_resting(patience) {
                return Ok(());
            }
            SystemClock.sleep_until(SystemClock.now().after(pause)).await;
            pause = (pause * 3 / 2).min(longest);
        }
    }

    /// Returns the ids of all runs that are not final, oldest first.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn live(&self) -> Result<Vec<String>, ClusterError> {
        let mut rows = self.rows(Which::Live, ALL).await?;
        rows.reverse();
        Ok(rows.into_iter().map(|row| row.id).collect())
    }

    pub(super) async fn rows(&self, which: Which, most: usize) -> Result<Vec<Row>, ClusterError> {
        match self.read(Read::Rows { which, most }).await? {
            Found::Rows(rows) => Ok(rows),
            Found::Records(_) | Found::Definition(_) => Err(misread()),
        }
    }

    pub(super) async fn records(&self, id: String) -> Result<Vec<Vec<u8>>, ClusterError> {
        match self.read(Read::Records { id }).await? {
            Found::Records(records) => Ok(records),
            Found::Rows(_) | Found::Definition(_) => Err(misread()),
        }
    }

    pub(super) async fn definition(&self, fingerprint: [u8; 32]) -> Result<Vec<u8>, ClusterError> {
        match self.read(Read::Definition { fingerprint }).await? {
            Found::Definition(definition) => Ok(definition),
            Found::Rows(_) | Found::Records(_) => Err(misread()),
        }
    }

    async fn read(&self, read: Read) -> Result<Found, ClusterError> {
        Ok(self.post::<Reply<Found>>(&format!("{STORE}/read"), Some(&read)).await??)
    }

    /// Asks until somebody answers: nodes and workers may be gone for a while. What is asked is done once, however often
    /// it is said.
    async fn post<T: DeserializeOwned>(&self, path: &str, body: Option<&impl Serialize>) -> Result<T, ClusterError> {
        let once = Uuid::new_v4().to_string();
        let begun = SystemClock.now();
        loop {
            let error = match self.post_once(path, body, ANSWER, Some(&once)).await {
                Ok(answer) => return Ok(answer),
                Err(error) if error.may_pass() => error,
                Err(error) => return Err(error),
            };
            if SystemClock.now().since(begun) > PATIENCE {
                return Err(error);
            }
            tracing::info!(%error, "the cluster is asked again");
            self.turn_to_next();
            SystemClock.sleep_until(SystemClock.now().after(ASK_AGAIN)).await;
        }
    }

    async fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&impl Serialize>,
        within: Duration,
        once: Option<&str>,
    ) -> Result<T, ClusterError> {
        let node = self.url();
        let url = || node.to_owned();
        let lost = |error: reqwest::Error| match error.is_timeout() && !error.is_connect() {
            true => ClusterError::Silent { url: url(), within },
            false => ClusterError::Unreachable { url: url(), why: chain(&error) },
        };
        let mut request = self.http.post(format!("{node}/{path}")).timeout(within);
        if let Some(once) = once {
            request = request.header("idempotency-key", once);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(lost)?;
        let status = answer.status();
        let text = answer.text().await.map_err(lost)?;
        if status.is_success() {
            return serde_json::from_str(&text).map_err(|error| {
                let message = format!("something that this program does not understand: {error}");
                ClusterError::Answer { url: url(), status: status.as_u16(), message }
            });
        }
        let said = serde_json::from_str::<Value>(&text).unwrap_or_default();
        let message = said["message"].as_str().unwrap_or(&text).to_owned();
        if status == StatusCode::NOT_FOUND && message.contains("not found") {
            return Err(ClusterError::NoWorker { url: url() });
        }
        Err(ClusterError::Answer { url: url(), status: status.as_u16(), message })
    }
}

fn misread() -> ClusterError {
    EngineError::Bug("a question to the cluster was answered with something else".to_owned()).into()
}

/// Returns an error with what caused it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
