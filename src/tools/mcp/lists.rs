//! The resources, resource templates and prompts of one connection: listed when first wanted, then kept.
//!
//! Promises: a server is asked for a list once however many want it, and only for what it says it has; a list is kept
//! until the server says that it changed, or for a short time where it never says so; its pages and bytes are bounded.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::ServiceError;
use rmcp::model::{
    ClientRequest, ErrorCode, ListPromptsRequest, ListResourceTemplatesRequest, ListResourcesRequest,
    PaginatedRequestParams,
};
use rmcp::service::PeerRequestOptions;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::client;
use super::server::Live;
use crate::domain::{ToolError, ToolErrorKind};

/// Most pages read of one list; a server that never stops paging is cut off there.
const MAX_PAGES: usize = 100;

/// How long a list is kept where the server does not promise to tell of changes.
const UNANNOUNCED_MAX_AGE: Duration = Duration::from_secs(30);

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

#[derive(Default)]
struct Kept(Mutex<Generation>);

/// One list; a change puts a new one in its place, so that an answer that is under way cannot outlive it.
#[derive(Clone, Default)]
struct Generation {
    list: Arc<OnceCell<Arc<[Value]>>>,
    since: Option<Instant>,
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
        *self.kept(kind).0.lock().unwrap_or_else(PoisonError::into_inner) = Generation::default();
    }
}

impl Kept {
    fn current(&self, announced: bool) -> Arc<OnceCell<Arc<[Value]>>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = kept.since.map(|since| since.elapsed());
        if !announced && age.is_some_and(|age| age > UNANNOUNCED_MAX_AGE) {
            *kept = Generation::default();
        }
        kept.since.get_or_insert_with(Instant::now);
        kept.list.clone()
    }
}

/// The list of `kind` of the connection `live` to `server`; the caller knows that the server has such a list.
///
/// # Errors
/// When a page cannot be had within `limit`.
pub(super) async fn list(
    server: &str,
    live: &Live,
    kind: Kind,
    limit: Duration,
    max_bytes: usize,
) -> Result<Arc<[Value]>, ToolError> {
    let announced = match kind {
        Kind::Resources | Kind::Templates => live.announces_resources,
        Kind::Prompts => live.announces_prompts,
    };
    let list = live.lists.kept(kind).current(announced);
    let all = list.get_or_try_init(|| pages(server, live, kind, limit, max_bytes));
    let what = kind.words();
    match tokio::time::timeout(limit, all).await {
        Ok(Ok(list)) => Ok(list.clone()),
        Ok(Err(error)) => {
            let reason = client::sentence(&error);
            let message = format!("the {what} of server `{server}` could not be listed: {reason}");
            Err(ToolError::new(ToolErrorKind::Failed, message))
        }
        Err(_) => {
            let limit = limit.as_millis();
            let message = format!("the {what} of server `{server}` were not listed within {limit} ms");
            Err(ToolError::new(ToolErrorKind::Timeout, message))
        }
    }
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
    use serde_json::json;

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

    #[tokio::test(start_paused = true)]
    async fn a_list_is_kept_until_it_changes_or_grows_old() {
        let lists = Lists::default();
        let cell = |announced| lists.kept(Kind::Prompts).current(announced);
        let first = cell(false);
        assert!(Arc::ptr_eq(&first, &cell(false)));
        tokio::time::advance(UNANNOUNCED_MAX_AGE + Duration::from_secs(1)).await;
        assert!(Arc::ptr_eq(&first, &cell(true)), "a server that tells of changes is trusted");
        let second = cell(false);
        assert!(!Arc::ptr_eq(&first, &second));
        lists.forget(Kind::Prompts);
        assert!(!Arc::ptr_eq(&second, &cell(true)));
    }
}
