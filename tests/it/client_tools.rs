//! The client's own tools beside the gateway's: never run here, never mixed up, and the history stays whole.

use serde_json::{Value, json};

use crate::harness::{Gateway, Reply, Upstream, ask, call};
use crate::identity_http;

/// A request with the client's tool `weather` (and more, by name).
fn ask_with_tools(text: &str, names: &[&str]) -> Value {
    let tools: Vec<Value> = names
        .iter()
        .map(|name| {
            let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
            json!({"type": "function", "function": {"name": name, "strict": true, "parameters": parameters}})
        })
        .collect();
    let mut body = ask(text);
    body["tools"] = tools.into();
    body
}

fn weather(id: &str) -> crate::harness::script::Call {
    call(id, "weather", &json!({"city": "Oslo"}))
}

/// The calls of a reply: id, name, arguments; and its finish reason. Whole or streamed, as the body asks.
async fn calls_of(gateway: &Gateway, body: &Value) -> (Vec<(String, String, String)>, String) {
    if body["stream"] == true {
        let reply = gateway.stream(body).await;
        return (reply.calls(), reply.finish());
    }
    let choice = gateway.complete(body).await["choices"][0].take();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let calls = choice["message"]["tool_calls"].as_array().cloned().unwrap_or_default();
    let function = |call: &Value, key: &str| text(&call["function"][key]);
    let calls =
        calls.iter().map(|c| (text(&c["id"]), function(c, "name"), function(c, "arguments"))).collect();
    (calls, text(&choice["finish_reason"]))
}

fn streamed(body: &Value, streamed: bool) -> Value {
    let mut body = body.clone();
    body["stream"] = streamed.into();
    body
}

#[tokio::test]
async fn a_call_of_a_client_tool_is_the_clients() {
    let upstream =
        Upstream::scripted(|_| Reply::calls([weather("w1"), weather("w2")]).saying("One moment. "));
    let gateway = Gateway::with_tools(&upstream).await;
    for stream in [false, true] {
        let body = streamed(&ask_with_tools("weather?", &["weather"]), stream);
        let (calls, finish) = calls_of(&gateway, &body).await;
        let wanted = |id: &str| (id.to_owned(), "weather".to_owned(), "{\"city\":\"Oslo\"}".to_owned());
        assert_eq!(calls, [wanted("w1"), wanted("w2")]);
        assert_eq!(finish, "tool_calls");
        let seen = upstream.last();
        assert!(seen.text().contains(&body["tools"][0].to_string()), "the client's tool goes as it came");
        assert_eq!(seen.tool_names().len(), 7);
    }
    assert_eq!(upstream.requests().len(), 2, "nothing was run here");
}

#[tokio::test]
async fn a_client_tool_wins_over_a_gateway_tool_of_its_name() {
    let upstream = Upstream::scripted(|_| Reply::calls([call("x", "list_tables", &json!({}))]));
    let gateway = Gateway::with_tools(&upstream).await;
    for stream in [false, true] {
        let body = streamed(&ask_with_tools("tables?", &["list_tables"]), stream);
        let (calls, finish) = calls_of(&gateway, &body).await;
        assert_eq!((calls.len(), calls[0].1.as_str(), finish.as_str()), (1, "list_tables", "tool_calls"));
        let names = upstream.last().tool_names();
        assert_eq!(names.iter().filter(|name| *name == "list_tables").count(), 1, "{names:?}");
    }
}

