//! A tool that fetches a web page and gives its text: HTML as readable text or Markdown, other texts as they are.
//!
//! Which hosts may be fetched is the operator's `network` grant, checked by the gateway for every request and so for every
//! redirect. See `README.md`.

mod charset;
mod fetch;
mod html;
#[cfg(test)]
mod html_tests;
#[cfg(test)]
mod tests;
mod writer;

use serde::Deserialize;
use witgate_plugin::tools::{Entry, ToolAnnotations, ToolDefinition};
use witgate_plugin::{CallContext, Error, Tool, ToolError, ToolProvider, ToolResult};

use html::Format;

/// The plugin.
struct FetchPage;

witgate_plugin::export!(FetchPage: tools);

impl ToolProvider for FetchPage {
    const TOOLS: &[Entry] = AllTools::TOOLS;

    /// A mistake in the configuration keeps the plugin from being loaded.
    fn list() -> Result<Vec<ToolDefinition>, Error> {
        Config::load()?;
        AllTools::list()
    }
}

/// The tools, whatever the configuration.
struct AllTools;

impl ToolProvider for AllTools {
    const TOOLS: &[Entry] = &[Entry::of::<Fetch>()];
}

/// The `[config]` table.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Most that is read of a page, in bytes; the rest is left.
    max_bytes: usize,
    /// Most characters of a page's text that one call gives, where the call does not say.
    max_chars: usize,
    /// Longest time for one request, in seconds.
    timeout_seconds: u64,
    /// What servers see as the program that asks.
    user_agent: String,
}

impl Default for Config {
    fn default() -> Self {
        let user_agent = concat!("witgate-fetch-page/", env!("CARGO_PKG_VERSION")).to_owned();
        Self { max_bytes: 2 << 20, max_chars: 20_000, timeout_seconds: 15, user_agent }
    }
}

impl Config {
    fn load() -> Result<Self, Error> {
        let config: Self = witgate_plugin::config()?;
        let bounds = [
            ("max_bytes", config.max_bytes, 16 << 20),
            ("max_chars", config.max_chars, MAX_CHARS),
            ("timeout_seconds", usize::try_from(config.timeout_seconds).unwrap_or(usize::MAX), 300),
        ];
        for (key, value, limit) in bounds {
            if value == 0 || value > limit {
                let why = format!("`{key}` in the plugin's [config] table must be from 1 to {limit}");
                return Err(Error::Internal(why));
            }
        }
        if config.user_agent.is_empty() || !config.user_agent.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return Err(Error::Internal(
                "`user_agent` in the plugin's [config] table must be plain ASCII text".into(),
            ));
        }
        Ok(config)
    }
}

/// Most characters that one call may ask for, as in the schema.
const MAX_CHARS: usize = 500_000;

/// Arguments of `fetch_page`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fetch {
    url: String,
    #[serde(default)]
    format: Format,
    max_chars: Option<usize>,
    #[serde(default)]
    start: usize,
}

impl Tool for Fetch {
    const NAME: &str = "fetch_page";
    const TITLE: Option<&str> = Some("Fetch a web page");
    const DESCRIPTION: &str = "Fetches a web page and returns its readable text, without scripts, styles and navigation. \
        Long pages come in parts: read on with `start`. Only hosts that the operator allows can be fetched.";
    const INPUT_SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "url": { "type": "string", "maxLength": 4000, "description": "Address that begins with https:// or http://." },
    "format": {
      "type": "string",
      "enum": ["text", "markdown", "html"],
      "default": "text",
      "description": "text: words only. markdown: with headings and links. html: the page as it is."
    },
    "max_chars": {
      "type": "integer",
      "minimum": 1,
      "maximum": 500000,
      "description": "Most characters to return."
    },
    "start": {
      "type": "integer",
      "minimum": 0,
      "default": 0,
      "description": "Character of the text to begin with; a part that was cut tells where the next begins."
    }
  },
  "required": ["url"],
  "additionalProperties": false
}"#;
    const ANNOTATIONS: ToolAnnotations = ToolAnnotations::READS_WORLD;

    fn call(self, _ctx: &CallContext) -> Result<ToolResult, ToolError> {
        let config = Config::load()?;
        let limit = self.max_chars.unwrap_or(config.max_chars).clamp(1, MAX_CHARS);
        match fetch::fetch(&self.url, self.format, &config) {
            Ok(document) => Ok(ToolResult::text(document.part(self.start, limit))),
            Err(why) => Ok(ToolResult::error(why)),
        }
    }
}
