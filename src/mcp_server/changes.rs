//! What a client is told of without having asked: lists that became others, resources that changed.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::select_all;
use tokio::sync::watch;

use super::view::{View, is_same};
use crate::access::AccessScope;
use crate::tools::{ContextVersion, RegisteredTool};

/// Which lists became others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub(super) tools: bool,
    pub(super) resources: bool,
    pub(super) prompts: bool,
}

/// The moments at which the lists that a scope may see become others.
pub(super) struct Changes {
    view: View,
    scope: AccessScope,
    versions: watch::Receiver<u64>,
    seen: Vec<Arc<RegisteredTool>>,
    contexts: Vec<(watch::Receiver<ContextVersion>, ContextVersion)>,
}

impl Changes {
    /// From now on.
    pub(super) fn new(view: View, scope: AccessScope) -> Self {
        // Subscribed before the first look, so that no change falls between.
        let versions = view.toolbox.registry().changes();
        let seen = view.tools(&scope);
        let contexts = view.contexts().changes(&scope).into_iter().map(|mut changes| {
            let seen = *changes.borrow_and_update();
            (changes, seen)
        });
        Self { contexts: contexts.collect(), view, scope, versions, seen }
    }

    /// Waits for the next one; `None` when there will be none any more.
    pub(super) async fn next(&mut self) -> Option<News> {
        loop {
            let contexts = self.contexts.iter_mut().map(|(changes, _)| changes.changed().boxed());
            let contexts: Vec<_> = contexts.collect();
            let context_changed = async {
                match contexts.is_empty() {
                    true => std::future::pending().await,
                    false => select_all(contexts).await,
                }
            };
            let gone = tokio::select! {
                changed = self.versions.changed() => {
                    changed.ok()?;
                    None
                }
                (changed, at, _) = context_changed => changed.err().map(|_gone| at),
            };
            if let Some(at) = gone {
                self.contexts.swap_remove(at);
            }
            let news = self.look();
            if news != News::default() {
                return Some(news);
            }
        }
    }

    fn look(&mut self) -> News {
        let mut news = News::default();
        let now = self.view.tools(&self.scope);
        if !is_same(&self.seen, &now) {
            self.seen = now;
            news.tools = true;
        }
        for (changes, seen) in &mut self.contexts {
            let now = *changes.borrow_and_update();
            news.resources |= now.resources != seen.resources;
            news.prompts |= now.prompts != seen.prompts;
            *seen = now;
        }
        news
    }
}
