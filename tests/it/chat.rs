//! The simple chat API: messages, sessions that outlive the process, named events.

use serde_json::{Value, json};

use crate::harness::{Control, Gateway, Recorded, Reply, Upstream, call, eventually};

/// An upstream that answers with the conversation so far, as `role:content` pieces.
fn parrot() -> Upstream {
    Upstream::scripted(repeat)
}

fn repeat(request: &Recorded) -> Reply {
    let line = |m: &Value| format!("{}:{}", m["role"].as_str().unwrap(), m["content"].as_str().unwrap());
    Reply::text(&request.messages().iter().map(line).collect::<Vec<_>>().join(" | "))
}

#[tokio::test]
async fn a_message_gets_a_reply_and_a_session() {
    let upstream = parrot();
    let gateway = Gateway::start(&upstream).await;
    let answer = gateway.post("/chat", &json!({"message": "Hi"})).await.expect(200);
    assert_eq!(answer["response"], "user:Hi");
    let session = answer["session_id"].as_str().unwrap();
    let (second, same) = gateway.say("again", Some(session)).await;
    assert_eq!((second.as_str(), same.as_str()), ("user:Hi | assistant:user:Hi | user:again", session));
    let (other, another) = gateway.say("new", None).await;
    assert_eq!(other, "user:new");
    assert_ne!(another, session);
}

