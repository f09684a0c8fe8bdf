//! The arguments: what can be typed, and what each flag sets.
//!
//! Flags that set a key of `gateway.toml` become overrides of the settings ([`GlobalArgs::load_options`]), so that a
//! wrong value is reported the same way whether it came from a flag, a variable or a file. No flag takes a secret:
//! command lines are visible to everyone on the machine.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};

use super::access::AccessArgs;
use super::plugin::PluginArgs;
use crate::config::LoadOptions;

/// The variable that names the gateway to talk to.
pub(super) const URL_VARIABLE: &str = "WITGATE_URL";

/// The variable whose key is sent to a gateway unless `--key-env` names another one.
pub(super) const KEY_VARIABLE: &str = "WITGATE_API_KEY";

const AFTER_HELP: &str = "\
Examples:
  witgate                                  start the gateway with the files in this folder
  witgate serve --port 9000                the same, on another port
  witgate check                            is everything set up? starts every MCP server once
  witgate chat                             talk to a model that has your tools
  witgate chat \"What tables are there?\"    one question, one answer
  witgate mcp                              the tools for a desktop client, as an MCP server
  witgate tools list                       which tools there are
  witgate tools call read_query '{\"query\": \"SELECT 1\"}'
  witgate plugin new redact --lang js      a plugin to start from

Files, looked up in the working folder unless a flag names another one; all of them may be missing:
  gateway.toml           settings
  .env                   variables, for settings and secrets
  servers_config.json    MCP servers (`mcpServers`, as other MCP clients have it)
  data/                  sessions and other state (data_dir)

Environment variables (stronger than .env, weaker than flags):
  OPENAI_API_KEY, OPENAI_BASE_URL, DEFAULT_MODEL    the model to ask
  HOST, PORT                                        where to listen
  WITGATE_API_KEY                                   a static API key; of the gateway, and of commands that ask one
  WITGATE_ADMIN_PASSWORD                            the password of the user `admin`
  WITGATE_MCP_KEY                                   the API key that the client of `witgate mcp` comes in with
  WITGATE_URL                                       the gateway that `witgate chat` talks to
  WITGATE_<SECTION>__<KEY>                          any key of gateway.toml: WITGATE_CHAT__MAX_TOOL_ROUNDS=5
  RUST_LOG                                          log filter; wins over log.level
  NO_COLOR                                          no colours

Exit codes:
  0    done
  1    failed; standard error says why
  2    the command line is wrong
  130  interrupted";

