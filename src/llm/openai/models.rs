//! An upstream's list of models, `GET /models`.

use serde::Deserialize;

use super::wire;
use crate::llm::ModelInfo;
use crate::llm::retry::Failure;

#[derive(Deserialize)]
struct List {
    data: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    created: Option<f64>,
    #[serde(default)]
    owned_by: Option<String>,
}

/// Reads the body; a `data: null`, which some servers send for an empty list, is one.
pub(super) fn parse(upstream: &str, body: &[u8]) -> Result<Vec<ModelInfo>, Failure> {
    let list: List = serde_json::from_slice(body).map_err(|_| wire::no_model_list(upstream, body))?;
    let info = |entry: Entry| ModelInfo {
        id: entry.id,
        object: "model",
        // Numbers beyond the range become its nearest end; a number of seconds is a whole one.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
        created: entry.created.unwrap_or_default() as u64,
        owned_by: entry.owned_by.filter(|owner| !owner.is_empty()).unwrap_or_else(|| upstream.to_owned()),
        own_ids: std::sync::Arc::default(),
    };
    Ok(list.data.unwrap_or_default().into_iter().filter(|entry| !entry.id.is_empty()).map(info).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_there_is() {
        let body = br#"{"object":"list","data":[{"id":"a/b","created":1677610602,"owned_by":"x"},{"id":"c","k":1}]}"#;
        let models = parse("up", body).unwrap();
        assert_eq!(
            (models[0].id.as_str(), models[0].created, models[0].owned_by.as_str()),
            ("a/b", 1_677_610_602, "x")
        );
        assert_eq!((models[1].created, models[1].owned_by.as_str()), (0, "up"));
        assert!(parse("up", br#"{"data":null}"#).unwrap().is_empty());
        assert!(parse("up", b"<html>").unwrap_err().error.message.contains("`up`"));
    }
}
