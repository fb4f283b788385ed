//! The contents of log files: events as the services record them.

use std::fmt::Write as _;
use std::io::Write as _;

use flate2::{Compression, GzBuilder};
use jiff::{SignedDuration, Timestamp};

use crate::clock::iso_seconds;

/// An uncompressed log, and the times that its digest entry repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogBody {
    pub text: Vec<u8>,
    pub oldest: Timestamp,
    pub newest: Timestamp,
}

/// What one kind of event looks like.
struct Template {
    source: &'static str,
    name: &'static str,
    read_only: bool,
    agent: &'static str,
    parameters: &'static str,
    response: &'static str,
}

const TEMPLATES: [Template; 8] = [
    Template {
        source: "sts.amazonaws.com",
        name: "AssumeRole",
        read_only: true,
        agent: "lambda.amazonaws.com",
        parameters: r#"{"roleArn":"arn:aws:iam::ACCOUNT:role/service-role/ingest","roleSessionName":"ingest-worker","durationSeconds":3600}"#,
        response: r#"{"credentials":{"accessKeyId":"ASIAEXAMPLE","expiration":"Mar 5, 2024, 7:07:08 AM"},"assumedRoleUser":{"assumedRoleId":"AROAEXAMPLE:ingest-worker","arn":"arn:aws:sts::ACCOUNT:assumed-role/ingest/ingest-worker"}}"#,
    },
    Template {
        source: "ec2.amazonaws.com",
        name: "DescribeInstances",
        read_only: true,
        agent: "aws-sdk-go-v2/1.24.0 os/linux lang/go#1.21.5 md/GOOS#linux api/ec2#1.142.0",
        parameters: r#"{"maxResults":1000,"instancesSet":{},"filterSet":{"items":[{"name":"instance-state-name","valueSet":{"items":[{"value":"running"}]}}]}}"#,
        response: "null",
    },
    Template {
        source: "kms.amazonaws.com",
        name: "Decrypt",
        read_only: true,
        agent: "secretsmanager.amazonaws.com",
        parameters: r#"{"encryptionContext":{"SecretARN":"arn:aws:secretsmanager:REGION:ACCOUNT:secret:app/db-x1Y2z3"},"encryptionAlgorithm":"SYMMETRIC_DEFAULT"}"#,
        response: "null",
    },
    Template {
        source: "s3.amazonaws.com",
        name: "GetBucketAcl",
        read_only: true,
        agent: "cloudtrail.amazonaws.com",
        parameters: r#"{"bucketName":"example-org-cloudtrail-logs","Host":"example-org-cloudtrail-logs.s3.REGION.amazonaws.com","acl":""}"#,
        response: "null",
    },
    Template {
        source: "logs.amazonaws.com",
        name: "CreateLogStream",
        read_only: false,
        agent: "awslambda-worker/1.0  rusoto/0.48.0 rust/1.74.0 linux",
        parameters: r#"{"logGroupName":"/aws/lambda/ingest","logStreamName":"2024/03/05/[$LATEST]0f1e2d3c4b5a"}"#,
        response: "null",
    },
    Template {
        source: "iam.amazonaws.com",
        name: "AttachRolePolicy",
        read_only: false,
        agent: "APN/1.0 HashiCorp/1.0 Terraform/1.7.3",
        parameters: r#"{"roleName":"deploy","policyArn":"arn:aws:iam::aws:policy/ReadOnlyAccess"}"#,
        response: "null",
    },
    Template {
        source: "signin.amazonaws.com",
        name: "ConsoleLogin",
        read_only: false,
        agent: "Mozilla/5.0 (X11; Linux x86_64; rv:123.0) Gecko/20100101 Firefox/123.0",
        parameters: "null",
        response: r#"{"ConsoleLogin":"Success"}"#,
    },
    Template {
        source: "dynamodb.amazonaws.com",
        name: "DescribeTable",
        read_only: true,
        agent: "aws-sdk-java/2.23.4 Linux/5.10.209 OpenJDK_64-Bit_Server_VM/21.0.2",
        parameters: r#"{"tableName":"orders"}"#,
        response: "null",
    },
];

/// The log that `seed` stands for; its events lie in the minutes before it was delivered.
pub(crate) fn realistic(seed: u64, account: &str, region: &str, delivered: Timestamp) -> LogBody {
    let mut random = fastrand::Rng::with_seed(seed);
    // Most logs are small, and some are not.
    let count = random.u32(1..=6) * random.u32(1..=6);
    log(random, count, account, region, delivered)
}

/// The log of so many events that `seed` stands for, for measurements that need logs of a certain size.
#[must_use]
pub fn of_events(seed: u64, count: u32, account: &str, region: &str, delivered: Timestamp) -> LogBody {
    log(fastrand::Rng::with_seed(seed), count, account, region, delivered)
}

