//! The filters and tests of templates: what they are called, what they take, and what they do.

use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use serde_json::Value;

use super::TemplateError;
use super::budget::{Budget, Fault};
use super::syntax::{Arguments, CompareOp, Kind, MathOp};
use super::value::{self, Num, kind, text, truth};
use crate::suggest::nearest;

/// What a filter gives.
pub(super) enum Outcome {
    Value(Value),
    /// Its input, unchanged.
    Same,
    /// Nothing; the text says why.
    Missing(String),
}

/// A filter.
#[derive(Debug)]
pub(crate) struct Filter {
    /// What it is called.
    pub name: &'static str,
    /// How many arguments it needs.
    least: usize,
    /// The names of its arguments, in order.
    pub params: &'static [&'static str],
    /// Whether its positional arguments are a list of their own: the name of a filter or test and what that takes.
    pub rest: bool,
    pub(super) apply: fn(&mut Budget, &Value, &Given<'_>) -> Result<Outcome, Fault>,
}

/// A test.
#[derive(Debug)]
pub(crate) struct Test {
    /// What it is called; the first is the usual name.
    pub names: &'static [&'static str],
    /// How many arguments it takes.
    takes: usize,
    pub(super) apply: fn(&mut Budget, &Value, Option<&Value>) -> Result<bool, Fault>,
}

/// The arguments that a filter was given.
pub(super) struct Given<'v> {
    params: &'static [&'static str],
    values: Vec<Option<&'v Value>>,
    rest: Vec<&'v Value>,
}

impl<'v> Given<'v> {
    /// Puts arguments in their places.
    pub fn bind(
        params: &'static [&'static str],
        rest: bool,
        positional: &'v [Rc<Value>],
        named: &'v [(&str, Rc<Value>)],
    ) -> Self {
        let mut values = vec![None; params.len()];
        if !rest {
            for (place, value) in values.iter_mut().zip(positional) {
                *place = Some(&**value);
            }
        }
        for (name, value) in named {
            if let Some(index) = params.iter().position(|param| param == name) {
                values[index] = Some(&**value);
            }
        }
        let rest = if rest { positional.iter().map(|value| &**value).collect() } else { Vec::new() };
        Self { params, values, rest }
    }

    fn get(&self, name: &str) -> Option<&'v Value> {
        let index = self.params.iter().position(|param| *param == name)?;
        self.values[index]
    }

    fn str(&self, name: &str) -> Result<Option<&'v str>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(Fault::new(format!("`{name}` has to be a string, and is {}", kind(other)))),
        }
    }
}

const fn filter(
    name: &'static str,
    least: usize,
    params: &'static [&'static str],
    apply: fn(&mut Budget, &Value, &Given<'_>) -> Result<Outcome, Fault>,
) -> Filter {
    Filter { name, least, params, rest: false, apply }
}

const fn rest(
    name: &'static str,
    least: usize,
    params: &'static [&'static str],
    apply: fn(&mut Budget, &Value, &Given<'_>) -> Result<Outcome, Fault>,
) -> Filter {
    Filter { name, least, params, rest: true, apply }
}

/// Returns the filter of a name.
pub(crate) fn known_filter(name: &str) -> Option<&'static Filter> {
    FILTERS.iter().find(|filter| filter.name == name)
}

