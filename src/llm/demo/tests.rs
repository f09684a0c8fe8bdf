//! Conversations with the demo model.

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::dialogue::{Reply, answer};
use super::*;
use crate::domain::RawMessage;

fn tool(name: &str, description: &str, properties: &Value, required: &[&str]) -> Bytes {
    let parameters = json!({"type": "object", "properties": properties, "required": required});
    let function = json!({"name": name, "description": description, "parameters": parameters});
    Bytes::from(json!({"type": "function", "function": function}).to_string())
}

fn tools() -> Vec<Bytes> {
    let text = json!({"type": "string"});
    vec![
        tool(
            "read_query",
            "Execute a SELECT query on the SQLite database",
            &json!({"query": text}),
            &["query"],
        ),
        tool("write_query", "Execute an INSERT, UPDATE or DELETE query", &json!({"query": text}), &["query"]),
        tool(
            "create_table",
            "Create a new table in the SQLite database",
            &json!({"query": text}),
            &["query"],
        ),
        tool("list_tables", "List all tables in the SQLite database", &json!({}), &[]),
        tool("describe_table", "Get the schema of a table", &json!({"table_name": text}), &["table_name"]),
        tool("append_insight", "Add a business insight to the memo", &json!({"insight": text}), &["insight"]),
        tool("get_current_time", "Get current time in a timezone", &json!({"timezone": text}), &["timezone"]),
        tool("echo", "Echoes back the input", &json!({"message": text}), &["message"]),
        tool(
            "get-sum",
            "Returns the sum of two numbers",
            &json!({"a": {"type": "number"}, "b": {"type": "number"}}),
            &["a", "b"],
        ),
        tool("read_file", "Read a file", &json!({"path": text}), &["path"]),
    ]
}

fn with_tools(messages: Vec<RawMessage>) -> CompletionRequest {
    CompletionRequest { tools: tools(), ..CompletionRequest::of_messages("demo", messages) }
}

fn to(text: &str) -> Reply {
    answer(&with_tools(vec![RawMessage::user(text)]))
}

#[test]
fn words_lead_to_calls() {
    let cases = [
        ("Which tables are there?", "list_tables", json!({})),
        ("list the tables please", "list_tables", json!({})),
        ("What tables do I have in the database?", "list_tables", json!({})),
        ("describe the table users", "describe_table", json!({"table_name": "users"})),
        ("Describe the users table.", "describe_table", json!({"table_name": "users"})),
        (
            "what columns does the table `order items` have?",
            "describe_table",
            json!({"table_name": "order items"}),
        ),
        (
            "SELECT * FROM users WHERE name = 'A'",
            "read_query",
            json!({"query": "SELECT * FROM users WHERE name = 'A'"}),
        ),
        (
            "Please run: select count(*)\nfrom users",
            "read_query",
            json!({"query": "select count(*)\nfrom users"}),
        ),
        ("select 1", "read_query", json!({"query": "select 1"})),
        ("insert into t values (1)", "write_query", json!({"query": "insert into t values (1)"})),
        ("UPDATE t SET a = 1", "write_query", json!({"query": "UPDATE t SET a = 1"})),
        ("CREATE TABLE t (a int)", "create_table", json!({"query": "CREATE TABLE t (a int)"})),
        ("Add the insight: sales are up", "append_insight", json!({"insight": "sales are up"})),
        ("What time is it in Europe/Berlin?", "get_current_time", json!({"timezone": "Europe/Berlin"})),
        ("what is the current time", "get_current_time", json!({"timezone": "UTC"})),
        ("echo hello world", "echo", json!({"message": "hello world"})),
        ("what is the sum of 2 and 3.5?", "get-sum", json!({"a": 2, "b": 3.5})),
        ("get-sum a=4, b=5", "get-sum", json!({"a": 4, "b": 5})),
        ("read the file notes/today.txt", "read_file", json!({"path": "notes/today.txt"})),
        ("use describe_table with {\"table_name\": \"x\"}", "describe_table", json!({"table_name": "x"})),
    ];
    for (text, name, arguments) in cases {
        let reply = to(text);
        assert_eq!(reply.calls.len(), 1, "{text}: {}", reply.text);
        let call = &reply.calls[0];
        let got: Value = serde_json::from_str(&call.arguments).unwrap();
        assert_eq!((call.name.as_str(), got), (name, arguments), "{text}");
    }
}

#[test]
fn other_words_do_not() {
    for text in [
        "Hello, please introduce yourself.",
        "Hello, how is the weather today?",
        "Tell a story about artificial intelligence",
        "please select a nice colour for me",
        "thanks!",
        "/help",
        "",
    ] {
        let reply = to(text);
        assert!(reply.calls.is_empty() && !reply.text.is_empty(), "{text}: {reply:?}");
    }
}

#[test]
fn it_says_what_it_is() {
    for text in ["hello", "who are you?", "/help", "why is the sky blue?"] {
        let reply = to(text).text;
        assert!(reply.contains("a small program without a language model"), "{text}: {reply}");
        assert!(reply.contains("OPENAI_API_KEY"), "{text}: {reply}");
    }
    assert!(to("/help").text.contains("- `list_tables`: List all tables in the SQLite database"));
    assert!(to("help").text.contains("/tool NAME"));
}

