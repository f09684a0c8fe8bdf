//! Clients that go away at every point where a plugin can keep them waiting: the call ends with them.

use std::future::Future;

use serde_json::json;
use tokio::sync::mpsc::UnboundedSender;

use super::file;
use crate::guests;
use crate::harness::plugins::{ask_model, echo, gateway_with};
use crate::harness::script::text_chunk;
use crate::harness::{Control, Gateway, Reply, Upstream, ask_stream, eventually};

/// Time enough to show that the client's end ended the call, and not its own.
const PATIENT: &str = "limits = { call_timeout_ms = 300000, queue_timeout_ms = 300000, max_concurrency = 1 }";

async fn with_plugin(upstream: &Upstream, name: &str, guest: &[u8]) -> Gateway {
    let (wasm, toml) = (format!("{name}.wasm"), format!("{name}.toml"));
    let text = file(name, PATIENT);
    gateway_with(upstream, [(wasm.as_str(), guest), (toml.as_str(), text.as_bytes())]).start().await
}

/// Makes a request, and goes away as soon as `moment` has come.
async fn leave_at(request: impl Future<Output = String>, moment: impl Future<Output = ()>) {
    tokio::select! {
        said = request => panic!("answered: {said}"),
        () = moment => {}
    }
}

#[tokio::test]
async fn while_the_guest_computes_or_waits() {
    for (name, guest) in [("loop", guests::looping()), ("poll", guests::blocking_poll())] {
        let upstream = echo(&[name]);
        let gateway = with_plugin(&upstream, name, &guest).await;
        let files = gateway.open_files();
        for round in 0..6 {
            let request = gateway.completion(&ask_model(name, "!", round % 2 == 0)).send_any();
            leave_at(request, async {
                gateway.until_running(name, 1).await;
                gateway.answers_others().await;
            })
            .await;
            gateway.until_running(name, 0).await;
        }
        let plugin = gateway.plugin(name).await;
        assert_eq!((&plugin["errors"], &plugin["state"]), (&json!({}), &json!("serving")), "{plugin}");
        eventually("their connections are closed", async || gateway.open_files() <= files + 6).await;
    }
}

#[tokio::test]
async fn while_the_call_waits_for_a_place() {
    let upstream = echo(&["loop"]);
    let gateway = with_plugin(&upstream, "loop", &guests::looping()).await;
    let request = || gateway.completion(&ask_model("loop", "!", false)).send_any();
    Box::pin(leave_at(request(), async {
        gateway.until_running("loop", 1).await;
        for _ in 0..3 {
            leave_at(request(), gateway.until_running("loop", 2)).await;
            gateway.until_running("loop", 1).await;
        }
    }))
    .await;
    gateway.until_running("loop", 0).await;
    // The place is free.
    assert!(gateway.completion(&ask_model("loop", "fine", false)).send_any().await.contains("fine"));
}

/// A gateway whose stream plugin works on a reply that the test sends piece by piece.
async fn streaming() -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let guest = guests::replacing_letter('x', 'A');
    let gateway = gateway_with(&upstream, [("letters.wasm", &guest[..])]).start().await;
    (upstream, gateway)
}

fn say(sender: &UnboundedSender<Control>, text: &str) {
    sender.send(Control::Event(text_chunk(text))).unwrap();
}

#[tokio::test]
async fn in_the_middle_of_a_stream() {
    let (upstream, gateway) = streaming().await;
    for round in 0..4 {
        let (reply, sender) = Reply::controlled();
        upstream.reply(reply);
        let begun = gateway.completion(&ask_stream("go")).stream();
        let (mut stream, ()) = tokio::join!(begun, async { say(&sender, "x") });
        stream.read_until("A").await;
        gateway.until_running("letters", 1).await;
        drop(stream);
        upstream.request(round).await.closed_by_gateway().await;
        gateway.until_running("letters", 0).await;
    }
    assert_eq!(gateway.plugin("letters").await["errors"], json!({}));
}

#[tokio::test]
async fn the_upstream_goes_away_in_the_middle_of_a_stream() {
    let (upstream, gateway) = streaming().await;
    let (reply, sender) = Reply::controlled();
    upstream.reply(reply);
    let begun = gateway.completion(&ask_stream("go")).stream();
    let (mut stream, ()) = tokio::join!(begun, async { say(&sender, "x") });
    stream.read_until("A").await;
    drop(upstream);
    drop(sender);
    assert!(stream.collect().await.error.is_some());
    gateway.until_running("letters", 0).await;
}

#[tokio::test]
async fn while_a_plugin_is_loaded() {
    let upstream = echo(&[]);
    let good = guests::replacing_letter('x', 'A');
    let gateway =
        gateway_with(&upstream, [("good.wasm", &good[..]), ("good.toml", b"applies_to.models = [\"m1\"]")]);
    let gateway = gateway.env("WITGATE_PLUGINS__WATCH", "false").start().await;
    gateway.drop_in("slow.toml", b"limits.call_timeout_ms = 2000");
    gateway.drop_in("slow.wasm", &super::load::endless_start());
    // The request to look at the folder is given up; the look itself is not.
    let reload = async { gateway.reload_plugins().await.to_string() };
    leave_at(reload, gateway.answers_others()).await;
    gateway.drop_in("new.wasm", &good);
    gateway.reload_plugins().await;
    assert_eq!(gateway.plugin("good").await["state"], "serving");
    assert_eq!(gateway.plugin("new").await["state"], "serving");
    let slow = gateway.plugin("slow").await;
    assert!(slow["error"].as_str().unwrap().contains("gave no answer within 2000 ms"), "{slow}");
}