/// A gateway between chat clients and language models that runs MCP tools inside the conversation.
///
/// Without a command it starts the gateway. With no files and no key at all it runs with a built-in demo model, so
/// that there is something to talk to.
#[derive(Debug, Parser)]
#[command(name = "witgate", version, after_long_help = AFTER_HELP, infer_long_args = false)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: GlobalArgs,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// Flags that every command takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Settings")]
pub(super) struct GlobalArgs {
    /// Settings file [default: gateway.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// File of environment variables [default: .env]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) env_file: Option<PathBuf>,
    /// File of MCP servers [default: servers_config.json]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) servers: Option<PathBuf>,
    /// Address to listen on (server.host)
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(super) host: Option<String>,
    /// Port to listen on, 0 for any free one (server.port)
    #[arg(long, global = true, value_name = "PORT")]
    pub(super) port: Option<u16>,
    /// Folder for sessions and other state (data_dir)
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(super) data_dir: Option<PathBuf>,
    /// error, warn, info, debug, trace or a filter such as `info,witgate::llm=debug` (log.level)
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(super) log_level: Option<String>,
    /// How log lines look (log.format)
    #[arg(long, global = true, value_name = "FORMAT", value_parser = PossibleValuesParser::new(["human", "json"]))]
    pub(super) log_format: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start the gateway (also without any command)
    ///
    /// Runs until SIGTERM or Ctrl-C, then lets running requests finish (server.drain_timeout_ms). A second signal stops
    /// it at once.
    Serve,
    /// Talk to a model that has your tools
    ///
    /// Talks to the gateway at --url, or starts one for itself from the files in this folder. In a terminal it is a
    /// conversation: Ctrl-C interrupts an answer, Ctrl-D or `quit` leaves, `/help` lists the commands. Otherwise every
    /// line of standard input is a message, answers go to standard output, and everything else to standard error.
    Chat(ChatArgs),
    /// Be an MCP server on standard input and output
    ///
    /// For desktop clients that start their MCP servers themselves: one entry there gives them the tools of all servers
    /// and plugins of this folder. Opens no port; ends when standard input does. Log lines go to standard error.
    ///
    /// The client is the holder of the API key in the variable WITGATE_MCP_KEY, with all its rights and limits; without the
    /// variable it is `cli`, the operator of this machine, who may list and call every tool. Policies are asked and calls are
    /// written to the audit log, as by the gateway. A client has a place for the key in its settings:
    /// `"env": {"WITGATE_MCP_KEY": "wg_..."}`.
    Mcp(McpArgs),
    /// Check the files, the models and every MCP server
    ///
    /// Reads every file, asks every upstream for its models, starts every MCP server once, and says what is wrong and
    /// what to do. The exit code is 1 when something would not work. Nothing is left running.
    Check(CheckArgs),
    /// List the tools of the MCP servers, or call one
    ///
    /// Starts the servers of servers_config.json for it and stops them again; no model is asked.
    Tools(ToolsArgs),
    /// Make, build, check and try plugins, or list them
    ///
    /// A plugin is a WebAssembly component: it processes replies, decides who may do what, or brings tools.
    Plugin(PluginArgs),
    /// Tell who may do what
    Access(AccessArgs),
}

/// `witgate chat`
#[derive(Debug, Args)]
pub(super) struct ChatArgs {
    /// Ask this one question and leave; `-` stands for all of standard input
    #[arg(value_name = "MESSAGE")]
    pub(super) message: Vec<String>,
    /// The running gateway to talk to, for example http://localhost:8000
    #[arg(long, value_name = "URL", env = URL_VARIABLE, hide_env_values = true)]
    pub(super) url: Option<String>,
    /// The model to ask [default: the gateway's]
    #[arg(long, short, value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// Go on with this session
    #[arg(long, short, value_name = "ID")]
    pub(super) session: Option<String>,
    /// Name of the environment variable that holds the gateway's key [default: WITGATE_API_KEY]
    #[arg(long, value_name = "NAME")]
    pub(super) key_env: Option<String>,
    /// Do not show tool calls
    #[arg(long, short)]
    pub(super) quiet: bool,
}

/// `witgate mcp`
#[derive(Debug, Args)]
pub(super) struct McpArgs {
    /// Only the tools of this MCP server or plugin, under its own names
    #[arg(long, value_name = "NAME")]
    pub(super) server: Option<String>,
}

/// `witgate check`
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(super) json: bool,
    /// Do not connect to upstreams
    #[arg(long)]
    pub(super) offline: bool,
    /// Longest time one upstream or MCP server may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) timeout: u64,
}

/// `witgate tools`
#[derive(Debug, Args)]
pub(super) struct ToolsArgs {
    #[command(subcommand)]
    pub(super) command: ToolsCommand,
}

/// What to do with the tools.
#[derive(Debug, Subcommand)]
pub(super) enum ToolsCommand {
    /// List all tools with their server and description
    List {
        /// Print a JSON array with the schemas instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Call a tool and print its result
    ///
    /// The result's text goes to standard output. When the tool fails, its words go to standard error and the exit
    /// code is 1.
    Call {
        /// The tool, as `witgate tools list` names it
        name: String,
        /// Its arguments, a JSON object; `-` reads it from standard input
        #[arg(default_value = "{}")]
        arguments: String,
        /// Print the whole result as JSON instead of its text
        #[arg(long)]
        json: bool,
    },
}

impl GlobalArgs {
    /// The places to load settings from, with the flags on top.
    pub(super) fn load_options(&self) -> LoadOptions {
        let mut options = LoadOptions {
            config_file: self.config.clone(),
            env_file: self.env_file.clone(),
            overrides: self.overrides(),
            ..LoadOptions::default()
        };
        // Read by the command line itself; it is no key of gateway.toml.
        options.reserved_env.push(URL_VARIABLE.to_owned());
        options
    }

