//! Whether the values of a type fit a schema: the first misfit, with its place in the value.
//!
//! A misfit is only what is certain. What the schema asks beyond kinds, choices, fields and items is left to the run.
//! A map is taken to have the fields that its schema lists and no others, unless the schema allows others explicitly.

use serde_json::{Map, Value};

use super::schema::{is_plain, names_null, types_of, view_field};
use super::{Field, Items, Schema, Type, View, a_kind, kind_of, type_name};

/// Comparisons that one question may cost.
const WORK_MAX: usize = 4_000;
/// Maps and lists inside each other that are followed.
const DEPTH_MAX: usize = 16;
/// Values of an `enum` that are looked at.
const CHOICES_MAX: usize = 64;

/// How certain a misfit is; the later, the more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Degree {
    /// Some values of the type do not fit.
    Sometimes,
    /// No value fits in which the lists on the way have an item.
    Filled,
    /// No value fits.
    Always,
}

/// What keeps the values of a type from fitting a schema.
#[derive(Clone, Debug)]
pub(crate) struct Misfit {
    /// How certain it is.
    pub degree: Degree,
    /// Where in the value: names of fields, and `[]` for the items of a list.
    pub path: Vec<String>,
    /// What was expected there: `a whole number`.
    pub expected: String,
    /// What it is: `a string`.
    pub found: String,
    /// Whether it is none of the values that are asked for, which may tell another way to fit.
    choice: bool,
}

/// Returns what keeps the values of a type from fitting a schema, if anything does.
pub(crate) fn fits(type_: &Type<'_>, target: Schema<'_>) -> Option<Misfit> {
    Judge { work: WORK_MAX }.type_(type_, target, DEPTH_MAX)
}

/// How near a value comes to one way to fit: the way that it chose by a field is nearer than any other.
fn nearness(misfit: &Misfit) -> (bool, usize) {
    (!misfit.choice, misfit.path.len())
}

