//! Numbers of the calculator: exact fractions of whole numbers, so that `0.1 + 0.2` is `0.3` and `1/3 * 3` is `1`.
//!
//! Roots that do not come out even are carried with 50 digits and marked as rounded from then on. Numbers are bounded in
//! size, so no expression can eat memory or time.

use num_bigint::{BigInt, BigUint, Sign};
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};

/// No numerator or denominator may be longer: about 1,000 decimal digits.
const MAX_BITS: u64 = 3_322;
/// Digits that a rounded intermediate value carries.
const WORKING_DIGITS: i64 = 50;
/// Digits that a rounded result shows.
const SHOWN_DIGITS: i64 = 34;
/// A finite decimal fraction with more places than this is shown rounded.
const MAX_SHOWN_PLACES: u32 = 100;
/// Largest denominator of an exponent: enough for monthly rates over ten years, and every such root takes milliseconds.
const MAX_ROOT: u32 = 120;

/// A number and whether it is what the expression says to the last digit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    value: BigRational,
    exact: bool,
}

/// How halves are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// Towards negative infinity.
    Floor,
    /// Towards positive infinity.
    Ceil,
    /// To the nearest, halves away from zero: what people do by hand.
    HalfUp,
}

/// What cannot be computed, in words for whoever wrote the expression.
pub(crate) type Refusal = String;

impl Number {
    /// A decimal literal: digits with at most one point, and a power of ten.
    ///
    /// # Errors
    /// When it is too long.
    pub(crate) fn decimal(digits: &str, exponent: i32) -> Result<Self, Refusal> {
        let places = digits.find('.').map_or(0, |point| digits.len() - point - 1);
        let whole: String = digits.chars().filter(char::is_ascii_digit).collect();
        let whole = whole.parse::<BigInt>().map_err(|_| format!("`{digits}` is not a number"))?;
        let shift = i64::from(exponent) - i64::try_from(places).unwrap_or(i64::MAX);
        if shift.unsigned_abs() > 2_000 {
            return Err(too_large());
        }
        Self::exactly(BigRational::from_integer(whole) * power_of_ten(shift))
    }

    /// The circle's number.
    #[must_use]
    pub(crate) fn pi() -> Self {
        Self::constant("3.1415926535897932384626433832795028841971693993751058209749445923")
    }

    /// Euler's number.
    #[must_use]
    pub(crate) fn e() -> Self {
        Self::constant("2.7182818284590452353602874713526624977572470936999595749669676277")
    }

    fn constant(digits: &str) -> Self {
        let exact = Self::decimal(digits, 0).unwrap_or_else(|_| Self::whole(0));
        Self { exact: false, ..exact }
    }

    /// A whole number.
    #[must_use]
    pub(crate) fn whole(value: i64) -> Self {
        Self { value: BigRational::from_integer(value.into()), exact: true }
    }

    fn exactly(value: BigRational) -> Result<Self, Refusal> {
        Self { value, exact: true }.bounded()
    }

    fn bounded(self) -> Result<Self, Refusal> {
        if self.value.numer().bits() > MAX_BITS {
            return Err(too_large());
        }
        if self.value.denom().bits() <= MAX_BITS {
            return Ok(self);
        }
        Err("the exact result would need more than 1000 digits behind the point; use round() on the way"
            .into())
    }

    fn with(&self, other: &Self, value: BigRational) -> Result<Self, Refusal> {
        Self { value, exact: self.exact && other.exact }.bounded()
    }

    /// Sum.
    pub(crate) fn add(&self, other: &Self) -> Result<Self, Refusal> {
        self.with(other, &self.value + &other.value)
    }

    /// Difference.
    pub(crate) fn subtract(&self, other: &Self) -> Result<Self, Refusal> {
        self.with(other, &self.value - &other.value)
    }

    /// Product.
    pub(crate) fn multiply(&self, other: &Self) -> Result<Self, Refusal> {
        self.with(other, &self.value * &other.value)
    }

    /// Quotient.
    pub(crate) fn divide(&self, other: &Self) -> Result<Self, Refusal> {
        if other.value.is_zero() {
            return Err("division by zero".into());
        }
        self.with(other, &self.value / &other.value)
    }

