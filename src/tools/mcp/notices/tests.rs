//! The rules by which progress and log lines find their call.

use serde_json::json;

use super::*;

/// A caller, and all it was told.
fn listener() -> (Arc<Caller>, Arc<Mutex<Vec<Value>>>) {
    let told: Arc<Mutex<Vec<Value>>> = Arc::default();
    let heard = told.clone();
    let listener = ProgressListener::new(move |progress| {
        heard.lock().unwrap().push(serde_json::to_value(progress).unwrap());
    });
    (Arc::new(Caller(listener)), told)
}

fn id(id: i64) -> RequestId {
    serde_json::from_value(json!(id)).unwrap()
}

fn tell(notices: &Notices, method: &str, params: &Value) -> bool {
    let notification = json!({"method": method, "params": params});
    notices.told(serde_json::from_value(notification).unwrap()).is_none()
}

fn log(notices: &Notices, text: &str) {
    assert!(tell(notices, "notifications/message", &json!({"level": "info", "logger": "db", "data": text})));
}

#[test]
fn progress_goes_to_its_own_call_until_that_is_answered() {
    let notices = Notices::new("demo");
    let ((one, first), (two, second)) = (listener(), listener());
    notices.sent(id(1), Arc::downgrade(&one));
    notices.sent(id(2), Arc::downgrade(&two));
    let progress = |of: Value, progress: f64| {
        let params = json!({"progressToken": of, "progress": progress, "total": 4, "message": "m"});
        assert!(tell(&notices, "notifications/progress", &params));
    };
    progress(json!(2), 1.0);
    progress(json!(1), 2.0);
    progress(json!("1"), 3.0);
    progress(json!(7), 3.0);
    notices.answered(&id(1));
    progress(json!(1), 4.0);
    let told =
        |progress: f64| json!({"type": "progress", "progress": progress, "total": 4.0, "message": "m"});
    assert_eq!(*first.lock().unwrap(), [told(2.0)]);
    assert_eq!(*second.lock().unwrap(), [told(1.0)]);
}

#[test]
fn a_log_line_without_a_request_goes_to_a_call_only_while_it_is_alone() {
    let notices = Notices::new("demo");
    let ((one, first), (two, second)) = (listener(), listener());
    log(&notices, "nobody");
    notices.sent(id(1), Arc::downgrade(&one));
    log(&notices, "alone");
    notices.sent(id(2), Arc::downgrade(&two));
    log(&notices, "of either");
    // The second is given up, but the server may go on with it.
    drop(two);
    log(&notices, "still of either");
    notices.answered(&id(2));
    log(&notices, "alone again");
    let told = |text: &str| json!({"type": "log", "level": "info", "logger": "db", "data": text});
    assert_eq!(*first.lock().unwrap(), [told("alone"), told("alone again")]);
    assert!(second.lock().unwrap().is_empty());
}

/// A server that stops as it was told answers nothing.
#[tokio::test(start_paused = true)]
async fn a_call_that_was_cancelled_keeps_log_lines_from_others_for_a_time() {
    let notices = Notices::new("demo");
    let ((one, first), (two, _)) = (listener(), listener());
    notices.sent(id(1), Arc::downgrade(&one));
    notices.sent(id(2), Arc::downgrade(&two));
    drop(two);
    tokio::time::advance(TIME_TO_STOP).await;
    log(&notices, "it was not told yet");
    notices.cancelled(&id(2));
    tokio::time::advance(TIME_TO_STOP - Duration::from_secs(1)).await;
    log(&notices, "it may still be at it");
    tokio::time::advance(Duration::from_secs(1)).await;
    log(&notices, "alone");
    assert_eq!(
        *first.lock().unwrap(),
        [json!({"type": "log", "level": "info", "logger": "db", "data": "alone"})]
    );
}

#[test]
fn a_log_line_of_a_request_goes_to_that_one_only() {
    let notices = Notices::new("demo");
    let ((one, first), (two, second)) = (listener(), listener());
    notices.sent(id(1), Arc::downgrade(&one));
    let line = |of: i64| {
        let params = json!({"level": "error", "data": {"n": of}, "_meta": {META_ANSWERS: of}});
        assert!(tell(&notices, "notifications/message", &params));
    };
    line(2);
    notices.sent(id(2), Arc::downgrade(&two));
    line(1);
    line(2);
    assert_eq!(*first.lock().unwrap(), [json!({"type": "log", "level": "error", "data": {"n": 1}})]);
    assert_eq!(*second.lock().unwrap(), [json!({"type": "log", "level": "error", "data": {"n": 2}})]);
}

#[test]
fn what_is_told_is_bounded() {
    let notices = Notices::new("demo");
    let (one, told) = listener();
    notices.sent(id(1), Arc::downgrade(&one));
    log(&notices, &"ä".repeat(MAX_DATA_BYTES));
    let params = json!({"level": "info", "data": {"deep": "x".repeat(MAX_DATA_BYTES)}});
    assert!(tell(&notices, "notifications/message", &params));
    let params = json!({"progressToken": 1, "progress": 1, "message": "x".repeat(MAX_TEXT_BYTES * 2)});
    assert!(tell(&notices, "notifications/progress", &params));
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|told| told.to_string().len() < MAX_DATA_BYTES + 100));
    assert!(told[1]["data"].as_str().unwrap().starts_with("{\"deep\":\"xx"));
}

#[tokio::test(start_paused = true)]
async fn after_too_many_requests_were_given_up_no_line_is_told_by_guess() {
    let notices = Notices::new("demo");
    for given_up in 0..MAX_REQUESTS {
        notices.sent(id(given_up as i64), Weak::new());
    }
    let (one, told) = listener();
    notices.sent(id(-1), Arc::downgrade(&one));
    assert_eq!(notices.state().under_way.len(), 1);
    log(&notices, "of whom?");
    assert!(told.lock().unwrap().is_empty());
    tokio::time::advance(TIME_TO_STOP).await;
    log(&notices, "of the only one");
    assert_eq!(told.lock().unwrap().len(), 1);
}

#[test]
fn other_notifications_pass() {
    let notices = Notices::new("demo");
    assert!(!tell(&notices, "notifications/resources/updated", &json!({"uri": "a:b"})));
}
