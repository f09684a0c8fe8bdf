//! Writes running text: white space collapses, blocks are set apart, and marks around words vanish with the words.

/// Longest text that is written, in bytes. Long addresses in many links could make more of a page than it was.
const MAX_BYTES: usize = 8 << 20;
/// Deepest nesting of marks and quotes.
const MAX_DEPTH: usize = 32;

/// The text so far.
pub(crate) struct Writer {
    out: String,
    markdown: bool,
    /// Line breaks and a space that come before the next word, if one comes.
    lines: usize,
    space: bool,
    /// What stands at the beginning of the next line, such as `#`.
    prefix: String,
    /// Marks that are open around the next word.
    marks: Vec<Mark>,
    quotes: usize,
    /// The fewest quotes since the last word: how deep the empty lines before the next one are.
    between: usize,
    preformatted: usize,
}

struct Mark {
    name: String,
    open: &'static str,
    close: String,
    /// Whether a word was written in it.
    written: bool,
}

impl Writer {
    /// Nothing yet.
    pub(crate) fn new(markdown: bool) -> Self {
        Self {
            out: String::new(),
            markdown,
            lines: 0,
            space: false,
            prefix: String::new(),
            marks: Vec::new(),
            quotes: 0,
            between: 0,
            preformatted: 0,
        }
    }

    /// Whether nothing more goes in.
    pub(crate) fn is_full(&self) -> bool {
        self.out.len() >= MAX_BYTES
    }

    /// Where the next word will be, or just before.
    pub(crate) fn mark(&self) -> usize {
        self.out.len()
    }

    /// Running text: white space collapses.
    pub(crate) fn text(&mut self, text: &str) {
        if self.preformatted > 0 {
            return self.verbatim(text);
        }
        for (index, word) in text.split(|c: char| c.is_ascii_whitespace() || c == '\u{a0}').enumerate() {
            self.space |= index > 0;
            if !word.is_empty() {
                self.word(word);
            }
        }
    }

    /// A word as it is, with what stands before it.
    pub(crate) fn word(&mut self, word: &str) {
        self.before();
        self.out.push_str(word);
    }

    /// Signs that are no words: they are written only between words on one line.
    pub(crate) fn raw(&mut self, text: &str) {
        if text.trim() == "|" {
            self.space = false;
        }
        if !text.is_empty() {
            self.before();
            self.out.push_str(text);
        }
    }

    /// A block begins or ends: so many line breaks at least, unless in a link.
    pub(crate) fn block(&mut self, lines: usize) {
        if self.marks.iter().any(|mark| mark.name == "a" && mark.written) {
            self.space = true;
            return;
        }
        self.close_marks();
        self.lines = self.lines.max(lines);
    }

    /// One more line break.
    pub(crate) fn line_break(&mut self) {
        if self.preformatted > 0 {
            self.verbatim("\n");
        } else {
            self.lines = (self.lines + 1).min(2);
        }
    }

    /// Sets what the next line begins with.
    pub(crate) fn prefix(&mut self, prefix: &str) {
        self.prefix.clear();
        self.prefix.push_str(prefix);
    }

    /// A quotation begins or ends.
    pub(crate) fn quote(&mut self, begins: bool) {
        self.block(2);
        self.quotes = if begins { (self.quotes + 1).min(MAX_DEPTH) } else { self.quotes.saturating_sub(1) };
        self.between = self.between.min(self.quotes);
    }

    /// Text in which white space counts begins or ends.
    pub(crate) fn preformatted(&mut self, begins: bool) {
        if begins {
            if self.preformatted == 0 && self.markdown {
                self.word("```");
                self.out.push('\n');
            }
            self.preformatted += 1;
        } else if self.preformatted > 0 {
            self.preformatted -= 1;
            if self.preformatted == 0 && self.markdown {
                if !self.out.ends_with('\n') {
                    self.out.push('\n');
                }
                self.out.push_str("```");
            }
        }
    }

    /// A mark begins; it is written before the next word.
    pub(crate) fn open(&mut self, name: &str, open: &'static str, close: String) {
        let doubled =
            self.preformatted > 0 || self.marks.iter().any(|mark| mark.open == open && mark.name != "a");
        let (open, close) = if doubled { ("", String::new()) } else { (open, close) };
        if self.marks.len() < MAX_DEPTH {
            self.marks.push(Mark { name: name.to_owned(), open, close, written: false });
        }
    }

    /// A mark ends, and with it those that were opened in it.
    pub(crate) fn close(&mut self, name: &str) {
        if let Some(start) = self.marks.iter().rposition(|mark| mark.name == name) {
            for mark in self.marks.split_off(start).into_iter().rev().filter(|mark| mark.written) {
                self.out.push_str(&mark.close);
            }
        }
    }

    /// What was written.
    pub(crate) fn finish(mut self) -> String {
        self.close_marks();
        if self.preformatted > 0 {
            self.preformatted = 1;
            self.preformatted(false);
        }
        self.out
    }

    fn close_marks(&mut self) {
        for mark in self.marks.iter_mut().rev().filter(|mark| mark.written) {
            self.out.push_str(&mark.close);
            mark.written = false;
        }
        // A link goes on in the next block; emphasis that nobody closed does not.
        self.marks.retain(|mark| mark.name == "a");
    }

    fn verbatim(&mut self, text: &str) {
        if self.out.ends_with("```\n") {
            // The first line break after `<pre>` is not part of it.
            let text = text.strip_prefix('\n').unwrap_or(text);
            self.out.push_str(text);
            return;
        }
        if self.lines > 0 {
            self.before();
        }
        self.out.push_str(text);
    }

    /// Line breaks, quote signs, prefix, space and marks, in this order.
    fn before(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        let space = std::mem::take(&mut self.space);
        let first = self.out.is_empty();
        let quote = |depth| if self.markdown { "> ".repeat(depth) } else { String::new() };
        let (quote, between) = (quote(self.quotes), quote(self.between));
        self.between = self.quotes;
        if lines > 0 && !first {
            for line in 0..lines {
                self.out.push('\n');
                if line + 1 < lines {
                    self.out.push_str(between.trim_end());
                }
            }
        }
        if lines > 0 || first {
            self.out.push_str(&quote);
            if !self.prefix.is_empty() {
                self.out.push_str(&std::mem::take(&mut self.prefix));
                self.out.push(' ');
            }
        } else if space && !self.out.ends_with([' ', '\n']) {
            self.out.push(' ');
        }
        for mark in self.marks.iter_mut().filter(|mark| !mark.written) {
            self.out.push_str(mark.open);
            mark.written = true;
        }
    }
}
