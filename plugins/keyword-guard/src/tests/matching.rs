//! What counts as a phrase, and that it does not depend on how a stream is cut.

use crate::matcher::{Found, Matcher};
use crate::stream::{Outcome, Stream};

fn matcher(phrases: &[&str], whole_words: bool) -> Matcher {
    let phrases: Vec<String> = phrases.iter().map(|phrase| (*phrase).to_owned()).collect();
    Matcher::new(&phrases, whole_words).unwrap()
}

/// The text with its phrases in brackets.
fn marked(matcher: &Matcher, text: &str) -> String {
    let mut out = String::new();
    let mut from = 0;
    while let Found::Phrase { start, end, phrase } = matcher.find(text, from, true) {
        out.push_str(&text[from..start]);
        out.push_str(&format!("[{phrase}]"));
        from = end;
    }
    out + &text[from..]
}

#[test]
fn letters_of_any_case_and_spaces_of_any_kind_are_the_same() {
    let matcher = matcher(&["Straße", "foo  bar", "ΟΔΟΣ", "İzmir", "don't", "e-mail", "привет"], true);
    for text in ["STRASSE", "strasse", "Straße", "STRAẞE"] {
        assert_eq!(marked(&matcher, text), "[0]", "{text}");
    }
    for text in ["Foo Bar", "FOO\n\t bar", "foo\u{a0}bar", "f\u{200b}oo ba\u{ad}r", "ｆｏｏ　ＢＡＲ"] {
        assert_eq!(marked(&matcher, text), "[1]", "{text}");
    }
    for (text, expected) in [
        ("οδος οδοσ", "[2] [2]"),
        ("izmir İZMİR", "[3] [3]"),
        ("Don’t", "[4]"),
        ("E‑MAIL", "[5]"),
        ("ПРИВЕТ!", "[6]!"),
        ("foobar foo-bar foo", "foobar foo-bar foo"),
    ] {
        assert_eq!(marked(&matcher, text), expected, "{text}");
    }
}

#[test]
fn whole_words_are_not_found_within_words() {
    let words = matcher(&["cat", "c++", "秘密", "über"], true);
    for (text, expected) in [
        ("cat, (CAT) cat", "[0], ([0]) [0]"),
        ("category concat cats cat_x cat1 x-cat", "category concat cats cat_x cat1 x-[0]"),
        ("c++ and c++11 xc++", "[1] and [1]11 xc++"),
        ("这是秘密文件", "这是[2]文件"),
        ("ÜBER überall", "[3] überall"),
        ("cate\u{301} cat\u{301}", "cate\u{301} cat\u{301}"),
    ] {
        assert_eq!(marked(&words, text), expected, "{text}");
    }
    let parts = matcher(&["cat"], false);
    assert_eq!(marked(&parts, "category concat"), "[0]egory con[0]");
}

#[test]
fn the_longest_phrase_at_the_leftmost_place_is_found() {
    let matcher = matcher(&["a b", "a b c d", "b c", "x"], true);
    for (text, expected) in
        [("a b c d", "[1]"), ("a b c e", "[0] c e"), ("a b cx x", "[0] cx [3]"), ("b c d", "[2] d")]
    {
        assert_eq!(marked(&matcher, text), expected, "{text}");
    }
}

#[test]
fn useless_phrases_are_refused_by_position() {
    let fails = |phrases: &[String]| Matcher::new(phrases, true).unwrap_err();
    assert!(fails(&[]).contains("no phrases"));
    assert!(fails(&["a".into(), " \u{200b}".into()]).contains("phrase 2"));
    assert!(fails(&["a".repeat(257)]).contains("256"));
    assert!(fails(&vec!["a".into(); 10_001]).contains("10000"));
}

fn streamed<'a>(matcher: &Matcher, pieces: impl IntoIterator<Item = &'a str>) -> String {
    let mut stream = Stream::default();
    let mut out = String::new();
    for piece in pieces {
        let before = out.len();
        if stream.push(matcher, piece, Some("[]"), &mut out) == Outcome::Unchanged {
            assert_eq!(&out[before..], piece, "said to be unchanged");
        }
    }
    stream.finish(matcher, Some("[]"), &mut out);
    out
}

