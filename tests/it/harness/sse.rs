//! A strict parser of server-sent events, for what the gateway sends.
//!
//! Source: WHATWG HTML, 9.2. Stricter than it: lines end with LF alone, and what SDKs of chat APIs cannot read is an
//! error instead of being ignored.

/// One thing in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// An event: its name, if it has one, and its data.
    Event { name: Option<String>, data: String },
    /// A comment.
    Comment(String),
}

/// Which lines a stream may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `data:` and comments: the streams of the OpenAI-compatible API.
    DataOnly,
    /// `event:` too: the simple chat API.
    Named,
}

/// Collects bytes into items.
pub(crate) struct Parser {
    dialect: Dialect,
    buffer: Vec<u8>,
}

impl Parser {
    /// A parser at the start of a stream.
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self { dialect, buffer: Vec::new() }
    }

    /// Takes what has arrived and returns the items that are complete now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Item> {
        self.buffer.extend_from_slice(bytes);
        let mut items = Vec::new();
        while let Some(end) = self.buffer.windows(2).position(|w| w == b"\n\n") {
            let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let block = std::str::from_utf8(&block[..end]).expect("a block of the stream is not UTF-8");
            items.extend(self.block(block));
        }
        items
    }

    /// Fails when the stream ended within a block.
    pub(crate) fn end(&self) {
        assert!(
            self.buffer.is_empty(),
            "the stream ended within {:?}",
            String::from_utf8_lossy(&self.buffer)
        );
    }

    fn block(&self, block: &str) -> Vec<Item> {
        let mut items = Vec::new();
        let (mut name, mut data) = (None, None);
        for line in block.split('\n') {
            assert!(!line.contains('\r'), "a line ends with CR: {block:?}");
            if let Some(comment) = line.strip_prefix(':') {
                items.push(Item::Comment(comment.trim_start().to_owned()));
            } else if let Some(text) = line.strip_prefix("data: ") {
                assert!(data.replace(text.to_owned()).is_none(), "data on two lines: {block:?}");
            } else if let Some(text) = line.strip_prefix("event: ") {
                assert_eq!(self.dialect, Dialect::Named, "a chat stream has an event name: {block:?}");
                name = Some(text.to_owned());
            } else {
                panic!("a line that clients cannot read: {line:?}");
            }
        }
        items.extend(data.map(|data| Item::Event { name, data }));
        items
    }
}

#[test]
fn reads_events_and_comments_cut_anywhere() {
    let text = ": hello\n\ndata: {\"a\":\"é\"}\n\nevent: x\ndata: y\n\n".as_bytes();
    for cut in 0..text.len() {
        let mut parser = Parser::new(Dialect::Named);
        let mut items = parser.push(&text[..cut]);
        items.extend(parser.push(&text[cut..]));
        parser.end();
        let data = |name: Option<&str>, data: &str| Item::Event {
            name: name.map(str::to_owned),
            data: data.to_owned(),
        };
        let wanted = [Item::Comment("hello".to_owned()), data(None, "{\"a\":\"é\"}"), data(Some("x"), "y")];
        assert_eq!(items, wanted, "cut at {cut}");
    }
}

#[test]
#[should_panic(expected = "event name")]
fn refuses_names_on_chat_streams() {
    Parser::new(Dialect::DataOnly).push(b"event: x\ndata: y\n\n");
}

#[test]
#[should_panic(expected = "cannot read")]
fn refuses_ids() {
    Parser::new(Dialect::Named).push(b"id: 1\ndata: y\n\n");
}
