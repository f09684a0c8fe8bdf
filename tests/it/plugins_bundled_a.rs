//! The bundled reply plugins in a running gateway: `pii-redactor`, `keyword-guard` and `react-tool-calls`, each as it is
//! in the binary, on whole replies and on streams that are cut anywhere.

use serde_json::{Value, json};

use crate::harness::script::{chunk, text_chunk};
use crate::harness::{Gateway, Reply, Upstream, ask, ask_stream};

/// Sizes of the pieces in which replies are streamed, in characters.
const SIZES: [usize; 4] = [1, 3, 7, 1000];

/// A gateway with one bundled plugin and the operator's file for it.
struct Plugged {
    upstream: Upstream,
    gateway: Gateway,
}

impl Plugged {
    async fn start(plugin: &str, file: &str) -> Self {
        let upstream = Upstream::start();
        let gateway = Gateway::builder().upstream(&upstream).sqlite().bundled(plugin, file).start().await;
        Self { upstream, gateway }
    }

    /// What a whole reply with these texts becomes: the choice.
    async fn whole(&self, replies: &[&str]) -> Value {
        self.upstream.replies(replies.iter().map(|text| Reply::text(text)));
        self.gateway.complete(&ask("go")).await["choices"][0].take()
    }

    /// What a stream with these texts in pieces becomes: text and finish reason.
    async fn streamed(&self, replies: &[&str], size: usize) -> (String, String) {
        self.upstream.replies(replies.iter().map(|text| in_pieces("content", text, size)));
        let reply = self.gateway.stream(&ask_stream("go")).await;
        (reply.text(), reply.finish())
    }
}

/// A stream of text under `key` in pieces of `size` characters.
fn in_pieces(key: &str, text: &str, size: usize) -> Reply {
    let mut events = pieces(key, text, size);
    events.push(chunk("m1", &json!({}), Some("stop")));
    Reply::events(&events)
}

fn pieces(key: &str, text: &str, size: usize) -> Vec<Value> {
    let characters: Vec<char> = text.chars().collect();
    let delta = |piece: &[char]| match key {
        "content" => text_chunk(&piece.iter().collect::<String>()),
        key => chunk("m1", &json!({ key: piece.iter().collect::<String>() }), None),
    };
    characters.chunks(size).map(delta).collect()
}

fn content(choice: &Value) -> &str {
    choice["message"]["content"].as_str().unwrap()
}

#[tokio::test]
async fn personal_data_is_redacted() {
    let plugged = Plugged::start("pii-redactor", "").await;
    let text = "Write to alice@example.com or call +49 (0)30 / 123 456. Card 4111 1111 1111 1111, \
                account DE89 3704 0044 0532 0130 00; version 1.2.3 of 2024-01-02 👍 is bob@example.org";
    let expected = "Write to [email] or call [phone]. Card [card], account [iban]; version 1.2.3 of 2024-01-02 👍 is [email]";
    assert_eq!(content(&plugged.whole(&[text]).await), expected);
    for size in SIZES {
        assert_eq!(plugged.streamed(&[text], size).await, (expected.into(), "stop".into()), "{size}");
    }
    assert!(!plugged.gateway.log().contains("alice@"), "the log must not tell what was redacted");
}

#[tokio::test]
async fn personal_data_in_reasoning_is_redacted() {
    let plugged = Plugged::start("pii-redactor", "").await;
    plugged.upstream.reply(
        Reply::text("Ask bob@example.org.").with(json!({"reasoning_content": "It is alice@example.com"})),
    );
    let reply = plugged.gateway.complete(&ask("go")).await;
    let message = &reply["choices"][0]["message"];
    assert_eq!(
        (&message["content"], &message["reasoning_content"]),
        (&json!("Ask [email]."), &json!("It is [email]"))
    );
    for size in SIZES {
        let mut events = pieces("reasoning_content", "It is alice@example.com", size);
        events.extend(pieces("content", "Ask bob@example.org.", size));
        events.push(chunk("m1", &json!({}), Some("stop")));
        plugged.upstream.reply(Reply::events(&events));
        let reply = plugged.gateway.stream(&ask_stream("go")).await;
        assert_eq!(reply.text_of(0, "reasoning_content"), "It is [email]", "{size}");
        assert_eq!(reply.text(), "Ask [email].", "{size}");
    }
}

#[tokio::test]
async fn redaction_follows_the_operators_file() {
    let file = "[config]\nkinds = [\"email\", \"card\"]\nreplacement = \"mask\"\nallow = [\"example.org\"]\n";
    let plugged = Plugged::start("pii-redactor", file).await;
    let text = "alice@example.com bob@example.org 4111 1111 1111 1111 +49 30 123456";
    let expected = "*****@*******.com bob@example.org **** **** **** 1111 +49 30 123456";
    assert_eq!(content(&plugged.whole(&[text]).await), expected);
    assert_eq!(plugged.streamed(&[text], 5).await.0, expected);
}

#[tokio::test]
async fn a_reply_with_a_guarded_phrase_is_blocked() {
    let file = "[config]\nphrases = [\"project falcon\", \"straße\"]\n";
    let plugged = Plugged::start("keyword-guard", file).await;
    let good = "Projects, falcons and streets are fine.";
    assert_eq!(content(&plugged.whole(&[good]).await), good);
    for bad in ["We call it Project\nFalcon, you know.", "Die STRASSE"] {
        let choice = plugged.whole(&[bad]).await;
        assert_eq!(choice["finish_reason"], "content_filter");
        assert!(choice["message"]["content"].as_str().is_none_or(str::is_empty), "{choice}");
    }
    for size in SIZES {
        assert_eq!(plugged.streamed(&[good], size).await, (good.into(), "stop".into()), "{size}");
        let (text, finish) = plugged.streamed(&["We call it Project\nFalcon, you know."], size).await;
        assert_eq!(finish, "content_filter", "{size}");
        assert!("We call it ".starts_with(&text), "{size}: {text:?}");
        assert!(size > 1 || text == "We call it ", "only what a phrase needs is held back: {text:?}");
    }
}