#[tokio::test]
async fn a_mixed_reply_runs_ours_shows_theirs_and_is_put_together_again() {
    let upstream = Upstream::start();
    let gateway = Gateway::with_tools(&upstream).await;
    for stream in [false, true] {
        let tag = if stream { "s" } else { "w" };
        let (ours, theirs) = (format!("ours-{tag}"), format!("theirs-{tag}"));
        let select = call(&ours, "read_query", &json!({"query": "SELECT 40 + 2 AS n"}));
        upstream.replies([Reply::calls([select, weather(&theirs)]), Reply::text("42 and rain")]);
        let body = streamed(&ask_with_tools("both?", &["weather"]), stream);
        let (calls, finish) = calls_of(&gateway, &body).await;
        let ids: Vec<&str> = calls.iter().map(|(id, ..)| id.as_str()).collect();
        assert_eq!((ids.as_slice(), finish.as_str()), ([theirs.as_str()].as_slice(), "tool_calls"));

        // The client comes back as SDKs do: its own message and result only.
        let shown = json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": theirs, "type": "function", "function": {"name": "weather", "arguments": calls[0].2}}]});
        let result = json!({"role": "tool", "tool_call_id": theirs, "content": "rain"});
        let mut next = streamed(&ask_with_tools("both?", &["weather"]), stream);
        next["messages"].as_array_mut().unwrap().extend([shown, result]);
        let (calls, finish) = calls_of(&gateway, &next).await;
        assert_eq!((calls.len(), finish.as_str()), (0, "stop"));
        let messages = upstream.last().messages();
        let ids: Vec<&Value> =
            messages[1]["tool_calls"].as_array().unwrap().iter().map(|c| &c["id"]).collect();
        assert_eq!(ids, [&json!(ours), &json!(theirs)]);
        let answered: Vec<&Value> =
            messages.iter().filter(|m| m["role"] == "tool").map(|m| &m["tool_call_id"]).collect();
        assert_eq!(answered, [&json!(ours), &json!(theirs)]);
        assert!(messages[2]["content"].as_str().unwrap().contains("42"), "{messages:?}");
    }
}

#[tokio::test]
async fn hidden_calls_belong_to_the_key_they_were_made_for() {
    let select = || call("ours", "list_tables", &json!({}));
    let upstream = Upstream::replying([Reply::calls([select(), weather("theirs")]), Reply::text("ok")]);
    let gateway = Gateway::with_tools(&upstream).await;
    let body = ask_with_tools("both?", &["weather"]);
    gateway.completion(&body).header("authorization", "Bearer one").send().await.expect(200);
    let shown = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "theirs", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]});
    let mut next = body.clone();
    next["messages"]
        .as_array_mut()
        .unwrap()
        .extend([shown.clone(), json!({"role": "tool", "tool_call_id": "theirs", "content": "rain"})]);
    gateway.completion(&next).header("authorization", "Bearer two").send().await.expect(200);
    assert_eq!(upstream.last().messages()[1], shown, "someone else's hidden calls stay hidden");
}

/// Two keys of one user that have the same conversation, with the same ids.
#[tokio::test]
async fn what_one_key_has_hidden_is_never_another_ones() {
    let upstream = Upstream::start();
    let builder = identity_http::builder().upstream(&upstream).config("access.chat = \"required\"");
    let root = identity_http::admin(builder.folder()).await;
    let gateway = builder.start().await;
    let mut keys = Vec::new();
    for name in ["one", "two", "three"] {
        let wish = json!({"name": name, "scopes": ["chat", "tools:call"]});
        keys.push(identity_http::add_key(&gateway, &root, &wish).await.1);
    }
    for stream in [false, true] {
        let body = streamed(&ask_with_tools("both?", &["weather"]), stream);
        let send = async |key: &str, body: &Value| {
            let request = gateway.completion(body).header("x-api-key", key);
            if stream {
                drop(request.stream().await.collect().await);
            } else {
                drop(request.send().await.expect(200));
            }
        };
        // The third never had such a reply, but says that it had.
        for (key, secret) in keys.iter().zip(["1111", "2222"]) {
            let select = call("ours", "read_query", &json!({"query": format!("SELECT {secret} AS n")}));
            upstream.reply(Reply::calls([select, weather("theirs")]));
            send(key, &body).await;
        }
        let shown = json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "theirs", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]});
        let result = json!({"role": "tool", "tool_call_id": "theirs", "content": "rain"});
        let mut next = body.clone();
        next["messages"].as_array_mut().unwrap().extend([shown.clone(), result]);
        for (key, secret) in keys.iter().zip([Some("1111"), Some("2222"), None]) {
            upstream.reply(Reply::text("ok"));
            send(key, &next).await;
            let seen = upstream.last();
            for each in ["1111", "2222"] {
                assert_eq!(seen.text().contains(each), Some(each) == secret, "{secret:?}: {}", seen.text());
            }
            if secret.is_none() {
                assert_eq!(seen.messages()[1], shown);
            }
        }
    }
}

