//! Users and keys, through the handle that everybody else has too.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::access::grants::Grants;

mod bounds;

const NOW: u64 = 1_000_000_000_000;

/// Accounts with a clock that stands still until it is moved.
async fn accounts(path: Option<&Path>) -> (Accounts, Arc<AtomicU64>) {
    let time = Arc::new(AtomicU64::new(NOW));
    let clock = Arc::clone(&time);
    let clock: Clock = Arc::new(move || clock.load(Ordering::SeqCst));
    (Accounts::start(path.map(Path::to_owned), Some(TokenSettings::default()), clock).await.unwrap(), time)
}

async fn in_memory() -> Accounts {
    accounts(None).await.0
}

fn new_user(name: &str, role: Role) -> NewUser {
    NewUser { name: name.to_owned(), password: None, role, grants: Grants::default() }
}

fn new_key(scopes: &[&str]) -> NewApiKey {
    NewApiKey { name: "script".to_owned(), grants: Grants::of_scopes(scopes), expires_ms: None }
}

fn scopes(scopes: &[&str]) -> GrantsPatch {
    GrantsPatch { scopes: Some(Grants::of_scopes(scopes).scopes), ..GrantsPatch::default() }
}

fn scopes_of(accounts: &Accounts, key: &CreatedKey) -> Option<Vec<String>> {
    match accounts.check_key(key.key.expose()).unwrap() {
        KeyCheck::Valid { key, .. } => {
            let held = crate::access::grants::SCOPES.into_iter().filter(|scope| key.grants.has(scope));
            Some(held.map(str::to_owned).collect())
        }
        _ => None,
    }
}

#[tokio::test]
async fn users_are_made_changed_and_deleted() {
    let accounts = in_memory().await;
    let (one, two) = (new_user("Zoë 王", Role::User), new_user("robot", Role::Service));
    let (one, two) = (accounts.create_user(one).await.unwrap(), accounts.create_user(two).await.unwrap());
    assert_eq!((one.name.as_str(), one.has_password, one.created_ms), ("Zoë 王", false, NOW));
    assert_eq!(accounts.user(one.id).await.unwrap(), one);
    assert_eq!(accounts.user_named("robot").await.unwrap(), two);
    let taken = accounts.create_user(new_user("robot", Role::User)).await.unwrap_err();
    assert_eq!(taken, AccountError::NameTaken("robot".to_owned()));
    let patch = UserPatch { name: Some("robot".to_owned()), ..UserPatch::default() };
    assert!(accounts.update_user(one.id, patch).await.is_err());
    let patch = UserPatch { name: Some("zoe".to_owned()), is_disabled: Some(true), ..UserPatch::default() };
    let changed = accounts.update_user(one.id, patch).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.is_disabled, changed.role), ("zoe", true, Role::User));
    assert_eq!(accounts.user(one.id).await.unwrap(), changed);
    let listing = accounts.users(Page { offset: 1, limit: 5 }).await.unwrap();
    assert_eq!((listing.items, listing.total), (vec![two.clone()], 2));
    accounts.delete_user(two.id).await.unwrap();
    assert_eq!(accounts.user(two.id).await.unwrap_err(), AccountError::NoUser(two.id));
    let three = accounts.create_user(new_user("robot", Role::User)).await.unwrap();
    assert!(three.id > two.id, "a number is never given twice");
}

