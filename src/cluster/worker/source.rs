//! Reading the state of runs over Restate's administration interface, which answers SQL.

use reqwest::header::ACCEPT;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::definition::TEXT;
use super::run::{RECORDS, ROW, STOPS, hex};
use crate::cluster::client::chain;
use crate::cluster::life::Row;
use crate::cluster::message::{DEFINITION, RUN};
use crate::cluster::reading::Which;
use crate::engine::EngineError;
use crate::names::is_run_id;
use crate::store::bundle::all_unbundled;
use crate::store::journal::StoreError;

/// The administration interface of a cluster.
#[derive(Clone, Debug)]
pub(in crate::cluster) struct Source {
    http: reqwest::Client,
    admin: String,
}

/// A value of a state, as SQL shows it.
#[derive(Debug, Deserialize)]
struct Cell {
    #[serde(default)]
    value_utf8: Option<String>,
    /// In hexadecimal digits.
    #[serde(default)]
    value: Option<String>,
}

impl Source {
    pub(in crate::cluster) fn new(http: reqwest::Client, admin: String) -> Self {
        Self { http, admin }
    }

    /// Returns the records of a run; none for a run that does not exist.
    pub(super) async fn records(&self, id: &str) -> Result<Vec<Vec<u8>>, EngineError> {
        let cells = self.cells(RUN, id, &format!("key LIKE '{RECORDS}%' ORDER BY key")).await?;
        let mut records = Vec::new();
        for cell in cells {
            let bytes = cell.value.as_deref().and_then(unhex);
            let bundled = bytes.as_deref().and_then(all_unbundled);
            let bundled = bundled.ok_or_else(|| damaged(format!("the records of run {id} cannot be read")))?;
            records.extend(bundled.into_iter().map(<[u8]>::to_vec));
        }
        Ok(records)
    }

    /// Returns a pinned definition.
    pub(super) async fn definition(&self, fingerprint: [u8; 32]) -> Result<Vec<u8>, EngineError> {
        let text = self.definition_text(fingerprint).await?;
        let missing = || EngineError::Store(StoreError::Missing { what: "definition of the run".to_owned() });
        text.map(String::into_bytes).ok_or_else(missing)
    }

    /// Tells whether a definition is kept.
    pub(super) async fn has_definition(&self, fingerprint: [u8; 32]) -> Result<bool, EngineError> {
        Ok(self.definition_text(fingerprint).await?.is_some())
    }

    async fn definition_text(&self, fingerprint: [u8; 32]) -> Result<Option<String>, EngineError> {
        let cells = self.cells(DEFINITION, &hex(&fingerprint), &format!("key = '{TEXT}'")).await?;
        cells.into_iter().find_map(|cell| cell.value_utf8).map(|text| unquoted(&text)).transpose()
    }

    /// Returns the serials of attempts of a run that are to end early.
    pub(super) async fn stops(&self, id: &str) -> Result<Vec<u64>, EngineError> {
        let cells = self.cells(RUN, id, &format!("key = '{STOPS}'")).await?;
        let text = cells.into_iter().find_map(|cell| cell.value_utf8);
        text.map_or(Ok(Vec::new()), |text| read_json(&text))
    }

    /// Returns what lists show of runs, newest first.
    pub(super) async fn rows(&self, which: &Which, most: usize) -> Result<Vec<Row>, EngineError> {
        // A row is JSON that begins with the run's key, and keys rise with the time.
        let from = |key: &str| format!("{{\"run\":\"{key}");
        let fits = match which {
            Which::Id(id) => format!("service_key = '{}'", safe(id)?),
            Which::Key(run) => format!("value_utf8 LIKE '{}%'", from(&run.to_string())),
            Which::Prefix(prefix) => {
                let prefix = safe(prefix)?;
                // An underscore stands for any character in a pattern.
                format!("(starts_with(service_key, '{prefix}') OR starts_with(value_utf8, '{}'))", from(prefix))
            }
            Which::Live => "value_utf8 LIKE '%\"finished_at\":null%'".to_owned(),
            Which::Before(None) => "true".to_owned(),
            Which::Before(Some(run)) => format!("value_utf8 < '{}'", from(&run.to_string())),
        };
        let sql = format!(
            "SELECT value_utf8 FROM state WHERE service_name = '{RUN}' AND key = '{ROW}' AND {fits} \
             ORDER BY value_utf8 DESC LIMIT {most}"
        );
        let cells: Vec<Cell> = self.query(&sql).await?;
        cells.into_iter().filter_map(|cell| cell.value_utf8).map(|text| read_json(&text)).collect()
    }

    async fn cells(&self, object: &str, key: &str, fits: &str) -> Result<Vec<Cell>, EngineError> {
        let key = safe(key)?;
        let sql = format!(
            "SELECT value_utf8, value FROM state WHERE service_name = '{object}' AND service_key = '{key}' AND {fits}"
        );
        self.query(&sql).await
    }

    /// Asks a question in SQL.
    pub(in crate::cluster) async fn query<T: DeserializeOwned>(&self, sql: &str) -> Result<Vec<T>, EngineError> {
        #[derive(Deserialize)]
        struct Rows<T> {
            rows: Vec<T>,
        }
        let url = format!("{}/query", self.admin);
        let failed = |error: reqwest::Error| unreachable_admin(&self.admin, &error);
        let answer = self.http.post(url).header(ACCEPT, "application/json").json(&json!({ "query": sql }));
        let answer = answer.send().await.map_err(failed)?;
        let status = answer.status();
        let text = answer.text().await.map_err(failed)?;
        if !status.is_success() {
            let message = format!("{} answers {status} to a question: {text}", self.admin);
            return Err(EngineError::Store(StoreError::Io { path: "the cluster".to_owned(), message }));
        }
        read_json::<Rows<T>>(&text).map(|rows| rows.rows)
    }
}

/// Refuses what could be more than a name in a question.
fn safe(name: &str) -> Result<&str, EngineError> {
    let not_found = || EngineError::NotFound { message: format!("there is no run `{name}`") };
    if is_run_id(name) { Ok(name) } else { Err(not_found()) }
}

fn read_json<T: DeserializeOwned>(text: &str) -> Result<T, EngineError> {
    serde_json::from_str(text).map_err(|error| damaged(format!("what the cluster keeps cannot be read: {error}")))
}

/// Texts are kept as JSON.
fn unquoted(text: &str) -> Result<String, EngineError> {
    if text.starts_with('"') { read_json(text) } else { Ok(text.to_owned()) }
}

fn damaged(message: String) -> EngineError {
    EngineError::Store(StoreError::Corrupt { path: "the cluster".to_owned(), message })
}

fn unreachable_admin(admin: &str, error: &reqwest::Error) -> EngineError {
    let message = format!("no administration interface of Restate answers at {admin}: {}", chain(error));
    EngineError::Store(StoreError::Io { path: "the cluster".to_owned(), message })
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(pair).collect()
}