static FILTERS: &[Filter] = &[
    filter("abs", 0, &[], abs),
    filter("bool", 0, &[], |_, input, _| Ok(Outcome::Value(truth(input).into()))),
    filter("capitalize", 0, &[], |budget, input, _| {
        string(budget, input, "capitalize", |text| {
            let mut letters = text.chars();
            letters.next().map_or_else(String::new, |first| {
                first.to_uppercase().chain(letters.flat_map(char::to_lowercase)).collect()
            })
        })
    }),
    filter("count", 0, &[], length),
    filter("dictsort", 0, &["by", "reverse"], dictsort),
    filter("first", 0, &[], |budget, input, _| one(budget, input, "first", <[Value]>::first)),
    filter("float", 0, &["default"], to_float),
    filter("int", 0, &["default"], to_int),
    filter("items", 0, &[], items),
    filter("join", 0, &["d", "attribute"], join),
    filter("keys", 0, &[], keys),
    filter("last", 0, &[], |budget, input, _| one(budget, input, "last", <[Value]>::last)),
    filter("length", 0, &[], length),
    filter("list", 0, &[], to_list),
    filter("lower", 0, &[], |budget, input, _| string(budget, input, "lower", str::to_lowercase)),
    rest("map", 0, &["attribute", "default"], map),
    filter("max", 0, &["attribute"], |budget, input, given| extreme(budget, input, given, "max")),
    filter("min", 0, &["attribute"], |budget, input, given| extreme(budget, input, given, "min")),
    rest("reject", 0, &[], |budget, input, given| pick(budget, input, given, false, false)),
    rest("rejectattr", 1, &[], |budget, input, given| pick(budget, input, given, true, false)),
    filter("replace", 2, &["old", "new"], replace),
    filter("reverse", 0, &[], reverse),
    filter("round", 0, &["precision"], round),
    rest("select", 0, &[], |budget, input, given| pick(budget, input, given, false, true)),
    rest("selectattr", 1, &[], |budget, input, given| pick(budget, input, given, true, true)),
    filter("sort", 0, &["reverse", "attribute"], sort),
    filter("split", 0, &["separator"], split),
    filter("string", 0, &[], to_string),
    filter("sum", 0, &["attribute", "start"], sum),
    filter("title", 0, &[], |budget, input, _| {
        string(budget, input, "title", |text| {
            let mut start = true;
            let mut out = String::with_capacity(text.len());
            for letter in text.chars() {
                if start {
                    out.extend(letter.to_uppercase())
                } else {
                    out.extend(letter.to_lowercase())
                }
                start = !letter.is_alphanumeric();
            }
            out
        })
    }),
    filter("tojson", 0, &[], |budget, input, _| Ok(Outcome::Value(Value::String(value::json(budget, input)?)))),
    filter("trim", 0, &["chars"], trim),
    filter("unique", 0, &["attribute"], unique),
    filter("upper", 0, &[], |budget, input, _| string(budget, input, "upper", str::to_uppercase)),
    filter("values", 0, &[], values),
];

static TESTS: &[Test] = &[
    Test { names: &["boolean"], takes: 0, apply: |_, input, _| Ok(input.is_boolean()) },
    Test { names: &["divisibleby"], takes: 1, apply: |_, input, by| divides(input, by.unwrap_or(&Value::Null)) },
    Test {
        names: &["endingwith"],
        takes: 1,
        apply: |_, input, end| affix(input, end, |text, end| text.ends_with(end)),
    },
    Test { names: &["eq", "equalto", "=="], takes: 1, apply: |b, l, r| relate(b, CompareOp::Equal, l, r) },
    Test { names: &["even"], takes: 0, apply: |_, input, _| divides(input, &Value::from(2)) },
    Test { names: &["false"], takes: 0, apply: |_, input, _| Ok(*input == Value::Bool(false)) },
    Test { names: &["float"], takes: 0, apply: |_, input, _| Ok(input.is_f64()) },
    Test { names: &["ge", ">="], takes: 1, apply: |b, l, r| relate(b, CompareOp::GreaterOrEqual, l, r) },
    Test { names: &["gt", "greaterthan", ">"], takes: 1, apply: |b, l, r| relate(b, CompareOp::Greater, l, r) },
    Test { names: &["in"], takes: 1, apply: |b, l, r| relate(b, CompareOp::In, l, r) },
    Test { names: &["integer", "int"], takes: 0, apply: |_, input, _| Ok(input.is_i64() || input.is_u64()) },
    Test { names: &["iterable"], takes: 0, apply: |_, input, _| Ok(input.is_array() || input.is_object()) },
    Test { names: &["le", "<="], takes: 1, apply: |b, l, r| relate(b, CompareOp::LessOrEqual, l, r) },
    Test { names: &["lt", "lessthan", "<"], takes: 1, apply: |b, l, r| relate(b, CompareOp::Less, l, r) },
    Test { names: &["mapping"], takes: 0, apply: |_, input, _| Ok(input.is_object()) },
    Test { names: &["ne", "!="], takes: 1, apply: |b, l, r| relate(b, CompareOp::NotEqual, l, r) },
    Test { names: &["none"], takes: 0, apply: |_, input, _| Ok(input.is_null()) },
    Test { names: &["number"], takes: 0, apply: |_, input, _| Ok(input.is_number()) },
    Test { names: &["odd"], takes: 0, apply: |_, input, _| divides(input, &Value::from(2)).map(|even| !even) },
    Test { names: &["sequence"], takes: 0, apply: |_, input, _| Ok(input.is_array()) },
    Test {
        names: &["startingwith"],
        takes: 1,
        apply: |_, input, start| affix(input, start, |text, start| text.starts_with(start)),
    },
    Test { names: &["string"], takes: 0, apply: |_, input, _| Ok(input.is_string()) },
    Test { names: &["true"], takes: 0, apply: |_, input, _| Ok(*input == Value::Bool(true)) },
];

