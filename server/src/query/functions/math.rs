//! Functions of numbers: those of doubles, and the `INT` family on 64-bit integers, which wraps as C++ does.

use serde_json::Value;

use super::{Function, Outcome, double, optional, whole};
use crate::query::evaluate::Evaluated;
use crate::query::value::{as_double, number};

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("ABS", 1, 1, |arguments, _| one(arguments, f64::abs)),
    Function::new("ACOS", 1, 1, |arguments, _| one(arguments, f64::acos)),
    Function::new("ASIN", 1, 1, |arguments, _| one(arguments, f64::asin)),
    Function::new("ATAN", 1, 1, |arguments, _| one(arguments, f64::atan)),
    Function::new("ATN2", 2, 2, |arguments, _| two(arguments, f64::atan2)),
    Function::new("CEILING", 1, 1, |arguments, _| one(arguments, f64::ceil)),
    Function::new("COS", 1, 1, |arguments, _| one(arguments, f64::cos)),
    Function::new("COT", 1, 1, |arguments, _| one(arguments, |angle| 1.0 / angle.tan())),
    Function::new("DEGREES", 1, 1, |arguments, _| one(arguments, f64::to_degrees)),
    Function::new("EXP", 1, 1, |arguments, _| one(arguments, f64::exp)),
    Function::new("FLOOR", 1, 1, |arguments, _| one(arguments, f64::floor)),
    Function::new("INTADD", 2, 2, |arguments, _| integers(arguments, |left, right| Some(left.wrapping_add(right)))),
    Function::new("INTBITAND", 2, 2, |arguments, _| integers(arguments, |left, right| Some(left & right))),
    Function::new("INTBITLEFTSHIFT", 2, 2, |arguments, _| {
        integers(arguments, |left, by| left.checked_shl(u32::try_from(by).ok()?))
    }),
    Function::new("INTBITNOT", 1, 1, |arguments, _| Ok(whole(arguments, 0).map(|operand| Value::from(!operand)))),
    Function::new("INTBITOR", 2, 2, |arguments, _| integers(arguments, |left, right| Some(left | right))),
    Function::new("INTBITRIGHTSHIFT", 2, 2, |arguments, _| {
        integers(arguments, |left, by| left.checked_shr(u32::try_from(by).ok()?))
    }),
    Function::new("INTBITXOR", 2, 2, |arguments, _| integers(arguments, |left, right| Some(left ^ right))),
    Function::new("INTDIV", 2, 2, |arguments, _| {
        integers(arguments, |left, right| (right != 0).then(|| left.wrapping_div(right)))
    }),
    Function::new("INTMOD", 2, 2, |arguments, _| {
        integers(arguments, |left, right| (right != 0).then(|| left.wrapping_rem(right)))
    }),
    Function::new("INTMUL", 2, 2, |arguments, _| integers(arguments, |left, right| Some(left.wrapping_mul(right)))),
    Function::new("INTSUB", 2, 2, |arguments, _| integers(arguments, |left, right| Some(left.wrapping_sub(right)))),
    Function::new("LOG", 1, 2, |arguments, _| {
        if arguments.len() == 1 {
            one(arguments, f64::ln)
        } else {
            two(arguments, |value, base| value.ln() / base.ln())
        }
    }),
    Function::new("LOG10", 1, 1, |arguments, _| one(arguments, f64::log10)),
    Function::new("NUMBERBIN", 1, 2, |arguments, _| {
        let size = optional(arguments, 1, 1.0, as_double).filter(|size| *size != 0.0);
        Ok(double(arguments, 0).zip(size).and_then(|(value, size)| number((value / size).floor() * size)))
    }),
    Function::new("PI", 0, 0, |_, _| Ok(number(std::f64::consts::PI))),
    Function::new("POWER", 2, 2, |arguments, _| two(arguments, f64::powf)),
    Function::new("RADIANS", 1, 1, |arguments, _| one(arguments, f64::to_radians)),
    // Midpoints are rounded away from zero, which is what the standard library does.
    Function::new("ROUND", 1, 1, |arguments, _| one(arguments, f64::round)),
    Function::new("SIGN", 1, 1, |arguments, _| one(arguments, |value| if value == 0.0 { 0.0 } else { value.signum() })),
    Function::new("SIN", 1, 1, |arguments, _| one(arguments, f64::sin)),
    Function::new("SQRT", 1, 1, |arguments, _| one(arguments, f64::sqrt)),
    Function::new("SQUARE", 1, 1, |arguments, _| one(arguments, |value| value * value)),
    Function::new("TAN", 1, 1, |arguments, _| one(arguments, f64::tan)),
    Function::new("TRUNC", 1, 1, |arguments, _| one(arguments, f64::trunc)),
];

fn one(arguments: &[Evaluated<'_>], function: fn(f64) -> f64) -> Outcome {
    Ok(double(arguments, 0).and_then(|operand| number(function(operand))))
}

fn two(arguments: &[Evaluated<'_>], function: fn(f64, f64) -> f64) -> Outcome {
    Ok(double(arguments, 0).zip(double(arguments, 1)).and_then(|(left, right)| number(function(left, right))))
}

fn integers(arguments: &[Evaluated<'_>], function: fn(i64, i64) -> Option<i64>) -> Outcome {
    Ok(whole(arguments, 0).zip(whole(arguments, 1)).and_then(|(left, right)| function(left, right)).map(Value::from))
}
