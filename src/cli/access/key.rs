//! `witgate access key`: what programs come in with.

use anyhow::bail;
use serde_json::{Value, json};

use super::args::{GrantArgs, KeyCommand, NewKeyArgs};
use super::manage::{Registry, now_ms, page, print_json, table};
use crate::access::accounts::{AccountError, KeyView, Moment, NewApiKey};
use crate::cli::Outcome;
use crate::cli::args::GlobalArgs;
use crate::cli::terminal::{Terminal, clean, note, print};

const DAY_MS: u64 = 86_400_000;

/// Runs the command.
///
/// # Errors
/// When it cannot be carried out: says what is wrong and what to do.
pub(super) async fn run(
    command: &KeyCommand,
    global: &GlobalArgs,
    terminal: Terminal,
) -> anyhow::Result<Outcome> {
    let registry = Registry::open(global).await?;
    match command {
        KeyCommand::List { user, json } => list(&registry, user.as_deref(), *json, terminal).await?,
        KeyCommand::Create(args) => create(&registry, args).await?,
        KeyCommand::Revoke { id } => revoke(&registry, id).await?,
    }
    Ok(Outcome::Done)
}

async fn list(registry: &Registry, user: Option<&str>, json: bool, terminal: Terminal) -> anyhow::Result<()> {
    let owner = match user {
        Some(name) => Some(registry.user(name).await?.id),
        None => None,
    };
    let mut keys = Vec::new();
    loop {
        let found = registry.accounts.keys(owner, page(keys.len())).await?;
        let is_last = found.items.is_empty();
        keys.extend(found.items);
        if is_last || keys.len() as u64 >= found.total {
            break;
        }
    }
    let now_ms = now_ms();
    let views: Vec<KeyView<'_>> = keys.iter().map(|key| KeyView::of(key, now_ms)).collect();
    if json {
        return print_json(&views);
    }
    if views.is_empty() {
        note("there are no keys; `witgate access key create NAME --user USER` makes one\n");
        return Ok(());
    }
    let time = |at: Option<Moment>| at.map_or_else(|| "never".to_owned(), |at| at.to_string());
    let rows: Vec<Vec<String>> = views
        .iter()
        .map(|key| {
            let cells =
                [key.id.to_owned(), key.name.to_owned(), key.user_id.to_string(), key.status.to_owned()];
            cells
                .into_iter()
                .chain([time(key.expires_at), time(key.last_used_at), key.scopes.join(" ")])
                .collect()
        })
        .collect();
    Ok(print(&table(&["ID", "NAME", "USER", "STATE", "EXPIRES", "LAST USED", "SCOPES"], &rows, terminal))?)
}

/// The key alone goes to standard output, so that a script can take it.
async fn create(registry: &Registry, args: &NewKeyArgs) -> anyhow::Result<()> {
    let owner = registry.user(&args.user).await?;
    let mut grants = GrantArgs::grants(&args.grants);
    if grants.scopes.is_empty() {
        grants.scopes = owner.effective_grants().scopes;
        grants.scopes.retain(|scope| scope != "admin");
    }
    let expires_ms = args.expires_in_days.map(|days| now_ms().saturating_add(u64::from(days) * DAY_MS));
    let new = NewApiKey { name: args.name.clone(), grants, expires_ms };
    let created = registry.accounts.create_key(owner.id, new).await?;
    let info = &created.info;
    let details = json!({
        "name": info.name, "user": info.owner, "scopes": info.grants.scopes,
        "expires_at": info.expires_ms.map(Moment),
    });
    registry.tell("key_created", format!("key:{}", info.id), &details).await;
    if args.json {
        let mut told = json!(KeyView::of(info, now_ms()));
        told["key"] = Value::from(created.key.expose());
        return print_json(&told);
    }
    note(&format!(
        "the key {} of `{}`, for {}; it is shown this once:\n",
        info.id,
        clean(&owner.name),
        info.grants.scopes.join(", ")
    ));
    Ok(print(&format!("{}\n", created.key.expose()))?)
}

async fn revoke(registry: &Registry, id: &str) -> anyhow::Result<()> {
    let before = match registry.accounts.key(id).await {
        Ok(key) => key,
        Err(AccountError::NoKey(_)) => {
            bail!(
                "there is no key with this id; `witgate access key list` shows all of them. The id of \
                   wg_<id>_<secret> is its middle part"
            )
        }
        Err(error) => return Err(error.into()),
    };
    registry.accounts.revoke_key(id).await?;
    if before.revoked_ms.is_some() {
        note("the key was revoked already\n");
        return Ok(());
    }
    let details = json!({"name": before.name, "user": before.owner});
    registry.tell("key_revoked", format!("key:{id}"), &details).await;
    note(&format!("the key {id} (`{}`) is revoked\n", clean(&before.name)));
    Ok(())
}
