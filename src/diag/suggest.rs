//! The nearest valid name.

/// Returns the candidate that was probably meant, if one is near enough.
///
/// Letters that changed places count once, case and `-` against `_` do not count. A third of the letters may differ.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = normal(name);
    let allowed = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim(&name, &normal(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= allowed.min(candidate.chars().count().saturating_sub(1).max(1)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn normal(name: &str) -> String {
    // A name from a file may be as long as the file; nothing that long is a slip of the pen.
    name.chars().take(64).map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// Optimal string alignment distance: insert, delete, replace, or swap two neighbours.
fn strsim(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_are_found() {
        let keys = ["needs", "when", "uses", "with", "timeout", "on_error"];
        assert_eq!(nearest("timeuot", keys), Some("timeout"));
        assert_eq!(nearest("onError", keys), Some("on_error"));
        assert_eq!(nearest("on-error", keys), Some("on_error"));
        assert_eq!(nearest("need", keys), Some("needs"));
        assert_eq!(nearest("use", keys), Some("uses"));
    }

    #[test]
    fn strangers_are_not() {
        assert_eq!(nearest("if", ["when", "with"]), None);
        assert_eq!(nearest("xy", ["ab"]), None);
        assert_eq!(nearest("a", ["b"]), Some("b"));
    }
}
