//! The tool loop over a real MCP server (the bundled `sqlite-server`): whole and streamed, good and bad calls.

use serde_json::{Value, json};

use crate::harness::script::chunk;
use crate::harness::{Control, Gateway, Reply, Upstream, ask, ask_stream, call};

const SQLITE_TOOLS: [&str; 6] =
    ["append_insight", "create_table", "describe_table", "list_tables", "read_query", "write_query"];

fn query(id: &str, tool: &str, sql: &str) -> crate::harness::script::Call {
    call(id, tool, &json!({ "query": sql }))
}

/// The reply that creates a table, and the one that says so.
fn create_and_tell() -> [Reply; 2] {
    [
        Reply::calls([query("c1", "create_table", "CREATE TABLE notes (id INTEGER)")]),
        Reply::text("It is made."),
    ]
}

/// The tool messages of an upstream request: call id and content.
fn results(messages: &[Value]) -> Vec<(String, String)> {
    let text = |message: &Value, key: &str| message[key].as_str().unwrap().to_owned();
    let tool_messages = messages.iter().filter(|message| message["role"] == "tool");
    tool_messages.map(|message| (text(message, "tool_call_id"), text(message, "content"))).collect()
}

#[tokio::test]
async fn a_tool_runs_inside_a_whole_reply() {
    let upstream = Upstream::replying(create_and_tell());
    let gateway = Gateway::with_tools(&upstream).await;
    let reply = gateway.complete(&ask("make a table")).await;
    let choice = &reply["choices"][0];
    assert_eq!(
        (&choice["message"]["content"], &choice["finish_reason"]),
        (&json!("It is made."), &json!("stop"))
    );
    assert!(choice["message"].get("tool_calls").is_none_or(Value::is_null), "{reply}");
    assert_eq!(reply["usage"], json!({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}));
    let mut offered = upstream.requests()[0].tool_names();
    offered.sort();
    assert_eq!(offered, SQLITE_TOOLS);
    let messages = upstream.last().messages();
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[1]["content"], Value::Null, "null, not \"\": upstreams refuse that beside calls");
    assert_eq!(messages[1]["tool_calls"][0]["id"], "c1");
    assert_eq!(results(&messages)[0].0, "c1");
}

#[tokio::test]
async fn a_tool_runs_inside_a_stream_without_a_trace() {
    let [first, second] = create_and_tell();
    let upstream = Upstream::replying([first.saying("Let me see. "), second]);
    let gateway = Gateway::with_tools(&upstream).await;
    let mut body = ask_stream("make a table");
    body["stream_options"] = json!({"include_usage": true});
    let reply = gateway.stream(&body).await;
    assert_eq!((reply.text().as_str(), reply.finish().as_str()), ("Let me see. It is made.", "stop"));
    assert_eq!(reply.calls(), []);
    assert_eq!(reply.usage().unwrap()["total_tokens"], 14);
    assert!(reply.comments.iter().any(|comment| comment.contains("create_table")), "{:?}", reply.comments);
    assert_eq!(upstream.last().messages()[1]["content"], "Let me see. ");
}

#[tokio::test]
async fn progress_is_shown_to_clients_that_ask_for_it() {
    let upstream = Upstream::replying(create_and_tell());
    let gateway = Gateway::with_tools(&upstream).await;
    let request = gateway.completion(&ask_stream("make a table")).header("x-gateway-events", "1");
    let reply = request.stream().await.collect().await;
    let [started, finished] = reply.progress.as_slice() else { panic!("two events: {reply:#?}") };
    assert_eq!((&started["type"], &started["name"]), (&json!("tool_call"), &json!("create_table")));
    assert_eq!(started["arguments"]["query"], "CREATE TABLE notes (id INTEGER)");
    assert_eq!((&finished["type"], &finished["is_error"]), (&json!("tool_result"), &json!(false)));
    assert_eq!(started["id"], finished["id"]);
    assert_eq!(reply.text(), "It is made.");
}

#[tokio::test]
async fn calls_of_one_reply_all_run_and_are_answered_in_order() {
    let upstream = Upstream::start();
    let gateway = Gateway::with_tools(&upstream).await;
    for streamed in [false, true] {
        upstream.replies([
            Reply::calls([
                query("a", "read_query", "SELECT 41 + 1 AS n"),
                call("b", "list_tables", &json!({})),
                query("c", "read_query", "SELECT 'x' || 'y' AS n"),
            ]),
            Reply::text("done"),
        ]);
        let mut body = ask("go");
        body["stream"] = streamed.into();
        if streamed {
            assert_eq!(gateway.stream(&body).await.text(), "done");
        } else {
            gateway.complete(&body).await;
        }
        let results = results(&upstream.last().messages());
        let ids: Vec<&str> = results.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        assert!(results[0].1.contains("42") && results[2].1.contains("xy"), "{results:?}");
    }
}

