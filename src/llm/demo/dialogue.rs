//! What the demo model says to a conversation, and which tools it calls.

use serde::Deserialize;
use serde_json::Value;

use super::arguments;
use super::choose::{self, Tool};
use super::words::words;
use crate::domain::CompletionRequest;

const WHO: &str = "I am witgate's built-in demo model, a small program without a language model.";
const REAL_MODEL: &str = "To talk to a real model, set OPENAI_API_KEY (and OPENAI_BASE_URL for anything but OpenAI) and \
    start the gateway again.";

/// So many tools are listed in an answer.
const LISTED_TOOLS: usize = 30;

/// What the model answers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) text: String,
    pub(super) calls: Vec<Call>,
}

/// A tool call, its arguments as JSON text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) arguments: String,
}

/// One message as far as it matters here.
struct Turn {
    role: String,
    text: String,
    tool_call_id: String,
    /// (id, name) of the calls an assistant made.
    calls: Vec<(String, String)>,
}

/// What the request allows about tools.
enum Choice {
    None,
    Auto,
    Required,
    Named(String),
}

/// The answer to a conversation.
pub(super) fn answer(request: &CompletionRequest) -> Reply {
    let turns: Vec<Turn> =
        request.messages.iter().filter_map(|message| turn(&message.head().ok()?)).collect();
    let choice = choice(request);
    let tools = if matches!(choice, Choice::None) { Vec::new() } else { choose::tools(&request.tools) };
    if turns.last().is_some_and(|turn| turn.role == "tool") {
        return say(tool_results(&turns));
    }
    let said: Vec<&str> = turns.iter().filter(|t| t.role == "user").map(|t| t.text.trim()).collect();
    let text = said.last().copied().unwrap_or_default();
    if let Some(reply) = commands(text, &tools) {
        return reply;
    }
    let tool = match &choice {
        Choice::Named(name) => tools.iter().find(|tool| tool.name == *name),
        _ => choose::choose(&tools, text, matches!(choice, Choice::Required)),
    };
    let must = matches!(choice, Choice::Required | Choice::Named(_));
    match tool {
        Some(tool) => match arguments::fill(tool, text) {
            Ok(arguments) => call(&tool.name, arguments.to_string()),
            Err(_) if must => call(&tool.name, "{}".to_owned()),
            Err(missing) => say(ask_for(tool, &missing)),
        },
        None => say(talk(text, &said, &tools)),
    }
}

fn turn(head: &crate::domain::MessageHead<'_>) -> Option<Turn> {
    #[derive(Deserialize)]
    struct Call {
        id: String,
        function: Function,
    }
    #[derive(Deserialize)]
    struct Function {
        name: String,
    }
    let calls: Vec<Call> =
        head.tool_calls.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    Some(Turn {
        role: head.role.to_string(),
        text: head.text(),
        tool_call_id: head.tool_call_id.clone().unwrap_or_default(),
        calls: calls.into_iter().map(|call| (call.id, call.function.name)).collect(),
    })
}

fn choice(request: &CompletionRequest) -> Choice {
    let value: Option<Value> = request.tool_choice.as_ref().and_then(|raw| serde_json::from_slice(raw).ok());
    match value {
        Some(Value::String(word)) if word == "none" => Choice::None,
        Some(Value::String(word)) if word == "required" => Choice::Required,
        Some(object) => match object.pointer("/function/name").and_then(Value::as_str) {
            Some(name) => Choice::Named(name.to_owned()),
            None => Choice::Auto,
        },
        None => Choice::Auto,
    }
}

fn say(text: String) -> Reply {
    Reply { text, calls: Vec::new() }
}

fn call(name: &str, arguments: String) -> Reply {
    Reply { text: String::new(), calls: vec![Call { name: name.to_owned(), arguments }] }
}

/// The answer made of the results that came back.
fn tool_results(turns: &[Turn]) -> String {
    let calls: Vec<&(String, String)> = turns.iter().flat_map(|turn| &turn.calls).collect();
    let results = turns.iter().rev().take_while(|turn| turn.role == "tool").collect::<Vec<_>>();
    let line = |turn: &&Turn| {
        let call = calls.iter().rev().find(|(id, _)| *id == turn.tool_call_id);
        let name = call.map_or("of that id", |(_, name)| name.as_str());
        let text = turn.text.trim();
        if text.is_empty() {
            format!("The tool `{name}` answered with nothing.")
        } else if text.contains('\n') {
            format!("The tool `{name}` answered:\n\n{text}")
        } else {
            format!("The tool `{name}` answered: {text}")
        }
    };
    results.iter().rev().map(line).collect::<Vec<_>>().join("\n\n")
}

