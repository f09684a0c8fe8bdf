//! Signs of life: a quiet server is asked for one now and then, a server that gives none is lost.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rmcp::ServiceError;
use rmcp::model::{ClientRequest, DiscoverRequest, DiscoverRequestParams, PingRequest};
use rmcp::service::PeerRequestOptions;

use super::server::{Live, Server};

/// Missed signs of life after which a server is given up. One may be lost to a busy moment.
const MISSES: u32 = 2;

/// Calls given up without an answer that turn a missed sign of life into evidence even while calls are under way.
const UNANSWERED_CALLS: u32 = 3;

/// Watches a connection; ends with words that follow the server's name when the server is given up.
pub(super) async fn watch(server: &Server, live: &Live) -> String {
    let settings = &server.settings;
    let limit = Duration::from_millis(settings.ping_timeout_ms);
    let mut misses = 0;
    loop {
        let quiet = async {
            match settings.ping_interval_ms {
                0 => std::future::pending().await,
                interval => tokio::time::sleep(Duration::from_millis(interval)).await,
            }
        };
        tokio::select! {
            () = quiet => {}
            () = live.suspect.notified() => {}
        }
        if live.pings_alone && live.is_busy() {
            continue;
        }
        match ask(live, limit).await {
            Ok(()) => {
                misses = 0;
                live.answered();
            }
            // Nothing will come of asking again over a transport that cannot even send.
            Err(Miss::Transport(reason)) => return format!("cannot be reached ({reason})"),
            Err(Miss::Silence) => {
                // A server with a single thread answers nothing else while a tool runs; that call has its own limit.
                if !live.is_busy() || live.unanswered.load(Ordering::Relaxed) >= UNANSWERED_CALLS {
                    misses += 1;
                }
            }
        }
        if misses >= MISSES {
            return format!("gave no sign of life within {} ms, twice", limit.as_millis());
        }
        if misses > 0 {
            live.suspect.notify_one();
        }
    }
}

enum Miss {
    Silence,
    Transport(String),
}

/// Asks for a sign of life. Any answer is one, an error too.
async fn ask(live: &Live, limit: Duration) -> Result<(), Miss> {
    let request = if live.modern {
        // Protocol version 2026-07-28 dropped `ping`; this is the cheapest request every server answers.
        ClientRequest::DiscoverRequest(DiscoverRequest::new(DiscoverRequestParams {}))
    } else {
        ClientRequest::PingRequest(PingRequest::default())
    };
    let options = PeerRequestOptions::with_timeout(limit);
    let answer = async { live.peer.send_request_with_option(request, options).await?.await_response().await };
    // The request has a limit of its own, which does not cover handing it to a stuck transport.
    match tokio::time::timeout(limit + Duration::from_secs(1), answer).await {
        Ok(Ok(_) | Err(ServiceError::McpError(_) | ServiceError::UnexpectedResponse)) => Ok(()),
        Ok(Err(ServiceError::Timeout { .. })) | Err(_) => Err(Miss::Silence),
        Ok(Err(error)) => Err(Miss::Transport(super::client::sentence(&error))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fake::{Era, Fake};
    use super::*;

    /// Longer than two signs of life, asked for and missed.
    const LONG: Duration = Duration::from_secs(120);

    async fn given_up(fake: &Fake) -> bool {
        tokio::time::timeout(LONG, watch(&fake.server, &fake.live)).await.is_ok()
    }

    fn give_up_calls(live: &Live) {
        for _ in 0..UNANSWERED_CALLS {
            let call = live.begin_call();
            live.end_call(call, true);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_of_life_makes_up_for_calls_that_were_given_up() {
        let fake = Fake::start(Era::Old, json!({}), |_, _| false).await;
        give_up_calls(&fake.live);
        assert!(!given_up(&fake).await);
        assert_eq!(fake.live.unanswered.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_given_up_unless_it_is_busy_for_good_reason() {
        let fake = Fake::start(Era::Old, json!({}), |message, _| message["method"] == "ping").await;
        assert!(given_up(&fake).await);
        let call = fake.live.begin_call();
        assert!(!given_up(&fake).await, "it may do one thing at a time");
        give_up_calls(&fake.live);
        assert!(!given_up(&fake).await, "it has not come to those that began later");
        fake.live.end_call(call, true);
        give_up_calls(&fake.live);
        fake.live.begin_call();
        assert!(given_up(&fake).await);
    }

    #[tokio::test(start_paused = true)]
    async fn no_call_waits_for_a_sign_of_life() {
        let fake = Fake::start(Era::New, json!({}), |_, _| false).await;
        let opened = fake.times("server/discover");
        let call = fake.live.begin_call();
        assert!(!given_up(&fake).await);
        assert_eq!(fake.times("server/discover"), opened);
        fake.live.end_call(call, false);
        assert!(!given_up(&fake).await);
        assert!(fake.times("server/discover") > opened);
    }
}