#[tokio::test]
async fn streamed_calls_are_told_apart_even_without_good_indexes() {
    let part = |call: Value| chunk("m1", &json!({ "tool_calls": [call] }), None);
    let opening = |id: &str| json!({"index": 0, "id": id, "type": "function", "function": {"name": "read_query", "arguments": ""}});
    let arguments =
        |sql: &str| json!({"index": 0, "function": {"arguments": format!("{{\"query\":\"{sql}\"}}")}});
    let all_zero = [
        part(opening("a")),
        part(arguments("SELECT 1")),
        part(opening("b")),
        part(arguments("SELECT 2")),
        chunk("m1", &json!({}), Some("tool_calls")),
    ];
    let whole = |id: &str, sql: &str| {
        let arguments = format!("{{\"query\":\"{sql}\"}}");
        json!({"id": id, "type": "function", "function": {"name": "read_query", "arguments": arguments}})
    };
    let none = [
        part(whole("a", "SELECT 1")),
        part(whole("b", "SELECT 2")),
        chunk("m1", &json!({}), Some("tool_calls")),
    ];
    let upstream = Upstream::start();
    let gateway = Gateway::with_tools(&upstream).await;
    for events in [&all_zero, &none] as [&[Value]; 2] {
        upstream.replies([Reply::events(events), Reply::text("done")]);
        assert_eq!(gateway.stream(&ask_stream("go")).await.text(), "done");
        let results = results(&upstream.last().messages());
        assert_eq!(results.len(), 2, "{results:?}");
        assert!(results[0].1.contains('1') && results[1].1.contains('2'), "{results:?}");
    }
}

#[tokio::test]
async fn bad_calls_are_told_to_the_model_which_goes_on() {
    let broken = crate::harness::script::Call {
        id: "b".into(),
        name: "read_query".into(),
        arguments: "{\"query\": ".into(),
    };
    let bad = [
        (call("a", "no_such_tool", &json!({})), "no_such_tool"),
        (broken, "JSON"),
        (call("c", "read_query", &json!({"query": 5})), "query"),
        (call("d", "read_query", &json!({})), "query"),
        (query("e", "read_query", "SELECT nonsense FROM nowhere"), "nowhere"),
        (query("f", "write_query", "DROP TABLE x"), ""),
    ];
    let upstream = Upstream::start();
    let gateway = Gateway::with_tools(&upstream).await;
    for (bad_call, words) in bad {
        let name = bad_call.id.clone();
        upstream.replies([Reply::calls([bad_call]), Reply::text("I see.")]);
        let reply = gateway.complete(&ask("go")).await;
        assert_eq!(reply["choices"][0]["message"]["content"], "I see.");
        let results = results(&upstream.last().messages());
        assert_eq!(results[0].0, name);
        assert!(results[0].1.starts_with("Error") && results[0].1.contains(words), "{words}: {results:?}");
    }
}

#[tokio::test]
async fn the_header_narrows_the_tools() {
    let upstream = Upstream::scripted(|_| Reply::text("ok"));
    let gateway = Gateway::with_tools(&upstream).await;
    let with = async |value: &str| {
        gateway.completion(&ask("hi")).header("x-gateway-tools", value).send().await.expect(200);
        upstream.last()
    };
    assert!(with("none").await.json().get("tools").is_none());
    assert_eq!(with("list_tables").await.tool_names(), ["list_tables"]);
    let mut two = with(" read_query, list_tables,no_such").await.tool_names();
    two.sort();
    assert_eq!(two, ["list_tables", "read_query"]);
    assert_eq!(with("all").await.tool_names().len(), SQLITE_TOOLS.len());
}

#[tokio::test]
async fn the_models_configuration_narrows_the_tools() {
    let upstream = Upstream::scripted(|_| Reply::text("ok"));
    let config = "[llm.models.m1]\ntools = [\"list_tables\"]\n[llm.models.\"org/m2:free\"]\ntools = \"none\"";
    let gateway = Gateway::builder().upstream(&upstream).sqlite().config(config).start().await;
    gateway.complete(&ask("hi")).await;
    assert_eq!(upstream.last().tool_names(), ["list_tables"]);
    let mut body = ask("hi");
    body["model"] = "org/m2:free".into();
    gateway.complete(&body).await;
    assert!(upstream.last().json().get("tools").is_none());
}

