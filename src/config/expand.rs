//! `${NAME}` and `${NAME:-default}` in text; `${env:NAME}` means the same. `$${` is a literal `${`.
//!
//! A variable that is empty counts as unset, as everywhere in the gateway. Nothing else is special: `$NAME` stays.

/// `text` with its variables replaced.
///
/// # Errors
/// What is wrong, naming the variable: it is unset and has no default, or the braces are not closed.
pub(super) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    replace(text, &mut |name, default| match (lookup(name).filter(|v| !v.is_empty()), default) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!(
            "the variable {name} is not set; set it in the environment or in .env, or write ${{{name}:-default}}"
        )),
    })
}

/// `text` with its variables replaced, unset ones by nothing; text that cannot be expanded stays as it is.
pub(super) fn or_empty(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let replaced = replace(text, &mut |name, default| {
        Ok(lookup(name).filter(|v| !v.is_empty()).or_else(|| default.map(str::to_owned)).unwrap_or_default())
    });
    replaced.unwrap_or_else(|_| text.to_owned())
}

type Resolve<'a> = &'a mut dyn FnMut(&str, Option<&str>) -> Result<String, String>;

fn replace(text: &str, resolve: Resolve<'_>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let body = &rest[at + 2..];
        let end = body.find('}').ok_or("a ${ is not closed by }; write $${ for a literal ${")?;
        let (name, default) = match body[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&body[..end], None),
        };
        let name = name.strip_prefix("env:").unwrap_or(name);
        let is_name = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if !is_name(name) {
            return Err(format!(
                "${{{name}}} is not a variable; only ${{NAME}}, ${{NAME:-default}} and ${{env:NAME}} are replaced"
            ));
        }
        out.push_str(&resolve(name, default)?);
        rest = &body[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<String, String> {
        let lookup = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        expand(text, &lookup)
    }

    #[test]
    fn replaces_names_and_defaults() {
        let text = "x${A}y${env:A}${NOPE:-d:-e}${EMPTY:-f}${NOPE:-}z $A $${A} $";
        assert_eq!(run(text).as_deref(), Ok("x1y1d:-efz $A ${A} $"));
    }

    #[test]
    fn problems_name_the_variable() {
        let unset =
            "the variable NOPE is not set; set it in the environment or in .env, or write ${NOPE:-default}";
        assert_eq!(run("${NOPE}").unwrap_err(), unset);
        assert!(run("${EMPTY}").unwrap_err().starts_with("the variable EMPTY is not set"));
        assert_eq!(run("${A").unwrap_err(), "a ${ is not closed by }; write $${ for a literal ${");
        assert!(run("${input:token}").unwrap_err().starts_with("${input:token} is not a variable"));
    }
}
