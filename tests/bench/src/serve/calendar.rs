//! Times as keys, listings and headers write them, from seconds since 1970, without a library: a server that is to be
//! no bottleneck writes a thousand of them for a page.

const DAY: i64 = 86_400;
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `2026/03/01/`
pub fn folder(seconds: i64, text: &mut Vec<u8>) {
    let (year, month, day) = date(seconds);
    digits(year, 4, text);
    text.push(b'/');
    digits(month, 2, text);
    text.push(b'/');
    digits(day, 2, text);
    text.push(b'/');
}

/// `20260301T1200Z`
pub fn stamp(seconds: i64, text: &mut Vec<u8>) {
    let (year, month, day) = date(seconds);
    let minute = seconds.rem_euclid(DAY) / 60;
    digits(year, 4, text);
    digits(month, 2, text);
    digits(day, 2, text);
    text.push(b'T');
    digits(minute / 60, 2, text);
    digits(minute % 60, 2, text);
    text.push(b'Z');
}

/// `2026-03-01T12:00:00.000Z`
pub fn iso(seconds: i64, text: &mut Vec<u8>) {
    let (year, month, day) = date(seconds);
    digits(year, 4, text);
    text.push(b'-');
    digits(month, 2, text);
    text.push(b'-');
    digits(day, 2, text);
    text.push(b'T');
    clock(seconds, text);
    text.extend_from_slice(b".000Z");
}

/// `Sun, 01 Mar 2026 12:00:00 GMT`
pub fn http(seconds: i64, text: &mut Vec<u8>) {
    let (year, month, day) = date(seconds);
    text.extend_from_slice(WEEKDAYS[seconds.div_euclid(DAY).rem_euclid(7) as usize].as_bytes());
    text.extend_from_slice(b", ");
    digits(day, 2, text);
    text.push(b' ');
    text.extend_from_slice(MONTHS[month as usize - 1].as_bytes());
    text.push(b' ');
    digits(year, 4, text);
    text.push(b' ');
    clock(seconds, text);
    text.extend_from_slice(b" GMT");
}

fn clock(seconds: i64, text: &mut Vec<u8>) {
    let second = seconds.rem_euclid(DAY);
    digits(second / 3_600, 2, text);
    text.push(b':');
    digits(second / 60 % 60, 2, text);
    text.push(b':');
    digits(second % 60, 2, text);
}

/// Year, month and day (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn date(seconds: i64) -> (i64, i64, i64) {
    let days = seconds.div_euclid(DAY) + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn digits(value: i64, count: u32, text: &mut Vec<u8>) {
    for exponent in (0..count).rev() {
        text.push(b'0' + (value / 10_i64.pow(exponent) % 10) as u8);
    }
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, tz::Offset};

    use super::*;

    #[test]
    fn every_day_is_written_as_jiff_writes_it() {
        for day in (0..40_000).step_by(13) {
            let seconds = day * DAY + day * 7 % DAY;
            let time = Offset::UTC.to_datetime(Timestamp::from_second(seconds).expect("a time"));
            let text = |write: fn(i64, &mut Vec<u8>)| {
                let mut text = Vec::new();
                write(seconds, &mut text);
                String::from_utf8(text).expect("text")
            };
            assert_eq!(text(folder), time.strftime("%Y/%m/%d/").to_string());
            assert_eq!(text(stamp), time.strftime("%Y%m%dT%H%MZ").to_string());
            assert_eq!(text(iso), time.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string());
            assert_eq!(text(http), time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
        }
    }
}
