//! The chain with scripted policies: what each answer does, alone and beside others.

mod limits;

use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::domain::{AccessAction, AccessRequest, Decision, Denial, HttpFacts, Principal, PrincipalKind};

type Answer = Result<Decision, PolicyError>;

/// Answers by script and remembers what it was asked.
struct Scripted {
    name: &'static str,
    order: i64,
    answer: Box<dyn Fn(&AccessRequest) -> Answer + Send + Sync>,
    asked: Arc<Mutex<Vec<AccessRequest>>>,
}

#[async_trait]
impl AuthPolicy for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    fn order(&self) -> i64 {
        self.order
    }

    async fn authorize(&self, request: &AccessRequest) -> Answer {
        self.asked.lock().unwrap().push(request.clone());
        (self.answer)(request)
    }
}

type Asked = Arc<Mutex<Vec<AccessRequest>>>;

fn policy(
    name: &'static str,
    order: i64,
    answer: impl Fn(&AccessRequest) -> Answer + Send + Sync + 'static,
) -> (Arc<dyn AuthPolicy>, Asked) {
    let asked = Asked::default();
    (Arc::new(Scripted { name, order, answer: Box::new(answer), asked: Arc::clone(&asked) }), asked)
}

fn says(name: &'static str, order: i64, answer: Answer) -> (Arc<dyn AuthPolicy>, Asked) {
    policy(name, order, move |_| answer.clone())
}

fn named(id: &str) -> Answer {
    Ok(Decision::Allow(Some(Principal::new(id, PrincipalKind::User))))
}

fn deny(status: u16, reason: &str) -> Answer {
    Ok(Decision::Deny(Denial { status, reason: reason.to_owned(), policy: String::new() }))
}

fn failing() -> Answer {
    Err(PolicyError::new("inner detail"))
}

fn access_of(chat: ChatAccess, set: PolicySet) -> Access {
    let key = Secret::new("k".to_owned());
    Access::new(&Config { chat, ..Config::default() }, Some(&key), Arc::new(FixedPolicies(Arc::new(set))))
}

fn access(chat: ChatAccess, answers: Vec<Answer>) -> Access {
    let names = ["a", "b", "c", "d"];
    let policies = answers.into_iter().zip(names).map(|(answer, name)| says(name, 0, answer).0).collect();
    access_of(chat, PolicySet::new(policies, Vec::new()))
}

fn facts() -> HttpFacts {
    HttpFacts {
        method: "GET".to_owned(),
        path: "/v1/models".to_owned(),
        query: None,
        authority: None,
        headers: Vec::new(),
        peer: None,
    }
}

