//! Counting, with a clock that is moved by hand.

use super::*;
use crate::access::grants::{BudgetPeriod, TokenBudget};
use crate::access::limits::TestClock;

fn meter() -> (Meter, Arc<TestClock>) {
    let clock = Arc::new(TestClock::default());
    (Meter::new(clock.clone(), None), clock)
}

fn per_minute(requests: u32) -> Limits {
    Limits { requests_per_minute: Some(requests), ..Limits::default() }
}

fn of(meter: &Meter, id: &str, limits: Limits) -> Rates {
    meter.rates(&[(Metered::Known(id), limits)]).unwrap()
}

#[test]
fn those_without_limits_are_not_counted() {
    let (meter, _) = meter();
    assert!(meter.rates(&[(Metered::Known("a"), Limits::default())]).is_none());
    assert!(meter.rates(&[]).is_none());
    assert_eq!(meter.known.lock().unwrap().len(), 0);
}

#[test]
fn requests_come_back_evenly() {
    let (meter, clock) = meter();
    let rates = of(&meter, "a", per_minute(3));
    (0..3).for_each(|_| rates.take_request().unwrap());
    let reached = rates.take_request().unwrap_err();
    assert_eq!((reached.kind, reached.limit), (LimitKind::Requests, 3));
    assert_eq!(reached.retry_after, Some(Duration::from_secs(20)));
    assert_eq!(reached.to_string(), "the limit of 3 requests per minute is reached; try again in 20s");
    let line = rates.report().requests.unwrap();
    assert_eq!((line.limit, line.remaining, line.reset), (3, 0, Duration::from_secs(60)));
    clock.advance_ms(20_000);
    // Another request of the same caller is counted together with the first ones.
    of(&meter, "a", per_minute(3)).take_request().unwrap();
    assert!(rates.take_request().is_err());
    of(&meter, "b", per_minute(3)).take_request().unwrap();
    let none = of(&meter, "c", per_minute(0)).take_request().unwrap_err();
    assert_eq!(none.retry_after, None);
}

#[test]
fn a_key_and_its_owner_are_both_counted_and_either_refuses() {
    let (meter, _) = meter();
    let both = |key: &str, limit| {
        let who = [(Metered::Known(key), per_minute(limit)), (Metered::Known("user:u"), per_minute(3))];
        meter.rates(&who).unwrap()
    };
    let (first, second) = (both("key:1", 2), both("key:2", 9));
    first.take_request().unwrap();
    first.take_request().unwrap();
    assert_eq!(first.take_request().unwrap_err().limit, 2);
    // The tighter one is shown.
    assert_eq!(second.report().requests.unwrap().limit, 3);
    second.take_request().unwrap();
    assert_eq!(second.take_request().unwrap_err().limit, 3);
    // What the owner's limit refused does not count for the key.
    assert_eq!(of(&meter, "key:2", per_minute(9)).report().requests.unwrap().remaining, 8);
}

#[test]
fn tokens_are_counted_afterwards() {
    let (meter, clock) = meter();
    let rates = of(&meter, "a", Limits { tokens_per_minute: Some(100), ..Limits::default() });
    assert!(rates.counts_tokens() && !of(&meter, "b", per_minute(1)).counts_tokens());
    rates.check_tokens().unwrap();
    rates.charge_tokens(250);
    let reached = rates.check_tokens().unwrap_err();
    assert_eq!((reached.kind, reached.retry_after), (LimitKind::Tokens, Some(Duration::from_millis(90_600))));
    assert_eq!(rates.report().tokens.unwrap().remaining, 0);
    // Requests have no limit here, and are not told of.
    rates.take_request().unwrap();
    assert_eq!(rates.report().requests, None);
    clock.advance_ms(90_600);
    rates.check_tokens().unwrap();
}

#[test]
fn a_budget_begins_anew_with_its_period() {
    let (meter, clock) = meter();
    let budget =
        |tokens, per| Limits { token_budget: Some(TokenBudget { tokens, per }), ..Limits::default() };
    let day = of(&meter, "a", budget(10, BudgetPeriod::Day));
    day.charge_tokens(9);
    day.check_budget().unwrap();
    day.charge_tokens(1);
    let spent = day.check_budget().unwrap_err();
    assert_eq!(spent.retry_after, Some(Duration::from_secs(3600)));
    assert_eq!(spent.to_string(), "the budget of 10 tokens a day is spent; try again in 1h0m0s");
    assert_eq!(of(&meter, "a", budget(11, BudgetPeriod::Month)).check_budget(), Ok(()));
    let ever = of(&meter, "a", budget(10, BudgetPeriod::Ever)).check_budget().unwrap_err();
    assert_eq!(ever.retry_after, None);
    clock.advance_ms(3_600_000);
    day.check_budget().unwrap();
    assert!(of(&meter, "a", budget(10, BudgetPeriod::Ever)).check_budget().is_err());
    assert_eq!(
        of(&meter, "a", budget(10, BudgetPeriod::Month)).words(LimitKind::Budget(BudgetPeriod::Ever)),
        ["a: 10 of 10 tokens spent"]
    );
}