#[tokio::test]
async fn a_guarded_phrase_is_replaced() {
    let file = "[config]\nphrases = [\"falcon\"]\naction = \"replace\"\nreplacement = \"bird\"\n";
    let plugged = Plugged::start("keyword-guard", file).await;
    assert_eq!(content(&plugged.whole(&["A FALCON, falconry"]).await), "A bird, falconry");
    for size in SIZES {
        assert_eq!(plugged.streamed(&["A FALCON, falconry"], size).await.0, "A bird, falconry");
    }
}

#[tokio::test]
async fn the_model_is_asked_again_for_a_reply_without_the_phrase() {
    let file = "[config]\nphrases = [\"falcon\"]\naction = \"ask-again\"\ninstruction = \"No birds.\"\nmax_attempts = 2\n";
    let plugged = Plugged::start("keyword-guard", file).await;
    let (bad, good) = ("A falcon it is.", "A car it is.");
    let instructed = |plugged: &Plugged| {
        let messages = plugged.upstream.last().messages();
        assert!(messages.last().unwrap()["content"].as_str().unwrap().contains("No birds."), "{messages:?}");
    };
    assert_eq!(content(&plugged.whole(&[bad, good]).await), good);
    instructed(&plugged);
    assert_eq!(plugged.whole(&[bad, bad]).await["finish_reason"], "content_filter");
    for size in SIZES {
        assert_eq!(plugged.streamed(&[good], size).await, (good.into(), "stop".into()), "{size}");
        assert_eq!(plugged.streamed(&[bad, good], size).await, (good.into(), "stop".into()), "{size}");
        instructed(&plugged);
        let (text, finish) = plugged.streamed(&[bad, bad], size).await;
        assert!(finish == "content_filter" && "A ".starts_with(&text), "{size}: {finish} {text:?}");
    }
}

const REACT: &str = "Thought: I must compute.\nAction: read_query\nAction Input: {'query': 'SELECT 6 * 7 AS n'}\n\
                     Observation: 7\nThought: It is 7.\nFinal Answer: 7";
const REACT_ANSWER: &str = "Thought: I know it now.\nFinal Answer: It is 42.";

/// What the last two requests' tools have answered.
fn tool_results(plugged: &Plugged) -> Vec<String> {
    let messages = plugged.upstream.last().messages();
    let results = messages.iter().filter(|message| message["role"] == "tool");
    results.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn react_calls_are_run() {
    let plugged = Plugged::start("react-tool-calls", "").await;
    let choice = plugged.whole(&[REACT, REACT_ANSWER]).await;
    assert!(content(&choice).ends_with("It is 42.") && !content(&choice).contains(':'), "{choice}");
    assert_eq!(choice["finish_reason"], "stop");
    for size in SIZES {
        let (text, finish) = plugged.streamed(&[REACT, REACT_ANSWER], size).await;
        assert_eq!((text.as_str(), finish.as_str()), ("It is 42.", "stop"), "{size}");
        let results = tool_results(&plugged);
        assert!(results.len() == 1 && results[0].contains("42"), "{size}: {results:?}");
        let calls = &plugged.upstream.last().messages()[1]["tool_calls"];
        assert_eq!(calls[0]["function"]["name"], "read_query");
        assert!(!calls[0]["id"].as_str().unwrap().is_empty(), "{calls}");
        assert!(!plugged.upstream.last().messages()[1].to_string().contains("Observation"));
    }
}

#[tokio::test]
async fn hermes_calls_are_run() {
    let plugged = Plugged::start("react-tool-calls", "[config]\nformats = [\"hermes\"]\n").await;
    let two = "Let me see.\n<tool_call>\n{\"name\": \"read_query\", \"arguments\": {\"query\": \"SELECT 41 + 1 AS n\"}}\n\
               </tool_call>\n<tool_call>\n{\"name\": \"list_tables\", \"arguments\": {}}\n</tool_call>";
    let choice = plugged.whole(&[two, "It is 42."]).await;
    assert!(content(&choice).ends_with("It is 42.") && !content(&choice).contains("tool_call"), "{choice}");
    for size in SIZES {
        let (text, _) = plugged.streamed(&[two, "It is 42."], size).await;
        assert!(text.starts_with("Let me see.") && text.ends_with("It is 42."), "{size}: {text:?}");
        assert!(!text.contains("tool_call"), "{size}: {text:?}");
        let results = tool_results(&plugged);
        assert!(results.len() == 2 && results[0].contains("42"), "{size}: {results:?}");
    }
}

#[tokio::test]
async fn text_that_is_no_call_is_shown_as_it_is() {
    let plugged = Plugged::start("react-tool-calls", "").await;
    for text in ["Action: I will think.\n<b>x</b> a < b\n", "Use <tool_call> for it.", "Plan:\nAction: now"] {
        assert_eq!(content(&plugged.whole(&[text]).await), text);
        for size in SIZES {
            assert_eq!(plugged.streamed(&[text], size).await, (text.into(), "stop".into()), "{size}");
        }
    }
}
