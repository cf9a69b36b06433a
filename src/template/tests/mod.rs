//! The rules of templates, one table each.

mod safety;

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Expression, Reference, Scope, Shape, StepScope, Template, TemplateError};
use crate::limits::Limits;

/// An order in the middle of its run.
fn scope() -> Scope {
    let mut scope = Scope::default();
    let input = json!({
        "orderId": "ORD-0017", "note": "{{ 7*7 }}{% set x = 1 %}", "none": null, "empty": [], "flag": true,
        "big": 9_007_199_254_740_993_i64, "huge": u64::MAX, "least": i64::MIN, "price": 0.1, "zero": "007",
        "items": [
            { "id": "A", "quantity": 2, "price": 2999 },
            { "id": "B", "quantity": 1, "price": 4999, "gift": true },
        ],
        "address": { "city": "Bonn", "items": "a key called items" },
    });
    scope.vars.insert("input".into(), Arc::new(input));
    scope.vars.insert("config".into(), Arc::new(json!({ "payment": { "attempts": 3, "timeout": "30s" } })));
    let step = |status, output: Option<Value>, error: Option<Value>| StepScope {
        status,
        via: output.is_some().then(|| "primary".into()),
        output: output.map(Arc::new),
        error: error.map(Arc::new),
    };
    scope.steps.insert("reserve".into(), step("succeeded", Some(json!({ "total": 10997, "short": [] })), None));
    scope.steps.insert("alternatives".into(), step("skipped", None, None));
    scope.steps.insert("notify".into(), step("failed", None, Some(json!({ "code": "mail.down" }))));
    scope.steps.insert("charge".into(), step("unknown", None, Some(json!({ "code": "timeout" }))));
    scope.secrets.insert("API_KEY".into(), "\u{1}secret:API_KEY\u{1}".into());
    scope
}

fn eval(source: &str) -> Result<Value, TemplateError> {
    Expression::parse(source)?.eval(&scope(), &Limits::default())
}

fn value(source: &str) -> Value {
    eval(source).unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn wrong(source: &str) -> TemplateError {
    match eval(source) {
        Ok(value) => panic!("{source} should be an error and is {value}"),
        Err(error) => error,
    }
}

fn render(source: &str) -> Result<Value, TemplateError> {
    let (template, mut errors) = Template::parse(&json!(source));
    if let Some((_, error)) = errors.pop() {
        return Err(error);
    }
    template.render(&scope(), &Limits::default())
}

fn rendered(source: &str) -> Value {
    render(source).unwrap_or_else(|error| panic!("{source}: {error}"))
}

/// What an error points at.
fn at<'s>(source: &'s str, error: &TemplateError) -> &'s str {
    &source[error.range.clone().unwrap_or_else(|| panic!("{source}: no range in {error:?}"))]
}

#[test]
fn whole_expressions_keep_their_type_and_text_makes_a_string() {
    for (source, expected) in [
        (
            "{{ input.items }}",
            json!([
                { "id": "A", "quantity": 2, "price": 2999 },
                { "id": "B", "quantity": 1, "price": 4999, "gift": true },
            ]),
        ),
        ("{{ steps.reserve.output.total }}", json!(10997)),
        ("{{ steps['reserve'].output['total'] }}", json!(10997)),
        ("{{input.flag}}", json!(true)),
        ("{{ none }}", json!(null)),
        ("{{ input.none }}", json!(null)),
        ("{{ '}}' }}", json!("}}")),
        ("{{ steps.reserve.output.total }}\n", json!(10997)),
        (" {{ steps.reserve.output.total }}", json!(" 10997")),
        ("{{ input.flag }}{{ input.orderId }}", json!("trueORD-0017")),
        ("order {{ input.orderId }}\n", json!("order ORD-0017\n")),
        ("{{ input.items | map(attribute='id') }}!", json!("[\"A\",\"B\"]!")),
        ("{{ input.address }}.", json!("{\"city\":\"Bonn\",\"items\":\"a key called items\"}.")),
        ("{{ 2.0 }} {{ 1 }} {{ false }}", json!("2.0 1 false")),
        ("no template", json!("no template")),
        ("{# not a template", json!("{# not a template")),
        ("a{# a comment #}b", json!("ab")),
        ("{% raw %}{{ x }}{% endraw %}", json!("{{ x }}")),
        ("{% if input.flag %}yes{% else %}no{% endif %}", json!("yes")),
        (
            "{% for i in input.items %}{{ loop.index }}:{{ i.id }}{% if not loop.last %},{% endif %}{% endfor %}",
            json!("1:A,2:B"),
        ),
        (
            "{% for k, v in input.address | items %}{{ k }}={{ v }};{% endfor %}",
            json!("city=Bonn;items=a key called items;"),
        ),
        ("{% for i in input.empty %}x{% else %}none{% endfor %}", json!("none")),
        ("{% for i in input.items if i.quantity > 1 %}{{ i.id }}{% endfor %}", json!("A")),
        ("{% set a = 2 %}{% with b = a + 1 %}{{ a * b }}{% endwith %}", json!("6")),
        ("{% set a %}x{{ 1 }}{% endset %}{{ a ~ a }}", json!("x1x1")),
    ] {
        assert_eq!(rendered(source), expected, "{source}");
    }
}

