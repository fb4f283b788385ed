//! The `Condition` element of a policy statement.

use jiff::Timestamp;
use serde_json::Value;

use crate::iam::{Context, matches_glob, strings};

/// One operator applied to one context key.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    operator: Operator,
    /// A missing key satisfies the condition.
    if_exists: bool,
    quantifier: Quantifier,
    key: String,
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    Single,
    AnyValue,
    AllValues,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    StringEquals,
    StringNotEquals,
    StringEqualsIgnoreCase,
    StringLike,
    StringNotLike,
    Bool,
    Null,
    NumericEquals,
    NumericLessThan,
    NumericLessThanEquals,
    NumericGreaterThan,
    NumericGreaterThanEquals,
    DateLessThan,
    DateLessThanEquals,
    DateGreaterThan,
    DateGreaterThanEquals,
}

impl Condition {
    pub fn parse_all(block: Option<&Value>) -> Result<Vec<Condition>, String> {
        let Some(block) = block else {
            return Ok(Vec::new());
        };
        let operators = block.as_object().ok_or("Condition is not an object")?;
        let mut all = Vec::new();
        for (operator, keys) in operators {
            let keys = keys.as_object().ok_or_else(|| format!("{operator} is not an object"))?;
            for (key, values) in keys {
                all.push(Condition::parse(operator, key, values)?);
            }
        }
        Ok(all)
    }

    fn parse(operator: &str, key: &str, values: &Value) -> Result<Condition, String> {
        let (quantifier, name) = match operator.split_once(':') {
            None => (Quantifier::Single, operator),
            Some(("ForAnyValue", name)) => (Quantifier::AnyValue, name),
            Some(("ForAllValues", name)) => (Quantifier::AllValues, name),
            Some(_) => return Err(format!("unknown condition operator {operator}")),
        };
        let (name, if_exists) = match name.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (name, false),
        };
        Ok(Condition {
            operator: Operator::named(name).ok_or_else(|| format!("unknown condition operator {operator}"))?,
            if_exists,
            quantifier,
            key: key.to_ascii_lowercase(),
            values: strings(values)?,
        })
    }

    pub fn holds(&self, context: &Context) -> bool {
        let given = context.values(&self.key);
        if self.operator == Operator::Null {
            let absent = given.is_empty().to_string();
            return self.values.iter().any(|wanted| wanted.eq_ignore_ascii_case(&absent));
        }
        if given.is_empty() {
            // A negated comparison with nothing holds: nothing is not equal to something.
            let vacuous = self.quantifier == Quantifier::AllValues || self.operator.is_negated();
            return self.if_exists || vacuous;
        }
        let satisfied = |given: &String| self.operator.holds(given, &self.values);
        match self.quantifier {
            Quantifier::AllValues => given.iter().all(satisfied),
            Quantifier::Single | Quantifier::AnyValue => given.iter().any(satisfied),
        }
    }
}

impl Operator {
    fn named(name: &str) -> Option<Operator> {
        Some(match name {
            "StringEquals" => Operator::StringEquals,
            "StringNotEquals" => Operator::StringNotEquals,
            "StringEqualsIgnoreCase" => Operator::StringEqualsIgnoreCase,
            // ARN operators allow wildcards in both spellings.
            "StringLike" | "ArnLike" | "ArnEquals" => Operator::StringLike,
            "StringNotLike" | "ArnNotLike" | "ArnNotEquals" => Operator::StringNotLike,
            "Bool" => Operator::Bool,
            "Null" => Operator::Null,
            "NumericEquals" => Operator::NumericEquals,
            "NumericLessThan" => Operator::NumericLessThan,
            "NumericLessThanEquals" => Operator::NumericLessThanEquals,
            "NumericGreaterThan" => Operator::NumericGreaterThan,
            "NumericGreaterThanEquals" => Operator::NumericGreaterThanEquals,
            "DateLessThan" => Operator::DateLessThan,
            "DateLessThanEquals" => Operator::DateLessThanEquals,
            "DateGreaterThan" => Operator::DateGreaterThan,
            "DateGreaterThanEquals" => Operator::DateGreaterThanEquals,
            _ => return None,
        })
    }

