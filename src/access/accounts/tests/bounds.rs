//! Nobody fills the memory with what it writes.

use super::*;

fn field(error: AccountError) -> &'static str {
    match error {
        AccountError::Invalid { field, .. } => field,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn lists_are_bounded() {
    let accounts = in_memory().await;
    let owner = accounts.create_user(new_user("a", Role::User)).await.unwrap().id;
    let (most, long) = (vec!["x".repeat(256); 256], "ä".repeat(257));
    let grants = |name: &str, list: Vec<String>| {
        let mut patch = scopes(&["chat"]);
        *match name {
            "scopes" => &mut patch.scopes,
            "models" => &mut patch.models,
            _ => &mut patch.tools,
        } = Some(list);
        patch
    };
    for name in ["scopes", "models", "tools"] {
        let many = vec!["chat".to_owned(); 257];
        for list in [many, vec![long.clone()], vec![format!("tools:call:{long}")]] {
            let patch = grants(name, list);
            let key = NewApiKey { grants: patch.clone().over(Grants::default()), ..new_key(&[]) };
            assert_eq!(field(accounts.create_key(owner, key).await.unwrap_err()), name);
            let user = NewUser { grants: patch.clone().over(Grants::default()), ..new_user("b", Role::User) };
            assert_eq!(field(accounts.create_user(user).await.unwrap_err()), name);
            let patch = UserPatch { grants: patch, ..UserPatch::default() };
            assert_eq!(field(accounts.update_user(owner, patch).await.unwrap_err()), name);
        }
    }
    let patch = UserPatch { grants: grants("tools", most), ..UserPatch::default() };
    assert_eq!(accounts.update_user(owner, patch).await.unwrap().grants.tools.len(), 256);
}

#[tokio::test]
async fn a_user_has_so_many_keys_and_no_more() {
    let (accounts, time) = accounts(None).await;
    let owner = accounts.create_user(new_user("a", Role::User)).await.unwrap().id;
    let other = accounts.create_user(new_user("b", Role::User)).await.unwrap().id;
    let make = async |owner, expires_ms: u64| {
        let key = NewApiKey { expires_ms: Some(expires_ms), ..new_key(&["chat"]) };
        accounts.create_key(owner, key).await
    };
    let first = make(owner, NOW + 1).await.unwrap();
    for _ in 1..1000 {
        make(owner, NOW + 2).await.unwrap();
    }
    let refusal = make(owner, NOW + 9).await.unwrap_err();
    assert!(matches!(refusal, AccountError::TooManyKeys { most: 1000, .. }), "{refusal}");
    make(other, NOW + 9).await.unwrap();
    // What has ended does not count, and is told as ended until too much of it is newer.
    time.fetch_add(5, Ordering::SeqCst);
    let check = |key: &CreatedKey| accounts.check_key(key.key.expose()).unwrap();
    let last = make(owner, NOW + 6).await.unwrap();
    assert!(matches!(check(&first), KeyCheck::Expired));
    time.fetch_add(5, Ordering::SeqCst);
    make(owner, NOW + 99).await.unwrap();
    assert!(matches!((check(&first), check(&last)), (KeyCheck::Unknown, KeyCheck::Expired)));
    assert_eq!(accounts.keys(Some(owner), Page::default()).await.unwrap().total, 1001);
}

#[tokio::test]
async fn the_lists_of_all_keys_of_a_user_are_bounded_together() {
    let accounts = in_memory().await;
    let owner = accounts.create_user(new_user("a", Role::User)).await.unwrap().id;
    let list = vec!["x".repeat(256); 256];
    let grants = Grants { models: list.clone(), tools: list, ..Grants::of_scopes(&["chat"]) };
    let make =
        async || accounts.create_key(owner, NewApiKey { grants: grants.clone(), ..new_key(&[]) }).await;
    let mut made = Vec::new();
    let refusal = loop {
        match make().await {
            Ok(key) => made.push(key),
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(refusal, AccountError::TooManyKeys { kib: 1024, .. }), "{refusal}");
    assert_eq!(made.len(), 7);
    // A revoked key leaves room for another, and is still told as revoked.
    accounts.revoke_key(&made[0].info.id).await.unwrap();
    make().await.unwrap();
    assert!(matches!(accounts.check_key(made[0].key.expose()), Some(KeyCheck::Revoked)));
    assert_eq!(accounts.key(&made[0].info.id).await.unwrap().grants, grants, "whoever looks at it sees it");
}

#[tokio::test]
async fn changes_of_different_grants_at_once_all_stay() {
    let accounts = in_memory().await;
    let id = accounts.create_user(new_user("a", Role::User)).await.unwrap().id;
    let patch = |grants| accounts.update_user(id, UserPatch { grants, ..UserPatch::default() });
    let tools = GrantsPatch { tools: Some(vec!["now".to_owned()]), ..GrantsPatch::default() };
    let models = GrantsPatch { models: Some(vec!["gpt-*".to_owned()]), ..GrantsPatch::default() };
    let (first, second, third) = tokio::join!(patch(tools), patch(models), patch(scopes(&["chat"])));
    let _each = (first.unwrap(), second.unwrap(), third.unwrap());
    let grants = accounts.user(id).await.unwrap().grants;
    assert_eq!(
        (grants.scopes, grants.tools, grants.models),
        (vec!["chat".to_owned()], vec!["now".to_owned()], vec!["gpt-*".to_owned()])
    );
}
