//! From bytes to text: which encoding a page has, and its text.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

/// How far into a page its `<meta charset>` is looked for (WHATWG HTML, section 13.2.3.2).
const PRESCAN_BYTES: usize = 1_024;

/// The text of a body. The encoding is the one of its byte order mark, of the `charset` in `content_type`, of its own
/// `<meta>` tag where it is HTML, or else UTF-8, or windows-1252 where it is not valid UTF-8. A body may be cut anywhere.
pub(crate) fn decode(body: &[u8], content_type: &str, is_html: bool) -> String {
    let declared = parameter(content_type).or_else(|| is_html.then(|| prescan(body)).flatten());
    let encoding = declared.unwrap_or_else(|| if is_utf8_so_far(body) { UTF_8 } else { WINDOWS_1252 });
    // A byte order mark wins over everything.
    encoding.decode(body).0.into_owned()
}

fn parameter(content_type: &str) -> Option<&'static Encoding> {
    let parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let mut charsets = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    charsets.next().and_then(|(_, value)| Encoding::for_label(value.trim().trim_matches('"').as_bytes()))
}

/// `<meta charset=...>` or `<meta http-equiv=content-type content="...; charset=...">` near the beginning.
fn prescan(body: &[u8]) -> Option<&'static Encoding> {
    let head = body.get(..PRESCAN_BYTES).unwrap_or(body).to_ascii_lowercase();
    let mut rest = String::from_utf8_lossy(&head).into_owned();
    while let Some(start) = rest.find("<meta") {
        rest = rest.split_off(start + 5);
        let tag = rest.split('>').next().unwrap_or_default();
        if let Some((_, value)) = tag.split_once("charset")
            && let Some(value) = value.trim_start().strip_prefix('=')
        {
            let value = value.trim_start().trim_start_matches(['"', '\'']);
            let label = value.split(['"', '\'', ';', ' ', '/']).next().unwrap_or_default();
            let encoding = Encoding::for_label(label.trim().as_bytes())?;
            // A page that could be read this far is not UTF-16, whatever it says.
            return Some(encoding.output_encoding());
        }
    }
    None
}

/// Whether the bytes are UTF-8, but for a character that the end cuts.
fn is_utf8_so_far(body: &[u8]) -> bool {
    match std::str::from_utf8(body) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn the_header_decides_then_the_page_then_the_bytes() {
        let latin = b"<p>caf\xe9</p>";
        let utf8 = "<p>café</p>".as_bytes();
        assert_eq!(decode(utf8, "text/html; charset=utf-8", true), "<p>café</p>");
        assert_eq!(decode(latin, "text/html;charset=\"ISO-8859-1\"", true), "<p>café</p>");
        assert_eq!(decode(latin, "text/html", true), "<p>café</p>");
        assert_eq!(decode(utf8, "text/html", true), "<p>café</p>");
        let cut = &utf8[..7];
        assert_eq!(decode(cut, "text/html", true), "<p>caf\u{fffd}");
        let declared = b"<html><meta name=a><META charset='koi8-r'><p>\xf0\xf2\xe9";
        assert!(decode(declared, "text/html", true).ends_with("ПРИ"));
        let old = b"<meta http-equiv=Content-Type content=\"text/html; charset=shift_jis\">\x93\xfa\x96\x7b";
        assert!(decode(old, "text/html", true).ends_with("日本"));
        assert!(!decode(old, "text/plain", false).ends_with("日本"));
        assert_eq!(decode(b"\xef\xbb\xbfabc", "text/plain; charset=latin1", false), "abc");
        assert_eq!(decode(b"abc", "text/plain; charset=nonsense", false), "abc");
        assert_eq!(decode(b"<meta charset=utf-16>abc", "text/html", true), "<meta charset=utf-16>abc");
    }
}
