//! The typed options, from settings that were found to be good.

use std::time::Duration;

use super::check::Settings;
use super::mistake::Mistake;
use super::options::{
    AfterMirror, Concurrency, Config, Credentials, Destination, Endpoints, Http, Log, LogFormat, ObjectLock, OwnBucket,
    Poll, Proof, Require, Role, Scrub, Source, State, Storage,
};
use super::section::Section;
use super::shape;

/// The configuration as the program uses it.
///
/// # Errors
/// Names the first value that is not there; none, when everything was checked before.
pub fn config(settings: &Settings) -> Result<Config, Mistake> {
    let global = Section::global(settings);
    let sources = Section::sources(settings).into_iter().map(|section| Ok((name_of(&section), source(&section)?)));
    Ok(Config {
        state: State { dir: text(&global, "state.dir")?.into(), ledger_days: number(&global, "state.ledger_days")? },
        log: Log { format: log_format(&global), filter: text(&global, "log.filter")? },
        http: Http {
            listen: text(&global, "http.listen")?.parse().ok(),
            token_file: optional(&global, "http.token_file").map(Into::into),
        },
        concurrency: Concurrency {
            objects: number(&global, "concurrency.objects")?,
            passes: number(&global, "concurrency.passes")?,
        },
        scrub: Scrub { mib_per_second: number(&global, "scrub.mib_per_second")?, every: span(&global, "scrub.every")? },
        sources: sources.collect::<Result<_, Mistake>>()?,
    })
}

fn log_format(global: &Section<'_>) -> LogFormat {
    match global.text("log.format") {
        Some("human") => LogFormat::Human,
        Some("json") => LogFormat::Json,
        _ => LogFormat::Auto,
    }
}

fn source(section: &Section<'_>) -> Result<Source, Mistake> {
    Ok(Source {
        name: name_of(section),
        bucket: text(section, "bucket")?,
        region: text(section, "region")?,
        bucket_owner: optional(section, "bucket_owner"),
        prefix: text(section, "prefix")?,
        organization: optional(section, "organization"),
        kinds: texts(section, "kinds")?,
        accounts: texts(section, "accounts")?,
        regions: texts(section, "regions")?,
        since: section.time("since"),
        source_retention: section.duration("source_retention"),
        kms_keys: texts(section, "kms_keys")?,
        role: section.has("role").then(|| role(section, None)).transpose()?,
        credentials: credentials(section)?,
        destination: storage(section)?,
        poll: poll(section)?,
        proof: Proof { grace: span(section, "proof.grace")? },
        after_mirror: section.has("after_mirror").then(|| after_mirror(section)).transpose()?,
        concurrency: number(section, "concurrency")?,
        endpoints: endpoints(section)?,
    })
}

fn role(section: &Section<'_>, sts_region: Option<&str>) -> Result<Role, Mistake> {
    Ok(Role {
        arn: text(section, "role.arn")?,
        session_name: text(section, "role.session_name")?,
        external_id: optional(section, "role.external_id"),
        duration: span(section, "role.duration")?,
        source_identity: optional(section, "role.source_identity"),
        tags: section.tags("role.tags").cloned().unwrap_or_default(),
        session_policy: flag(section, "role.session_policy")?,
        sts_region: match optional(section, "role.sts_region") {
            Some(region) => region,
            None => sts_region.map(str::to_owned).ok_or_else(|| section.missing("role.sts_region"))?,
        },
    })
}

fn credentials(section: &Section<'_>) -> Result<Credentials, Mistake> {
    let one = |name: &str| text(section, &format!("credentials.{name}"));
    let maybe = |name: &str| optional(section, &format!("credentials.{name}"));
    if let Some(profile) = maybe("profile") {
        return Ok(Credentials::Profile(profile));
    }
    if maybe("access_key_id_file").is_some() {
        return Ok(Credentials::Files {
            access_key_id: one("access_key_id_file")?.into(),
            secret_access_key: one("secret_access_key_file")?.into(),
            session_token: maybe("session_token_file").map(Into::into),
        });
    }
    if maybe("access_key_id_env").is_some() {
        return Ok(Credentials::Environment {
            access_key_id: one("access_key_id_env")?,
            secret_access_key: one("secret_access_key_env")?,
            session_token: maybe("session_token_env"),
        });
    }
    Ok(Credentials::Default)
}

/// How many MiB a copy has before it is uploaded in parts.
const MULTIPART_MIB: u64 = 16;

fn storage(section: &Section<'_>) -> Result<Storage, Mistake> {
    match section.text("destination.bucket") {
        None => destination(section).map(Storage::Tree),
        Some(_) => own_bucket(section).map(|bucket| Storage::Bucket(Box::new(bucket))),
    }
}

