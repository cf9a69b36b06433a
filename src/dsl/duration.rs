//! Durations as they are written: `250ms`, `30s`, `5m`, `2h`, `1d`, or several of them, `1h 30m`.

use std::time::Duration;

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// A thousand years: longer than any wait that is meant, short enough to be added to any time.
const LONGEST_MS: u64 = 1_000 * 366 * 86_400_000;

/// Reads a duration.
///
/// # Errors
/// When the text is no duration; the error says what to write instead, where that can be guessed.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// assert_eq!(flowrun::dsl::duration::parse("1h 30m"), Ok(Duration::from_secs(5_400)));
/// assert!(flowrun::dsl::duration::parse("30").is_err());
/// ```
pub fn parse(text: &str) -> Result<Duration, String> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err("Write a number and a unit, such as `30s`.".to_owned());
    }
    if trimmed.parse::<f64>().is_ok() {
        return Err(format!(
            "A duration needs a unit: write `{trimmed}s` for seconds or `{trimmed}ms` for milliseconds."
        ));
    }
    if trimmed.starts_with('-') {
        return Err("A duration cannot be negative.".to_owned());
    }
    let mut rest = trimmed;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(suggest(trimmed));
        };
        let part = scaled(number, *scale).ok_or_else(|| suggest(trimmed))?;
        total = total
            .checked_add(part)
            .filter(|total| *total <= LONGEST_MS)
            .ok_or("That is more than a thousand years.")?;
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    Ok(Duration::from_millis(total))
}

/// Multiplies a decimal number exactly; nothing if it is none, has fractions of a millisecond, or is far too large.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) || fraction.contains('.') || fraction.len() > 9
    {
        return None;
    }
    // Something longer than a thousand years is a length all the same; the caller says that it is too long.
    let whole = whole.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(scale);
    if fraction.is_empty() {
        return Some(whole);
    }
    let tens = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse::<u64>().ok()?.checked_mul(scale)?;
    (part % tens == 0).then(|| whole.saturating_add(part / tens))
}

/// Guesses what was meant by something like `5 minutes`.
fn suggest(text: &str) -> String {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, word) = text.split_at(digits);
    let unit = match word.trim().to_ascii_lowercase().as_str() {
        "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => "ms",
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "d" | "day" | "days" => "d",
        "w" | "week" | "weeks" => match number.parse::<u64>().ok().and_then(|weeks| weeks.checked_mul(7)) {
            Some(days) => return format!("Write `{days}d`."),
            None => "",
        },
        _ => "",
    };
    if number.is_empty() || unit.is_empty() || scaled(number, 1_000).is_none() {
        "Write a number and a unit: `250ms`, `30s`, `5m`, `2h`, `1d`.".to_owned()
    } else {
        format!("Write `{number}{unit}`.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        for (text, ms) in [
            ("250ms", 250),
            ("0s", 0),
            ("30s", 30_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("1.5s", 1_500),
            ("0.001s", 1),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            (" 30s ", 30_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn the_help_says_what_to_write() {
        for (text, help) in [
            ("30", "`30s`"),
            ("1.5", "`1.5s`"),
            ("5 minutes", "`5m`"),
            ("5min", "`5m`"),
            ("2 weeks", "`14d`"),
            ("30 s", "`30s`"),
            ("1 Hour", "`1h`"),
            ("soon", "`250ms`"),
            ("", "such as `30s`"),
            ("-3s", "negative"),
            ("0.0001s", "number and a unit"),
            ("1..5s", "number and a unit"),
            ("PT30S", "number and a unit"),
            ("400000d", "thousand years"),
            ("99999999999999999999999d", "thousand years"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(help), "{text}: {error}");
        }
    }
}
