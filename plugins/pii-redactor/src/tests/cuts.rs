//! That the result does not depend on how a stream is cut, how much is held back, and that long texts cost little.

use super::finding::{redact, rules};
use crate::redact::{Counts, Rules, Stream};

/// A local part, an `@` and a domain of full length, and what ends it.
const MAX_HELD_BYTES: usize = 64 + 1 + 253 + 8;

/// Texts with something at every kind of border.
const TEXTS: [&str; 15] = [
    "Write to alice@example.com or bob.b+c@mail.example.co.uk. Bye",
    "a@b.com.1 x@y@b.com a@b..c git@github.com:a/b 'a@b.com','c@d.org' a@b.com-",
    "Karte 4111 1111 1111 1111 12/28 und 3782 822463 10005, nicht 4111 1111 1111 1112.",
    "IBAN DE89 3704 0044 0532 0130 00 oder GB29NWBK60161331926819, nicht DE88 3704 0044 0532 0130 00!",
    "Call +49 (0) 30 / 12 34 56 - 78, (555) 123-4567 or 1-800-555-0199. 2024 was v1.2.3",
    "tel:5551234567 01.02.2024 10:30 01 23 45 67 89 8 (495) 123-45-67 (11) 91234-5678 138 1234 5678",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 0 00 000 0000 00000",
    "4111111111111111@example.com +49 170 1234567 12 +1 (555) 123-4567x 030 123456 5",
    "联系张三foo@bar.com谢谢，电话+86 138 1234 5678。müller@bücher.de иван@пример.рф é👍+",
    "((((+++(1(2(030) 1(030) 12(030) 123456)))) +49(+49) 30 123456",
    "4111-1111-1111-1111-1111 0049 30 123456 004930123456 0012345678905",
    "550e8400-e29b-41d4-a716-446655440000 192.168.100.100 0x4111111111111111 1 030 123 456",
    "tel:tel:tel:12345 tel:(030) 123456 a.b.c.d.e.f.g@@h@i.jk lmn@o.p.qr.s",
    "0 04111 1111 1111 111180/2024123456(example.com+49-123456_' +49",
    "",
];

fn stream<'a>(rules: &Rules, pieces: impl IntoIterator<Item = &'a str>) -> String {
    let mut stream = Stream::default();
    let mut out = String::new();
    for piece in pieces {
        let before = out.len();
        if stream.push(rules, piece, &mut out, &mut Counts::default()) {
            assert_eq!(&out[before..], piece, "said to be unchanged");
        }
        assert!(stream.held().len() <= MAX_HELD_BYTES, "holds {} bytes", stream.held().len());
    }
    stream.finish(rules, &mut out, &mut Counts::default());
    out
}

fn chars(text: &str) -> impl Iterator<Item = &str> {
    text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()])
}

/// A small generator of numbers, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn pieces<'a>(&mut self, mut text: &'a str) -> Vec<&'a str> {
        let mut pieces = Vec::new();
        while !text.is_empty() {
            let mut cut = self.below(text.len().min(9) + 1);
            while !text.is_char_boundary(cut) {
                cut += 1;
            }
            pieces.push(&text[..cut]);
            text = &text[cut..];
        }
        pieces
    }
}

#[test]
fn the_result_does_not_depend_on_two_cuts() {
    let rules = rules();
    for text in TEXTS {
        let expected = redact(text);
        let cuts: Vec<usize> = (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)).collect();
        for (index, first) in cuts.iter().enumerate() {
            for second in &cuts[index..] {
                let pieces = [&text[..*first], &text[*first..*second], &text[*second..]];
                assert_eq!(stream(&rules, pieces), expected, "{pieces:?}");
            }
        }
    }
}

#[test]
fn the_result_does_not_depend_on_many_cuts() {
    let rules = rules();
    let mut dice = Dice(7);
    for text in TEXTS {
        assert_eq!(stream(&rules, chars(text)), redact(text), "{text}");
        for _ in 0..50 {
            let pieces = dice.pieces(text);
            assert_eq!(stream(&rules, pieces.iter().copied()), redact(text), "{pieces:?}");
        }
    }
}

#[test]
fn the_result_of_random_text_does_not_depend_on_cuts() {
    const PARTS: [&str; 40] = [
        "@",
        "a",
        "b.c",
        ".",
        "-",
        " ",
        " ",
        " ",
        "(",
        ")",
        "+",
        "+49",
        "+1",
        "0",
        "00",
        "030",
        "123456",
        "4111",
        "1111",
        "4111 1111 1111 1111",
        "DE89",
        "3704 0044 0532 0130 00",
        "example.com",
        "x@y.de",
        "tel:",
        "/",
        "\n",
        "é",
        "你",
        "👍",
        "555",
        "123",
        "4567",
        "12",
        "8",
        "2024",
        "'",
        "_",
        ":",
        "bob.smith-long-name",
    ];
    let rules = rules();
    let mut dice = Dice(11);
    for _ in 0..4000 {
        let count = dice.below(24);
        let text: String = (0..count).map(|_| PARTS[dice.below(PARTS.len())]).collect();
        let expected = redact(&text);
        assert_eq!(stream(&rules, chars(&text)), expected, "{text:?}");
        let pieces = dice.pieces(&text);
        assert_eq!(stream(&rules, pieces.iter().copied()), expected, "{pieces:?}");
    }
}

#[test]
fn text_that_cannot_become_a_match_is_not_held_back() {
    let rules = rules();
    for (text, held) in [
        ("Hello ", ""),
        ("Hello, wor", "wor"),
        ("it costs 30 ", ""),
        ("in 2024 ", ""),
        ("call 030 ", "030 "),
        ("card 4111 1", "4111 1"),
        ("1234 ", ""),
        ("DE89 37", "DE89 37"),
        ("DX89 ", ""),
        ("a@b.com, ", ""),
        ("你好", ""),
        ("x + ", ""),
        ("f(", ""),
        ("f (", "("),
    ] {
        let mut stream = Stream::default();
        stream.push(&rules, text, &mut String::new(), &mut Counts::default());
        assert_eq!(stream.held(), held, "{text}");
    }
}

/// Quadratic work on texts of this size would not end within hours.
#[test]
fn long_texts_take_no_time_worth_mentioning() {
    const LENGTH: usize = 300_000;
    let rules = rules();
    for unit in [
        "1", "@", "a", ".", "a.", "a@", "@a.", "a@a.", "1 ", "1-", "(1", "+1", "+", "(", "DE89 ", "4111 ",
        "0 ", "030 ", "a-1.", "é", "tel:1",
    ] {
        let text = unit.repeat(LENGTH / unit.len());
        let expected = redact(&text);
        let bytes: Vec<&str> = if text.is_ascii() {
            text.as_bytes().chunks(64).map(|piece| std::str::from_utf8(piece).unwrap()).collect()
        } else {
            vec![&text]
        };
        assert!(stream(&rules, bytes) == expected, "{unit}");
    }
}

#[test]
fn five_megabytes_of_one_character_are_read_once() {
    for unit in ["1", "@"] {
        let text = unit.repeat(5_000_000);
        assert!(redact(&text) == text);
    }
}