/// Whether there is such a filter.
pub(super) fn is_filter(name: &str) -> bool {
    FILTERS.iter().any(|filter| filter.name == name) || matches!(name, "default" | "d")
}

/// Returns the first name of every filter and test, `default` and `defined` included.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let filters = FILTERS.iter().map(|filter| filter.name);
    filters.chain(TESTS.iter().map(|test| test.names[0])).chain(["default", "defined", "undefined"])
}

/// Says what to write instead of a method that other languages have.
pub(super) fn method_help(name: &str) -> Option<&'static str> {
    Some(match name {
        "get" => "Write `value.name | default(none)`.",
        "len" | "size" => "Write `value | length`.",
        "toString" | "to_string" | "str" => "Write `value | string`.",
        "toLowerCase" => "Write `value | lower`.",
        "toUpperCase" => "Write `value | upper`.",
        "strip" => "Write `value | trim`.",
        "startswith" | "startsWith" => "Write `value is startingwith('...')`.",
        "endswith" | "endsWith" => "Write `value is endingwith('...')`.",
        "includes" | "contains" => "Write `'...' in value`.",
        _ => return None,
    })
}

/// Finds a filter, and checks what it is given as far as that is certain.
pub(super) fn find_filter(name: &str, at: &Range<usize>, args: &Arguments) -> Result<&'static Filter, TemplateError> {
    let found = filter_named(name, at)?;
    let most = if found.rest { usize::MAX } else { found.params.len() };
    if let Some(extra) = args.positional.get(most) {
        let message = match most {
            0 => format!("`{name}` takes no argument"),
            1 => format!("`{name}` takes one argument at most"),
            most => format!("`{name}` takes {most} arguments at most"),
        };
        return Err(TemplateError::new(message, extra.range.clone()));
    }
    for (keyword, node) in &args.named {
        if !found.params.contains(&keyword.as_str()) {
            let help = nearest(keyword, found.params.iter().copied()).map(|near| format!("Did you mean `{near}`?"));
            return Err(
                TemplateError::new(format!("`{name}` has no argument `{keyword}`"), node.range.clone()).with_help(help)
            );
        }
    }
    if args.positional.len() + args.named.len() < found.least {
        let message = format!("`{name}` needs {} argument{}", found.least, if found.least == 1 { "" } else { "s" });
        return Err(TemplateError::new(message, at.clone()));
    }
    // The name of a filter or test inside the arguments is as certain as one outside.
    let inner = match name {
        "select" | "reject" | "map" => args.positional.first(),
        "selectattr" | "rejectattr" => args.positional.get(1),
        _ => None,
    };
    if let Some(node) = inner
        && let Kind::Literal(Value::String(inner)) = &node.kind
    {
        let at = node.range.start + 1..node.range.end.saturating_sub(1);
        if name == "map" {
            filter_named(inner, &at)?;
        } else if !matches!(inner.as_str(), "defined" | "undefined") {
            test_named(inner, &at)?;
        }
    }
    if name == "map" && args.positional.is_empty() && !args.named.iter().any(|(keyword, _)| keyword == "attribute") {
        return Err(TemplateError::new("`map` needs a filter or an attribute", at.clone())
            .with_help("Write `map('upper')` or `map(attribute='name')`.".to_owned()));
    }
    Ok(found)
}

