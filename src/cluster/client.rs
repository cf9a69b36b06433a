//! A program's side of a cluster: it hands runs in, asks and waits, over Restate's ingress.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::life::Row;
use super::message::{Granted, RUN, Reply, STORE, Submit, Taken, VERSION, Wish};
use super::reading::{Found, Read, Which};
use crate::definition::Definition;
use crate::engine::report::RunReport;
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

/// A cluster whose workers answer.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    http: reqwest::Client,
    url: String,
}

impl Cluster {
    /// Finds the workers behind an ingress.
    ///
    /// # Errors
    /// When there is no server, no worker, or one of another version.
    pub(crate) async fn reach(url: &str) -> Result<Self, ClusterError> {
        let url = url.trim_end_matches('/').to_owned();
        let http = reqwest::Client::builder().connect_timeout(CONNECT).build();
        let unreachable = |error: reqwest::Error| ClusterError::Unreachable { url: url.clone(), why: chain(&error) };
        let cluster = Self { http: http.map_err(unreachable)?, url: url.clone() };
        match cluster.post::<u32>(&format!("{STORE}/hello"), None::<&()>, HELLO).await? {
            VERSION => Ok(cluster),
            found => Err(ClusterError::Version { url, found }),
        }
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
        let taken: Reply<Taken> = self.post(&format!("{RUN}/{id}/submit"), Some(&submit), ANSWER).await?;
        Ok(taken?.known)
    }

    /// Wants something of a run. It is durable when this returns.
    ///
    /// # Errors
    /// When it is refused, or the cluster does not answer.
    pub(crate) async fn wish(&self, id: &str, wish: Wish) -> Result<RunReport, ClusterError> {
        let granted: Granted = self.post(&format!("{RUN}/{id}/wish"), Some(&wish), ANSWER).await?;
        Ok(*granted?)
    }

    /// Says where a run stands.
    pub(super) async fn standing(&self, id: &str) -> Result<Row, ClusterError> {
        let row: Option<Row> = self.post(&format!("{RUN}/{id}/standing"), None::<&()>, ANSWER).await?;
        row.ok_or_else(|| EngineError::NotFound { message: format!("there is no run `{id}`") }.into())
    }

    /// Waits until a run rests; `seen` is told how many records it has each time that there are more.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) async fn rest(
        &self,
        id: &str,
        patience: Patience,
        mut seen: impl FnMut(u64) -> Result<(), ClusterError> + Send,
    ) -> Result<(), ClusterError> {
        let (mut pause, longest) = LOOK_AGAIN;
        let mut known = 0;
        loop {
            let row = self.standing(id).await?;
            if row.events > known {
                known = row.events;
                pause = LOOK_AGAIN.0;
                seen(known)?;
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
        let mut rows = self.rows(Which::Live, usize::MAX >> 1).await?;
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
        Ok(self.post::<Reply<Found>>(&format!("{STORE}/read"), Some(&read), ANSWER).await??)
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&impl Serialize>,
        within: Duration,
    ) -> Result<T, ClusterError> {
        let url = || self.url.clone();
        let lost = |error: reqwest::Error| match error.is_timeout() && !error.is_connect() {
            true => ClusterError::Silent { url: url(), within },
            false => ClusterError::Unreachable { url: url(), why: chain(&error) },
        };
        let mut request = self.http.post(format!("{}/{path}", self.url)).timeout(within);
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
