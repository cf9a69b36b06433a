//! The values of policy fields: literals, or templates that refer to the configuration.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::dsl::duration;
use crate::dsl::setting;
use crate::limits::Limits;
use crate::template::{Expression, Scope, TemplateError};

/// Reads policy fields under one configuration.
pub(crate) struct Settings {
    scope: Scope,
    limits: Limits,
}

/// Why a value does not fit its policy field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// What was found and what was expected.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl From<TemplateError> for Misfit {
    fn from(error: TemplateError) -> Self {
        Self { message: error.message, help: error.help }
    }
}

impl Settings {
    /// Makes a reader of an effective configuration.
    pub(crate) fn new(config: Arc<Value>) -> Self {
        let vars = [("config".into(), config)].into_iter().collect();
        Self { scope: Scope { vars, ..Scope::default() }, limits: Limits::default() }
    }

    /// Reads a length of time.
    pub(crate) fn duration(&self, written: &setting::Duration) -> Result<Duration, Misfit> {
        let value = self.value(&written.0)?;
        match value.as_str().map(duration::parse) {
            Some(Ok(time)) => Ok(time),
            Some(Err(help)) => Err(misfit(&written.0, &value, "a duration", Some(help))),
            None => {
                let help = match &*value {
                    Value::Number(n) => format!("A duration needs a unit: write `{n}s` for seconds."),
                    _ => "Write a number and a unit, such as `30s`.".to_owned(),
                };
                Err(misfit(&written.0, &value, "a duration", Some(help)))
            }
        }
    }

    /// Reads a length of time that bounds something: none at all would let nothing happen.
    pub(crate) fn bound(&self, written: &setting::Duration) -> Result<Duration, Misfit> {
        let time = self.duration(written)?;
        if time.is_zero() {
            let value = self.value(&written.0)?;
            let help = "Leave it out for the default, or write how long it may take, such as `30s`.";
            return Err(misfit(&written.0, &value, "a duration above zero", Some(help.to_owned())));
        }
        Ok(time)
    }

    /// Reads a whole number of at least one.
    pub(crate) fn count(&self, written: &setting::Count) -> Result<u32, Misfit> {
        let value = self.value(&written.0)?;
        let count = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| (1..=1_000_000).contains(n));
        count.ok_or_else(|| misfit(&written.0, &value, "a whole number from 1 to 1000000", None))
    }

    /// Reads what delays are multiplied with.
    pub(crate) fn factor(&self, written: &setting::Factor) -> Result<f64, Misfit> {
        let value = self.value(&written.0)?;
        let factor = value.as_f64().filter(|f| (1.0..=1000.0).contains(f));
        factor.ok_or_else(|| misfit(&written.0, &value, "a number from 1 to 1000", None))
    }

    fn value<'v>(&self, written: &'v Value) -> Result<Cow<'v, Value>, Misfit> {
        match template(written) {
            None => Ok(Cow::Borrowed(written)),
            Some(text) => Ok(Cow::Owned(Expression::parse(text)?.eval(&self.scope, &self.limits)?)),
        }
    }
}

/// Returns the text of a policy field that is a template.
pub(crate) fn template(written: &Value) -> Option<&str> {
    written.as_str().filter(|text| text.contains("{{"))
}

fn misfit(written: &Value, value: &Value, wanted: &str, help: Option<String>) -> Misfit {
    let message = match template(written) {
        Some(text) => {
            let text = text.trim().trim_start_matches("{{").trim_end_matches("}}").trim();
            format!("`{text}` is `{value}`, which is not {wanted}")
        }
        None => format!("`{value}` is not {wanted}"),
    };
    // What a template yields is data, and never a template again.
    let help = match value.as_str() {
        Some(text) if text.contains("{{") => {
            Some("Configuration is data: a template in it stays a text. Write the value itself.".to_owned())
        }
        _ => help,
    };
    Misfit { message, help }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::json;

    use super::Settings;
    use crate::dsl::setting;

    #[test]
    fn literals_and_configuration_are_read() {
        let settings = Settings::new(Arc::new(json!({ "p": { "timeout": "30s", "attempts": 3, "factor": 1.5 } })));
        let duration = |v: &str| settings.duration(&setting::Duration(json!(v)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("{{ config.p.timeout }}"), Ok(Duration::from_secs(30)));
        assert_eq!(settings.count(&setting::Count(json!("{{ config.p.attempts }}"))), Ok(3));
        assert_eq!(settings.count(&setting::Count(json!("{{ config.p.attempts * 2 }}"))), Ok(6));
        assert_eq!(settings.factor(&setting::Factor(json!("{{ config.p.factor }}"))), Ok(1.5));
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_value() {
        let settings = Settings::new(Arc::new(json!({ "n": 30, "s": "soon", "z": 0 })));
        let wrong = |v: &str| settings.duration(&setting::Duration(json!(v))).expect_err("it does not fit");
        assert_eq!(wrong("{{ config.n }}").message, "`config.n` is `30`, which is not a duration");
        assert!(wrong("{{ config.n }}").help.expect("help").contains("`30s`"));
        assert_eq!(wrong("{{ config.s }}").message, "`config.s` is `\"soon\"`, which is not a duration");
        let zero = settings.count(&setting::Count(json!("{{ config.z }}"))).expect_err("it does not fit");
        assert_eq!(zero.message, "`config.z` is `0`, which is not a whole number from 1 to 1000000");
    }
}
