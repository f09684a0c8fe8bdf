//! The resources, resource templates and prompts of one connection: listed when first wanted, then kept.
//!
//! Promises: a server is asked for a list once however many want it, and only for what it says it has; a list is kept
//! until the server says that it changed, or for a short time where it never says so; its pages and bytes are bounded. A
//! server that takes its time holds nobody up for long: the list from before serves until the new one is there.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use rmcp::ServiceError;
use rmcp::model::{
    ClientRequest, ErrorCode, ListPromptsRequest, ListResourceTemplatesRequest, ListResourcesRequest,
    PaginatedRequestParams,
};
use rmcp::service::PeerRequestOptions;
use serde_json::Value;
use tokio::time::Instant;

use super::client;
use super::server::{Live, Server};
use crate::domain::{ToolError, ToolErrorKind};

/// Most pages read of one list; a server that never stops paging is cut off there.
const MAX_PAGES: usize = 100;

/// How long a list is kept where the server does not promise to tell of changes.
const UNANNOUNCED_MAX_AGE: Duration = Duration::from_secs(30);

/// How long somebody waits for a list that a server was just asked for. A server that does one thing at a time may be in
/// the middle of a long call.
const LIST_WAIT: Duration = Duration::from_secs(3);

/// How long a server that could not list is not asked again.
const FAILURE_AGE: Duration = Duration::from_secs(5);

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Resources,
    Templates,
    Prompts,
}

impl Kind {
    fn request(self, cursor: Option<String>) -> ClientRequest {
        // Some older servers refuse an empty `params` object.
        let page = cursor.map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
        match self {
            Self::Resources => ClientRequest::ListResourcesRequest(
                page.map_or_else(ListResourcesRequest::default, ListResourcesRequest::with_param),
            ),
            Self::Templates => ClientRequest::ListResourceTemplatesRequest(page.map_or_else(
                ListResourceTemplatesRequest::default,
                ListResourceTemplatesRequest::with_param,
            )),
            Self::Prompts => ClientRequest::ListPromptsRequest(
                page.map_or_else(ListPromptsRequest::default, ListPromptsRequest::with_param),
            ),
        }
    }

    /// The field of a page that holds the entries, and the fields every entry must have.
    fn fields(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Resources => ("resources", &["uri", "name"]),
            Self::Templates => ("resourceTemplates", &["uriTemplate", "name"]),
            Self::Prompts => ("prompts", &["name"]),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Resources => "resources",
            Self::Templates => "resource templates",
            Self::Prompts => "prompts",
        }
    }
}

/// The lists of one connection.
#[derive(Default)]
pub(super) struct Lists {
    resources: Kept,
    templates: Kept,
    prompts: Kept,
}

/// One list.
#[derive(Default)]
struct Kept(Mutex<Generations>);

/// A change puts a new one in the place of `now`, so that an answer that is under way cannot outlive it.
#[derive(Default)]
struct Generations {
    now: Option<Asking>,
    /// What there was before, for as long as `now` is under way or failed.
    last: Option<Arc<[Value]>>,
}

/// A server that is asked, or has been.
#[derive(Clone)]
struct Asking {
    since: Instant,
    answer: Shared<BoxFuture<'static, Answer>>,
}

#[derive(Clone)]
struct Answer {
    at: Instant,
    list: Result<Arc<[Value]>, ToolError>,
}

impl Lists {
    fn kept(&self, kind: Kind) -> &Kept {
        match kind {
            Kind::Resources => &self.resources,
            Kind::Templates => &self.templates,
            Kind::Prompts => &self.prompts,
        }
    }

    /// The next one who wants it asks the server again.
    pub(super) fn forget(&self, kind: Kind) {
        self.kept(kind).generations().end();
    }

    /// Whether the server has been asked for it.
    pub(super) fn is_kept(&self, kind: Kind) -> bool {
        self.kept(kind).generations().now.is_some()
    }
}

impl Generations {
    fn end(&mut self) {
        if let Some(Ok(list)) = self.now.take().and_then(|now| Some(now.answer.peek()?.list.clone())) {
            self.last = Some(list);
        }
    }
}

impl Kept {
    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present asking, which `ask` begins where there is none or it is too old; and the list from before.
    fn current(&self, announced: bool, ask: impl FnOnce() -> Asking) -> (Asking, Option<Arc<[Value]>>) {
        let mut kept = self.generations();
        let is_old = kept.now.as_ref().and_then(|now| now.answer.peek()).is_some_and(|answer| {
            let age = answer.at.elapsed();
            if answer.list.is_ok() { !announced && age > UNANNOUNCED_MAX_AGE } else { age > FAILURE_AGE }
        });
        if is_old {
            kept.end();
        }
        let now = kept.now.get_or_insert_with(ask).clone();
        (now, kept.last.clone())
    }
}

