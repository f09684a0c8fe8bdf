//! Which resources of a server somebody follows, and the task that keeps the server's side in step.
//!
//! One loop a connection makes and ends subscriptions, one after the other, so that an end cannot overtake a new
//! beginning. Promises: many followers of a resource are one subscription at the server; a restarted server is subscribed
//! to again, which counts as a change; a slow follower misses nothing but how often a resource changed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmcp::ServiceError;
use rmcp::model::{
    ClientRequest, ServerNotification, SubscribeRequestParams, SubscriptionFilter, UnsubscribeRequestParams,
};
#[expect(deprecated, reason = "servers of all versions before 2026-07-28 know these requests only")]
use rmcp::model::{SubscribeRequest, UnsubscribeRequest};
use rmcp::service::{PeerRequestOptions, Subscription};
use tokio::sync::{Notify, watch};

use super::client::{self, RESUBSCRIBE_PAUSE};
use super::server::{Live, Server};
use crate::domain::{ToolError, ToolErrorKind};
use crate::tools::ResourceSubscription;

/// Most resources of one server that are followed at the same time.
const MAX_RESOURCES: usize = 1_024;

/// How long a stream that was replaced is read on, for what was on its way.
const DRAIN: Duration = Duration::from_millis(100);

/// Time for one subscription to be made or ended.
const LIMIT: Duration = Duration::from_secs(10);

/// The resources of one server that somebody follows, whatever becomes of its connections.
#[derive(Default)]
pub(super) struct Subscriptions {
    wanted: Mutex<HashMap<String, Wanted>>,
    /// Somebody came or went.
    changed: Arc<Notify>,
}

struct Wanted {
    updates: watch::Sender<u64>,
    standing: watch::Sender<Standing>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    Asked,
    Made,
    Refused(ToolError),
}

impl Subscriptions {
    fn wanted(&self) -> MutexGuard<'_, HashMap<String, Wanted>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows `uri` of `server`; returns when the server has agreed.
    ///
    /// # Errors
    /// When the server refuses, or does not agree within `limit`.
    pub(super) async fn follow(
        &self,
        server: &str,
        uri: &str,
        limit: Duration,
    ) -> Result<ResourceSubscription, ToolError> {
        let (subscription, mut standing) = {
            let mut wanted = self.wanted();
            if wanted.len() >= MAX_RESOURCES && !wanted.contains_key(uri) {
                let message =
                    format!("server `{server}` has {MAX_RESOURCES} resources under subscription; no more");
                return Err(ToolError::new(ToolErrorKind::Failed, message));
            }
            let entry = wanted.entry(uri.to_owned()).or_insert_with(|| Wanted {
                updates: watch::Sender::new(0),
                standing: watch::Sender::new(Standing::Asked),
            });
            let dropped = Some(self.changed.clone());
            (ResourceSubscription::new(entry.updates.subscribe(), dropped), entry.standing.subscribe())
        };
        self.changed.notify_one();
        let decided = standing.wait_for(|standing| *standing != Standing::Asked);
        match tokio::time::timeout(limit, decided).await.map(|decided| decided.map(|now| now.clone())) {
            Ok(Ok(Standing::Made)) => Ok(subscription),
            Ok(Ok(Standing::Refused(error))) => Err(error),
            Ok(Ok(Standing::Asked) | Err(_)) => {
                let message = format!("server `{server}` was stopped before it could be subscribed to");
                Err(ToolError::new(ToolErrorKind::NotSent, message))
            }
            Err(_) => {
                let message = format!(
                    "server `{server}` did not take a subscription to `{uri}` within {} ms",
                    limit.as_millis()
                );
                Err(ToolError::new(ToolErrorKind::Timeout, message))
            }
        }
    }

    /// The server says that `uri` changed: it may be a part of a resource that is followed.
    pub(super) fn updated(&self, uri: &str) {
        for (followed, entry) in self.wanted().iter() {
            if uri.starts_with(followed.as_str()) {
                entry.updates.send_modify(|count| *count += 1);
            }
        }
    }

    /// Ends every subscription: the gateway is closing.
    pub(super) fn end(&self) {
        self.wanted().clear();
    }

    /// The resources that somebody follows now; the others are forgotten.
    fn followed(&self) -> HashSet<String> {
        let mut wanted = self.wanted();
        wanted.retain(|_, entry| entry.updates.receiver_count() > 0);
        wanted.keys().cloned().collect()
    }

    /// The server agreed. Where it had done so before, something may have been missed in between.
    fn made(&self, uri: &str) {
        if let Some(entry) = self.wanted().get(uri)
            && entry.standing.send_replace(Standing::Made) == Standing::Made
        {
            entry.updates.send_modify(|count| *count += 1);
        }
    }

