//! What names of AWS, hosts and files look like.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The kinds of folders that `CloudTrail` writes, as they stand in keys.
pub const KINDS: [&str; 5] =
    ["CloudTrail", "CloudTrail-Digest", "CloudTrail-Insight", "CloudTrail-NetworkActivity", "CloudTrail-Aggregated"];

/// The name of a source: it stands in paths, metrics and variables.
pub fn source_name(text: &str) -> bool {
    sized(text, 1, 63) && all(text, |b| lower_or_digit(b) || b == b'-') && ends(text, lower_or_digit)
}

/// A bucket name, S3 "General purpose bucket naming rules".
pub fn bucket(text: &str) -> bool {
    sized(text, 3, 63)
        && all(text, |b| lower_or_digit(b) || b == b'.' || b == b'-')
        && ends(text, lower_or_digit)
        && !text.contains("..")
        && text.parse::<Ipv4Addr>().is_err()
}

/// A region by its shape, since AWS adds regions: `eu-central-1`, `us-gov-west-1`, `eusc-de-east-1`.
pub fn region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [area, middle @ .., number] = parts.as_slice() else { return false };
    sized(area, 2, 4)
        && all(area, |b| b.is_ascii_lowercase())
        && (1..=2).contains(&middle.len())
        && middle.iter().all(|part| !part.is_empty() && all(part, |b| b.is_ascii_lowercase()))
        && sized(number, 1, 2)
        && all(number, |b| b.is_ascii_digit())
}

/// The partition that a region of this name is in.
pub fn partition(region: &str) -> &'static str {
    const BY_START: [(&str, &str); 7] = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("eusc-", "aws-eusc"),
        ("us-isob-", "aws-iso-b"),
        ("eu-isoe-", "aws-iso-e"),
        ("us-isof-", "aws-iso-f"),
        ("us-iso-", "aws-iso"),
    ];
    BY_START.iter().find(|(start, _)| region.starts_with(start)).map_or("aws", |(_, partition)| partition)
}

/// An account id.
pub fn account(text: &str) -> bool {
    text.len() == 12 && all(text, |b| b.is_ascii_digit())
}

/// An organization's id, Organizations API `Organization.Id`.
pub fn organization(text: &str) -> bool {
    text.strip_prefix("o-").is_some_and(|id| sized(id, 10, 32) && all(id, lower_or_digit))
}

/// What a trail puts before `AWSLogs/`: `CloudTrail` API `S3KeyPrefix`, at most 200 characters.
pub fn prefix(text: &str) -> bool {
    text.chars().count() <= 200 && !text.starts_with('/') && !text.ends_with('/') && !text.chars().any(char::is_control)
}

/// A folder name of [`KINDS`].
pub fn kind(text: &str) -> bool {
    KINDS.contains(&text)
}

/// The ARN of an IAM role, with or without a path.
pub fn role_arn(text: &str) -> bool {
    role_parts(text).is_some()
}

/// Partition and account of a role's ARN.
pub fn role_parts(arn: &str) -> Option<(&str, &str)> {
    let [arn_, partition, service, region, owner, resource] = arn.splitn(6, ':').collect::<Vec<_>>().try_into().ok()?;
    let name = resource.strip_prefix("role/")?;
    let (path, name) = name.rsplit_once('/').unwrap_or(("", name));
    let fits = arn_ == "arn"
        && service == "iam"
        && region.is_empty()
        && (partition == "aws" || partition.starts_with("aws-"))
        && all(partition, |b| b.is_ascii_lowercase() || b == b'-')
        && account(owner)
        && path.len() <= 512
        && all(path, |b| b.is_ascii_graphic())
        && sized(name, 1, 64)
        && all(name, word_or(b"+=,.@-"));
    fits.then_some((partition, owner))
}

/// The ARN of a KMS key; an alias is no key to a policy.
pub fn kms_key(text: &str) -> bool {
    kms_parts(text).is_some()
}

/// Partition, region and account of a KMS key's ARN.
pub fn kms_parts(arn: &str) -> Option<(&str, &str, &str)> {
    let [arn_, partition_, service, region_, owner, resource] =
        arn.splitn(6, ':').collect::<Vec<_>>().try_into().ok()?;
    let id = resource.strip_prefix("key/")?;
    let fits = arn_ == "arn"
        && service == "kms"
        && region(region_)
        && partition(region_) == partition_
        && account(owner)
        && sized(id, 1, 64)
        && all(id, |b| b.is_ascii_alphanumeric() || b == b'-');
    fits.then_some((partition_, region_, owner))
}