/// `/help`, and one `/tool NAME {arguments}` on each line.
fn commands(text: &str, tools: &[Tool]) -> Option<Reply> {
    if matches!(text.to_lowercase().trim_end_matches(['?', '!', '.']), "/help" | "help") {
        return Some(say(help(tools)));
    }
    let mut reply = Reply::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let rest = line.strip_prefix("/tool")?;
        let (name, arguments) = rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), "{}"));
        if !tools.iter().any(|tool| tool.name == name) {
            let problem = if name.is_empty() {
                "Say which tool: `/tool NAME {\"argument\": \"value\"}`.".to_owned()
            } else {
                format!("There is no tool `{name}` here.")
            };
            return Some(say(format!("{problem} {}", tool_list(tools))));
        }
        // As with a real model, nobody promises that these are right.
        reply.calls.push(Call { name: name.to_owned(), arguments: arguments.trim().to_owned() });
    }
    (!reply.calls.is_empty()).then_some(reply)
}

fn ask_for(tool: &Tool, missing: &[String]) -> String {
    let names: Vec<String> = missing.iter().map(|name| format!("`{name}`")).collect();
    let example: Vec<String> = missing.iter().map(|name| format!("\"{name}\": ...")).collect();
    format!(
        "I would call the tool `{}` but did not find {} in your words. Say it plainly: `/tool {} {{{}}}`",
        tool.name,
        names.join(" and "),
        tool.name,
        example.join(", ")
    )
}

/// An answer without tools.
fn talk(text: &str, said: &[&str], tools: &[Tool]) -> String {
    let spoken = words(text);
    let has = |options: &[&str]| spoken.iter().any(|word| options.contains(&word.as_str()));
    let lower = text.to_lowercase();
    let asks = |options: &[&str]| options.iter().any(|option| lower.contains(option));
    if text.is_empty() {
        return format!("{WHO} You have not said anything yet. Say /help to see what I can do.");
    }
    if asks(&["did i say", "did i just say", "did i ask", "my last message", "my previous message"]) {
        return match said.len().checked_sub(2).and_then(|last| said.get(last)) {
            Some(before) => format!("Before this you said: “{before}”"),
            None => "This is the first message of our conversation that I can see.".to_owned(),
        };
    }
    if asks(&["who are you", "what are you", "introduce yourself", "your name", "what can you do"]) {
        return format!("{WHO} {} Say /help to see how to call them. {REAL_MODEL}", tool_list(tools));
    }
    if asks(&["which tools", "what tools", "list tools", "list the tools", "your tools"]) {
        return tool_list(tools);
    }
    if has(&["hello", "hi", "hey", "greetings", "hallo", "hola", "bonjour"])
        || asks(&["good morning", "good evening"])
    {
        return format!(
            "Hello! {WHO} I can call the gateway's tools for you; say /help to see how. {REAL_MODEL}"
        );
    }
    if has(&["thanks", "thank", "bye", "goodbye"]) {
        return "You are welcome. Say /help if you want to try a tool.".to_owned();
    }
    let shown: String = text.chars().take(200).collect();
    let more = if shown.len() < text.len() { "..." } else { "" };
    format!(
        "{WHO} So I cannot really answer “{shown}{more}”, but I can call the gateway's tools: say /help to see how. \
         {REAL_MODEL}"
    )
}

fn help(tools: &[Tool]) -> String {
    format!(
        "{WHO} {}\n\nCall a tool with `/tool NAME {{\"argument\": \"value\"}}`, several with one such line each, or just \
         say what you want (“which tables are there?”, “SELECT 1”): I look for the tool whose name fits your words.\n\n\
         {REAL_MODEL}",
        tool_list(tools)
    )
}

fn tool_list(tools: &[Tool]) -> String {
    if tools.is_empty() {
        return "I see no tools: none are configured, or this request does not offer any.".to_owned();
    }
    let line = |tool: &Tool| {
        let what = tool.description.lines().next().unwrap_or_default();
        if what.is_empty() { format!("- `{}`", tool.name) } else { format!("- `{}`: {what}", tool.name) }
    };
    let lines: Vec<String> = tools.iter().take(LISTED_TOOLS).map(line).collect();
    let more = tools.len().saturating_sub(LISTED_TOOLS);
    let more = if more > 0 { format!("\n- and {more} more") } else { String::new() };
    format!("I see these tools:\n{}{more}\n", lines.join("\n"))
}