#[tokio::test]
async fn nonsense_is_refused_with_the_name_of_the_field() {
    let accounts = in_memory().await;
    let field = |error: AccountError| match error {
        AccountError::Invalid { field, .. } => field,
        other => panic!("{other}"),
    };
    for name in ["", " a", "a\u{7}b", "a\n", &"x".repeat(129)] {
        let refusal = accounts.create_user(new_user(name, Role::User)).await.unwrap_err();
        assert_eq!(field(refusal), "name", "{name:?}");
    }
    for (role, password) in
        [(Role::User, "1234567"), (Role::User, &"x".repeat(1025)), (Role::Service, "12345678")]
    {
        let user = NewUser { password: Some(password.into()), ..new_user("a", role) };
        assert_eq!(field(accounts.create_user(user).await.unwrap_err()), "password");
    }
    let user = NewUser { grants: Grants::of_scopes(&["root"]), ..new_user("a", Role::User) };
    assert_eq!(field(accounts.create_user(user).await.unwrap_err()), "scopes");
    let user = accounts.create_user(new_user("a", Role::User)).await.unwrap();
    assert_eq!(field(accounts.create_key(user.id, new_key(&[])).await.unwrap_err()), "scopes");
    let late = NewApiKey { expires_ms: Some(NOW), ..new_key(&["chat"]) };
    assert_eq!(field(accounts.create_key(user.id, late).await.unwrap_err()), "expires_at");
}

#[tokio::test]
async fn somebody_can_always_log_in_as_admin() {
    let accounts = in_memory().await;
    let admin = |name: &str| NewUser { password: Some("long enough".into()), ..new_user(name, Role::Admin) };
    let first = accounts.create_user(admin("first")).await.unwrap();
    // This one cannot log in, so it does not count.
    accounts.create_user(new_user("other", Role::Admin)).await.unwrap();
    let demoted = UserPatch { role: Some(Role::User), ..UserPatch::default() };
    let disabled = UserPatch { is_disabled: Some(true), ..UserPatch::default() };
    for patch in [&demoted, &disabled] {
        let refusal = accounts.update_user(first.id, patch.clone()).await.unwrap_err();
        assert_eq!(refusal, AccountError::LastAdmin);
    }
    assert_eq!(accounts.delete_user(first.id).await.unwrap_err(), AccountError::LastAdmin);
    let second = accounts.create_user(admin("second")).await.unwrap();
    accounts.update_user(first.id, disabled).await.unwrap();
    assert_eq!(accounts.delete_user(second.id).await.unwrap_err(), AccountError::LastAdmin);
    accounts.delete_user(first.id).await.unwrap();
}

#[tokio::test]
async fn a_key_can_do_what_it_was_given_within_what_its_owner_may() {
    let accounts = in_memory().await;
    let user = accounts.create_user(new_user("a", Role::User)).await.unwrap();
    let refusal = accounts.create_key(user.id, new_key(&["chat", "plugins"])).await.unwrap_err();
    assert_eq!(refusal, AccountError::ScopeNotHeld("plugins".to_owned()));
    let key = accounts.create_key(user.id, new_key(&["chat", "tools:call:read_*"])).await.unwrap();
    assert_eq!(scopes_of(&accounts, &key).unwrap(), ["chat", "tools:call"]);
    let Some(KeyCheck::Valid { key: entry, owner }) = accounts.check_key(key.key.expose()) else { panic!() };
    assert_eq!(entry.principal.id, format!("key:{}", key.info.id));
    assert_eq!(
        entry.principal.claims_json,
        format!("{{\"name\":\"script\",\"owner\":\"user:{}\"}}", user.id)
    );
    assert_eq!((owner.principal.id.clone(), entry.principal.scopes.len()), (format!("user:{}", user.id), 2));
    assert!(
        entry.grants.call("read_a", "s__read_a").is_ok() && entry.grants.call("drop", "s__drop").is_err()
    );
    // The owner is narrowed, and its key with it.
    let patch = UserPatch { grants: scopes(&["chat"]), ..UserPatch::default() };
    accounts.update_user(user.id, patch).await.unwrap();
    assert_eq!(scopes_of(&accounts, &key).unwrap(), ["chat"]);
    let patch = UserPatch { is_disabled: Some(true), ..UserPatch::default() };
    accounts.update_user(user.id, patch).await.unwrap();
    assert!(matches!(accounts.check_key(key.key.expose()), Some(KeyCheck::Revoked)));
    accounts.delete_user(user.id).await.unwrap();
    assert_eq!(accounts.key(&key.info.id).await.unwrap().revoked_ms, Some(NOW));
    let service = accounts.create_user(new_user("s", Role::Service)).await.unwrap();
    assert!(
        accounts.create_key(service.id, new_key(&["chat"])).await.is_err(),
        "a service has what it was given"
    );
}

