//! Cuts a tool's result to the size that a conversation can carry, and tells the model what was cut.
//!
//! Promises: a cut text is still valid UTF-8, binary data is kept whole or left out whole, and nothing disappears
//! without a note.

use serde_json::Value;

use super::schema::{cut, json_bytes};
use crate::domain::{ContentBlock, ToolResult};

/// What every block costs besides its data, so that countless empty blocks are bounded too.
const BLOCK_BYTES: usize = 32;

/// The size of a result, in bytes of its texts, data and structured content.
#[must_use]
pub fn result_bytes(result: &ToolResult) -> usize {
    let content: usize = result.content.iter().map(block_bytes).sum();
    content.saturating_add(result.structured_content.as_ref().map_or(0, json_bytes))
}

/// `result`, whose size is `bytes`, in at most `max` bytes and the notes that say what is missing. The content goes
/// before the structured content, which servers mostly repeat as text.
pub(super) fn bound(mut result: ToolResult, bytes: usize, max: usize) -> ToolResult {
    if bytes <= max {
        return result;
    }
    let mut left = max;
    let blocks = result.content.len();
    let mut kept = Vec::new();
    for (at, block) in std::mem::take(&mut result.content).into_iter().enumerate() {
        let size = block_bytes(&block);
        if size <= left {
            left -= size;
            kept.push(block);
        } else if left <= BLOCK_BYTES {
            kept.push(note(&format!("{} more parts of the result were left out", blocks - at)));
            left = 0;
            break;
        } else {
            let (block, used) = shorten(block, left);
            left -= used;
            kept.push(block);
        }
    }
    if let Some(structured) = result.structured_content.take() {
        let size = json_bytes(&structured);
        if size <= left {
            result.structured_content = Some(structured);
        } else if kept.is_empty() {
            kept.push(cut_text(&structured.to_string(), left));
        } else {
            kept.push(note(&format!("the structured content of {size} bytes was left out")));
        }
    }
    result.content = kept;
    result
}

fn block_bytes(block: &ContentBlock) -> usize {
    let data = match block {
        ContentBlock::Text { text } => text.len(),
        ContentBlock::Image { data, mime_type } | ContentBlock::Audio { data, mime_type } => {
            data.len() + mime_type.len()
        }
        ContentBlock::Resource { resource } => json_bytes(resource),
        ContentBlock::ResourceLink { uri, name, description, mime_type } => {
            let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
            uri.len() + name.len() + optional(description) + optional(mime_type)
        }
    };
    data.saturating_add(BLOCK_BYTES)
}

/// What stands in the place of a block that does not fit into `left` bytes, and how much of them it takes.
fn shorten(block: ContentBlock, left: usize) -> (ContentBlock, usize) {
    match block {
        ContentBlock::Text { text } => (cut_text(&text, left), left),
        ContentBlock::Image { data, mime_type } => left_out("an image", &mime_type, data.len(), left),
        ContentBlock::Audio { data, mime_type } => left_out("a sound", &mime_type, data.len(), left),
        ContentBlock::Resource { resource } => match resource.get("text").and_then(Value::as_str) {
            Some(text) => (cut_text(text, left), left),
            None => {
                let field = |name: &str| resource.get(name).and_then(Value::as_str).unwrap_or("unnamed");
                let label = cut(field("uri"), 200);
                left_out(&format!("the resource {label}"), field("mimeType"), json_bytes(&resource), left)
            }
        },
        ContentBlock::ResourceLink { uri, .. } => {
            left_out(&format!("a link to {}", cut(&uri, 200)), "link", uri.len(), left)
        }
    }
}

fn cut_text(text: &str, left: usize) -> ContentBlock {
    let shown = cut(text, left.saturating_sub(BLOCK_BYTES));
    ContentBlock::text(format!(
        "{shown}\n[Cut by the gateway: this is the first {} of {} bytes (tools.max_result_bytes). To see the rest, ask \
         for less at a time: a filter, a limit, a page or a smaller range.]",
        shown.len(),
        text.len()
    ))
}

/// A note takes its place like anything else, so that countless parts do not become countless notes.
fn left_out(what: &str, kind: &str, bytes: usize, left: usize) -> (ContentBlock, usize) {
    let note = note(&format!("{what} ({}, {bytes} bytes) was left out", cut(kind, 100)));
    let used = block_bytes(&note).min(left);
    (note, used)
}