/// Twice a round of ours, then one of theirs: the model never loses sight of what it has done.
#[tokio::test]
async fn ours_first_then_theirs_in_a_later_round() {
    let upstream = Upstream::start();
    let gateway = Gateway::with_tools(&upstream).await;
    for stream in [false, true] {
        let id = |name: &str| format!("{name}-{stream}");
        let mut body = streamed(&ask_with_tools("go", &["weather"]), stream);
        for turn in 1..=2 {
            let (ours, theirs) = (id(&format!("ours{turn}")), id(&format!("theirs{turn}")));
            let select =
                call(&ours, "read_query", &json!({"query": format!("SELECT 40 + {turn} AS number")}));
            upstream.replies([
                Reply::calls([select]).saying("First ours. "),
                Reply::calls([weather(&theirs)]).saying("Then yours."),
            ]);
            let (calls, finish) = calls_of(&gateway, &body).await;
            assert_eq!((calls.len(), &calls[0].0, finish.as_str()), (1, &theirs, "tool_calls"));
            let shown = if stream { "First ours. Then yours." } else { "Then yours." };
            let shown = json!({"role": "assistant", "content": shown, "tool_calls": [
                {"id": theirs, "type": "function", "function": {"name": "weather", "arguments": calls[0].2}}]});
            let result = json!({"role": "tool", "tool_call_id": theirs, "content": "rain"});
            body["messages"].as_array_mut().unwrap().extend([shown, result]);
        }
        upstream.reply(Reply::text("done"));
        calls_of(&gateway, &body).await;
        let messages = upstream.last().messages();
        let seen: Vec<String> = messages
            .iter()
            .map(|message| match (&message["tool_calls"][0]["id"], &message["tool_call_id"]) {
                (Value::String(id), _) => format!("{} {id}", message["content"].as_str().unwrap()),
                (_, Value::String(id)) => format!("answer {id}"),
                _ => message["content"].as_str().unwrap().to_owned(),
            })
            .collect();
        let round = |turn: u8| {
            let (ours, theirs) = (id(&format!("ours{turn}")), id(&format!("theirs{turn}")));
            [
                format!("First ours.  {ours}"),
                format!("answer {ours}"),
                format!("Then yours. {theirs}"),
                format!("answer {theirs}"),
            ]
        };
        assert_eq!(seen, [&["go".to_owned()], &round(1)[..], &round(2)[..]].concat());
        assert!(messages[2]["content"].as_str().unwrap().contains("41"), "{messages:?}");
        assert!(messages[6]["content"].as_str().unwrap().contains("42"), "{messages:?}");
    }
}

#[tokio::test]
async fn a_choice_of_a_client_tool_is_honoured() {
    let upstream = Upstream::replying([Reply::calls([weather("w")])]);
    let gateway = Gateway::with_tools(&upstream).await;
    let mut body = ask_with_tools("go", &["weather"]);
    body["tool_choice"] = json!({"type": "function", "function": {"name": "weather"}});
    body["parallel_tool_calls"] = false.into();
    calls_of(&gateway, &body).await;
    let seen = upstream.last().json();
    assert_eq!(seen["tool_choice"], body["tool_choice"]);
    assert_eq!(seen["parallel_tool_calls"], false);
}

#[tokio::test]
async fn custom_tools_go_to_the_client() {
    let custom = json!({"id": "k", "type": "custom", "custom": {"name": "shell", "input": "ls"}});
    let upstream = Upstream::replying([Reply::calls([]).with(json!({ "tool_calls": [custom] }))]);
    let gateway = Gateway::with_tools(&upstream).await;
    let mut body = ask("go");
    body["tools"] = json!([{"type": "custom", "custom": {"name": "shell"}}]);
    let reply = gateway.complete(&body).await;
    assert_eq!(reply["choices"][0]["message"]["tool_calls"], json!([custom]));
    assert!(upstream.last().text().contains(&body["tools"][0].to_string()));
}
