//! Reads `.env` files into pairs, by the rules of python-dotenv, whose files people bring along.
//!
//! `NAME=value`, optionally after `export`; an unquoted value runs to the end of the line or to ` #` and may contain
//! spaces; `'...'` is taken literally, `"..."` knows `\n \r \t \\ \" \$`; quoted values may span lines; `${NAME}` and
//! `${NAME:-default}` are replaced outside single quotes, unset names by nothing. The process environment is never
//! changed: it is shared by all threads and every child would inherit the secrets.

use super::expand;

/// Stands for `\$` while names are replaced; it cannot be part of an environment variable.
const LITERAL_DOLLAR: char = '\0';

/// A variable of the file, with the line it begins on.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Variable {
    /// Its name.
    pub(super) name: String,
    /// Its value.
    pub(super) value: String,
    /// Line, from 1.
    pub(super) line: usize,
}

/// The variables in `text`, in order. `environment` answers `${NAME}` before the file's own earlier variables do.
///
/// # Errors
/// Line and problem; never the text of a line, which may hold a secret.
pub(super) fn parse(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Variable>, (usize, String)> {
    let mut variables: Vec<Variable> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let line = text[..text.len() - rest.len()].matches('\n').count() + 1;
        let end = rest.find('\n').unwrap_or(rest.len());
        let first = rest[..end].trim();
        if first.is_empty() || first.starts_with('#') {
            rest = rest.get(end + 1..).unwrap_or_default();
            continue;
        }
        let statement = first.strip_prefix("export").filter(|s| s.starts_with([' ', '\t'])).unwrap_or(first);
        let Some((name, _)) = statement.split_once('=') else {
            return Err((line, "expected NAME=value".to_owned()));
        };
        let name = name.trim();
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || "'\"#$".contains(c)) {
            return Err((line, "the text before = is not a variable name".to_owned()));
        }
        let value_at = rest.find('=').map_or(end, |at| at + 1);
        let lookup = |name: &str| {
            let earlier = || variables.iter().rev().find(|v| v.name == name).map(|v| v.value.clone());
            environment(name).or_else(earlier)
        };
        let (value, used) = parse_value(&rest[value_at..], &lookup).map_err(|problem| (line, problem))?;
        variables.push(Variable { name: name.to_owned(), value, line });
        rest = &rest[value_at + used..];
    }
    Ok(variables)
}

/// The value at the start of `text`, and how many bytes it and the rest of its last line take.
fn parse_value(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<(String, usize), String> {
    let padding = text.len() - text.trim_start_matches([' ', '\t']).len();
    let body = &text[padding..];
    let line_end = |from: usize| text[from..].find('\n').map_or(text.len(), |at| from + at + 1);
    let Some(quote) = body.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
        let end = line_end(0);
        let value = unquoted(&text[..end]);
        return Ok((expand::or_empty(value, lookup), end));
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        if escaped {
            match (quote, c) {
                ('"', 'n') => value.push('\n'),
                ('"', 'r') => value.push('\r'),
                ('"', 't') => value.push('\t'),
                ('"', '$') => value.push(LITERAL_DOLLAR),
                ('"', '"') | ('\'', '\'') | (_, '\\') => value.push(c),
                _ => value.extend(['\\', c]),
            }
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            let after = padding + at + 1;
            let end = line_end(after);
            let tail = text[after..end].trim();
            if !tail.is_empty() && !tail.starts_with('#') {
                return Err("text after the closing quote".to_owned());
            }
            if quote == '"' {
                value = expand::or_empty(&value, lookup).replace(LITERAL_DOLLAR, "$");
            }
            return Ok((value, end));
        } else {
            value.push(c);
        }
    }
    Err(format!("the quote {quote} is not closed"))
}

/// An unquoted value without its comment: `#` begins one only at the start or after a blank.
fn unquoted(line: &str) -> &str {
    let is_comment = |at: usize| line[..at].chars().next_back().is_none_or(char::is_whitespace);
    let comment = line.match_indices('#').map(|(at, _)| at).find(|at| is_comment(*at));
    line[..comment.unwrap_or(line.len())].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let environment = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
        let variables = parse(text, &environment).map_err(|(line, problem)| format!("{line}: {problem}"));
        variables.unwrap().into_iter().map(|v| (v.name, v.value)).collect()
    }

    fn one(text: &str) -> String {
        pairs(text).remove(0).1
    }

    #[test]
    fn unquoted_values_may_have_spaces_and_comments() {
        assert_eq!(one("OPENAI_API_KEY=your OpenAI API key\n"), "your OpenAI API key");
        assert_eq!(one("A=https://x/v1 # Optional, defaults to x"), "https://x/v1");
        assert_eq!(one("COOKIES=a=b; c=d#e"), "a=b; c=d#e");
        assert_eq!(one("A=pa$$word$5"), "pa$$word$5");
        assert_eq!(one("A=\r\nB=1"), "");
        assert_eq!(one("A= # nothing"), "");
    }

    #[test]
    fn quotes_export_and_several_lines() {
        let text =
            "# head\n\nexport A='x ${HOME} # y' # c\nB = \"one\\ntwo \\\"q\\\" \\$5\"\nC=\"a\nb\"\nD=4";
        let wanted = [("A", "x ${HOME} # y"), ("B", "one\ntwo \"q\" $5"), ("C", "a\nb"), ("D", "4")];
        assert_eq!(pairs(text), wanted.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn names_are_replaced() {
        let text = "A=${HOME}/x\nB=\"${A}/y\"\nC=${NOPE}${NOPE:-z}";
        assert_eq!(
            pairs(text).into_iter().map(|(_, v)| v).collect::<Vec<_>>(),
            ["/home/me/x", "/home/me/x/y", "z"]
        );
    }

    #[test]
    fn errors_have_a_line_and_show_no_value() {
        let error =
            |text: &str| parse(text, &|_| None).err().map(|(line, problem)| format!("{line}: {problem}"));
        assert_eq!(error("A=1\nsk-secret").as_deref(), Some("2: expected NAME=value"));
        assert_eq!(error("A=1\n\nB=\"sk-secret\n").as_deref(), Some("3: the quote \" is not closed"));
        assert_eq!(error("A='x'sk-secret").as_deref(), Some("1: text after the closing quote"));
        assert_eq!(error("A B=1").as_deref(), Some("1: the text before = is not a variable name"));
    }
}
