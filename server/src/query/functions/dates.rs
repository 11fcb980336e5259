//! Functions of dates and times. Owns the calendar (proleptic Gregorian, UTC, years 1 to 9999) and the text form
//! `YYYY-MM-DDThh:mm:ss.fffffffZ`. Instants are counted in ticks of 100 ns since 1970, as the service counts them.

use serde_json::Value;

use super::{Function, Outcome, optional, text, whole};
use crate::query::evaluate::{Context, Evaluated};
use crate::query::value::as_whole;

const TICKS_PER_SECOND: i64 = 10_000_000;
const TICKS_PER_DAY: i64 = 86_400 * TICKS_PER_SECOND;
const TICKS_PER_MILLISECOND: i64 = 10_000;

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("AGO", 2, 2, |arguments, context| {
        let shift = whole(arguments, 1).and_then(i64::checked_neg);
        Ok(part(arguments, 0).zip(shift).and_then(|(part, shift)| shifted(context.ticks, part, shift)).and_then(format))
    }),
    Function::new("DATETIMEADD", 3, 3, |arguments, _| {
        let shift = part(arguments, 0).zip(whole(arguments, 1));
        Ok(instant(arguments, 2)
            .zip(shift)
            .and_then(|(ticks, (part, shift))| shifted(ticks, part, shift))
            .and_then(format))
    }),
    Function::new("DATETIMEBIN", 2, 4, |arguments, _| Ok(bin(arguments))),
    Function::new("DATETIMEDIFF", 3, 3, |arguments, _| Ok(difference(arguments).map(Value::from))),
    Function::new("DATETIMEFROMPARTS", 3, 7, |arguments, _| Ok(from_parts(arguments).and_then(format))),
    Function::new("DATETIMEPART", 2, 2, |arguments, _| {
        Ok(part(arguments, 0).zip(instant(arguments, 1)).map(|(part, ticks)| Value::from(value_of(part, ticks))))
    }),
    Function::new("DATETIMETOTICKS", 1, 1, |arguments, _| Ok(instant(arguments, 0).map(Value::from))),
    Function::new("DATETIMETOTIMESTAMP", 1, 1, |arguments, _| Ok(instant(arguments, 0).map(milliseconds))),
    Function::new("DAY", 1, 1, |arguments, _| one_part(arguments, Part::Day)),
    // The service tells a static time, the same for a whole query, from one read for each document; here a query has
    // one time.
    Function::new("GETCURRENTDATETIME", 0, 0, |_, context| Ok(format(context.ticks))),
    Function::new("GETCURRENTDATETIMESTATIC", 0, 0, |_, context| Ok(format(context.ticks))),
    Function::new("GETCURRENTTICKS", 0, 0, |_, context| Ok(Some(Value::from(context.ticks)))),
    Function::new("GETCURRENTTICKSSTATIC", 0, 0, |_, context| Ok(Some(Value::from(context.ticks)))),
    Function::new("GETCURRENTTIMESTAMP", 0, 0, |_, context| Ok(Some(milliseconds(context.ticks)))),
    Function::new("GETCURRENTTIMESTAMPSTATIC", 0, 0, |_, context| Ok(Some(milliseconds(context.ticks)))),
    Function::new("IS_DATETIME", 1, 1, |arguments, _| Ok(Some(Value::Bool(instant(arguments, 0).is_some())))),
    Function::new("MONTH", 1, 1, |arguments, _| one_part(arguments, Part::Month)),
    Function::new("NOW", 0, 2, now),
    Function::new("TICKSTODATETIME", 1, 1, |arguments, _| Ok(whole(arguments, 0).and_then(format))),
    Function::new("TIMESTAMPTODATETIME", 1, 1, |arguments, _| {
        Ok(whole(arguments, 0).and_then(|timestamp| timestamp.checked_mul(TICKS_PER_MILLISECOND)).and_then(format))
    }),
    Function::new("YEAR", 1, 1, |arguments, _| one_part(arguments, Part::Year)),
];

/// A part of a date and time. One name per part and three spellings, as the reference lists them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
}

impl Part {
    fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "year" | "yyyy" | "yy" => Part::Year,
            "month" | "mm" | "m" => Part::Month,
            "day" | "dd" | "d" => Part::Day,
            "hour" | "hh" => Part::Hour,
            "minute" | "mi" | "n" => Part::Minute,
            "second" | "ss" | "s" => Part::Second,
            "millisecond" | "ms" => Part::Millisecond,
            "microsecond" | "mcs" => Part::Microsecond,
            "nanosecond" | "ns" => Part::Nanosecond,
            _ => return None,
        })
    }

    /// The length of the part in nanoseconds, where all of its kind are equally long.
    fn nanoseconds(self) -> Option<i64> {
        Some(match self {
            Part::Year | Part::Month => return None,
            Part::Day => TICKS_PER_DAY * 100,
            Part::Hour => 3_600_000_000_000,
            Part::Minute => 60_000_000_000,
            Part::Second => 1_000_000_000,
            Part::Millisecond => 1_000_000,
            Part::Microsecond => 1_000,
            Part::Nanosecond => 1,
        })
    }
}

