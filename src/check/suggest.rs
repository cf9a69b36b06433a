//! The nearest valid name to one that does not exist.
//!
//! Knows words only; which names are valid at a place is for the caller to say.

use std::cell::Cell;

use crate::suggest;

/// How many names are compared for one mistake at most.
const COMPARED: usize = 2_000;
/// How many names are compared for all mistakes of a file. Whoever has made so many looks at the first ones.
const COMPARED_IN_ALL: usize = 100_000;

/// The suggestions for one file: the work that they take does not grow with mistakes times names.
pub(crate) struct Suggestions {
    left: Cell<usize>,
}

impl Default for Suggestions {
    fn default() -> Self {
        Self { left: Cell::new(COMPARED_IN_ALL) }
    }
}

impl Suggestions {
    /// As the function of the same name, as long as there is work left.
    pub(crate) fn nearest<'a>(&self, wrong: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        let left = self.left.get();
        let valid = valid.into_iter().take(left).inspect(|_| self.left.set(self.left.get() - 1));
        if left == 0 { None } else { nearest(wrong, valid) }
    }

    /// As the function of the same name, as long as there is work left.
    pub(crate) fn help<'a>(&self, wrong: &str, what: &str, valid: impl IntoIterator<Item = &'a str> + Clone) -> String {
        if self.left.get() == 0 {
            return "Correct what stands above first: after so many mistakes no more names are suggested.".to_owned();
        }
        match self.nearest(wrong, valid.clone()) {
            Some(name) => format!("Did you mean `{name}`?"),
            None => listed(what, valid),
        }
    }
}

/// Returns the name of `valid` that `wrong` was most likely meant to be: the nearest in spelling, or the first that has
/// it as one of its dotted parts, as `payment.charge` has `charge`.
pub(crate) fn nearest<'a>(wrong: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let valid: Vec<&str> = valid.into_iter().take(COMPARED).collect();
    let is_part = |part: &str, whole: &str| part.len() > 2 && whole.split('.').any(|p| p == part);
    suggest::nearest(wrong, valid.iter().copied())
        .or_else(|| valid.into_iter().find(|name| is_part(wrong, name) || is_part(name, wrong)))
}

/// Returns a help that names the nearest of `valid`, or else lists them all, calling them `what`.
pub(crate) fn help<'a>(wrong: &str, what: &str, valid: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(name) = nearest(wrong, valid.clone()) {
        return format!("Did you mean `{name}`?");
    }
    listed(what, valid)
}

fn listed<'a>(what: &str, valid: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<String> = valid.into_iter().map(|name| format!("`{name}`")).collect();
    match all.len() {
        0 => format!("There are no {what}."),
        1 => format!("Of the {what} there is only {}.", all[0]),
        2..=12 => format!("The {what} are {}.", list(&all)),
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
            ("completely_different", None),
        ] {
            assert_eq!(nearest(wrong, names), meant, "{wrong}");
        }
        assert_eq!(nearest("refund", ["payment.refund"]), Some("payment.refund"));
        assert_eq!(nearest("shipping.label", ["label"]), Some("label"));
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
