//! Limits as part of the chain: whom they count for, and in which order the rules speak.

use super::*;
use crate::access::limits::TestClock;

const MINUTE_MS: u64 = 60_000;

fn limited(limits: DefaultLimits, answers: Vec<Answer>) -> (Access, Arc<TestClock>) {
    let clock = Arc::new(TestClock::default());
    let names = ["a", "b"];
    let policies = answers.into_iter().zip(names).map(|(answer, name)| says(name, 0, answer).0).collect();
    let config = Config { limits, ..Config::default() };
    let key = Secret::new("k".to_owned());
    let set = Arc::new(FixedPolicies(Arc::new(PolicySet::new(policies, Vec::new()))));
    (Access::new(&config, Some(&key), set).with_clock(clock.clone()), clock)
}

fn one_request() -> Limits {
    Limits { requests_per_minute: Some(1), ..Limits::default() }
}

async fn from(access: &Access, peer: [u8; 4], key: Option<&str>) -> Result<String, String> {
    let slot = RateSlot::default();
    let mut entry = entry_for(Door::Chat, key.map_or(Credential::None, Credential::Key));
    entry.peer = Some(IpAddr::from(peer));
    entry.rate_slot = Some(&slot);
    let entered = access.enter(entry, facts).await;
    let is_limited = slot.get().is_some_and(|rates| rates.report().requests.is_some());
    match entered {
        Ok(scope) => Ok(format!("{} {is_limited}", scope.principal().id)),
        Err(error) => Err(format!("{} {is_limited}", error.rule())),
    }
}

#[tokio::test]
async fn strangers_count_by_their_address_whatever_key_they_make_up() {
    let limits = DefaultLimits { anonymous: one_request(), ..DefaultLimits::default() };
    let (access, clock) = limited(limits, Vec::new());
    let (here, there) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    assert!(from(&access, here, Some("made-up")).await.unwrap().ends_with("true"));
    assert_eq!(from(&access, here, Some("another")).await.unwrap_err(), "rate:requests true");
    assert_eq!(from(&access, here, None).await.unwrap_err(), "rate:requests true");
    from(&access, there, None).await.unwrap();
    // Whoever is known has limits of its own, here none.
    assert_eq!(from(&access, here, Some("k")).await.unwrap(), "key:static false");
    clock.advance_ms(MINUTE_MS);
    from(&access, here, None).await.unwrap();
}

#[tokio::test]
async fn those_whom_a_policy_names_count_by_that_name() {
    let limits = DefaultLimits { anonymous: one_request(), user: one_request(), ..DefaultLimits::default() };
    let (access, _) = limited(limits.clone(), vec![named("x")]);
    assert_eq!(from(&access, [192, 0, 2, 1], None).await.unwrap(), "a:x true");
    assert_eq!(from(&access, [192, 0, 2, 2], None).await.unwrap_err(), "rate:requests true");
    // A key of our own that is given another name counts for both.
    let limits = DefaultLimits { service: one_request(), ..limits };
    let (access, _) = limited(limits, vec![named("x")]);
    assert_eq!(from(&access, [192, 0, 2, 1], Some("k")).await.unwrap(), "a:x true");
    assert_eq!(from(&access, [192, 0, 2, 1], Some("k")).await.unwrap_err(), "rate:requests true");
}

#[tokio::test]
async fn scopes_and_limits_come_before_the_policies() {
    let limits = DefaultLimits { service: one_request(), ..DefaultLimits::default() };
    let (access, _) = limited(limits, vec![deny(403, "no")]);
    assert_eq!(outcome(&access, Door::Guarded("admin"), Some("k")).await, Err(403));
    assert_eq!(from(&access, [192, 0, 2, 1], Some("k")).await.unwrap_err(), "plugin:a true");
    assert_eq!(from(&access, [192, 0, 2, 1], Some("k")).await.unwrap_err(), "rate:requests true");
}

#[tokio::test]
async fn a_trace_tells_every_rule_in_order_and_the_one_that_decides() {
    let budget = TokenBudget { tokens: 5, per: BudgetPeriod::Day };
    let service = Limits {
        requests_per_minute: Some(9),
        tokens_per_minute: Some(7),
        token_budget: Some(budget),
        ..Limits::default()
    };
    let limits = DefaultLimits { service, ..DefaultLimits::default() };
    let (access, _) = limited(limits, vec![Ok(Decision::Abstain)]);
    let trace = Trace::listening();
    let entry = entry_for(Door::Chat, Credential::Key("k"));
    let who = access.identity.identify(Door::Chat, Credential::Key("k"));
    let scope = access.admit(who, entry, Some(facts), trace.clone()).await.unwrap();
    scope.model("m", &["m"]).await.unwrap();
    scope.check_call("chat", "t", "s__t").unwrap();
    scope.tool("chat", "t", "s", "{}").await.unwrap();
    let told = |steps: &[Step]| -> Vec<String> {
        steps.iter().map(|step| format!("{} {:?}", step.rule, step.verdict)).collect()
    };
    let wanted = [
        "credential Allowed",
        "scope Allowed",
        "rate:requests Allowed",
        "plugin:a NoOpinion",
        "rate:tokens Allowed",
        "budget Allowed",
        "plugin:a NoOpinion",
        "scope Allowed",
        "plugin:a NoOpinion",
    ];
    assert_eq!(told(&trace.steps()), wanted);
    scope.charge_tokens(6);
    assert_eq!(scope.model("m", &["m"]).await.unwrap_err().rule(), "budget");
    assert_eq!(told(&trace.steps()[wanted.len()..]), ["rate:tokens Allowed", "budget Denied"]);
    scope.charge_tokens(1);
    assert_eq!(scope.model("m", &["m"]).await.unwrap_err().rule(), "rate:tokens");
}

#[tokio::test]
async fn only_the_own_names_of_a_model_count() {
    let (access, _) = limited(DefaultLimits::default(), Vec::new());
    let mut who = access.identity.identify(Door::Chat, Credential::Key("k"));
    let grants = Grants { models: vec!["small-*".to_owned()], ..Grants::of_scopes(&["chat"]) };
    who.grants = Arc::new(grants.into());
    let entry = entry_for(Door::Chat, Credential::Key("k"));
    let scope = access.admit(who, entry, Some(facts), Trace::default()).await.unwrap();
    scope.model("any-alias", &["small-1"]).await.unwrap();
    scope.model("small-alias", &["small-1", "small-2"]).await.unwrap();
    let refusal = scope.model("small-alias", &["small-1", "large"]).await.unwrap_err();
    assert_eq!(refusal, AccessError::ModelNotAllowed("small-alias".to_owned()));
    assert!(scope.model("", &["large"]).await.unwrap_err().to_string().contains("default model"));
}
