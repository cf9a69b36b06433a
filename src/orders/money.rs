//! Money: exact decimal text in, whole minor units from there on.

use std::fmt;

/// The highest price of one piece, in minor units; up to it a JSON number keeps both decimal places.
pub const MAX_PRICE: i64 = 999_999_999_999;

/// The highest total of an order, in minor units; up to it a total is exact in every JSON reader.
pub const MAX_TOTAL: i64 = 999_999_999_999_999;

/// Reads a decimal such as `29.99` or `1e2` as minor units.
///
/// # Errors
/// When it is not a decimal, is negative, is too large, or needs more than two decimal places.
pub fn minor_units(text: &str) -> Result<i64, String> {
    let not_a_decimal = || format!("`{text}` is not a decimal number");
    let too_large = || format!("{text} is too large");
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| not_a_decimal())?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, places) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() || !whole.bytes().chain(places.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(not_a_decimal());
    }
    let digits = format!("{whole}{places}");
    let significant = digits.trim_end_matches('0');
    let digits = significant.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    if negative {
        return Err(format!("{text} is negative"));
    }
    // `significant` stands for a whole number of minor units if its last digit is not behind the second place.
    let point = i64::try_from(whole.len()).map_err(|_| too_large())? + i64::from(exponent);
    let behind = i64::try_from(significant.len()).map_err(|_| too_large())? - point;
    let zeros = u32::try_from(2 - behind).map_err(|_| format!("{text} has more than two decimal places"))?;
    let factor = 10_i64.checked_pow(zeros).ok_or_else(too_large)?;
    digits.parse::<i64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(too_large)
}

/// Minor units as people write them: `109.97`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Display(pub i64);

impl fmt::Display for Display {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let minor = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", minor / 100, minor % 100)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn decimals_become_exact_minor_units() {
        for (text, minor) in [
            ("29.99", 2_999),
            ("0.1", 10),
            ("0.10", 10),
            ("29.990", 2_999),
            ("29.99000", 2_999),
            ("100", 10_000),
            ("100.0", 10_000),
            ("1e2", 10_000),
            ("1E+2", 10_000),
            ("2999e-2", 2_999),
            ("2.5e1", 2_500),
            ("0.01", 1),
            ("007", 700),
            ("-0", 0),
            ("-0.00", 0),
            ("0e9", 0),
            ("9999999999.99", MAX_PRICE),
            ("92233720368547758.07", i64::MAX),
        ] {
            assert_eq!(minor_units(text), Ok(minor), "{text}");
        }
    }

    #[test]
    fn what_is_not_an_amount_is_refused() {
        for (text, why) in [
            ("29.999", "more than two decimal places"),
            ("0.001", "more than two decimal places"),
            ("1e-3", "more than two decimal places"),
            ("2.9999e1", "more than two decimal places"),
            ("-0.01", "is negative"),
            ("-1", "is negative"),
            ("92233720368547758.08", "too large"),
            ("1e21", "too large"),
            ("1e300", "too large"),
            ("1e99999999999", "is not a decimal"),
            ("", "is not a decimal"),
            (".5", "is not a decimal"),
            ("1,5", "is not a decimal"),
            ("NaN", "is not a decimal"),
            ("1 000", "is not a decimal"),
            ("+1", "is not a decimal"),
        ] {
            let found = minor_units(text).expect_err(text);
            assert!(found.contains(why), "{text}: {found}");
        }
    }

    /// A JSON number is held in binary; its shortest decimal text is what was written.
    #[test]
    fn every_price_of_a_json_number_keeps_its_places() {
        for minor in (0..100_000).chain(MAX_PRICE - 1_000..=MAX_PRICE) {
            let text = Display(minor).to_string();
            let number: Value = serde_json::from_str(&text).expect("it is a JSON number");
            assert_eq!(minor_units(&number.to_string()), Ok(minor));
        }
    }
}