/// The list of `kind` of the connection `live` to `server`; the caller knows that the server has such a list. Waits for
/// it a short time only, counted from when the server was asked; after that it is the list from before, if there is one.
///
/// # Errors
/// When a page cannot be had within `limit`, or there is no list yet.
pub(super) async fn list(
    server: &Arc<Server>,
    live: &Arc<Live>,
    kind: Kind,
    limit: Duration,
    max_bytes: usize,
) -> Result<Arc<[Value]>, ToolError> {
    let announced = match kind {
        Kind::Resources | Kind::Templates => live.announces_resources,
        Kind::Prompts => live.announces_prompts,
    };
    let ask = || ask(server.clone(), live.clone(), kind, limit, max_bytes);
    let (asking, last) = live.lists.kept(kind).current(announced, ask);
    match tokio::time::timeout_at(asking.since + LIST_WAIT, asking.answer).await {
        Ok(Answer { list: Ok(list), .. }) => Ok(list),
        Ok(Answer { list: Err(error), .. }) => last.ok_or(error),
        Err(_) => last.ok_or_else(|| late(server.name(), kind, LIST_WAIT)),
    }
}

/// Begins to ask. The answer comes whether or not somebody waits for it so long; when it is late, that is announced.
fn ask(server: Arc<Server>, live: Arc<Live>, kind: Kind, limit: Duration, max_bytes: usize) -> Asking {
    let since = Instant::now();
    let tasks = server.tasks.clone();
    let asked = server.clone();
    let answer = async move {
        let name = asked.name();
        let list = match tokio::time::timeout(limit, pages(name, &live, kind, limit, max_bytes)).await {
            Ok(Ok(list)) => Ok(list),
            Ok(Err(error)) => {
                let (what, reason) = (kind.words(), client::sentence(&error));
                let message = format!("the {what} of server `{name}` could not be listed: {reason}");
                Err(ToolError::new(ToolErrorKind::Failed, message))
            }
            Err(_) => Err(late(name, kind, limit)),
        };
        Answer { at: Instant::now(), list }
    };
    let answer = answer.boxed().shared();
    let answered = answer.clone();
    tasks.spawn(async move {
        if answered.await.list.is_ok() && since.elapsed() > LIST_WAIT {
            server.announce_list(kind);
        }
    });
    Asking { since, answer }
}

fn late(server: &str, kind: Kind, limit: Duration) -> ToolError {
    let (what, limit) = (kind.words(), limit.as_millis());
    let message = format!("the {what} of server `{server}` were not listed within {limit} ms");
    ToolError::new(ToolErrorKind::Timeout, message)
}