/// One of the sets of values that make up a type.
enum Part<'t, 'a> {
    Any,
    Kind(&'static str),
    Value(&'t Value),
    /// One of the values that a schema names.
    Choice(&'a Value),
    List(&'t Type<'a>),
    Map(&'t [(String, Type<'a>)]),
    /// A way to fit a schema, as far as its values are of a kind.
    View(View<'a>, &'a Value, &'a str),
}

struct Judge {
    work: usize,
}

impl Judge {
    fn type_(&mut self, type_: &Type<'_>, target: Schema<'_>, depth: usize) -> Option<Misfit> {
        let depth = depth.checked_sub(1)?;
        if matches!(type_, Type::Any) {
            return None;
        }
        let views = target.views()?;
        if views.is_empty() {
            return None;
        }
        let mut parts = Vec::new();
        parts_of(type_, &mut parts);
        let (mut fitting, mut worst, mut least) = (false, None::<Misfit>, Degree::Always);
        for part in &parts {
            match self.part(part, &views, target.root, depth) {
                None => fitting = true,
                Some(misfit) => {
                    least = least.min(misfit.degree);
                    if worst.as_ref().is_none_or(|w| w.degree < misfit.degree) {
                        worst = Some(misfit);
                    }
                }
            }
        }
        let mut worst = worst?;
        worst.degree = if fitting { Degree::Sometimes } else { least };
        Some(worst)
    }

    /// Holds a set of values against all ways to fit a schema.
    fn part(&mut self, part: &Part<'_, '_>, views: &[View<'_>], root: &Value, depth: usize) -> Option<Misfit> {
        let mut doubts: Vec<Misfit> = Vec::new();
        let mut nearest: Option<Misfit> = None;
        for view in views {
            self.work = self.work.checked_sub(1)?;
            let misfit = self.view(part, view, root, depth)?;
            if misfit.degree < Degree::Always {
                doubts.push(misfit);
            } else if nearest.as_ref().is_none_or(|n| nearness(n) < nearness(&misfit)) {
                nearest = Some(misfit);
            }
        }
        match doubts.len() {
            // Only what one view leaves open can be said: values that fit none of two need not exist.
            1 => doubts.pop(),
            0 => {
                let mut misfit = nearest?;
                if misfit.path.is_empty() && views.len() > 1 && !misfit.expected.starts_with("a map with") {
                    misfit.expected = expected(views);
                }
                Some(misfit)
            }
            _ => None,
        }
    }

    fn view(&mut self, part: &Part<'_, '_>, view: &View<'_>, root: &Value, depth: usize) -> Option<Misfit> {
        let kind = part.kind()?;
        let here = |degree, found: String| {
            Some(Misfit {
                degree,
                path: Vec::new(),
                expected: expected(std::slice::from_ref(view)),
                found,
                choice: false,
            })
        };
        for types in view.iter().filter_map(|p| types_of(p)).filter(|types| !types.is_empty()) {
            let fits = types.iter().any(|t| *t == kind || (*t == "number" && kind == "integer"));
            if !fits && kind == "number" && types.contains(&"integer") {
                // A number that was computed may be whole all the same; one of a schema is any number.
                return match part {
                    Part::View(source, ..) if is_plain(source) && !has_choice(source) => {
                        here(Degree::Sometimes, "a number that may have a fraction".to_owned())
                    }
                    _ => None,
                };
            }
            if !fits {
                return here(Degree::Always, part.found());
            }
        }
        for choices in view.iter().filter_map(|p| choices(p)) {
            let possible = match part {
                Part::Value(value) | Part::Choice(value) => choices.iter().any(|choice| same(choice, value)),
                _ => choices.iter().any(|choice| {
                    let choice = type_name(choice);
                    choice == kind || (choice == "integer" && kind == "number")
                }),
            };
            if !possible {
                return here(Degree::Always, part.found()).map(|misfit| Misfit { choice: true, ..misfit });
            }
        }
        match kind {
            "object" => self.object(part, view, root, depth),
            "array" => self.list(part, view, root, depth),
            _ => None,
        }
    }

    fn object(&mut self, part: &Part<'_, '_>, view: &View<'_>, root: &Value, depth: usize) -> Option<Misfit> {
        let mut worst: Option<Misfit> = None;
        let mut add = |found: Option<Misfit>| {
            if let Some(found) = found
                && worst.as_ref().is_none_or(|w| w.degree < found.degree)
            {
                worst = Some(found);
            }
        };
        for name in view.iter().filter_map(|p| p.get("required")?.as_array()).flatten().filter_map(Value::as_str) {
            let lacks = |degree, found: &str| {
                let expected = format!("a map with the field `{name}`");
                Some(Misfit { degree, path: Vec::new(), expected, found: found.to_owned(), choice: false })
            };
            match part.field(name) {
                Held::No => add(lacks(Degree::Always, &format!("a map without `{name}`"))),
                Held::Optional(_) => add(lacks(Degree::Sometimes, &format!("a map in which `{name}` is optional"))),
                Held::Yes(_) | Held::Unknown => {}
            }
        }
        for keywords in view {
            let listed = keywords.get("properties").and_then(Value::as_object);
            for (name, schema) in listed.into_iter().flatten() {
                add(self.field(part, name, Schema::new(schema, root), depth));
            }
            let others = match keywords.get("additionalProperties") {
                Some(schema) if !keywords.contains_key("patternProperties") => schema,
                _ => continue,
            };
            for name in part.names() {
                if listed.is_some_and(|listed| listed.contains_key(&name)) {
                    continue;
                }
                if *others == Value::Bool(false) {
                    let degree = match part.field(&name) {
                        Held::Yes(_) => Degree::Always,
                        Held::Optional(_) => Degree::Sometimes,
                        Held::No | Held::Unknown => continue,
                    };
                    let expected = format!("a map without the field `{name}`");
                    add(Some(Misfit {
                        degree,
                        path: Vec::new(),
                        expected,
                        found: format!("a map with `{name}`"),
                        choice: false,
                    }));
                } else {
                    add(self.field(part, &name, Schema::new(others, root), depth));
                }
            }
        }
        worst
    }

    fn field(&mut self, part: &Part<'_, '_>, name: &str, target: Schema<'_>, depth: usize) -> Option<Misfit> {
        let (type_, always) = match part.field(name) {
            Held::Yes(type_) => (type_, true),
            Held::Optional(type_) => (type_, false),
            Held::No | Held::Unknown => return None,
        };
        let mut misfit = self.type_(&type_, target, depth)?;
        misfit.path.insert(0, name.to_owned());
        if !always {
            misfit.degree = Degree::Sometimes;
        }
        // Whether values with the doubtful field exist is not certain if the schema says more than is read here.
        (misfit.degree > Degree::Sometimes || part.is_plain()).then_some(misfit)
    }

    fn list(&mut self, part: &Part<'_, '_>, view: &View<'_>, root: &Value, depth: usize) -> Option<Misfit> {
        let (item, filled) = part.items()?;
        let mut worst: Option<Misfit> = None;
        for keywords in view.iter().filter(|p| !p.contains_key("prefixItems")) {
            let Some(items) = keywords.get("items") else { continue };
            let Some(mut misfit) = self.type_(&item, Schema::new(items, root), depth) else { continue };
            misfit.path.insert(0, "[]".to_owned());
            if misfit.degree == Degree::Always && !filled {
                misfit.degree = Degree::Filled;
            }
            let told = misfit.degree > Degree::Sometimes || part.is_plain();
            if told && worst.as_ref().is_none_or(|w| w.degree < misfit.degree) {
                worst = Some(misfit);
            }
        }
        worst
    }
}

/// What a set of values says of a field.
enum Held<'a> {
    Yes(Type<'a>),
    Optional(Type<'a>),
    No,
    Unknown,
}

impl<'a> Part<'_, 'a> {
    /// Returns the kind of all its values; nothing if it is not known.
    fn kind(&self) -> Option<&str> {
        match self {
            Self::Any => None,
            Self::Kind(kind) => Some(kind),
            Self::Value(value) | Self::Choice(value) => Some(type_name(value)),
            Self::List(_) => Some("array"),
            Self::Map(_) => Some("object"),
            Self::View(_, _, kind) => Some(kind),
        }
    }

    fn found(&self) -> String {
        match self {
            Self::Value(value) | Self::Choice(value) if value.is_string() || value.is_number() => format!("`{value}`"),
            Self::Value(value) | Self::Choice(value) => kind_of(value).to_owned(),
            _ => self.kind().map_or("anything", a_kind).to_owned(),
        }
    }

    fn is_plain(&self) -> bool {
        match self {
            Self::View(view, ..) => is_plain(view),
            _ => true,
        }
    }

    fn field(&self, name: &str) -> Held<'a> {
        let known = |type_: Option<Type<'a>>| type_.map_or(Held::No, Held::Yes);
        match self {
            Self::Map(fields) => known(fields.iter().find(|(field, _)| field == name).map(|(_, t)| t.clone())),
            Self::Value(value) | Self::Choice(value) => {
                known(value.get(name).map(|value| Type::Literal(std::rc::Rc::new(value.clone()))))
            }
            Self::View(view, root, _) => {
                let mut found = view.iter().filter_map(|part| part.get("properties")?.get(name));
                let required = view
                    .iter()
                    .filter_map(|part| part.get("required")?.as_array())
                    .flatten()
                    .any(|field| field == name);
                match (found.next(), found.next()) {
                    (Some(schema), None) if required => Held::Yes(Type::Schemas(vec![Schema::new(schema, root)])),
                    (Some(schema), None) if says_required(view) => {
                        Held::Optional(Type::Schemas(vec![Schema::new(schema, root)]))
                    }
                    (Some(_), _) => Held::Unknown,
                    (None, _) if required => Held::Unknown,
                    (None, _) => match view_field(view, root, name) {
                        Field::Absent(_) => Held::No,
                        Field::Known(_) | Field::None(_) => Held::Unknown,
                    },
                }
            }
            Self::Any | Self::Kind(_) | Self::List(_) => Held::Unknown,
        }
    }

    fn names(&self) -> Vec<String> {
        match self {
            Self::Map(fields) => fields.iter().map(|(name, _)| name.clone()).collect(),
            Self::Value(Value::Object(map)) | Self::Choice(Value::Object(map)) => map.keys().cloned().collect(),
            Self::View(view, ..) => {
                let listed = view.iter().filter_map(|part| part.get("properties")?.as_object());
                listed.flat_map(Map::keys).cloned().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns the type of the items, and whether there is always one.
    fn items(&self) -> Option<(Type<'a>, bool)> {
        match self {
            Self::List(item) => Some((Type::clone(item), false)),
            Self::Value(value @ Value::Array(items)) | Self::Choice(value @ Value::Array(items)) => {
                match Type::Literal(std::rc::Rc::new(Value::clone(value))).items() {
                    Items::Known(item) => Some((item, !items.is_empty())),
                    Items::None(_) => None,
                }
            }
            Self::View(view, root, _) => {
                let mut found = view.iter().filter_map(|part| part.get("items"));
                let (Some(items), None) = (found.next(), found.next()) else { return None };
                if view.iter().any(|part| part.contains_key("prefixItems")) {
                    return None;
                }
                let least = view.iter().filter_map(|part| part.get("minItems")?.as_u64()).max();
                Some((Type::Schemas(vec![Schema::new(items, root)]), least.is_some_and(|n| n > 0)))
            }
            _ => None,
        }
    }
}

/// Tells whether a schema says of any field that it is required.
fn says_required(view: &View<'_>) -> bool {
    view.iter().any(|part| part.contains_key("required"))
}

fn parts_of<'t, 'a>(type_: &'t Type<'a>, parts: &mut Vec<Part<'t, 'a>>) {
    match type_ {
        Type::Any => parts.push(Part::Any),
        Type::Kind(kind) => parts.push(Part::Kind(kind.name())),
        Type::List(item, _) => parts.push(Part::List(item)),
        Type::Map(fields, _) => parts.push(Part::Map(fields)),
        Type::Value(value) => parts.push(Part::Value(value)),
        Type::Literal(value) => parts.push(Part::Value(value)),
        Type::Union(types, _) => types.iter().for_each(|one| parts_of(one, parts)),
        Type::Schemas(schemas) => {
            for schema in schemas {
                let Some(views) = schema.views() else {
                    parts.push(Part::Any);
                    continue;
                };
                for view in views {
                    view_parts(view, *schema, parts);
                }
            }
        }
    }
}

fn view_parts<'a>(view: View<'a>, schema: Schema<'a>, parts: &mut Vec<Part<'_, 'a>>) {
    let named: Vec<Vec<&'a str>> = view.iter().filter_map(|part| types_of(part)).collect();
    let all_allow = |kind: &str| {
        named.iter().all(|types| types.iter().any(|t| *t == kind || (*t == "number" && kind == "integer")))
    };
    if let Some(choices) = view.iter().find_map(|part| choices(part)) {
        if choices.len() > CHOICES_MAX {
            return parts.push(Part::Any);
        }
        let kept = choices.into_iter().filter(|c| all_allow(type_name(c)) && !(schema.non_null && c.is_null()));
        // A value that other keywords refuse is no certain one.
        return parts.extend(kept.map(|choice| if is_plain(&view) { Part::Choice(choice) } else { Part::Any }));
    }
    let Some(first) = named.first() else { return parts.push(Part::Any) };
    for kind in first.iter().filter(|kind| all_allow(kind)) {
        if *kind == "null" && schema.non_null {
            continue;
        }
        if *kind == "null" && !(is_plain(&view) && names_null(&view)) {
            parts.push(Part::Any);
            continue;
        }
        parts.push(Part::View(view.clone(), schema.root, kind));
    }
}

/// Returns the values that a schema object names.
fn choices(part: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (part.get("const"), part.get("enum")) {
        (Some(one), _) => Some(vec![one]),
        (None, Some(Value::Array(many))) => Some(many.iter().collect()),
        _ => None,
    }
}

fn has_choice(view: &View<'_>) -> bool {
    view.iter().any(|part| choices(part).is_some())
}

/// Whether two values are the same by JSON Schema, where 1 is 1.0.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(l), Value::Number(r)) => l == r || l.as_f64() == r.as_f64(),
        (Value::Array(l), Value::Array(r)) => l.len() == r.len() && l.iter().zip(r).all(|(l, r)| same(l, r)),
        (Value::Object(l), Value::Object(r)) => {
            l.len() == r.len() && l.iter().all(|(key, l)| r.get(key).is_some_and(|r| same(l, r)))
        }
        _ => left == right,
    }
}

/// Says in words what the views allow.
fn expected(views: &[View<'_>]) -> String {
    let mut words: Vec<String> = Vec::new();
    for view in views {
        if let Some(choices) = view.iter().find_map(|part| choices(part)) {
            words.extend(choices.iter().map(|choice| format!("`{choice}`")));
            continue;
        }
        let kinds = view.iter().find_map(|part| types_of(part)).unwrap_or_default();
        words.extend(kinds.into_iter().map(|kind| a_kind(kind).to_owned()));
    }
    let mut seen = std::collections::HashSet::new();
    words.retain(|word| seen.insert(word.clone()));
    match words.as_slice() {
        [] => "another value".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
#[path = "fits_tests.rs"]
mod tests;
