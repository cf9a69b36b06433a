//! Listening, and making this worker known to a cluster.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use restate_sdk::endpoint::{Endpoint, ServiceOptions};
use restate_sdk::http_server::HttpServer;
use restate_sdk::service::IntoServiceDefinition as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::attempt::Attempts;
use super::definition::Definitions;
use super::hall::{Hall, Onlooker};
use super::run::Run;
use super::service::Services;
use super::source::Source;
use super::store::Store;
use crate::cluster::client::chain;
use crate::engine::EngineOptions;
use crate::engine::executor::Executor;
use crate::handlers::Handlers;
use crate::time::Clock;

/// How long an attempt may take in all, which is the longest that any timeout may be worth. Restate must not give up a
/// worker before flowrun does.
const ATTEMPT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long it is at most until a worker that died is tried again.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// What a worker needs to serve.
pub(crate) struct Serving {
    pub(crate) handlers: Handlers,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: EngineOptions,
    /// The cluster's administration interface.
    pub(crate) admin: String,
    /// The address at which the cluster reaches this worker, if not where it listens.
    pub(crate) advertised: Option<String>,
    /// Who looks on.
    pub(crate) onlooker: Option<Arc<dyn Onlooker>>,
}

/// Why a worker does not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The cluster cannot be reached.
    #[error("no administration interface of Restate answers at {admin}: {why}")]
    Unreachable {
        /// Where it was looked for.
        admin: String,
        /// What went wrong.
        why: String,
    },
    /// The cluster does not take the worker.
    #[error("the cluster at {admin} does not take this worker: {why}")]
    Refused {
        /// The cluster.
        admin: String,
        /// What it says.
        why: String,
    },
}

/// Serves until `end` is done. `ready` is told once the cluster knows this worker.
///
/// # Errors
/// When it cannot listen, or the cluster does not take it.
pub(crate) async fn serve(
    address: SocketAddr,
    serving: Serving,
    ready: impl FnOnce(SocketAddr),
    end: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let Serving { handlers, clock, options, admin, advertised, onlooker } = serving;
    let contracts = handlers.contracts();
    let http = reqwest::Client::new();
    let source = Source::new(http.clone(), admin.clone());
    let hall = Arc::new(Hall::new(Executor { handlers, clock, options }, contracts, source, onlooker));
    let turns = || {
        ServiceOptions::new()
            .enable_lazy_state(true)
            .retry_policy_initial_interval(Duration::from_millis(50))
            .retry_policy_max_interval(RETRY_MAX)
            // Nothing is given up: a message that is lost is a run that stands still.
            .retry_policy_max_attempts(u64::from(u32::MAX))
            .journal_retention(Duration::ZERO)
    };
    let attempts = || turns().inactivity_timeout(ATTEMPT_MAX).abort_timeout(ATTEMPT_MAX);
    let endpoint = Endpoint::builder()
        .bind(Run(Arc::clone(&hall)).into_service_definition().options(turns()))
        .bind(Attempts(Arc::clone(&hall)).into_service_definition().options(attempts()))
        .bind(Services(Arc::clone(&hall)).into_service_definition().options(turns()))
        .bind(Definitions.into_service_definition().options(turns()))
        .bind(Store(hall).into_service_definition().options(turns()))
        .build();
    let listener = TcpListener::bind(address).await.map_err(|error| ServeError::Listen { address, error })?;
    let address = listener.local_addr().map_err(|error| ServeError::Listen { address, error })?;
    let server = tokio::spawn(HttpServer::new(endpoint).serve_with_cancel(listener, end));
    let uri = advertised.unwrap_or_else(|| format!("http://{address}/"));
    register(&http, &admin, &uri).await?;
    ready(address);
    // It ends when it is told to; a panic of its own ends it as well.
    let _ = server.await;
    Ok(())
}

/// Makes a worker known to the cluster.
async fn register(http: &reqwest::Client, admin: &str, uri: &str) -> Result<(), ServeError> {
    let unreachable = |error: reqwest::Error| ServeError::Unreachable { admin: admin.to_owned(), why: chain(&error) };
    let answer = http.post(format!("{admin}/deployments")).json(&json!({ "uri": uri })).send().await;
    let answer = answer.map_err(unreachable)?;
    if answer.status().is_success() {
        return Ok(());
    }
    let status = answer.status();
    let text = answer.text().await.map_err(unreachable)?;
    let said = serde_json::from_str::<Value>(&text).ok();
    let said = said.as_ref().and_then(|said| said["message"].as_str()).unwrap_or(&text);
    Err(ServeError::Refused { admin: admin.to_owned(), why: format!("{status}: {said}") })
}