fn note(what: &str) -> ContentBlock {
    ContentBlock::text(format!(
        "[Cut by the gateway: {what}; the result is too large (tools.max_result_bytes).]"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bounded(result: ToolResult, max: usize) -> ToolResult {
        let bytes = result_bytes(&result);
        bound(result, bytes, max)
    }

    fn text(block: &ContentBlock) -> &str {
        match block {
            ContentBlock::Text { text } => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_fits_stays_untouched() {
        let mut result = ToolResult::text("x".repeat(100));
        result.structured_content = Some(json!({"a": 1}));
        assert_eq!(bounded(result.clone(), 1000), result);
    }

    #[test]
    fn text_is_cut_between_characters_and_says_so() {
        for max in 40..60 {
            let result = bounded(ToolResult { is_error: true, ..ToolResult::text("é🙂".repeat(1000)) }, max);
            let cut = text(&result.content[0]);
            assert!(cut.contains("of 6000 bytes") && cut.contains("tools.max_result_bytes"), "{cut}");
            assert!(cut.len() < max + 250 && result.is_error);
        }
    }

    #[test]
    fn binary_data_is_kept_whole_or_left_out_and_text_after_it_stays() {
        let image =
            |size: usize| ContentBlock::Image { data: "A".repeat(size), mime_type: "image/png".into() };
        let content = vec![
            image(50),
            image(5000),
            ContentBlock::Resource { resource: json!({"uri": "file:///x.bin", "blob": "A".repeat(5000)}) },
            ContentBlock::text("the end"),
        ];
        let result = bounded(ToolResult { content, ..ToolResult::default() }, 500);
        assert_eq!(result.content[0], image(50));
        assert!(text(&result.content[1]).contains("an image (image/png, 5000 bytes)"));
        assert!(text(&result.content[2]).contains("file:///x.bin"));
        assert_eq!(text(&result.content[3]), "the end");
    }

    #[test]
    fn countless_blocks_end_in_one_note() {
        let content = vec![ContentBlock::text(""); 100_000];
        let result = bounded(ToolResult { content, ..ToolResult::default() }, 320);
        assert_eq!(result.content.len(), 11);
        assert!(text(&result.content[10]).contains("99990 more parts"));
    }

    #[test]
    fn countless_parts_that_do_not_fit_end_in_one_note() {
        let image = ContentBlock::Image { data: "A".repeat(20_000), mime_type: "image/png".into() };
        let link = ContentBlock::ResourceLink {
            uri: "u".repeat(20_000),
            name: String::new(),
            description: None,
            mime_type: None,
        };
        let resource = ContentBlock::Resource { resource: json!({"uri": "x", "blob": "A".repeat(20_000)}) };
        for part in [image, link, resource] {
            let result = bounded(ToolResult { content: vec![part; 1000], ..ToolResult::default() }, 10_000);
            assert!(result_bytes(&result) < 11_000, "{}", result_bytes(&result));
            let last = text(result.content.last().unwrap());
            assert!(last.contains(&format!("{} more parts", 1001 - result.content.len())), "{last}");
        }
    }

    #[test]
    fn structured_content_is_left_out_or_cut_as_text_where_it_stands_alone() {
        let structured = Some(json!({"rows": vec!["row"; 1000]}));
        let both = ToolResult { structured_content: structured.clone(), ..ToolResult::text("summary") };
        let both = bounded(both, 500);
        assert_eq!((both.structured_content.is_none(), text(&both.content[0])), (true, "summary"));
        assert!(text(&both.content[1]).contains("structured content"));
        let alone = bounded(ToolResult { structured_content: structured, ..ToolResult::default() }, 500);
        assert!(alone.to_text().starts_with("{\"rows\":[\"row\"") && alone.structured_content.is_none());
    }

    #[test]
    fn a_long_resource_keeps_its_beginning() {
        let resource = json!({"uri": "file:///log", "text": format!("begin{}", "x".repeat(5000))});
        let content = vec![ContentBlock::Resource { resource }];
        let result = bounded(ToolResult { content, ..ToolResult::default() }, 500);
        assert!(text(&result.content[0]).starts_with("beginx"));
    }
}
