use super::*;
use proptest::prelude::*;

fn grid() -> PowerGrid {
    PowerGrid::new(&AlignConfig::default(), 0.1)
}

/// (at, sum, completeness) of each bin, as it stands in the end.
#[derive(Default)]
struct Told {
    bins: Vec<(f64, f64, f64)>,
    finals: usize,
    amended: usize,
}

fn tell(grid: &mut PowerGrid, now: f64, job: &[Option<u32>], told: &mut Told) {
    grid.finish(Micros::from_seconds(now), job, |news| match news {
        News::Bin(bin) => told.bins.push((bin.at.seconds(), bin.sum, bin.completeness)),
        News::Final(_) => told.finals += 1,
        News::Left(_) => {}
        News::Joined(sources) => {
            let joined: f64 = sources.iter().map(|&(_, watts)| f64::from(watts)).sum();
            told.bins.iter_mut().for_each(|bin| bin.1 += joined);
        }
        News::Amended(change) => {
            told.amended += 1;
            let bin = told.bins.iter_mut().find(|bin| (bin.0 - change.at.seconds()).abs() < 0.01).unwrap();
            bin.1 += f64::from(change.watts - change.imputed);
        }
    });
}

fn bins(grid: &mut PowerGrid, now: f64, job: &[Option<u32>]) -> Vec<(f64, f64, f64)> {
    let mut told = Told::default();
    tell(grid, now, job, &mut told);
    told.bins
}

#[test]
fn a_silent_node_is_no_step() {
    let mut grid = grid();
    let job = [Some(0), Some(0), Some(0)];
    for tick in 0..200 {
        let t = f64::from(tick) * 0.1;
        for source in 0..3 {
            if source < 2 || t < 10.0 {
                grid.put(source, Micros::from_seconds(t), 500.0 + 10.0 * source as f32);
            }
        }
    }
    let sums = bins(&mut grid, 30.0, &job);
    assert!(sums.len() > 190);
    assert!(sums.iter().all(|&(_, sum, _)| (sum - 1530.0).abs() < 1.0));
    assert!((sums[150].2 - 2.0 / 3.0).abs() < 1e-9);
}

/// Its job goes to another level while it is silent, and it with its job, for good.
#[test]
fn a_silent_node_follows_its_job() {
    let mut grid = grid();
    for tick in 0..1800 {
        let t = f64::from(tick) * 0.1;
        for source in (0..4).filter(|&source| source < 3 || t < 20.0) {
            grid.put(source, Micros::from_seconds(t), if t < 40.0 { 300.0 } else { 500.0 });
        }
        if tick % 100 == 99 {
            for (at, sum, _) in bins(&mut grid, t, &[Some(0); 4]).into_iter().filter(|bin| bin.0 > 41.0) {
                assert!((sum - 2000.0).abs() < 20.0, "{at}: {sum}");
            }
        }
    }
}

/// One of four comes two seconds late with other news than its job: the others are judged after 0.6 s, it is put right before the end.
#[test]
fn what_is_late_replaces_what_stood_in_for_it() {
    let mut grid = grid();
    let mut told = Told::default();
    let job = [Some(0); 4];
    let truth = |source: usize, t: f64| if source == 3 && t > 10.0 { 200.0 } else { 500.0 };
    let mut judged_at = Vec::new();
    for tick in 0..250 {
        let now = f64::from(tick) * 0.1;
        for source in 0..4 {
            let t = if source == 3 { now - 2.0 } else { now - 0.3 };
            grid.put(source, Micros::from_seconds(1000.0 + t), truth(source, t) as f32);
        }
        let before = told.bins.len();
        tell(&mut grid, 1000.0 + now, &job, &mut told);
        judged_at.extend(told.bins[before..].iter().map(|bin| 1000.0 + now - bin.0));
    }
    let steady = &judged_at[100..];
    assert!(steady.iter().all(|&age| age < 0.8), "{steady:?}");
    assert!(told.amended > 150);
    // At first only the last one has spoken of that time.
    let settled = &told.bins[30..told.finals];
    let wrong = settled.iter().filter(|(at, sum, _)| (sum - 1500.0 - truth(3, at - 1000.05)).abs() > 1.0).count();
    // The bins of the fall itself are on the line between two samples.
    assert!(wrong <= 2, "{wrong} of {}", settled.len());
    assert_eq!(grid.late(), 0);
}

