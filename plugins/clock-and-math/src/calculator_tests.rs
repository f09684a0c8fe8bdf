//! What the calculator gives, as a table.

use super::expression::evaluate;

fn result(text: &str) -> String {
    match evaluate(text) {
        Ok(number) => {
            let (decimal, exact) = number.to_decimal();
            if exact { decimal } else { format!("~{decimal}") }
        }
        Err(error) => format!("! {error}"),
    }
}

fn check(table: &[(&str, &str)]) {
    let wrong: Vec<String> = table
        .iter()
        .filter(|(text, expected)| result(text) != *expected)
        .map(|(text, expected)| format!("{text}\n  gives    {}\n  expected {expected}", result(text)))
        .collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn decimals_are_exact() {
    check(&[
        ("0.1+0.2", "0.3"),
        ("1/3*3", "1"),
        ("1.10 * 3", "3.3"),
        ("100 - 99.99", "0.01"),
        ("2^200", "1606938044258990275541962092341162602522202993782792835301376"),
        ("2^-3", "0.125"),
        ("1/8", "0.125"),
        ("10/4", "2.5"),
        ("1e3 + 1E-3", "1000.001"),
        (".5 + 5.", "5.5"),
        ("1_000_000 * 2", "2000000"),
        (
            "123456789012345678901234567890 * 987654321098765432109876543210",
            "121932631137021795226185032733622923332237463801111263526900",
        ),
        ("0 * -1", "0"),
        ("1e-500", "1e-500"),
        ("3 * 10^-200 / 4", "7.5e-201"),
    ]);
}

#[test]
fn operators_bind_as_on_paper() {
    check(&[
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * 4", "20"),
        ("-2^2", "-4"),
        ("(-2)^2", "4"),
        ("2^3^2", "512"),
        ("2**10", "1024"),
        ("2 ^ -1", "0.5"),
        ("8 / 4 / 2", "1"),
        ("8 - 4 - 2", "2"),
        ("7 % 3", "1"),
        ("-7 % 3", "2"),
        ("7.5 % 2", "1.5"),
        ("--3", "3"),
        ("3 × 4 ÷ 2 − 1", "5"),
    ]);
}

#[test]
fn functions() {
    check(&[
        ("round(2.5)", "3"),
        ("round(-2.5)", "-3"),
        ("round(2.345, 2)", "2.35"),
        ("round(1234, -2)", "1200"),
        ("floor(-1.5)", "-2"),
        ("ceil(1.01)", "2"),
        ("ceil(1.001, 2)", "1.01"),
        ("abs(-3.5)", "3.5"),
        ("min(3, 1, 2)", "1"),
        ("MAX(3, 1, 2)", "3"),
        ("sqrt(16)", "4"),
        ("sqrt(2.25)", "1.5"),
        ("sqrt(1/9) * 9", "3"),
        ("27^(1/3)", "3"),
        ("4^1.5", "8"),
        ("4^-0.5", "0.5"),
        ("0^0", "1"),
        ("(-1)^999999999999", "-1"),
    ]);
}

#[test]
fn what_does_not_end_is_rounded_and_says_so() {
    check(&[
        ("1/3", "~0.3333333333333333333333333333333333"),
        ("2/3", "~0.6666666666666666666666666666666667"),
        ("sqrt(2)", "~1.414213562373095048801688724209698"),
        ("sqrt(2)^2", "~2"),
        ("2^(119/120)", "~1.988480847635094659280900982574575"),
        ("sqrt(0.0002)", "~0.01414213562373095048801688724209698"),
        ("1.05^(1/12)", "~1.004074123783648301605419602672107"),
        ("(200/100)^(1/30)", "~1.023373891996774909854543470649983"),
        ("pi", "~3.141592653589793238462643383279503"),
        ("2*pi*0", "~0"),
        ("1/3*1e-60", "~3.333333333333333333333333333333333e-61"),
        ("sqrt(2)*1e50", "~1.414213562373095048801688724209698e50"),
        ("10^40/3", "~3.333333333333333333333333333333333e39"),
        ("sqrt(99999999999999999999999999999999999999999999999999)", "~10000000000000000000000000"),
    ]);
}

#[test]
fn errors_tell_where() {
    check(&[
        ("", "! at character 1: the expression ends where a number is expected"),
        ("2 +", "! at character 4: the expression ends where a number is expected"),
        ("1 / 0", "! at character 3: division by zero"),
        ("(1 + 2", "! at character 7: the `(` at character 1 is not closed"),
        ("1 + 2)", "! at character 6: this `)` has no `(` before it"),
        ("2 x 3", "! at character 3: expected an operator (+ - * / % ^), found `x`"),
        ("2x", "! at character 2: an operator is missing after the number, for example `*`"),
        ("1.2.3", "! at character 4: a number has one decimal point at most"),
        (
            "log(2)",
            "! at character 1: there is no function `log`; there are abs, ceil, floor, max, min, round, sqrt",
        ),
        (
            "foo",
            "! at character 1: `foo` is not known; there are pi, e, and the functions abs, ceil, floor, max, min, round, sqrt",
        ),
        ("sqrt(-1)", "! at character 1: a root of a negative number is not a real number"),
        ("sqrt(1, 2)", "! at character 1: sqrt takes one number, not 2"),
        (
            "1,000 + 1",
            "! at character 2: a comma stands only between a function's arguments; write numbers without it",
        ),
        ("20% * 50", "! at character 3: `%` is the remainder of a division; write a percentage as 15/100"),
        ("1 = 1", "! at character 3: comparisons are not supported; compute one value"),
        (
            "2^0.12345",
            "! at character 2: the exponent must be a whole number or a fraction such as 1/12, with a denominator up to 120",
        ),
        ("0^-1", "! at character 2: division by zero: 0 to a negative power"),
        ("$5", "! at character 1: expected a number, a function or `(`, found `$`"),
    ]);
}

#[test]
fn everything_is_bounded() {
    check(&[
        ("9^9^9", "! at character 2: a number would have more than 1000 digits"),
        ("10^999 * 100", "! at character 8: a number would have more than 1000 digits"),
        ("1e1001", "! at character 2: the power of ten must be between -1000 and 1000"),
        (
            "1e-1000 / 10^10",
            "! at character 9: the exact result would need more than 1000 digits behind the point; use round() on the way",
        ),
        ("2^-99999999", "! at character 2: a number would have more than 1000 digits"),
    ]);
    let deep = format!("{}1{}", "(".repeat(65), ")".repeat(65));
    assert_eq!(result(&deep), "! at character 66: nested deeper than 64 levels");
    let signs = "-".repeat(70);
    assert_eq!(result(&signs), "! at character 66: nested deeper than 64 levels");
    let long = "1+".repeat(1_000) + "1";
    assert_eq!(result(&long), "! at character 2001: the expression is longer than 2000 characters");
    assert_eq!(result(&("1+".repeat(999) + "1")), "1000");
}

#[test]
fn fixed_places() {
    let places = |text, places| evaluate(text).unwrap().to_places(places);
    assert_eq!(places("1/3", 2), ("0.33".into(), false));
    assert_eq!(places("2.5", 2), ("2.50".into(), true));
    assert_eq!(places("-0.005", 2), ("-0.01".into(), false));
    assert_eq!(places("-0.001", 2), ("0.00".into(), false));
    assert_eq!(places("2.5", 0), ("3".into(), false));
}