#[test]
fn budgets_of_known_callers_outlive_the_gateway_and_strangers_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("usage.db");
    let budget = Limits {
        token_budget: Some(TokenBudget { tokens: 10, per: BudgetPeriod::Ever }),
        ..Limits::default()
    };
    let peer = Some(IpAddr::from([192, 0, 2, 1]));
    let start = || Meter::new(Arc::new(TestClock::default()), Some(UsageBook::open(&path).unwrap()));
    let meter = start();
    for who in [Metered::Known("key:a"), Metered::Stranger(peer)] {
        let rates = meter.rates(&[(who, budget.clone())]).unwrap();
        rates.charge_tokens(10);
        assert!(rates.check_budget().is_err());
    }
    drop(meter);
    let meter = start();
    assert!(meter.rates(&[(Metered::Known("key:a"), budget.clone())]).unwrap().check_budget().is_err());
    assert!(meter.rates(&[(Metered::Stranger(peer), budget)]).unwrap().check_budget().is_ok());
}

#[test]
fn streams_count_as_long_as_they_are_open() {
    let (meter, _) = meter();
    let limits = Limits { concurrent_streams: Some(2), ..Limits::default() };
    let rates = of(&meter, "a", limits.clone());
    let first = rates.open_stream(StreamKind::Answer).unwrap();
    let _second = of(&meter, "a", limits).open_stream(StreamKind::Answer).unwrap();
    let reached = rates.open_stream(StreamKind::Answer).unwrap_err();
    assert_eq!(
        reached.to_string(),
        "the limit of 2 streams at the same time is reached; let one of them end"
    );
    drop(first);
    drop(rates.open_stream(StreamKind::Answer).unwrap());
    let _third = rates.open_stream(StreamKind::Answer).unwrap();
    assert!(rates.open_stream(StreamKind::Answer).is_err());
    // Those that wait for news are counted by themselves.
    let news = [(); 2].map(|()| rates.open_stream(StreamKind::News).unwrap());
    assert!(rates.open_stream(StreamKind::News).is_err());
    drop(news);
    let _news = rates.open_stream(StreamKind::News).unwrap();
    assert!(rates.open_stream(StreamKind::Answer).is_err());
}

#[test]
fn a_refused_stream_takes_no_place_anywhere() {
    let (meter, _) = meter();
    let streams = |n| Limits { concurrent_streams: Some(n), ..Limits::default() };
    let key = of(&meter, "key", streams(2));
    let both =
        meter.rates(&[(Metered::Known("key"), streams(2)), (Metered::Known("user"), streams(0))]).unwrap();
    assert!(both.open_stream(StreamKind::Answer).is_err());
    let _one = key.open_stream(StreamKind::Answer).unwrap();
    let _two = key.open_stream(StreamKind::Answer).unwrap();
}

#[test]
fn strangers_count_by_their_network() {
    let of = |address: &str| network(Some(address.parse().unwrap()));
    assert_eq!(of("192.0.2.1"), "192.0.2.1");
    assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
    assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_eq!(network(None), "-");
}

#[test]
fn memory_is_bounded_and_those_who_are_in_use_stay() {
    let (meter, _) = meter();
    let limits = Limits { requests_per_minute: Some(1), concurrent_streams: Some(1), ..Limits::default() };
    let held = of(&meter, "held", limits.clone());
    let _stream = held.open_stream(StreamKind::Answer).unwrap();
    for n in 0..MAX_ACCOUNTS + 100 {
        of(&meter, &n.to_string(), limits.clone());
    }
    assert!(meter.known.lock().unwrap().len() <= MAX_ACCOUNTS);
    assert!(of(&meter, "held", limits.clone()).open_stream(StreamKind::Answer).is_err());
    // Strangers have a table of their own.
    let stranger = || meter.rates(&[(Metered::Stranger(None), limits.clone())]).unwrap();
    stranger().take_request().unwrap();
    assert!(stranger().take_request().is_err());
    assert_eq!(meter.strangers.lock().unwrap().len(), 1);
}
