//! Verdicts on KA's targets: the figure that was asked for, the figure that was reached, yes or no. The targets of the
//! chain, of trees and of booting are here.

use ka_tests::netns::payload_limit;

use crate::bench::cases::Kind;
use crate::bench::peers::Peer;
use crate::bench::report::{FaultCost, Measured, Outcome};

/// One target, and the value that was reached.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Row of KA that it applies to.
    who: String,
    asked: &'static str,
    reached: String,
    /// `None` for a figure that has no target.
    holds: Option<bool>,
}

/// The bound of a ratio.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// The ratio is this or more.
    AtLeast(f64),
    /// The ratio is this or less.
    AtMost(f64),
    /// The ratio is less than this.
    Below(f64),
    /// The ratio is shown, and nothing is asked of it.
    Shown,
}

impl Target {
    /// Returns true if `ratio` meets it. A ratio that could not be computed meets no bound.
    fn is_met(self, ratio: f64) -> Option<bool> {
        match self {
            Self::AtLeast(least) => Some(ratio >= least),
            Self::AtMost(most) => Some(ratio <= most),
            Self::Below(limit) => Some(ratio < limit),
            Self::Shown => None,
        }
    }
}

impl Verdict {
    fn ratio(who: &Outcome, asked: &'static str, ours: f64, theirs: f64, target: Target) -> Self {
        Self::figure(&who.peer, asked, ours / theirs, target)
    }

    /// Returns the verdict on a figure of the row `who`.
    pub(crate) fn figure(who: &str, asked: &'static str, figure: f64, target: Target) -> Self {
        Self {
            who: who.to_owned(),
            asked,
            reached: format!("{figure:.3}"),
            holds: target.is_met(figure),
        }
    }

    /// Returns true if the figure meets its target, and `None` if it has no target.
    pub(crate) const fn holds(&self) -> Option<bool> {
        self.holds
    }
}

/// Prints every target, and yes or no. A figure without a target shows a dash.
pub(crate) fn print<'a>(all: impl IntoIterator<Item = (&'a Measured, Vec<Verdict>)>) {
    println!("\nAsked for, and reached:");
    for (measured, verdicts) in all {
        for verdict in verdicts {
            println!(
                "  {:<22} {:<34} {:<62} {:>8}  {}",
                measured.case.name,
                verdict.who,
                verdict.asked,
                verdict.reached,
                match verdict.holds() {
                    Some(true) => "yes",
                    Some(false) => "NO",
                    None => "–",
                }
            );
        }
    }
}

/// Returns the verdicts on a case of the chain, of trees or of booting. A case of multicast has none here.
pub(crate) fn of(measured: &Measured) -> Vec<Verdict> {
    let ours = [Peer::Ka, Peer::KaClear, Peer::KaLikeTar];
    let rows = || ours.into_iter().filter_map(|peer| measured.of(peer));
    match measured.case.kind {
        Kind::Boot => boot(measured).into_iter().collect(),
        Kind::Fault => fault(measured).into_iter().collect(),
        Kind::Stream => rows()
            .flat_map(|ours| stream(measured, ours))
            .chain(encryption(measured))
            .collect(),
        Kind::Tree => rows()
            .flat_map(|ours| tree(measured, ours))
            .chain(encryption(measured))
            .collect(),
        Kind::Multicast
        | Kind::Loss
        | Kind::Processor
        | Kind::Head
        | Kind::GroupFault
        | Kind::Segments
        | Kind::Stranger => Vec::new(),
    }
}

fn boot(measured: &Measured) -> Option<Verdict> {
    let line = payload_limit(measured.case.rate?) as f64;
    let ours = measured.of(Peer::Ka)?;
    Some(Verdict::ratio(
        ours,
        "files go out at 0.8 of the line at least",
        ours.goodput,
        line,
        Target::AtLeast(0.8),
    ))
}

fn fault(measured: &Measured) -> Option<Verdict> {
    let costs = measured.outcomes.iter().filter_map(|outcome| outcome.fault);
    let most = costs
        .map(FaultCost::beyond_noticing)
        .reduce(|most, cost| if cost > most || cost.is_nan() { cost } else { most })?;
    Some(Verdict {
        who: Peer::Ka.name().to_owned(),
        asked: "a fault costs at most 3 s beyond noticing it",
        reached: format!("{most:.2} s"),
        holds: Target::Below(3.0).is_met(most),
    })
}