#[tokio::test]
async fn keys_end_and_say_so() {
    let (accounts, time) = accounts(None).await;
    let user = accounts.create_user(new_user("a", Role::User)).await.unwrap();
    let expiring = NewApiKey { expires_ms: Some(NOW + 1000), ..new_key(&["chat"]) };
    let expiring = accounts.create_key(user.id, expiring).await.unwrap();
    let revoked = accounts.create_key(user.id, new_key(&["chat"])).await.unwrap();
    let check = |key: &CreatedKey| accounts.check_key(key.key.expose()).unwrap();
    assert!(matches!(check(&expiring), KeyCheck::Valid { .. }));
    time.fetch_add(1000, Ordering::SeqCst);
    assert!(matches!(check(&expiring), KeyCheck::Expired));
    let info = accounts.revoke_key(&revoked.info.id).await.unwrap();
    assert_eq!(info.revoked_ms, Some(NOW + 1000));
    assert!(matches!(check(&revoked), KeyCheck::Revoked));
    time.fetch_add(1000, Ordering::SeqCst);
    assert_eq!(accounts.revoke_key(&revoked.info.id).await.unwrap().revoked_ms, Some(NOW + 1000));
    assert_eq!(accounts.revoke_key("nobody").await.unwrap_err(), AccountError::NoKey("nobody".to_owned()));
    // Somebody who knows an id does not learn what became of the key.
    let (right, wrong) = (revoked.key.expose(), if revoked.key.expose().ends_with('a') { "b" } else { "a" });
    let wrong = format!("{}{wrong}", &right[..right.len() - 1]);
    assert!(matches!(accounts.check_key(&wrong), Some(KeyCheck::Unknown)));
    assert!(accounts.check_key("sk-something").is_none());
    let mine = accounts.keys(Some(user.id), Page::default()).await.unwrap();
    let ids: Vec<String> = mine.items.iter().map(|key| key.id.clone()).collect();
    assert_eq!((ids, mine.total), (vec![revoked.info.id, expiring.info.id], 2));
    assert_eq!(accounts.keys(Some(user.id + 1), Page::default()).await.unwrap().total, 0);
}

#[tokio::test]
async fn everything_is_there_after_a_restart_and_no_secret_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/access.db");
    let (first, _) = accounts(Some(&path)).await;
    let password = NewUser { password: Some("correct horse".into()), ..new_user("a", Role::User) };
    let user = first.create_user(password).await.unwrap();
    let key = first.create_key(user.id, new_key(&["chat"])).await.unwrap();
    assert!(scopes_of(&first, &key).is_some());
    assert_eq!(first.key(&key.info.id).await.unwrap().last_used_ms, Some(NOW));
    drop(first);
    let bytes = std::fs::read(&path).unwrap();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&key.info.id) && !holds("correct horse") && !holds(&key.key.expose()[16..]));
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
    let (second, _) = accounts(Some(&path)).await;
    assert_eq!(second.user(user.id).await.unwrap(), user);
    assert_eq!(second.key(&key.info.id).await.unwrap().last_used_ms, Some(NOW), "written down at the end");
    assert!(scopes_of(&second, &key).is_some());
}

