//! What the proof costs beside the mirroring.

use std::time::Instant;

use crate::bench::{Bench, HOUR};

/// Processor time of this process so far, in hundredths of a second (proc(5), `/proc/self/stat`).
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
#[ignore = "measures; run it alone, with `--ignored --nocapture`"]
async fn the_processor_time_of_the_proof() {
    let mut bench = Bench::new().await;
    const LOGS: u64 = 4_800;
    for _ in 0..24 {
        for _ in 0..LOGS / 24 {
            bench.log(60);
        }
        bench.advance(HOUR);
        bench.digest();
    }
    bench.advance(300);
    let (before, began) = (cpu_ticks(), Instant::now());
    bench.list().await;
    let (mirrored, listed) = (cpu_ticks(), began.elapsed());
    bench.prove().await;
    let (proved, all) = (cpu_ticks(), began.elapsed());
    assert_eq!(bench.through().await, Some(bench.trail.covered));
    let (mirror, proof) = ((mirrored - before) * 10, (proved - mirrored) * 10);
    println!(
        "{LOGS} logs: mirrored in {mirror} ms of processor time ({listed:?}), proved in {proof} ms ({:?})",
        all - listed
    );
    println!("the proof is {:.1} % of the mirroring", 100.0 * proof as f64 / mirror as f64);
}