    /// Remainder with the sign of the divisor: `-7 % 3` is `2`.
    pub(crate) fn remainder(&self, other: &Self) -> Result<Self, Refusal> {
        if other.value.is_zero() {
            return Err("remainder of a division by zero".into());
        }
        let whole = (&self.value / &other.value).floor();
        self.with(other, &self.value - whole * &other.value)
    }

    /// The number with the other sign.
    #[must_use]
    pub(crate) fn negate(&self) -> Self {
        Self { value: -&self.value, exact: self.exact }
    }

    /// The number without its sign.
    #[must_use]
    pub(crate) fn abs(&self) -> Self {
        Self { value: self.value.abs(), exact: self.exact }
    }

    /// The larger of the two, where `largest`, or else the smaller.
    #[must_use]
    pub(crate) fn pick(&self, other: &Self, largest: bool) -> Self {
        let own = (self.value >= other.value) == largest;
        Self { value: if own { &self.value } else { &other.value }.clone(), exact: self.exact && other.exact }
    }

    /// Rounded to `places` decimal places; negative ones round to tens, hundreds, and so on.
    pub(crate) fn round(&self, places: &Self, how: Rounding) -> Result<Self, Refusal> {
        let places = places.small_integer().filter(|places| (-1_000..=1_000).contains(places));
        let places = places.ok_or("the number of places must be a whole number from -1000 to 1000")?;
        let rounded = round_to(&self.value, places, how);
        Self { value: rounded, exact: self.exact }.bounded()
    }

    /// Power. The exponent may be a whole number, or a simple fraction of a number that is not negative.
    pub(crate) fn power(&self, exponent: &Self) -> Result<Self, Refusal> {
        let exact = self.exact && exponent.exact;
        if !exponent.value.is_integer() {
            let root = exponent.value.denom().to_u32().filter(|root| *root <= MAX_ROOT);
            let root = root.ok_or_else(|| {
                format!("the exponent must be a whole number or a fraction such as 1/12, with a denominator up to {MAX_ROOT}")
            })?;
            let raised = self.to_whole_power(exponent.value.numer())?;
            return raised.root(root).map(|result| Self { exact: result.exact && exact, ..result });
        }
        let result = self.to_whole_power(exponent.value.numer())?;
        Ok(Self { exact, ..result })
    }

    fn to_whole_power(&self, exponent: &BigInt) -> Result<Self, Refusal> {
        let (numer, denom) = (self.value.numer(), self.value.denom());
        if exponent.is_negative() && numer.is_zero() {
            return Err("division by zero: 0 to a negative power".into());
        }
        let plain = denom.is_one() && (numer.is_zero() || numer.magnitude().is_one());
        let count = if plain {
            // Only the exponent's parity and whether it is zero matter.
            Some(if exponent.is_zero() { 0 } else { 2 - u32::from(exponent.is_odd()) })
        } else {
            // A number of n bits to the power of e has at least (n - 1) * e bits.
            let bits = numer.bits().max(denom.bits()) - 1;
            exponent.magnitude().to_u32().filter(|count| bits.saturating_mul(u64::from(*count)) <= MAX_BITS)
        };
        let count = count.ok_or_else(too_large)?;
        let raised = BigRational::new_raw(Pow::pow(numer, count), Pow::pow(denom, count));
        let value = if exponent.is_negative() { raised.recip() } else { raised };
        Self { value, exact: self.exact }.bounded()
    }

    /// Square root.
    pub(crate) fn sqrt(&self) -> Result<Self, Refusal> {
        self.root(2)
    }

    fn root(&self, degree: u32) -> Result<Self, Refusal> {
        if self.value.is_negative() {
            return Err("a root of a negative number is not a real number".into());
        }
        let numer = self.value.numer().nth_root(degree);
        let denom = self.value.denom().nth_root(degree);
        if &Pow::pow(&numer, degree) == self.value.numer() && &Pow::pow(&denom, degree) == self.value.denom()
        {
            return Ok(Self { value: BigRational::new(numer, denom), exact: self.exact });
        }
        // The root of x * 10^(degree * shift) is the root of x with `shift` more digits before the point.
        let shift = WORKING_DIGITS - magnitude(&self.value).div_euclid(i64::from(degree));
        let scaled = &self.value * power_of_ten(shift * i64::from(degree));
        let root = scaled.to_integer().nth_root(degree);
        let value = BigRational::from_integer(root) * power_of_ten(-shift);
        Self { value, exact: false }.bounded()
    }

