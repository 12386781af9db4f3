//! How the carrier treats a visit: drawn from the order and the number of the visit, so that every run fails alike and
//! every retry has a new chance.

/// What happens to one visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// Records the parcel and answers.
    Willing,
    /// Takes its time first.
    Slow,
    /// Answers 500 and records nothing.
    Broken,
    /// Records the parcel, but its answer comes too late.
    Forgetful,
}

/// Of a thousand visits, this many meet a mood other than willing: enough to see, too few to take over the run.
const BROKEN_PER_MILLE: u64 = 20;
const SLOW_PER_MILLE: u64 = 5;
const FORGETFUL_PER_MILLE: u64 = 2;

impl Mood {
    /// The mood of visit number `arrival` for `order_no`.
    pub(super) fn towards(order_no: i64, arrival: u32) -> Mood {
        match scramble(order_no.cast_unsigned() ^ u64::from(arrival).rotate_left(40)) % 1000 {
            draw if draw < BROKEN_PER_MILLE => Mood::Broken,
            draw if draw < BROKEN_PER_MILLE + SLOW_PER_MILLE => Mood::Slow,
            draw if draw < BROKEN_PER_MILLE + SLOW_PER_MILLE + FORGETFUL_PER_MILLE => Mood::Forgetful,
            _ => Mood::Willing,
        }
    }
}

/// SplitMix64's last steps: neighbouring numbers come out far apart.
fn scramble(mut number: u64) -> u64 {
    number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moods_come_in_their_shares_and_pass() {
        let count = |mood| (0..100_000).filter(|order| Mood::towards(*order, 1) == mood).count();
        assert!((1_800..2_200).contains(&count(Mood::Broken)));
        assert!((400..600).contains(&count(Mood::Slow)));
        assert!((140..260).contains(&count(Mood::Forgetful)));
        // No order meets a broken carrier ten times in a row.
        assert!((0..100_000).all(|order| (1..=10).any(|arrival| Mood::towards(order, arrival) != Mood::Broken)));
    }
}
