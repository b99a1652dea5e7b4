//! FHIR's partial dates as spans of time: `2020-03` is everything from its first millisecond up to,
//! not including, the first of April. Times without a zone are UTC.

use jiff::civil::Date;

/// From `lo` up to, not including, `hi`, in milliseconds since 1970 UTC. An open end is
/// [`i64::MIN`] or [`i64::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub lo: i64,
    pub hi: i64,
}

impl Span {
    /// One instant, as precise as the store's clock.
    pub fn instant(ms: i64) -> Self {
        Self { lo: ms, hi: ms.saturating_add(1) }
    }

    /// Whether all of `other` lies in this span.
    pub fn contains(self, other: Self) -> bool {
        self.lo <= other.lo && other.hi <= self.hi
    }

    /// The least span that holds both.
    pub fn join(self, other: Self) -> Self {
        Self { lo: self.lo.min(other.lo), hi: self.hi.max(other.hi) }
    }
}

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const EPOCH: Date = Date::constant(1970, 1, 1);

/// Reads a date, dateTime or instant; none if it is none of these.
pub fn parse(text: &str) -> Option<Span> {
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let (first, last) = days(date)?;
    let Some(time) = time else {
        return Some(Span { lo: day_start(first), hi: day_start(last) + DAY });
    };
    // Only a whole date may have a time.
    if date.len() != 10 {
        return None;
    }
    let (time, zone) = split_zone(time)?;
    let (from, width) = time_of_day(time)?;
    let lo = day_start(first) + from - zone;
    Some(Span { lo, hi: lo + width })
}

/// The first and last day of a year, a month or a day.
fn days(text: &str) -> Option<(Date, Date)> {
    let mut parts = text.split('-');
    let year = digits(parts.next()?, 4)?;
    let month = parts.next().map(|it| digits(it, 2));
    let day = parts.next().map(|it| digits(it, 2));
    if parts.next().is_some() || year == 0 {
        return None;
    }
    let date = |month: i64, day: i64| {
        let (year, month, day) = (year.try_into(), month.try_into(), day.try_into());
        Date::new(year.ok()?, month.ok()?, day.ok()?).ok()
    };
    match (month, day) {
        (None, _) => Some((date(1, 1)?, date(12, 31)?)),
        (Some(month), None) => {
            let first = date(month?, 1)?;
            Some((first, first.last_of_month()))
        }
        (Some(month), Some(day)) => {
            let only = date(month?, day?)?;
            Some((only, only))
        }
    }
}

fn day_start(day: Date) -> i64 {
    day.duration_since(EPOCH).as_secs() * SECOND
}

/// A time of day without its zone, and the zone's offset in milliseconds.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    if let Some(time) = text.strip_suffix('Z') {
        return Some((time, 0));
    }
    let Some(at) = text.rfind(['+', '-']) else {
        return Some((text, 0));
    };
    let (time, zone) = text.split_at(at);
    let (hours, minutes) = zone[1..].split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    if hours > 14 || minutes > 59 {
        return None;
    }
    let offset = hours * HOUR + minutes * MINUTE;
    Some((time, if zone.starts_with('-') { -offset } else { offset }))
}

/// Milliseconds since midnight, and how long the time as written lasts.
fn time_of_day(text: &str) -> Option<(i64, i64)> {
    let mut parts = text.split(':');
    let (hour, minute) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let second = parts.next();
    if parts.next().is_some() || hour > 23 || minute > 59 {
        return None;
    }
    let start = hour * HOUR + minute * MINUTE;
    let Some(second) = second else {
        return Some((start, MINUTE));
    };
    let (whole, fraction) = match second.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (second, None),
    };
    let seconds = digits(whole, 2).filter(|it| *it <= 60)?;
    // A leap second is counted as the second before it: days have no room for it.
    let start = start + seconds.min(59) * SECOND;
    let Some(fraction) = fraction else {
        return Some((start, SECOND));
    };
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Finer than a millisecond is cut off.
    let kept = &fraction[..fraction.len().min(3)];
    let width = [100, 10, 1][kept.len() - 1];
    Some((start + kept.parse::<i64>().ok()? * width, width))
}

fn digits(text: &str, length: usize) -> Option<i64> {
    let all = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    if all { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(text: &str) -> (i64, i64) {
        let span = parse(text).unwrap_or_else(|| panic!("{text} is a date"));
        (span.lo, span.hi)
    }

    #[test]
    fn a_date_lasts_as_long_as_it_is_precise() {
        assert_eq!(span("1970"), (0, 365 * DAY));
        assert_eq!(span("1970-02"), (31 * DAY, 59 * DAY));
        assert_eq!(span("1972-02-29"), (789 * DAY, 790 * DAY));
        assert_eq!(span("1970-01-01T01:02Z"), (62 * MINUTE, 63 * MINUTE));
        assert_eq!(span("1970-01-01T00:00:01Z"), (1000, 2000));
        assert_eq!(span("1970-01-01T00:00:00.5Z"), (500, 600));
        assert_eq!(span("1970-01-01T00:00:00.1239Z"), (123, 124));
    }

    #[test]
    fn a_zone_moves_the_time_and_none_is_utc() {
        assert_eq!(span("1970-01-01T02:00:00+02:00"), (0, 1000));
        assert_eq!(span("1969-12-31T19:00:00-05:00"), (0, 1000));
        assert_eq!(span("1970-01-01T00:00:00"), (0, 1000));
    }

    #[test]
    fn the_end_of_all_dates_is_a_date() {
        let (lo, hi) = span("9999-12-31");
        assert_eq!(hi - lo, DAY);
        assert_eq!(span("9999").1, hi);
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "0000",
            "20",
            "2020-13",
            "2020-02-30",
            "2020-1-1",
            "2020-01-01-01",
            "2020T10:00Z",
            "2020-01-01T",
            "2020-01-01T10Z",
            "2020-01-01T24:00:00Z",
            "2020-01-01T10:00:61Z",
            "2020-01-01T10:00:00.Z",
            "2020-01-01T10:00:00+2",
            "2020-01-01T10:00:00+15:00",
            "2020-01-01 10:00",
            "today",
            "+020-01-01",
            "２０２０",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[0-9TZ:.+-]{0,40}|.{0,40}") {
            parse(&text);
        }

        #[test]
        fn a_more_precise_date_lies_in_a_less_precise_one(
            year in 1..=9999i16, month in 1..=12i8, day in 1..=28i8,
            hour in 0..24, minute in 0..60, second in 0..60, ms in 0..1000,
        ) {
            let spans: Vec<Span> = [
                format!("{year:04}"),
                format!("{year:04}-{month:02}"),
                format!("{year:04}-{month:02}-{day:02}"),
                format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}Z"),
                format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"),
                format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"),
            ].iter().map(|text| parse(text).expect("a date")).collect();
            for pair in spans.windows(2) {
                prop_assert!(pair[0].contains(pair[1]));
                prop_assert!(pair[1].lo < pair[1].hi);
            }
        }
    }
}
