//! One choice of one streamed reply in a guest: an instance that lives as long as the reply, so that the guest's state
//! survives from piece to piece.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;
use wasmtime::component::ResourceAny;

use super::bindings::exports::witgate::plugin::response_stream;
use super::call::Outcome;
use super::convert::{self, PrincipalIn};
use super::error::PluginError;
use super::manifest::Hook;
use super::plugin::{GRACE, Plugin};
use super::state::HostState;
use super::stats::RunningCall;
use crate::domain::{Finished, Pushed, ReplyContext, ReplyEnd, TextDelta};

/// See the module's words. Dropping it at any time ends the instance.
pub struct ReplyGuest {
    plugin: Arc<Plugin>,
    store: Store<HostState>,
    guest: response_stream::Guest,
    reply: ResourceAny,
    _instance: OwnedSemaphorePermit,
    _running: RunningCall,
}

impl ReplyGuest {
    pub(super) async fn open(
        plugin: Arc<Plugin>,
        context: &ReplyContext,
        choice: u64,
    ) -> Result<Self, PluginError> {
        let Some(indices) = &plugin.indices.response_stream else {
            return Err(plugin.broken_rule("does not export response-stream".to_owned()));
        };
        let running = plugin.shared.stats.enter();
        let permit = plugin.admit().await?;
        let mut call = plugin.open(None).await?;
        let limit = plugin.shared.manifest.limits.call_timeout(Hook::ResponseStream);
        let began = Instant::now();
        let principal = PrincipalIn::new(&context.principal);
        let param = convert::request_context(context, &principal);
        let clock = plugin.start_clock(&mut call.store, limit);
        let store = &mut call.store;
        let outcome: Outcome<_> = tokio::time::timeout(limit + GRACE, async {
            let instance = plugin.instantiate(store).await?;
            let guest = indices.load(&mut *store, &instance)?;
            let choice = u32::try_from(choice).unwrap_or(u32::MAX);
            let reply = guest.reply_stream().call_constructor(store, param, choice).await?;
            Ok(Ok((guest, reply)))
        })
        .await;
        drop(clock);
        let (guest, reply) = plugin.settle(outcome, &call.store, limit, began.elapsed())?;
        drop(permit);
        Ok(Self { store: call.store, _instance: call.instance, _running: running, guest, reply, plugin })
    }

    /// Hands over the next deltas.
    ///
    /// # Errors
    /// When the guest fails; it must not be called again then.
    pub async fn push(&mut self, deltas: &[TextDelta]) -> Result<Pushed, PluginError> {
        let plugin = Arc::clone(&self.plugin);
        let _permit = plugin.admit().await?;
        let limit = plugin.shared.manifest.limits.call_timeout(Hook::ResponseStream);
        let params = convert::deltas_in(deltas);
        let began = Instant::now();
        let clock = plugin.start_clock(&mut self.store, limit);
        let call = self.guest.reply_stream();
        let outcome =
            tokio::time::timeout(limit + GRACE, call.call_push(&mut self.store, self.reply, &params)).await;
        drop(clock);
        plugin.settle(outcome, &self.store, limit, began.elapsed()).map(convert::pushed_out)
    }

    /// Ends the reply.
    ///
    /// # Errors
    /// When the guest fails.
    pub async fn finish(mut self, end: &ReplyEnd) -> Result<Finished, PluginError> {
        let plugin = Arc::clone(&self.plugin);
        let _permit = plugin.admit().await?;
        let limit = plugin.shared.manifest.limits.call_timeout(Hook::ResponseStream);
        let calls = convert::tool_calls_in(&end.tool_calls);
        let param = response_stream::ReplyEnd {
            finish_reason: end.finish_reason.as_ref().map(convert::finish_reason_in),
            tool_calls: &calls,
            usage: end.usage.as_ref().map(convert::usage_in),
        };
        let began = Instant::now();
        let clock = plugin.start_clock(&mut self.store, limit);
        let call = self.guest.reply_stream();
        let outcome =
            tokio::time::timeout(limit + GRACE, call.call_finish(&mut self.store, self.reply, param)).await;
        drop(clock);
        let finished = plugin.settle(outcome, &self.store, limit, began.elapsed())?;
        convert::finished_out(finished).map_err(|rule| plugin.broken_rule(rule))
    }
}
