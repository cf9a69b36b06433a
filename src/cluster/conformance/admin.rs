//! What the administration interface of a cluster says and does between scenarios.

use std::time::Duration;

use serde_json::{Value, json};

use super::real;
use crate::cluster::message::{ATTEMPT, RUN, SERVICE};
use crate::cluster::worker::Source;

/// How long the cluster may take to forget.
const FORGETS: Duration = Duration::from_secs(20);

pub(super) struct Admin {
    http: reqwest::Client,
    url: String,
    source: Source,
}

impl Admin {
    pub(super) fn new(url: String) -> Self {
        let http = reqwest::Client::new();
        Self { source: Source::new(http.clone(), url.clone()), http, url }
    }

    async fn query(&self, sql: &str) -> Result<Vec<Value>, String> {
        self.source.query(sql).await.map_err(|error| error.to_string())
    }

    /// Returns the invocations that have not ended: the id, and whether it is an attempt under way.
    pub(super) async fn open(&self) -> Result<Vec<(String, bool)>, String> {
        let sql = "SELECT id, target_service_name, status FROM sys_invocation WHERE status <> 'completed'";
        let row = |row: &Value| {
            let id = row["id"].as_str().unwrap_or_default().to_owned();
            (id, row["target_service_name"] == ATTEMPT && row["status"] == "running")
        };
        Ok(self.query(sql).await?.iter().map(row).collect())
    }

    /// Ends everything that is under way, and lets every object be as if it had never been.
    pub(super) async fn forget(&self) -> Result<(), String> {
        let begun = real::now();
        loop {
            let open = self.open().await?;
            for (id, _) in &open {
                let url = format!("{}/invocations/{id}/kill", self.url);
                self.http.patch(url).send().await.map_err(|e| e.to_string())?;
            }
            let sql = format!(
                "SELECT DISTINCT service_name, service_key FROM state WHERE service_name IN ('{RUN}', '{SERVICE}')"
            );
            let objects = self.query(&sql).await?;
            if open.is_empty() && objects.is_empty() {
                return Ok(());
            }
            for object in &objects {
                let name = object["service_name"].as_str().unwrap_or_default();
                let url = format!("{}/services/{name}/state", self.url);
                let empty = json!({ "object_key": object["service_key"], "new_state": {} });
                let answer = self.http.post(url).json(&empty).send().await.map_err(|e| e.to_string())?;
                if !answer.status().is_success() {
                    return Err(answer.text().await.unwrap_or_default());
                }
            }
            if begun.elapsed() > FORGETS {
                return Err(format!("the cluster does not forget {open:?} {objects:?}"));
            }
            real::sleep(Duration::from_millis(5)).await;
        }
    }
}