async fn pages(
    server: &str,
    live: &Live,
    kind: Kind,
    limit: Duration,
    max_bytes: usize,
) -> Result<Arc<[Value]>, ServiceError> {
    let (mut entries, mut bytes, mut left_out) = (Vec::new(), 0usize, 0usize);
    let mut seen = HashSet::new();
    let mut cursor = None;
    for _ in 0..MAX_PAGES {
        let request = kind.request(cursor.take());
        let options = PeerRequestOptions::with_timeout(limit);
        let page = match live.peer.send_request_with_option(request, options).await?.await_response().await {
            Ok(page) => serde_json::to_value(page).unwrap_or_default(),
            // A server with resources need not have templates.
            Err(ServiceError::McpError(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => break,
            Err(error) => return Err(error),
        };
        let (found, next) = entries_of(page, kind).ok_or(ServiceError::UnexpectedResponse)?;
        for entry in found {
            bytes = bytes.saturating_add(entry.to_string().len());
            if bytes > max_bytes {
                left_out += 1;
            } else {
                entries.push(entry);
            }
        }
        match next {
            Some(next) if left_out == 0 && seen.insert(next.clone()) => cursor = Some(next),
            _ => break,
        }
    }
    if left_out > 0 || cursor.is_some() {
        let (what, kept) = (kind.words(), entries.len());
        tracing::warn!(
            server,
            "kept {kept} {what}; the server has more than {MAX_PAGES} pages or {max_bytes} bytes of them \
             (tools.max_resource_bytes)"
        );
    }
    Ok(entries.into())
}

/// The usable entries of a page, and the cursor of the next page; `None` if it is no page of that kind.
fn entries_of(mut page: Value, kind: Kind) -> Option<(Vec<Value>, Option<String>)> {
    let (list, required) = kind.fields();
    let next = page.get("nextCursor").and_then(Value::as_str).filter(|next| !next.is_empty());
    let next = next.map(str::to_owned);
    let Value::Array(mut entries) = page.get_mut(list)?.take() else { return None };
    entries.retain(|entry| required.iter().all(|field| entry.get(field).is_some_and(Value::is_string)));
    Some((entries, next))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::super::fake::{Era, Fake};
    use super::*;

    #[test]
    fn one_wrong_entry_does_not_hide_the_others() {
        let page =
            json!({"resources": [{"uri": "a:b", "name": "b", "size": 5}, {"uri": 7}], "nextCursor": "2"});
        let (entries, next) = entries_of(page.clone(), Kind::Resources).unwrap();
        assert_eq!(entries, [json!({"uri": "a:b", "name": "b", "size": 5})]);
        assert_eq!(next.as_deref(), Some("2"));
        assert_eq!(entries_of(page, Kind::Prompts), None);
        assert_eq!(entries_of(json!({"prompts": {}}), Kind::Prompts), None);
    }

    /// A server that answers each `resources/list` after `work`, in turn.
    async fn slow(work: &'static [u64]) -> Fake {
        let turn = AtomicUsize::new(0);
        let capabilities = json!({"resources": {"listChanged": true}});
        Fake::start(Era::Old, capabilities, move |message, say| {
            if message["method"] != "resources/list" {
                return false;
            }
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            let answer = match work.get(turn) {
                Some(_) => json!({"result": {"resources": [{"uri": format!("a:{turn}"), "name": "a"}]}}),
                None => json!({"error": {"code": -32603, "message": "broken"}}),
            };
            say.after(Duration::from_secs(work.get(turn).copied().unwrap_or(0)), message, answer);
            true
        })
        .await
    }

    async fn resources(fake: &Fake) -> Result<String, ToolErrorKind> {
        let limit = Duration::from_secs(60);
        let list = list(&fake.server, &fake.live, Kind::Resources, limit, 1 << 20).await;
        list.map(|list| list[0]["uri"].as_str().unwrap().to_owned()).map_err(|error| error.kind)
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_its_time_holds_nobody_up_twice() {
        let fake = slow(&[50, 0, 50]).await;
        let mut changes = fake.server.context_changes();
        changes.mark_unchanged();
        let began = Instant::now();
        assert_eq!(resources(&fake).await, Err(ToolErrorKind::Timeout));
        assert!(began.elapsed() < Duration::from_secs(4));
        let again = Instant::now();
        assert_eq!(resources(&fake).await, Err(ToolErrorKind::Timeout));
        assert_eq!(again.elapsed(), Duration::ZERO, "it is asked already, and had its time");
        changes.changed().await.unwrap();
        assert_eq!(resources(&fake).await.as_deref(), Ok("a:0"), "the late list was announced");

        fake.server.relist(Kind::Resources);
        assert_eq!(resources(&fake).await.as_deref(), Ok("a:1"));
        fake.server.relist(Kind::Resources);
        assert_eq!(resources(&fake).await.as_deref(), Ok("a:1"), "the list from before serves meanwhile");
        changes.mark_unchanged();
        changes.changed().await.unwrap();
        assert_eq!(resources(&fake).await.as_deref(), Ok("a:2"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_kept_for_a_moment() {
        let fake = slow(&[]).await;
        for _ in 0..3 {
            assert_eq!(resources(&fake).await, Err(ToolErrorKind::Failed));
        }
        assert_eq!(fake.times("resources/list"), 1);
        tokio::time::advance(FAILURE_AGE + Duration::from_secs(1)).await;
        assert_eq!(resources(&fake).await, Err(ToolErrorKind::Failed));
        assert_eq!(fake.times("resources/list"), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_is_kept_until_it_changes_or_grows_old() {
        let lists = Lists::default();
        let asked = AtomicUsize::new(0);
        let look = |announced| {
            let ask = || {
                let (at, of) = (Instant::now(), json!(asked.fetch_add(1, Ordering::Relaxed)));
                let answer = async move { Answer { at, list: Ok(Arc::from([of])) } };
                Asking { since: at, answer: answer.boxed().shared() }
            };
            let (asking, _) = lists.kept(Kind::Prompts).current(announced, ask);
            asking.answer.now_or_never().unwrap().list.unwrap()[0].clone()
        };
        assert_eq!((look(false), look(false)), (json!(0), json!(0)));
        tokio::time::advance(UNANNOUNCED_MAX_AGE + Duration::from_secs(1)).await;
        assert_eq!(look(true), json!(0), "a server that tells of changes is trusted");
        assert_eq!(look(false), json!(1));
        lists.forget(Kind::Prompts);
        assert_eq!(look(true), json!(2));
    }
}