    fn refused(&self, uri: &str, error: &ToolError) {
        if let Some(entry) = self.wanted().remove(uri) {
            entry.standing.send_replace(Standing::Refused(error.clone()));
        }
    }
}

/// Keeps the subscriptions at the server in step with what is followed; never ends.
pub(super) async fn keep(server: &Server, live: &Live) {
    if !live.offers.subscriptions {
        return refuse_all(server).await;
    }
    if live.modern { keep_listening(server, live).await } else { keep_subscribed(server, live).await }
}

/// A restarted server may no longer know how to tell of changes.
async fn refuse_all(server: &Server) {
    let subscriptions = &server.subscriptions;
    let error = untold(server.name());
    loop {
        for uri in subscriptions.followed() {
            subscriptions.refused(&uri, &error);
        }
        subscriptions.changed.notified().await;
    }
}

/// The server does not tell of changes.
pub(super) fn untold(server: &str) -> ToolError {
    ToolError::new(ToolErrorKind::Failed, format!("server `{server}` does not tell when a resource changes"))
}

/// One request for each resource, as it was up to version 2025-11-25.
#[expect(deprecated, reason = "servers of all versions before 2026-07-28 know these requests only")]
async fn keep_subscribed(server: &Server, live: &Live) {
    let subscriptions = &server.subscriptions;
    let mut made: HashSet<String> = HashSet::new();
    let mut sessions = live.sessions.clone();
    loop {
        let (followed, mut again) = (subscriptions.followed(), false);
        for uri in made.extract_if(|uri| !followed.contains(uri)).collect::<Vec<_>>() {
            let end = UnsubscribeRequest::new(UnsubscribeRequestParams::new(uri));
            if let Err(error) = ask(live, ClientRequest::UnsubscribeRequest(end)).await {
                let reason = client::sentence(&error);
                tracing::debug!(server = server.name(), "a subscription was not ended: {reason}");
            }
        }
        for uri in followed {
            if made.contains(&uri) {
                continue;
            }
            let begin = SubscribeRequest::new(SubscribeRequestParams::new(uri.clone()));
            match ask(live, ClientRequest::SubscribeRequest(begin)).await {
                Ok(()) => {
                    subscriptions.made(&uri);
                    made.insert(uri);
                }
                Err(ServiceError::TransportClosed | ServiceError::TransportSend(_)) => again = true,
                Err(error) => subscriptions.refused(&uri, &refusal(server.name(), &uri, &error)),
            }
        }
        tokio::select! {
            () = subscriptions.changed.notified() => {}
            () = tokio::time::sleep(RESUBSCRIBE_PAUSE), if again => {}
            // The new session knows nothing of what the old one was asked for.
            Ok(()) = sessions.changed() => made.clear(),
        }
    }
}

async fn ask(live: &Live, request: ClientRequest) -> Result<(), ServiceError> {
    let options = PeerRequestOptions::with_timeout(LIMIT);
    live.peer.send_request_with_option(request, options).await?.await_response().await.map(drop)
}

fn refusal(server: &str, uri: &str, error: &ServiceError) -> ToolError {
    let reason = client::sentence(error);
    let message = format!("server `{server}` did not take a subscription to `{uri}`: {reason}");
    ToolError::new(ToolErrorKind::Failed, message)
}

/// One stream for all resources, as it is since version 2026-07-28; another set of resources is another stream.
async fn keep_listening(server: &Server, live: &Live) {
    let subscriptions = &server.subscriptions;
    let mut made: HashSet<String> = HashSet::new();
    let mut stream: Option<Subscription> = None;
    loop {
        let followed = subscriptions.followed();
        if followed.is_empty() {
            stream = None;
            made.clear();
        } else if stream.is_none() || followed != made {
            match listen(server.name(), live, &followed).await {
                Ok(opened) => {
                    let taken = opened.acknowledged().resource_subscriptions.clone().unwrap_or_default();
                    if let Some(replaced) = stream.replace(opened) {
                        drain(replaced, subscriptions).await;
                    }
                    for uri in &followed {
                        match taken.contains(uri) {
                            true if made.contains(uri) => {}
                            true => subscriptions.made(uri),
                            false => subscriptions.refused(uri, &untold(server.name())),
                        }
                    }
                    made = taken.into_iter().collect();
                }
                Err(Some(refusal)) => {
                    for uri in followed.difference(&made) {
                        subscriptions.refused(uri, &refusal);
                    }
                }
                Err(None) => {
                    stream = None;
                    made.clear();
                    tokio::time::sleep(RESUBSCRIBE_PAUSE).await;
                    continue;
                }
            }
        }
        tokio::select! {
            () = subscriptions.changed.notified() => {}
            told = next(&mut stream) => match told {
                Some(told) => note(subscriptions, told),
                None => {
                    // All of them are made anew, and count as changed, or are refused.
                    stream = None;
                    made.clear();
                    tokio::time::sleep(RESUBSCRIBE_PAUSE).await;
                }
            },
        }
    }
}

