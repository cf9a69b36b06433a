//! The nearest valid name to one that was mistyped.
//!
//! Knows words only; which names are valid at a place is for the caller to say.

/// How long a name may be to count as a slip of the pen, in characters.
const NAME_MAX: usize = 64;

/// Returns the candidate that was probably meant, if one is near enough.
///
/// Case, `_` and `-` count for nothing, and two letters that changed places count once. A third of the letters may
/// differ, but not all of them.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A name from a file may be as long as the file, and comparing takes time that grows with the square.
    if name.len() > NAME_MAX {
        return None;
    }
    let wrong = letters(name);
    let allowed = (wrong.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= NAME_MAX && *candidate != name)
        .map(|candidate| {
            let right = letters(candidate);
            (strsim::osa_distance(&wrong, &right), right.chars().count(), candidate)
        })
        .filter(|(distance, length, _)| *distance <= allowed && distance < length)
        .min_by_key(|(distance, ..)| *distance)
        .map(|(.., candidate)| candidate)
}

fn letters(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
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
        assert_eq!(nearest("a", ["b"]), None);
        assert_eq!(nearest(&"x".repeat(65), [&*"x".repeat(64)]), None);
    }
}
