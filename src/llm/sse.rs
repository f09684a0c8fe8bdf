//! A decoder of server-sent events: network buffers in, events out, bytes only.
//!
//! Source: the HTML standard, "Server-sent events", parsing an event stream. Buffers may be cut anywhere. The data of an
//! event whose `data:` line lies whole within one buffer is a slice of that buffer: nothing is copied. Text is never
//! decoded here, so a character cut in two cannot be damaged. `id` and `retry` are ignored: a chat stream is never resumed.

use bytes::{Buf, Bytes, BytesMut};

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The value of the `event` field, if there was one.
    pub kind: Option<Bytes>,
    /// The values of its `data` fields, joined by line feeds.
    pub data: Bytes,
}

impl Event {
    /// True for the event by which the OpenAI API ends a stream.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.data.trim_ascii() == b"[DONE]"
    }
}

/// An event that is larger than allowed. The decoder gives no more events after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is larger than {limit} bytes")]
pub struct EventTooLarge {
    /// The most bytes one event may have.
    pub limit: usize,
}

/// Turns a stream's buffers into its events.
#[derive(Debug)]
pub struct Decoder {
    /// What is left of the buffer pushed last.
    buffer: Bytes,
    /// The beginning of a line whose end has not come yet.
    partial: BytesMut,
    /// The event so far.
    kind: Option<Bytes>,
    data: Data,
    /// The last line ended with a carriage return, so a line feed right after it belongs to that end.
    skip_line_feed: bool,
    /// No line has been read yet: a byte order mark may come.
    at_start: bool,
    too_large: bool,
    max_event_bytes: usize,
}

/// The `data` fields of the event so far.
#[derive(Debug, Default)]
enum Data {
    #[default]
    None,
    One(Bytes),
    Joined(BytesMut),
}

impl Decoder {
    /// A decoder for one stream whose events have at most `max_event_bytes` of data.
    #[must_use]
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            buffer: Bytes::new(),
            partial: BytesMut::new(),
            kind: None,
            data: Data::None,
            skip_line_feed: false,
            at_start: true,
            too_large: false,
            max_event_bytes,
        }
    }

    /// Adds the next buffer. To be called when [`Self::next_event`] has nothing more to give.
    pub fn push(&mut self, buffer: Bytes) {
        if self.buffer.is_empty() {
            self.buffer = buffer;
        } else {
            let mut joined = BytesMut::from(self.buffer.as_ref());
            joined.extend_from_slice(&buffer);
            self.buffer = joined.freeze();
        }
    }

    /// The next event that is complete; `None` when another buffer is needed.
    ///
    /// # Errors
    /// [`EventTooLarge`], now and ever after.
    pub fn next_event(&mut self) -> Result<Option<Event>, EventTooLarge> {
        loop {
            if self.too_large {
                return Err(EventTooLarge { limit: self.max_event_bytes });
            }
            if self.skip_line_feed && !self.buffer.is_empty() {
                self.skip_line_feed = false;
                if self.buffer[0] == b'\n' {
                    self.buffer.advance(1);
                }
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', &self.buffer) else {
                self.partial.extend_from_slice(&self.buffer);
                self.buffer = Bytes::new();
                self.check(0)?;
                return Ok(None);
            };
            self.skip_line_feed = self.buffer[end] == b'\r';
            let event = if end == 0 && self.partial.is_empty() {
                self.dispatch()
            } else {
                let line = self.take_line(end);
                self.read_line(line)?
            };
            self.buffer.advance(1);
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// The event that the end of the stream has left without its blank line, if any. The standard drops it; servers that
    /// end with a bare `data: [DONE]` make it worth a look.
    pub fn finish(&mut self) -> Option<Event> {
        if self.too_large {
            return None;
        }
        if !self.partial.is_empty() || !self.buffer.is_empty() {
            let line = self.take_line(self.buffer.len());
            self.read_line(line).ok()?;
        }
        self.dispatch()
    }

    /// The line that ends before `buffer[end]`; what is left in the buffer begins with its end.
    fn take_line(&mut self, end: usize) -> Bytes {
        let rest = self.buffer.split_to(end);
        if self.partial.is_empty() {
            return rest;
        }
        self.partial.extend_from_slice(&rest);
        std::mem::take(&mut self.partial).freeze()
    }

    /// Takes in one line that is not blank, or is only after its byte order mark.
    fn read_line(&mut self, mut line: Bytes) -> Result<Option<Event>, EventTooLarge> {
        if std::mem::take(&mut self.at_start) && line.starts_with(b"\xEF\xBB\xBF") {
            line.advance(3);
            if line.is_empty() {
                return Ok(self.dispatch());
            }
        }
        if let Some(value) = field(&line, b"data") {
            self.check(value.len())?;
            self.data.add(line.split_off(line.len() - value.len()));
        } else if let Some(value) = field(&line, b"event") {
            self.kind = Some(line.slice_ref(value));
        }
        Ok(None)
    }

    fn dispatch(&mut self) -> Option<Event> {
        self.at_start = false;
        let kind = self.kind.take();
        let data = match std::mem::take(&mut self.data) {
            Data::None => return None,
            Data::One(data) => data,
            Data::Joined(data) => data.freeze(),
        };
        Some(Event { kind, data })
    }

    fn check(&mut self, added: usize) -> Result<(), EventTooLarge> {
        self.too_large = self.data.len() + self.partial.len() + added > self.max_event_bytes;
        if self.too_large { Err(EventTooLarge { limit: self.max_event_bytes }) } else { Ok(()) }
    }
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(data) => data.len(),
            Self::Joined(data) => data.len(),
        }
    }

    fn add(&mut self, value: Bytes) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(value),
            Self::One(first) => {
                let mut joined = BytesMut::with_capacity(first.len() + value.len() + 1);
                joined.extend_from_slice(&first);
                joined.extend_from_slice(b"\n");
                joined.extend_from_slice(&value);
                Self::Joined(joined)
            }
            Self::Joined(mut joined) => {
                joined.extend_from_slice(b"\n");
                joined.extend_from_slice(&value);
                Self::Joined(joined)
            }
        };
    }
}