    fn is_negated(self) -> bool {
        matches!(self, Operator::StringNotEquals | Operator::StringNotLike)
    }

    /// Several wanted values are alternatives; for a negated operator, none may match.
    fn holds(self, given: &str, wanted: &[String]) -> bool {
        let found = wanted.iter().any(|wanted| self.matches(given, wanted));
        found != self.is_negated()
    }

    fn matches(self, given: &str, wanted: &str) -> bool {
        match self {
            Operator::StringEquals | Operator::StringNotEquals => given == wanted,
            Operator::StringLike | Operator::StringNotLike => matches_glob(wanted, given),
            Operator::StringEqualsIgnoreCase | Operator::Bool | Operator::Null => given.eq_ignore_ascii_case(wanted),
            Operator::NumericEquals => compare(number, given, wanted, |a, b| a == b),
            Operator::NumericLessThan => compare(number, given, wanted, |a, b| a < b),
            Operator::NumericLessThanEquals => compare(number, given, wanted, |a, b| a <= b),
            Operator::NumericGreaterThan => compare(number, given, wanted, |a, b| a > b),
            Operator::NumericGreaterThanEquals => compare(number, given, wanted, |a, b| a >= b),
            Operator::DateLessThan => compare(date, given, wanted, |a, b| a < b),
            Operator::DateLessThanEquals => compare(date, given, wanted, |a, b| a <= b),
            Operator::DateGreaterThan => compare(date, given, wanted, |a, b| a > b),
            Operator::DateGreaterThanEquals => compare(date, given, wanted, |a, b| a >= b),
        }
    }
}

/// What does not parse matches nothing.
fn compare<T>(read: impl Fn(&str) -> Option<T>, given: &str, wanted: &str, holds: impl Fn(&T, &T) -> bool) -> bool {
    match (read(given), read(wanted)) {
        (Some(given), Some(wanted)) => holds(&given, &wanted),
        _ => false,
    }
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn date(text: &str) -> Option<Timestamp> {
    let epoch = || Timestamp::from_second(text.parse().ok()?).ok();
    text.parse().ok().or_else(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(condition: &Value, context: &Context) -> bool {
        let all = Condition::parse_all(Some(condition)).expect("a valid condition");
        all.iter().all(|condition| condition.holds(context))
    }

    #[test]
    fn a_missing_key_fails_equality_and_satisfies_inequality() {
        let none = Context::default();
        assert!(!holds(&json!({"StringEquals": {"sts:ExternalId": "x"}}), &none));
        assert!(!holds(&json!({"StringLike": {"s3:prefix": "*"}}), &none));
        assert!(holds(&json!({"StringNotEquals": {"sts:ExternalId": "x"}}), &none));
        assert!(holds(&json!({"StringEqualsIfExists": {"sts:ExternalId": "x"}}), &none));
        assert!(holds(&json!({"Null": {"sts:ExternalId": "true"}}), &none));
    }

    #[test]
    fn keys_ignore_case_and_values_are_alternatives() {
        let context = Context::default().with("s3:Prefix", "AWSLogs/222222222222/CloudTrail/");
        let like = json!({"StringLike": {"S3:PREFIX": ["x/*", "AWSLogs/222222222222/*"]}});
        assert!(holds(&like, &context));
        let not_like = json!({"StringNotLike": {"s3:prefix": ["x/*", "AWSLogs/222222222222/*"]}});
        assert!(!holds(&not_like, &context));
    }

    #[test]
    fn dates_compare_as_dates() {
        let context = Context::default().with("aws:TokenIssueTime", "2024-01-02T03:04:05Z");
        let before = |when: &str| json!({"DateLessThan": {"aws:TokenIssueTime": when}});
        assert!(holds(&before("2024-01-02T03:04:06Z"), &context));
        assert!(!holds(&before("2024-01-02T03:04:05Z"), &context));
        assert!(holds(&before("2024-01-02T03:04:05.500Z"), &context));
    }
}
