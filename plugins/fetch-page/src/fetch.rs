//! Getting a page: requests, redirects, and what kind of thing came back.

use std::time::Duration;

use url::Url;
use witgate_plugin::http::{self, HttpError, Response};

use crate::Config;
use crate::charset::decode;
use crate::html::{Format, Page, read};

/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// Most characters of an error page that the model is shown.
const ERROR_EXCERPT: usize = 500;

/// A page that was fetched.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Document {
    /// Where it was found, after redirects.
    address: String,
    content_type: String,
    page: Page,
    /// Whether the server had more than was read.
    was_cut: bool,
}

/// Fetches a page.
///
/// # Errors
/// In words for the model: what was wrong, and where an operator can help.
pub(crate) fn fetch(url: &str, format: Format, config: &Config) -> Result<Document, String> {
    let mut address = parse(url)?;
    for _ in 0..=MAX_REDIRECTS {
        let response = get(&address, config)?;
        let redirect = matches!(response.status, 301 | 302 | 303 | 307 | 308);
        match response.header("location").filter(|_| redirect) {
            None => return document(&address, &response, format),
            Some(location) => {
                let next = address.join(location).map_err(|error| {
                    format!("{address} redirects to `{location}`, which is no address: {error}")
                })?;
                address =
                    checked(next).map_err(|why| format!("{address} redirects to `{location}`: {why}"))?;
            }
        }
    }
    Err(format!("{url} redirects more than {MAX_REDIRECTS} times; the last address is {address}"))
}

fn parse(url: &str) -> Result<Url, String> {
    let address = Url::parse(url.trim()).map_err(|error| match error {
        url::ParseError::RelativeUrlWithoutBase => {
            format!("`{url}` is no full address; it must begin with https:// or http://")
        }
        url::ParseError::IdnaError => {
            format!("write the host of `{url}` in ASCII, as in xn--bcher-kva.example")
        }
        other => format!("`{url}` is no address: {other}"),
    })?;
    checked(address)
}

fn checked(mut address: Url) -> Result<Url, String> {
    if !matches!(address.scheme(), "http" | "https") {
        return Err(format!("only http and https can be fetched, not {}", address.scheme()));
    }
    if !address.username().is_empty() || address.password().is_some() {
        return Err("addresses with a user name or password are not fetched".into());
    }
    address.set_fragment(None);
    Ok(address)
}

fn get(address: &Url, config: &Config) -> Result<Response, String> {
    let request = http::get(address.as_str())
        .header("accept", "text/html,application/xhtml+xml,text/*;q=0.9,application/json;q=0.9,application/xml;q=0.9,*/*;q=0.1")
        .header("accept-encoding", "identity")
        .header("user-agent", config.user_agent.as_str())
        .timeout(Duration::from_secs(config.timeout_seconds))
        .cut_at(config.max_bytes);
    request.send().map_err(|error| match error {
        HttpError::Denied(why) => {
            let host = address.host_str().unwrap_or_default();
            let port = address.port_or_known_default().unwrap_or_default();
            format!(
                "{host} may not be fetched: {why}. The operator of the gateway can allow it with \"{host}:{port}\" in \
                 `network` of this plugin's file"
            )
        }
        HttpError::Timeout => {
            format!("{address} gave no complete answer within {} seconds", config.timeout_seconds)
        }
        other => format!("{address} could not be fetched: {other}"),
    })
}

fn document(address: &Url, response: &Response, format: Format) -> Result<Document, String> {
    let written = response.header("content-type").unwrap_or_default().to_ascii_lowercase();
    let encoding = response.header("content-encoding").unwrap_or("identity").trim().to_ascii_lowercase();
    if encoding != "identity" {
        return Err(format!("{address} was sent compressed ({encoding}) though that was not asked for"));
    }
    let media_type = written.split(';').next().unwrap_or_default().trim();
    let kind = Kind::of(media_type, &response.body);
    if !(200..300).contains(&response.status) {
        let page =
            kind.map(|kind| kind.read(address, &response.body, &written, Format::Text)).unwrap_or_default();
        let excerpt: String = page.text.chars().take(ERROR_EXCERPT).collect();
        let excerpt = if excerpt.is_empty() { excerpt } else { format!(":\n{excerpt}") };
        return Err(format!("{address} answered with status {}{excerpt}", response.status));
    }
    let Some(kind) = kind else {
        let what = if media_type.is_empty() { "binary data" } else { media_type };
        return Err(format!("{address} is {what}, which has no text to read"));
    };
    Ok(Document {
        address: address.to_string(),
        content_type: media_type.to_owned(),
        page: kind.read(address, &response.body, &written, format),
        was_cut: response.was_cut,
    })
}

/// How a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Html,
    Plain,
}

impl Kind {
    /// By media type, or where there is none by the look of it; none where it is no text.
    fn of(media_type: &str, body: &[u8]) -> Option<Self> {
        let binary = || body.iter().take(1_024).any(|byte| *byte == 0);
        match media_type {
            "text/html" | "application/xhtml+xml" => Some(Self::Html),
            "application/json"
            | "application/xml"
            | "application/javascript"
            | "application/yaml"
            | "application/x-ndjson"
            | "application/toml" => Some(Self::Plain),
            "" | "application/octet-stream" if binary() => None,
            "" => Some(if body.trim_ascii_start().starts_with(b"<") { Self::Html } else { Self::Plain }),
            other if other.starts_with("text/") => Some(Self::Plain),
            other if other.ends_with("+json") || other.ends_with("+xml") => Some(Self::Plain),
            _ => None,
        }
    }

    fn read(self, address: &Url, body: &[u8], content_type: &str, format: Format) -> Page {
        let text = decode(body, content_type, self == Self::Html);
        match self {
            Self::Html if format != Format::Html => read(&text, address, format),
            _ => Page { title: None, text },
        }
    }
}

impl Document {
    /// A part of the text for the model, with where it is from, and what is missing of it.
    pub(crate) fn part(&self, start: usize, limit: usize) -> String {
        let text = &self.page.text;
        let total = text.chars().count();
        let mut told = String::new();
        if let Some(title) = &self.page.title {
            told.push_str(&format!("Title: {title}\n"));
        }
        told.push_str(&format!("Address: {}\n\n", self.address));
        if total == 0 {
            told.push_str(&format!("[the page has no text to read; its type is {}]", self.content_type));
            return told;
        }
        if start >= total {
            told.push_str(&format!(
                "[there is nothing at character {start}: the text has {total} characters]"
            ));
            return told;
        }
        told.extend(text.chars().skip(start).take(limit));
        let end = start.saturating_add(limit).min(total);
        if end < total {
            told.push_str(&format!(
                "\n\n[characters {start} to {end} of {total}; read on with start = {end}]"
            ));
        } else if self.was_cut {
            told.push_str("\n\n[the page is longer than the gateway reads of a page; the rest is left out]");
        }
        told
    }
}