/// Opens the stream; without words in the error, another try may help.
async fn listen(
    server: &str,
    live: &Live,
    followed: &HashSet<String>,
) -> Result<Subscription, Option<ToolError>> {
    let filter = SubscriptionFilter::builder().resource_subscriptions(followed.iter().cloned()).build();
    match tokio::time::timeout(LIMIT, live.peer.listen(filter)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error @ ServiceError::McpError(_))) => {
            let message = format!("server `{server}` took no subscription: {}", client::sentence(&error));
            Err(Some(ToolError::new(ToolErrorKind::Failed, message)))
        }
        Ok(Err(_)) | Err(_) => Err(None),
    }
}

fn note(subscriptions: &Subscriptions, told: ServerNotification) {
    if let ServerNotification::ResourceUpdatedNotification(told) = told {
        subscriptions.updated(&told.params.uri);
    }
}

/// Takes what was told on a stream before another one took its place.
async fn drain(mut replaced: Subscription, subscriptions: &Subscriptions) {
    let all = async {
        while let Ok(Some(told)) = replaced.next().await {
            note(subscriptions, told);
        }
    };
    // It ends by itself only where the server ends it.
    let _ = tokio::time::timeout(DRAIN, all).await;
}

/// The next notification, for ever none without a stream; `None` at the stream's end.
async fn next(stream: &mut Option<Subscription>) -> Option<ServerNotification> {
    match stream {
        Some(stream) => stream.next().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use serde_json::{Value, json};

    use super::super::fake::{Era, Fake, Say};
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn capabilities() -> Value {
        json!({"resources": {"subscribe": true}})
    }

    async fn follow(fake: &Fake, uri: &str) -> Result<ResourceSubscription, ToolError> {
        fake.server.subscriptions.follow("fake", uri, LONG).await
    }

    async fn within<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(LONG, future).await.expect("it comes")
    }

    fn updated(say: &Say, uri: &str, listen: &Value) {
        let params = json!({"uri": uri, "_meta": {"io.modelcontextprotocol/subscriptionId": listen["id"]}});
        say.now(json!({"method": "notifications/resources/updated", "params": params}));
    }

    /// Runs `test` beside the task that keeps the subscriptions.
    async fn beside<T>(fake: &Fake, test: impl Future<Output = T>) -> T {
        tokio::select! {
            () = Box::pin(keep(&fake.server, &fake.live)) => unreachable!("it never ends"),
            done = test => done,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_told_before_a_larger_set_is_followed_is_not_lost() {
        let first = Mutex::new(None);
        // The first stream tells of a change right before the second is taken.
        let fake = Fake::start(Era::New, capabilities(), move |message, say| {
            if message["method"] == "subscriptions/listen" {
                let mut first = first.lock().unwrap();
                match first.as_ref() {
                    Some(listen) => updated(say, "a:1", listen),
                    None => *first = Some(message.clone()),
                }
            }
            false
        })
        .await;
        beside(&fake, async {
            let mut one = follow(&fake, "a:1").await.unwrap();
            let _two = follow(&fake, "a:2").await.unwrap();
            assert!(within(one.updated()).await);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_ended_is_made_anew_or_its_resources_are_refused() {
        let refuses = std::sync::Arc::new(AtomicBool::new(false));
        let refusing = refuses.clone();
        let fake = Fake::start(Era::New, capabilities(), move |message, say| {
            let is_refused = message["method"] == "subscriptions/listen" && refusing.load(Ordering::Relaxed);
            if is_refused {
                say.answer(message, json!({"error": {"code": -32603, "message": "too many"}}));
            }
            is_refused
        })
        .await;
        let end = || {
            let listen = fake.last("subscriptions/listen").unwrap();
            let meta = json!({"io.modelcontextprotocol/subscriptionId": listen["id"]});
            fake.say.answer(&listen, json!({"result": {"resultType": "complete", "_meta": meta}}));
        };
        beside(&fake, async {
            let mut one = follow(&fake, "a:1").await.unwrap();
            end();
            assert!(within(one.updated()).await, "it is made anew, and may have missed something");
            refuses.store(true, Ordering::Relaxed);
            end();
            assert!(!within(one.updated()).await, "the server tells no more");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_session_is_subscribed_to_again() {
        let fake = Fake::start(Era::Old, capabilities(), |_, _| false).await;
        beside(&fake, async {
            let mut one = follow(&fake, "a:1").await.unwrap();
            fake.live.signals.sessions.send_modify(|opened| *opened += 1);
            assert!(within(one.updated()).await);
        })
        .await;
        assert_eq!(fake.times("resources/subscribe"), 2);
    }
}