fn entry_for(door: Door, credential: Credential<'_>) -> Entry<'_> {
    Entry {
        request_id: RequestId::generate(),
        door,
        credential,
        peer: None,
        trace_id: None,
        foreign_page: None,
        rate_slot: None,
    }
}

async fn enter(access: &Access, door: Door, key: Option<&str>) -> Result<AccessScope, AccessError> {
    let credential = key.map_or(Credential::None, Credential::Key);
    access.enter(entry_for(door, credential), facts).await
}

/// The principal's id, or the refusal's status.
async fn outcome(access: &Access, door: Door, key: Option<&str>) -> Result<String, u16> {
    let scope = enter(access, door, key).await.map_err(|error| error.status())?;
    Ok(scope.principal().id.clone())
}

#[tokio::test]
async fn without_policies_only_the_built_in_rule_counts_and_nothing_is_read() {
    let access = access(ChatAccess::Required, Vec::new());
    let entry = |credential| entry_for(Door::Chat, credential);
    let never = || -> HttpFacts { panic!("nobody reads the facts") };
    let scope = access.enter(entry(Credential::Key("k")), never).await.unwrap();
    assert_eq!(scope.principal().id, "key:static");
    assert!(!scope.has_policies());
    assert_eq!(access.enter(entry(Credential::None), facts).await.unwrap_err(), AccessError::Missing);
    scope.model("m", &["m"]).await.unwrap();
    scope.tool("chat", "t", "s", "{}").await.unwrap();
}

#[tokio::test]
async fn a_policy_can_stand_in_for_keys() {
    let config = Config { chat: ChatAccess::Required, ..Config::default() };
    let set = PolicySet::new(vec![says("a", 0, named("alice")).0], Vec::new());
    let access = Access::new(&config, None, Arc::new(FixedPolicies(Arc::new(set))));
    assert_eq!(outcome(&access, Door::Chat, None).await.unwrap(), "a:alice");
}

#[tokio::test]
async fn answers_add_up() {
    let abstain = || Ok(Decision::Abstain);
    let allow = || Ok(Decision::Allow(None));
    // (answers in order, with the key, without a key); `chat` is required.
    type Row = (Vec<Answer>, Result<&'static str, u16>, Result<&'static str, u16>);
    let table: Vec<Row> = vec![
        (vec![abstain()], Ok("key:static"), Err(401)),
        (vec![allow()], Ok("key:static"), Ok("anonymous")),
        (vec![abstain(), allow(), abstain()], Ok("key:static"), Ok("anonymous")),
        (vec![named("x")], Ok("a:x"), Ok("a:x")),
        (vec![named("x"), abstain()], Ok("a:x"), Ok("a:x")),
        (vec![named("x"), allow()], Ok("a:x"), Ok("a:x")),
        (vec![allow(), named("x")], Ok("b:x"), Ok("b:x")),
        (vec![named("x"), named("y")], Ok("b:y"), Ok("b:y")),
        (vec![deny(403, "no")], Err(403), Err(403)),
        (vec![named("x"), allow(), deny(404, "no")], Err(404), Err(404)),
        (vec![deny(429, "no"), named("x")], Err(429), Err(429)),
        (vec![deny(401, "no"), failing()], Err(401), Err(401)),
        (vec![deny(200, "no")], Err(403), Err(403)),
        (vec![deny(503, "no")], Err(403), Err(403)),
        (vec![failing()], Err(503), Err(503)),
        (vec![named("x"), failing()], Err(503), Err(503)),
        (vec![failing(), allow()], Err(503), Err(503)),
    ];
    for (row, (answers, with_key, without)) in table.into_iter().enumerate() {
        let access = access(ChatAccess::Required, answers);
        let expected = |outcome: Result<&str, u16>| outcome.map(str::to_owned);
        assert_eq!(outcome(&access, Door::Chat, Some("k")).await, expected(with_key), "row {row}, key");
        assert_eq!(outcome(&access, Door::Chat, None).await, expected(without), "row {row}, no key");
    }
}

#[tokio::test]
async fn open_access_stays_open_unless_a_policy_objects() {
    let open = |answer| access(ChatAccess::Open, vec![answer]);
    assert_eq!(outcome(&open(Ok(Decision::Abstain)), Door::Chat, None).await.unwrap(), "anonymous");
    assert_eq!(outcome(&open(deny(401, "no")), Door::Chat, None).await, Err(401));
    let id = outcome(&open(Ok(Decision::Allow(None))), Door::Chat, Some("mine")).await.unwrap();
    assert!(id.starts_with("anonymous:"), "{id}: keys still keep sessions apart");
}

#[tokio::test]
async fn guarded_doors_want_a_name_and_a_scope() {
    let door = Door::Guarded("plugins");
    let with = |answer| access(ChatAccess::Open, vec![answer]);
    let scoped = |kind| {
        let mut principal = Principal::new("ops", kind);
        principal.scopes = vec!["plugins".to_owned()];
        Ok(Decision::Allow(Some(principal)))
    };
    assert_eq!(outcome(&with(Ok(Decision::Abstain)), door, Some("k")).await.unwrap(), "key:static");
    assert_eq!(outcome(&with(Ok(Decision::Allow(None))), door, None).await, Err(401));
    assert_eq!(outcome(&with(named("alice")), door, None).await, Err(403));
    assert_eq!(outcome(&with(scoped(PrincipalKind::User)), door, None).await.unwrap(), "a:ops");
    assert_eq!(outcome(&with(scoped(PrincipalKind::Anonymous)), door, None).await, Err(401));
}

#[tokio::test]
async fn policies_are_asked_by_order_and_name_and_see_who_came_before() {
    let (late, seen_late) = says("a-late", 10, Ok(Decision::Abstain));
    let (second, seen_second) = says("c", -1, named("bob"));
    let (first, seen_first) = says("b", -1, Ok(Decision::Abstain));
    let access = access_of(ChatAccess::Open, PolicySet::new(vec![late, second, first], Vec::new()));
    let scope = enter(&access, Door::Chat, None).await.unwrap();
    scope.tool("chat", "t", "s", "{}").await.unwrap();

    let seen = |asked: &Asked| -> Vec<Option<String>> {
        let id = |request: &AccessRequest| request.principal.as_ref().map(|p| p.id.clone());
        asked.lock().unwrap().iter().map(id).collect()
    };
    let bob = || Some("c:bob".to_owned());
    // An anonymous caller is nobody that policies are told of.
    assert_eq!(seen(&seen_first), [None, bob()]);
    assert_eq!(seen(&seen_second), [None, bob()]);
    assert_eq!(seen(&seen_late), [bob(), bob()]);
    let asked = seen_late.lock().unwrap();
    assert_eq!(asked[1].action, tool_action("t"));
    assert_eq!(asked[1].http.as_ref().unwrap().path, "/v1/models");
    assert_eq!(asked[0].request_id, asked[1].request_id);
}

fn tool_action(name: &str) -> AccessAction {
    AccessAction::Tool { name: name.to_owned(), server: "s".to_owned(), arguments: "{}".to_owned() }
}

#[tokio::test]
async fn models_and_tools_are_decided_on_one_by_one() {
    let (policy, _) = policy("p", 0, |request| match &request.action {
        AccessAction::Endpoint => named("alice"),
        AccessAction::Model(id) if id == "secret" => deny(404, "there is no such model"),
        AccessAction::Tool { name, .. } if name == "drop" => deny(403, " not\nfor you "),
        AccessAction::Tool { name, .. } if name == "odd" => failing(),
        // Too late to become somebody else.
        AccessAction::Tool { .. } => named("mallory"),
        AccessAction::Model(_) => Ok(Decision::Abstain),
    });
    let access = access_of(ChatAccess::Required, PolicySet::new(vec![policy], Vec::new()));
    let scope = enter(&access, Door::Chat, None).await.unwrap();
    scope.model("open", &["open"]).await.unwrap();
    assert_eq!(scope.model("secret", &["secret"]).await.unwrap_err().status(), 404);
    scope.tool("chat", "list", "s", "{}").await.unwrap();
    assert_eq!(scope.principal().id, "p:alice");
    let refusal = scope.tool("chat", "drop", "s", "{}").await.unwrap_err();
    assert_eq!((refusal.status(), refusal.to_string().as_str()), (403, "not for you"));
    let failure = scope.tool("chat", "odd", "s", "{}").await.unwrap_err();
    assert_eq!(failure.status(), 503);
    assert_eq!(failure.to_string(), "the access policy `p` failed; try again or ask the operator");
}

#[tokio::test]
async fn a_request_keeps_the_policies_it_came_in_with() {
    struct Changing(Mutex<Vec<Arc<PolicySet>>>);
    impl PolicySource for Changing {
        fn snapshot(&self) -> Arc<PolicySet> {
            self.0.lock().unwrap().pop().unwrap()
        }
    }
    let set = |answer| Arc::new(PolicySet::new(vec![says("p", 0, answer).0], Vec::new()));
    let sets = vec![set(deny(403, "new")), set(Ok(Decision::Abstain))];
    let source = Arc::new(Changing(Mutex::new(sets)));
    let access = Access::new(&Config::default(), None, source);
    let old = enter(&access, Door::Chat, None).await.unwrap();
    assert!(enter(&access, Door::Chat, None).await.is_err());
    old.tool("chat", "t", "s", "{}").await.unwrap();
}

#[tokio::test]
async fn nobody_can_take_a_name_of_the_gateways_own() {
    for name in ["key", "anonymous", "user", "a:b", ""] {
        let set = PolicySet::new(vec![says(name, 0, named("static")).0], Vec::new());
        let access = access_of(ChatAccess::Open, set);
        assert_eq!(outcome(&access, Door::Chat, Some("k")).await, Err(503), "{name}");
    }
    let access = access(ChatAccess::Open, vec![named("key:static")]);
    assert_eq!(outcome(&access, Door::Chat, None).await.unwrap(), "a:key:static");
    // Handing back the caller one was shown is no new name.
    let (echo, _) = policy("echo", 0, |request| Ok(Decision::Allow(request.principal.clone())));
    let access = access_of(ChatAccess::Open, PolicySet::new(vec![echo], Vec::new()));
    assert_eq!(outcome(&access, Door::Chat, Some("k")).await.unwrap(), "key:static");
}

#[tokio::test]
async fn nonsense_for_a_principal_is_a_failure() {
    let long = "x".repeat(257);
    for id in ["", "a\nb", &long] {
        let access = access(ChatAccess::Open, vec![named(id)]);
        assert_eq!(outcome(&access, Door::Chat, None).await, Err(503), "{id:?}");
    }
    for (claims, is_taken) in [("", true), ("{\"a\":[1]}", true), ("[]", false), ("{", false)] {
        let mut principal = Principal::new("x", PrincipalKind::User);
        principal.claims_json = claims.to_owned();
        let access = access(ChatAccess::Open, vec![Ok(Decision::Allow(Some(principal)))]);
        assert_eq!(outcome(&access, Door::Chat, None).await.is_ok(), is_taken, "{claims}");
    }
}

#[tokio::test]
async fn a_policy_that_is_missing_refuses_everybody() {
    let set = PolicySet::new(vec![says("a", 0, named("x")).0], vec!["guard".to_owned()]);
    assert!(!set.is_empty());
    let access = access_of(ChatAccess::Open, set);
    for (door, key) in [(Door::Chat, None), (Door::Chat, Some("k")), (Door::Guarded("plugins"), Some("k"))] {
        let error = enter(&access, door, key).await.unwrap_err();
        assert_eq!(error, AccessError::PluginMissing("guard".to_owned()));
        assert_eq!((error.status(), error.to_string().contains("`guard`")), (503, true));
    }
    assert!(!PolicySet::new(Vec::new(), vec!["guard".to_owned()]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_hangs_is_a_failure() {
    struct Hangs;
    #[async_trait]
    impl AuthPolicy for Hangs {
        fn name(&self) -> &str {
            "hangs"
        }

        fn order(&self) -> i64 {
            0
        }

        async fn authorize(&self, _: &AccessRequest) -> Answer {
            std::future::pending().await
        }
    }
    let access = access_of(ChatAccess::Open, PolicySet::new(vec![Arc::new(Hangs)], Vec::new()));
    assert_eq!(outcome(&access, Door::Chat, Some("k")).await, Err(503));
}
