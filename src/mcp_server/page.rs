//! Lists in pages. A cursor holds the name of the last item before it, so that changes in between neither repeat nor skip
//! what stays.

use std::ops::Range;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rmcp::ErrorData;

/// Items of a page. Many clients read the first page only, so it is a large one.
const PAGE: usize = 1000;

/// Which items a page has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) range: Range<usize>,
    /// The cursor of the next page, where there is one.
    pub(super) next: Option<String>,
}

/// The page that begins at `cursor` of the items with these `names`, which are unique.
pub(super) fn of<'a>(
    mut names: impl ExactSizeIterator<Item = &'a str> + Clone,
    cursor: Option<&str>,
) -> Result<Page, ErrorData> {
    let total = names.len();
    let start = match cursor {
        None => 0,
        Some(cursor) => {
            let last = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok();
            let at = last.and_then(|last| names.clone().position(|name| name.as_bytes() == last));
            1 + at.ok_or_else(|| {
                ErrorData::invalid_params(
                    "the cursor is not valid (any more); list from the start again",
                    None,
                )
            })?
        }
    };
    let end = total.min(start + PAGE);
    let last = (end < total).then(|| names.nth(end - 1)).flatten();
    Ok(Page { range: start..end, next: last.map(|last| BASE64_URL_SAFE_NO_PAD.encode(last)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let names: Vec<String> = (0..2500).map(|n| format!("tool_{n}")).collect();
        let names = || names.iter().map(String::as_str);
        let first = of(names(), None).unwrap();
        assert_eq!(first.range, 0..1000);
        let second = of(names(), first.next.as_deref()).unwrap();
        assert_eq!(second.range, 1000..2000);
        let third = of(names(), second.next.as_deref()).unwrap();
        assert_eq!(third, Page { range: 2000..2500, next: None });
        // What the cursor names is gone, or was never there.
        assert!(of(names().skip(1000), first.next.as_deref()).is_err());
        assert!(of(names(), Some("!")).is_err());
        assert_eq!(of(std::iter::empty(), None).unwrap(), Page { range: 0..0, next: None });
    }
}
