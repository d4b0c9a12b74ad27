//! Exact decimal numbers.

/// Most digits after the decimal point. They are enough for steps of a GiB in a TiB.
const MAX_FRACTION_DIGITS: usize = 3;
/// Most digits before the decimal point. They hold every `u64`.
const MAX_WHOLE_DIGITS: usize = 20;

/// Returns a number (digits, perhaps a point and up to three more) times `unit`, rounded up. `None` for any
/// other text.
#[must_use]
pub fn scaled(number: &str, unit: u64) -> Option<u128> {
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (number, ""),
    };
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > MAX_WHOLE_DIGITS || fraction.len() > MAX_FRACTION_DIGITS {
        return None;
    }
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let denominator = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let numerator: u128 = format!("{whole}{fraction}").parse().ok()?;
    Some((numerator * u128::from(unit)).div_ceil(denominator))
}

/// Splits a text behind the number at its beginning.
pub(crate) fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    text.split_at(end.unwrap_or(text.len()))
}
