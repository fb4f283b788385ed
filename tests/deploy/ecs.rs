//! The ECS documents: what the API takes, what the program understands, and no more rights than it needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::judge::{file, judge, said};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/ecs").join(name)
}

fn document(name: &str) -> Value {
    serde_json::from_str(&file(&format!("deploy/ecs/{name}"))).expect("JSON")
}

/// What the container's environment holds, with something in place of each secret.
fn environment() -> BTreeMap<String, String> {
    let task = document("task-definition.json");
    let container = &task["containerDefinitions"][0];
    let list = |name: &str| container[name].as_array().expect("a list").clone();
    let name = |entry: &Value| entry["name"].as_str().expect("a name").to_owned();
    let plain = list("environment").into_iter();
    let plain = plain.map(|entry| (name(&entry), entry["value"].as_str().expect("a value").to_owned()));
    plain.chain(list("secrets").iter().map(|entry| (name(entry), "Z-7d1c0f9e".to_owned()))).collect()
}

fn program(args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_trailsync")).env_clear().envs(environment()).args(args).output().expect("it runs")
}

#[test]
fn the_service_takes_task_definition_and_service_as_they_are() {
    let Some(mut python) = judge("python") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/ecs.py");
    python.arg(&script).arg("RegisterTaskDefinition").arg(path("task-definition.json"));
    let verdict = python.arg("CreateService").arg(path("service.json")).output().expect("it runs");
    assert!(verdict.status.success(), "{}", said(&verdict));
    let dir = tempfile::tempdir().expect("a directory");
    for (right, wrong) in [("\"networkMode\"", "\"networkMoad\""), ("\"awsvpc\"", "\"awsvcp\""), ("30", "\"soon\"")] {
        let nonsense = dir.path().join("task.json");
        std::fs::write(&nonsense, file("deploy/ecs/task-definition.json").replacen(right, wrong, 1)).expect("written");
        let mut python = judge("python").expect("a judge");
        let verdict = python.arg(&script).arg("RegisterTaskDefinition").arg(nonsense).output().expect("it runs");
        assert_eq!(verdict.status.code(), Some(1), "{wrong} passes: {}", said(&verdict));
    }
}

#[test]
fn the_container_s_variables_are_a_whole_configuration_and_the_role_may_do_what_it_needs() {
    let config = program(&["config"]);
    assert!(config.status.success() && config.stderr.is_empty(), "{}", said(&config));
    let task = document("task-definition.json");
    let role = task["taskRoleArn"].as_str().expect("a role");
    let policy = program(&["policy", "--side", "consumer", "--caller", role, "--format", "json"]);
    assert!(policy.status.success(), "{}", said(&policy));
    let printed: Value = serde_json::from_slice(&policy.stdout).expect("JSON");
    let mut documents = printed["documents"].as_array().expect("documents").iter();
    let caller = documents.find(|document| document["attachment"] == "caller").expect("the task role's");
    assert_eq!(caller["policy"], document("task-role-policy.json"), "print it anew");
}

#[test]
fn the_task_is_one_without_privileges_and_its_state_outlives_it_and_is_no_nfs() {
    let (task, service) = (document("task-definition.json"), document("service.json"));
    let container = &task["containerDefinitions"][0];
    assert_eq!(container["user"], "65532:65532");
    assert_eq!(container["readonlyRootFilesystem"], true);
    assert_eq!(container["linuxParameters"]["capabilities"]["drop"][0], "ALL");
    assert_eq!(container["healthCheck"]["command"], serde_json::json!(["CMD", "/usr/bin/trailsync", "health"]));
    assert_eq!(container["mountPoints"][0]["containerPath"], "/var/lib/trailsync");
    let volume = &task["volumes"][0];
    assert_eq!(volume["name"], container["mountPoints"][0]["sourceVolume"]);
    assert_eq!(volume["dockerVolumeConfiguration"]["scope"], "shared");
    assert!(volume["efsVolumeConfiguration"].is_null());
    // Never two at once: the state belongs to one.
    assert_eq!(
        (&service["desiredCount"], &service["deploymentConfiguration"]["maximumPercent"]),
        (&1.into(), &100.into())
    );
}