#[test]
fn null_inside_of_text_is_an_error_that_says_what_to_do() {
    for source in ["a {{ input.none }}", "{{ none }}{{ 1 }}"] {
        let error = render(source).expect_err(source);
        assert_eq!(error.message, "null cannot stand inside of text");
        assert!(error.help.as_deref().is_some_and(|help| help.contains("default('', true)")), "{error:?}");
    }
    assert_eq!(rendered("a {{ input.none | default('-', true) }}"), json!("a -"));
}

#[test]
fn a_missing_path_is_an_error_however_it_is_used() {
    for path in [
        "input.missing",
        "input.none.x",
        "input.items[9]",
        "input.items[-3].id",
        "input.items.id",
        "input.orderId.x",
        "steps.alternatives.output",
        "steps.alternatives.output.items",
        "steps.notify.output",
        "steps.reserve.error",
        "steps.nosuch.output",
        "missing",
        "missing.deeper",
        "input['missing']",
        "input.empty | first",
    ] {
        for used in [
            "{}",
            "({}) == 1",
            "({}) != 1",
            "1 == ({})",
            "({}) < 3",
            "({}) in [1]",
            "1 in ({})",
            "not ({})",
            "({}) and true",
            "({}) or true",
            "({}) ~ 'x'",
            "({}) + 1",
            "-({})",
            "({}) | length",
            "({}) | string",
            "[({})]",
            "{'a': ({})}",
            "({}) is none",
            "1 if ({}) else 2",
            "({}) | tojson",
            "({}) is string",
            "[1] | join({})",
            "range({})",
        ] {
            let source = used.replace("({})", &format!("({path})")).replace("{}", path);
            assert!(!wrong(&source).limit, "{source}");
        }
        for used in ["x{{ {} }}", "{% if {} %}{% endif %}", "{% for i in {} %}{% endfor %}", "{% set a = {} %}"] {
            let source = used.replacen("{}", path, 1);
            assert!(render(&source).is_err(), "{source}");
        }
        assert_eq!(value(&format!("({path}) is defined")), json!(false), "{path}");
        assert_eq!(value(&format!("({path}) is not defined")), json!(true), "{path}");
        assert_eq!(value(&format!("({path}) is undefined")), json!(true), "{path}");
        assert_eq!(value(&format!("({path}) is not undefined")), json!(false), "{path}");
        assert_eq!(value(&format!("({path}) | default(7)")), json!(7), "{path}");
        assert_eq!(value(&format!("({path}) | default(none)")), json!(null), "{path}");
    }
}

#[test]
fn only_what_is_reached_has_to_be_there() {
    for (source, expected) in [
        ("1 if input.flag else input.missing", json!(1)),
        ("false and input.missing", json!(false)),
        ("true or input.missing", json!(true)),
        ("input.missing is defined and input.missing.x > 1", json!(false)),
        ("input.orderId | default(steps.alternatives.output.x)", json!("ORD-0017")),
        ("input.orderId | default(steps.alternatives.output.n + 1)", json!("ORD-0017")),
        ("steps.alternatives.output.a | default(input.missing) | default('last')", json!("last")),
        ("steps.alternatives.output.items | default([])", json!([])),
        ("input.none | default(1)", json!(null)),
        ("input.none | default(1, true)", json!(1)),
        ("input.none is defined", json!(true)),
        ("(steps.alternatives.output if false else steps.notify.output) | default(3)", json!(3)),
    ] {
        assert_eq!(value(source), expected, "{source}");
    }
    let error = wrong("steps.alternatives.output.a | default(input.missing)");
    assert_eq!(error.message, "`input.missing` is missing");
}

