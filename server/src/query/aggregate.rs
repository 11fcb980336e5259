//! Running aggregates. Owns what COUNT, COUNTIF, SUM, AVG, MIN and MAX make of the values of a group.
//!
//! Undefined values are not seen by any of them. A value that is not a number makes SUM and AVG undefined, an array or
//! object makes MIN and MAX undefined (the service's documentation of each function; the aggregators of its SDKs
//! agree). Of no values COUNT and SUM are zero and the others undefined.

use serde_json::Value;

use super::plan::AggregateKind;
use super::value;

/// The state of one aggregate of one group.
#[derive(Debug)]
pub(super) enum Accumulator {
    Count {
        seen: u64,
        only_true: bool,
    },
    /// The sum so far, or nothing once a value was not a number.
    Sum {
        sum: Option<f64>,
        seen: u64,
        average: bool,
    },
    Extreme {
        best: Option<Value>,
        poisoned: bool,
        greatest: bool,
    },
}

impl Accumulator {
    pub(super) fn new(kind: AggregateKind) -> Self {
        match kind {
            AggregateKind::Count => Accumulator::Count { seen: 0, only_true: false },
            AggregateKind::CountIf => Accumulator::Count { seen: 0, only_true: true },
            AggregateKind::Sum => Accumulator::Sum { sum: Some(0.0), seen: 0, average: false },
            AggregateKind::Average => Accumulator::Sum { sum: Some(0.0), seen: 0, average: true },
            AggregateKind::Minimum => Accumulator::Extreme { best: None, poisoned: false, greatest: false },
            AggregateKind::Maximum => Accumulator::Extreme { best: None, poisoned: false, greatest: true },
        }
    }

    /// Takes one more value into account.
    pub(super) fn add(&mut self, value: Option<&Value>) {
        let Some(value) = value else { return };
        match self {
            Accumulator::Count { seen, only_true } => *seen += u64::from(!*only_true || *value == Value::Bool(true)),
            Accumulator::Sum { sum, seen, .. } => {
                *seen += 1;
                *sum = sum.and_then(|sum| Some(sum + value::as_double(value)?));
            }
            Accumulator::Extreme { best, poisoned, greatest } => {
                *poisoned |= value.is_array() || value.is_object();
                let better = best.as_ref().is_none_or(|best| {
                    let order = value::order(Some(value), Some(best));
                    if *greatest { order.is_gt() } else { order.is_lt() }
                });
                if better && !*poisoned {
                    *best = Some(value.clone());
                }
            }
        }
    }

    /// What the aggregate comes to.
    pub(super) fn finish(self) -> Option<Value> {
        match self {
            Accumulator::Count { seen, .. } => Some(Value::from(seen)),
            Accumulator::Sum { sum, average: false, .. } => sum.and_then(value::number),
            Accumulator::Sum { seen: 0, .. } => None,
            Accumulator::Sum { sum, seen, .. } => sum.and_then(|sum| value::number(sum / seen as f64)),
            Accumulator::Extreme { best, poisoned, .. } => best.filter(|_| !poisoned),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_function_of_each_kind_of_group() {
        use AggregateKind::{Average, Count, CountIf, Maximum, Minimum, Sum};
        let undefined = None;
        for (kind, values, expected) in [
            (Count, vec![], Some(json!(0))),
            (Count, vec![Some(json!(null)), undefined.clone(), Some(json!("a"))], Some(json!(2))),
            (CountIf, vec![Some(json!(true)), Some(json!(1)), Some(json!(false))], Some(json!(1))),
            (Sum, vec![], Some(json!(0))),
            (Sum, vec![Some(json!(1)), undefined.clone(), Some(json!(2.5))], Some(json!(3.5))),
            (Sum, vec![Some(json!(1)), Some(json!("2"))], None),
            (Sum, vec![Some(json!(1e308)), Some(json!(1e308))], None),
            (Average, vec![], None),
            (Average, vec![Some(json!(1)), undefined.clone(), Some(json!(4))], Some(json!(2.5))),
            (Average, vec![Some(json!(1)), Some(json!(null))], None),
            (Minimum, vec![], None),
            (Minimum, vec![Some(json!("a")), Some(json!(3)), Some(json!(null))], Some(json!(null))),
            (Maximum, vec![Some(json!("a")), Some(json!(3)), undefined], Some(json!("a"))),
            (Maximum, vec![Some(json!(1)), Some(json!([]))], None),
        ] {
            let mut accumulator = Accumulator::new(kind);
            for value in &values {
                accumulator.add(value.as_ref());
            }
            assert_eq!(accumulator.finish(), expected, "{kind:?} of {values:?}");
        }
    }
}
