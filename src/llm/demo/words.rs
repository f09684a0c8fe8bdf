//! Words of a sentence and of a tool's name, brought to a form in which they can be compared.

/// The words of `text` in lower case, without punctuation.
pub(super) fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// The words of an identifier: `list_tables`, `get-sum` and `readFile` have two each.
pub(super) fn name_words(name: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(name.len() + 4);
    let mut after_lower = false;
    for c in name.chars() {
        if c.is_uppercase() && after_lower {
            spaced.push(' ');
        }
        after_lower = c.is_lowercase();
        spaced.push(c);
    }
    words(&spaced)
}

/// The word without a plural's ending, so that `tables` and `table` are the same.
pub(super) fn stem(word: &str) -> String {
    match word {
        _ if word.len() <= 3 || word.ends_with("ss") => word.to_owned(),
        _ if word.ends_with("ies") => format!("{}y", &word[..word.len() - 3]),
        _ => word.strip_suffix('s').unwrap_or(word).to_owned(),
    }
}

/// Words people say for a verb that tools are named by.
pub(super) fn synonyms(verb: &str) -> &'static [&'static str] {
    match verb {
        "list" => &["which", "what", "show", "all", "available", "exist", "every"],
        "describe" => &["structure", "schema", "columns", "column", "explain", "fields"],
        "get" | "fetch" | "retrieve" => &["what", "show", "tell", "give", "get", "fetch", "retrieve"],
        "read" => &["show", "open", "print", "display", "cat"],
        "write" => &["save", "store", "put"],
        "create" => &["make", "new", "add"],
        "append" | "add" => &["add", "append", "note", "remember", "record"],
        "delete" | "remove" | "drop" => &["delete", "remove", "drop", "erase"],
        "search" | "find" => &["search", "find", "look", "where"],
        "current" => &["now", "current", "it"],
        "convert" => &["convert", "translate"],
        "sum" => &["plus", "add", "total"],
        "directory" | "folder" => &["directory", "folder"],
        _ => &[],
    }
}

/// Words that are never a name or a value.
pub(super) fn is_filler(word: &str) -> bool {
    const FILLERS: [&str; 40] = [
        "a", "an", "the", "this", "that", "these", "my", "your", "our", "is", "are", "was", "be", "there",
        "in", "of", "on", "at", "to", "for", "from", "with", "and", "or", "please", "me", "us", "it", "its",
        "called", "named", "what", "which", "does", "do", "have", "has", "look", "like", "by",
    ];
    FILLERS.contains(&word)
}