/// The value of `line` if it is the field `name`: what follows the colon and at most one space.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(name)?;
    if rest.is_empty() {
        return Some(rest);
    }
    let value = rest.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(parts: &[&[u8]]) -> Vec<Event> {
        let mut decoder = Decoder::new(1 << 20);
        let mut events = Vec::new();
        for part in parts {
            decoder.push(Bytes::copy_from_slice(part));
            while let Some(event) = decoder.next_event().unwrap() {
                events.push(event);
            }
        }
        events
    }

    fn texts(events: &[Event]) -> Vec<&str> {
        events.iter().map(|event| std::str::from_utf8(&event.data).unwrap()).collect()
    }

    const STREAM: &str = "\u{feff}: hello\r\ndata: {\"a\":\"ü€😀\"}\r\n\r\nevent: error\ndata:two\ndata: lines\ndata\n\n\
        id: 7\nretry: 9\ndata:  indented\r\r:ping\n\nevent: nothing\n\ndatax: no\ndata: [DONE]\n\n";

    #[test]
    fn reads_every_form_of_line() {
        let events = decode(&[STREAM.as_bytes()]);
        assert_eq!(texts(&events), ["{\"a\":\"ü€😀\"}", "two\nlines\n", " indented", "[DONE]"]);
        assert_eq!(events[1].kind.as_deref(), Some(&b"error"[..]));
        assert_eq!(events[2].kind, None);
        assert!(events[3].is_done() && events[3].kind.is_none());
    }

    #[test]
    fn may_be_cut_at_every_byte() {
        let bytes = STREAM.as_bytes();
        let whole = decode(&[bytes]);
        for first in 0..bytes.len() {
            assert_eq!(decode(&[&bytes[..first], &bytes[first..]]), whole, "cut at {first}");
            for second in first..bytes.len() {
                let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(decode(&parts), whole, "cut at {first} and {second}");
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(&single), whole);
    }

    #[test]
    fn an_event_within_a_buffer_is_not_copied() {
        let buffer = Bytes::from_static(b"data: first\n\ndata: second\n\n");
        let mut decoder = Decoder::new(100);
        decoder.push(buffer.clone());
        let first = decoder.next_event().unwrap().unwrap().data;
        let second = decoder.next_event().unwrap().unwrap().data;
        assert_eq!(first.as_ptr(), buffer[6..].as_ptr());
        assert_eq!(second.as_ptr(), buffer[19..].as_ptr());
    }

    #[test]
    fn a_carriage_return_ends_the_event_at_once() {
        let mut decoder = Decoder::new(100);
        decoder.push(Bytes::from_static(b"data: x\r\n\r"));
        assert_eq!(decoder.next_event().unwrap().unwrap().data, "x");
        decoder.push(Bytes::from_static(b"\ndata: y\n\n"));
        assert_eq!(decoder.next_event().unwrap().unwrap().data, "y");
    }

    #[test]
    fn an_event_over_the_limit_is_an_error_however_it_comes() {
        let long = "x".repeat(60);
        for parts in [
            vec![format!("data: {long}{long}\n\n")],
            vec![format!("data: {long}"), long.clone()],
            vec![format!("data: {long}\n"), format!("data: {long}\n\n")],
            vec!["y".repeat(101)],
        ] {
            let mut decoder = Decoder::new(100);
            let mut failed = false;
            for part in parts {
                decoder.push(Bytes::from(part));
                failed |= decoder.next_event().is_err();
            }
            assert!(failed && decoder.next_event().is_err());
        }
    }

    #[test]
    fn finish_gives_what_has_no_blank_line() {
        for end in ["data: [DONE]", "data: [DONE]\n", "data: [DONE]\r"] {
            let mut decoder = Decoder::new(100);
            decoder.push(Bytes::from(end));
            assert_eq!(decoder.next_event(), Ok(None));
            assert!(decoder.finish().unwrap().is_done(), "{end:?}");
            assert_eq!(decoder.finish(), None);
        }
    }
}
