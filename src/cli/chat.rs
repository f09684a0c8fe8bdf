//! `witgate chat`: a conversation with a model that has the gateway's tools.
//!
//! It is a client of the HTTP API in every case: of the gateway at `--url`, else of one that it starts in this process
//! on a free loopback port and ends again. An answer can be interrupted at any time, which drops the request.

mod command;
mod input;
mod printer;

use std::io;

use anyhow::{anyhow, bail};
use futures_util::StreamExt;

use self::command::{Command, HELP};
use self::input::{Line, Lines};
use self::printer::Printer;
use super::args::{ChatArgs, GlobalArgs, KEY_VARIABLE};
use super::client::{Client, Message, ReplyEvent};
use super::local::{LocalGateway, LogTo};
use super::spinner::Spinner;
use super::terminal::{Style, Terminal, clean, note};
use super::{Outcome, signals};
use crate::config::secret::Secret;
use crate::domain::SessionId;

/// Runs the command until it is done or a signal ends it.
///
/// # Errors
/// When no gateway can be reached or started, or a question outside of a terminal could not be answered.
pub(super) async fn run(args: &ChatArgs, global: &GlobalArgs, terminal: Terminal) -> anyhow::Result<Outcome> {
    // Before anything is started: wrong input costs nothing.
    let question = tokio::select! {
        question = question(&args.message) => question?,
        signal = signals::any() => return signal,
    };
    let starting = Spinner::start(terminal, "starting");
    let found = tokio::select! {
        found = Target::find(args, global, terminal) => found?,
        signal = signals::any() => return signal,
    };
    drop(starting);
    let Target { client, local } = found;
    if client.exposes_key() {
        say(terminal, Style::Warning, "the key is sent unencrypted; use an https address");
    }
    let conversation = Conversation {
        client,
        terminal,
        show_tools: !args.quiet,
        session: args.session.clone(),
        model: args.model.clone(),
    };
    let outcome = tokio::select! {
        outcome = conversation.hold(question.as_deref(), local.as_ref()) => outcome,
        signal = signals::termination() => signal,
    };
    if let Some(local) = local {
        local.stop().await;
    }
    outcome
}

/// The gateway to talk to.
struct Target {
    client: Client,
    local: Option<LocalGateway>,
}

impl Target {
    async fn find(args: &ChatArgs, global: &GlobalArgs, terminal: Terminal) -> anyhow::Result<Self> {
        let typing = terminal.interactive && args.message.is_empty();
        if let Some(session) = &args.session {
            SessionId::parse(session).ok_or_else(|| anyhow!("`{}` is not a session's id", clean(session)))?;
        }
        if let Some(url) = &args.url {
            let key = key(args.key_env.as_deref(), |name| std::env::var(name).ok().map(Secret::from))?;
            return Ok(Self { client: Client::new(url, key)?, local: None });
        }
        let log_to = if typing { LogTo::File } else { LogTo::Stderr };
        let local = Box::pin(LocalGateway::start(global, log_to)).await?;
        let key = key(args.key_env.as_deref(), |name| local.variable(name))?;
        Ok(Self { client: Client::new(local.url(), key)?, local: Some(local) })
    }
}

/// The gateway's key: of the variable that was named, which must be set then, else of the usual one.
fn key(named: Option<&str>, lookup: impl Fn(&str) -> Option<Secret>) -> anyhow::Result<Option<Secret>> {
    let key = lookup(named.unwrap_or(KEY_VARIABLE)).filter(|key| !key.is_empty());
    match named {
        Some(name) if key.is_none() => {
            bail!(
                "--key-env {}: there is no such variable, or it is empty; the flag takes a name, not a key",
                clean(name)
            )
        }
        _ => Ok(key),
    }
}

struct Conversation {
    client: Client,
    terminal: Terminal,
    show_tools: bool,
    session: Option<String>,
    model: Option<String>,
}

impl Conversation {
    async fn hold(mut self, question: Option<&str>, local: Option<&LocalGateway>) -> anyhow::Result<Outcome> {
        if question.is_none() && self.terminal.interactive {
            tokio::select! {
                greeted = self.greet(local) => greeted?,
                signal = signals::interrupt() => return signal,
            }
            return self.converse().await;
        }
        self.tell_news(local);
        let Some(question) = question else { return self.read_stdin().await };
        let answered = self.answer_unless_interrupted(question).await?;
        Ok(if answered { Outcome::Done } else { Outcome::Interrupted })
    }