fn own_bucket(source: &Section<'_>) -> Result<OwnBucket, Mistake> {
    let section = &source.destination();
    let region = optional(section, "region").map_or_else(|| text(source, "region"), Ok)?;
    let role = section.has("role").then(|| role(section, Some(&region))).transpose()?;
    let account = role.as_ref().and_then(|role| shape::role_parts(&role.arn)).map(|(_, account)| account.to_owned());
    Ok(OwnBucket {
        bucket: text(section, "bucket")?,
        prefix: optional(section, "prefix").unwrap_or_default(),
        region,
        bucket_owner: optional(section, "bucket_owner").or(account),
        role,
        credentials: credentials(section)?,
        endpoints: endpoints(section)?,
        storage_class: optional(section, "storage_class"),
        sse: optional(section, "sse"),
        kms_key_id: optional(section, "kms_key_id"),
        object_lock: section.has("object_lock").then(|| object_lock(section)).transpose()?,
        multipart_mib: section.integer("multipart_mib").unwrap_or(MULTIPART_MIB),
        server_side_copy: section.flag("server_side_copy").unwrap_or(false),
    })
}

fn object_lock(section: &Section<'_>) -> Result<ObjectLock, Mistake> {
    Ok(ObjectLock { mode: text(section, "object_lock.mode")?, days: number(section, "object_lock.days")? })
}

fn destination(section: &Section<'_>) -> Result<Destination, Mistake> {
    let mode = |name: &str| section.mode(name).ok_or_else(|| section.missing(name));
    Ok(Destination {
        path: text(section, "destination.path")?.into(),
        file_mode: mode("destination.file_mode")?,
        dir_mode: mode("destination.dir_mode")?,
        group: optional(section, "destination.group"),
        allow_volatile: flag(section, "destination.allow_volatile")?,
        reserve_mib: section.integer("destination.reserve_mib"),
    })
}

fn poll(section: &Section<'_>) -> Result<Poll, Mistake> {
    Ok(Poll {
        every: span(section, "poll.every")?,
        idle_every: span(section, "poll.idle_every")?,
        min_window: span(section, "poll.min_window")?,
        max_window: span(section, "poll.max_window")?,
        tiers: section.tiers("poll.lookback").ok_or_else(|| section.missing("poll.lookback"))?.to_vec(),
        full_every: span(section, "poll.full_every")?,
        tail_every: span(section, "poll.tail_every")?,
        discover_every: span(section, "poll.discover_every")?,
    })
}

fn after_mirror(section: &Section<'_>) -> Result<AfterMirror, Mistake> {
    Ok(AfterMirror {
        delete_after: span(section, "after_mirror.delete_after")?,
        require: match text(section, "after_mirror.require")?.as_str() {
            "stored" => Require::Stored,
            _ => Require::Proven,
        },
        most: number(section, "after_mirror.most")?,
    })
}

fn endpoints(section: &Section<'_>) -> Result<Endpoints, Mistake> {
    Ok(Endpoints {
        s3: optional(section, "endpoints.s3"),
        sts: optional(section, "endpoints.sts"),
        cloudtrail: optional(section, "endpoints.cloudtrail"),
        path_style: section.flag("endpoints.path_style").unwrap_or_default(),
        fips: section.flag("endpoints.fips").unwrap_or_default(),
        dual_stack: section.flag("endpoints.dual_stack").unwrap_or_default(),
        ca_bundle: optional(section, "endpoints.ca_bundle").map(Into::into),
        proxy: optional(section, "endpoints.proxy"),
    })
}

fn name_of(section: &Section<'_>) -> String {
    section.source.unwrap_or_default().to_owned()
}

fn text(section: &Section<'_>, name: &str) -> Result<String, Mistake> {
    optional(section, name).ok_or_else(|| section.missing(name))
}

fn optional(section: &Section<'_>, name: &str) -> Option<String> {
    section.text(name).map(str::to_owned)
}

fn texts(section: &Section<'_>, name: &str) -> Result<Vec<String>, Mistake> {
    section.texts(name).map(<[String]>::to_vec).ok_or_else(|| section.missing(name))
}

fn span(section: &Section<'_>, name: &str) -> Result<Duration, Mistake> {
    section.duration(name).ok_or_else(|| section.missing(name))
}

fn flag(section: &Section<'_>, name: &str) -> Result<bool, Mistake> {
    section.flag(name).ok_or_else(|| section.missing(name))
}

fn number<T: TryFrom<u64>>(section: &Section<'_>, name: &str) -> Result<T, Mistake> {
    section.integer(name).and_then(|n| T::try_from(n).ok()).ok_or_else(|| section.missing(name))
}