    fn small_integer(&self) -> Option<i64> {
        self.value.is_integer().then(|| self.value.numer().to_i64()).flatten()
    }

    /// The number in decimal, and whether that is the number itself or a rounded form of it.
    #[must_use]
    pub(crate) fn to_decimal(&self) -> (String, bool) {
        let places = finite_places(self.value.denom());
        match places {
            Some(places) if self.exact && places <= MAX_SHOWN_PLACES => {
                (plain(&self.value, i64::from(places)), true)
            }
            _ => {
                let (text, unchanged) = rounded(&self.value);
                (text, self.exact && unchanged)
            }
        }
    }

    /// The number in decimal with exactly so many places, halves rounded away from zero, and whether that is exact.
    #[must_use]
    pub(crate) fn to_places(&self, places: u32) -> (String, bool) {
        let value = round_to(&self.value, i64::from(places), Rounding::HalfUp);
        let exact = self.exact && value == self.value;
        (fixed(&value, i64::from(places)), exact)
    }
}

fn too_large() -> Refusal {
    "a number would have more than 1000 digits".into()
}

fn power_of_ten(exponent: i64) -> BigRational {
    let power = BigInt::from(10).pow(u32::try_from(exponent.unsigned_abs()).unwrap_or(u32::MAX));
    if exponent < 0 { BigRational::new_raw(BigInt::one(), power) } else { BigRational::from_integer(power) }
}

fn round_to(value: &BigRational, places: i64, how: Rounding) -> BigRational {
    let scaled = value * power_of_ten(places);
    let whole = match how {
        Rounding::Floor => scaled.floor(),
        Rounding::Ceil => scaled.ceil(),
        Rounding::HalfUp => scaled.round(),
    };
    whole * power_of_ten(-places)
}

/// The exponent of ten of the first digit: 0 for 1 to 9.99, -1 for 0.1, 3 for 1000.
fn magnitude(value: &BigRational) -> i64 {
    if value.is_zero() {
        return 0;
    }
    let bits = |n: &BigInt| i64::try_from(n.bits()).unwrap_or(i64::MAX);
    // log10(2) in millionths; the estimate is off by one at most, and the comparison settles it.
    let mut exponent = ((bits(value.numer()) - bits(value.denom())) * 301_030).div_euclid(1_000_000);
    let size = value.abs();
    while size >= power_of_ten(exponent + 1) {
        exponent += 1;
    }
    while size < power_of_ten(exponent) {
        exponent -= 1;
    }
    exponent
}

/// How many decimal places a fraction with this denominator needs, none where it never ends.
fn finite_places(denom: &BigInt) -> Option<u32> {
    let mut rest = denom.magnitude().clone();
    let twos = rest.trailing_zeros().unwrap_or(0);
    rest >>= twos;
    let mut fives = 0;
    let five = BigUint::from(5_u32);
    while !rest.is_one() {
        let (quotient, remainder) = rest.div_rem(&five);
        if !remainder.is_zero() {
            return None;
        }
        rest = quotient;
        fives += 1;
    }
    u32::try_from(twos.max(fives)).ok()
}

/// `value` in plain decimal with `places` places, without needless zeros at the end.
fn plain(value: &BigRational, places: i64) -> String {
    let text = fixed(value, places);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// `value`, which has at most `places` places, in plain decimal with all of them.
fn fixed(value: &BigRational, places: i64) -> String {
    let scaled = (value * power_of_ten(places)).to_integer();
    let sign = if scaled.sign() == Sign::Minus { "-" } else { "" };
    let digits = scaled.magnitude().to_string();
    let places = usize::try_from(places).unwrap_or(0);
    if places == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    format!("{sign}{whole}.{fraction}")
}

/// `value` rounded to [`SHOWN_DIGITS`], and whether that changed nothing; very small and very large ones with a power of
/// ten.
fn rounded(value: &BigRational) -> (String, bool) {
    let places = SHOWN_DIGITS - 1 - magnitude(value);
    let short = round_to(value, places, Rounding::HalfUp);
    let unchanged = short == *value;
    let first = magnitude(&short);
    if (-10..SHOWN_DIGITS).contains(&first) {
        return (plain(&short, places.max(0)), unchanged);
    }
    let mantissa = &short * power_of_ten(-first);
    (format!("{}e{first}", plain(&mantissa, SHOWN_DIGITS)), unchanged)
}
