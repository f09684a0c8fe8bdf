//! From the domain's shapes to the protocol's: tool definitions, results, what calls tell while they run.

use std::sync::Arc;

use rmcp::model::{
    CallToolResult, ContentBlock as McpContent, LoggingLevel, LoggingMessageNotification,
    LoggingMessageNotificationParam, ProgressNotification, ProgressNotificationParam, ProgressToken,
    Resource, ResourceContents, ServerNotification, Tool, ToolAnnotations as McpAnnotations,
};
use serde_json::Value;

use crate::domain::{ContentBlock, ToolAnnotations, ToolProgress, ToolResult};
use crate::tools::RegisteredTool;

/// A tool under `name`.
pub(super) fn tool(name: &str, tool: &RegisteredTool) -> Tool {
    let definition = &tool.definition;
    let mut shown = Tool::new_with_raw(
        name.to_owned(),
        (!definition.description.is_empty()).then(|| definition.description.clone().into()),
        Arc::clone(&tool.input_object),
    );
    shown.title = definition.title.clone();
    shown.output_schema = tool.output_object.clone();
    shown.annotations = (!definition.annotations.is_empty()).then(|| annotations(&definition.annotations));
    shown
}

fn annotations(hints: &ToolAnnotations) -> McpAnnotations {
    let mut annotations = McpAnnotations::new();
    annotations.read_only_hint = hints.read_only_hint;
    annotations.destructive_hint = hints.destructive_hint;
    annotations.idempotent_hint = hints.idempotent_hint;
    annotations.open_world_hint = hints.open_world_hint;
    annotations
}

/// A tool's result, block for block.
pub(super) fn result(result: ToolResult) -> CallToolResult {
    let content = result.content.into_iter().map(block).collect();
    let mut converted =
        if result.is_error { CallToolResult::error(content) } else { CallToolResult::success(content) };
    converted.structured_content = result.structured_content;
    converted
}

/// A failure told in words, for the model to read.
pub(super) fn failure(text: impl Into<String>) -> CallToolResult {
    CallToolResult::error(vec![McpContent::text(text)])
}

fn block(block: ContentBlock) -> McpContent {
    match block {
        ContentBlock::Text { text } => McpContent::text(text),
        ContentBlock::Image { data, mime_type } => McpContent::image(data, mime_type),
        ContentBlock::Audio { data, mime_type } => McpContent::audio(data, mime_type),
        ContentBlock::Resource { resource } => match serde_json::from_value::<ResourceContents>(resource) {
            Ok(contents) => McpContent::resource(contents),
            Err(error) => McpContent::text(format!("[a resource that cannot be passed on: {error}]")),
        },
        ContentBlock::ResourceLink { uri, name, description, mime_type } => {
            let mut link = Resource::new(uri, name);
            link.description = description;
            link.mime_type = mime_type;
            McpContent::resource_link(link)
        }
    }
}

/// What a call tells, as a notification: progress for clients with a `token`, log lines from `least` on.
pub(super) fn notification(
    told: ToolProgress,
    token: Option<&ProgressToken>,
    least: Option<LoggingLevel>,
) -> Option<ServerNotification> {
    match told {
        ToolProgress::Progress { progress, total, message } => {
            let mut params = ProgressNotificationParam::new(token?.clone(), progress);
            (params.total, params.message) = (total, message);
            Some(ServerNotification::ProgressNotification(ProgressNotification::new(params)))
        }
        ToolProgress::Log { level, logger, data } => {
            let level = log_level(&level)?;
            if severity(level) < severity(least?) {
                return None;
            };
            let mut params = LoggingMessageNotificationParam::new(level, data);
            params.logger = logger;
            Some(ServerNotification::LoggingMessageNotification(LoggingMessageNotification::new(params)))
        }
    }
}

fn log_level(name: &str) -> Option<LoggingLevel> {
    serde_json::from_value(Value::from(name)).ok()
}

fn severity(level: LoggingLevel) -> u8 {
    match level {
        LoggingLevel::Debug => 0,
        LoggingLevel::Info => 1,
        LoggingLevel::Notice => 2,
        LoggingLevel::Warning => 3,
        LoggingLevel::Error => 4,
        LoggingLevel::Critical => 5,
        LoggingLevel::Alert => 6,
        LoggingLevel::Emergency => 7,
    }
}