#[tokio::test]
async fn sessions_can_be_listed_read_and_deleted() {
    let upstream = parrot();
    let gateway = Gateway::start(&upstream).await;
    let (_, first) = gateway.say("one", None).await;
    let (_, second) = gateway.say("two", None).await;
    gateway.say("three", Some(&second)).await;
    let page = gateway.get("/chat/sessions?limit=1").await.expect(200);
    assert_eq!(page["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&page["sessions"][0]["session_id"], &page["sessions"][0]["turns"]),
        (&json!(second), &json!(2))
    );
    let next = page["next_offset"].as_u64().unwrap();
    let rest = gateway.get(&format!("/chat/sessions?offset={next}")).await.expect(200);
    assert_eq!((&rest["sessions"][0]["session_id"], &rest["next_offset"]), (&json!(first), &Value::Null));
    let path = format!("/chat/sessions/{second}");
    let transcript = gateway.get(&path).await.expect(200);
    let roles: Vec<&str> =
        transcript["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
    assert_eq!(gateway.request("DELETE", &path).send().await.status, 204);
    gateway.get(&path).await.expect(404);
    gateway.request("DELETE", &path).send().await.expect(404);
    gateway.post("/chat", &json!({"message": "x", "session_id": second})).await.expect(404);
}

#[tokio::test]
async fn someone_elses_session_looks_like_none() {
    let upstream = parrot();
    let gateway = Gateway::start(&upstream).await;
    let as_one =
        |method: &str, path: &str| gateway.request(method, path).header("authorization", "Bearer one");
    let answer = as_one("POST", "/chat").json(&json!({"message": "secret"})).send().await.expect(200);
    let session = answer["session_id"].as_str().unwrap().to_owned();
    let path = format!("/chat/sessions/{session}");
    as_one("GET", &path).send().await.expect(200);
    let body = json!({"message": "mine?", "session_id": session});
    for key in [None, Some("Bearer two")] {
        let request = |method: &str, path: &str| {
            let request = gateway.request(method, path);
            if let Some(key) = key { request.header("authorization", key) } else { request }
        };
        let foreign = request("POST", "/chat").json(&body).send().await;
        let unknown = json!({"message": "x", "session_id": "ses_00000000000000000000000000000000"});
        let unknown = request("POST", "/chat").json(&unknown).send().await;
        assert_eq!((foreign.status, foreign.text()), (404, unknown.text()));
        request("GET", &path).send().await.expect(404);
        request("DELETE", &path).send().await.expect(404);
        assert_eq!(request("GET", "/chat/sessions").send().await.expect(200)["sessions"], json!([]));
    }
    as_one("POST", "/chat").json(&body).send().await.expect(200);
}

#[tokio::test]
async fn sessions_survive_a_restart_and_a_kill() {
    let upstream = parrot();
    let gateway = Gateway::start(&upstream).await;
    let (_, session) = gateway.say("one", None).await;
    let builder = gateway.again().upstream(&upstream);
    gateway.stop().await;
    let gateway = builder.start().await;
    let (reply, _) = gateway.say("two", Some(&session)).await;
    assert!(reply.starts_with("user:one | assistant:user:one | user:two"), "{reply}");
    // Killed the moment the answer is here: what the user has seen must be on the disk.
    let builder = gateway.again().upstream(&upstream);
    gateway.kill().await;
    let gateway = builder.start().await;
    let (reply, _) = gateway.say("three", Some(&session)).await;
    assert!(reply.contains("user:two") && reply.ends_with("user:three"), "{reply}");
}

#[tokio::test]
async fn turns_of_one_session_follow_each_other() {
    let upstream = parrot();
    let gateway = Gateway::start(&upstream).await;
    let (_, session) = gateway.say("start", None).await;
    let turns = (0..8).map(|n| {
        let (gateway, session) = (&gateway, &session);
        async move { gateway.say(&format!("m{n}"), Some(session)).await }
    });
    futures_util::future::join_all(turns).await;
    let transcript = gateway.get(&format!("/chat/sessions/{session}")).await.expect(200);
    let messages = transcript["messages"].as_array().unwrap();
    assert_eq!((messages.len(), &transcript["turns"]), (18, &json!(9)));
    for (position, message) in messages.iter().enumerate() {
        assert_eq!(message["role"], ["user", "assistant"][position % 2]);
    }
    // Every reply saw all turns before its own: the parrot's answers grow.
    let lengths: Vec<usize> = messages
        .iter()
        .filter(|m| m["role"] == "assistant")
        .map(|m| m["content"].as_str().unwrap().len())
        .collect();
    assert!(lengths.is_sorted(), "{lengths:?}");
}

#[tokio::test]
async fn the_history_is_bounded_and_begins_with_a_whole_turn() {
    let upstream = Upstream::scripted(|_| Reply::text("ok"));
    let gateway =
        Gateway::builder().upstream(&upstream).env("WITGATE_CHAT__MAX_HISTORY_TOKENS", "600").start().await;
    let (_, session) = gateway.say("first", None).await;
    for n in 0..6 {
        gateway.say(&format!("{n} {}", "word ".repeat(150)), Some(&session)).await;
    }
    let messages = upstream.last().messages();
    assert!(messages.len() < 10 && messages.len() > 2, "{}", messages.len());
    assert_eq!(messages[0]["role"], "user");
    assert!(messages.last().unwrap()["content"].as_str().unwrap().starts_with("5 "));
}

#[tokio::test]
async fn tool_calls_are_part_of_the_session() {
    let upstream = Upstream::replying([
        Reply::calls([call("c1", "read_query", &json!({"query": "SELECT 6*7 AS n"}))]),
        Reply::text("42"),
        Reply::text("as I said"),
    ]);
    let gateway = Gateway::with_tools(&upstream).await;
    let (reply, session) = gateway.say("what?", None).await;
    assert_eq!(reply, "42");
    gateway.say("again?", Some(&session)).await;
    let roles: Vec<Value> = upstream.last().messages().iter().map(|m| m["role"].clone()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "assistant", "user"]);
}

#[tokio::test]
async fn a_streamed_message_tells_everything_by_name() {
    let upstream = Upstream::replying([
        Reply::calls([call("c1", "list_tables", &json!({}))]).saying("Let me see. "),
        Reply::text("There are none."),
    ]);
    let gateway = Gateway::with_tools(&upstream).await;
    let body = json!({"message": "tables?", "stream": true});
    let events = gateway.request("POST", "/chat").json(&body).stream().await.collect_named().await;
    let named = |name: &str| -> Vec<&Value> {
        events.iter().filter(|(n, _)| n == name).map(|(_, value)| value).collect()
    };
    let text: String = named("delta").iter().map(|delta| delta["text"].as_str().unwrap()).collect();
    assert_eq!(text, "Let me see. There are none.");
    let (calls, results) = (named("tool_call"), named("tool_result"));
    assert_eq!(
        (calls.len(), &calls[0]["name"], &calls[0]["arguments"]),
        (1, &json!("list_tables"), &json!({}))
    );
    assert_eq!((&results[0]["id"], &results[0]["is_error"]), (&calls[0]["id"], &json!(false)));
    let done = named("done")[0];
    assert_eq!(done["usage"]["total_tokens"], 14);
    let session = done["session_id"].as_str().unwrap();
    assert!(done["response"].as_str().unwrap().ends_with("There are none."), "{done}");
    gateway.get(&format!("/chat/sessions/{session}")).await.expect(200);
}

#[tokio::test]
async fn a_turn_that_fails_or_is_left_is_not_stored() {
    let upstream = Upstream::replying([Reply::text("hello"), Reply::error(400, "no")]);
    let gateway = Gateway::start(&upstream).await;
    let (_, session) = gateway.say("hi", None).await;
    let failed = gateway.post("/chat", &json!({"message": "bad", "session_id": session})).await;
    assert_eq!(failed.words(400), "no");

    let (reply, upstream_says) = Reply::controlled();
    upstream.reply(reply);
    upstream_says.send(Control::Event(crate::harness::script::text_chunk("half"))).unwrap();
    let body = json!({"message": "left", "session_id": session, "stream": true});
    let mut stream = gateway.request("POST", "/chat").json(&body).stream().await;
    stream.read_until("half").await;
    drop(stream);
    upstream.last().closed_by_gateway().await;

    upstream.reply(Reply::text("fine"));
    gateway.say("good", Some(&session)).await;
    let contents: Vec<Value> = upstream.last().messages().iter().map(|m| m["content"].clone()).collect();
    assert_eq!(contents, ["hi", "hello", "good"]);
}

#[tokio::test]
async fn the_front_door_and_the_health_pages_answer() {
    let upstream = Upstream::start();
    let gateway = Gateway::with_tools(&upstream).await;
    assert_eq!(gateway.get("/").await.expect(200)["name"], "witgate");
    assert_eq!(gateway.get("/healthz").await.expect(200)["status"], "ok");
    eventually("everything is ready", async || gateway.get("/readyz").await.json()["status"] == "ready")
        .await;
    assert_eq!(gateway.get("/readyz").await.status, 200);
}
