//! Variables and flags: which option each one sets. Their values stay text.
//!
//! `TRAILSYNC_SOURCE__PROD_EU__ROLE__EXTERNAL_ID` sets `source.prod-eu.role.external_id`: two
//! underscores part the names, letters become small, and in the name of a source, which has no
//! underscores, one underscore is a `-`. With `_FILE` at its end a variable names the file that holds
//! the value. `TRAILSYNC_LOG` is short for `TRAILSYNC_LOG__FILTER`; `TRAILSYNC_CONFIG` names the file
//! and is read by the command line.

use std::collections::BTreeMap;
use std::io::Read as _;

use super::layers::Layer;
use super::mistake::{Mistake, Origin, nearest, quoted};
use super::place::{self, Place};
use super::shape;
use super::table::OPTIONS;
use super::value::Kind;

const PREFIX: &str = "TRAILSYNC_";

/// Variables that set no option: the command line reads them, or a test build.
const RESERVED: &[&str] = &[
    "TRAILSYNC_CONFIG",
    #[cfg(feature = "failpoints")]
    "TRAILSYNC_FAILPOINT",
];

/// Short names of variables.
const ALIASES: &[(&str, &str)] = &[("TRAILSYNC_LOG", "log.filter")];

/// Longest value that is read from a file.
const LONGEST: u64 = 64 * 1024;

/// A layer for each variable, and every variable that cannot be used.
pub fn read(environment: &BTreeMap<String, String>) -> (Vec<Layer>, Vec<Mistake>) {
    let mut layers = Vec::new();
    let mut mistakes = Vec::new();
    let mut setters: BTreeMap<Vec<String>, &str> = BTreeMap::new();
    for (name, value) in environment.iter().filter(|(name, value)| is_ours(name, value)) {
        let (path, text) = match setting(name, value) {
            Ok(setting) => setting,
            Err(mistake) => {
                mistakes.push(mistake);
                continue;
            }
        };
        if let Some(other) = setters.insert(path.clone(), name) {
            mistakes.push(Mistake::at(name, format!("sets what {other} sets too")).mend("keep one of the two"));
        }
        let mut layer = Layer::new(Origin::Environment(name.clone()));
        layer.set(&path, text);
        layers.push(layer);
    }
    (layers, mistakes)
}

/// A layer for each flag, and every flag that cannot be used. Of two that set the same, the later wins.
pub fn read_flags(overrides: &[(String, String)]) -> (Vec<Layer>, Vec<Mistake>) {
    let mut layers = Vec::new();
    let mut mistakes = Vec::new();
    for (path, value) in overrides {
        let parts = place::parts(path);
        match place::at(&parts) {
            Place::Option(_) => {
                let mut layer = Layer::new(Origin::Flag(path.clone()));
                layer.set(&parts, value.clone());
                layers.push(layer);
            }
            place => mistakes.push(unusable(path, &parts, &place, &|path| path.to_owned())),
        }
    }
    (layers, mistakes)
}

/// The variable that sets the option at `path`.
pub fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").replace('-', "_").to_uppercase())
}

fn is_ours(name: &str, value: &str) -> bool {
    name.starts_with(PREFIX) && !RESERVED.contains(&name) && !is_service_link(name, value)
}

/// Whether Kubernetes set the variable because a Service is called `trailsync` or `trailsync-…`.
///
/// It does so in every Pod of the namespace, unless `enableServiceLinks` is false (Kubernetes,
/// "Accessing the Service", environment variables): `…_SERVICE_HOST`, `…_SERVICE_PORT_…`, `…_PORT` and
/// `…_PORT_<number>_<protocol>_…`. Options of this program have two underscores.
fn is_service_link(name: &str, value: &str) -> bool {
    let protocols = ["tcp://", "udp://", "sctp://"];
    let numbered = |(_, rest): (&str, &str)| {
        let (number, rest) = rest.split_once('_').unwrap_or((rest, ""));
        let protocol = rest.split('_').next().unwrap_or_default();
        number.parse::<u16>().is_ok() && ["TCP", "UDP", "SCTP"].contains(&protocol)
    };
    !name.contains("__")
        && (name.ends_with("_SERVICE_HOST")
            || name.ends_with("_SERVICE_PORT")
            || name.contains("_SERVICE_PORT_")
            || (name.ends_with("_PORT") && protocols.iter().any(|protocol| value.starts_with(protocol)))
            || name.split_once("_PORT_").is_some_and(numbered))
}

