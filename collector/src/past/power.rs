//! A second of sums at 10 Hz.

/// Bins of a second.
pub const BINS: usize = 10;

/// One sum over a second, watts by bin; what is missing of it is imputed, as it is in what is judged.
pub type Sum = [f32; BINS];

/// The sums of a second.
#[derive(Debug, Clone, Default)]
pub struct Powers {
    pub cluster: Sum,
    /// By name of the feeder.
    pub feeders: Vec<(Box<str>, Sum)>,
    /// By name of the job.
    pub jobs: Vec<(Box<str>, Sum)>,
}

impl Powers {
    pub fn feeder(&self, name: &str) -> Option<Sum> {
        find(&self.feeders, name)
    }

    pub fn job(&self, name: &str) -> Option<Sum> {
        find(&self.jobs, name)
    }
}

fn find(sums: &[(Box<str>, Sum)], name: &str) -> Option<Sum> {
    sums.iter().find(|(own, _)| **own == *name).map(|(_, sum)| *sum)
}