fn stream(measured: &Measured, ours: &Outcome) -> Vec<Verdict> {
    let is_sealed = ours.peer == Peer::Ka.name();
    let shaped = measured.case.rate.is_some();
    let mut found = Vec::new();
    if let (true, Some(plain)) = (shaped, measured.of(Peer::Socat)) {
        let asked = "goodput ≥ 0.98 of one plain TCP stream";
        let target = Target::AtLeast(0.98);
        found.push(Verdict::ratio(ours, asked, ours.goodput, plain.goodput, target));
    }
    let (asked, target, limit) = if is_sealed {
        (
            "cpu per GiB and hop ≤ 1.6 × the splice relay's",
            Target::AtMost(1.6),
            Peer::LimitSealed,
        )
    } else {
        (
            "cpu per GiB and hop ≤ 1.3 × the splice relay's",
            Target::AtMost(1.3),
            Peer::Limit,
        )
    };
    let mut cpu = |asked, theirs: &Outcome, target| {
        let (ours_is, theirs_is) = (ours.cpu_per_gib_hop, theirs.cpu_per_gib_hop);
        found.push(Verdict::ratio(ours, asked, ours_is, theirs_is, target));
    };
    if let Some(splice) = measured.of(Peer::Splice) {
        cpu(asked, splice, target);
        if let Some(limit) = measured.of(limit) {
            cpu("cpu beside a relay that only checks", limit, Target::Shown);
        }
    }
    if let Some(mbuffer) = measured.of(Peer::Mbuffer) {
        if shaped {
            cpu("cpu below mbuffer's", mbuffer, Target::Below(1.0));
        } else {
            let asked = "unshaped goodput not below mbuffer's";
            let target = Target::AtLeast(1.0);
            found.push(Verdict::ratio(ours, asked, ours.goodput, mbuffer.goodput, target));
        }
    }
    found
}

fn tree(measured: &Measured, ours: &Outcome) -> Vec<Verdict> {
    let Some(mbuffer) = measured.of(Peer::Mbuffer) else {
        return Vec::new();
    };
    let (asked, least) = match (measured.case.rate, measured.case.nodes) {
        (Some(_), _) => ("never slower than tar | mbuffer | tar", 1.0),
        (None, 1) => ("1.3 × as fast as tar | mbuffer | tar", 1.3),
        (None, _) => ("faster than tar | mbuffer | tar", 1.0),
    };
    let faster = |asked, theirs: &Outcome, target| {
        Verdict::ratio(ours, asked, theirs.wall_seconds, ours.wall_seconds, target)
    };
    let mut found = vec![faster(asked, mbuffer, Target::AtLeast(least))];
    if let Some(ready) = measured.of(Peer::MbufferReady) {
        found.push(faster(
            "beside tar on disks made before the clock",
            ready,
            Target::Shown,
        ));
    }
    found.push(Verdict::ratio(
        ours,
        "cpu beside tar | mbuffer | tar",
        ours.cpu_seconds,
        mbuffer.cpu_seconds,
        Target::Shown,
    ));
    found
}

