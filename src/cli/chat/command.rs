//! What a typed line means: a message, a command, or the wish to leave.

/// A line, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// Nothing was typed.
    Nothing,
    /// For the model.
    Message(&'a str),
    /// `/help`
    Help,
    /// `/new`: start another session.
    New,
    /// `/session`: show the session, or go on with another one.
    Session(Option<&'a str>),
    /// `/model`: show the models, or ask another one.
    Model(Option<&'a str>),
    /// `/tools`: show the MCP servers.
    Tools,
    /// `quit` or `exit`.
    Leave,
    /// A command that does not exist.
    Unknown(&'a str),
}

/// What `/help` says.
pub(super) const HELP: &str = "\
/new             start another session
/session [ID]    show this session's id, or go on with another session
/model [NAME]    show the models, or ask another one
/tools           show the MCP servers and how many tools they have
/help            this
quit, exit       leave (also Ctrl-D, or Ctrl-C twice)
Ctrl-C interrupts an answer. A line that ends with \\ goes on in the next one.
";

impl<'a> Command<'a> {
    /// Understands what a person typed.
    pub(super) fn typed(line: &'a str) -> Self {
        let line = line.trim();
        let mut words = line.split_whitespace();
        let (first, second, more) = (words.next().unwrap_or_default(), words.next(), words.next());
        match (first, second) {
            ("/help" | "/?", None) => Self::Help,
            ("/new", None) => Self::New,
            ("/tools", None) => Self::Tools,
            ("/session", _) if more.is_none() => Self::Session(second),
            ("/model" | "/models", _) if more.is_none() => Self::Model(second),
            ("/quit" | "/exit", None) => Self::Leave,
            (word, None) if is_command_like(word) => Self::Unknown(word),
            _ => Self::piped(line),
        }
    }

    /// Understands a line of standard input: only leaving is a command there.
    pub(super) fn piped(line: &'a str) -> Self {
        match line.trim() {
            "" => Self::Nothing,
            "quit" | "exit" => Self::Leave,
            message => Self::Message(message),
        }
    }
}

/// `/word` is a mistyped command; `/etc/hosts` and `/what is this` are messages.
fn is_command_like(word: &str) -> bool {
    word.strip_prefix('/')
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphabetic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let cases = [
            ("", Command::Nothing),
            ("  \n", Command::Nothing),
            (" hello there\n", Command::Message("hello there")),
            ("quit", Command::Leave),
            ("exit ", Command::Leave),
            ("/quit", Command::Leave),
            ("quit smoking: how?", Command::Message("quit smoking: how?")),
            ("/help", Command::Help),
            ("/new", Command::New),
            ("/tools", Command::Tools),
            ("/tool read {}", Command::Message("/tool read {}")),
            ("/session", Command::Session(None)),
            ("/session ses_1", Command::Session(Some("ses_1"))),
            ("/model gpt-4o", Command::Model(Some("gpt-4o"))),
            ("/model is this a command?", Command::Message("/model is this a command?")),
            ("/hlep", Command::Unknown("/hlep")),
            ("/etc/hosts", Command::Message("/etc/hosts")),
            ("/etc/hosts has what?", Command::Message("/etc/hosts has what?")),
        ];
        for (line, wanted) in cases {
            assert_eq!(Command::typed(line), wanted, "{line:?}");
        }
        assert_eq!(Command::piped("/help\n"), Command::Message("/help"));
        assert_eq!(Command::piped("exit\n"), Command::Leave);
    }
}
