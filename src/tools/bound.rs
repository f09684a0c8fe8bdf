//! Bounds a result's size: what is too large is cut, with a note that says so and what to do.

use crate::domain::{ContentBlock, ToolResult};

/// Cuts `result` to about `limit` bytes and returns it with its size as it came, in bytes.
pub(super) fn bound(mut result: ToolResult, limit: usize) -> (ToolResult, usize) {
    let structured = result.structured_content.as_ref().map_or(0, |value| value.to_string().len());
    let size = result.content.iter().map(size_of).sum::<usize>() + structured;
    if size <= limit {
        return (result, size);
    }
    let mut room = limit;
    for block in &mut result.content {
        let bytes = size_of(block);
        if bytes <= room {
            room -= bytes;
            continue;
        }
        *block = match block {
            ContentBlock::Text { text } => ContentBlock::text(cut(text, room)),
            ContentBlock::Image { mime_type, .. } => note(&format!("an image ({mime_type})"), bytes, limit),
            ContentBlock::Audio { mime_type, .. } => note(&format!("a sound ({mime_type})"), bytes, limit),
            ContentBlock::Resource { .. } => note("a resource", bytes, limit),
            ContentBlock::ResourceLink { .. } => note("a resource link", bytes, limit),
        };
        room = 0;
    }
    if structured > room {
        result.structured_content = None;
        result.content.push(note("the structured content", structured, limit));
    }
    (result, size)
}

fn size_of(block: &ContentBlock) -> usize {
    match block {
        ContentBlock::Text { text } => text.len(),
        ContentBlock::Image { data, .. } | ContentBlock::Audio { data, .. } => data.len(),
        ContentBlock::Resource { resource } => resource.to_string().len(),
        ContentBlock::ResourceLink { uri, name, description, .. } => {
            uri.len() + name.len() + description.as_ref().map_or(0, String::len)
        }
    }
}

fn cut(text: &str, room: usize) -> String {
    let mut end = room;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!(
        "{}\n[The result was cut here: {} of {} bytes are left out. Ask for less, for example with a filter or a limit.]",
        &text[..end],
        text.len() - end,
        text.len()
    )
}

fn note(what: &str, bytes: usize, limit: usize) -> ContentBlock {
    ContentBlock::text(format!(
        "[{what} of {bytes} bytes was left out: results are limited to {limit} bytes]"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn small_results_are_untouched() {
        let result = ToolResult::text("ok");
        assert_eq!(bound(result.clone(), 100), (result, 2));
    }

    #[test]
    fn large_text_is_cut_at_a_character_with_a_note() {
        let (result, size) = bound(ToolResult::text("é".repeat(100)), 51);
        let text = result.to_text();
        assert_eq!(size, 200);
        assert!(
            text.starts_with(&"é".repeat(25)) && text.contains("150 of 200 bytes are left out"),
            "{text}"
        );
    }

    #[test]
    fn images_and_structured_content_are_left_out_whole() {
        let image = ContentBlock::Image { data: "A".repeat(500), mime_type: "image/png".into() };
        let structured_content = Some(json!({"x": "y".repeat(500)}));
        let result = ToolResult { content: vec![image], structured_content, is_error: false };
        let (result, _) = bound(result, 100);
        assert!(result.structured_content.is_none());
        assert!(result.to_text().contains("an image (image/png) of 500 bytes was left out"));
    }
}
