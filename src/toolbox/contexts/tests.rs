//! Where a resource is looked for, and what is said of one that cannot be had.

use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::audit::AuditLog;
use crate::domain::{Principal, RequestId};
use crate::tools::ToolRegistry;

/// A server that lists `a:1`, after `work`, and answers every other URI with an error of this kind.
struct Source {
    name: &'static str,
    work: Duration,
    error: ToolErrorKind,
}

#[async_trait]
impl ContextSource for Source {
    fn name(&self) -> &str {
        self.name
    }

    fn capabilities(&self) -> ContextCapabilities {
        ContextCapabilities { resources: true, ..ContextCapabilities::default() }
    }

    async fn resources(&self) -> Result<Arc<[Value]>, ToolError> {
        tokio::time::sleep(self.work).await;
        Ok(Arc::from([json!({"uri": "a:1", "name": "one"})]))
    }

    async fn resource_templates(&self) -> Result<Arc<[Value]>, ToolError> {
        Ok(Arc::default())
    }

    async fn prompts(&self) -> Result<Arc<[Value]>, ToolError> {
        Ok(Arc::default())
    }

    async fn read_resource(&self, uri: &str, _context: &ToolContext) -> Result<Value, ToolError> {
        match uri {
            "a:1" => Ok(json!({"contents": [], "by": self.name})),
            _ => Err(ToolError::new(self.error, format!("{} fails", self.name))),
        }
    }

    async fn get_prompt(
        &self,
        name: &str,
        _arguments: Map<String, Value>,
        _context: &ToolContext,
    ) -> Result<Value, ToolError> {
        Err(ToolError::new(ToolErrorKind::NotFound, name))
    }

    async fn complete(
        &self,
        _params: Map<String, Value>,
        _context: &ToolContext,
    ) -> Result<Value, ToolError> {
        Err(ToolError::new(ToolErrorKind::NotFound, "completion"))
    }

    async fn subscribe(&self, uri: &str) -> Result<ResourceSubscription, ToolError> {
        Err(ToolError::new(ToolErrorKind::NotFound, uri))
    }

    fn changes(&self) -> watch::Receiver<ContextVersion> {
        watch::Sender::new(ContextVersion::default()).subscribe()
    }
}

async fn read(uri: &str, sources: [Source; 2]) -> Result<Value, CallError> {
    let registry = Arc::new(ToolRegistry::new(crate::tools::Config::default(), Vec::new()));
    let sources = sources.into_iter().map(|source| Arc::new(source) as Arc<dyn ContextSource>);
    let toolbox = Toolbox::new(registry, AuditLog::none()).with_contexts(sources.collect());
    let scope = AccessScope::unrestricted(RequestId::generate(), Principal::anonymous());
    let site = CallSite { via: VIA, session_id: None, call_id: "1".to_owned(), progress: Default::default() };
    toolbox.contexts(None).read(&scope, uri, site).await
}

fn quick(name: &'static str, error: ToolErrorKind) -> Source {
    Source { name, work: Duration::ZERO, error }
}

#[tokio::test(start_paused = true)]
async fn the_first_that_lists_a_resource_waits_for_no_later_one() {
    let began = tokio::time::Instant::now();
    let never = Source { work: Duration::from_secs(3_600), ..quick("never", ToolErrorKind::Failed) };
    let answer = read("a:1", [quick("first", ToolErrorKind::Failed), never]).await;
    assert_eq!(answer.ok().map(|answer| answer["by"].clone()), Some(json!("first")));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_resource_that_cannot_be_had_is_not_one_that_is_not_there() {
    use ToolErrorKind::{Failed, InvalidArguments, NotFound};
    for (kinds, expected) in [
        ([Failed, NotFound], (Failed, "one fails")),
        ([NotFound, Failed], (Failed, "other fails")),
        ([InvalidArguments, NotFound], (NotFound, "there is no resource `a:2`")),
    ] {
        let sources = [quick("one", kinds[0]), quick("other", kinds[1])];
        let Err(CallError::Tool(error)) = read("a:2", sources).await else { panic!("no error") };
        assert_eq!((error.kind, error.message.as_str()), expected);
    }
}

#[test]
fn templates_are_told_apart_by_their_fixed_parts() {
    for (template, uri) in [
        ("test://template/{id}/data", "test://template/123/data"),
        ("file:///{+path}", "file:///a/b"),
        ("db://{table}/{row}", "db://a/b"),
        ("memo://all", "memo://all"),
    ] {
        assert!(fits_template(template, uri), "{template} {uri}");
    }
    for (template, uri) in [
        ("test://template/{id}/data", "test://template/123"),
        ("db://{table}/{row}", "db://a"),
        ("memo://all", "memo://all/more"),
        ("{anything}", "x://y"),
        ("", "x://y"),
    ] {
        assert!(!fits_template(template, uri), "{template} {uri}");
    }
}
