//! A member's report to the sender, over its control connection.

use serde::{Deserialize, Serialize};

use super::MAX_SHARDS;

/// Most stripes that a report lists; the oldest come first.
pub const MAX_REPORTED: usize = 64;

/// Longest list on the wire, in bytes.
const MAX_LIST: usize = 256;
/// First value of a byte that skips stripes; smaller ones are counts.
const SKIP: u8 = 128;

/// A stripe that a member cannot restore yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// Number of the stripe.
    pub stripe: u32,
    /// Number of shards that it lacks, 1 to 127. A member that lacks all 128 says 127, and more later.
    pub shards: u8,
}

/// A member's account of the stream so far. All counts are of the time at which it knew [`Self::mark`].
///
/// On the wire the list is one byte for each stripe from [`Self::next`] on: 1 to 127 are its missing shards,
/// 128 + *n* skips *n* + 1 stripes that lack nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "Wire", try_from = "Wire")]
pub struct Report {
    /// Newest mark that had come, 0 if none.
    pub mark: u32,
    /// First stripe that is not whole. All before it are.
    pub next: u32,
    /// First stripe for which there is no room.
    pub limit: u32,
    /// Stripes of which all shards were sent and some are lacking, ascending, at most [`MAX_REPORTED`].
    pub missing: Vec<Missing>,
    /// Data shards that had not come when their stripe was over, since the stream began.
    pub losses: u64,
    /// Datagrams that were refused, since the stream began.
    pub refused: u64,
    /// Datagrams that the socket dropped because nobody read them in time, since the stream began.
    pub drops: u64,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    mark: u32,
    next: u32,
    room: u32,
    list: Vec<u8>,
    losses: u64,
    refused: u64,
    drops: u64,
}

impl From<Report> for Wire {
    fn from(report: Report) -> Self {
        Self {
            mark: report.mark,
            next: report.next,
            room: report.limit.saturating_sub(report.next),
            list: list(report.next, &report.missing),
            losses: report.losses,
            refused: report.refused,
            drops: report.drops,
        }
    }
}

impl TryFrom<Wire> for Report {
    type Error = &'static str;

    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        Ok(Self {
            mark: wire.mark,
            next: wire.next,
            limit: wire.next.saturating_add(wire.room),
            missing: missing(wire.next, &wire.list)?,
            losses: wire.losses,
            refused: wire.refused,
            drops: wire.drops,
        })
    }
}

/// Returns the list on the wire. What does not fit is left out.
fn list(next: u32, missing: &[Missing]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = next;
    for Missing { stripe, shards } in missing.iter().take(MAX_REPORTED) {
        let Some(mut gap) = stripe.checked_sub(at) else {
            continue;
        };
        while gap > 0 && bytes.len() < MAX_LIST {
            let skipped = u8::try_from(gap.min(u32::from(SKIP))).unwrap_or(SKIP);
            bytes.push(SKIP + (skipped - 1));
            gap -= u32::from(skipped);
        }
        if bytes.len() >= MAX_LIST {
            break;
        }
        bytes.push((*shards).clamp(1, SKIP - 1));
        at = stripe.saturating_add(1);
    }
    bytes
}

fn missing(next: u32, list: &[u8]) -> Result<Vec<Missing>, &'static str> {
    if list.len() > MAX_LIST {
        return Err("too long a list of stripes");
    }
    let mut missing = Vec::new();
    let mut at = next;
    for byte in list {
        let step = match byte {
            0 => return Err("a stripe that lacks nothing"),
            count @ 1..SKIP => {
                missing.push(Missing {
                    stripe: at,
                    shards: *count,
                });
                1
            }
            skip => u32::from(skip - SKIP) + 1,
        };
        at = at.checked_add(step).ok_or("a stripe beyond the last number")?;
    }
    if missing.len() > MAX_REPORTED {
        return Err("too many stripes");
    }
    Ok(missing)
}

const _: () = assert!(MAX_SHARDS <= SKIP as usize);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report(next: u32, stripes: &[(u32, u8)]) -> Report {
        Report {
            mark: 3,
            next,
            limit: next + 300,
            missing: stripes
                .iter()
                .map(|(stripe, shards)| Missing {
                    stripe: *stripe,
                    shards: *shards,
                })
                .collect(),
            losses: 12,
            refused: 1,
            drops: 0,
        }
    }

    fn bytes(report: &Report) -> Vec<u8> {
        postcard::to_stdvec(report).unwrap()
    }

    #[test]
    fn a_stripe_takes_one_byte_in_a_report() {
        let stripes: Vec<(u32, u8)> = (0..60).map(|i| (1000 + i, 2)).collect();
        assert_eq!(
            bytes(&report(1000, &stripes)).len(),
            bytes(&report(1000, &[])).len() + 60
        );
    }

    #[test]
    fn a_list_that_breaks_a_bound_is_refused() {
        let good = report(5, &[(5, 1), (9, 127), (400, 3)]);
        let encoded = bytes(&good);
        assert_eq!(postcard::from_bytes::<Report>(&encoded).unwrap(), good);
        for end in 0..encoded.len() {
            assert!(postcard::from_bytes::<Report>(&encoded[..end]).is_err());
        }
        for (next, list) in [
            (0, vec![1; MAX_REPORTED + 1]),
            (0, vec![SKIP; MAX_LIST + 1]),
            (0, vec![0]),
            (u32::MAX, vec![1]),
        ] {
            let wire = Wire {
                mark: 0,
                next,
                room: 0,
                list,
                losses: 0,
                refused: 0,
                drops: 0,
            };
            let encoded = postcard::to_stdvec(&wire).unwrap();
            assert!(postcard::from_bytes::<Report>(&encoded).is_err());
        }
    }

    proptest! {
        #[test]
        fn reports_survive_the_wire(
            next in 0u32..1_000_000,
            gaps in proptest::collection::vec((0u32..200, 1u8..128), 0..64),
        ) {
            let mut at = next;
            let mut stripes = Vec::new();
            for (gap, shards) in gaps {
                stripes.push((at + gap, shards));
                at += gap + 1;
            }
            let whole = report(next, &stripes);
            let back: Report = postcard::from_bytes(&bytes(&whole)).unwrap();
            prop_assert_eq!(&back.missing[..], &whole.missing[..back.missing.len()]);
            prop_assert_eq!((back.next, back.limit, back.losses), (next, next + 300, 12));
            prop_assert!(back.missing.len() == whole.missing.len() || bytes(&whole).len() >= MAX_LIST);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = postcard::from_bytes::<Report>(&bytes);
        }
    }
}
