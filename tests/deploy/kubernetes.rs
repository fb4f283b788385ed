//! The Kubernetes manifests: rendered by kubectl, held against the API's schemas, and as strict as "restricted" asks.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::judge::{judge, said};

/// The manifests of one kustomization as YAML; `None` without kubectl.
fn rendered(name: &str) -> Option<String> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes").join(name);
    let output = judge("kubectl")?.arg("kustomize").arg(place).output().expect("it runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
    Some(String::from_utf8(output.stdout).expect("UTF-8"))
}

fn documents(yaml: &str) -> Option<Vec<Value>> {
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))";
    let mut child =
        judge("python")?.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    child.stdin.take().expect("piped").write_all(yaml.as_bytes()).expect("written");
    serde_json::from_slice(&child.wait_with_output().expect("it ends").stdout).expect("JSON")
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    documents.iter().find(|document| document["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

fn validated(yaml: &str) -> Option<Output> {
    let dir = tempfile::tempdir().expect("a directory");
    let path: PathBuf = dir.path().join("all.yaml");
    std::fs::write(&path, yaml).expect("written");
    Some(judge("kubernetes-validate")?.arg("--strict").arg(&path).output().expect("it runs"))
}

#[test]
fn every_manifest_is_what_the_api_takes() {
    for (name, least) in [("base", 5), ("overlays/example", 6)] {
        let Some(yaml) = rendered(name) else { return };
        let Some(verdict) = validated(&yaml) else { return };
        let text = said(&verdict);
        assert!(verdict.status.success(), "{name}: {text}");
        assert!(text.matches(" passed ").count() >= least, "{name}: {text}");
        // Of the Prometheus operator's own kind no schema is known there; what it says is looked at below.
        let unknown: Vec<&str> = text.lines().filter(|line| line.starts_with("WARN")).collect();
        assert!(unknown.len() == 1 && unknown[0].contains("PodMonitor"), "{name}: {text}");
        for (right, wrong) in [("replicas: 1", "replicas: one"), ("maxUnavailable", "maxUnavailabel")] {
            let verdict = validated(&yaml.replace(right, wrong)).expect("a judge");
            assert!(!verdict.status.success(), "{wrong} passes");
        }
    }
}

#[test]
fn the_pod_is_as_restricted_as_the_standard_asks() {
    let Some(yaml) = rendered("overlays/example") else { return };
    let Some(documents) = documents(&yaml) else { return };
    let pod = &of_kind(&documents, "StatefulSet")["spec"]["template"]["spec"];
    // Pod Security Standards, "restricted".
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod[host].is_null(), "{host}");
    }
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let container = &pod["containers"][0];
    let security = &container["securityContext"];
    assert_eq!(security["capabilities"], json!({ "drop": ["ALL"] }));
    assert_eq!((&security["allowPrivilegeEscalation"], &security["privileged"]), (&json!(false), &Value::Null));
    assert_eq!(security["readOnlyRootFilesystem"], true);
    let kinds =
        ["configMap", "secret", "emptyDir", "projected", "downwardAPI", "persistentVolumeClaim", "ephemeral", "csi"];
    for volume in pod["volumes"].as_array().expect("volumes") {
        assert!(kinds.iter().any(|kind| !volume[kind].is_null()), "{volume}");
    }
    let secret = pod["volumes"].as_array().expect("volumes").iter().find(|volume| volume["name"] == "secrets");
    assert_eq!(secret.expect("a secret")["secret"]["defaultMode"], 0o440);
    let namespace = of_kind(&documents, "Namespace");
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
}

#[test]
fn what_finds_the_pod_finds_it_and_its_port() {
    let Some(yaml) = rendered("overlays/example") else { return };
    let Some(documents) = documents(&yaml) else { return };
    let set = &of_kind(&documents, "StatefulSet")["spec"];
    let labels = set["template"]["metadata"]["labels"].as_object().expect("labels");
    let selectors = [
        &set["selector"]["matchLabels"],
        &of_kind(&documents, "Service")["spec"]["selector"],
        &of_kind(&documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        &of_kind(&documents, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        &of_kind(&documents, "PodMonitor")["spec"]["selector"]["matchLabels"],
    ];
    for selector in selectors {
        let selector = selector.as_object().expect("a selector");
        assert!(!selector.is_empty() && selector.iter().all(|(name, value)| labels.get(name) == Some(value)));
    }
    let container = &set["template"]["spec"]["containers"][0];
    let port = &container["ports"][0];
    let endpoint = &of_kind(&documents, "PodMonitor")["spec"]["podMetricsEndpoints"][0];
    assert_eq!((&endpoint["port"], &endpoint["path"]), (&port["name"], &json!("/metrics")));
    assert_eq!(endpoint["relabelings"][0], json!({ "targetLabel": "job", "replacement": "trailsync" }));
    assert_eq!(endpoint["authorization"]["credentials"], json!({ "name": "trailsync", "key": "http_token" }));
    for (probe, path) in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"], json!({ "path": path, "port": port["name"] }));
    }
}

#[test]
fn the_example_s_configuration_is_understood_and_fits_the_volumes() {
    let Some(yaml) = rendered("overlays/example") else { return };
    let Some(documents) = documents(&yaml) else { return };
    let map = of_kind(&documents, "ConfigMap");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("trailsync.toml");
    std::fs::write(&path, map["data"]["trailsync.toml"].as_str().expect("a file")).expect("written");
    let mut config = Command::new(env!("CARGO_BIN_EXE_trailsync"));
    let output = config.env_clear().args(["config", "--json", "--config"]).arg(&path).output().expect("it runs");
    assert!(output.status.success(), "{}", said(&output));
    let warnings = String::from_utf8_lossy(&output.stderr).into_owned();
    let about_the_token = |line: &str| line.contains("/run/secrets/trailsync/http_token");
    assert!(warnings.lines().filter(|line| line.starts_with("warning:")).all(about_the_token), "{warnings}");
    let set = &of_kind(&documents, "StatefulSet")["spec"];
    let spec = &set["template"]["spec"];
    let mounts = spec["containers"][0]["volumeMounts"].as_array().expect("mounts");
    let text = String::from_utf8_lossy(&output.stdout);
    for (mount, place) in [("state", "/var/lib/trailsync/state"), ("mirror", "/mirror/prod")] {
        let mount = mounts.iter().find(|one| one["name"] == mount).expect("a mount");
        assert!(place.starts_with(mount["mountPath"].as_str().expect("a path")) && text.contains(place), "{place}");
    }
    let variable = spec["containers"][0]["env"][0]["value"].as_str().expect("a value");
    assert!(mounts.iter().any(|one| variable.starts_with(one["mountPath"].as_str().unwrap_or("?"))), "{variable}");
    let config = spec["volumes"].as_array().expect("volumes").iter().find(|one| one["name"] == "config");
    assert_eq!(config.expect("a volume")["configMap"]["name"], map["metadata"]["name"], "a change restarts the pod");
}