#[test]
fn an_error_names_the_path_and_why_it_is_missing() {
    for (source, message, place, help) in [
        (
            "steps.alternatives.output.items",
            "`steps.alternatives.output` is missing because step `alternatives` was skipped",
            "output",
            "default(none)",
        ),
        (
            "steps.notify.output",
            "`steps.notify.output` is missing because step `notify` failed",
            "output",
            "default(none)",
        ),
        (
            "steps.charge.output.id",
            "`steps.charge.output` is missing because the outcome of step `charge` is unknown",
            "output",
            "default",
        ),
        (
            "steps.reserve.error.code",
            "`steps.reserve.error` is missing because step `reserve` did not fail",
            "error",
            "default",
        ),
        (
            "steps.reserv.output",
            "`steps.reserv` is missing: there is no step `reserv` here",
            "reserv",
            "Did you mean `reserve`?",
        ),
        ("steps.reserve.output.totl", "`steps.reserve.output.totl` is missing", "totl", "Did you mean `total`?"),
        ("1 + input.orderID", "`input.orderID` is missing", "orderID", "Did you mean `orderId`?"),
        ("Input.orderId", "`Input` is not defined here", "Input", "Did you mean `input`?"),
        ("inptu.orderId", "`inptu` is not defined here", "inptu", "Did you mean `input`?"),
        ("reserve.output", "`reserve` is not defined here", "reserve", "Did you mean `steps.reserve`?"),
        ("input.none.x", "`input.none.x` is missing because `input.none` is null", "x", "default"),
        ("input.items.id", "`input.items.id` is missing because `input.items` is a list", "id", "input.items[0]"),
        ("input.items[2].id", "`input.items[2]` is missing because `input.items` has 2 items", "2", "default"),
        ("input.items[0].nam", "`input.items[0].nam` is missing", "nam", "default"),
        ("secrets.API_KEI", "there is no secret `API_KEI`", "API_KEI", "Did you mean `API_KEY`?"),
        ("steps", "`steps` cannot be used as a whole", "steps", "steps.NAME"),
        ("secrets", "`secrets` cannot be used as a whole", "secrets", "secrets.NAME"),
    ] {
        let error = wrong(source);
        assert_eq!(error.message, message, "{source}");
        assert_eq!(at(source, &error), place, "{source}");
        assert!(error.help.as_deref().is_some_and(|text| text.contains(help)), "{source}: {error:?}");
    }
}

