//! The policy documents that the sharing scenarios are made of.
//!
//! Shapes after "Sharing `CloudTrail` log files between AWS accounts", in the tight form: listing is
//! allowed below one prefix only.

use serde_json::{Value, json};

fn document(statements: Vec<Value>) -> Value {
    json!({"Version": "2012-10-17", "Statement": statements})
}

fn allow(actions: &[&str], resource: &str) -> Value {
    json!({"Effect": "Allow", "Action": actions, "Resource": resource})
}

/// Allows nothing.
pub fn nothing() -> Value {
    document(Vec::new())
}

/// Allows everything.
pub fn everything() -> Value {
    document(vec![allow(&["*"], "*")])
}

/// The caller's side: may assume this role.
pub fn assume_role(role_arn: &str) -> Value {
    document(vec![allow(&["sts:AssumeRole"], role_arn)])
}

/// The caller's side: may assume these roles.
pub fn assume_roles(role_arns: &[&str]) -> Value {
    document(vec![json!({"Effect": "Allow", "Action": ["sts:AssumeRole"], "Resource": role_arns})])
}

/// The caller's side for a proof of completeness: may fetch the digest keys, too.
pub fn assume_role_and_list_public_keys(role_arn: &str) -> Value {
    document(vec![allow(&["sts:AssumeRole"], role_arn), allow(&["cloudtrail:ListPublicKeys"], "*")])
}

/// The same with several roles.
pub fn assume_roles_and_list_public_keys(role_arns: &[&str]) -> Value {
    document(vec![
        json!({"Effect": "Allow", "Action": ["sts:AssumeRole"], "Resource": role_arns}),
        allow(&["cloudtrail:ListPublicKeys"], "*"),
    ])
}

/// Writes copies below a prefix (empty for the whole bucket) and reads them again; removes nothing.
pub fn write_copies(bucket: &str, prefix: &str) -> Value {
    let bucket_arn = format!("arn:aws:s3:::{bucket}");
    let below = if prefix.is_empty() { "*".to_owned() } else { format!("{prefix}/*") };
    document(vec![
        json!({
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": bucket_arn,
            "Condition": {"StringLike": {"s3:prefix": below}},
        }),
        allow(&["s3:ListBucketMultipartUploads", "s3:GetBucketObjectLockConfiguration"], &bucket_arn),
        allow(
            &["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload", "s3:PutObjectRetention"],
            &format!("{bucket_arn}/{below}"),
        ),
    ])
}

fn trust(principal: &str, condition: Value) -> Value {
    let mut statement = json!({
        "Sid": "",
        "Effect": "Allow",
        "Principal": {"AWS": principal},
        "Action": "sts:AssumeRole",
    });
    if !condition.is_null() {
        statement["Condition"] = condition;
    }
    document(vec![statement])
}

/// Scenario 1: whoever the account lets.
pub fn trust_account_root(account: &str) -> Value {
    trust(&format!("arn:aws:iam::{account}:root"), Value::Null)
}

/// One user or role, by ARN.
pub fn trust_user(arn: &str) -> Value {
    trust(arn, Value::Null)
}

/// Scenario 2: a third party that must name the external ID.
pub fn trust_with_external_id(account: &str, external_id: &str) -> Value {
    let condition = json!({"StringEquals": {"sts:ExternalId": external_id}});
    trust(&format!("arn:aws:iam::{account}:root"), condition)
}

/// Scenario 1, tight: lists and reads what lies below `[prefix/]AWSLogs/<account>/`, nothing else.
///
/// `prefix` is the trail's, without a trailing slash; empty for none. For an organization's trail
/// pass `o-…/<account>` as the account.
pub fn read_own_logs(bucket: &str, prefix: &str, account: &str) -> Value {
    let below = match prefix {
        "" => format!("AWSLogs/{account}/"),
        prefix => format!("{prefix}/AWSLogs/{account}/"),
    };
    let bucket_arn = format!("arn:aws:s3:::{bucket}");
    document(vec![
        json!({
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": bucket_arn,
            "Condition": {"StringLike": {"s3:prefix": format!("{below}*")}},
        }),
        allow(&["s3:GetBucketLocation"], &bucket_arn),
        allow(&["s3:GetObject"], &format!("{bucket_arn}/{below}*")),
    ])
}

/// Scenario 1 exactly as the guide prints it: reads its own, but lists every account's keys.
pub fn read_own_logs_as_documented(bucket: &str, prefix: &str, account: &str) -> Value {
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let bucket_arn = format!("arn:aws:s3:::{bucket}");
    document(vec![
        allow(&["s3:Get*", "s3:List*"], &format!("{bucket_arn}/{prefix}AWSLogs/{account}/*")),
        allow(&["s3:Get*", "s3:List*"], &bucket_arn),
    ])
}

/// Scenario 2: reads the whole bucket.
pub fn read_all(bucket: &str) -> Value {
    let bucket_arn = format!("arn:aws:s3:::{bucket}");
    document(vec![
        allow(&["s3:Get*", "s3:List*"], &bucket_arn),
        allow(&["s3:Get*", "s3:List*"], &format!("{bucket_arn}/*")),
    ])
}

/// The owner's side of a mirror into an S3 bucket.
pub fn write_bucket(bucket: &str) -> Value {
    let bucket_arn = format!("arn:aws:s3:::{bucket}");
    document(vec![
        allow(&["s3:ListBucket", "s3:GetBucketLocation"], &bucket_arn),
        allow(&["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], &format!("{bucket_arn}/*")),
    ])
}

/// Adds `kms:Decrypt` on one key to a policy.
pub fn with_decrypt(policy: &Value, key_arn: &str) -> Value {
    with(policy, allow(&["kms:Decrypt"], key_arn))
}

/// Adds one statement to a policy.
pub fn with(policy: &Value, statement: Value) -> Value {
    let mut policy = policy.clone();
    if let Some(statements) = policy["Statement"].as_array_mut() {
        statements.push(statement);
    }
    policy
}

/// A bucket policy: direct access for one principal of another account, without any role.
pub fn bucket_read_for(bucket: &str, principal_arn: &str) -> Value {
    let bucket_arn = format!("arn:aws:s3:::{bucket}");
    document(vec![json!({
        "Effect": "Allow",
        "Principal": {"AWS": principal_arn},
        "Action": ["s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation"],
        "Resource": [bucket_arn, format!("{bucket_arn}/*")],
    })])
}

/// What "Revoke active sessions" attaches to a role.
pub fn revoke_older_sessions(than: jiff::Timestamp) -> Value {
    document(vec![json!({
        "Effect": "Deny",
        "Action": "*",
        "Resource": "*",
        "Condition": {"DateLessThan": {"aws:TokenIssueTime": than.to_string()}},
    })])
}