fn log(mut random: fastrand::Rng, count: u32, account: &str, region: &str, delivered: Timestamp) -> LogBody {
    let newest = delivered - SignedDuration::from_secs(random.i64(60..300));
    let mut text = String::with_capacity(count as usize * 1_300);
    text.push_str("{\"Records\":[");
    let mut oldest = newest;
    for number in 0..count {
        if number > 0 {
            text.push(',');
            oldest -= SignedDuration::from_secs(random.i64(0..20));
        }
        event(&mut text, &mut random, account, region, oldest);
    }
    text.push_str("]}");
    LogBody {
        text: text.into_bytes(),
        oldest: crate::clock::whole_seconds(oldest),
        newest: crate::clock::whole_seconds(newest),
    }
}

fn event(text: &mut String, random: &mut fastrand::Rng, account: &str, region: &str, at: Timestamp) {
    let template = &TEMPLATES[random.usize(..TEMPLATES.len())];
    let at = iso_seconds(at);
    let fill = |text: &str| text.replace("ACCOUNT", account).replace("REGION", region);
    text.push_str(r#"{"eventVersion":"1.09","userIdentity":"#);
    identity(text, random, account, &at);
    let _ = write!(
        text,
        r#","eventTime":"{at}","eventSource":"{}","eventName":"{}","awsRegion":"{region}","sourceIPAddress":"10.{}.{}.{}","userAgent":"{}","requestParameters":{},"responseElements":{}"#,
        template.source,
        template.name,
        random.u8(..),
        random.u8(..),
        random.u8(..),
        template.agent,
        fill(template.parameters),
        fill(template.response),
    );
    let _ = write!(
        text,
        r#","requestID":"{}","eventID":"{}","readOnly":{},"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"{account}","eventCategory":"Management","tlsDetails":{{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"{}"}}}}"#,
        uuid(random),
        uuid(random),
        template.read_only,
        template.source.replace("amazonaws", &format!("{region}.amazonaws")),
    );
}

fn identity(text: &mut String, random: &mut fastrand::Rng, account: &str, at: &str) {
    let user = random.u32(0..40);
    let _ = if random.bool() {
        write!(
            text,
            r#"{{"type":"AssumedRole","principalId":"AROAEXAMPLE{user:05}:session-{user}","arn":"arn:aws:sts::{account}:assumed-role/app-{user}/session-{user}","accountId":"{account}","accessKeyId":"ASIAEXAMPLE{user:05}","sessionContext":{{"sessionIssuer":{{"type":"Role","principalId":"AROAEXAMPLE{user:05}","arn":"arn:aws:iam::{account}:role/app-{user}","accountId":"{account}","userName":"app-{user}"}},"attributes":{{"creationDate":"{at}","mfaAuthenticated":"false"}}}}}}"#
        )
    } else {
        write!(
            text,
            r#"{{"type":"IAMUser","principalId":"AIDAEXAMPLE{user:05}","arn":"arn:aws:iam::{account}:user/user-{user}","accountId":"{account}","accessKeyId":"AKIAEXAMPLE{user:05}","userName":"user-{user}"}}"#
        )
    };
}

fn uuid(random: &mut fastrand::Rng) -> String {
    let id = format!("{:032x}", random.u128(..));
    format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..])
}

/// Compresses as `CloudTrail` does, down to the header's "made on FAT" of Java's writer.
pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().operating_system(0).write(Vec::new(), Compression::fast());
    let written = encoder.write_all(text).and_then(|()| encoder.finish());
    written.expect("a vector takes every write")
}

/// Reads a whole gzip file.
pub(crate) fn gunzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_a_cloudtrail_document_of_believable_size() {
        let at: Timestamp = "2024-03-05T06:07:08Z".parse().expect("a time");
        let mut sizes = Vec::new();
        for seed in 0..101 {
            let body = realistic(seed, "222222222222", "eu-west-1", at);
            assert_eq!(body, realistic(seed, "222222222222", "eu-west-1", at));
            assert!(body.oldest <= body.newest && body.newest < at);
            let log: serde_json::Value = serde_json::from_slice(&body.text).expect("JSON");
            let records = log["Records"].as_array().expect("records");
            assert!(records.iter().all(|record| record["recipientAccountId"] == "222222222222"));
            let packed = gzip(&body.text);
            assert_eq!(gunzip(&packed).expect("a gzip"), body.text);
            sizes.push(packed.len());
        }
        sizes.sort_unstable();
        assert!((800..5_000).contains(&sizes[50]), "median {}", sizes[50]);
    }
}
