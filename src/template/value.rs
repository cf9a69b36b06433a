//! Operations on values: exact on integers, strict about kinds, never null or NaN by accident.

use std::cmp::Ordering;
use std::io;

use serde_json::{Number, Value};

use super::budget::{Budget, Fault, ITEM};
use super::syntax::{CompareOp, MathOp};

/// A number as it is computed with: wide enough for any sum or product of two.
#[derive(Clone, Copy, Debug)]
pub(super) enum Num {
    Int(i128),
    Float(f64),
}

impl Num {
    pub fn of(value: &Value) -> Option<Self> {
        let Value::Number(number) = value else { return None };
        if let Some(int) = number.as_i64() {
            Some(Self::Int(int.into()))
        } else if let Some(int) = number.as_u64() {
            Some(Self::Int(int.into()))
        } else {
            number.as_f64().map(Self::Float)
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "mixing with a float gives a float")]
    pub fn float(self) -> f64 {
        match self {
            Self::Int(int) => int as f64,
            Self::Float(float) => float,
        }
    }
}

/// Returns the kind of a value, with its article.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Whether a value holds as a condition.
pub(crate) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(bool) => *bool,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// Returns an integer as a value, if it fits.
pub(super) fn int(value: i128) -> Result<Value, Fault> {
    if let Ok(value) = i64::try_from(value) {
        Ok(value.into())
    } else if let Ok(value) = u64::try_from(value) {
        Ok(value.into())
    } else {
        Err(Fault::new("the result does not fit a 64-bit integer"))
    }
}

/// Returns a float as a value, if it is a number.
pub(super) fn float(value: f64) -> Result<Value, Fault> {
    Number::from_f64(value).map(Value::Number).ok_or_else(|| Fault::new("the result is not a finite number"))
}

/// Returns a value as it stands inside of a text, or as an operand of `~`.
pub(super) fn text(budget: &mut Budget, value: &Value) -> Result<String, Fault> {
    match value {
        Value::String(text) => {
            budget.string(text.len())?;
            Ok(text.clone())
        }
        Value::Null => Err(Fault::new("null cannot stand inside of text")
            .help("Say what to write instead: `{{ x | default('', true) }}` takes its argument also for null.")),
        other => json(budget, other),
    }
}

/// Returns a value as compact JSON.
pub(super) fn json(budget: &mut Budget, value: &Value) -> Result<String, Fault> {
    let mut out = Bounded { bytes: Vec::new(), budget, fault: None };
    let written = serde_json::to_writer(&mut out, value);
    if let Some(fault) = out.fault {
        return Err(fault);
    }
    written.map_err(|error| Fault::new(error.to_string()))?;
    String::from_utf8(out.bytes).map_err(|error| Fault::new(error.to_string()))
}

/// A writer that pays before it grows.
struct Bounded<'b> {
    bytes: Vec<u8>,
    budget: &'b mut Budget,
    fault: Option<Fault>,
}

