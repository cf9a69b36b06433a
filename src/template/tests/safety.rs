//! What templates must never do (RELIABILITY group G): evaluate data, run on, eat memory, reach outside.

use super::*;

#[test]
fn g01_rendered_text_is_never_a_template() {
    for source in ["{{ input.note }}", "x{{ input.note }}", "{{ input.note ~ '' }}", "{{ [input.note] | join }}"] {
        let text = rendered(source);
        assert!(text.as_str().is_some_and(|text| text.ends_with("{{ 7*7 }}{% set x = 1 %}")), "{source}: {text}");
    }
    assert_eq!(rendered("{{ '{' ~ '{ 7*7 }' ~ '}' }}"), json!("{{ 7*7 }}"));
}

/// Renders something that would not end, and returns the error.
fn limited(source: &str) -> TemplateError {
    let error = render(source).expect_err(source);
    // How long it may take follows from the limit: each unit of fuel is a bounded piece of work.
    assert!(error.limit, "{source}: {error}");
    error
}

#[test]
fn g02_loops_end() {
    for source in [
        "{{ range(10**9) }}",
        "{{ range(10**18) | length }}",
        "{% for i in range(10**7) %}{% endfor %}",
        "{% for i in range(10000) %}{% for j in range(10000) %}{% for k in range(10000) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for i in range(1000) %}{% for j in input.items %}{% for k in range(1000) %}{{ k }}{% endfor %}{% endfor %}{% endfor %}",
        "{{ range(9000) | sort | sort | sort | sort | sort | sort | sort | sort | sort | sort | sort | sort | sort | sort }}",
    ] {
        limited(source);
    }
}

#[test]
fn g03_memory_is_bounded() {
    let doubling = format!("{{% set a = 'xxxxxxxx' %}}{}{{{{ a }}}}", "{% set a = a ~ a %}".repeat(60));
    let lists = format!("{{% set a = [1] %}}{}{{{{ a == 1 }}}}", "{% set a = [a, a] %}".repeat(60));
    let sums = format!("{{% set a = [1, 2, 3, 4] %}}{}{{{{ a == 1 }}}}", "{% set a = a + a %}".repeat(60));
    let captures = format!("{{% set a = 'xxxxxxxx' %}}{}", "{% set a %}{{ a }}{{ a }}{% endset %}".repeat(60));
    let compare =
        format!("{{% set a = [[1], [1]] %}}{}", "{% set a = {'x': a, 'y': a} %}{% set b = a == a %}".repeat(40));
    let deep = format!("{{% set a = 1 %}}{}", "{% set a = [a] %}".repeat(500));
    for source in [
        "{{ 'x' * 10**9 }}",
        "{{ 10**9 * 'x' }}",
        "{{ 'x' * 10**18 }}",
        "{{ range(10000) | join('xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' * 10) }}",
        "{{ ('x' * 1000000) | replace('x', 'y' * 1000000) }}",
        "{% for i in range(2000) %}{{ 'x' * 1000 }}{% endfor %}",
        "{{ [input.items] * 3 if false else ('ab' * 400000) | list | tojson | tojson | tojson }}",
        &doubling,
        &lists,
        &sums,
        &captures,
        &compare,
        &deep,
    ] {
        limited(source);
    }
    assert!(render("{{ 'x' | indent(10**12) }}").is_err());
    assert!(render("{{ {} | tojson(indent=10**12) }}").is_err());
    assert!(render("{{ 'x' | center(10**12) }}").is_err());
    assert_eq!(rendered("{{ ('x' * 1000) | length }}"), json!(1000), "a little is fine");
}

#[test]
fn g03_what_is_rendered_is_bounded_over_the_whole_value() {
    let limits = Limits { rendered_bytes: 1000, payload_bytes: 1000, ..Limits::default() };
    let many: Vec<Value> = (0..100).map(|_| json!("{{ input.items }}")).collect();
    let (template, _) = Template::parse(&Value::Array(many));
    let error = template.render(&scope(), &limits).expect_err("ten kilobytes");
    assert!(error.limit, "{error}");
    assert!(error.help.is_some_and(|help| help.contains("rendered_bytes")));
    let (template, _) = Template::parse(&json!("text {{ 'x' * 990 }}"));
    assert!(template.render(&scope(), &limits).is_ok());
    let (template, _) = Template::parse(&json!("text {{ 'x' * 996 }}"));
    assert!(template.render(&scope(), &limits).is_err_and(|error| error.limit));
}