#[tokio::test]
async fn what_another_process_does_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.db");
    let ((here, _), (there, _)) = (accounts(Some(&path)).await, accounts(Some(&path)).await);
    let user = there.create_user(new_user("a", Role::User)).await.unwrap();
    let key = there.create_key(user.id, new_key(&["chat"])).await.unwrap();
    let becomes = async |wanted: fn(KeyCheck) -> bool| {
        let limit = tokio::time::Instant::now() + Duration::from_secs(20);
        while !wanted(here.check_key(key.key.expose()).unwrap()) {
            assert!(tokio::time::Instant::now() < limit, "the change was not taken in");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    becomes(|check| matches!(check, KeyCheck::Valid { .. })).await;
    there.revoke_key(&key.info.id).await.unwrap();
    becomes(|check| matches!(check, KeyCheck::Revoked)).await;
}

#[tokio::test]
async fn a_file_of_another_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.db");
    std::fs::write(
        &path,
        "this is a diary, and long enough for no database header at all ..........................",
    )
    .unwrap();
    let error = Accounts::open(&path).await.err().unwrap().to_string();
    assert!(error.contains("access.db"), "{error}");
    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let error = Accounts::open(&path).await.err().unwrap().to_string();
    assert!(error.contains("another program"), "{error}");
}

async fn with_password(accounts: &Accounts, name: &str, role: Role) -> User {
    let user = NewUser { password: Some("right password".into()), ..new_user(name, role) };
    accounts.create_user(user).await.unwrap()
}

#[tokio::test]
async fn a_login_is_good_until_something_about_the_user_changes() {
    let accounts = Accounts::in_memory().await.unwrap();
    with_password(&accounts, "boss", Role::Admin).await;
    let user = with_password(&accounts, "a", Role::User).await;
    let login = async || accounts.login("a", "right password".into(), None).await.unwrap();
    let check = |login: &Login| accounts.check_token(login.token.expose()).unwrap();
    let patch = |change: fn(&mut UserPatch)| {
        let mut patch = UserPatch::default();
        change(&mut patch);
        accounts.update_user(user.id, patch)
    };
    let first = login().await;
    assert_eq!((first.expires_in, first.user.name.as_str()), (3600, "a"));
    assert!(first.user.last_login_ms.is_some() && accounts.user(user.id).await.unwrap() == first.user);
    let UserCheck::Valid(found) = check(&first) else { panic!() };
    assert_eq!(found.principal.id, format!("user:{}", user.id));
    assert_eq!(found.principal.claims_json, "{\"name\":\"a\",\"role\":\"user\"}");
    assert_eq!(found.principal.scopes, ["chat", "tools:list", "tools:call"]);
    // Grants are looked up; they end nothing.
    patch(|patch| patch.grants = scopes(&["chat"])).await.unwrap();
    let UserCheck::Valid(found) = check(&first) else { panic!() };
    assert_eq!(found.principal.scopes, ["chat"]);
    patch(|patch| patch.role = Some(Role::Admin)).await.unwrap();
    assert!(matches!(check(&first), UserCheck::Ended));
    let second = login().await;
    accounts.set_password(user.id, "another password".into()).await.unwrap();
    assert!(matches!(check(&second), UserCheck::Ended));
    assert_eq!(accounts.login("a", "right password".into(), None).await.unwrap_err(), LoginError::Refused);
    accounts.set_password(user.id, "right password".into()).await.unwrap();
    let third = login().await;
    patch(|patch| patch.is_disabled = Some(true)).await.unwrap();
    assert!(matches!(check(&third), UserCheck::Ended));
    assert_eq!(accounts.login("a", "right password".into(), None).await.unwrap_err(), LoginError::Refused);
    patch(|patch| patch.is_disabled = Some(false)).await.unwrap();
    assert!(matches!(check(&third), UserCheck::Ended), "what has ended does not come back");
    let fourth = login().await;
    accounts.delete_user(user.id).await.unwrap();
    assert!(matches!(check(&fourth), UserCheck::Ended));
    assert!(matches!(accounts.check_token(&format!("{}x", fourth.token.expose())), Some(UserCheck::Invalid)));
    for name in ["a", "nobody", ""] {
        let refusal = accounts.login(name, "right password".into(), None).await.unwrap_err();
        assert_eq!(refusal, LoginError::Refused, "{name}");
    }
}

