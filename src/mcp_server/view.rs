//! The tools of one endpoint as one caller may see them: all of them, or those of one server under its own names.

use std::sync::Arc;

use crate::access::{AccessError, AccessScope};
use crate::toolbox::{Contexts, Toolbox};
use crate::tools::RegisteredTool;

/// How calls come in here, for the audit log.
pub(super) const VIA: &str = "mcp";

/// What an endpoint shows; a clone shows the same.
#[derive(Clone)]
pub(super) struct View {
    pub(super) toolbox: Toolbox,
    /// The server or plugin it is about, `None` for all.
    pub(super) server: Option<Arc<str>>,
}

impl View {
    /// The tools that `scope` may see now, in the registry's order.
    pub(super) fn tools(&self, scope: &AccessScope) -> Vec<Arc<RegisteredTool>> {
        let mut tools = self.toolbox.visible(scope);
        tools.retain(|tool| self.shows(tool));
        tools
    }

    /// The tool called `name` here, for a call by the caller of `scope`.
    ///
    /// # Errors
    /// As [`Toolbox::wanted`].
    pub(super) fn wanted(&self, scope: &AccessScope, name: &str) -> Result<Arc<RegisteredTool>, AccessError> {
        if self.server.is_none() {
            return self.toolbox.wanted(scope, name, VIA);
        }
        let snapshot = self.toolbox.snapshot();
        let tool = snapshot.tools().iter().find(|tool| self.shows(tool) && self.name_of(tool) == name);
        self.toolbox.admitted(scope, tool, name, VIA)
    }

    /// The tool called `name` here, if `scope` may see it.
    pub(super) fn find(&self, scope: &AccessScope, name: &str) -> Option<Arc<RegisteredTool>> {
        if self.server.is_none() {
            return self.toolbox.find(scope, name);
        }
        let snapshot = self.toolbox.snapshot();
        let tool = snapshot.tools().iter().find(|tool| self.shows(tool) && self.name_of(tool) == name)?;
        let names = (&tool.definition.name, &tool.qualified_name);
        scope.sees_tool(names.0, names.1).then(|| Arc::clone(tool))
    }

    /// The resources and prompts.
    pub(super) fn contexts(&self) -> Contexts {
        self.toolbox.contexts(self.server.clone())
    }

    /// What `tool` is called here.
    pub(super) fn name_of<'a>(&self, tool: &'a RegisteredTool) -> &'a str {
        if self.server.is_some() { tool.original_name() } else { &tool.definition.name }
    }

    fn shows(&self, tool: &RegisteredTool) -> bool {
        self.server.is_none() || tool.definition.server.as_deref() == self.server.as_deref()
    }
}

/// Whether two listings are the same, definition for definition.
pub(super) fn is_same(before: &[Arc<RegisteredTool>], now: &[Arc<RegisteredTool>]) -> bool {
    before.len() == now.len() && before.iter().zip(now).all(|(old, new)| Arc::ptr_eq(old, new))
}
