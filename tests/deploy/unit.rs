//! systemd itself reads the unit, and says how much it leaves open.

use crate::judge::{file, judge, said};

const UNIT: &str = "deploy/systemd/trailsync.service";
/// Tenths of systemd's scale.
const EXPOSURE: &str = "11";

#[test]
fn systemd_understands_every_line_of_the_unit() {
    let Some(mut analyze) = judge("systemd-analyze") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    // Here the program is elsewhere, and its page is not installed; both are looked at when the package is.
    let here = |text: &str| {
        let text = text.replace("/usr/bin/trailsync", env!("CARGO_BIN_EXE_trailsync"));
        let lines = text.lines().filter(|line| !line.starts_with("Documentation=man:")).collect::<Vec<_>>();
        let path = dir.path().join("trailsync.service");
        std::fs::write(&path, lines.join("\n")).expect("written");
        path
    };
    let verdict = analyze.arg("verify").arg("--recursive-errors=no").arg(here(&file(UNIT))).output().expect("it runs");
    assert!(verdict.status.success() && said(&verdict).trim().is_empty(), "{}", said(&verdict));
    let nonsense = here(&file(UNIT).replace("ProtectSystem=strict", "ProtectSystem=mostly"));
    let Some(mut analyze) = judge("systemd-analyze") else { return };
    let verdict = analyze.arg("verify").arg("--recursive-errors=no").arg(nonsense).output().expect("it runs");
    assert!(said(&verdict).contains("protect system"), "nonsense passes: {}", said(&verdict));
}

#[test]
fn the_unit_leaves_no_more_open_than_it_must() {
    let exposure = |unit: &std::path::Path| {
        let mut analyze = judge("systemd-analyze")?;
        analyze.args(["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE]).arg(unit);
        Some(analyze.output().expect("it runs"))
    };
    let unit = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(UNIT);
    let Some(verdict) = exposure(&unit) else { return };
    assert!(verdict.status.success(), "{}", said(&verdict));
    assert!(said(&verdict).contains("Overall exposure level"), "{}", said(&verdict));
    let dir = tempfile::tempdir().expect("a directory");
    let looser = dir.path().join("trailsync.service");
    std::fs::write(&looser, file(UNIT).replace("NoNewPrivileges=yes\n", "").replace("PrivateDevices=yes\n", ""))
        .expect("written");
    assert!(exposure(&looser).is_some_and(|verdict| !verdict.status.success()), "a looser unit passes");
}
