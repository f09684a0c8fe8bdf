//! Arithmetic expressions: `(1.05^3 - 1) * 200`, `round(10/3, 2)`, `min(4, sqrt(20))`.
//!
//! A recursive descent over the text that computes as it goes. Errors tell the position (in characters, from 1).

use super::number::{Number, Refusal, Rounding};

/// Longest expression, in characters.
pub(crate) const MAX_LENGTH: usize = 2_000;
/// Deepest nesting of parentheses, signs and powers.
const MAX_DEPTH: usize = 64;
/// The functions, for messages.
pub(crate) const FUNCTIONS: &str = "abs, ceil, floor, max, min, round, sqrt";

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpressionError {
    /// Character it was noticed at, from 1.
    pub(crate) position: usize,
    /// What is wrong.
    pub(crate) message: String,
}

impl std::fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at character {}: {}", self.position, self.message)
    }
}

/// Computes an expression.
///
/// # Errors
/// When it cannot be read or computed: position and reason.
pub(crate) fn evaluate(text: &str) -> Result<Number, ExpressionError> {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() > MAX_LENGTH {
        let message = format!("the expression is longer than {MAX_LENGTH} characters");
        return Err(ExpressionError { position: MAX_LENGTH + 1, message });
    }
    let mut parser = Parser { characters, at: 0, depth: 0 };
    let result = parser.sum()?;
    match parser.peek() {
        None => Ok(result),
        Some(')') => Err(parser.error("this `)` has no `(` before it")),
        Some(',') => {
            Err(parser.error("a comma stands only between a function's arguments; write numbers without it"))
        }
        Some('=' | '<' | '>' | '!') => Err(parser.error("comparisons are not supported; compute one value")),
        Some(other) => Err(parser.error(format!("expected an operator (+ - * / % ^), found `{other}`"))),
    }
}

struct Parser {
    characters: Vec<char>,
    at: usize,
    depth: usize,
}

type Step = Result<Number, ExpressionError>;