#[tokio::test]
async fn a_forced_choice_holds_for_the_first_round_only() {
    let upstream = Upstream::start();
    let gateway = Gateway::with_tools(&upstream).await;
    let function = json!({"type": "function", "function": {"name": "list_tables"}});
    for choice in [json!("required"), function] {
        upstream.replies([Reply::calls([call("a", "list_tables", &json!({}))]), Reply::text("none")]);
        let mut body = ask("go");
        body["tool_choice"] = choice.clone();
        gateway.complete(&body).await;
        let requests = upstream.requests();
        let [first, second] = &requests[requests.len() - 2..] else { panic!() };
        assert_eq!(first.json()["tool_choice"], choice);
        assert!(
            matches!(second.json().get("tool_choice"), None | Some(Value::String(_))),
            "{}",
            second.text()
        );
        assert_ne!(second.json()["tool_choice"], "required");
    }
    upstream.reply(Reply::text("as you wish"));
    let mut body = ask("go");
    body["tool_choice"] = "none".into();
    gateway.complete(&body).await;
    assert!(upstream.last().tool_names().is_empty(), "no tools where none may be called");
}

#[tokio::test]
async fn rounds_are_limited_and_the_last_one_may_not_call() {
    let upstream = Upstream::scripted(|request| {
        let n = request.messages().len();
        if request.json()["tool_choice"] == "none" {
            return Reply::text("enough");
        }
        Reply::calls([call(&format!("c{n}"), "list_tables", &json!({}))])
    });
    let start = |rounds: &str| {
        Gateway::builder().upstream(&upstream).sqlite().env("WITGATE_CHAT__MAX_TOOL_ROUNDS", rounds).start()
    };
    let gateway = start("3").await;
    assert_eq!(gateway.complete(&ask("go")).await["choices"][0]["message"]["content"], "enough");
    assert_eq!(upstream.requests().len(), 3);
    assert_eq!(gateway.stream(&ask_stream("go")).await.text(), "enough");
    assert_eq!(upstream.requests().len(), 6);

    let stubborn = Upstream::scripted(|request| {
        Reply::calls([call(&format!("c{}", request.messages().len()), "list_tables", &json!({}))])
    });
    let gateway = Gateway::builder()
        .upstream(&stubborn)
        .sqlite()
        .env("WITGATE_CHAT__MAX_TOOL_ROUNDS", "2")
        .start()
        .await;
    let answer = gateway.post("/v1/chat/completions", &ask("go")).await;
    assert_eq!(answer.expect(502)["error"]["code"], "max_tool_rounds");
    let reply = gateway.stream(&ask_stream("go")).await;
    assert_eq!(reply.error.expect("an error in the stream")["code"], "max_tool_rounds");
}

#[tokio::test]
async fn after_side_effects_clients_are_told_not_to_try_again() {
    let [first, _] = create_and_tell();
    let upstream = Upstream::replying([first, Reply::error(400, "too long now")]);
    let gateway = Gateway::with_tools(&upstream).await;
    let answer = gateway.post("/v1/chat/completions", &ask("go")).await;
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(answer.words(400), "too long now");
}

#[tokio::test]
async fn an_empty_reply_is_asked_again_once() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&upstream).await;
    upstream.replies([Reply::text(""), Reply::text("here"), Reply::text("  "), Reply::text("here")]);
    assert_eq!(gateway.complete(&ask("hi")).await["choices"][0]["message"]["content"], "here");
    assert_eq!(gateway.stream(&ask_stream("hi")).await.text().trim(), "here");
    assert_eq!(upstream.requests().len(), 4);
    upstream.replies([Reply::text(""), Reply::text(""), Reply::text(""), Reply::text("")]);
    let error = gateway.refused(&ask("hi"), 502).await;
    assert_eq!(error["code"], "empty_reply");
    let answer = gateway.completion(&ask_stream("hi")).send_any().await;
    assert!(answer.contains("empty_reply"), "{answer}");
}

#[tokio::test]
async fn text_before_a_call_is_not_held_back() {
    let upstream = Upstream::start();
    let (reply, upstream_says) = Reply::controlled();
    upstream.replies([reply, Reply::text(" Done.")]);
    let gateway = Gateway::with_tools(&upstream).await;
    let event = |delta: Value, finish: Option<&str>| {
        upstream_says.send(Control::Event(chunk("m1", &delta, finish))).unwrap();
    };
    event(json!({"role": "assistant", "content": "Looking."}), None);
    let mut stream = gateway.completion(&ask_stream("go")).stream().await;
    stream.read_until("Looking.").await;
    let call = json!({"index": 0, "id": "a", "type": "function", "function": {"name": "list_tables", "arguments": "{}"}});
    event(json!({ "tool_calls": [call] }), None);
    event(json!({}), Some("tool_calls"));
    drop(upstream_says);
    stream.read_until(" Done.").await;
    stream.collect_rest_until_done().await;
}
