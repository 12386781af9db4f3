//! Durations as the attribute's options write them: `"250ms"`, `"30s"`, `"1h30m"`.

use std::time::Duration;

/// The longest duration an option takes: ten years of 366 days, the runtime's own limit for delays.
const MAX_SECS: u64 = 10 * 366 * 24 * 60 * 60;

/// Units from long to short, with their milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads `text`; the error says what is wrong with it and how it should look.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if text.is_empty() {
        return Err(malformed(text, "it is empty"));
    }
    let mut rest = text;
    let mut millis: u64 = 0;
    let mut last_rank = None;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        if number.is_empty() {
            return Err(malformed(text, "a number is missing"));
        }
        let (unit, after) =
            after.split_at(after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len());
        let Some(rank) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(if unit.is_empty() {
                malformed(text, "a unit is missing")
            } else {
                malformed(text, &format!("`{unit}` is no unit"))
            });
        };
        if last_rank.is_some_and(|last| rank <= last) {
            return Err(malformed(text, "units go from long to short, each once"));
        }
        last_rank = Some(rank);
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(UNITS[rank].1));
        let Some(sum) = part.and_then(|part| part.checked_add(millis)).filter(|sum| *sum <= MAX_SECS * 1000) else {
            return Err(format!("`{text}` is longer than ten years, the most that is allowed: check the unit"));
        };
        millis = sum;
        rest = after;
    }
    Ok(Duration::from_millis(millis))
}

fn malformed(text: &str, what: &str) -> String {
    format!("`{text}` is not a duration: {what}; write for example \"250ms\", \"30s\", \"5m\", \"2d\" or \"1h30m\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_their_sums_are_read() {
        let cases =
            [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("1h30m", 5_400_000), ("1d1ms", 86_400_001), ("0s", 0)];
        for (text, millis) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("3660d"), Ok(Duration::from_secs(MAX_SECS)));
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        let cases = [
            ("", "it is empty"),
            ("30", "a unit is missing"),
            ("s", "a number is missing"),
            ("-5s", "a number is missing"),
            ("1.5h", "a unit is missing"),
            ("5 m", "a unit is missing"),
            ("5 min", "a unit is missing"),
            ("5min", "`min` is no unit"),
            ("30m1h", "long to short"),
            ("1s1s", "long to short"),
            ("3661d", "ten years"),
            ("99999999999999999999s", "ten years"),
            ("18446744073709551615d", "ten years"),
        ];
        for (text, reason) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