/// The position of the phrase that ends the stream, and what went on before.
fn blocked<'a>(matcher: &Matcher, pieces: impl IntoIterator<Item = &'a str>) -> Option<usize> {
    let mut stream = Stream::default();
    let mut out = String::new();
    for piece in pieces {
        if let Outcome::Hit(phrase) = stream.push(matcher, piece, None, &mut out) {
            return Some(phrase);
        }
    }
    match stream.finish(matcher, None, &mut out) {
        Outcome::Hit(phrase) => Some(phrase),
        _ => None,
    }
}

const TEXTS: [&str; 8] = [
    "A b c e, a  b\nc d. STRASSE Straßen straße",
    "cat category concat CAT",
    "a b a b c a b c d a b cd",
    "这是秘密文件，秘 密 c++11 c++",
    "a\u{200b} b \u{200b} c a \u{a0}b",
    "aaaa aaab aab aaaaab",
    "ｃａｔ don’t",
    "",
];

fn matchers() -> [Matcher; 2] {
    let phrases = ["a b", "a b c d", "straße", "cat", "秘密", "c++", "aaab", "don't"];
    [matcher(&phrases, true), matcher(&phrases, false)]
}

fn chars(text: &str) -> impl Iterator<Item = &str> {
    text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()])
}

#[test]
fn the_result_does_not_depend_on_cuts() {
    for matcher in matchers() {
        for text in TEXTS {
            let whole = streamed(&matcher, [text]);
            let first = blocked(&matcher, [text]);
            assert_eq!(streamed(&matcher, chars(text)), whole, "{text}");
            assert_eq!(blocked(&matcher, chars(text)), first, "{text}");
            let cuts: Vec<usize> = (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)).collect();
            for (index, one) in cuts.iter().enumerate() {
                for two in &cuts[index..] {
                    let pieces = [&text[..*one], &text[*one..*two], &text[*two..]];
                    assert_eq!(streamed(&matcher, pieces), whole, "{pieces:?}");
                    assert_eq!(blocked(&matcher, pieces), first, "{pieces:?}");
                }
            }
        }
    }
}

#[test]
fn the_result_of_random_text_does_not_depend_on_cuts() {
    const PARTS: [&str; 16] =
        ["a", "a", "b", " ", " ", "c", "d", "\n", "\u{200b}", "ß", "cat", "秘", "密", "straß", "e", "+"];
    let mut state = 5_u64;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % bound
    };
    for matcher in matchers() {
        for _ in 0..3000 {
            let text: String = (0..below(24)).map(|_| PARTS[below(PARTS.len())]).collect();
            assert_eq!(streamed(&matcher, chars(&text)), streamed(&matcher, [text.as_str()]), "{text:?}");
        }
    }
}

#[test]
fn only_what_a_phrase_may_still_need_is_held_back() {
    let [matcher, _] = matchers();
    for (text, held) in [
        ("hello a", "a"),
        ("hello ab", ""),
        ("x a b", "a b"),
        ("x a b c ", "a b c "),
        ("a b x", ""),
        ("ca", "ca"),
        ("xca", ""),
    ] {
        let mut stream = Stream::default();
        stream.push(&matcher, text, Some("*"), &mut String::new());
        assert_eq!(stream.held(), held, "{text}");
    }
}

#[test]
fn long_texts_are_read_once() {
    let matchers = matchers();
    for unit in ["a", "a ", "a b ", "a\u{200b}", "c", " ", "秘"] {
        let text = unit.repeat(1_000_000 / unit.len());
        for matcher in &matchers {
            // Every phrase is replaced or none is there; what counts is that this ends.
            assert!(!streamed(matcher, [text.as_str()]).is_empty());
        }
    }
    let spaces = format!("a{}b", " ".repeat(1_000_000));
    assert_eq!(streamed(&matchers[0], chars(&spaces)), spaces, "a phrase does not span a page");
}