fn part(arguments: &[Evaluated<'_>], index: usize) -> Option<Part> {
    Part::named(text(arguments, index)?)
}

fn instant(arguments: &[Evaluated<'_>], index: usize) -> Option<i64> {
    parse(text(arguments, index)?)
}

fn one_part(arguments: &[Evaluated<'_>], part: Part) -> Outcome {
    Ok(instant(arguments, 0).map(|ticks| Value::from(value_of(part, ticks))))
}

fn milliseconds(ticks: i64) -> Value {
    Value::from(ticks.div_euclid(TICKS_PER_MILLISECOND))
}

fn now(arguments: &[Evaluated<'_>], context: &Context) -> Outcome {
    match arguments.len() {
        0 => Ok(format(context.ticks)),
        1 => Err("the function takes no argument or two".to_owned()),
        _ => {
            let shift = part(arguments, 0).zip(whole(arguments, 1));
            Ok(shift.and_then(|(part, shift)| shifted(context.ticks, part, shift)).and_then(format))
        }
    }
}

/// Days since 1970 of a date in the Gregorian calendar; the month is 1 to 12. Counts in eras of 400 years that begin in
/// March, so that leap days come last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The year, month and day of a day since 1970: the inverse of [`days`].
fn date(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let day_of_era = day.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted_month + 2) / 5 + 1)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days(next_year, next_month, 1) - days(year, month, 1)
}

/// An instant from its parts, if they name one; `ticks` is the fraction of the second.
fn compose(year: i64, month: i64, day: i64, [hour, minute, second, ticks]: [i64; 4]) -> Option<i64> {
    let valid = (1..=9999).contains(&year)
        && (1..=12).contains(&month)
        && day >= 1
        && day <= days_in_month(year, month)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second)
        && (0..TICKS_PER_SECOND).contains(&ticks);
    valid.then(|| {
        days(year, month, day) * TICKS_PER_DAY + (hour * 3600 + minute * 60 + second) * TICKS_PER_SECOND + ticks
    })
}

/// Reads `YYYY-MM-DD`, `YYYY-MM-DDThh:mm:ss` or that with one to seven digits of fraction; a space may stand for `T`,
/// and `Z` may follow.
fn parse(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut date = date.split('-');
    let (year, month, day) = (digits(date.next()?, 4)?, digits(date.next()?, 2)?, digits(date.next()?, 2)?);
    if date.next().is_some() {
        return None;
    }
    let Some(time) = time else { return compose(year, month, day, [0; 4]) };
    let (clock, fraction) = match time.split_once('.') {
        Some((clock, fraction)) if (1..=7).contains(&fraction.len()) => {
            (clock, digits(fraction, fraction.len())? * 10_i64.pow(7 - u32::try_from(fraction.len()).ok()?))
        }
        Some(_) => return None,
        None => (time, 0),
    };
    let mut clock = clock.split(':');
    let (hour, minute, second) = (digits(clock.next()?, 2)?, digits(clock.next()?, 2)?, digits(clock.next()?, 2)?);
    if clock.next().is_some() {
        return None;
    }
    compose(year, month, day, [hour, minute, second, fraction])
}

/// A number of exactly so many decimal digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// The text form of an instant, unless it lies outside the calendar.
fn format(ticks: i64) -> Option<Value> {
    let (year, month, day) = date(ticks.div_euclid(TICKS_PER_DAY));
    if !(1..=9999).contains(&year) {
        return None;
    }
    let of_day = ticks.rem_euclid(TICKS_PER_DAY);
    let (seconds, fraction) = (of_day / TICKS_PER_SECOND, of_day % TICKS_PER_SECOND);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    Some(Value::from(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:07}Z")))
}

fn value_of(part: Part, ticks: i64) -> i64 {
    let (year, month, day) = date(ticks.div_euclid(TICKS_PER_DAY));
    let of_day = ticks.rem_euclid(TICKS_PER_DAY);
    let (seconds, fraction) = (of_day / TICKS_PER_SECOND, of_day % TICKS_PER_SECOND);
    match part {
        Part::Year => year,
        Part::Month => month,
        Part::Day => day,
        Part::Hour => seconds / 3600,
        Part::Minute => seconds / 60 % 60,
        Part::Second => seconds % 60,
        Part::Millisecond => fraction / 10_000,
        Part::Microsecond => fraction / 10,
        Part::Nanosecond => fraction * 100,
    }
}

/// An instant so many parts later; a day that the resulting month does not have becomes its last.
fn shifted(ticks: i64, part: Part, count: i64) -> Option<i64> {
    if let Some(nanoseconds) = part.nanoseconds() {
        let moved = i128::from(nanoseconds) * i128::from(count) / 100 + i128::from(ticks);
        return i64::try_from(moved).ok();
    }
    let months = if part == Part::Year { count.checked_mul(12)? } else { count };
    let (year, month, day) = date(ticks.div_euclid(TICKS_PER_DAY));
    let months = (year * 12 + month - 1).checked_add(months)?;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
    if !(1..=9999).contains(&year) {
        return None;
    }
    Some(days(year, month, day.min(days_in_month(year, month))) * TICKS_PER_DAY + ticks.rem_euclid(TICKS_PER_DAY))
}

/// How many boundaries of a part lie between two instants.
fn difference(arguments: &[Evaluated<'_>]) -> Option<i64> {
    let (part, start, end) = (part(arguments, 0)?, instant(arguments, 1)?, instant(arguments, 2)?);
    let Some(nanoseconds) = part.nanoseconds() else {
        let (start, end) = (date(start.div_euclid(TICKS_PER_DAY)), date(end.div_euclid(TICKS_PER_DAY)));
        let years = end.0 - start.0;
        return Some(if part == Part::Year { years } else { years * 12 + end.1 - start.1 });
    };
    let count = |ticks: i64| (i128::from(ticks) * 100).div_euclid(i128::from(nanoseconds));
    i64::try_from(count(end) - count(start)).ok()
}

fn bin(arguments: &[Evaluated<'_>]) -> Option<Value> {
    let ticks = instant(arguments, 0)?;
    let nanoseconds = part(arguments, 1)?.nanoseconds()?;
    let size = optional(arguments, 2, 1, as_whole).filter(|size| *size > 0)?;
    let start = optional(arguments, 3, 0, |start| parse(start.as_str()?))?;
    if date(start.div_euclid(TICKS_PER_DAY)).0 < 1601 {
        return None;
    }
    let width = i128::from(nanoseconds) * i128::from(size);
    let offset = (i128::from(ticks) - i128::from(start)) * 100;
    let binned = i128::from(start) * 100 + offset.div_euclid(width) * width;
    format(i64::try_from(binned.div_euclid(100)).ok()?)
}

fn from_parts(arguments: &[Evaluated<'_>]) -> Option<i64> {
    let rest = |index| optional(arguments, index, 0, as_whole);
    compose(whole(arguments, 0)?, whole(arguments, 1)?, whole(arguments, 2)?, [rest(3)?, rest(4)?, rest(5)?, rest(6)?])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_that_are_and_are_not_dates() {
        assert_eq!(parse("1970-01-01T00:00:00.0000000Z"), Some(0));
        assert_eq!(parse("2015-05-19T12:00:00.0000000"), Some(14_320_368_000_000_000));
        assert_eq!(parse("2023-03-06"), parse("2023-03-06 00:00:00Z"));
        assert_eq!(parse("1969-12-31T23:59:59.9999999Z"), Some(-1));
        for wrong in [
            "",
            "2023",
            "2023-3-06",
            "2023-02-29",
            "2023-03-06T",
            "2023-03-06T15:29",
            "2023-03-06T24:00:00",
            "2023-03-06T15:29:59.",
            "2023-03-06T15:29:59.12345678",
            "0000-01-01",
            "2023-03-06-01",
            "+023-01-01",
            "2023-03-06T15:29:59+01:00",
            "２０２３-01-01",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_end_of_a_month_is_kept() {
        let add = |text: &str, part, count| shifted(parse(text).expect("a date"), part, count).and_then(format);
        assert_eq!(add("2020-01-31", Part::Month, 1), format(parse("2020-02-29").expect("a date")));
        assert_eq!(add("2020-02-29", Part::Year, 1), format(parse("2021-02-28").expect("a date")));
        assert_eq!(add("9999-12-31", Part::Day, 1), None);
        assert_eq!(add("0001-01-01", Part::Month, -1), None);
        assert_eq!(add("2020-01-01", Part::Year, i64::MAX), None);
    }

    proptest! {
        #[test]
        fn days_and_dates_are_inverse(day in -719_162_i64..2_932_897) {
            let (year, month, day_of_month) = date(day);
            prop_assert!((1..=9999).contains(&year) && (1..=12).contains(&month));
            prop_assert_eq!(days(year, month, day_of_month), day);
        }

        #[test]
        fn a_formatted_instant_reads_back(ticks in -621_355_968_000_000_000_i64..2_534_023_008_000_000_000) {
            let text = format(ticks).expect("within the calendar");
            prop_assert_eq!(parse(text.as_str().expect("a string")), Some(ticks));
        }
    }
}
