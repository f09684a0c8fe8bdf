//! The parts of a URL that a request needs. What they may hold is the gateway's business.

use super::HttpError;

/// An absolute URL, in parts.
#[derive(Debug, PartialEq)]
pub(super) struct Url<'a> {
    pub(super) secure: bool,
    pub(super) authority: &'a str,
    pub(super) path_with_query: String,
}

impl<'a> Url<'a> {
    pub(super) fn parse(url: &'a str) -> Result<Self, HttpError> {
        let wrong = |why: &str| Err(HttpError::Url(format!("{why}: `{url}`")));
        if url.chars().any(|character| character.is_whitespace() || character.is_control()) {
            return wrong("it has a space or a control character in it");
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return wrong("it does not begin with https://");
        };
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return wrong("only http and https can be fetched"),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.is_empty() {
            return wrong("it names no host");
        }
        if authority.contains('@') {
            return wrong("it has a user name in it; send an authorization header");
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { secure, authority, path_with_query: format!("{slash}{path}") })
    }
}

#[cfg(test)]
mod tests {
    use super::Url;

    #[test]
    fn a_url_is_split_into_what_a_request_needs() {
        let parse =
            |url: &'static str| Url::parse(url).map(|url| (url.secure, url.authority, url.path_with_query));
        assert_eq!(parse("https://example.com"), Ok((true, "example.com", "/".into())));
        assert_eq!(
            parse("HTTP://example.com:8080/a/b?c=d#e"),
            Ok((false, "example.com:8080", "/a/b?c=d".into()))
        );
        assert_eq!(parse("https://example.com?q=1"), Ok((true, "example.com", "/?q=1".into())));
        assert_eq!(parse("https://[::1]:80/x"), Ok((true, "[::1]:80", "/x".into())));
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_reason() {
        for (url, reason) in [
            ("example.com", "https://"),
            ("ftp://example.com/", "http and https"),
            ("https:///path", "no host"),
            ("https://user:secret@example.com/", "user name"),
            ("https://example.com/a b", "space"),
            ("https://example.com/\r\nx: y", "control"),
        ] {
            let error = Url::parse(url).expect_err(url).to_string();
            assert!(error.contains(reason), "{url}: {error}");
        }
    }
}
