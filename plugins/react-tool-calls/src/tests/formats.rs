//! What is taken for a call, what is left alone, and that neither depends on how a stream is cut.

use crate::call::End;
use crate::json;
use crate::parser::{Formats, Parser, Thoughts};

pub(crate) fn formats() -> Formats {
    Formats {
        react: true,
        hermes: true,
        thoughts: Thoughts::Reasoning,
        tools: Vec::new(),
        input_key: "input".to_owned(),
    }
}

/// Text, thoughts, calls.
type Parsed = (String, String, Vec<(String, String)>);

fn parse_as<'a>(formats: &Formats, end: End, pieces: impl IntoIterator<Item = &'a str>) -> Parsed {
    let mut parser = Parser::new(formats.clone());
    let mut out = Vec::new();
    for piece in pieces {
        out.extend(parser.push(piece));
    }
    let (rest, calls) = parser.finish(end);
    out.extend(rest);
    let join = |is_thought| {
        out.iter().filter(|piece| piece.is_thought == is_thought).map(|piece| piece.text.as_str()).collect()
    };
    (join(false), join(true), calls.into_iter().map(|call| (call.name, call.arguments)).collect())
}

fn parse(text: &str) -> Parsed {
    parse_as(&formats(), End::Complete, [text])
}

#[track_caller]
fn calls(text: &str, expected: &[(&str, &str)]) {
    let (_, _, calls) = parse(text);
    let expected: Vec<_> = expected.iter().map(|(name, args)| ((*name).into(), (*args).into())).collect();
    assert_eq!(calls, expected, "{text}");
}

#[track_caller]
fn leaves(texts: &[&str]) {
    for text in texts {
        assert_eq!(parse(text), ((*text).to_owned(), String::new(), vec![]), "{text}");
    }
}

#[test]
fn react_calls_are_found() {
    let (text, thoughts, found) = parse(
        "Thought: I need the weather.\nAction: get_weather\nAction Input: {\"city\": \"Paris\"}\nObservation: 21 degrees\n\
         Thought: done\nAction: other\nAction Input: {}\nFinal Answer: 21",
    );
    assert_eq!((text.as_str(), thoughts.as_str()), ("", "I need the weather."));
    assert_eq!(found, [("get_weather".into(), "{\"city\": \"Paris\"}".into())]);
    let (text, _, found) = parse("Let me look.\n\nAction: f\nAction Input: {}\n");
    assert_eq!((text.as_str(), found.len()), ("Let me look.", 1));
}

#[test]
fn react_is_written_in_many_ways() {
    let one = &[("f", "{\"a\": 1}")];
    for text in [
        "Action: f\nAction Input: {\"a\": 1}",
        "action: f\naction input: {\"a\": 1}",
        "**Action:** f\n**Action Input:** {\"a\": 1}",
        "**Action**: `f`\n**Action Input**: `` {\"a\": 1}".replace("`` ", "").as_str(),
        "### Action: f\n### Action Input:\n{\"a\": 1}",
        "Thought 1: x\nAction 1: f\nAction Input 1: {\"a\": 1}\nObservation 1: y",
        "Action: \"f\"\n\nAction Input: {\"a\": 1} and more",
        "Action: f\nAction Input: ```json\n{\"a\": 1}\n```\nObservation",
        "Action: f\nAction Input:\n```\n{\"a\": 1}\n```",
        "Action: f\n{\"a\": 1}",
        "Action: f {\"a\": 1}",
        "Action: f\n```json\n{\"a\": 1}\n```",
        "Action: [f]\nAction Input: {\"a\": 1}",
        "Action: f.\r\nAction Input: {\"a\": 1}\r\nObservation: x",
        "Action: f({\"a\": 1})",
        "Action:\nf\nAction Input: {\"a\": 1}",
        "Action：f\nAction Input：{\"a\": 1}",
        "Action:\n```json\n{\"action\": \"f\", \"action_input\": {\"a\": 1}}\n```",
        "Action: {\"name\": \"f\", \"arguments\": {\"a\": 1}}",
        "Action: {\"tool\": \"f\", \"parameters\": \"{\\\"a\\\": 1}\"}",
    ] {
        calls(text, one);
    }
}

