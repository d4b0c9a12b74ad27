//! What the command lines of server and client share: sizes such as `64M`, and wrong usage on one line.
//!
//! Nothing here knows clap; the binaries hand in its texts.

use std::str::FromStr;

/// Below this the window does not hold the blocks a chain needs under way (`ka_proto::limits::MIN_WINDOW_BLOCKS`).
const MIN_BUFFER_BYTES: usize = 8 << 20;
/// Above this it is a typing error.
const MAX_BUFFER_BYTES: usize = 16 << 30;

/// `--buffer`, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferSize(pub usize);

impl FromStr for BufferSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        bounded_size(text, MIN_BUFFER_BYTES, MAX_BUFFER_BYTES, "from 8M to 16G").map(Self)
    }
}

/// A size from `min` to `max` bytes: digits with an optional unit K, M or G, powers of 1024 (`64M`, `64MiB`).
///
/// # Errors
/// A line that says what is expected; `range` is how it names the bounds.
pub fn bounded_size(text: &str, min: usize, max: usize, range: &str) -> Result<usize, String> {
    match parse_size(text) {
        Some(bytes) if (min..=max).contains(&bytes) => Ok(bytes),
        Some(_) => Err(format!("a size {range} is possible")),
        None => Err("expected a size such as 64M or 256K".to_owned()),
    }
}

/// clap's rendered message without usage and tips: its first paragraph on one line, and where to read more.
pub fn usage_line(rendered: &str, program: &str) -> String {
    let paragraph = rendered
        .lines()
        .take_while(|line| !line.is_empty())
        .map(str::trim);
    let message = paragraph.collect::<Vec<_>>().join(" ");
    format!("{}; see {program} --help", message.trim_start_matches("error: "))
}

fn parse_size(text: &str) -> Option<usize> {
    let number = text.trim_end_matches(['B', 'b']).trim_end_matches('i');
    let (digits, shift) = match number.as_bytes().last()? {
        b'k' | b'K' => (&number[..number.len() - 1], 10),
        b'm' | b'M' => (&number[..number.len() - 1], 20),
        b'g' | b'G' => (&number[..number.len() - 1], 30),
        _ => (number, 0),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<usize>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::{BufferSize, usage_line};

    #[test]
    fn sizes_take_units_in_both_spellings() {
        for (text, bytes) in [
            ("64M", 64 << 20),
            ("64m", 64 << 20),
            ("1GiB", 1 << 30),
            ("8388608", 8 << 20),
            ("8192k", 8 << 20),
        ] {
            assert_eq!(text.parse(), Ok(BufferSize(bytes)), "{text}");
        }
    }

    #[test]
    fn nonsense_and_what_is_out_of_bounds_is_refused() {
        let wrong = [
            "",
            "M",
            "-1M",
            "+64M",
            "64Q",
            "1K",
            "17G",
            "99999999999999999999G",
            "6ä4M",
            "64 M",
        ];
        for text in wrong {
            assert!(text.parse::<BufferSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn wrong_usage_keeps_clap_s_first_paragraph() {
        let rendered = "error: the argument '--a'\n  cannot be used with '--b'\n\nUsage: x\n";
        let line = "the argument '--a' cannot be used with '--b'; see ka-x --help";
        assert_eq!(usage_line(rendered, "ka-x"), line);
    }
}
