//! What is posted: STS lets everybody be every role, and `CloudTrail` has no public keys.

use super::http::{Answer, Request};
use super::{World, calendar, control};

/// Answers a POST to the root.
pub fn answer(world: &mut World, request: &Request) -> Answer {
    world.counters.sts += 1;
    if request.header("x-amz-target").is_some_and(|target| target.ends_with(".ListPublicKeys")) {
        return Answer::new("200 OK", r#"{"PublicKeyList":[]}"#).header("content-type", "application/x-amz-json-1.1");
    }
    let form: Vec<(String, String)> = form_urlencoded::parse(&request.body).into_owned().collect();
    let field = |name: &str| form.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value);
    match field("Action") {
        "AssumeRole" => assume_role(field("RoleArn"), field("RoleSessionName"), field("DurationSeconds")),
        "GetCallerIdentity" => document(
            "GetCallerIdentity",
            "<Arn>arn:aws:iam::222222222222:user/bench</Arn><UserId>AIDABENCH</UserId><Account>222222222222</Account>",
        ),
        _ => Answer::error("400 Bad Request", "InvalidAction"),
    }
}

fn assume_role(arn: &str, session: &str, seconds: &str) -> Answer {
    let mut expires = Vec::new();
    calendar::iso(control::now() + seconds.parse().unwrap_or(3_600), &mut expires);
    let expires = String::from_utf8_lossy(&expires);
    let assumed = arn.replacen(":iam:", ":sts:", 1).replacen(":role/", ":assumed-role/", 1);
    document(
        "AssumeRole",
        &format!(
            "<AssumedRoleUser><AssumedRoleId>AROABENCH:{session}</AssumedRoleId><Arn>{assumed}/{session}</Arn>\
             </AssumedRoleUser><Credentials><AccessKeyId>ASIABENCHBENCHBENCH0</AccessKeyId>\
             <SecretAccessKey>{:040}</SecretAccessKey><SessionToken>{:0200}</SessionToken>\
             <Expiration>{expires}</Expiration></Credentials>",
            0, 0
        ),
    )
}

fn document(action: &str, result: &str) -> Answer {
    let text = format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>{result}\
         </{action}Result><ResponseMetadata><RequestId>0123</RequestId></ResponseMetadata></{action}Response>"
    );
    Answer::new("200 OK", text).header("content-type", "text/xml")
}