fn filter_named(name: &str, at: &Range<usize>) -> Result<&'static Filter, TemplateError> {
    let Some(found) = FILTERS.iter().find(|filter| filter.name == name) else {
        let near = nearest(name, FILTERS.iter().map(|filter| filter.name).chain(["default"]));
        let help = match (name, near) {
            ("indent" | "pprint", _) => Some("`tojson` writes compact JSON.".to_owned()),
            ("safe" | "escape" | "e", _) => Some("Nothing is escaped in templates, so leave it out.".to_owned()),
            (_, Some(near)) => Some(format!("Did you mean `{near}`?")),
            (_, None) => None,
        };
        return Err(TemplateError::new(format!("there is no filter `{name}`"), at.clone()).with_help(help));
    };
    Ok(found)
}

/// Finds a test, and checks how many arguments it is given.
pub(super) fn find_test(name: &str, at: &Range<usize>, args: &Arguments) -> Result<&'static Test, TemplateError> {
    let found = test_named(name, at)?;
    if args.positional.len() != found.takes || !args.named.is_empty() {
        let takes = if found.takes == 0 { "no argument" } else { "one argument" };
        return Err(TemplateError::new(format!("`is {name}` takes {takes}"), at.clone()));
    }
    Ok(found)
}

fn test_named(name: &str, at: &Range<usize>) -> Result<&'static Test, TemplateError> {
    TESTS.iter().find(|test| test.names.contains(&name)).ok_or_else(|| {
        let known = TESTS.iter().flat_map(|test| test.names.iter().copied()).chain(["defined", "undefined"]);
        let help = match name {
            "null" | "None" | "empty" => {
                Some("Write `is none`; something empty does not hold as a condition.".to_owned())
            }
            _ => nearest(name, known).map(|near| format!("Did you mean `{near}`?")),
        };
        TemplateError::new(format!("there is no test `{name}`"), at.clone()).with_help(help)
    })
}

fn array<'v>(input: &'v Value, name: &str) -> Result<&'v Vec<Value>, Fault> {
    input.as_array().ok_or_else(|| Fault::new(format!("`{name}` needs a list, and this is {}", kind(input))))
}

fn object<'v>(input: &'v Value, name: &str) -> Result<&'v serde_json::Map<String, Value>, Fault> {
    input.as_object().ok_or_else(|| Fault::new(format!("`{name}` needs an object, and this is {}", kind(input))))
}

fn str<'v>(input: &'v Value, name: &str) -> Result<&'v str, Fault> {
    input.as_str().ok_or_else(|| Fault::new(format!("`{name}` needs a string, and this is {}", kind(input))))
}

fn number(input: &Value, name: &str) -> Result<Num, Fault> {
    Num::of(input).ok_or_else(|| Fault::new(format!("`{name}` needs a number, and this is {}", kind(input))))
}

fn string(
    budget: &mut Budget,
    input: &Value,
    name: &str,
    change: impl FnOnce(&str) -> String,
) -> Result<Outcome, Fault> {
    let text = str(input, name)?;
    // A letter may grow threefold when its case changes.
    budget.string(text.len())?;
    budget.spend(text.len() as u64)?;
    Ok(Outcome::Value(Value::String(change(text))))
}

/// Returns what stands at a dotted path inside an item.
fn attribute<'v>(item: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(item, |value, name| match value {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        value => value.get(name),
    })
}

fn attribute_of<'v>(item: &'v Value, path: Option<&str>, index: usize) -> Result<&'v Value, Fault> {
    match path {
        None => Ok(item),
        Some(path) => attribute(item, path).ok_or_else(|| no_attribute(path, index)),
    }
}

fn no_attribute(path: &str, index: usize) -> Fault {
    Fault::new(format!("item {index} of the list has no `{path}`"))
        .help("`map(attribute='...', default=...)` says what to take instead.")
}

fn abs(_: &mut Budget, input: &Value, _: &Given<'_>) -> Result<Outcome, Fault> {
    Ok(Outcome::Value(match number(input, "abs")? {
        Num::Int(int) => value::int(int.abs())?,
        Num::Float(float) => value::float(float.abs())?,
    }))
}