    fn overrides(&self) -> Vec<(String, toml::Value, String)> {
        let text = |value: &Option<String>| value.clone().map(toml::Value::String);
        let data_dir = self.data_dir.as_ref().map(|folder| folder.to_string_lossy().into_owned());
        let flags = [
            ("server.host", "--host", text(&self.host)),
            ("server.port", "--port", self.port.map(|port| toml::Value::Integer(port.into()))),
            ("data_dir", "--data-dir", text(&data_dir)),
            ("log.level", "--log-level", text(&self.log_level)),
            ("log.format", "--log-format", text(&self.log_format)),
        ];
        let given = flags.into_iter().filter_map(|(key, flag, value)| Some((key, value?, flag)));
        given.map(|(key, value, flag)| (key.to_owned(), value, flag.to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("witgate").chain(line.iter().copied()))
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_command_and_global_flags_on_both_sides() {
        assert!(parse(&[]).unwrap().command.is_none());
        let before = parse(&["--port", "9000", "serve"]).unwrap();
        let after = parse(&["serve", "--port", "9000"]).unwrap();
        assert_eq!(before.global.port, Some(9000));
        assert_eq!(after.global.port, Some(9000));
        assert!(matches!(after.command, Some(Command::Serve)));
        assert_eq!(parse(&["--port", "9000"]).unwrap().global.port, Some(9000));
    }

    #[test]
    fn flags_become_overrides_and_only_those_given() {
        let global = parse(&["--host", "::1", "--port", "1", "--data-dir", "d", "--log-format", "json"])
            .unwrap()
            .global;
        let overrides = global.overrides();
        let shown: Vec<String> =
            overrides.iter().map(|(key, value, flag)| format!("{key}={value} {flag}")).collect();
        let wanted = [
            "server.host=\"::1\" --host",
            "server.port=1 --port",
            "data_dir=\"d\" --data-dir",
            "log.format=\"json\" --log-format",
        ];
        assert_eq!(shown, wanted);
        assert!(parse(&[]).unwrap().global.overrides().is_empty());
    }

    #[test]
    fn chat_takes_a_message_of_several_words() {
        let Some(Command::Chat(chat)) = parse(&["chat", "-m", "gpt", "What", "now?"]).unwrap().command else {
            panic!("not chat");
        };
        assert_eq!((chat.message.join(" "), chat.model.as_deref()), ("What now?".to_owned(), Some("gpt")));
        let Some(Command::Chat(chat)) = parse(&["chat", "Sum up:", "-"]).unwrap().command else {
            panic!("not chat")
        };
        assert_eq!(chat.message, ["Sum up:", "-"]);
    }

    #[test]
    fn wrong_lines_are_usage_errors() {
        let wrong: [&[&str]; 7] = [
            &["nonsense"],
            &["--port", "70000"],
            &["--log-format", "xml"],
            &["tools"],
            &["tools", "call"],
            &["check", "--timeout", "0"],
            &["chat", "--key", "secret"],
        ];
        for line in wrong {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line:?}");
        }
    }

    #[test]
    fn help_names_files_variables_and_exit_codes() {
        let help = Arguments::command().render_long_help().to_string();
        for word in [
            "servers_config.json",
            "OPENAI_API_KEY",
            "WITGATE_URL",
            "NO_COLOR",
            "Exit codes",
            "witgate check",
        ] {
            assert!(help.contains(word), "{word} is missing:\n{help}");
        }
    }
}