#[test]
fn f06_numbers_stay_exact() {
    for (source, expected) in [
        ("input.big", json!(9_007_199_254_740_993_i64)),
        ("input.big + 0", json!(9_007_199_254_740_993_i64)),
        ("input.big * 2 // 2", json!(9_007_199_254_740_993_i64)),
        ("input.huge", json!(u64::MAX)),
        ("input.huge - 1", json!(u64::MAX - 1)),
        ("input.least", json!(i64::MIN)),
        ("9007199254740993 == 9007199254740992.0", json!(false)),
        ("input.huge > 18446744073709551614", json!(true)),
        ("123456789012345678", json!(123_456_789_012_345_678_i64)),
        ("input.zero", json!("007")),
        ("input.zero ~ ''", json!("007")),
        ("input.zero | int", json!(7)),
        ("input.price", json!(0.1)),
        ("0.1 + 0.2", json!(0.1 + 0.2)),
        ("4 / 2", json!(2.0)),
        ("7 / 2", json!(3.5)),
        ("7 // 2", json!(3)),
        ("-7 // 2", json!(-4)),
        ("-7 % 3", json!(2)),
        ("7.5 // 2", json!(3.0)),
        ("2 ** 10", json!(1024)),
        ("1 == 1.0", json!(true)),
        ("-0", json!(0)),
        ("-(3)", json!(-3)),
        ("-input.huge + input.huge", json!(0)),
        ("[1, 2, 3] | sum", json!(6)),
        ("input.items | sum(attribute='price')", json!(7998)),
        ("29.995 | round(2)", json!(30.0)),
        ("2.5 | int", json!(2)),
    ] {
        match source {
            "-input.huge + input.huge" => assert!(eval(source).is_err(), "an intermediate result has to fit as well"),
            _ => assert_eq!(value(source), expected, "{source}"),
        }
    }
    for (source, message) in [
        ("9223372036854775807 * 3", "the result does not fit a 64-bit integer"),
        ("input.huge + 1", "the result does not fit a 64-bit integer"),
        ("input.least - 1", "the result does not fit a 64-bit integer"),
        ("-input.least - 1 + input.least * 3", "the result does not fit a 64-bit integer"),
        ("2 ** 64", "the result does not fit a 64-bit integer"),
        ("2 ** 100000000000", "the result does not fit a 64-bit integer"),
        ("1e308 * 10", "the result is not a finite number"),
        ("1 / 0", "division by zero"),
        ("1 // 0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("1.0 / 0", "division by zero"),
        ("(-1) ** 0.5", "the result is not a finite number"),
        ("99999999999999999999", "this number does not fit 64 bits"),
        ("1e999", "this number is too large"),
        ("'1' + 1", "`+` cannot add a string and a number"),
        ("'5' * '2'", "`*` cannot multiply a string and a string"),
        ("'a' < 1", "a string and a number have no order"),
        ("none < 1", "null and a number have no order"),
        ("'x' | int", "the text is not a number"),
    ] {
        assert_eq!(wrong(source).message, message, "{source}");
    }
    assert_eq!(
        rendered("{{ 0.1 }} {{ input.big }} {{ 100000000000000000000.0 }}"),
        json!("0.1 9007199254740993 1e+20")
    );
}

#[test]
fn filters_tests_and_operators_give_what_jinja_gives() {
    for (source, expected) in [
        ("'a' ~ 1 ~ true ~ [1, none]", json!("a1true[1,null]")),
        ("[1, 2] + [3]", json!([1, 2, 3])),
        ("'ab' * 3", json!("ababab")),
        ("'b' in 'abc' and 2 in [1, 2] and 'id' in input.items[0]", json!(true)),
        ("3 not in [1, 2]", json!(true)),
        ("1 < 2 < 3", json!(true)),
        ("1 < 3 < 2", json!(false)),
        ("{'a': [1], 'b': 2} == {'b': 2, 'a': [1.0]}", json!(true)),
        ("input.items | length", json!(2)),
        ("'äö' | length", json!(2)),
        ("input.items | first", json!({ "id": "A", "quantity": 2, "price": 2999 })),
        ("(input.items | last).id", json!("B")),
        ("input.items[-1].id", json!("B")),
        ("[1, 2, 3, 4][1:3]", json!([2, 3])),
        ("'abcdef'[::2]", json!("ace")),
        ("'abc'[-2:]", json!("bc")),
        ("[3, 1, 2] | sort", json!([1, 2, 3])),
        ("[3, 1, 2] | sort(reverse=true)", json!([3, 2, 1])),
        ("(input.items | sort(attribute='quantity') | first).id", json!("B")),
        ("input.items | map(attribute='id') | join(', ')", json!("A, B")),
        ("input.items | map(attribute='gift', default=false) | list", json!([false, true])),
        ("['a', 'b'] | map('upper') | list", json!(["A", "B"])),
        ("['a-b'] | map('replace', '-', '+')", json!(["a+b"])),
        ("[0, 1, ''] | select", json!([1])),
        ("[1, 2, 3] | select('odd')", json!([1, 3])),
        ("[1, 2, 3] | reject('gt', 1)", json!([1])),
        ("input.items | selectattr('gift', 'defined') | map(attribute='id')", json!(["B"])),
        ("input.items | rejectattr('gift', 'defined') | map(attribute='id')", json!(["A"])),
        ("input.items | selectattr('id', 'equalto', 'A') | length", json!(1)),
        ("input.items | max(attribute='price') == input.items[1]", json!(true)),
        ("[3, 1] | min", json!(1)),
        ("[1, 1.0, 'a', 'a'] | unique", json!([1, 1.0, "a"])),
        ("{'b': 1, 'a': 2} | dictsort", json!([["a", 2], ["b", 1]])),
        ("{'b': 1} | items", json!([["b", 1]])),
        ("{'b': 1, 'a': 2} | list", json!(["b", "a"])),
        ("{'b': 1} | values", json!([1])),
        ("'a,b' | split(',')", json!(["a", "b"])),
        ("' x ' | trim | upper", json!("X")),
        ("'HELLO world' | capitalize", json!("Hello world")),
        ("'hello world' | title", json!("Hello World")),
        ("'abc' | reverse", json!("cba")),
        ("-3 | abs", json!(3)),
        ("'1.5' | float", json!(1.5)),
        ("'x' | int(0)", json!(0)),
        ("2.567 | round(1)", json!(2.6)),
        ("true | string", json!("true")),
        ("[1, {'a': none}] | tojson", json!("[1,{\"a\":null}]")),
        ("'' | bool", json!(false)),
        ("range(3)", json!([0, 1, 2])),
        ("range(5, 0, -2)", json!([5, 3, 1])),
        ("1 is integer and 1.5 is float and 'a' is string and none is none and [] is sequence", json!(true)),
        ("input.orderId is startingwith('ORD') and not input.orderId is endingwith('x')", json!(true)),
        ("input.orderId is startingwith 'ORD'", json!(true)),
        ("4 is divisibleby(2)", json!(true)),
        ("steps.reserve.status == 'succeeded' and steps.reserve.via == 'primary'", json!(true)),
        ("steps.notify.error.code", json!("mail.down")),
        ("steps.alternatives.status", json!("skipped")),
        ("steps.notify", json!({ "status": "failed", "error": { "code": "mail.down" } })),
        ("input.address.items", json!("a key called items")),
        ("input[('order' ~ 'Id')]", json!("ORD-0017")),
        ("{{ input.orderId }}", json!("ORD-0017")),
        ("  {{ input.orderId }}  ", json!("ORD-0017")),
    ] {
        assert_eq!(value(source), expected, "{source}");
    }
}

#[test]
fn conditions_hold_like_in_jinja() {
    for (source, expected) in [
        ("true", true),
        ("0", false),
        ("0.0", false),
        ("''", false),
        ("'0'", true),
        ("[]", false),
        ("[0]", true),
        ("none", false),
        ("{}", false),
        ("input.none", false),
        ("steps.reserve.output.short", false),
        ("steps.reserve.output.total > 0", true),
        ("{{ input.flag }}", true),
        ("not input.flag", false),
    ] {
        let expression = Expression::parse(source).expect(source);
        assert_eq!(expression.holds(&scope(), &Limits::default()), Ok(expected), "{source}");
    }
    assert!(Expression::parse("input.x").expect("valid").holds(&scope(), &Limits::default()).is_err());
}

#[test]
fn a_syntax_error_points_at_its_place() {
    for (source, place, message, help) in [
        ("input.a && input.b", "&&", "`&&` is not an operator here", "Write `and`."),
        ("input.a || input.b", "||", "`||` is not an operator here", "Write `or`."),
        ("!input.a", "!", "`!` is not an operator here", "Write `not`."),
        ("input.a = 1", "=", "`=` does not compare", "Write `==`."),
        ("input.a # 1", "#", "`#` has no meaning here", ""),
        ("input.a ? 1 : 2", "?", "`?` is not an operator here", "a if condition else b"),
        ("input.a === 1", "===", "`===` is not an operator here", "Write `==`."),
        ("input.a == null", "null", "there is no `null`", "Write `none`."),
        ("1 if input.a", "1 if input.a", "this `if` has no `else`", "else none"),
        ("(1 + 2", "(", "`(` is never closed", ""),
        ("[1, 2", "[", "`[` is never closed", ""),
        ("input.a +", "+", "the expression ends too early", ""),
        ("input.a input.b", "input", "template syntax: unexpected input after expression", ""),
        (
            "steps.x.outputs.y",
            "outputs",
            "a step has no `outputs`, only `status`, `output`, `error` and `via`",
            "Did you mean `output`?",
        ),
        (
            "steps.x.total",
            "total",
            "a step has no `total`, only `status`, `output`, `error` and `via`",
            "steps.x.output.total",
        ),
        ("input.a | lenght", "lenght", "there is no filter `lenght`", "Did you mean `length`?"),
        ("input.a | map('uper')", "uper", "there is no filter `uper`", "Did you mean `upper`?"),
        ("input.a | select('od')", "od", "there is no test `od`", "Did you mean `odd`?"),
        ("input.a is strin", "strin", "there is no test `strin`", "Did you mean `string`?"),
        ("input.a is null", "null", "there is no test `null`", "is none"),
        ("lenght(input.a)", "lenght", "there is no function `lenght`", "only function is `range`"),
        ("length(input.a)", "length", "there is no function `length`", "value | length"),
        ("input.a.upper()", "upper", "values have no method `upper`", "value | upper"),
        ("input.a | upper(1)", "1", "`upper` takes no argument", ""),
        ("input.a | replace('x')", "replace", "`replace` needs 2 arguments", ""),
        ("input.a | round(digits=1)", "1", "`round` has no argument `digits`", ""),
        ("input.a | default", "default", "`default` needs the value to take instead", "default(none)"),
        ("a {{ b", "{{", "`{{` is never closed", "}}"),
        ("{% if input.a %}x", "if", "`{% if %}` has no `{% endif %}`", ""),
        ("{% if input.a", "{%", "`{%` is never closed", "%}"),
        ("{% macro x() %}{% endmacro %}", "macro", "template syntax: unknown statement macro", ""),
        ("a {{ input.a && 1 }}", "&&", "`&&` is not an operator here", "Write `and`."),
        ("x {{ 'abc }}", "'", "the quote ' is never closed", ""),
        ("x {{ input.größe }}", "ö", "`ö` has no meaning here", "input['name']"),
        ("a && {{ input.a ~ ' || ' | uppr }}", "uppr", "there is no filter `uppr`", "Did you mean `upper`?"),
    ] {
        let error = if source.contains("{{") || source.contains("{%") {
            let (_, errors) = Template::parse(&json!(source));
            errors.into_iter().next().unwrap_or_else(|| panic!("{source} should be an error")).1
        } else {
            Expression::parse(source).expect_err(source)
        };
        assert_eq!(error.message, message, "{source}");
        assert_eq!(at(source, &error), place, "{source}: {error:?}");
        assert!(error.help.clone().unwrap_or_default().contains(help), "{source}: {error:?}");
    }
    for source in ["", "  ", "{{ }}", "{{ a }}{{ b }}", "x {{ a }}", "{% if a %}{% endif %}"] {
        assert!(Expression::parse(source).is_err(), "{source}");
    }
}

fn shown(source: &str, references: &[Reference]) -> Vec<String> {
    references
        .iter()
        .map(|reference| {
            for (name, range) in reference.path.iter().zip(&reference.ranges) {
                assert_eq!(&source[range.clone()], name, "{source}: the range of each name");
            }
            assert_eq!(reference.path.len(), reference.ranges.len());
            let mark = if reference.guarded { "?" } else { "" };
            let plain = if reference.plain { "!" } else { "" };
            format!("{}{mark}{plain}", reference.path.join("."))
        })
        .collect()
}

#[test]
fn references_carry_paths_places_and_guards() {
    for (source, expected) in [
        ("{{ steps.reserve.output.total }}", vec!["steps.reserve.output.total!"]),
        ("{{ steps['reserve'].output[\"total\"] }}", vec!["steps.reserve.output.total!"]),
        ("{{ input.items[0].price }}", vec!["input.items"]),
        ("{{ input.items[input.index].price }}", vec!["input.items", "input.index"]),
        ("{{ input.a | default(config.b) }}", vec!["input.a?", "config.b"]),
        ("{{ input.a[0].b | default(1) }}", vec!["input.a?"]),
        ("{{ input.a is defined and input.a.b is not undefined }}", vec!["input.a?", "input.a.b?"]),
        ("{{ (input.a ~ 'x') | default(1) }}", vec!["input.a"]),
        ("{{ 'partial' if steps.r.output.short | length > 0 else input.b }}", vec!["steps.r.output.short", "input.b"]),
        ("é {{ input['ä'] }} {{ secrets.KEY }}", vec!["input.ä!", "secrets.KEY!"]),
        ("Bearer {{ secrets.KEY | upper }}", vec!["secrets.KEY"]),
        ("{{ secrets.A if input.x else secrets.B }}", vec!["secrets.A", "input.x", "secrets.B"]),
        (
            "{% for line in input.lines if line.n %}{{ line.id }}{{ loop.index }}{{ input.x }}{% else %}{{ line.y }}{% endfor %}{{ line.z }}",
            vec!["input.lines", "input.x!", "line.y!", "line.z!"],
        ),
        ("{% set a = input.a %}{{ a.b }}{{ b }}", vec!["input.a", "b!"]),
        ("{% if input.a %}{% set x = 1 %}{% endif %}{{ x }}", vec!["input.a", "x!"]),
        ("{% with x = input.a %}{{ x }}{% endwith %}{{ x }}", vec!["input.a", "x!"]),
        ("{% set b %}{{ input.a }}{% endset %}{{ b }}", vec!["input.a!"]),
        ("{{ {input.k: [input.v]} | tojson }}.", vec!["input.k", "input.v"]),
        (
            "{{ range(input.n)[input.m:] | join(input.s) }} {{ -input.x }}",
            vec!["input.n", "input.m", "input.s", "input.x"],
        ),
    ] {
        let (template, errors) = Template::parse(&json!(source));
        assert_eq!(errors, [], "{source}");
        let references: Vec<Reference> = template.references().into_iter().map(|(_, reference)| reference).collect();
        assert_eq!(shown(source, &references), expected, "{source}");
    }
    let bare = Expression::parse("steps.charge.via == 'queue'").expect("valid");
    assert_eq!(shown(bare.source(), bare.references()), ["steps.charge.via"]);
    let spaced = Expression::parse("  {{ steps.charge.via }}").expect("valid");
    assert_eq!(shown(spaced.source(), spaced.references()), ["steps.charge.via!"]);
}

#[test]
fn templates_know_the_place_of_every_string() {
    let with = json!({ "a/b": ["x", "{{ input.orderId }}", { "c": "n {{ 1 / 2 }}" }], "d": 1, "e": { "f": "plain" } });
    let (template, errors) = Template::parse(&with);
    assert_eq!(errors, []);
    let references = template.references();
    assert_eq!(references.len(), 1);
    assert_eq!(references[0].0, "/a~1b/1");
    assert_eq!(template.uses_division(), [("/a~1b/2/c".to_owned(), 7..8)]);
    assert_eq!(template.literal_at("/e/f"), Some(&json!("plain")));
    assert_eq!(template.literal_at("/e"), Some(&json!({ "f": "plain" })));
    assert_eq!(template.literal_at("/a~1b/0"), Some(&json!("x")));
    assert_eq!(template.literal_at("/a~1b/1"), None);
    assert!(matches!(template.shape_at("/a~1b/1"), Some(Shape::Expression(_))));
    assert!(matches!(template.shape_at("/a~1b/2/c"), Some(Shape::Text(_))));
    assert_eq!(
        template.render(&scope(), &Limits::default()),
        Ok(json!({ "a/b": ["x", "ORD-0017", { "c": "n 0.5" }], "d": 1, "e": { "f": "plain" } }))
    );

    let (_, errors) = Template::parse(&json!({ "a": ["{{ 1 + }}"], "{{ k }}": 1, "b": "{{ x" }));
    let places: Vec<&str> = errors.iter().map(|(pointer, _)| pointer.as_str()).collect();
    assert_eq!(places, ["/a/0", "/{{ k }}", "/b"], "every string is looked at");
}

#[test]
fn division_and_literals_are_known_before_running() {
    for (source, expected) in [("1 // 2", ""), ("input.a / 2 // 3", "/"), ("(input.a) / (2)", "/"), ("'a/b'", "")] {
        let expression = Expression::parse(source).expect(source);
        let found: String = expression.uses_division().into_iter().map(|range| &source[range]).collect();
        assert_eq!(found, expected, "{source}");
    }
    for (source, expected) in
        [("[1, -2]", Some(json!([1, -2]))), ("'a' ~ 1", Some(json!("a1"))), ("input.a", None), ("1 // 0", None)]
    {
        assert_eq!(Expression::parse(source).expect(source).literal(), expected, "{source}");
    }
}

#[test]
fn g05_secrets_become_their_placeholder_and_nothing_else() {
    assert_eq!(rendered("{{ secrets.API_KEY }}"), json!("\u{1}secret:API_KEY\u{1}"));
    assert_eq!(rendered("Bearer {{ secrets.API_KEY }}"), json!("Bearer \u{1}secret:API_KEY\u{1}"));
    assert!(render("{{ secrets }}").is_err());
    assert!(render("{% for s in secrets %}{{ s }}{% endfor %}").is_err());
    assert!(render("{{ secrets | tojson }}").is_err());
}

#[test]
fn the_guide_names_every_filter_and_test() {
    let guide = include_str!("../../../docs/templates.md");
    for name in super::filters::names() {
        assert!(guide.contains(&format!("`{name}`")) || guide.contains(&format!("`{name}(")), "{name}");
    }
}
