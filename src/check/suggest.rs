//! The nearest valid name to one that does not exist.
//!
//! Knows spelling only; which names are valid at a place is for the caller to say.

/// How many names are compared at most, so that many mistakes among many names stay cheap.
const COMPARED: usize = 2_000;

/// Returns the name of `valid` that `wrong` was most likely meant to be; the first of equally near ones.
pub(crate) fn nearest<'a>(wrong: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = normal(wrong);
    let tolerance = match plain.len() {
        0..=2 => 1,
        3..=5 => 2,
        n => (n / 3).min(4),
    };
    let mut best: Option<(usize, &str)> = None;
    for name in valid.into_iter().take(COMPARED) {
        let candidate = normal(name);
        let distance = if candidate == plain {
            0
        } else if is_part(&plain, &candidate) || is_part(&candidate, &plain) {
            1
        } else if candidate.len().abs_diff(plain.len()) > tolerance {
            continue;
        } else {
            distance(&plain, &candidate)
        };
        // Of a name as short as `a` every other short name is near: at least one letter has to agree.
        if distance <= tolerance && distance < plain.len() && best.is_none_or(|(d, _)| distance < d) {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| name)
}

/// Returns a help that names the nearest of `valid`, or else lists them all, calling them `what`.
pub(crate) fn help<'a>(wrong: &str, what: &str, valid: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(name) = nearest(wrong, valid.clone()) {
        return format!("Did you mean `{name}`?");
    }
    let all: Vec<String> = valid.into_iter().map(|name| format!("`{name}`")).collect();
    match all.len() {
        0 => format!("There are no {what}."),
        1..=12 => format!("The {what} are {}.", list(&all)),
        n => format!("The {what} are {} and {} more.", all[..10].join(", "), n - 10),
    }
}

/// Joins words the way a sentence does: `a`, `a and b`, `a, b and c`.
pub(crate) fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// `orderId`, `order_id` and `order-id` are the same name to the person who mistypes it.
fn normal(name: &str) -> Vec<char> {
    name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// Tells whether `part` is one of the dotted parts of `whole`: `charge` of `payment.charge`.
fn is_part(part: &[char], whole: &[char]) -> bool {
    part.len() >= 3 && part.len() < whole.len() && whole.split(|c| *c == '.').any(|p| p == part)
}

/// The number of letters to insert, delete, replace or swap with their neighbour.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{help, nearest};

    #[test]
    fn finds_what_was_meant() {
        let names = ["reserve", "charge", "payment.charge", "order_id", "x"];
        for (wrong, meant) in [
            ("resreve", Some("reserve")),
            ("chrage", Some("charge")),
            ("orderId", Some("order_id")),
            ("payment.chrage", Some("payment.charge")),
            ("y", None),
            ("completely_different", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, names), meant, "{wrong}");
        }
        assert_eq!(nearest("refund", ["payment.refund"]), Some("payment.refund"));
        assert_eq!(nearest("shipping.label", ["label"]), Some("label"));
    }

    #[test]
    fn of_equally_near_names_the_first_is_taken() {
        assert_eq!(nearest("step_3", ["step_1", "step_2"]), Some("step_1"));
    }

    #[test]
    fn lists_the_names_when_none_is_near() {
        assert_eq!(help("zzz", "services", ["mail", "carrier"]), "The services are `mail` and `carrier`.");
        assert_eq!(help("mial", "services", ["mail", "carrier"]), "Did you mean `mail`?");
        assert_eq!(help("zzz", "services", []), "There are no services.");
        let many: Vec<String> = (10..30).map(|n| format!("service_{n}")).collect();
        let text = help("zzz", "services", many.iter().map(String::as_str));
        assert!(text.ends_with("`service_19` and 10 more."), "{text}");
    }
}
