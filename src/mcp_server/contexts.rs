//! Resources and prompts of the servers behind the gateway, between JSON as they send it and rmcp's types.

use rmcp::model::ErrorData;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::access::AccessError;
use crate::domain::{ToolError, ToolErrorKind};
use crate::toolbox::CallError;

/// The entries of a list as rmcp has them; one that it does not understand is left out.
pub(super) fn entries<T: DeserializeOwned>(list: Vec<Value>) -> Vec<T> {
    let understood = |entry: Value| {
        let name = entry["name"].as_str().map(str::to_owned);
        serde_json::from_value(entry)
            .inspect_err(|error| tracing::warn!(name, "left out of a list, with a wrong definition: {error}"))
            .ok()
    };
    list.into_iter().filter_map(understood).collect()
}

/// An answer as rmcp has it.
pub(super) fn answer<T: DeserializeOwned>(answer: Value) -> Result<T, ErrorData> {
    serde_json::from_value(answer).map_err(|error| {
        tracing::warn!("a server's answer cannot be passed on: {error}");
        ErrorData::internal_error("the server's answer is not what the protocol wants", None)
    })
}

/// Why there is no resource.
pub(super) fn resource_error(error: CallError, uri: &str) -> ErrorData {
    match missing(&error) {
        true => ErrorData::resource_not_found(
            format!("there is no resource `{uri}`"),
            Some(json!({ "uri": uri })),
        ),
        false => failure(error),
    }
}

/// Why there is no prompt, or no completion.
pub(super) fn prompt_error(error: CallError) -> ErrorData {
    match &error {
        CallError::Tool(ToolError {
            kind: ToolErrorKind::InvalidArguments | ToolErrorKind::NotFound,
            message,
        }) => ErrorData::invalid_params(message.clone(), None),
        _ if missing(&error) => ErrorData::invalid_params("there is no such prompt", None),
        _ => failure(error),
    }
}

/// What may not be seen looks as if it were not there.
fn missing(error: &CallError) -> bool {
    match error {
        CallError::Tool(error) => error.kind == ToolErrorKind::NotFound,
        CallError::Access(refusal) => matches!(refusal, AccessError::ToolNotAllowed(_)),
    }
}

fn failure(error: CallError) -> ErrorData {
    match error {
        CallError::Access(refusal) => ErrorData::invalid_request(refusal.to_string(), None),
        CallError::Tool(error) => ErrorData::internal_error(error.message, None),
    }
}