/// The ARN of a KMS key or alias.
pub fn kms_key_or_alias(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [arn, partition, "kms", place, owner, resource] = parts.as_slice() else { return false };
    let named = ["key/", "alias/"].iter().filter_map(|kind| resource.strip_prefix(kind)).any(|name| !name.is_empty());
    *arn == "arn"
        && partition.starts_with("aws")
        && region(place)
        && account(owner)
        && named
        && all(text, word_or(b":/-"))
}

/// `RoleSessionName`, STS API `AssumeRole`.
pub fn session_name(text: &str) -> bool {
    sized(text, 2, 64) && all(text, word_or(b"+=,.@-"))
}

/// `SourceIdentity`, STS API `AssumeRole`. No colon fits, so `aws:` cannot stand at the start.
pub fn source_identity(text: &str) -> bool {
    session_name(text)
}

/// `ExternalId`, STS API `AssumeRole`.
pub fn external_id(text: &str) -> bool {
    sized(text, 2, 1224) && all(text, word_or(b"+=,.@:/-"))
}

/// Key of a session tag, STS API `Tag`.
pub fn tag_key(text: &str) -> bool {
    let reserved = text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:"));
    (1..=128).contains(&text.chars().count()) && text.chars().all(in_tag) && !reserved
}

/// Value of a session tag, STS API `Tag`; may be empty.
pub fn tag_value(text: &str) -> bool {
    text.chars().count() <= 256 && text.chars().all(in_tag)
}

/// `[\p{L}\p{Z}\p{N}_.:/=+\-@]`; of the separators, only the plain space is let through.
fn in_tag(c: char) -> bool {
    c.is_alphanumeric() || " _.:/=+-@".contains(c)
}

/// The address of a service: `https://host[:port]`, or plain HTTP on this machine.
pub fn endpoint(text: &str) -> bool {
    match text.split_once("://") {
        Some(("https", authority)) => host(authority).is_some(),
        Some(("http", authority)) => host(authority).is_some_and(loopback),
        _ => false,
    }
}

/// The address of a proxy: `http://host[:port]` or `https://host[:port]`.
pub fn proxy(text: &str) -> bool {
    matches!(text.split_once("://"), Some(("http" | "https", authority)) if host(authority).is_some())
}

/// The host of `host[:port]`, when nothing else stands there: no user, no path, no query.
fn host(authority: &str) -> Option<&str> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port_fits =
        port.is_none_or(|port| all(port, |b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|n| n > 0));
    let named = sized(host, 1, 253) && all(host, |b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    (port_fits && (named || bracketed(host).is_some())).then_some(host)
}