impl io::Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let paid = self.budget.spend(bytes.len() as u64 + 1).and_then(|()| {
            // The whole is held to the limit of one text without paying for it again.
            self.budget.string_fits(self.bytes.len() + bytes.len())
        });
        if let Err(fault) = paid {
            self.fault = Some(fault);
            return Err(io::Error::other("limit"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Computes `left op right`.
pub(super) fn math(budget: &mut Budget, op: MathOp, left: &Value, right: &Value) -> Result<Value, Fault> {
    if op == MathOp::Concat {
        let (left, right) = (text(budget, left)?, text(budget, right)?);
        budget.string(left.len().saturating_add(right.len()))?;
        return Ok(Value::String(left + &right));
    }
    if let (Some(left), Some(right)) = (Num::of(left), Num::of(right)) {
        return numbers(op, left, right);
    }
    match (op, left, right) {
        (MathOp::Add, Value::String(left), Value::String(right)) => {
            budget.string(left.len().saturating_add(right.len()))?;
            Ok(Value::String(format!("{left}{right}")))
        }
        (MathOp::Add, Value::Array(left), Value::Array(right)) => {
            left.iter().chain(right).map(|item| budget.copy(item)).collect::<Result<_, _>>().map(Value::Array)
        }
        (MathOp::Multiply, Value::String(text), Value::Number(count))
        | (MathOp::Multiply, Value::Number(count), Value::String(text)) => {
            let count = count.as_u64().and_then(|count| usize::try_from(count).ok());
            let count = count.ok_or_else(|| Fault::new("a text can be repeated a whole number of times only"))?;
            budget.string(text.len().saturating_mul(count))?;
            Ok(Value::String(text.repeat(count)))
        }
        _ => Err(unfit(op, left, right)),
    }
}

fn unfit(op: MathOp, left: &Value, right: &Value) -> Fault {
    let (sign, verb) = match op {
        MathOp::Add => ("+", "add"),
        MathOp::Subtract => ("-", "subtract"),
        MathOp::Multiply => ("*", "multiply"),
        MathOp::Divide => ("/", "divide"),
        MathOp::FloorDivide => ("//", "divide"),
        MathOp::Remainder => ("%", "divide"),
        MathOp::Power => ("**", "raise"),
        MathOp::Concat => ("~", "join"),
    };
    let fault = Fault::new(format!("`{sign}` cannot {verb} {} and {}", kind(left), kind(right)));
    match (op, left, right) {
        (MathOp::Add, Value::String(_), _) | (MathOp::Add, _, Value::String(_)) => {
            fault.help("`~` joins anything as text; `| int` makes a number of a text.")
        }
        (_, Value::String(_), _) | (_, _, Value::String(_)) => fault.help("`| int` makes a number of a text."),
        _ => fault,
    }
}

fn numbers(op: MathOp, left: Num, right: Num) -> Result<Value, Fault> {
    let zero = || Fault::new("division by zero");
    let wide = || Fault::new("the result does not fit a 64-bit integer");
    if let (Num::Int(left), Num::Int(right)) = (left, right) {
        let result = match op {
            MathOp::Add => left + right,
            MathOp::Subtract => left - right,
            MathOp::Multiply => left.checked_mul(right).ok_or_else(wide)?,
            MathOp::FloorDivide => floor_divide(left, right).ok_or_else(zero)?,
            MathOp::Remainder => left - right * floor_divide(left, right).ok_or_else(zero)?,
            MathOp::Power if right >= 0 => {
                u32::try_from(right).ok().and_then(|right| left.checked_pow(right)).ok_or_else(wide)?
            }
            MathOp::Divide if right == 0 => return Err(zero()),
            MathOp::Power | MathOp::Divide | MathOp::Concat => {
                return floats(op, Num::Int(left).float(), Num::Int(right).float());
            }
        };
        return int(result);
    }
    floats(op, left.float(), right.float())
}

fn floats(op: MathOp, left: f64, right: f64) -> Result<Value, Fault> {
    if matches!(op, MathOp::Divide | MathOp::FloorDivide | MathOp::Remainder) && right == 0.0 {
        return Err(Fault::new("division by zero"));
    }
    float(match op {
        MathOp::Add => left + right,
        MathOp::Subtract => left - right,
        MathOp::Multiply => left * right,
        MathOp::Divide => left / right,
        MathOp::FloorDivide => (left / right).floor(),
        MathOp::Remainder => left - right * (left / right).floor(),
        MathOp::Power => left.powf(right),
        MathOp::Concat => return Err(Fault::new("numbers are joined as text")),
    })
}

/// Divides towards minus infinity, so that the remainder has the sign of the divisor.
fn floor_divide(left: i128, right: i128) -> Option<i128> {
    let quotient = left.checked_div(right)?;
    Some(if left % right != 0 && (left < 0) != (right < 0) { quotient - 1 } else { quotient })
}

/// Compares two values with an operator.
pub(super) fn compare(budget: &mut Budget, op: CompareOp, left: &Value, right: &Value) -> Result<bool, Fault> {
    Ok(match op {
        CompareOp::Equal => equal(budget, left, right)?,
        CompareOp::NotEqual => !equal(budget, left, right)?,
        CompareOp::In => contains(budget, right, left)?,
        CompareOp::NotIn => !contains(budget, right, left)?,
        CompareOp::Less => order(budget, left, right)?.is_lt(),
        CompareOp::LessOrEqual => order(budget, left, right)?.is_le(),
        CompareOp::Greater => order(budget, left, right)?.is_gt(),
        CompareOp::GreaterOrEqual => order(budget, left, right)?.is_ge(),
    })
}

/// Whether two values are equal; numbers are by value, objects whatever the order of their keys.
pub(super) fn equal(budget: &mut Budget, left: &Value, right: &Value) -> Result<bool, Fault> {
    budget.spend(ITEM)?;
    Ok(match (left, right) {
        (Value::Number(_), Value::Number(_)) => {
            Num::of(left).zip(Num::of(right)).is_some_and(|(left, right)| order_numbers(left, right).is_eq())
        }
        (Value::String(left), Value::String(right)) => {
            budget.spend((left.len().min(right.len()) / 8) as u64)?;
            left == right
        }
        (Value::Array(left), Value::Array(right)) => {
            if left.len() != right.len() {
                return Ok(false);
            }
            for (left, right) in left.iter().zip(right) {
                if !equal(budget, left, right)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Object(left), Value::Object(right)) => {
            if left.len() != right.len() {
                return Ok(false);
            }
            for (key, left) in left {
                match right.get(key) {
                    Some(right) if equal(budget, left, right)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (left, right) => left == right,
    })
}

/// Returns the order of two values of one kind.
pub(super) fn order(budget: &mut Budget, left: &Value, right: &Value) -> Result<Ordering, Fault> {
    budget.spend(ITEM)?;
    match (left, right) {
        (Value::String(left), Value::String(right)) => {
            budget.spend((left.len().min(right.len()) / 8) as u64)?;
            Ok(left.cmp(right))
        }
        (Value::Bool(left), Value::Bool(right)) => Ok(left.cmp(right)),
        (Value::Array(left), Value::Array(right)) => {
            for (left, right) in left.iter().zip(right) {
                let order = order(budget, left, right)?;
                if order.is_ne() {
                    return Ok(order);
                }
            }
            Ok(left.len().cmp(&right.len()))
        }
        _ => match Num::of(left).zip(Num::of(right)) {
            Some((left, right)) => Ok(order_numbers(left, right)),
            None => Err(Fault::new(format!("{} and {} have no order", kind(left), kind(right)))),
        },
    }
}

/// Compares numbers by value, exactly: no integer is rounded to a float.
fn order_numbers(left: Num, right: Num) -> Ordering {
    match (left, right) {
        (Num::Int(left), Num::Int(right)) => left.cmp(&right),
        // A float of JSON is never NaN, so two of them always compare.
        (Num::Float(left), Num::Float(right)) => left.partial_cmp(&right).unwrap_or(Ordering::Equal),
        (Num::Int(left), Num::Float(right)) => order_mixed(left, right),
        (Num::Float(left), Num::Int(right)) => order_mixed(right, left).reverse(),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range is looked at first")]
fn order_mixed(left: i128, right: f64) -> Ordering {
    // Every 64-bit integer lies well within, and every float within has an exact whole part.
    if right >= 1e30 {
        Ordering::Less
    } else if right <= -1e30 {
        Ordering::Greater
    } else {
        let whole = right.floor();
        left.cmp(&(whole as i128)).then(if right > whole { Ordering::Less } else { Ordering::Equal })
    }
}

fn contains(budget: &mut Budget, container: &Value, needle: &Value) -> Result<bool, Fault> {
    match (container, needle) {
        (Value::Array(items), _) => {
            for item in items {
                if equal(budget, item, needle)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        (Value::Object(members), Value::String(key)) => Ok(members.contains_key(key)),
        (Value::String(text), Value::String(part)) => {
            budget.spend(text.len() as u64)?;
            Ok(text.contains(part.as_str()))
        }
        _ => Err(Fault::new(format!("`in` cannot look for {} in {}", kind(needle), kind(container)))),
    }
}