fn length(budget: &mut Budget, input: &Value, _: &Given<'_>) -> Result<Outcome, Fault> {
    let length = match input {
        Value::String(text) => {
            budget.spend(text.len() as u64)?;
            text.chars().count()
        }
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        other => {
            return Err(Fault::new(format!("`length` needs a string, list or object, and this is {}", kind(other))));
        }
    };
    Ok(Outcome::Value(length.into()))
}

fn one(budget: &mut Budget, input: &Value, name: &str, take: fn(&[Value]) -> Option<&Value>) -> Result<Outcome, Fault> {
    match take(array(input, name)?) {
        Some(item) => Ok(Outcome::Value(budget.copy(item)?)),
        None => Ok(Outcome::Missing(format!("there is no {name} item: the list is empty"))),
    }
}

fn extreme(budget: &mut Budget, input: &Value, given: &Given<'_>, name: &str) -> Result<Outcome, Fault> {
    let path = given.str("attribute")?;
    let mut best: Option<(&Value, &Value)> = None;
    for (index, item) in array(input, name)?.iter().enumerate() {
        let key = attribute_of(item, path, index)?;
        let better = match best {
            None => true,
            Some((_, best)) => {
                let order = value::order(budget, key, best)?;
                if name == "min" { order.is_lt() } else { order.is_gt() }
            }
        };
        if better {
            best = Some((item, key));
        }
    }
    match best {
        Some((item, _)) => Ok(Outcome::Value(budget.copy(item)?)),
        None => Ok(Outcome::Missing(format!("there is no {name} item: the list is empty"))),
    }
}

fn to_int(_: &mut Budget, input: &Value, given: &Given<'_>) -> Result<Outcome, Fault> {
    let result = match (input, Num::of(input)) {
        (_, Some(Num::Int(_))) => return Ok(Outcome::Same),
        (_, Some(Num::Float(float))) => whole(float),
        (Value::Bool(bool), _) => Ok(Value::from(u8::from(*bool))),
        (Value::String(text), _) => match text.trim().parse::<i128>() {
            Ok(int) => value::int(int),
            Err(_) => match text.trim().parse::<f64>() {
                Ok(float) => whole(float),
                Err(_) => Err(Fault::new("the text is not a number")),
            },
        },
        (other, _) => Err(Fault::new(format!("`int` cannot make a number of {}", kind(other)))),
    };
    otherwise(result, given)
}

#[expect(clippy::cast_possible_truncation, reason = "the range is looked at first")]
fn whole(float: f64) -> Result<Value, Fault> {
    if float.is_finite() && float.abs() < 1e20 {
        value::int(float.trunc() as i128)
    } else {
        Err(Fault::new("the result does not fit a 64-bit integer"))
    }
}

fn to_float(_: &mut Budget, input: &Value, given: &Given<'_>) -> Result<Outcome, Fault> {
    let result = match (input, Num::of(input)) {
        (_, Some(number)) => value::float(number.float()),
        (Value::Bool(bool), _) => value::float(f64::from(u8::from(*bool))),
        (Value::String(text), _) => match text.trim().parse::<f64>() {
            Ok(float) => value::float(float),
            Err(_) => Err(Fault::new("the text is not a number")),
        },
        (other, _) => Err(Fault::new(format!("`float` cannot make a number of {}", kind(other)))),
    };
    otherwise(result, given)
}

fn otherwise(result: Result<Value, Fault>, given: &Given<'_>) -> Result<Outcome, Fault> {
    match (result, given.get("default")) {
        (Ok(value), _) => Ok(Outcome::Value(value)),
        (Err(_), Some(default)) => Ok(Outcome::Value(default.clone())),
        (Err(fault), None) => Err(fault),
    }
}

fn items(budget: &mut Budget, input: &Value, _: &Given<'_>) -> Result<Outcome, Fault> {
    let pairs = object(input, "items")?.iter().map(|(key, member)| pair(budget, key, member));
    Ok(Outcome::Value(Value::Array(pairs.collect::<Result<_, _>>()?)))
}

fn pair(budget: &mut Budget, key: &str, member: &Value) -> Result<Value, Fault> {
    budget.string(key.len())?;
    Ok(Value::Array(vec![Value::String(key.to_owned()), budget.copy(member)?]))
}