fn bracketed(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

fn loopback(host: &str) -> bool {
    host == "localhost"
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || bracketed(host).is_some_and(|address| address.is_loopback())
}

/// A path from the root that no `..` bends.
pub fn absolute_path(text: &str) -> bool {
    text.starts_with('/') && !text.contains('\0') && !text.split('/').any(|part| part == "..")
}

/// Where to listen: an IP address and a port, or `off`.
pub fn listen(text: &str) -> bool {
    text == "off" || text.parse::<std::net::SocketAddr>().is_ok()
}

/// The name of an environment variable; upper case, so that a key pasted here is noticed.
pub fn variable(text: &str) -> bool {
    let upper = |b: u8| b.is_ascii_uppercase() || b == b'_';
    sized(text, 1, 255)
        && text.bytes().next().is_some_and(upper)
        && all(text, |b| upper(b) || b.is_ascii_digit())
        && !["AKIA", "ASIA"].iter().any(|start| text.starts_with(start))
}

/// The name of a profile of the shared AWS configuration.
pub fn profile(text: &str) -> bool {
    sized(text, 1, 255) && !text.chars().any(|c| c.is_control() || c == ']')
}

/// A group by its name or number.
pub fn group(text: &str) -> bool {
    sized(text, 1, 32) && all(text, word_or(b".-")) && !text.starts_with('-')
}

/// A directive that `tracing` understands.
pub fn log_filter(text: &str) -> bool {
    !text.trim().is_empty() && tracing_subscriber::EnvFilter::builder().parse(text).is_ok()
}

fn sized(text: &str, least: usize, most: usize) -> bool {
    (least..=most).contains(&text.len())
}

fn all(text: &str, fits: impl Fn(u8) -> bool) -> bool {
    text.bytes().all(fits)
}

fn ends(text: &str, fits: impl Fn(u8) -> bool) -> bool {
    text.bytes().next().is_some_and(&fits) && text.bytes().last().is_some_and(&fits)
}

fn lower_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// `\w` as AWS means it, ASCII only, and the other characters given.
fn word_or(others: &[u8]) -> impl Fn(u8) -> bool + '_ {
    move |byte| byte.is_ascii_alphanumeric() || byte == b'_' || others.contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agrees(fits: fn(&str) -> bool, good: &[&str], bad: &[&str]) {
        good.iter().for_each(|text| assert!(fits(text), "{text:?} should fit"));
        bad.iter().for_each(|text| assert!(!fits(text), "{text:?} should not fit"));
    }

    #[test]
    fn regions_are_known_by_their_shape() {
        agrees(
            region,
            &["eu-central-1", "us-gov-west-1", "cn-northwest-1", "eusc-de-east-1", "us-isob-east-1", "ap-southeast-12"],
            &[
                "",
                "eu",
                "eu-central",
                "EU-central-1",
                "eu-central-1a",
                "eu--1",
                "eu-central-1-x",
                "eu_central_1",
                "é-a-1",
            ],
        );
        let partitions =
            ["cn-north-1", "us-gov-east-1", "eusc-de-east-1", "us-iso-east-1", "us-isob-east-1", "il-central-1"];
        assert_eq!(partitions.map(partition), ["aws-cn", "aws-us-gov", "aws-eusc", "aws-iso", "aws-iso-b", "aws"]);
    }

    #[test]
    fn role_arns_have_a_partition_an_account_and_a_name() {
        agrees(
            role_arn,
            &["arn:aws:iam::111111111111:role/A", "arn:aws-cn:iam::012345678901:role/a/b/C+=,.@_-"],
            &[
                "admin",
                "arn:aws:iam::111111111111:user/A",
                "arn:aws:iam::111:role/A",
                "arn:aws:iam::111111111111:role/",
                "arn:aws:iam:eu-west-1:111111111111:role/A",
                "arn:aws:sts::111111111111:assumed-role/A/b",
                "arn:evil:iam::111111111111:role/A",
                "arn:aws:iam::111111111111:role/A B",
            ],
        );
    }

    #[test]
    fn kms_keys_are_named_by_their_own_arn_in_the_partition_of_their_region() {
        agrees(
            kms_key,
            &["arn:aws:kms:eu-west-1:111111111111:key/mrk-1234", "arn:aws-cn:kms:cn-north-1:111111111111:key/a-b"],
            &[
                "1234abcd-12ab-34cd-56ef-1234567890ab",
                "arn:aws:kms:eu-west-1:111111111111:alias/trail",
                "arn:aws:kms:cn-north-1:111111111111:key/a",
                "arn:aws:kms:eu-west-1:111111111111:key/",
                "arn:aws:kms:eu-west-1:111111111111:key/*",
            ],
        );
    }

    #[test]
    fn plain_http_is_for_loopback_alone() {
        agrees(
            endpoint,
            &[
                "https://s3.example",
                "https://s3.example:8443",
                "http://127.0.0.1:9000",
                "http://localhost",
                "http://[::1]:80",
            ],
            &[
                "http://s3.example",
                "http://127.0.0.1.example",
                "https://a@b",
                "https://a/b",
                "https://a?b",
                "https://",
                "https://a:0",
                "https://a:99999",
                "http://[::2]",
                "ftp://localhost",
                "localhost",
                "https://a:",
                "https://[::1",
            ],
        );
    }

    #[test]
    fn buckets_organizations_tags_and_variables_have_their_shapes() {
        agrees(bucket, &["abc", "a.b-c"], &["ab", "Abc", "a..b", "-abc", "abc-", "192.168.5.4", "a_b"]);
        agrees(organization, &["o-abcdefghij"], &["o-short", "abcdefghijkl", "o-ABCDEFGHIJ"]);
        agrees(tag_key, &["Team", "Größe 1"], &["", "aws:x", "AWS:x", "a,b", "a\u{a0}b", "a\tb"]);
        agrees(variable, &["KEY_ID", "_A1"], &["", "key", "1A", "AKIAIOSFODNN7EXAMPLE", "A-B"]);
        agrees(absolute_path, &["/", "/a/b"], &["", "a", "/a/../b", "./a"]);
        agrees(log_filter, &["info", "trailsync=debug,warn"], &["", "a=b=c", "info,[", "trailsync=loud"]);
    }
}