    /// Every line is a message. The first one that cannot be answered ends it: the others build on its answer.
    async fn read_stdin(&mut self) -> anyhow::Result<Outcome> {
        let mut lines = Lines::of_stdin()?;
        loop {
            let line = tokio::select! {
                line = lines.next() => line,
                signal = signals::interrupt() => return signal,
            };
            let text = match line {
                Line::Text(text) => text,
                Line::Failed(error) => return Err(error),
                Line::End | Line::Interrupted { .. } => return Ok(Outcome::Done),
            };
            match Command::piped(&text) {
                Command::Message(message) if !self.answer_unless_interrupted(message).await? => {
                    return Ok(Outcome::Interrupted);
                }
                Command::Leave => return Ok(Outcome::Done),
                _ => {}
            }
        }
    }

    /// A conversation in a terminal, until the person leaves.
    async fn converse(&mut self) -> anyhow::Result<Outcome> {
        let mut lines = Lines::of_terminal()?;
        let mut interrupted = false;
        loop {
            let text = match lines.next().await {
                Line::Text(text) => text,
                Line::Interrupted { on_empty_line: true } if interrupted => return Ok(Outcome::Done),
                Line::Interrupted { on_empty_line } => {
                    interrupted = on_empty_line;
                    if on_empty_line {
                        self.say("(Ctrl-C again or Ctrl-D leaves)");
                    }
                    continue;
                }
                Line::End => return Ok(Outcome::Done),
                Line::Failed(error) => return Err(error),
            };
            interrupted = false;
            match Command::typed(&text) {
                Command::Leave => return Ok(Outcome::Done),
                Command::Message(message) => self.reply_to(message).await?,
                command => tokio::select! {
                    () = self.obey(command) => {}
                    signal = signals::interrupt() => {
                        signal?;
                        self.say("(interrupted)");
                    }
                },
            }
        }
    }

    /// Answers a message in a terminal: a failure is told, and the conversation goes on.
    async fn reply_to(&mut self, message: &str) -> anyhow::Result<()> {
        match self.answer_unless_interrupted(message).await {
            Ok(true) => {}
            Ok(false) => self.say("(interrupted)"),
            // Nobody would see the next answer either.
            Err(error) if error.downcast_ref::<io::Error>().is_some() => return Err(error),
            Err(error) => say(self.terminal, Style::Bad, &format!("{error:#}")),
        }
        note("\n");
        Ok(())
    }

    async fn obey(&mut self, command: Command<'_>) {
        match command {
            Command::Help => note(HELP),
            Command::New => {
                self.session = None;
                self.say("(a new session)");
            }
            Command::Session(None) => match &self.session {
                Some(session) => self.say(session),
                None => self.say("(the session begins with the first message)"),
            },
            Command::Session(Some(id)) => self.resume(id).await,
            Command::Model(wanted) => self.choose_model(wanted).await,
            Command::Tools => self.show_servers().await,
            Command::Unknown(word) => self.say(&format!("({word} is not a command; /help lists them)")),
            Command::Nothing | Command::Leave | Command::Message(_) => {}
        }
    }

    async fn resume(&mut self, id: &str) {
        if SessionId::parse(id).is_none() {
            return say(self.terminal, Style::Bad, &format!("`{id}` is not a session's id"));
        }
        match self.client.session_length(id).await {
            Ok(length) => {
                self.session = Some(id.to_owned());
                self.say(&format!("(session {id}, {length} messages so far)"));
            }
            Err(error) => say(self.terminal, Style::Bad, &format!("{error:#}")),
        }
    }

    async fn show_servers(&self) {
        match self.client.servers().await {
            Ok(servers) if servers.is_empty() => self.say("(there are no MCP servers)"),
            Ok(servers) => servers.iter().for_each(|server| self.say(server)),
            Err(error) => say(self.terminal, Style::Bad, &format!("{error:#}")),
        }
    }

    async fn choose_model(&mut self, wanted: Option<&str>) {
        let models = match self.client.models().await {
            Ok(models) => models,
            Err(error) => return say(self.terminal, Style::Bad, &format!("{error:#}")),
        };
        match wanted {
            None => {
                for model in &models {
                    let mark = if self.model.as_ref() == Some(model) { "*" } else { " " };
                    self.say(&format!("{mark} {model}"));
                }
                if self.model.is_none() {
                    self.say("(the gateway's default is asked; /model NAME asks another one)");
                }
            }
            Some(name) if models.iter().any(|model| model == name) => {
                self.model = Some(name.to_owned());
                self.say(&format!("({name} answers from now on)"));
            }
            Some(name) => {
                say(self.terminal, Style::Bad, &format!("there is no model `{name}`; /model lists them"));
            }
        }
    }