/// Path and text that a variable stands for.
fn setting(name: &str, value: &str) -> Result<(Vec<String>, String), Mistake> {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    let mut path = alias.map_or_else(|| path_of(name), |(_, path)| place::parts(path));
    if path.len() > 2 && path[0] == "source" && !shape::source_name(&path[1]) {
        return Err(Mistake::at(name, format!("{} cannot be the name of a source", quoted(&path[1])))
            .mend(format!("for example {}", variable("source.prod.bucket"))));
    }
    let place = place::at(&path);
    if let Place::Option(_) = place {
        return Ok((path, value.to_owned()));
    }
    let bare = path.last().and_then(|last| last.strip_suffix("_file")).map(str::to_owned);
    if let (Some(last), Some(bare)) = (path.last_mut(), bare) {
        let whole = std::mem::replace(last, bare);
        if let Place::Option(_) = place::at(&path) {
            return read_value(name, value).map(|text| (path, text));
        }
        if let Some(last) = path.last_mut() {
            *last = whole;
        }
    }
    Err(unusable(name, &path, &place, &variable))
}

fn path_of(name: &str) -> Vec<String> {
    let mut path: Vec<String> =
        name.strip_prefix(PREFIX).unwrap_or(name).split("__").map(str::to_ascii_lowercase).collect();
    if path[0] == "source" && path.len() > 1 {
        path[1] = path[1].replace('_', "-");
    }
    path
}

/// The value in a file, without the line's end that editors and `echo` leave.
fn read_value(name: &str, file: &str) -> Result<String, Mistake> {
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|opened| opened.take(LONGEST).read_to_string(&mut text));
    match read {
        Ok(_) => {
            Ok(text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line)).to_owned())
        }
        Err(error) => Err(Mistake::at(name, format!("names a file that cannot be read: {error}"))
            .mend("give the path of a file that holds the value and nothing else")),
    }
}

/// Why a name sets nothing; `show` writes paths in the form in which the name came.
fn unusable(name: &str, path: &[String], place: &Place, show: &dyn Fn(&str) -> String) -> Mistake {
    let parent = &path[..path.len().saturating_sub(1)];
    match (place, place::at(parent)) {
        (Place::Refused(instead), _) => Mistake::at(name, "holds key material in the open")
            .mend(format!("keep it in a file or another variable and name that with {instead}")),
        (Place::Table | Place::Option(_), _) => {
            let inside: Vec<String> = place::names_in(path).into_iter().map(str::to_owned).collect();
            Mistake::at(name, "is a table, which has no value of its own")
                .mend(format!("set what is in it: {}", inside.join(", ")))
        }
        (Place::Nowhere, Place::Option(option)) if matches!(option.kind, Kind::Tags) => {
            let tags = show(&parent.join("."));
            Mistake::at(name, "sets a single tag, whose case a variable cannot keep")
                .mend(format!("set all tags in one value: {tags}={}", option.example))
        }
        (Place::Nowhere, _) => {
            let source = path.get(1).filter(|name| path[0] == "source" && shape::source_name(name));
            let source = source.map_or("prod", String::as_str);
            let names: Vec<String> = OPTIONS.iter().map(|option| show(&option.path_in(source))).collect();
            Mistake::at(name, "is no option").meant(nearest(name, names.iter().map(String::as_str)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_paths_are_each_others_inverse() {
        for option in OPTIONS {
            let path = option.path_in("prod-eu-1");
            assert_eq!(path_of(&variable(&path)).join("."), path);
        }
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_is_left_alone() {
        let links = [
            ("TRAILSYNC_SERVICE_HOST", "10.0.0.1"),
            ("TRAILSYNC_SERVICE_PORT", "9090"),
            ("TRAILSYNC_SERVICE_PORT_HTTP", "9090"),
            ("TRAILSYNC_PORT", "tcp://10.0.0.1:9090"),
            ("TRAILSYNC_PORT_9090_TCP", "tcp://10.0.0.1:9090"),
            ("TRAILSYNC_PORT_9090_TCP_ADDR", "10.0.0.1"),
            ("TRAILSYNC_WEB_PORT_9090_TCP_PROTO", "tcp"),
        ];
        links.iter().for_each(|(name, value)| assert!(!is_ours(name, value), "{name}"));
        let ours = [("TRAILSYNC_PORT", "9090"), ("TRAILSYNC_STATE__DIR", "/x"), ("TRAILSYNC_PORT_X_TCP", "y")];
        ours.iter().for_each(|(name, value)| assert!(is_ours(name, value), "{name}"));
    }
}
