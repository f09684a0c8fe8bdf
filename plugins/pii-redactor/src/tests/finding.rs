//! What is found, what is left alone, and what is put in its place.

use crate::redact::{AllowList, Counts, Kind, Replacement, Rules};

pub(crate) fn rules() -> Rules {
    Rules { kinds: Kind::ALL.to_vec(), ..Rules::default() }
}

fn whole(rules: &Rules, text: &str) -> Option<String> {
    rules.redact(text, &mut Counts::default())
}

pub(crate) fn redact(text: &str) -> String {
    whole(&rules(), text).unwrap_or_else(|| text.to_owned())
}

#[track_caller]
fn finds(kind: &str, texts: &[&str]) {
    for text in texts {
        let expected = format!("see [{kind}], thanks");
        assert_eq!(redact(&format!("see {text}, thanks")), expected, "{text}");
        assert_eq!(redact(text), format!("[{kind}]"), "{text} alone");
        assert_eq!(redact(&format!("你好{text}。再见")), format!("你好[{kind}]。再见"), "{text} in Chinese");
        assert_eq!(redact(&format!("({text})\n")), format!("([{kind}])\n"), "{text} in parentheses");
    }
}

#[track_caller]
fn leaves(texts: &[&str]) {
    for text in texts {
        for text in [(*text).to_owned(), format!("see {text}, thanks"), format!("({text})")] {
            assert_eq!(redact(&text), text);
        }
    }
}

#[test]
fn finds_addresses() {
    finds(
        "email",
        &[
            "alice@example.com",
            "Alice.B-c+d_e%f@mail.example.co.uk",
            "o'brien@example.ie",
            "müller@bücher.de",
            "иван@пример.рф",
            "a@xn--bcher-kva.xn--p1ai",
            "1@2.example",
            "4111111111111111@example.com",
        ],
    );
    assert_eq!(redact("a@b.com.Really"), "[email]", "a missing space costs a word, not an address");
    assert_eq!(redact("a@b.com. Really"), "[email]. Really");
    assert_eq!(redact("<mailto:a@b.com>?x=1"), "<mailto:[email]>?x=1");
    assert_eq!(redact("'a@b.com','c@d.org'"), "'[email]','[email]'");
    assert_eq!(redact("**a@b.com** _c@d.org_"), "**[email]** _[email]_");
    assert_eq!(redact("a@b.com--signed a@b.com-x a@b.com_x"), "[email]--signed [email]-x [email]_x");
    assert_eq!(redact("a@b.com:secret"), "[email]:secret");
    assert_eq!(redact("x@y@b.com"), "x@[email]");
    assert_eq!(redact("联系张三foo@bar.com谢谢"), "联系张三[email]谢谢");
    assert_eq!(redact("a@b.com.1"), "[email].1");
}

#[test]
fn leaves_what_only_looks_like_addresses() {
    leaves(&[
        "root@localhost",
        "react@18.2.0",
        "@alice",
        "a @ b.com",
        "git@github.com:a/b.git",
        "user@",
        "a@b",
        "a@b.c",
        "a@.com",
        "a@-b.com",
        "@@@@",
        "x@b..com",
    ]);
}

#[test]
fn finds_card_numbers() {
    finds(
        "card",
        &[
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "4111\u{a0}1111\u{a0}1111\u{a0}1111",
            "5555 5555 5555 4444",
            "2221 0000 0000 0009",
            "3782 822463 10005",
            "371449635398431",
            "3056 930902 5904",
            "6011 1111 1111 1117",
            "3530 1113 3330 0000",
            "6200 0000 0000 0005",
            "4222222222222",
            "6759649826438453",
        ],
    );
    assert_eq!(redact("4111 1111 1111 1111 12/28"), "[card] 12/28");
    assert_eq!(redact("4111 1111 1111 1111 123"), "[card] 123");
    assert_eq!(redact("12 4111 1111 1111 1111"), "12 [card]");
    assert_eq!(redact("4111111111111111."), "[card].");
}

#[test]
fn leaves_what_only_looks_like_card_numbers() {
    leaves(&[
        "4111111111111112",
        "4111 1111 1111 1112",
        "1700000000000000",
        "1234567890123456",
        "9783161484100",
        "490154203237518",
        "0.4111111111111111",
        "4111111111111111.50",
        "x4111111111111111",
        "4111111111111111x",
        "41111111111111111111",
        "550e8400-e29b-41d4-a716-446655440000",
        "4111 1111-1111 1111",
    ]);
}

#[test]
fn finds_account_numbers() {
    finds(
        "iban",
        &[
            "DE89370400440532013000",
            "DE89 3704 0044 0532 0130 00",
            "de89 3704 0044 0532 0130 00",
            "GB29 NWBK 6016 1331 9268 19",
            "FR14 2004 1010 0505 0001 3M02 606",
            "FR14 20041 01005 0500013M026 06",
            "NO93 8601 1117 947",
            "MT84MALT011000012345MTLCAST001S",
            "NL91-ABNA-0417-1643-00",
        ],
    );
    leaves(&[
        "DE88370400440532013000",
        "DE8937040044053201300",
        "DE893704004405320130001",
        "XX89370400440532013000",
        "xDE89370400440532013000",
        "DE89  3704 0044 0532 0130 00",
        "NO 93",
        "BE12",
    ]);
}

