//! The arguments of `witgate access`.

use clap::{Args, Subcommand, ValueEnum};

use crate::access::Grants;
use crate::access::accounts::Role;

/// `witgate access`
#[derive(Debug, Args)]
pub(in crate::cli) struct AccessArgs {
    #[command(subcommand)]
    pub(super) command: AccessCommand,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum AccessCommand {
    /// Tell whether somebody may do something, and which rule decides
    ///
    /// Goes through the rules as the gateway does. The exit code is 0 when it is allowed and 1 when it is denied.
    Explain(ExplainArgs),
    /// List, add and change users
    ///
    /// Works on the data folder itself; a gateway that runs on it follows within about a second.
    User(UserArgs),
    /// List, make and revoke API keys
    ///
    /// Works on the data folder itself; a gateway that runs on it follows within about a second.
    Key(KeyArgs),
}

/// `witgate access user`
#[derive(Debug, Args)]
pub(super) struct UserArgs {
    #[command(subcommand)]
    pub(super) command: UserCommand,
}

/// What to do with users. A user is named by its name or its number.
#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// List all users
    List {
        /// Print a JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Add a user
    ///
    /// Asks for the password, which is not shown while it is typed.
    Add(NewUserArgs),
    /// Give a user another password
    Password {
        /// The user
        name: String,
        #[command(flatten)]
        from: PasswordFrom,
    },
    /// Give a user another role
    Role {
        /// The user
        name: String,
        /// The role
        role: RoleArg,
    },
    /// Keep a user, and its keys, from coming in
    Disable {
        /// The user
        name: String,
    },
    /// Let a disabled user in again
    Enable {
        /// The user
        name: String,
    },
    /// Remove a user and revoke its keys
    Remove {
        /// The user
        name: String,
    },
}

/// `witgate access user add`
#[derive(Debug, Args)]
pub(super) struct NewUserArgs {
    /// The name to log in with
    pub(super) name: String,
    /// What kind of user
    #[arg(long, default_value = "user")]
    pub(super) role: RoleArg,
    /// Set no password; until there is one, nobody can log in as this user
    #[arg(long, conflicts_with_all = ["password_stdin", "password_env"])]
    pub(super) no_password: bool,
    #[command(flatten)]
    pub(super) from: PasswordFrom,
    #[command(flatten)]
    pub(super) grants: GrantArgs,
    /// Print the user as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Where a password comes from that is not typed.
#[derive(Debug, Args)]
pub(super) struct PasswordFrom {
    /// Take the password from the first line of standard input
    #[arg(long, conflicts_with = "password_env")]
    pub(super) password_stdin: bool,
    /// Take the password from this environment variable
    #[arg(long, value_name = "NAME")]
    pub(super) password_env: Option<String>,
}

/// What somebody may do.
#[derive(Debug, Args)]
pub(super) struct GrantArgs {
    /// A scope: chat, tools:list, tools:call, tools:call:<pattern>, plugins, metrics or admin; can be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(super) scopes: Vec<String>,
    /// A model that may be asked, `*` standing for any characters; can be repeated [default: all]
    #[arg(long = "model", value_name = "PATTERN")]
    pub(super) models: Vec<String>,
    /// A tool that may be seen and called, in the same way; can be repeated [default: all]
    #[arg(long = "tool", value_name = "PATTERN")]
    pub(super) tools: Vec<String>,
}

impl GrantArgs {
    /// The same as grants.
    pub(super) fn grants(&self) -> Grants {
        let (scopes, models, tools) = (self.scopes.clone(), self.models.clone(), self.tools.clone());
        Grants { scopes, models, tools, ..Grants::default() }
    }
}

/// A role on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum RoleArg {
    /// May do everything
    Admin,
    /// May chat, see tools and call them
    User,
    /// Cannot log in; only its keys come in
    Service,
}

impl RoleArg {
    /// The role.
    pub(super) fn role(self) -> Role {
        match self {
            Self::Admin => Role::Admin,
            Self::User => Role::User,
            Self::Service => Role::Service,
        }
    }
}

/// `witgate access key`
#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    pub(super) command: KeyCommand,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// List keys, the newest first
    List {
        /// Only the keys of this user
        #[arg(long, value_name = "USER")]
        user: Option<String>,
        /// Print a JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Make a key, and print it
    ///
    /// Only the key goes to standard output. It is shown this once.
    Create(NewKeyArgs),
    /// Revoke a key
    Revoke {
        /// Its id: the middle part of wg_<id>_<secret>
        id: String,
    },
}

/// `witgate access key create`
#[derive(Debug, Args)]
pub(super) struct NewKeyArgs {
    /// What the key is for
    pub(super) name: String,
    /// The user it belongs to; it can do nothing that the user may not
    #[arg(long, value_name = "USER")]
    pub(super) user: String,
    #[command(flatten)]
    pub(super) grants: GrantArgs,
    /// Days after which it ends [default: never]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(super) expires_in_days: Option<u32>,
    /// Print the key and all about it as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// `witgate access explain`
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    pub(super) who: Who,
    /// The tool it wants to call, as `witgate tools list` names it
    #[arg(long, value_name = "NAME")]
    pub(super) tool: Option<String>,
    /// The arguments of the call, a JSON object
    #[arg(long, value_name = "JSON", requires = "tool", default_value = "{}")]
    pub(super) arguments: String,
    /// The model it asks for; empty for the default
    #[arg(long, value_name = "ID")]
    pub(super) model: Option<String>,
    /// Method and path of the request [default: the one that fits --tool and --model]
    #[arg(long, value_name = "ENDPOINT")]
    pub(super) endpoint: Option<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

/// Who is asking.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Who {
    /// The holder of the key with this id; a whole key works too, and `-` reads one from standard input
    #[arg(long, value_name = "ID")]
    pub(super) key: Option<String>,
    /// The holder of the key in this environment variable
    #[arg(long, value_name = "NAME")]
    pub(super) key_env: Option<String>,
    /// A user, by name or number
    #[arg(long, value_name = "USER")]
    pub(super) user: Option<String>,
    /// The holder of the key in WITGATE_API_KEY
    #[arg(long)]
    pub(super) static_key: bool,
    /// A caller who presents nothing
    #[arg(long)]
    pub(super) anonymous: bool,
}
