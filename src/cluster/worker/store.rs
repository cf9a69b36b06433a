//! Reading on behalf of programs, which need to know one address of the cluster and not two.

use std::sync::Arc;

use restate_sdk::prelude::*;

use super::hall::Hall;
use crate::cluster::message::{Reply, VERSION};
use crate::cluster::reading::{Found, Read};
use crate::engine::EngineError;

/// The service `flowrun.Store`.
pub(super) struct Store(pub(super) Arc<Hall>);

#[restate_sdk::service(name = "flowrun.Store")]
impl Store {
    /// Says which version of the language the workers speak.
    #[handler]
    async fn hello(&self, _ctx: Context<'_>) -> Result<Json<u32>, HandlerError> {
        Ok(Json(VERSION))
    }

    /// Reads. Nothing of it is recorded: whoever asks again gets what is true then.
    #[handler]
    async fn read(&self, _ctx: Context<'_>, read: Json<Read>) -> Result<Json<Reply<Found>>, HandlerError> {
        Ok(Json(self.found(read.into_inner()).await))
    }
}

impl Store {
    async fn found(&self, read: Read) -> Result<Found, EngineError> {
        let source = &self.0.source;
        Ok(match read {
            Read::Records { id } => Found::Records(source.records(&id).await?),
            Read::Definition { fingerprint } => Found::Definition(source.definition(fingerprint).await?),
            Read::Rows { which, most } => Found::Rows(source.rows(&which, most).await?),
        })
    }
}
