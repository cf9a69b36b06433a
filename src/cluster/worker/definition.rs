//! A pinned definition as a virtual object, so that its runs need not carry it along.

use restate_sdk::prelude::*;

/// The state's key for the definition.
pub(super) const TEXT: &str = "text";

/// The virtual object `flowrun.Definition`.
pub(super) struct Definitions;

#[restate_sdk::object(name = "flowrun.Definition")]
impl Definitions {
    /// Keeps a definition. The first text that comes is the only one there can be: its key is its fingerprint.
    #[handler]
    async fn keep(&self, ctx: ObjectContext<'_>, text: String) -> Result<(), HandlerError> {
        if ctx.get::<String>(TEXT).await?.is_none() {
            ctx.set(TEXT, text);
        }
        Ok(())
    }
}
