//! Changes of users and keys: carried out and written down to the end, also where the client does not wait for it.
//!
//! A client that goes away takes its handler along. Were the change made there, it could be made without a line in the
//! audit log that says so.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tracing::Instrument;

use super::error::ApiError;
use super::state::App;
use crate::access::accounts::AccountError;
use crate::audit::{AuditEvent, AuditOutcome};

/// Changes that are carried out at the same time.
pub(super) const AT_ONCE: u32 = 64;

/// The longest that another one waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// What is written down of a change that was made.
pub(super) struct Told {
    /// What was changed.
    pub(super) target: String,
    /// How.
    pub(super) details: Value,
}

impl App {
    /// Has `change` done, and written down as `event` with what it says of itself. Once it has begun, nothing but its end
    /// ends it, which the accounts see to within seconds; a gateway that stops waits for it.
    ///
    /// # Errors
    /// Those of the change, of which a failure of the database is written down as well: it may have been made. 503 where
    /// there is no turn to be had.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        event: AuditEvent,
        change: impl Future<Output = Result<(T, Option<Told>), AccountError>> + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = tokio::time::timeout(MAX_WAIT, Arc::clone(self.changes()).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(ApiError::overloaded()) };
        let app = self.clone();
        let work = async move {
            let _turn = turn;
            match change.await {
                Ok((done, None)) => Ok(done),
                Ok((done, Some(Told { target, details }))) => {
                    app.tell(AuditEvent { target, ..event }, &details);
                    Ok(done)
                }
                Err(error) => {
                    if matches!(error, AccountError::Store(_)) {
                        let outcome = AuditOutcome::Failed("the database failed".to_owned());
                        app.audit().record(AuditEvent { outcome, ..event });
                    }
                    Err(error)
                }
            }
        };
        match tokio::spawn(work.in_current_span()).await {
            Ok(done) => Ok(done?),
            Err(error) => {
                tracing::error!(%error, "a change of users or keys broke off: {error}");
                Err(ApiError::internal())
            }
        }
    }
}