fn dictsort(budget: &mut Budget, input: &Value, given: &Given<'_>) -> Result<Outcome, Fault> {
    let by_value = match given.str("by")? {
        None | Some("key") => false,
        Some("value") => true,
        Some(other) => return Err(Fault::new(format!("`dictsort` sorts by key or value, not by {other}"))),
    };
    let members: Vec<(&String, &Value)> = object(input, "dictsort")?.iter().collect();
    let sorted = sorted(budget, &members, given, |budget, left, right| {
        if by_value { value::order(budget, left.1, right.1) } else { Ok(left.0.cmp(right.0)) }
    })?;
    let pairs = sorted.into_iter().map(|(key, member)| pair(budget, key, member));
    Ok(Outcome::Value(Value::Array(pairs.collect::<Result<_, _>>()?)))
}

fn sort(budget: &mut Budget, input: &Value, given: &Given<'_>) -> Result<Outcome, Fault> {
    let path = given.str("attribute")?;
    let items = array(input, "sort")?;
    let keyed: Vec<(&Value, &Value)> = items
        .iter()
        .enumerate()
        .map(|(index, item)| Ok((attribute_of(item, path, index)?, item)))
        .collect::<Result<_, Fault>>()?;
    let sorted = sorted(budget, &keyed, given, |budget, left, right| value::order(budget, left.0, right.0))?;
    Ok(Outcome::Value(Value::Array(sorted.into_iter().map(|(_, item)| budget.copy(item)).collect::<Result<_, _>>()?)))
}

/// Sorts by an order that can fail, keeping equal ones as they stood.
fn sorted<T: Copy>(
    budget: &mut Budget,
    items: &[T],
    given: &Given<'_>,
    order: impl Fn(&mut Budget, &T, &T) -> Result<std::cmp::Ordering, Fault>,
) -> Result<Vec<T>, Fault> {
    budget.items(items.len())?;
    let reverse = given.get("reverse").is_some_and(truth);
    let mut failed = None;
    let mut sorted = items.to_vec();
    sorted.sort_by(|left, right| {
        if failed.is_some() {
            return std::cmp::Ordering::Equal;
        }
        match order(budget, left, right) {
            Ok(order) if reverse => order.reverse(),
            Ok(order) => order,
            Err(fault) => {
                failed = Some(fault);
                std::cmp::Ordering::Equal
            }
        }
    });
    failed.map_or(Ok(sorted), Err)
}

fn keys(budget: &mut Budget, input: &Value, _: &Given<'_>) -> Result<Outcome, Fault> {
    let keys = object(input, "keys")?.keys().map(|key| {
        budget.string(key.len())?;
        Ok(Value::String(key.clone()))
    });
    Ok(Outcome::Value(Value::Array(keys.collect::<Result<_, Fault>>()?)))
}

fn values(budget: &mut Budget, input: &Value, _: &Given<'_>) -> Result<Outcome, Fault> {
    let values = object(input, "values")?.values().map(|member| budget.copy(member));
    Ok(Outcome::Value(Value::Array(values.collect::<Result<_, _>>()?)))
}

fn to_list(budget: &mut Budget, input: &Value, given: &Given<'_>) -> Result<Outcome, Fault> {
    match input {
        Value::Array(_) => Ok(Outcome::Same),
        Value::Object(_) => keys(budget, input, given),
        Value::String(text) => {
            budget.items(text.len())?;
            Ok(Outcome::Value(text.chars().map(|letter| Value::String(letter.to_string())).collect()))
        }
        other => Err(Fault::new(format!("`list` cannot make a list of {}", kind(other)))),
    }
}

fn join(budget: &mut Budget, input: &Value, given: &Given<'_>) -> Result<Outcome, Fault> {
    let separator = given.str("d")?.unwrap_or_default();
    let path = given.str("attribute")?;
    let mut out = String::new();
    for (index, item) in array(input, "join")?.iter().enumerate() {
        let piece = text(budget, attribute_of(item, path, index)?)?;
        let separator = if index == 0 { "" } else { separator };
        budget.items(1)?;
        budget.spend(separator.len() as u64)?;
        budget.string_fits(out.len() + separator.len() + piece.len())?;
        out.push_str(separator);
        out.push_str(&piece);
    }
    Ok(Outcome::Value(Value::String(out)))
}