impl Parser {
    /// The next character that is no space, with the usual typographic forms turned into plain ones.
    fn peek(&mut self) -> Option<char> {
        while self.characters.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.characters.get(self.at).map(|c| match c {
            '×' | '·' => '*',
            '÷' | '∕' => '/',
            '−' | '–' => '-',
            other => *other,
        })
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn error(&self, message: impl Into<String>) -> ExpressionError {
        ExpressionError { position: self.at + 1, message: message.into() }
    }

    fn sum(&mut self) -> Step {
        let mut left = self.product()?;
        loop {
            let start = self.at;
            let result = if self.take('+') {
                left.add(&self.product()?)
            } else if self.take('-') {
                left.subtract(&self.product()?)
            } else {
                return Ok(left);
            };
            left = self.placed(start, result)?;
        }
    }

    fn product(&mut self) -> Step {
        let mut left = self.signed()?;
        loop {
            let start = self.at;
            let result = if self.take('*') {
                left.multiply(&self.signed()?)
            } else if self.take('/') {
                left.divide(&self.signed()?)
            } else if self.take('%') {
                if matches!(self.peek(), None | Some(')' | '*' | '/' | ',')) {
                    self.at = start;
                    self.peek();
                    return Err(
                        self.error("`%` is the remainder of a division; write a percentage as 15/100")
                    );
                }
                left.remainder(&self.signed()?)
            } else {
                return Ok(left);
            };
            left = self.placed(start, result)?;
        }
    }

    /// Signs bind weaker than powers: `-2^2` is `-4`.
    fn signed(&mut self) -> Step {
        if self.take('-') {
            return self.deeper(Self::signed).map(|number| number.negate());
        }
        if self.take('+') {
            return self.deeper(Self::signed);
        }
        self.power()
    }

    /// Powers bind to the right: `2^3^2` is `2^9`.
    fn power(&mut self) -> Step {
        let base = self.value()?;
        let start = self.at;
        let double = self.peek() == Some('*') && self.characters.get(self.at + 1) == Some(&'*');
        if double {
            self.at += 2;
        } else if !self.take('^') {
            return Ok(base);
        }
        let exponent = self.deeper(Self::signed)?;
        self.placed(start, base.power(&exponent))
    }

    fn value(&mut self) -> Step {
        match self.peek() {
            Some('(') => {
                let open = self.at;
                self.at += 1;
                let inner = self.deeper(Self::sum)?;
                self.close(open)?;
                Ok(inner)
            }
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_alphabetic() || c == '√' => self.named(),
            Some(other) => Err(self.error(format!("expected a number, a function or `(`, found `{other}`"))),
            None => Err(self.error("the expression ends where a number is expected")),
        }
    }

    fn number(&mut self) -> Step {
        let start = self.at;
        let mut digits = String::new();
        while let Some(c) = self.characters.get(self.at) {
            match c {
                '.' if digits.contains('.') => {
                    return Err(self.error("a number has one decimal point at most"));
                }
                '0'..='9' | '.' => digits.push(*c),
                '_' => {}
                _ => break,
            }
            self.at += 1;
        }
        if digits == "." {
            self.at = start;
            return Err(self.error("a decimal point needs digits"));
        }
        let exponent = self.exponent()?;
        let number = Number::decimal(&digits, exponent);
        if self.characters.get(self.at).is_some_and(|c| c.is_alphanumeric()) {
            return Err(self.error("an operator is missing after the number, for example `*`"));
        }
        self.placed(start, number)
    }

    /// `e6` or `E-3` right behind a number's digits.
    fn exponent(&mut self) -> Result<i32, ExpressionError> {
        if !matches!(self.characters.get(self.at), Some('e' | 'E')) {
            return Ok(0);
        }
        let signed = matches!(self.characters.get(self.at + 1), Some('+' | '-'));
        let first = self.at + 1 + usize::from(signed);
        let end =
            (first..).find(|i| !self.characters.get(*i).is_some_and(char::is_ascii_digit)).unwrap_or(first);
        if end == first {
            return Ok(0);
        }
        let text: String = self.characters[self.at + 1..end].iter().collect();
        match text.parse::<i32>() {
            Ok(exponent) if exponent.abs() <= 1_000 => {
                self.at = end;
                Ok(exponent)
            }
            _ => Err(self.error("the power of ten must be between -1000 and 1000")),
        }
    }

    fn named(&mut self) -> Step {
        let start = self.at;
        while self.characters.get(self.at).is_some_and(|c| c.is_alphanumeric() || *c == '_' || *c == '√') {
            self.at += 1;
        }
        let name: String = self.characters[start..self.at].iter().collect::<String>().to_lowercase();
        let open = self.peek().filter(|c| *c == '(').map(|_| self.at);
        let Some(open) = open else {
            return match name.as_str() {
                "pi" | "π" => Ok(Number::pi()),
                "e" => Ok(Number::e()),
                _ => Err(ExpressionError {
                    position: start + 1,
                    message: format!("`{name}` is not known; there are pi, e, and the functions {FUNCTIONS}"),
                }),
            };
        };
        self.at += 1;
        let mut arguments = Vec::new();
        if self.peek() != Some(')') {
            arguments.push(self.deeper(Self::sum)?);
            while self.take(',') {
                arguments.push(self.deeper(Self::sum)?);
            }
        }
        self.close(open)?;
        let result = call(&name, &arguments);
        result.map_err(|message| ExpressionError { position: start + 1, message })
    }

    fn close(&mut self, open: usize) -> Result<(), ExpressionError> {
        if self.take(')') {
            return Ok(());
        }
        match self.peek() {
            None => Err(self.error(format!("the `(` at character {} is not closed", open + 1))),
            Some(other) => Err(self.error(format!("expected an operator or `)`, found `{other}`"))),
        }
    }

    fn deeper(&mut self, inner: fn(&mut Self) -> Step) -> Step {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// Gives a refusal the position of the operator or number it is about.
    fn placed(&mut self, start: usize, result: Result<Number, Refusal>) -> Step {
        result.map_err(|message| {
            let spaces = self.characters[start..].iter().take_while(|c| c.is_whitespace()).count();
            ExpressionError { position: start + spaces + 1, message }
        })
    }
}

fn call(name: &str, arguments: &[Number]) -> Result<Number, Refusal> {
    let round = |how| match arguments {
        [value] => value.round(&Number::whole(0), how),
        [value, places] => value.round(places, how),
        _ => Err(format!(
            "{name} takes a number and, if wanted, the number of decimal places: {name}(2.345, 2)"
        )),
    };
    match (name, arguments) {
        ("round", _) => round(Rounding::HalfUp),
        ("floor", _) => round(Rounding::Floor),
        ("ceil", _) => round(Rounding::Ceil),
        ("abs", [value]) => Ok(value.abs()),
        ("sqrt" | "√", [value]) => value.sqrt(),
        ("min" | "max", [first, rest @ ..]) => {
            Ok(rest.iter().fold(first.clone(), |best, next| best.pick(next, name == "max")))
        }
        ("min" | "max", []) => Err(format!("{name} takes one number or more")),
        ("abs" | "sqrt", _) => Err(format!("{name} takes one number, not {}", arguments.len())),
        _ => Err(format!("there is no function `{name}`; there are {FUNCTIONS}")),
    }
}