#[test]
fn input_that_is_no_object_becomes_an_argument() {
    for (input, expected) in [
        (
            "{'city': 'Paris', 'days': 3, 'ok': True, 'no': None,}",
            r#"{"city": "Paris", "days": 3, "ok": true, "no": null}"#,
        ),
        ("{city: \"It's\", 'x': 'it\\'s, ok'}", r#"{"city": "It's", "x": "it's, ok"}"#),
        ("{\"q\": \"a\nb\"}", r#"{"q": "a\nb"}"#),
        ("{“q”: “a”, \"n\": -1.5e3}", r#"{"q": "a", "n": -1.5e3}"#),
        ("Paris", r#"{"input":"Paris"}"#),
        ("\"Paris\"", r#"{"input":"Paris"}"#),
        ("'Paris'", r#"{"input":"Paris"}"#),
        ("the weather in Paris, \"now\"", r#"{"input":"the weather in Paris, \"now\""}"#),
        ("42", r#"{"input":42}"#),
        ("[1, 2]", r#"{"input":[1,2]}"#),
        ("\"{\\\"a\\\": 1}\"", r#"{"a": 1}"#),
        ("{not json at all}", r#"{"input":"{not json at all}"}"#),
        ("SELECT *\nFROM t\nWHERE a < 1", r#"{"input":"SELECT *\nFROM t\nWHERE a < 1"}"#),
        ("```sql\nSELECT 1\n```", r#"{"input":"SELECT 1"}"#),
        ("None", "{}"),
        ("null", "{}"),
        ("", "{}"),
        ("{\"n\": 12345678901234567890123, \"x\": 1.10}", "{\"n\": 12345678901234567890123, \"x\": 1.10}"),
    ] {
        calls(&format!("Action: f\nAction Input: {input}\nObservation: x"), &[("f", expected)]);
        calls(&format!("Action: f\nAction Input: {input}"), &[("f", expected)]);
    }
    calls("Action: search[the weather]", &[("search", r#"{"input":"the weather"}"#)]);
    calls("Action: f(city=\"Paris\", days=3)", &[("f", r#"{"city":"Paris", "days":3}"#)]);
    calls("Action: f()", &[("f", "{}")]);
    let formats = Formats { input_key: "query".into(), ..formats() };
    let (_, _, found) = parse_as(&formats, End::Complete, ["Action: f\nAction Input: x"]);
    assert_eq!(found[0].1, r#"{"query":"x"}"#);
}

#[test]
fn a_call_without_input_counts_only_in_a_react_reply() {
    calls("Thought: x\nAction: list", &[("list", "{}")]);
    calls("Thought: x\nAction: list\nObservation: y", &[("list", "{}")]);
    calls("Look:\nAction: list\nObservation: y", &[("list", "{}")]);
    leaves(&["The server is down.\nAction: restart", "The server is down.\nAction: restart\nOwner: me"]);
}

#[test]
fn several_calls_are_made_until_the_model_invents_an_answer() {
    calls(
        "Action: f\nAction Input: {\"a\": 1}\n\nAction: g\nAction Input: x\nAction: h\nAction Input: {}\nObservation: 1\n\
         Action: i\nAction Input: {}",
        &[("f", "{\"a\": 1}"), ("g", "{\"input\":\"x\"}"), ("h", "{}")],
    );
}

#[test]
fn the_final_answer_is_unwrapped() {
    for (reply, text, thoughts) in [
        ("Final Answer: 42", "42", ""),
        ("Thought: I know.\nFinal Answer: 42\n", "42\n", "I know."),
        ("\nThought: I know.\n\n**Final Answer:** It is\n42.\nAction: x", "It is\n42.\nAction: x", "I know."),
        ("Thought: one\nThought: two\nFinal Answer:\n\nx", "x", "one\ntwo"),
        ("Thought: one\n\nText.\nFinal Answer: x", "Text.\nx", "one"),
        ("Thought: Done.\nAction: Finish[42]\nObservation: x", "42", "Done."),
        ("Thought: Done.\nAction: None\nAction Input: None\nFinal Answer: 42", "42", "Done."),
        ("Thought: I know.\n\nThe answer is 42.", "The answer is 42.", "I know."),
        ("Thought: It is 42.", "It is 42.", "It is 42."),
    ] {
        assert_eq!(parse(reply), (text.to_owned(), thoughts.to_owned(), vec![]), "{reply}");
    }
    let keep = Formats { thoughts: Thoughts::Text, ..formats() };
    let (text, thoughts, _) = parse_as(&keep, End::Complete, ["Thought: I know.\nFinal Answer: 42"]);
    assert_eq!((text.as_str(), thoughts.as_str()), ("Thought: I know.\n42", ""));
    let (text, _, found) =
        parse_as(&keep, End::Complete, ["Thought: Hm.\nAction: f\nAction Input: {}\nObservation: x"]);
    assert_eq!((text.as_str(), found.len()), ("Thought: Hm.", 1));
    let drop = Formats { thoughts: Thoughts::Drop, ..formats() };
    let (text, thoughts, _) = parse_as(&drop, End::Complete, ["Thought: I know.\nFinal Answer: 42"]);
    assert_eq!((text.as_str(), thoughts.as_str()), ("42", ""));
}

#[test]
fn hermes_calls_are_found() {
    let (text, _, found) = parse(
        "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"</tool_call>\"}}\n</tool_call>\n\
         <tool_call>{'name': 'g', 'arguments': {'b': 'it'}}</tool_call><tool_call>{\"arguments\": \"{}\", \"name\": \"h\"}\n\
         </tool_call> and <tool_response>1</tool_response><tool_call>{\"name\": \"i\"}</tool_call>",
    );
    assert_eq!(text, "Let me see.");
    let found: Vec<_> = found.iter().map(|(name, args)| (name.as_str(), args.as_str())).collect();
    assert_eq!(found, [("f", "{\"a\": \"</tool_call>\"}"), ("g", "{\"b\": \"it\"}"), ("h", "{}")]);
    calls("<tool_call>\n```json\n{\"name\": \"f\"}\n```\n</tool_call>", &[("f", "{}")]);
    calls("<tool_call>{\"name\": \"f\", \"arguments\": {}}", &[("f", "{}")]);
}

#[test]
fn other_text_is_left_alone() {
    leaves(&[
        "Hello!\n\nHow are you?  \n",
        "  indented\n\ttext \n\n",
        "Plan\nAction: I will look at the weather\nDone",
        "Action items:\n- a\n",
        "The tag <tool_call> is used by Hermes. <b>x</b> a < b",
        "<tool_call>{\"name\": 1}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": {",
        "<tool_",
        "x\nAct",
        "Observation: the sky is blue.\nAction: none of us\n",
        "Solution:\n**Final Answer:** 42",
        "x\nThought: y\nz",
        "Action: f(\nx)",
        "x\nAction: two words\nAction Input: {}",
        "```\nAction: \n```",
        "Action:",
        "你好\nAction：什么？",
    ]);
    let (text, _, found) = parse_as(&formats(), End::Truncated, ["x\nAction: f\nAction Input: {\"a\": \"b"]);
    assert_eq!(
        (text.as_str(), found.len()),
        ("x\nAction: f\nAction Input: {\"a\": \"b", 0),
        "cut by the token limit"
    );
    let (text, _, found) = parse_as(&formats(), End::Truncated, ["Action: f\nAction Input: par"]);
    assert_eq!((text.as_str(), found.len()), ("Action: f\nAction Input: par", 0));
    let (_, _, found) = parse_as(&formats(), End::Truncated, ["Action: f\nAction Input: {}\nObs"]);
    assert_eq!(found.len(), 1, "the call itself is complete");
}

#[test]
fn formats_and_tools_can_be_chosen() {
    let reply = "Action: f\nAction Input: {}\n";
    let tags = "<tool_call>{\"name\": \"f\"}</tool_call>";
    let parse = |formats: &Formats, text| parse_as(formats, End::Complete, [text]);
    let hermes = Formats { react: false, ..formats() };
    assert_eq!(parse(&hermes, reply), (reply.to_owned(), String::new(), vec![]));
    assert_eq!(parse(&hermes, tags).2.len(), 1);
    let react = Formats { hermes: false, ..formats() };
    assert_eq!(parse(&react, tags), (tags.to_owned(), String::new(), vec![]));
    assert_eq!(parse(&react, reply).2.len(), 1);
    let tools = Formats { tools: vec!["g".into()], ..formats() };
    assert_eq!(parse(&tools, reply), (reply.to_owned(), String::new(), vec![]));
    assert_eq!(parse(&tools, tags), (tags.to_owned(), String::new(), vec![]));
}

const TEXTS: [&str; 12] = [
    "Thought: I é need\nAction: f\nAction Input: {\"a\": \"}\\\"\nx\"}\nObservation: 1\nAction: g\nAction Input: {}",
    "Let me see. \n\n**Action:** `f`\n**Action Input:**\n```json\n{'a': 'it\\'s', 'b': [1, {}]}\n```\nrest",
    "x\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"</\"}}\n</tool_call>\n<tool_call>{\"name\":\"g\"}</tool_call>",
    "<tool_call>{\"name\":\"g\"}</tool_call><tool_response>x</tool_response><tool_call>{\"name\":\"h\"}</tool_call>",
    "Thought: a\n\n\nb c\n Thought: d\nFinal Answer:  e\n\nf  \n",
    "Thought: a\nAction: None\nAction Input: none\nThought: b\nAction: Finish[c]\nx",
    "  \nHello <b> world\nAction: I go\n Action: f \n\nAction Input: a\nb\n\nObservation:",
    "Action: f\nAction: g\nThought: x\nAction: h(a=1)\nAction Input: {}\n",
    "Thought: Action: f\nAction :f\nAction Input: x\nFinal Answer",
    "a\nAction: f\nAction Input:\nFinal Answer: x\nAction:\n\n\nAction Input 3: y",
    "```\nAction: ```json\n{\"action\": \"f\", \"action_input\": \"x\"}\n```",
    "",
];

fn chars(text: &str) -> impl Iterator<Item = &str> {
    text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()])
}

#[test]
fn the_result_does_not_depend_on_cuts() {
    for thoughts in [Thoughts::Reasoning, Thoughts::Text] {
        let formats = Formats { thoughts, ..formats() };
        for (end, text) in TEXTS.iter().flat_map(|text| [(End::Complete, text), (End::Truncated, text)]) {
            let expected = parse_as(&formats, end, [*text]);
            assert_eq!(parse_as(&formats, end, chars(text)), expected, "{text}");
            let cuts: Vec<usize> = (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)).collect();
            for (index, one) in cuts.iter().enumerate() {
                for two in &cuts[index..] {
                    let pieces = [&text[..*one], &text[*one..*two], &text[*two..]];
                    assert_eq!(parse_as(&formats, end, pieces), expected, "{pieces:?}");
                }
            }
        }
    }
}

#[test]
fn the_result_of_random_text_does_not_depend_on_cuts() {
    const PARTS: [&str; 36] = [
        "Thought:",
        "Action:",
        "Action Input:",
        "Observation:",
        "Final Answer:",
        "\n",
        "\n",
        "\n",
        " ",
        " ",
        "f",
        "g",
        "{",
        "}",
        "{}",
        "{\"a\": 1}",
        "'",
        "\"",
        "`",
        "```",
        "json",
        "<tool_call>",
        "</tool_call>",
        "<",
        "<tool_response>",
        "{\"name\": \"f\"}",
        "None",
        "(",
        ")",
        "[x]",
        "Finish[y]",
        "**",
        "é",
        "two words",
        ":",
        ",",
    ];
    let mut state = 5_u64;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % bound
    };
    for _ in 0..6000 {
        let text: String = (0..below(20)).map(|_| PARTS[below(PARTS.len())]).collect();
        let expected = parse(&text);
        assert_eq!(parse_as(&formats(), End::Complete, chars(&text)), expected, "{text:?}");
        let cut = (0..=below(text.len() + 1)).rev().find(|cut| text.is_char_boundary(*cut)).unwrap();
        let pieces = [&text[..cut], &text[cut..]];
        assert_eq!(parse_as(&formats(), End::Complete, pieces), expected, "{pieces:?}");
    }
}

#[test]
fn only_what_may_become_a_call_is_held_back() {
    for (text, gone) in [
        ("Hello world", "Hello world"),
        ("Hello <", "Hello"),
        ("Hello <b", "Hello <b"),
        ("Hello <tool", "Hello"),
        ("Hello.\nAct", "Hello."),
        ("Hello.\nActing", "Hello.\nActing"),
        ("Hello.\nAction: I go", "Hello.\nAction: I go"),
        ("Hello.\nAction: go\nI am", "Hello.\nAction: go\nI am"),
        ("- item\n- *bold*", "- item\n- *bold*"),
    ] {
        let out: String = Parser::new(formats()).push(text).into_iter().map(|piece| piece.text).collect();
        assert_eq!(out, gone, "{text}");
    }
}

/// Quadratic work on texts of this size would not end within hours.
#[test]
fn long_texts_take_no_time_worth_mentioning() {
    const LENGTH: usize = 300_000;
    for unit in [
        "a",
        "\n",
        " ",
        "<",
        "<tool_call>",
        "<tool_call>{",
        "<tool_call>{'",
        "Action: f\nAction Input: {\"",
        "Action: ",
        "Action:\n",
        "Action: f\n",
        "Thought: ",
        "Thought:\n",
        "Action: f\nAction Input: x\n",
        "{",
        "`",
        "é",
    ] {
        let text = unit.repeat(LENGTH / unit.len());
        let pieces: Vec<&str> = if text.is_ascii() {
            text.as_bytes().chunks(16).map(|piece| std::str::from_utf8(piece).unwrap()).collect()
        } else {
            vec![&text]
        };
        assert!(parse_as(&formats(), End::Complete, pieces) == parse(&text), "{unit}");
    }
    let mut long = "Action: f\nAction Input: {\"text\": \"".to_owned();
    long.push_str(&"word ".repeat(50_000));
    long.push_str("\"}");
    let (_, _, found) = parse_as(&formats(), End::Complete, chars(&long));
    assert_eq!(found.len(), 1, "a long call that comes in small pieces");
    long.insert_str(40, &"more ".repeat(10_000));
    assert_eq!(
        parse_as(&formats(), End::Complete, chars(&long)),
        (long.clone(), String::new(), vec![]),
        "too long"
    );
}

#[test]
fn objects_end_where_they_end() {
    for (text, length) in [
        ("{}x", Some(2)),
        ("{\"a\": \"}\"}x", Some(10)),
        ("{'a': 'it's }'}x", Some(15)),
        ("{\"a\": [{}, {}]} {}", Some(15)),
        ("{\"a\": \"\\\"}", None),
        ("{", None),
    ] {
        assert_eq!(json::object_end(text), length, "{text}");
    }
}