#[tokio::test]
async fn a_change_is_made_as_a_whole_or_not_at_all() {
    let accounts = Accounts::in_memory().await.unwrap();
    let user = with_password(&accounts, "a", Role::User).await;
    let login = accounts.login("a", "right password".into(), None).await.unwrap();
    let admin = UserPatch { role: Some(Role::Admin), ..UserPatch::default() };
    for password in ["short", &"x".repeat(1025)] {
        let patch = UserPatch { password: Some(password.into()), ..admin.clone() };
        let refusal = accounts.update_user(user.id, patch).await.unwrap_err();
        assert!(matches!(refusal, AccountError::Invalid { field: "password", .. }), "{refusal}");
    }
    let service =
        UserPatch { role: Some(Role::Service), password: Some("right password".into()), ..admin.clone() };
    assert!(accounts.update_user(user.id, service).await.is_err());
    let places = accounts.0.passwords.fill().unwrap();
    let busy = UserPatch { password: Some("another password".into()), ..admin.clone() };
    let refusal = accounts.update_user(user.id, busy).await.unwrap_err();
    assert!(matches!(refusal, AccountError::Busy(_)), "{refusal}");
    drop(places);
    assert_eq!(accounts.user(user.id).await.unwrap().role, Role::User);
    assert!(matches!(accounts.check_token(login.token.expose()), Some(UserCheck::Valid(_))));
}

#[tokio::test]
async fn a_password_that_was_reset_meanwhile_stays() {
    let accounts = Accounts::in_memory().await.unwrap();
    let user = with_password(&accounts, "a", Role::User).await;
    let (_, generation) = accounts.user_and_generation(user.id).await.unwrap();
    accounts.set_password(user.id, "by an admin".into()).await.unwrap();
    let own = || UserPatch { password: Some("by the user".into()), ..UserPatch::default() };
    let late = UserPatch { generation: Some(generation), ..own() };
    assert_eq!(accounts.update_user(user.id, late).await.unwrap_err(), AccountError::TokensEnded);
    assert!(accounts.login("a", "by an admin".into(), None).await.is_ok());
    let (_, generation) = accounts.user_and_generation(user.id).await.unwrap();
    accounts.update_user(user.id, UserPatch { generation: Some(generation), ..own() }).await.unwrap();
    assert!(accounts.login("a", "by the user".into(), None).await.is_ok());
}

#[tokio::test]
async fn guessing_is_slowed_down_and_success_begins_anew() {
    let accounts = Accounts::in_memory().await.unwrap();
    with_password(&accounts, "a", Role::User).await;
    let login = async |name: &str, password: &str| accounts.login(name, password.into(), None).await;
    for name in ["a", "nobody"] {
        assert_eq!(login(name, "wrong").await.unwrap_err(), LoginError::Refused);
        // As if somebody had gone on for some minutes.
        for minute in 1..15 {
            let later = std::time::Instant::now() + Duration::from_secs(60) * minute;
            let _counted = accounts.0.throttle.begin(name, None, later).is_ok();
        }
        for password in ["wrong", "right password"] {
            let refusal = login(name, password).await.unwrap_err();
            assert!(
                matches!(refusal, LoginError::TooManyAttempts(wait) if !wait.is_zero()),
                "{name}: {refusal}"
            );
        }
    }
    with_password(&accounts, "b", Role::User).await;
    for _ in 0..3 {
        for _ in 0..6 {
            assert_eq!(login("b", "wrong").await.unwrap_err(), LoginError::Refused);
        }
        login("b", "right password").await.unwrap();
    }
}

#[tokio::test]
async fn a_login_that_fails_costs_one_check_whoever_is_meant() {
    let accounts = Accounts::in_memory().await.unwrap();
    with_password(&accounts, "known", Role::User).await;
    let disabled = with_password(&accounts, "disabled", Role::User).await;
    let patch = UserPatch { is_disabled: Some(true), ..UserPatch::default() };
    accounts.update_user(disabled.id, patch).await.unwrap();
    accounts.create_user(new_user("no password", Role::User)).await.unwrap();
    accounts.create_user(new_user("service", Role::Service)).await.unwrap();
    let long = "x".repeat(10_000);
    for name in ["known", "unknown", "disabled", "no password", "service"] {
        for password in ["wrong", "right password", &long] {
            if (name, password) == ("known", "right password") {
                continue;
            }
            accounts.0.passwords.checks.lock().unwrap().clear();
            let refusal = accounts.login(name, password.into(), None).await.unwrap_err();
            assert_eq!(refusal, LoginError::Refused);
            let checks = accounts.0.passwords.checks.lock().unwrap().clone();
            assert_eq!(checks, ["m=19456,t=2,p=1"], "{name}");
        }
    }
}

