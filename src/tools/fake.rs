//! Scripted tools and sources for the tests of this room.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::{Tool, ToolSource};
use crate::domain::{
    Principal, RequestId, ToolAnnotations, ToolContext, ToolDefinition, ToolError, ToolResult,
};

/// What a [`FakeTool`] does with one call.
pub(crate) enum Answer {
    /// Answers at once.
    Give(Result<ToolResult, ToolError>),
    /// Answers after a while.
    After(Duration, Result<ToolResult, ToolError>),
    /// Never answers.
    Hang,
}

/// A tool that answers from a script, and echoes its arguments once the script is at its end.
pub(crate) struct FakeTool {
    definition: ToolDefinition,
    timeout: Option<Duration>,
    script: Mutex<VecDeque<Answer>>,
    /// Calls begun.
    pub(crate) calls: AtomicUsize,
    /// Calls whose future was dropped before it had answered.
    pub(crate) cancelled: AtomicUsize,
}

impl FakeTool {
    pub(crate) fn definition(name: &str) -> ToolDefinition {
        ToolDefinition {
            name: name.to_owned(),
            title: None,
            description: format!("The tool {name}"),
            input_schema: json!({"type": "object"}),
            output_schema: None,
            annotations: ToolAnnotations::default(),
            server: None,
        }
    }

    pub(crate) fn new(definition: ToolDefinition, script: Vec<Answer>) -> Arc<Self> {
        Arc::new(Self {
            definition,
            timeout: None,
            script: Mutex::new(script.into()),
            calls: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
        })
    }

    pub(crate) fn named(name: &str) -> Arc<dyn Tool> {
        Self::new(Self::definition(name), Vec::new())
    }

    pub(crate) fn with_timeout(definition: ToolDefinition, timeout: Duration) -> Arc<Self> {
        let mut tool = Self::new(definition, vec![Answer::Hang]);
        if let Some(tool) = Arc::get_mut(&mut tool) {
            tool.timeout = Some(timeout);
        }
        tool
    }

    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.calls.load(Ordering::SeqCst), self.cancelled.load(Ordering::SeqCst))
    }
}

/// Counts a call as cancelled unless it is defused.
struct Running<'a>(Option<&'a AtomicUsize>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(cancelled) = self.0 {
            cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl Tool for FakeTool {
    fn definition(&self) -> &ToolDefinition {
        &self.definition
    }

    async fn call(&self, arguments: Map<String, Value>, _: &ToolContext) -> Result<ToolResult, ToolError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mut running = Running(Some(&self.cancelled));
        let answer = self.script.lock().unwrap().pop_front();
        let answer = match answer {
            None => Ok(ToolResult::text(Value::Object(arguments).to_string())),
            Some(Answer::Give(answer)) => answer,
            Some(Answer::After(delay, answer)) => {
                tokio::time::sleep(delay).await;
                answer
            }
            Some(Answer::Hang) => std::future::pending().await,
        };
        running.0 = None;
        answer
    }

    fn timeout(&self) -> Option<Duration> {
        self.timeout
    }
}

/// A source whose tools the test sets.
pub(crate) struct FakeSource {
    name: String,
    tools: Mutex<Vec<Arc<dyn Tool>>>,
    /// `None` once the source has ended.
    version: Mutex<Option<watch::Sender<u64>>>,
}

impl FakeSource {
    pub(crate) fn new(name: &str, tools: Vec<Arc<dyn Tool>>) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            tools: Mutex::new(tools),
            version: Mutex::new(Some(watch::Sender::new(0))),
        })
    }

    pub(crate) fn set(&self, tools: Vec<Arc<dyn Tool>>) {
        *self.tools.lock().unwrap() = tools;
        self.version.lock().unwrap().as_ref().unwrap().send_modify(|version| *version += 1);
    }

    /// Takes all tools away and changes no more.
    pub(crate) fn end(&self) {
        self.tools.lock().unwrap().clear();
        *self.version.lock().unwrap() = None;
    }
}

impl ToolSource for FakeSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn tools(&self) -> Vec<Arc<dyn Tool>> {
        self.tools.lock().unwrap().clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.version.lock().unwrap().as_ref().unwrap().subscribe()
    }
}

/// A context for calls whose context does not matter.
pub(crate) fn context() -> ToolContext {
    ToolContext {
        principal: Principal::anonymous(),
        request_id: RequestId::generate(),
        session_id: None,
        call_id: "call_1".to_owned(),
        progress: Default::default(),
    }
}
