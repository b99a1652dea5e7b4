//! Decimals, and the precision they are written with: `5.40` stands for 5.395 up to 5.405.

/// A decimal, and the range of values that would be written so.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decimal {
    pub value: f64,
    pub lo: f64,
    pub hi: f64,
}

/// Reads a FHIR decimal: no hexadecimals, infinities or bare points.
pub fn parse(text: &str) -> Option<Decimal> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let unsigned = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
    let (whole, fraction) = match unsigned.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (unsigned, None),
    };
    if !are_digits(whole) || !fraction.is_none_or(are_digits) {
        return None;
    }
    let power: i32 = match exponent {
        Some(exponent) => exponent.parse().ok().filter(|it| (-400..=400).contains(it))?,
        None => 0,
    };
    let places: i32 = fraction.map_or(0, str::len).try_into().ok()?;
    // The specification reads `1e2` as 95 up to 105: with an exponent, one digit more.
    let last_digit = power - places - i32::from(exponent.is_some());
    let value: f64 = text.parse().ok().filter(|it: &f64| it.is_finite())?;
    // Powers of ten below one have no exact binary form; their literal is the nearest one.
    let half: f64 = format!("5e{}", last_digit - 1).parse().ok()?;
    Some(Decimal { value, lo: value - half, hi: value + half })
}

fn are_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_stands_for_what_would_be_written_so() {
        for (text, value, lo, hi) in [
            ("100", 100.0, 99.5, 100.5),
            ("100.00", 100.0, 99.995, 100.005),
            ("1e2", 100.0, 95.0, 105.0),
            ("-5.4", -5.4, -5.45, -5.35),
            ("+1", 1.0, 0.5, 1.5),
        ] {
            let read = parse(text).expect("a number");
            assert_eq!(read.value, value);
            assert!((read.lo - lo).abs() < 1e-9 && (read.hi - hi).abs() < 1e-9, "{read:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", ".5", "5.", "1e", "1e9999", "NaN", "inf", "0x10", "1,5", "1 "] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[0-9eE.+-]{0,30}|.{0,30}") {
            parse(&text);
        }

        #[test]
        fn a_number_lies_within_its_own_precision(value in -1e9..1e9f64, places in 0usize..6) {
            let read = parse(&format!("{value:.places$}")).expect("a number");
            prop_assert!(read.lo <= value + 1e-6 && value - 1e-6 <= read.hi);
        }
    }
}
