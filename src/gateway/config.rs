//! The whole configuration: every room's section, read once and checked as a whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use crate::config::mcp_servers::McpServerConfig;
use crate::config::secret::Secret;
use crate::config::{Settings, Variables};
use crate::{access, audit, chat, http, llm, mcp_server, plugin_host, sessions, telemetry, tools};

/// Where data lies unless `data_dir` says otherwise, from the working folder.
pub const DATA_DIR: &str = "data";

/// The variable with the key of an MCP client that starts witgate itself.
pub const MCP_KEY: &str = "WITGATE_MCP_KEY";

/// Everything a gateway is built from.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`: where to listen.
    pub server: http::ServerConfig,
    /// `[limits]`: how much to take.
    pub limits: http::LimitsConfig,
    /// `[cors]`: which web pages may call.
    pub cors: http::CorsConfig,
    /// `[access]`: who may call.
    pub access: access::Config,
    /// `[audit]`: what is written down of who did what.
    pub audit: audit::Config,
    /// `[llm]`: the models.
    pub llm: llm::Config,
    /// The variables that `[llm]` reads: the keys its upstreams name, `OPENAI_API_KEY` and `OPENAI_BASE_URL`.
    pub llm_env: BTreeMap<String, Secret>,
    /// `[chat]`: the turn loop.
    pub chat: chat::Config,
    /// `[tools]`: tool calls and MCP connections.
    pub tools: tools::Config,
    /// `[mcp_server]`: the tools as an MCP server.
    pub mcp_server: mcp_server::Config,
    /// `[plugins]`: WebAssembly components; with absolute paths.
    pub plugins: plugin_host::Config,
    /// The environment that the files of plugins speak of.
    pub variables: Variables,
    /// `[sessions]`: stored conversations.
    pub sessions: sessions::Config,
    /// `[log]`; whoever owns the process puts it into force, with [`telemetry::init`].
    pub log: telemetry::Config,
    /// `data_dir`: the folder for everything that is stored. Default `data` in the working folder.
    pub data_dir: PathBuf,
    /// The MCP servers of `servers_config.json`.
    pub mcp_servers: Vec<McpServerConfig>,
    /// `WITGATE_API_KEY`: a key with all scopes but `admin`.
    pub api_key: Option<Secret>,
    /// `WITGATE_ADMIN_PASSWORD`: the password of the user `admin`.
    pub admin_password: Option<Secret>,
    /// `WITGATE_TOKEN_SECRET`: signs access tokens, in place of keys in `data_dir`.
    pub token_secret: Option<Secret>,
    /// `WITGATE_MCP_KEY`: the key that the client of `witgate mcp` comes in with.
    pub mcp_key: Option<Secret>,
}

impl Config {
    /// Reads every section of `settings`, and the MCP servers of `servers_file` (`servers_config.json` by default).
    ///
    /// # Errors
    /// All that is wrong in any of them, one fault a line with its place; sections and keys that do not exist.
    pub fn load(settings: &Settings, servers_file: Option<&Path>) -> anyhow::Result<Self> {
        let mut faults = Faults::default();
        let data_dir: Option<PathBuf> = faults.unless(settings.value("data_dir"));
        let data_dir = settings.resolve(data_dir.as_deref().unwrap_or(Path::new(DATA_DIR)));
        let plugins: plugin_host::Config = faults.unless(settings.section("plugins"));
        let plugins = plugins.resolved(settings.working_dir(), &data_dir).map_err(anyhow::Error::msg);
        let llm: llm::Config = faults.unless(settings.section("llm"));
        let config = Self {
            server: faults.unless(settings.section("server")),
            limits: faults.unless(settings.section("limits")),
            cors: faults.unless(settings.section("cors")),
            access: faults.unless(settings.section("access")),
            audit: faults.unless(settings.section("audit")),
            llm_env: llm_env(settings, &llm),
            llm,
            chat: faults.unless(settings.section("chat")),
            tools: faults.unless(settings.section("tools")),
            mcp_server: faults.unless(settings.section("mcp_server")),
            plugins: faults.unless(plugins),
            variables: settings.variables(),
            sessions: faults.unless(settings.section("sessions")),
            log: faults.unless(settings.section("log")),
            data_dir,
            mcp_servers: faults.unless(settings.mcp_servers(servers_file)),
            api_key: settings.env("WITGATE_API_KEY"),
            admin_password: settings.env("WITGATE_ADMIN_PASSWORD"),
            token_secret: settings.env("WITGATE_TOKEN_SECRET"),
            mcp_key: settings.env(MCP_KEY),
        };
        faults.unless(settings.finish());
        if faults.0.is_empty() { Ok(config) } else { Err(anyhow!(faults.0.join("\n"))) }
    }
}

/// What is wrong so far: an operator mends all faults at once rather than one a start.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    /// The value; its default and one more fault where there is none.
    fn unless<T: Default>(&mut self, value: anyhow::Result<T>) -> T {
        value.unwrap_or_else(|fault| {
            self.0.push(format!("{fault:#}"));
            T::default()
        })
    }
}

fn llm_env(settings: &Settings, llm: &llm::Config) -> BTreeMap<String, Secret> {
    let named = llm.upstreams.iter().map(|upstream| upstream.api_key_env.as_str());
    let names = named.chain(["OPENAI_API_KEY", "OPENAI_BASE_URL"]).filter(|name| !name.is_empty());
    names.filter_map(|name| Some((name.to_owned(), settings.env(name)?))).collect()
}