#[test]
fn commands_call_exactly_what_they_say() {
    let reply = to("/tool echo {\"message\": \"a\"}\n/tool list_tables\n/tool echo {broken");
    let calls: Vec<_> = reply.calls.iter().map(|c| (c.name.as_str(), c.arguments.as_str())).collect();
    assert_eq!(calls, [("echo", "{\"message\": \"a\"}"), ("list_tables", "{}"), ("echo", "{broken")]);
    assert!(to("/tool nope {}").text.starts_with("There is no tool `nope` here."));
    assert!(to("/tool").text.starts_with("Say which tool"));
}

#[test]
fn a_missing_argument_is_asked_for() {
    let reply = to("describe the table");
    assert!(reply.calls.is_empty());
    assert!(reply.text.contains("/tool describe_table {\"table_name\": ...}"), "{}", reply.text);
}

#[test]
fn the_tool_choice_is_honoured() {
    let with = |choice: &'static str, text: &str| {
        answer(&CompletionRequest {
            tool_choice: Some(Bytes::from(choice)),
            ..with_tools(vec![RawMessage::user(text)])
        })
    };
    assert!(with("\"none\"", "which tables are there?").calls.is_empty());
    assert_eq!(with("\"required\"", "hello").calls.len(), 1);
    let named = with(r#"{"type":"function","function":{"name":"echo"}}"#, "which tables are there?");
    assert_eq!(named.calls[0].name, "echo");
}

#[test]
fn results_are_told() {
    let calls = ["a", "b"].map(|id| crate::domain::ToolCall {
        id: id.into(),
        name: format!("tool_{id}"),
        arguments: "{}".into(),
    });
    let messages = vec![
        RawMessage::user("which tables are there?"),
        RawMessage::assistant_with_calls(None, &calls),
        RawMessage::tool("a", "[{\"name\": \"users\"}]"),
        RawMessage::tool("b", "one\ntwo"),
    ];
    let reply = answer(&with_tools(messages));
    assert!(reply.calls.is_empty());
    let told =
        "The tool `tool_a` answered: [{\"name\": \"users\"}]\n\nThe tool `tool_b` answered:\n\none\ntwo";
    assert_eq!(reply.text, told);
}

#[test]
fn it_remembers_the_conversation() {
    let messages = vec![
        RawMessage::user("my cat is Tom"),
        RawMessage::assistant("ok"),
        RawMessage::user("What did I say?"),
    ];
    assert_eq!(answer(&with_tools(messages)).text, "Before this you said: “my cat is Tom”");
}

async fn streamed(request: &CompletionRequest) -> Vec<Chunk> {
    let model = DemoModel { word_delay: Duration::ZERO };
    let stream = model.stream(request, &RequestId::generate()).await.unwrap();
    stream.map(Result::unwrap).collect().await
}

#[tokio::test]
async fn a_stream_says_what_the_whole_reply_says() {
    let mut request = with_tools(vec![RawMessage::user("hello")]);
    let whole =
        DemoModel { word_delay: Duration::ZERO }.complete(&request, &RequestId::generate()).await.unwrap();
    request.stream = true;
    request.stream_options = Some(Bytes::from_static(br#"{"include_usage":true}"#));
    let chunks = streamed(&request).await;
    let deltas: Vec<_> = chunks.iter().flat_map(|chunk| &chunk.choices).collect();
    let text: String = deltas.iter().filter_map(|delta| delta.content.as_deref()).collect();
    assert_eq!(Some(text), whole.choices[0].content);
    assert_eq!(deltas.iter().filter(|delta| delta.has_role).count(), 1);
    assert_eq!(deltas.last().unwrap().finish_reason, Some(FinishReason::Stop));
    let last = chunks.last().unwrap();
    assert!(last.choices.is_empty() && last.usage == whole.usage);
    assert!(chunks.iter().all(has_usage_key));
}

#[tokio::test]
async fn streamed_calls_come_in_fragments() {
    let mut request = with_tools(vec![RawMessage::user("echo hellö wörld, how are you")]);
    request.stream = true;
    let chunks = streamed(&request).await;
    let parts: Vec<_> = chunks.iter().flat_map(|c| &c.choices).flat_map(|c| &c.tool_calls).collect();
    assert!(parts.len() > 3 && parts[0].id.is_some() && parts[0].function.arguments.as_deref() == Some(""));
    let arguments: String = parts.iter().filter_map(|part| part.function.arguments.as_deref()).collect();
    assert_eq!(arguments, r#"{"message":"hellö wörld, how are you"}"#);
    let reason = chunks.last().unwrap().choices[0].finish_reason.clone();
    assert_eq!(reason, Some(FinishReason::ToolCalls));
    assert!(chunks.iter().all(|chunk| !has_usage_key(chunk)));
}

#[tokio::test]
async fn a_token_limit_cuts_the_reply() {
    let mut request = with_tools(vec![RawMessage::user("hello")]);
    request.rest = vec![(Bytes::from_static(b"\"max_tokens\""), Bytes::from_static(b"3"))];
    let reply =
        DemoModel { word_delay: Duration::ZERO }.complete(&request, &RequestId::generate()).await.unwrap();
    assert_eq!(reply.choices[0].content.as_deref(), Some("Hello! I am"));
    assert_eq!(reply.choices[0].finish_reason, Some(FinishReason::Length));
    assert_eq!(reply.usage.unwrap().count("completion_tokens"), 3);
}

fn has_usage_key(chunk: &Chunk) -> bool {
    serde_json::from_slice::<Value>(&chunk.raw).unwrap().get("usage").is_some()
}