/// Returns the cost of encryption, from the two rows of KA. On a line that is slower than the processors it is
/// hidden, and unshaped it shows in full, so the target is the same for both.
fn encryption(measured: &Measured) -> Vec<Verdict> {
    let (Some(sealed), Some(clear)) = (measured.of(Peer::Ka), measured.of(Peer::KaClear)) else {
        return Vec::new();
    };
    vec![
        Verdict::ratio(
            sealed,
            "wall time ≤ 1.1 × that without encryption",
            sealed.wall_seconds,
            clear.wall_seconds,
            Target::AtMost(1.1),
        ),
        Verdict::ratio(
            sealed,
            "cpu beside that without encryption",
            sealed.cpu_seconds,
            clear.cpu_seconds,
            Target::Shown,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cases::Case;

    const RATE: u64 = 1_000_000_000;

    fn outcome(peer: Peer, seconds: f64) -> Outcome {
        Outcome {
            peer: peer.name().to_owned(),
            wall_seconds: seconds,
            goodput: payload_limit(RATE) as f64 / seconds,
            cpu_seconds: seconds,
            cpu_per_gib_hop: seconds,
            fault: Some(FaultCost {
                noticed_seconds: 2.0,
                lost_seconds: 2.0 + seconds,
                ..FaultCost::default()
            }),
            ..Outcome::default()
        }
    }

    fn measured(kind: Kind, rate: Option<u64>, outcomes: Vec<Outcome>) -> Measured {
        let case = Case {
            name: "case".to_owned(),
            kind,
            nodes: 1,
            rate,
            bytes: 1 << 30,
            burst: None,
            lost_of_10_000: 0,
        };
        Measured { case, outcomes }
    }

    /// Every kind of case, in which the others take a second and KA takes so many.
    fn cases(sealed: f64, clear: f64) -> impl Iterator<Item = Measured> {
        let kinds = [Kind::Stream, Kind::Tree, Kind::Boot, Kind::Fault];
        kinds
            .into_iter()
            .flat_map(|kind| [(kind, None), (kind, Some(RATE))])
            .map(move |(kind, rate)| {
                let others = [
                    Peer::Socat,
                    Peer::Splice,
                    Peer::Limit,
                    Peer::LimitSealed,
                    Peer::Mbuffer,
                    Peer::MbufferReady,
                ];
                let ours = [
                    (Peer::Ka, sealed),
                    (Peer::KaClear, clear),
                    (Peer::KaLikeTar, clear),
                ];
                let others = others.map(|peer| outcome(peer, if kind == Kind::Fault { 0.1 } else { 1.0 }));
                let ours = ours.map(|(peer, seconds)| outcome(peer, seconds));
                measured(kind, rate, others.into_iter().chain(ours).collect())
            })
    }

    fn missed(measured: &Measured) -> Vec<&'static str> {
        let verdicts = of(measured).into_iter();
        verdicts
            .filter(|verdict| verdict.holds == Some(false))
            .map(|verdict| verdict.asked)
            .collect()
    }

    #[test]
    fn every_target_is_missed_by_bad_figures_and_met_by_good_ones() {
        let judged = |sealed, clear| -> Vec<_> {
            let verdicts = cases(sealed, clear).flat_map(|measured| of(&measured));
            verdicts
                .filter_map(|verdict| verdict.holds.map(|holds| (verdict.asked, holds)))
                .collect()
        };
        let (bad, good) = (judged(100.0, 10.0), judged(0.5, 0.5));
        assert_eq!((bad.len(), good.len()), (28, 28));
        for (asked, holds) in bad {
            assert!(!holds, "{asked}: yes to a bad figure");
        }
        for (asked, holds) in good {
            assert!(holds, "{asked}: no to a good figure");
        }
    }

    #[test]
    fn a_figure_that_could_not_be_computed_meets_no_target() {
        for verdict in cases(f64::NAN, f64::NAN).flat_map(|measured| of(&measured)) {
            assert_ne!(verdict.holds(), Some(true), "{verdict:?}");
        }
        let costs = [f64::NAN, 0.1].map(|seconds| outcome(Peer::Ka, seconds));
        assert_eq!(missed(&measured(Kind::Fault, None, costs.to_vec())).len(), 1);
    }

    #[test]
    fn encryption_that_costs_more_than_a_tenth_of_the_wall_time_is_told_on_any_line() {
        for rate in [None, Some(RATE)] {
            let with = |sealed| {
                let rows = vec![outcome(Peer::Ka, sealed), outcome(Peer::KaClear, 1.0)];
                missed(&measured(Kind::Stream, rate, rows)).len()
            };
            assert_eq!((with(1.09), with(1.11), with(f64::NAN)), (0, 1, 1), "{rate:?}");
        }
    }

    #[test]
    fn an_encrypted_stream_may_cost_more_than_one_that_is_not() {
        let rows = vec![
            outcome(Peer::Splice, 1.0),
            outcome(Peer::Ka, 1.55),
            outcome(Peer::KaClear, 1.45),
        ];
        let missed = missed(&measured(Kind::Stream, Some(RATE), rows));
        assert_eq!(missed, ["cpu per GiB and hop ≤ 1.3 × the splice relay's"]);
    }
}