#[test]
fn g03_nesting_is_refused_before_it_recurses() {
    let whole = |inner: String| format!("{{{{ {inner} }}}}");
    for source in [
        whole(format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000))),
        whole(format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000))),
        whole(format!("{}1{}", "{'a':".repeat(10_000), "}".repeat(10_000))),
        whole(format!("{}true", "not ".repeat(10_000))),
        whole(format!("{}1", "- ".repeat(10_000))),
        whole(format!("1{}", " + 1".repeat(10_000))),
        whole(format!("1{}", " + 1".repeat(200))),
        whole(format!("input{}", ".a".repeat(10_000))),
        whole(format!("input{}", ".a".repeat(200))),
        whole(format!("input{}", "[0]".repeat(500))),
        whole(format!("'a'{}", " | upper".repeat(300))),
        whole(format!("{}3", "1 if 2 else ".repeat(1_000))),
        whole(format!("1{}", " if 1 else 1".repeat(40))),
        whole(format!("1{}", " is none".repeat(300))),
        whole(format!("1{}", " ** 1".repeat(300))),
        format!("{}{}", "{% if 1 %}".repeat(5_000), "{% endif %}".repeat(5_000)),
        format!("{}{}", "{% set a %}".repeat(100), "{% endset %}".repeat(100)),
        format!("{}{}", "{% with a = 1 %}".repeat(100), "{% endwith %}".repeat(100)),
        format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(4_000)),
        format!("{{{{ 1 }}}}{}", "x".repeat(70_000)),
    ] {
        let (_, errors) = Template::parse(&json!(source));
        let start: String = source.chars().take(40).collect();
        assert!(errors.first().is_some_and(|(_, error)| error.limit), "{start}: {errors:?}");
    }
    for source in [
        whole(format!("{}1{}", "(".repeat(20), ")".repeat(20))),
        whole(format!("1{}", " + 1".repeat(45))),
        format!("{}{}", "{% if 1 %}".repeat(20), "{% endif %}".repeat(20)),
        "{% if 1 %}{% endif %}".repeat(200),
        "{% set a = 1 %}".repeat(200),
        "{{ 1 }}".repeat(3_000),
    ] {
        assert!(render(&source).is_ok(), "{source}");
    }
    // The bare form of an expression has the same bounds.
    assert!(Expression::parse(&"(".repeat(10_000)).is_err_and(|error| error.limit));
    assert!(Expression::parse(&"not ".repeat(10_000)).is_err_and(|error| error.limit));
}

#[test]
fn g04_undefined_names_are_errors_never_null_or_empty() {
    for source in ["{{ inputs.orderId }}", "x{{ input.OrderId }}", "{{ input.none.x }}", "{{ item }}", "{{ loop }}"] {
        let error = render(source).expect_err(source);
        assert!(!error.limit && error.range.is_some(), "{source}: {error:?}");
    }
}

#[test]
fn g05_nothing_outside_the_scope_can_be_reached() {
    for source in [
        "{{ env.HOME }}",
        "{{ self }}",
        "{{ debug() }}",
        "{{ input.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{{ input.items.pop() }}",
        "{{ namespace(a=1) }}",
        "{{ dict(a=1) }}",
        "{{ lipsum() }}",
        "{{ cycler(1) }}",
        "{{ range.__call__ }}",
        "{% do debug() %}",
        "{{ secrets['API' ~ '_KEYS'] }}",
        "{% autoescape true %}{% endautoescape %}",
        "{{ caller() }}",
    ] {
        assert!(render(source).is_err(), "{source}");
    }
    assert_eq!(rendered("{{ '<b>&' }}."), json!("<b>&."), "nothing is escaped");
}

#[test]
fn g06_json_goes_in_as_json() {
    let (template, _) = Template::parse(&json!({ "note": "{{ input.note }}", "quote": "say {{ '\"' }}" }));
    let value = template.render(&scope(), &Limits::default()).expect("valid");
    assert_eq!(value["note"], json!("{{ 7*7 }}{% set x = 1 %}"));
    assert_eq!(value["quote"], json!("say \""));
}

#[test]
fn g07_there_is_no_clock_and_no_chance() {
    for source in
        ["{{ now() }}", "{{ random() }}", "{{ [1, 2] | random }}", "{{ uuid() }}", "{{ input.items | shuffle }}"]
    {
        assert!(render(source).is_err(), "{source}");
    }
    let source = "{{ {'b': 1, 'a': [input.items, 1.5]} }} {% for k in input.address %}{{ k }}{% endfor %}";
    assert_eq!(rendered(source), rendered(source));
}

#[test]
fn g02_fuel_grows_with_the_limit() {
    let expression = Expression::parse("range(20000) | sum").expect("valid");
    let little = Limits { template_fuel: 1_000, ..Limits::default() };
    assert!(expression.eval(&scope(), &little).is_err_and(|error| error.limit));
    let much = Limits { template_fuel: 1_000_000, ..Limits::default() };
    assert_eq!(expression.eval(&scope(), &much), Ok(json!(199_990_000)));
}

#[test]
fn f14_no_template_panics_however_it_is_cut() {
    let whole = [
        "é {{ input['ä'] | default([1, {'k': -2.5}], true) }}{% for k, v in input.address | items if k != 'x' %}{{ loop.index }}ö{% else %}{% endfor %}",
        "{% set a = 1 if input.flag else (2 // 3) ** 2 %}{{ a ~ \"ü\\n\" * 2 }}{# c #}{% raw %}{{{% endraw %}{%- if a is not defined -%}x{%- elif 1 in [a] -%}{%- endif -%}",
        "{{ input.items[0:-1:1] | selectattr('id', 'in', ['A']) | map(attribute='id') | join(sep) }}{{ steps['reserve'].output.total }}",
    ];
    for source in whole {
        let letters: Vec<char> = source.chars().collect();
        for at in 0..letters.len() {
            let cut: String = letters[..at].iter().collect();
            let tail: String = letters[at..].iter().collect();
            let less: String =
                letters.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, letter)| letter).collect();
            let more: String = format!("{cut}ß{tail}");
            for source in [cut, tail, less, more] {
                let _ = render(&source);
                let (_, errors) = Template::parse(&json!(source));
                let _ = Expression::parse(&source).and_then(|expression| expression.eval(&scope(), &Limits::default()));
                for (_, error) in errors {
                    let range = error.range.clone().expect("a syntax error has a place");
                    assert!(source.get(range).is_some(), "{source}: {error:?}");
                }
            }
        }
    }
}
