//! `witgate access user`: who can log in.

use anyhow::bail;
use serde_json::json;

use super::args::{GrantArgs, NewUserArgs, UserCommand};
use super::manage::{Registry, page, print_json, table};
use super::password;
use crate::access::accounts::{NewUser, Role, User, UserPatch, UserView};
use crate::cli::Outcome;
use crate::cli::args::GlobalArgs;
use crate::cli::terminal::{Terminal, clean, note, print};

/// Runs the command.
///
/// # Errors
/// When it cannot be carried out: says what is wrong and what to do.
pub(super) async fn run(
    command: &UserCommand,
    global: &GlobalArgs,
    terminal: Terminal,
) -> anyhow::Result<Outcome> {
    let registry = Registry::open(global).await?;
    match command {
        UserCommand::List { json } => list(&registry, *json, terminal).await?,
        UserCommand::Add(args) => add(&registry, args).await?,
        UserCommand::Password { name, from } => {
            let user = registry.user(name).await?;
            if user.role == Role::Service {
                bail!("`{}` is a service: it cannot log in and has no password", clean(&user.name));
            }
            let password = password::ask(&user.name, from, &registry.loaded)?;
            registry.accounts.set_password(user.id, password).await?;
            registry.tell("user_changed", target(&user), &json!({"password": "changed"})).await;
            done(&user, "has another password; its access tokens have ended");
        }
        UserCommand::Role { name, role } => {
            let patch = UserPatch { role: Some(role.role()), ..UserPatch::default() };
            change(&registry, name, patch, &format!("is {} now", role.role())).await?;
        }
        UserCommand::Disable { name } => {
            let patch = UserPatch { is_disabled: Some(true), ..UserPatch::default() };
            change(&registry, name, patch, "can neither log in nor use its keys now").await?;
        }
        UserCommand::Enable { name } => {
            let patch = UserPatch { is_disabled: Some(false), ..UserPatch::default() };
            change(&registry, name, patch, "can log in and use its keys again").await?;
        }
        UserCommand::Remove { name } => {
            let user = registry.user(name).await?;
            registry.accounts.delete_user(user.id).await?;
            registry.tell("user_deleted", target(&user), &json!({"name": user.name})).await;
            done(&user, "is removed, and its keys are revoked");
        }
    }
    Ok(Outcome::Done)
}

async fn list(registry: &Registry, json: bool, terminal: Terminal) -> anyhow::Result<()> {
    let mut users = Vec::new();
    loop {
        let found = registry.accounts.users(page(users.len())).await?;
        let is_last = found.items.is_empty();
        users.extend(found.items);
        if is_last || users.len() as u64 >= found.total {
            break;
        }
    }
    let views: Vec<UserView<'_>> = users.iter().map(UserView::from).collect();
    if json {
        return print_json(&views);
    }
    if views.is_empty() {
        note("there are no users; `witgate access user add NAME --role admin` makes one\n");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = views
        .iter()
        .map(|user| {
            let state = match (user.disabled, user.has_password || user.role == Role::Service) {
                (true, _) => "disabled",
                (false, true) => "active",
                (false, false) => "no password",
            };
            let login = user.last_login_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
            let cells = [user.id.to_string(), user.name.to_owned(), user.role.to_string(), state.to_owned()];
            cells.into_iter().chain([login, user.scopes.join(" ")]).collect()
        })
        .collect();
    Ok(print(&table(&["ID", "NAME", "ROLE", "STATE", "LAST LOGIN", "SCOPES"], &rows, terminal))?)
}

async fn add(registry: &Registry, args: &NewUserArgs) -> anyhow::Result<()> {
    let role = args.role.role();
    let has_password = role != Role::Service && !args.no_password;
    let password = match has_password {
        true => Some(password::ask(&args.name, &args.from, &registry.loaded)?),
        false => None,
    };
    let new = NewUser { name: args.name.clone(), password, role, grants: GrantArgs::grants(&args.grants) };
    let user = registry.accounts.create_user(new).await?;
    let details = json!({"name": user.name, "role": user.role, "grants": user.grants});
    registry.tell("user_created", target(&user), &details).await;
    if args.json {
        return print_json(&UserView::from(&user));
    }
    done(&user, &format!("is there now, as user {} with the role {role}", user.id));
    Ok(())
}

async fn change(registry: &Registry, name: &str, patch: UserPatch, words: &str) -> anyhow::Result<()> {
    let user = registry.user(name).await?;
    let mut details = json!({"role": patch.role, "disabled": patch.is_disabled});
    if let Some(told) = details.as_object_mut() {
        told.retain(|_, value| !value.is_null());
    }
    let user = registry.accounts.update_user(user.id, patch).await?;
    registry.tell("user_changed", target(&user), &details).await;
    done(&user, words);
    Ok(())
}

fn target(user: &User) -> String {
    format!("user:{}", user.id)
}

fn done(user: &User, words: &str) {
    note(&format!("`{}` {words}\n", clean(&user.name)));
}
