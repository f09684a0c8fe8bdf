//! What goes over the wire, and what comes back.

use http::Method;
use http_body_util::StreamBody;
use hyper::body::Frame;
use wasmtime_wasi_http::{FieldMap, FieldMapError};

use super::*;

#[tokio::test]
async fn a_granted_request_is_sent_as_the_guest_made_it() {
    let server =
        Server::answering("HTTP/1.1 201 Created\r\nx-answer: yes\r\nset-cookie: a=b\r\n\r\nbody").await;
    let mut plugin = Plugin::of(&server, limits());
    let request = Request::post(format!("{}v1/items?q=a%20b", server.url()))
        .header("x-mine", "1")
        .header("content-length", "4")
        .body(full("ping"))
        .unwrap();
    let (response, _driver) = plugin.send(request).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["x-answer"]), (201, &"yes".parse().unwrap()));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "body");
    server.wait_closed().await;
    let seen = server.seen().remove(0);
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /v1/items?q=a%20b HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: {}", server.address);
    assert_eq!(lines, ["connection: close", "content-length: 4", host.as_str(), "x-mine: 1"]);
    assert_eq!(body, "ping");
    assert_eq!(plugin.counts(), (1, 0, 0));
    // No cookie, and no connection, is kept for the next request.
    plugin.get(&server.url()).await.unwrap();
    server.wait_closed().await;
    assert!(!server.seen()[1].contains("cookie"));
}

#[tokio::test]
async fn an_empty_path_is_the_root() {
    let server = Server::answering(OK).await;
    let mut plugin = Plugin::of(&server, limits());
    plugin.get(&format!("http://{}", server.address)).await.unwrap();
    plugin.get(&format!("http://{}?q=1", server.address)).await.unwrap();
    let lines: Vec<_> = server.seen().iter().map(|seen| seen.lines().next().unwrap().to_owned()).collect();
    assert_eq!(lines, ["GET / HTTP/1.1", "GET /?q=1 HTTP/1.1"]);
}

#[tokio::test]
async fn tunnels_and_traces_are_refused() {
    let server = Server::answering(OK).await;
    let mut plugin = Plugin::of(&server, limits());
    for method in [Method::CONNECT, Method::TRACE] {
        let request = Request::builder().method(method).uri(server.url()).body(full("")).unwrap();
        let error = plugin.fetch(request).await.unwrap_err();
        assert!(matches!(error, Error::HttpRequestMethodInvalid), "{error}");
    }
    assert!(server.seen().is_empty());
}

#[test]
fn a_guest_cannot_set_the_headers_of_the_host() {
    let server = PluginEgress::new(Arc::default(), Vec::new(), limits(), Arc::default());
    let mut hooks = server.call(PluginLog::new("x".into()));
    let mut fields = FieldMap::new_mutable(4_096);
    for name in [
        "Host",
        "connection",
        "Keep-Alive",
        "transfer-encoding",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "http2-settings",
        "proxy-authorization",
        "Proxy-Connection",
        "proxy-anything",
    ] {
        let set = fields.append(&mut hooks, name.to_owned(), b"x".to_vec());
        assert_eq!(set, Err(FieldMapError::Forbidden), "{name}");
        let set = fields.set(&mut hooks, name.to_owned(), vec![b"x".to_vec()]);
        assert_eq!(set, Err(FieldMapError::Forbidden), "{name}");
    }
    for value in ["a\r\nhost: evil", "a\nb", "a\rb", "a\0b"] {
        let set = fields.append(&mut hooks, "x-mine".to_owned(), value.into());
        assert_eq!(set, Err(FieldMapError::InvalidHeaderValue), "{value:?}");
    }
    for name in ["x\r\nhost", "x mine", "x:mine", ""] {
        let set = fields.append(&mut hooks, name.to_owned(), b"a".to_vec());
        assert_eq!(set, Err(FieldMapError::InvalidHeaderName), "{name:?}");
    }
    for value in ["+5", "5, 6", "-1", "0x5"] {
        let set = fields.append(&mut hooks, "content-length".to_owned(), value.into());
        assert_eq!(set, Err(FieldMapError::InvalidHeaderValue), "{value:?}");
    }
    assert!(fields.is_empty());
}

/// A request whose body comes in two pieces, as guests write it.
fn in_pieces(server: &Server, declared: &str, pieces: [&'static str; 2]) -> Request<WasiBody> {
    let frames = pieces.map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    Request::post(server.url()).header("content-length", declared).body(body).unwrap()
}

#[tokio::test]
async fn a_body_longer_than_its_content_length_smuggles_nothing() {
    let server = Server::answering(OK).await;
    let mut plugin = Plugin::of(&server, limits());
    let request = in_pieces(&server, "4", ["ping", "GET /smuggled HTTP/1.1\r\n\r\n"]);
    // Whether the answer is still read is a matter of time; what is sent is not.
    let _ = plugin.fetch(request).await;
    server.wait_closed().await;
    let request = in_pieces(&server, "4", ["pingGET /smuggled HTTP/1.1\r\n\r\n", ""]);
    let _ = plugin.fetch(request).await;
    server.wait_closed().await;
    assert!(server.seen().iter().all(|seen| !seen.contains("smuggled")), "{:?}", server.seen());
}

#[tokio::test]
async fn a_body_shorter_than_its_content_length_ends_the_request() {
    let server = Server::start(Script::Stall("")).await;
    let mut plugin = Plugin::of(&server, limits());
    plugin.fetch(in_pieces(&server, "400", ["ping", ""])).await.unwrap_err();
    server.wait_closed().await;
    assert_eq!(plugin.counts(), (1, 0, 1));
}