/// It is behind from the beginning, and never in time.
#[test]
fn who_is_always_behind_is_part_of_the_sum() {
    let mut grid = grid();
    let mut told = Told::default();
    for tick in 0..200 {
        let now = f64::from(tick) * 0.1;
        for source in 0..4 {
            // The late one begins later than it is late.
            let t = if source == 3 { now - 2.0 } else { now - 0.3 };
            if source < 3 || now > 5.0 {
                grid.put(source, Micros::from_seconds(1000.0 + t), 500.0 + 10.0 * source as f32);
            }
        }
        tell(&mut grid, 1000.0 + now, &[Some(0); 4], &mut told);
    }
    assert!(told.finals > 150);
    for (at, sum, _) in &told.bins[60..] {
        assert!((sum - 2060.0).abs() < 1.0, "{at}: {sum}");
    }
}

/// An hour ahead and back again: a source is not lost for an hour.
#[test]
fn a_clock_that_is_set_back_is_followed() {
    let mut grid = grid();
    for tick in 0..400 {
        let t = f64::from(tick) * 0.1;
        let jump = if (10.0..12.0).contains(&t) { 3600.0 } else { 0.0 };
        grid.put(0, Micros::from_seconds(t), 500.0);
        grid.put(1, Micros::from_seconds(t + jump), 500.0);
    }
    let sums = bins(&mut grid, 60.0, &[None, None]);
    let late = sums.iter().filter(|bin| bin.0 > 20.0);
    assert!(late.clone().count() > 150 && late.clone().all(|bin| bin.2 == 1.0));
}

/// After forty seconds without a collector each brings what it kept before what is new, at its own speed.
#[test]
fn what_was_kept_is_judged_once_and_what_is_new_is_soon_whole() {
    let mut grid = grid();
    let (mut told, mut sent) = (Told::default(), [0u32; 8]);
    for tick in 0..900u32 {
        let now = f64::from(tick) * 0.1;
        for (source, sent) in sent.iter_mut().enumerate() {
            let until = if (200..600).contains(&tick) { *sent } else { tick.min(*sent + 20 + 10 * source as u32) };
            (*sent..until).for_each(|kept| grid.put(source, Micros::from_seconds(f64::from(kept) * 0.1), 500.0));
            *sent = until;
        }
        tell(&mut grid, now, &[None; 8], &mut told);
    }
    assert!(told.bins.is_sorted_by(|a, b| a.0 < b.0));
    let whole = told.bins.iter().filter(|bin| bin.0 > 65.0 && bin.2 == 1.0).count();
    assert!(whole > 200, "{whole}");
    assert!(grid.late() > 0);
}

proptest! {
    /// A straight line is reproduced whatever the phase and jitter of its sampling.
    #[test]
    fn a_line_stays_a_line(phase in 0.0f64..0.1, jitter in proptest::collection::vec(-0.03f64..0.03, 60)) {
        let mut grid = grid();
        for (tick, jitter) in jitter.iter().enumerate() {
            let t = 100.0 + phase + tick as f64 * 0.1 + jitter;
            grid.put(0, Micros::from_seconds(t), (100.0 * (t - 100.0)) as f32);
        }
        for (at, sum, _) in bins(&mut grid, 200.0, &[None]) {
            prop_assert!((sum - 100.0 * (at - 100.0)).abs() < 0.1, "{at} {sum}");
        }
    }

    /// In whatever order samples of several sources arrive, the sums are those of the ordered ones in the end.
    #[test]
    fn the_order_of_arrival_does_not_matter(delays in proptest::collection::vec(0.0f64..2.0, 5)) {
        let watts = |source: usize, t: f64| (300.0 + 20.0 * source as f64 + 10.0 * t) as f32;
        let mut delayed = grid();
        let mut told = Told::default();
        for tick in 0..120 {
            let now = f64::from(tick) * 0.1;
            for (source, delay) in delays.iter().enumerate() {
                delayed.put(source, Micros::from_seconds(now - delay), watts(source, now - delay));
            }
            tell(&mut delayed, now, &[Some(0); 5], &mut told);
        }
        for (at, sum, _) in told.bins.iter().take(told.finals).skip(30) {
            let want: f64 = (0..5).map(|source| f64::from(watts(source, *at))).sum();
            prop_assert!((sum - want).abs() < 1.0, "{at}: {sum}, not {want}");
        }
    }
}