fn replace(budget: &mut Budget, input: &Value, given: &Given<'_>) -> Result<Outcome, Fault> {
    let text = str(input, "replace")?;
    let (old, new) = (given.str("old")?.unwrap_or_default(), given.str("new")?.unwrap_or_default());
    if old.is_empty() {
        return Err(Fault::new("`replace` needs something to replace"));
    }
    budget.spend(text.len() as u64)?;
    let found = text.matches(old).count();
    budget.string(text.len() - found * old.len() + found.saturating_mul(new.len()))?;
    Ok(Outcome::Value(Value::String(text.replace(old, new))))
}

fn reverse(budget: &mut Budget, input: &Value, _: &Given<'_>) -> Result<Outcome, Fault> {
    match input {
        Value::String(_) => string(budget, input, "reverse", |text| text.chars().rev().collect()),
        _ => {
            let items = array(input, "reverse")?.iter().rev().map(|item| budget.copy(item));
            Ok(Outcome::Value(Value::Array(items.collect::<Result<_, _>>()?)))
        }
    }
}

fn round(_: &mut Budget, input: &Value, given: &Given<'_>) -> Result<Outcome, Fault> {
    let precision = match given.get("precision") {
        None => 0,
        Some(precision) => precision
            .as_u64()
            .filter(|precision| *precision <= 15)
            .ok_or_else(|| Fault::new("the precision of `round` is a whole number up to 15"))?,
    };
    match number(input, "round")? {
        Num::Int(_) => Ok(Outcome::Same),
        Num::Float(float) if precision == 0 => Ok(Outcome::Value(value::float(float.round())?)),
        Num::Float(float) => {
            let factor = 10_f64.powi(i32::try_from(precision).unwrap_or(15));
            let scaled = (float * factor).round() / factor;
            Ok(Outcome::Value(value::float(if scaled.is_finite() { scaled } else { float })?))
        }
    }
}

fn split(budget: &mut Budget, input: &Value, given: &Given<'_>) -> Result<Outcome, Fault> {
    let text = str(input, "split")?;
    budget.items(text.len())?;
    let pieces: Vec<Value> = match given.str("separator")? {
        None => text.split_whitespace().map(Value::from).collect(),
        Some("") => return Err(Fault::new("`split` needs something to split at")),
        Some(separator) => text.split(separator).map(Value::from).collect(),
    };
    Ok(Outcome::Value(Value::Array(pieces)))
}

fn to_string(budget: &mut Budget, input: &Value, _: &Given<'_>) -> Result<Outcome, Fault> {
    match input {
        Value::String(_) => Ok(Outcome::Same),
        other => Ok(Outcome::Value(Value::String(value::json(budget, other)?))),
    }
}

fn sum(budget: &mut Budget, input: &Value, given: &Given<'_>) -> Result<Outcome, Fault> {
    let path = given.str("attribute")?;
    let mut total = given.get("start").cloned().unwrap_or_else(|| Value::from(0));
    number(&total, "sum")?;
    for (index, item) in array(input, "sum")?.iter().enumerate() {
        budget.items(1)?;
        let item = attribute_of(item, path, index)?;
        number(item, "sum")?;
        total = value::math(budget, MathOp::Add, &total, item)?;
    }
    Ok(Outcome::Value(total))
}

fn trim(budget: &mut Budget, input: &Value, given: &Given<'_>) -> Result<Outcome, Fault> {
    let chars = given.str("chars")?.map(str::to_owned);
    string(budget, input, "trim", |text| match &chars {
        None => text.trim().to_owned(),
        Some(chars) => text.trim_matches(|letter| chars.contains(letter)).to_owned(),
    })
}

fn unique(budget: &mut Budget, input: &Value, given: &Given<'_>) -> Result<Outcome, Fault> {
    let path = given.str("attribute")?;
    let mut seen = BTreeSet::new();
    let mut kept = Vec::new();
    for (index, item) in array(input, "unique")?.iter().enumerate() {
        if seen.insert(value::json(budget, attribute_of(item, path, index)?)?) {
            kept.push(budget.copy(item)?);
        }
    }
    Ok(Outcome::Value(Value::Array(kept)))
}

