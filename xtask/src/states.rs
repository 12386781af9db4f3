//! The arrows of `docs/state-machine.md` are exactly the arms of `State::after`.

use std::collections::BTreeSet;

/// From, cause, to; the states in lower case.
type Arrow = (String, String, String);

/// The arrows that stand on one side only.
pub(crate) fn check(source: &str, document: &str) -> Vec<String> {
    let (coded, drawn) = (coded(source), drawn(document));
    if coded.is_empty() {
        return vec!["consistency-core/src/state.rs: no arms found in `State::after`; keep the form `(State::A | State::B, Cause) => Some(State::C),`".to_owned()];
    }
    let shown = |(from, cause, to): &Arrow| format!("`{from} --> {to}: {cause}`");
    let undrawn =
        coded.difference(&drawn).map(|arrow| format!("docs/state-machine.md: misses {}; draw it", shown(arrow)));
    let uncoded = drawn
        .difference(&coded)
        .map(|arrow| format!("docs/state-machine.md: draws {}, which `State::after` refuses; remove it", shown(arrow)));
    undrawn.chain(uncoded).collect()
}

/// The arms of the match in `State::after`.
fn coded(source: &str) -> BTreeSet<Arrow> {
    let body = source.split_once("match (self, cause) {").map_or("", |(_, behind)| behind);
    let body = body.split_once("_ => None").map_or("", |(arms, _)| arms);
    let mut arrows = BTreeSet::new();
    for arm in body.split("Some(State::").collect::<Vec<_>>().windows(2) {
        let Some((_, pattern)) = arm[0].rsplit_once('(') else { continue };
        let Some((states, causes)) = pattern.split_once(')').and_then(|(pattern, _)| pattern.split_once(',')) else {
            continue;
        };
        let Some((to, _)) = arm[1].split_once(')') else { continue };
        for from in states.split('|') {
            for cause in causes.split('|') {
                let from = from.trim().trim_start_matches("State::").to_lowercase();
                arrows.insert((from, cause.trim().to_owned(), to.to_lowercase()));
            }
        }
    }
    arrows
}

/// The labelled arrows of the diagram, without those from nowhere.
fn drawn(document: &str) -> BTreeSet<Arrow> {
    let arrow = |line: &str| {
        let (from, rest) = line.trim().split_once(" --> ")?;
        let (to, cause) = rest.split_once(": ")?;
        (from != "[*]" && !from.contains('`')).then(|| (from.to_owned(), cause.to_owned(), to.to_owned()))
    };
    document.lines().filter_map(arrow).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "match (self, cause) {
        (State::Pending | State::Failed, Claim) => Some(State::Running),
        (State::Running, Retry | Defer) => {
            Some(State::Failed)
        }
        _ => None, }";
    const DOCUMENT: &str = "[*] --> pending: stored\n pending --> running: Claim\n failed --> running: Claim
        running --> failed: Retry\n running --> failed: Defer\n";

    #[test]
    fn an_arrow_on_one_side_only_is_named() {
        assert_eq!(check(SOURCE, DOCUMENT), [""; 0]);
        assert!(check(SOURCE, &DOCUMENT.replace("Defer", "Rescue")).iter().any(|line| line.contains("Rescue")));
        assert_eq!(check(SOURCE, &DOCUMENT.replace("Defer", "Rescue")).len(), 2);
        assert_eq!(check("", DOCUMENT).len(), 1);
    }
}