#[test]
fn finds_telephone_numbers() {
    finds(
        "phone",
        &[
            "+49 30 123456",
            "+49 (0)30 123456",
            "+49 (0) 30 / 12 34 56 - 78",
            "+4930123456",
            "+1 (555) 123-4567",
            "+1-555-123-4567",
            "+15551234567",
            "+44 20 7946 0958",
            "+33 1 23 45 67 89",
            "+81-3-1234-5678",
            "+7 495 123-45-67",
            "+61 2 9374 4000",
            "+420 123 456 789",
            "+91 98765 43210",
            "0049 30 123456",
            "004930123456",
            "00 49 30 123456",
            "(555) 123-4567",
            "(555)123-4567",
            "555-123-4567",
            "555.123.4567",
            "555 123 4567",
            "1-800-555-0199",
            "1 (800) 555-0199",
            "8 (495) 123-45-67",
            "8-800-555-35-35",
            "138 1234 5678",
            "(11) 91234-5678",
            "030 123456",
            "030/12345678",
            "030 / 123 456 78",
            "(030) 123456",
            "0170-1234567",
            "01701234567",
            "020 7946 0958",
            "(020) 7946 0958",
            "01632 960 123",
            "07700 900123",
            "07700900123",
            "01 23 45 67 89",
            "01.23.45.67.89",
            "03-1234-5678",
            "06-12345678",
            "044 668 18 00",
            "030\u{a0}123456",
            "030\u{2011}123456",
        ],
    );
    assert_eq!(redact("+49 170 1234567. 2024 was"), "[phone]. 2024 was");
    assert_eq!(redact("(+49) 30 123456"), "[phone]");
    assert_eq!(redact("href=\"tel:5551234567\""), "href=\"tel:[phone]\"");
    assert_eq!(redact("tel:030 123456 or Tel: 030 123456"), "tel:[phone] or Tel: [phone]");
    assert_eq!(redact("030 123456 5 times"), "[phone] 5 times");
    assert_eq!(redact("555 123 4567 (24 hours)"), "[phone] (24 hours)");
    assert_eq!(redact("555 123 4567 (24)"), "[phone] (24)");
}

#[test]
fn leaves_what_only_looks_like_telephone_numbers() {
    leaves(&[
        "2024-01-02",
        "01-02-2024",
        "01.02.2024",
        "01/02/2024 10:30",
        "01-02-2024 10:30",
        "01.02.24 12:00",
        "01/2024 12345",
        "2024-01-02T10:20:30.123456Z",
        "10:30",
        "1.2.3",
        "0.12.345.6789",
        "192.168.100.100",
        "203.0.113.195:8080",
        "1 000 000",
        "1 030 123 456",
        "123 456 789",
        "3.14159265358979",
        "0.123456789012",
        "1234567890",
        "1700000000",
        "1700000000000",
        "0123456789",
        "01234567890",
        "00012345678901",
        "0012345678905",
        "0 04111 1111 1111",
        "#0301234567",
        "$555 123 4567",
        "ISBN 978-3-16-148410-0",
        "0-306-40615-2",
        "0317-8471",
        "1234-5678-9012",
        "555-123-4567-89",
        "A-555-123-4567",
        "v030-123456",
        "2+12345678901",
        "+1234567",
        "+12345678",
        "UTC+02:00",
        "+0530",
        "(1999) 12345678",
        "(2024)",
        "12 345 678",
        "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12",
        "1 2 3 4 5 6 7 8 9 10 11 12",
        "0 1 2 3 4 5 6 7 8 9",
        "00:11:22:33:44:55",
        "deadbeef0301234567",
        "0301234567abc",
        "x_0301234567",
    ]);
}

#[test]
fn replaces_as_configured() {
    let text = "a.b@mail.example.com, 4111 1111 1111 1111, +49 30 123456, DE89370400440532013000";
    let mut rules = Rules { replacement: Replacement::Mask, ..rules() };
    assert_eq!(
        whole(&rules, text).unwrap(),
        "*.*@****.*******.com, **** **** **** 1111, +** ** **3456, ******************3000"
    );
    rules.replacement = Replacement::Text("<{kind} removed>".to_owned());
    assert_eq!(
        whole(&rules, text).unwrap(),
        "<email removed>, <card removed>, <phone removed>, <iban removed>"
    );
    rules.kinds = vec![Kind::Card];
    rules.replacement = Replacement::Label;
    assert_eq!(
        whole(&rules, text).unwrap(),
        "a.b@mail.example.com, [card], +49 30 123456, DE89370400440532013000"
    );
    assert_eq!(whole(&rules, "nothing here"), None);
}

#[test]
fn leaves_what_is_allowed() {
    let mut allow = AllowList::default();
    for entry in [
        "example.com",
        "@example.org",
        "Info@Other.net",
        "+49 30 123456",
        "DE89 3704 0044 0532 0130 00",
        "*.test.de",
    ] {
        assert!(allow.add(entry), "{entry}");
    }
    for entry in ["", "word", "12", "a@"] {
        assert!(!AllowList::default().add(entry), "{entry}");
    }
    let rules = Rules { allow, ..rules() };
    for text in [
        "A@Example.com",
        "a@sub.example.com",
        "a@example.org",
        "info@other.net",
        "+49-30-123456",
        "de89370400440532013000",
        "a@x.test.de",
    ] {
        assert_eq!(whole(&rules, text), None, "{text}");
    }
    assert_eq!(whole(&rules, "a@myexample.com me@other.net").unwrap(), "[email] [email]");
}
