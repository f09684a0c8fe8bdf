//! Checks documents against the schemas of the official SDK's types (`tests/data/schemas`, made by `generate.py` there).

use std::collections::HashMap;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

static SCHEMAS: LazyLock<HashMap<&'static str, Validator>> = LazyLock::new(|| {
    let texts = [
        ("chat.completion", include_str!("../../data/schemas/chat_completion.json")),
        ("chat.completion.chunk", include_str!("../../data/schemas/chat_completion_chunk.json")),
        ("model", include_str!("../../data/schemas/model.json")),
        ("list", include_str!("../../data/schemas/model_list.json")),
        ("error", include_str!("../../data/schemas/error.json")),
    ];
    let compile = |text: &str| jsonschema::validator_for(&serde_json::from_str(text).unwrap()).unwrap();
    texts.into_iter().map(|(name, text)| (name, compile(text))).collect()
});

/// Checks any document of the OpenAI-compatible API; which one it is, it says itself.
///
/// # Panics
/// When it is none, or not as the SDK's types say.
pub(crate) fn check(document: &Value) {
    let kind =
        if document.get("error").is_some() { "error" } else { document["object"].as_str().unwrap_or("") };
    let Some(schema) = SCHEMAS.get(kind) else { panic!("not a document of the API: {document:#}") };
    let problems: Vec<String> =
        schema.iter_errors(document).map(|e| format!("{} at {}", e, e.instance_path())).collect();
    assert!(problems.is_empty(), "not a valid {kind}: {}\n{document:#}", problems.join("; "));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::harness::script::chunk;

    #[test]
    fn takes_good_documents() {
        check(&chunk("m", &json!({"role": "assistant", "content": ""}), None));
        check(&json!({"object": "list", "data": []}));
        check(&json!({"error": {"message": "m", "type": "t", "param": null, "code": null}}));
    }

    #[test]
    fn refuses_bad_ones() {
        let mut without_id = chunk("m", &json!({}), None);
        without_id.as_object_mut().unwrap().remove("id");
        let mut bad_finish = chunk("m", &json!({}), None);
        bad_finish["choices"][0]["finish_reason"] = 3.into();
        let bad_error = json!({"error": {"message": "m", "type": "t", "param": null}});
        for bad in [without_id, bad_finish, bad_error, json!({"object": "list", "data": null}), json!({})] {
            assert!(std::panic::catch_unwind(|| check(&bad)).is_err(), "{bad}");
        }
    }
}
