//! What a checkpoint of a large fleet costs: `cargo test -p gridstep-collector --lib store::measure -- --ignored --nocapture`

use super::*;
use crate::fleet::{GpuMetric, GpuSlot, NodeSlot};
use crate::judge::{Judge, JudgeConfig};
use crate::state::tests::snapshot;

const NODES: u32 = 2_048;
const GPUS: u8 = 8;
/// As long as a GPU's trace is, and more.
const SECONDS: i64 = 300;

fn judge() -> Judge {
    let mut judge = Judge::new(JudgeConfig::default(), &[]);
    let mut random = 1u64;
    let mut noise = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 40) as f64 / (1 << 24) as f64
    };
    let job = judge.fleet_mut().job("pretrain");
    let slots: Vec<GpuSlot> = (0..NODES)
        .flat_map(|node| {
            let slot: NodeSlot = judge.fleet_mut().node(&format!("node{node:05}"));
            (0..GPUS).map(|gpu| judge.fleet_mut().gpu(slot, gpu)).collect::<Vec<_>>()
        })
        .collect();
    slots.iter().for_each(|&gpu| judge.put_gpu_job(gpu, Some(job)));
    let swept = [GpuMetric::Up, GpuMetric::Temperature, GpuMetric::SmClock, GpuMetric::SmActive, GpuMetric::TensorActive];
    for tick in 0..SECONDS * 10 {
        let now = Micros(1_760_000_000_000_000 + tick * 100_000);
        judge.advance(now);
        for &gpu in &slots {
            judge.put_gpu_power(gpu, now - 300_000, 500.0 + 30.0 * noise());
            if tick % 10 == 0 {
                swept.iter().for_each(|&metric| judge.put_gpu(gpu, metric, now - 300_000, 0.9 + 0.1 * noise()));
            }
        }
    }
    judge
}

fn resident() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().filter(|line| line.starts_with("VmRSS")).collect()
}

#[test]
#[ignore = "takes minutes and says figures"]
fn a_checkpoint_of_16384_gpus() {
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let store = Store::open(folder.path()).unwrap();
    let judge = judge();
    println!("{}", resident());
    println!("{} GPUs, judged until {:?}", judge.fleet().gpus().len(), judge.judged_until());
    for lessons in [true, false, false] {
        let begun = Instant::now();
        let snapshot = Snapshot { judge: judge.clone(), ..snapshot(Vec::new()) };
        let copied = begun.elapsed();
        println!("{}", resident());
        let mut sink = io::Cursor::new(Vec::new());
        let begun = Instant::now();
        let bytes = crate::state::encode(&snapshot, &mut sink).unwrap();
        let encoded = begun.elapsed();
        let begun = Instant::now();
        store.checkpoint(&snapshot, &[], lessons).unwrap();
        let written = begun.elapsed();
        let begun = Instant::now();
        let mut writer = store.writer();
        writer.database.execute_batch("CREATE TABLE IF NOT EXISTS blob (one INTEGER PRIMARY KEY, bytes BLOB)").unwrap();
        let transaction = writer.database.transaction().unwrap();
        transaction.execute("INSERT OR REPLACE INTO blob VALUES (1, ?1)", [sink.get_ref()]).unwrap();
        transaction.commit().unwrap();
        println!(
            "copy {copied:?}, encode {encoded:?}, {bytes} bytes; as a file, encoded and named (lessons: {lessons}) {written:?}; \
             as a blob, without encoding {:?}",
            begun.elapsed()
        );
    }
}
