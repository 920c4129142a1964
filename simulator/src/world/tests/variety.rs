//! Healthy GPUs differ, each for good.

use super::*;

fn fleet(more: &str) -> Vec<Gpu> {
    let text = format!(
        "nodes = 8\n{more}\n[[job]]\nname = \"j\"\nnode_count = 8\nend = 1000.0\n\
         [[job.phase]]\nkind = \"compute\"\nseconds = 2.0\nwatts = 600.0\nsm_active = 0.9\n"
    );
    let world = World::new(Scenario::parse(&text).unwrap());
    (0..8).flat_map(|node| world.node(node)).collect()
}

/// Smallest and largest.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
}

#[test]
fn clocks_watts_and_temperatures_spread_as_told() {
    let gpus = fleet("");
    let clock = |gpu: &Gpu| gpu.at(500.0)[Channel::Clock as usize];
    let (low, high) = range(gpus.iter().map(clock));
    assert!(low >= MAX_CLOCK * 0.994 && high <= MAX_CLOCK && high - low > 5.0, "{low} to {high}");
    let (low, high) = range(gpus.iter().map(|gpu| watts(gpu.at(2000.0))));
    assert!(low >= 72.0 && high <= 78.0 && high - low > 3.0, "{low} to {high}");
    // Sorted by position, averaged over nodes: the last row is the warmest.
    let row = |index: u32| gpus.iter().filter(|g| g.index == index).map(|g| g.temperature(500.0)).sum::<f64>() / 8.0;
    assert!((2.0..8.0).contains(&(row(7) - row(0))), "{} and {}", row(0), row(7));
    let (low, high) = range(gpus.iter().map(|g| g.temperature(500.0)));
    assert!(low > 48.0 && high < 70.0, "{low} to {high}");
}

#[test]
fn without_variety_all_are_alike() {
    let none = "[variety]\nwatts = 0.0\nidle_watts = 0.0\nclock = 0.0\nthermal_resistance = 0.0\ninlet_celsius = 0.0\nnode_inlet_celsius = 0.0";
    let gpus = fleet(none);
    for gpu in &gpus {
        assert_eq!(gpu.at(500.0), gpus[0].at(500.0));
        assert_eq!((watts(gpu.at(2000.0)), gpu.temperature(500.0)), (IDLE_WATTS, gpus[0].temperature(500.0)));
    }
}

#[test]
fn the_clock_that_is_told_averages_to_the_true_one() {
    let gpus = fleet("");
    let gpu = gpus.iter().find(|g| g.at(500.0)[Channel::Clock as usize] < 1975.0).expect("one in 64 is below 1975 MHz");
    let told: Vec<u32> = (0..20_000).map(|i| gpu.clock_mhz(100.0 + f64::from(i) * 0.01)).collect();
    assert!(told.iter().all(|mhz| mhz.is_multiple_of(15) && (1965..=1980).contains(mhz)));
    let mean = told.iter().map(|mhz| f64::from(*mhz)).sum::<f64>() / told.len() as f64;
    assert!((mean - gpu.at(500.0)[Channel::Clock as usize]).abs() < 0.5, "{mean}");
}

#[test]
fn a_gpus_own_power_limit_is_told() {
    let gpus = fleet("[[gpu]]\nnode = 3\ngpu = 2\npower_limit_watts = 650");
    let limits: Vec<u32> = gpus.iter().map(|gpu| gpu.limit_watts(500.0)).collect();
    assert_eq!(limits.iter().filter(|limit| **limit == 650).count(), 1);
    assert_eq!(limits[3 * 8 + 2], 650);
}
