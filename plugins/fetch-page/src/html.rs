//! HTML to readable text or Markdown: title, headings, paragraphs, lists, links, tables, code. Scripts, styles and
//! navigation are left out; where a page marks its main part, only that is told.
//!
//! The tokenizer follows the HTML standard. No tree is built: tags that are not closed do no harm.

use html5gum::emitters::default::DefaultEmitter;
use html5gum::{StartTag as SpannedStartTag, Token, Tokenizer};
use url::Url;

use crate::writer::Writer;

/// What the text of a page is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Words only.
    #[default]
    Text,
    /// With headings, links and emphasis.
    Markdown,
    /// As it came.
    Html,
}

/// What can be read on a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// Its title.
    pub(crate) title: Option<String>,
    /// Its text.
    pub(crate) text: String,
}

/// A main part shorter than this share of the page is no main part.
const MAIN_SHARE: usize = 10;

/// Reads a page. Links are resolved against `address`.
pub(crate) fn read(html: &str, address: &Url, format: Format) -> Page {
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    let mut reader = Reader::new(address, format == Format::Markdown);
    for token in Tokenizer::new_with_emitter(html, emitter) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => reader.start(&tag),
            Token::EndTag(tag) => reader.end(&String::from_utf8_lossy(&tag.name)),
            Token::String(text) => reader.text(&String::from_utf8_lossy(&text)),
            _ => {}
        }
        if reader.writer.is_full() {
            break;
        }
    }
    reader.finish()
}

/// Elements whose content is not for reading.
const SKIPPED: [&str; 15] = [
    "script", "style", "noscript", "template", "svg", "math", "iframe", "object", "canvas", "select",
    "button", "nav", "audio", "video", "dialog",
];

/// Elements that stand for themselves, with an empty line around them or not.
fn block(name: &str) -> Option<usize> {
    match name {
        "p" | "blockquote" | "pre" | "table" | "ul" | "ol" | "dl" | "figure" | "h1" | "h2" | "h3" | "h4"
        | "h5" | "h6" | "section" | "article" | "main" => Some(2),
        "div" | "header" | "footer" | "aside" | "form" | "fieldset" | "address" | "tr" | "dt" | "dd"
        | "caption" | "figcaption" | "details" | "summary" | "body" | "hgroup" | "legend" | "center" => {
            Some(1)
        }
        _ => None,
    }
}

type StartTag = SpannedStartTag<()>;

struct Reader {
    writer: Writer,
    markdown: bool,
    base: Url,
    title: Option<String>,
    in_title: bool,
    /// The skipped element it is in, and how deep in elements of that name.
    skipping: Option<(String, usize)>,
    /// Lists it is in: the number of the next item, none for bullets.
    lists: Vec<Option<u32>>,
    /// Where the main part begins and ends in the text.
    main: (Option<usize>, Option<usize>),
    cells: usize,
}

impl Reader {
    fn new(address: &Url, markdown: bool) -> Self {
        Self {
            writer: Writer::new(markdown),
            markdown,
            base: address.clone(),
            title: None,
            in_title: false,
            skipping: None,
            lists: Vec::new(),
            main: (None, None),
            cells: 0,
        }
    }

    fn start(&mut self, tag: &StartTag) {
        let name = String::from_utf8_lossy(&tag.name).into_owned();
        if let Some((skipped, depth)) = &mut self.skipping {
            *depth += usize::from(*skipped == name && !tag.self_closing);
            return;
        }
        if SKIPPED.contains(&name.as_str()) || attribute(tag, "hidden").is_some() && block(&name).is_some() {
            if !tag.self_closing {
                self.skipping = Some((name, 1));
            }
            return;
        }
        if let Some(lines) = block(&name) {
            self.writer.block(if self.lists.is_empty() { lines } else { 1 });
        }
        let mark = |plain: &'static str| if self.markdown { plain } else { "" };
        match name.as_str() {
            "title" if self.title.is_none() => {
                self.title = Some(String::new());
                self.in_title = true;
            }
            "base" => {
                if let Some(base) = attribute(tag, "href").and_then(|href| self.base.join(&href).ok()) {
                    self.base = base;
                }
            }
            "main" if self.main.0.is_none() => self.main.0 = Some(self.writer.mark()),
            "br" => self.writer.line_break(),
            "hr" => {
                self.writer.block(2);
                self.writer.raw(mark("---"));
                self.writer.block(2);
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                let level = usize::from(name.as_bytes()[1] - b'0');
                self.writer.prefix(mark(&"######"[..level]));
            }
            "blockquote" => self.writer.quote(true),
            "pre" => self.writer.preformatted(true),
            "ul" => self.lists.push(None),
            "ol" => {
                let first = attribute(tag, "start").and_then(|start| start.parse().ok());
                self.lists.push(Some(first.unwrap_or(1)));
            }
            "li" => self.item(),
            "tr" => self.cells = 0,
            "td" | "th" => {
                if self.cells > 0 {
                    self.writer.raw(" | ");
                }
                self.cells += 1;
            }
            "a" => self.link(tag),
            "strong" | "b" => self.writer.open(&name, mark("**"), mark("**").to_owned()),
            "em" | "i" => self.writer.open(&name, mark("*"), mark("*").to_owned()),
            "code" => self.writer.open(&name, mark("`"), mark("`").to_owned()),
            "img" if self.markdown => self.image(tag),
            _ => {}
        }
    }

