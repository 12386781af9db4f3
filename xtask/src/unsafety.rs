//! Every published crate forbids `unsafe`: the workspace's lints say so, and each crate takes them.

/// What is wrong: `workspace` is the text of the workspace's `Cargo.toml`, `crates` name and text of those of its crates.
pub(crate) fn check(workspace: &str, crates: &[(&str, String)]) -> Vec<String> {
    let mut wrong = Vec::new();
    if !section(workspace, "[workspace.lints.rust]").any(|line| line == "unsafe_code = \"forbid\"") {
        wrong.push("Cargo.toml: [workspace.lints.rust] does not say `unsafe_code = \"forbid\"`; write it".to_owned());
    }
    for (name, text) in crates {
        if !section(text, "[lints]").any(|line| line == "workspace = true") {
            wrong.push(format!(
                "{name}/Cargo.toml: does not take the workspace's lints; write `[lints]`, `workspace = true`"
            ));
        }
    }
    wrong
}

/// The lines of a section, without white space around them.
fn section<'a>(manifest: &'a str, header: &'static str) -> impl Iterator<Item = &'a str> {
    let lines = manifest.lines().map(str::trim);
    lines.skip_while(move |line| *line != header).skip(1).take_while(|line| !line.starts_with('['))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_are_asked_for() {
        let workspace = "[workspace.lints.rust]\nunsafe_code = \"forbid\"\n[x]";
        let takes = ("a", "[lints]\nworkspace = true\n".to_owned());
        assert_eq!(check(workspace, std::slice::from_ref(&takes)), [""; 0]);
        assert_eq!(check(&workspace.replace("forbid", "deny"), &[takes]).len(), 1);
        assert_eq!(check(workspace, &[("a", "[lints]\n[x]\nworkspace = true".to_owned())]).len(), 1);
    }
}
