//! An assignment of things to wants, and the check that it is the only one.

/// Gives each of `wants` (lists of indices of things) one thing of its own. `Ok` if there is exactly one way.
/// `Err` holds the index of a want that gets nothing, or that could get another thing.
pub(super) fn only_way(wants: &[Vec<usize>]) -> Result<Vec<usize>, Undecided> {
    let given = matching(wants, None)?;
    for (who, thing) in given.iter().enumerate() {
        if matching(wants, Some((who, *thing))).is_ok() {
            return Err(Undecided::Several(who));
        }
    }
    Ok(given)
}

/// Reason why there is no single way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undecided {
    /// The want of this index gets nothing.
    Nothing(usize),
    /// The want of this index may have more than one thing.
    Several(usize),
}

/// Finds one way, by augmenting paths; `without` is a pair that must not be used.
fn matching(wants: &[Vec<usize>], without: Option<(usize, usize)>) -> Result<Vec<usize>, Undecided> {
    let things = wants.iter().flatten().max().map_or(0, |most| most + 1);
    let mut search = Search {
        wants,
        without,
        owner: vec![None; things],
    };
    for who in 0..wants.len() {
        if !search.serve(who, &mut vec![false; things]) {
            return Err(Undecided::Nothing(who));
        }
    }
    let thing_of = |who| search.owner.iter().position(|owner| *owner == Some(who));
    (0..wants.len())
        .map(|who| thing_of(who).ok_or(Undecided::Nothing(who)))
        .collect()
}

struct Search<'a> {
    wants: &'a [Vec<usize>],
    without: Option<(usize, usize)>,
    owner: Vec<Option<usize>>,
}

impl Search<'_> {
    /// Serves one more want, and moves those already served if that helps.
    fn serve(&mut self, who: usize, seen: &mut [bool]) -> bool {
        let wants = self.wants;
        for &thing in &wants[who] {
            if seen[thing] || self.without == Some((who, thing)) {
                continue;
            }
            seen[thing] = true;
            let is_free = match self.owner[thing] {
                None => true,
                Some(owner) => self.serve(owner, seen),
            };
            if is_free {
                self.owner[thing] = Some(who);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_is_found_also_where_the_first_choice_is_wrong() {
        assert_eq!(only_way(&[vec![0, 1], vec![0]]), Ok(vec![1, 0]));
        assert_eq!(only_way(&[vec![2]]), Ok(vec![2]));
        assert_eq!(only_way(&[]), Ok(vec![]));
    }

    #[test]
    fn two_ways_are_none() {
        assert_eq!(only_way(&[vec![0, 1]]), Err(Undecided::Several(0)));
        assert_eq!(only_way(&[vec![0, 1], vec![0, 1]]), Err(Undecided::Several(0)));
        assert_eq!(only_way(&[vec![3], vec![0, 1]]), Err(Undecided::Several(1)));
    }

    #[test]
    fn who_gets_nothing_is_named() {
        assert_eq!(only_way(&[vec![0], vec![]]), Err(Undecided::Nothing(1)));
        assert_eq!(only_way(&[vec![0], vec![0]]), Err(Undecided::Nothing(1)));
    }
}
