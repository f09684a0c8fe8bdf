//! Peers that are slow or talk without end, and guests that want too much.

use super::*;

/// Long for a test, short for a person.
const SHORT: Duration = Duration::from_millis(200);

async fn failure(script: Script, limits: EgressLimits) -> Error {
    let server = Server::start(script).await;
    let mut plugin = Plugin::of(&server, limits);
    let error = plugin.get(&server.url()).await.unwrap_err();
    // Whatever went wrong, the connection is gone.
    server.wait_closed().await;
    error
}

#[tokio::test]
async fn a_head_that_does_not_end_in_time_is_given_up() {
    let short = EgressLimits { first_byte_timeout: SHORT, ..limits() };
    for script in [
        Script::Stall(""),
        Script::Stall("HTTP/1.1 200 OK\r\n"),
        Script::Drip("HTTP/1.1 200 OK\r\n", "x-slow: 1\r\n"),
        Script::Drip("", "HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        let error = failure(script, short).await;
        assert!(matches!(error, Error::HttpResponseTimeout | Error::HttpProtocolError), "{error}");
    }
}

#[tokio::test]
async fn a_guest_may_shorten_waits_and_not_lengthen_them() {
    let server = Server::start(Script::Stall("")).await;
    let wish = |wait| Some(RequestOptions { first_byte_timeout: Some(wait), ..RequestOptions::default() });
    let mut plugin = Plugin::of(&server, limits());
    let answer = plugin.send_with(get(&server.url()), wish(SHORT)).await;
    assert!(matches!(answer.err().unwrap(), Error::HttpResponseTimeout));
    let mut plugin = Plugin::of(&server, EgressLimits { first_byte_timeout: SHORT, ..limits() });
    let answer = plugin.send_with(get(&server.url()), wish(Duration::from_secs(3_600))).await;
    assert!(matches!(answer.err().unwrap(), Error::HttpResponseTimeout));
}

#[tokio::test]
async fn a_body_that_stops_or_drips_is_given_up() {
    let silent = EgressLimits { between_bytes_timeout: SHORT, ..limits() };
    let error = failure(Script::Stall("HTTP/1.1 200 OK\r\n\r\nstart"), silent).await;
    assert!(matches!(error, Error::ConnectionReadTimeout), "{error}");
    let total = EgressLimits { total_timeout: SHORT, ..limits() };
    let error = failure(Script::Drip("HTTP/1.1 200 OK\r\n\r\n", "x"), total).await;
    assert!(matches!(error, Error::HttpResponseTimeout | Error::ConnectionReadTimeout), "{error}");
}

#[tokio::test]
async fn a_huge_answer_is_cut_off() {
    let small = EgressLimits { max_response_bytes: 1_000, ..limits() };
    let error = failure(Script::Stall("HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n"), small).await;
    assert!(matches!(error, Error::HttpResponseBodySize(Some(1_001))), "{error}");
    // Without its length, and as much as the peer can send.
    let error = failure(Script::Drip("HTTP/1.1 200 OK\r\n\r\n", OK), small).await;
    assert!(matches!(error, Error::HttpResponseBodySize(Some(1_000))), "{error}");
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let error = failure(Script::Drip(chunked, "A\r\n0123456789\r\n"), small).await;
    assert!(matches!(error, Error::HttpResponseBodySize(Some(1_000))), "{error}");

    let server = Server::answering(&format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1_000))).await;
    let (_, body) = Plugin::of(&server, small).get(&server.url()).await.unwrap();
    assert_eq!(body.len(), 1_000);
}

#[tokio::test]
async fn a_huge_head_is_refused() {
    let lines = "x-filler: 0123456789012345678901234567890123456789\r\n".repeat(100_000);
    let many = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
    let long = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n", "x".repeat(1_000_000));
    for answer in [many, long] {
        let server = Server::answering(&answer).await;
        let error = Plugin::of(&server, limits()).get(&server.url()).await.unwrap_err();
        assert!(matches!(error, Error::HttpResponseHeaderSectionSize(_)), "{error}");
    }
}

#[tokio::test]
async fn a_huge_request_is_refused() {
    let server = Server::start(Script::Stall("")).await;
    let small = EgressLimits { max_request_bytes: 1_000, ..limits() };
    let mut plugin = Plugin::of(&server, small);
    let announced =
        Request::post(server.url()).header("content-length", "1001").body(full("x".repeat(1_001))).unwrap();
    let error = plugin.fetch(announced).await.unwrap_err();
    assert!(matches!(error, Error::HttpRequestBodySize(Some(1_001))), "{error}");
    assert!(server.seen().is_empty());
    let error = plugin.fetch(Request::post(server.url()).body(full("x".repeat(1_001))).unwrap()).await;
    assert!(matches!(error, Err(Error::HttpRequestBodySize(_))), "{error:?}");
}

#[tokio::test]
async fn requests_at_a_time_are_bounded_and_leave_with_their_future() {
    let server = Server::start(Script::Stall("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")).await;
    let mut plugin = Plugin::of(&server, EgressLimits { max_concurrent: 2, ..limits() });
    let first = plugin.send(get(&server.url())).await.unwrap();
    let second = plugin.send(get(&server.url())).await.unwrap();
    let error = plugin.get(&server.url()).await.unwrap_err();
    assert!(matches!(error, Error::ConnectionLimitReached), "{error}");
    drop(first);
    server.wait_closed().await;
    let third = plugin.send(get(&server.url())).await.unwrap();
    drop((second, third));
    server.wait_closed().await;
    server.wait_closed().await;

    // Also before there is an answer.
    let silent = Server::start(Script::Stall("")).await;
    let mut plugin = Plugin::of(&silent, limits());
    let pending = tokio::spawn(plugin.send(get(&silent.url())));
    while silent.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    pending.abort();
    silent.wait_closed().await;
}

#[tokio::test]
async fn an_answer_that_was_read_frees_its_place() {
    let server = Server::answering(OK).await;
    let mut plugin = Plugin::of(&server, EgressLimits { max_concurrent: 1, ..limits() });
    let (response, _driver) = plugin.send(get(&server.url())).await.unwrap();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        frame.unwrap();
    }
    // The body itself is still there, as it is while a guest holds on to it.
    assert_eq!(plugin.get(&server.url()).await.unwrap().1, "ok");
    drop(body);
}