fn map(budget: &mut Budget, input: &Value, given: &Given<'_>) -> Result<Outcome, Fault> {
    let items = array(input, "map")?;
    let mut out = Vec::new();
    if let Some(path) = given.str("attribute")? {
        for (index, item) in items.iter().enumerate() {
            let found = match (attribute(item, path), given.get("default")) {
                (Some(found), _) | (None, Some(found)) => found,
                (None, None) => return Err(no_attribute(path, index)),
            };
            out.push(budget.copy(found)?);
        }
        return Ok(Outcome::Value(Value::Array(out)));
    }
    let name = given.rest.first().and_then(|name| name.as_str()).unwrap_or_default();
    let filter = FILTERS
        .iter()
        .find(|filter| filter.name == name)
        .ok_or_else(|| Fault::new(format!("there is no filter `{name}`")))?;
    // Filters that take filters could call each other without end.
    if filter.rest {
        return Err(Fault::new(format!("`map` cannot apply `{name}`")));
    }
    let mut values: Vec<Option<&Value>> = given.rest.iter().skip(1).map(|value| Some(*value)).collect();
    if values.len() > filter.params.len() || values.len() < filter.least {
        return Err(Fault::new(format!("`{name}` is given {} arguments", values.len())));
    }
    values.resize(filter.params.len(), None);
    let inner = Given { params: filter.params, values, rest: Vec::new() };
    for (index, item) in items.iter().enumerate() {
        budget.items(1)?;
        out.push(match (filter.apply)(budget, item, &inner)? {
            Outcome::Value(value) => value,
            Outcome::Same => budget.copy(item)?,
            Outcome::Missing(message) => return Err(Fault::new(format!("item {index}: {message}"))),
        });
    }
    Ok(Outcome::Value(Value::Array(out)))
}

/// Keeps the items for which a test, or without one the item itself, holds (`wanted`) or does not.
fn pick(
    budget: &mut Budget,
    input: &Value,
    given: &Given<'_>,
    by_attribute: bool,
    wanted: bool,
) -> Result<Outcome, Fault> {
    let name = if wanted { "select" } else { "reject" };
    let mut args = given.rest.iter().copied();
    let path = if by_attribute { args.next().map(|path| str(path, "attribute")).transpose()? } else { None };
    let test = args.next().map(|test| str(test, "test")).transpose()?;
    let argument = args.next();
    let mut kept = Vec::new();
    for (index, item) in array(input, name)?.iter().enumerate() {
        budget.items(1)?;
        let subject = path.map_or(Some(item), |path| attribute(item, path));
        let holds = match (test, subject) {
            (Some("defined"), subject) => subject.is_some(),
            (Some("undefined"), subject) => subject.is_none(),
            (_, None) => return Err(no_attribute(path.unwrap_or_default(), index)),
            (None, Some(subject)) => truth(subject),
            (Some(test), Some(subject)) => {
                let found = TESTS
                    .iter()
                    .find(|known| known.names.contains(&test))
                    .ok_or_else(|| Fault::new(format!("there is no test `{test}`")))?;
                if (found.takes == 0) != argument.is_none() {
                    return Err(Fault::new(format!("the test `{test}` takes {} argument(s)", found.takes)));
                }
                (found.apply)(budget, subject, argument)?
            }
        };
        if holds == wanted {
            kept.push(budget.copy(item)?);
        }
    }
    Ok(Outcome::Value(Value::Array(kept)))
}

fn relate(budget: &mut Budget, op: CompareOp, left: &Value, right: Option<&Value>) -> Result<bool, Fault> {
    value::compare(budget, op, left, right.unwrap_or(&Value::Null))
}

fn divides(input: &Value, by: &Value) -> Result<bool, Fault> {
    match (number(input, "divisibleby")?, number(by, "divisibleby")?) {
        (Num::Int(_), Num::Int(0)) => Err(Fault::new("division by zero")),
        (Num::Int(input), Num::Int(by)) => Ok(input % by == 0),
        _ => Err(Fault::new("only an integer is odd, even or divisible")),
    }
}

fn affix(input: &Value, affix: Option<&Value>, test: fn(&str, &str) -> bool) -> Result<bool, Fault> {
    Ok(test(str(input, "this test")?, str(affix.unwrap_or(&Value::Null), "this test")?))
}