#[tokio::test]
async fn names_that_look_the_same_are_the_same() {
    let accounts = Accounts::in_memory().await.unwrap();
    let (composed, decomposed) = ("Zo\u{e9}", "Zoe\u{301}");
    let zoe = with_password(&accounts, decomposed, Role::User).await;
    assert_eq!(zoe.name, composed);
    for name in [composed, decomposed] {
        let taken = accounts.create_user(new_user(name, Role::User)).await.unwrap_err();
        assert_eq!(taken, AccountError::NameTaken(composed.to_owned()));
        assert_eq!(accounts.user_named(name).await.unwrap().id, zoe.id);
        assert_eq!(accounts.login(name, "right password".into(), None).await.unwrap().user.id, zoe.id);
    }
    let other = accounts.create_user(new_user("bob", Role::User)).await.unwrap();
    let patch = UserPatch { name: Some(decomposed.to_owned()), ..UserPatch::default() };
    assert!(accounts.update_user(other.id, patch).await.is_err(), "the name is taken");
}

/// Starts with this `WITGATE_ADMIN_PASSWORD`; what was shown.
async fn prepared(accounts: &Accounts, password: Option<&str>) -> Option<String> {
    let shown = Arc::new(std::sync::Mutex::new(None));
    let show = Arc::clone(&shown);
    let announce = move |password: &Secret| *show.lock().unwrap() = Some(password.expose().to_owned());
    accounts.prepare_admin(password.map(Into::into), announce).await.unwrap();
    shown.lock().unwrap().take()
}

#[tokio::test]
async fn the_first_admin_is_made_once_and_its_password_is_the_operators() {
    let accounts = Accounts::in_memory().await.unwrap();
    let can = async |password: &str| accounts.login("admin", password.into(), None).await.is_ok();
    // A login right after the start waits for it.
    let early = accounts.clone();
    let task = accounts.prepare_admin(Some("short".into()), |_| panic!("the operator knows it"));
    assert!(early.login("admin", "short".into(), None).await.is_ok());
    task.await.unwrap();
    assert_eq!(prepared(&accounts, None).await, None);
    let token = accounts.login("admin", "short".into(), None).await.unwrap().token;
    assert_eq!(prepared(&accounts, Some("short")).await, None);
    assert!(matches!(accounts.check_token(token.expose()), Some(UserCheck::Valid(_))), "nothing has changed");
    assert_eq!(prepared(&accounts, Some("forgot the other")).await, None);
    assert!(can("forgot the other").await && !can("short").await);
    assert!(matches!(accounts.check_token(token.expose()), Some(UserCheck::Ended)));
    assert_eq!(accounts.users(Page::default()).await.unwrap().total, 1);
}

#[tokio::test]
async fn a_generated_password_is_shown_once() {
    let accounts = in_memory().await;
    let shown = prepared(&accounts, None).await.unwrap();
    assert!(shown.len() >= 20 && accounts.login("admin", shown.as_str().into(), None).await.is_ok());
    assert_eq!(accounts.user_named("admin").await.unwrap().role, Role::Admin);
    assert_eq!(prepared(&accounts, None).await, None);
    // Whoever made admins by other means needs none.
    let other = in_memory().await;
    with_password(&other, "boss", Role::Admin).await;
    assert_eq!(prepared(&other, None).await, None);
    assert_eq!(prepared(&other, Some("unused password")).await, None);
    assert!(other.user_named("admin").await.is_err());
}
