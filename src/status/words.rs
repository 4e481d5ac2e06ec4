//! Numbers as people read them: at the page, and in the tool's `top`.

use std::time::Duration;

/// With blanks between thousands, which no language takes for something else.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    String::from_utf8(groups.join(&b' ')).unwrap_or(digits)
}

/// A rate: `0`, `0.25`, `12.5`, `1 234`.
pub fn rate(number: f64) -> String {
    match number {
        n if n <= 0.0 || !n.is_finite() => "0".to_owned(),
        n if n < 10.0 => format!("{n:.2}"),
        n if n < 100.0 => format!("{n:.1}"),
        n => count(n.round() as u64),
    }
}

/// Bytes: `17 B`, `1.5 KiB`.
pub fn bytes(number: f64) -> String {
    let mut rest = number.max(0.0);
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if rest < 1000.0 {
            return if unit == "B" || rest >= 100.0 {
                format!("{rest:.0} {unit}")
            } else {
                format!("{rest:.1} {unit}")
            };
        }
        rest /= 1024.0;
    }
    format!("{rest:.1} TiB")
}

/// A short time, in microseconds: `17 µs`, `1.2 ms`, `3.4 s`.
pub fn short(micros: u64) -> String {
    match micros {
        0..1000 => format!("{micros} µs"),
        1000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}

/// A time: `12 s`, `3 min 20 s`, `2 h 5 min`, `4 d 7 h`.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_their_units() {
        assert_eq!([count(0), count(999), count(1_234_567)], ["0", "999", "1 234 567"]);
        assert_eq!([rate(0.0), rate(0.25), rate(12.34), rate(1234.4)], ["0", "0.25", "12.3", "1 234"]);
        assert_eq!([bytes(17.0), bytes(1536.0), bytes(5e11)], ["17 B", "1.5 KiB", "466 GiB"]);
        assert_eq!([short(17), short(1234), short(61_000_000)], ["17 µs", "1.2 ms", "61.0 s"]);
        let spans = [59, 200, 7500, 371_000].map(|seconds| time(Duration::from_secs(seconds)));
        assert_eq!(spans, ["59 s", "3 min 20 s", "2 h 5 min", "4 d 7 h"]);
    }
}