    /// Says who is there. Also finds out early that nobody is.
    async fn greet(&mut self, local: Option<&LocalGateway>) -> anyhow::Result<()> {
        let models = {
            let _spinner = Spinner::start(self.terminal, "connecting");
            self.client.models().await?
        };
        let model = self.model.as_deref().or(models.first().map(String::as_str)).unwrap_or("no model");
        let more = if self.model.is_none() && models.len() > 1 {
            format!(" (of {})", models.len())
        } else {
            String::new()
        };
        let tools = match local.map(LocalGateway::tools) {
            None => String::new(),
            Some(1) => ", 1 tool".to_owned(),
            Some(count) => format!(", {count} tools"),
        };
        let version = env!("CARGO_PKG_VERSION");
        self.say(&format!("witgate {version} - {model}{more}{tools} - /help for help, Ctrl-D leaves"));
        self.tell_news(local);
        if let Some(id) = self.session.clone() {
            let length = self.client.session_length(&id).await?;
            self.say(&format!("(session {id}, {length} messages so far)"));
        }
        note("\n");
        Ok(())
    }

    /// False when Ctrl-C came first: the request is dropped then, and the session stays as it was.
    async fn answer_unless_interrupted(&mut self, message: &str) -> anyhow::Result<bool> {
        tokio::select! {
            answered = self.answer(message) => answered.map(|()| true),
            signal = signals::interrupt() => signal.map(|_| false),
        }
    }

    async fn answer(&mut self, message: &str) -> anyhow::Result<()> {
        let mut printer = Printer::new(self.terminal, self.show_tools, io::stdout(), io::stderr());
        let message =
            Message { text: message, session: self.session.as_deref(), model: self.model.as_deref() };
        let mut reply = self.client.send(&message).await?;
        let mut session = None;
        while let Some(event) = reply.next().await {
            let event = event?;
            printer.event(&event)?;
            if let ReplyEvent::Done { session: id, .. } = event {
                session = Some(id);
            }
        }
        self.session = session.or(self.session.take());
        Ok(())
    }

    fn tell_news(&self, local: Option<&LocalGateway>) {
        for line in local.map(LocalGateway::news).unwrap_or_default() {
            say(self.terminal, Style::Warning, &format!("warning: {line}"));
        }
    }

    fn say(&self, text: &str) {
        say(self.terminal, Style::Dim, text);
    }
}

fn say(terminal: Terminal, style: Style, text: &str) {
    note(&format!("{}\n", terminal.err(style, &clean(text))));
}

/// The words of the command line, if there are any; a `-` among them is replaced by what is on standard input, on lines
/// of its own.
async fn question(words: &[String]) -> anyhow::Result<Option<String>> {
    if words.is_empty() {
        return Ok(None);
    }
    let reads_input = words.iter().any(|word| word == "-");
    let input = if reads_input { input::whole_stdin().await? } else { String::new() };
    let question = with_input(words, input.trim_end());
    if question.trim().is_empty() {
        bail!("there is no question");
    }
    Ok(Some(question))
}

fn with_input(words: &[String], input: &str) -> String {
    let mut question = String::new();
    for (position, word) in words.iter().enumerate() {
        let beside_input = word == "-" || position.checked_sub(1).is_some_and(|before| words[before] == "-");
        if position > 0 {
            question.push(if beside_input { '\n' } else { ' ' });
        }
        question.push_str(if word == "-" { input } else { word });
    }
    question
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_key_must_be_there() {
        let lookup = |name: &str| (name != "EMPTY").then(|| Secret::from(name));
        let none = |_: &str| None;
        assert_eq!(key(None, none).unwrap(), None);
        assert_eq!(key(None, lookup).unwrap(), Some(Secret::from("WITGATE_API_KEY")));
        assert_eq!(key(Some("MINE"), lookup).unwrap(), Some(Secret::from("MINE")));
        assert!(key(Some("EMPTY"), lookup).unwrap_err().to_string().starts_with("--key-env EMPTY: "));
    }

    #[test]
    fn standard_input_gets_lines_of_its_own() {
        let question =
            |words: &[&str]| with_input(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>(), "a\nb");
        assert_eq!(question(&["-"]), "a\nb");
        assert_eq!(question(&["Sum", "up:", "-"]), "Sum up:\na\nb");
        assert_eq!(question(&["-", "Sum up", "that"]), "a\nb\nSum up that");
    }
}