    fn end(&mut self, name: &str) {
        if let Some((skipped, depth)) = &mut self.skipping {
            *depth -= usize::from(skipped == name);
            if *depth == 0 {
                self.skipping = None;
            }
            return;
        }
        match name {
            "title" => self.in_title = false,
            "main" if self.main.0.is_some() && self.main.1.is_none() => {
                self.main.1 = Some(self.writer.mark());
            }
            "blockquote" => self.writer.quote(false),
            "pre" => self.writer.preformatted(false),
            "ul" | "ol" => {
                self.lists.pop();
            }
            "a" | "strong" | "b" | "em" | "i" | "code" => self.writer.close(name),
            "p" if self.lists.is_empty() => self.writer.block(2),
            _ => {}
        }
        if let Some(lines) = block(name) {
            self.writer.block(if self.lists.is_empty() { lines } else { 1 });
        }
    }

    fn text(&mut self, text: &str) {
        if self.in_title {
            self.title.get_or_insert_default().push_str(text);
        } else if self.skipping.is_none() {
            self.writer.text(text);
        }
    }

    fn item(&mut self) {
        self.writer.block(1);
        let depth = self.lists.len().saturating_sub(1).min(10);
        let marker = match self.lists.last_mut() {
            Some(Some(number)) => {
                let marker = format!("{number}.");
                *number = number.saturating_add(1);
                marker
            }
            _ => "-".to_owned(),
        };
        self.writer.prefix(&format!("{}{marker}", "  ".repeat(depth)));
    }

    fn link(&mut self, tag: &StartTag) {
        let target =
            attribute(tag, "href").filter(|href| self.markdown && !href.trim_start().starts_with('#'));
        let target = target.and_then(|href| self.base.join(href.trim()).ok());
        let target = target.filter(|target| matches!(target.scheme(), "http" | "https" | "mailto"));
        // A link in a link does not exist; the first ends where the next begins.
        self.writer.close("a");
        match target {
            Some(target) => self.writer.open("a", "[", format!("]({target})")),
            None => self.writer.open("a", "", String::new()),
        }
    }

    fn image(&mut self, tag: &StartTag) {
        let alt = attribute(tag, "alt").filter(|alt| !alt.trim().is_empty());
        let source = attribute(tag, "src").and_then(|source| self.base.join(source.trim()).ok());
        if let (Some(alt), Some(source)) = (alt, source)
            && matches!(source.scheme(), "http" | "https")
        {
            self.writer.text("");
            let alt = alt.split_whitespace().collect::<Vec<_>>().join(" ");
            self.writer.word(&format!("![{alt}]({source})"));
        }
    }

    fn finish(self) -> Page {
        let title = self.title.map(|title| title.split_whitespace().collect::<Vec<_>>().join(" "));
        let title = title.filter(|title| !title.is_empty());
        let whole = self.writer.finish();
        let main = self
            .main
            .0
            .and_then(|start| whole.get(start..self.main.1.unwrap_or(whole.len()).min(whole.len())));
        let main = main
            .filter(|main| main.trim().len() * MAIN_SHARE >= whole.trim().len() && !main.trim().is_empty());
        Page { title, text: main.unwrap_or(&whole).trim().to_owned() }
    }
}

fn attribute(tag: &StartTag, name: &str) -> Option<String> {
    tag.attributes.get(name.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned())
}
