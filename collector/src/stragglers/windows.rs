//! Members against each other, in windows of many lengths at once: who stands out, who is accused of what, and what nobody's standing out teaches.

use super::accuse::{Accused, Scene, Suspects};
use super::job::{Input, JobJudge, LAG};
use super::noise::{self, Noise};
use super::{Finding, JobFinding};
use crate::fleet::{GpuSlot, JobSlot};

/// Windows in which members are compared, in units of a step ([`super::pace::Pace::unit`]).
pub(super) const SCALES: [usize; 10] = [1, 2, 3, 4, 6, 10, 16, 26, 45, 90];
/// Shorter ones show nothing, seconds.
const SHORTEST: usize = 4;
/// Longer ones are not looked at at all, seconds.
const LONGEST: usize = 200;
/// Longer ones are not looked at each time, seconds.
const OFTEN: usize = 24;
/// Least deviation, as a share of the occupied time, of a window of one second, and of any.
const DEVIATION: (f64, f64) = (0.02, 0.0025);
/// Deviations from which on a member teaches nothing.
pub(super) const SUSPECT: f64 = 3.5;
/// From which on the job is not taken to be healthy.
const SERIOUS: f64 = 5.0;
/// What is remembered is a mean over so many seconds at most.
const MEMORY: f64 = 900.0;

/// Who stands out most in a window, a GPU or a node, and by how many deviations.
struct Top {
    scale: usize,
    of_gpu: bool,
    slot: u32,
    score: f64,
}

/// What all windows show that end now.
#[derive(Default)]
struct Seen {
    findings: Vec<Finding>,
    /// Of those who are slow beside one who is known to be.
    second: Vec<Finding>,
    stood_out: Vec<Top>,
    /// Several stand out in one: a stage.
    staged: bool,
    slow: Option<JobFinding>,
}

impl JobJudge {
    pub(super) fn compare_members(&mut self, job: JobSlot, input: &Input<'_>) -> (Vec<Finding>, Option<JobFinding>) {
        let step = self.pace.step();
        self.gpu_noise.resize_with(SCALES.len(), Noise::default);
        self.node_noise.resize_with(SCALES.len(), Noise::default);
        self.members.suspects.clear();
        self.nodes.suspects.clear();
        let length = self.members.traces.longest().min(self.age).min(LONGEST);
        let mut seen = Seen::default();
        let due: Vec<usize> = (0..SCALES.len()).filter(|&scale| self.is_due(span(scale, step), length)).collect();
        for scale in due {
            self.compare_in(scale, job, input, &mut seen);
        }
        self.remember_who_stood_out(&seen, input);
        self.blame_or_learn(length, job, input, &mut seen);
        let Seen { findings, mut second, slow, .. } = seen;
        let mut findings = strongest(findings);
        second.sort_by(|a, b| b.score.total_cmp(&a.score));
        for finding in second {
            if findings.iter().all(|other| other.node != finding.node) {
                findings.push(finding);
            }
        }
        self.convicted.take(&findings, self.age, LONGEST);
        (findings, slow)
    }

    fn compare_in(&mut self, scale: usize, job: JobSlot, input: &Input<'_>, seen: &mut Seen) {
        let step = self.pace.step();
        // Whole steps, which are no whole seconds.
        let (window, exact) = (span(scale, step), SCALES[scale] as f64 * step);
        let floor = (DEVIATION.0 / (window as f64).sqrt()).max(DEVIATION.1);
        let (gpu_middle, gpu_spread) = self.members.spread(exact);
        let (node_middle, node_spread) = if self.nodes.len() > 2 { self.nodes.spread(exact) } else { (0.0, f64::NAN) };
        // What is remembered is a mean as well.
        let unsure = if self.learned { (1.0 + window as f64 / (self.age as f64).min(MEMORY)).sqrt() } else { 1.0 };
        let gpu_deviation = unsure * self.gpu_noise[scale].deviation(gpu_spread, self.members.len(), floor);
        let node_deviation = unsure * self.node_noise[scale].deviation(node_spread, self.nodes.len(), floor);
        let scene = Scene {
            job,
            at: input.end(),
            window,
            steps: SCALES[scale],
            scale,
            gpu_deviation,
            node_deviation,
            gpus: self.members.above(exact, gpu_middle, SUSPECT * gpu_deviation),
            nodes: self.nodes.above(exact, node_middle, f64::NEG_INFINITY),
            members: self.members.len(),
            explained: false,
            input,
        };
        let suspects = scene.suspects();
        seen.findings.extend(self.accuse_of(&scene, &suspects));
        // Who is slow already hides nobody else who is, nor makes a role of the two.
        let mut is_role = suspects.is_role;
        for aside in self.convicted.asides() {
            let rest = scene.beside(&aside);
            let suspects = rest.suspects();
            seen.second.extend(self.accuse_of(&rest, &suspects).filter(|finding| finding.alarm));
            is_role = suspects.is_role;
        }
        seen.staged |= is_role;
        for (suspects_of, slots) in [(&mut self.members.suspects, &suspects.gpus), (&mut self.nodes.suspects, &suspects.nodes)] {
            // Where many stand out, it is what they do.
            match is_role {
                true => suspects_of.retain(|slot| !slots.contains(slot)),
                false => suspects_of.extend(slots),
            }
        }
        if seen.slow.is_none() {
            seen.slow = self.slow_stage(&scene, &suspects);
        }
        if self.learned {
            let top = |of_gpu: bool| move |(slot, score): (u32, f64)| Top { scale, of_gpu, slot, score };
            seen.stood_out.extend(suspects.top_gpu.map(top(true)));
            seen.stood_out.extend(suspects.top_node.map(top(false)));
        }
        // Where many stand out they differ by more than was thought: of few, who are no measure of themselves, that has to be learned.
        let weak = suspects.accused.as_ref().is_none_or(|accused| accused.score < SERIOUS);
        if weak {
            self.gpu_noise[scale].learn(gpu_spread);
            self.node_noise[scale].learn(node_spread);
        }
    }

    fn accuse_of(&mut self, scene: &Scene<'_>, suspects: &Suspects) -> Option<Finding> {
        // Its GPUs may be known longer than the node as such, which has to be comparable to others first.
        let known = |accused: &&Accused| accused.gpu.is_some() || self.nodes.place(accused.node).is_some();
        let accused = suspects.accused.as_ref().filter(known)?;
        let finding = self.accuse(scene, accused)?;
        if !self.learned && finding.alarm {
            self.slow_since_the_start(accused);
        }
        Some(finding)
    }

    fn slow_since_the_start(&mut self, accused: &Accused) {
        let (roster, slot) = match accused.gpu {
            Some(gpu) => (&mut self.members, gpu),
            None => (&mut self.nodes, accused.node),
        };
        if let Some(place) = roster.place(slot) {
            roster.from_the_start[place] = true;
        }
    }

    /// Where nobody is found to wait least, a fact may tell; and where nothing does, it is how the job is while nobody is slow.
    fn blame_or_learn(&mut self, length: usize, job: JobSlot, input: &Input<'_>, seen: &mut Seen) {
        let serious = seen.findings.iter().any(|finding| finding.alarm || finding.score >= SERIOUS);
        if serious || seen.staged {
            self.suspected = Some(self.age);
        }
        if !self.learned || seen.findings.iter().any(|finding| finding.alarm) {
            return;
        }
        // What somebody's waiting least explains is no link's.
        let known = seen.findings.iter().filter(|finding| finding.score >= SERIOUS);
        let explained = known.map(|finding| finding.gap).fold(0.0, f64::max);
        let at = input.end();
        let by_fact = self.accuse_by_fact(job, at, length, explained, input);
        match by_fact.or_else(|| self.accuse_by_episodes(job, at, explained, input)) {
            Some(finding) => {
                self.suspected = Some(self.age);
                self.blamed = Some(finding.node.0);
                seen.findings.push(finding);
            }
            None if !serious && !seen.staged => {
                seen.slow = self.slow_everywhere(job, at, input);
                self.speed.watch(self.pace.step(), &SCALES, length);
                self.work.watch(self.pace.step(), &SCALES, length);
                seen.findings.extend(self.suspect_a_link(job, at, input));
            }
            None => {}
        }
    }

    /// Who stood out and was not found slow is noise: what it showed, others may.
    fn remember_who_stood_out(&mut self, seen: &Seen, input: &Input<'_>) {
        let seconds = self.seconds_between_looks() as f64;
        self.gpu_noise.iter_mut().chain(&mut self.node_noise).for_each(|noise| noise.fade(seconds));
        if let Some(found) = seen.findings.iter().find(|finding| finding.alarm) {
            let node = found.node;
            self.gpu_noise
                .iter_mut()
                .for_each(|noise| noise.pardon(|gpu| gpu != u32::MAX && input.fleet.node_of(GpuSlot(gpu)) == node));
            self.node_noise.iter_mut().for_each(|noise| noise.pardon(|own| own == node.0));
            return;
        }
        // What was found is in the windows for as long as they are.
        if !self.convicted.is_empty() {
            return;
        }
        for top in &seen.stood_out {
            let noise = if top.of_gpu { &mut self.gpu_noise } else { &mut self.node_noise };
            noise[top.scale].stands_out(top.slot, top.score);
        }
    }

    /// By how many deviations others than the accused have stood out of late, in windows of this length.
    pub(super) fn of_others(&self, scale: usize, accused: &Accused) -> f64 {
        let (noise, slot) = match accused.gpu {
            Some(gpu) => (&self.gpu_noise, gpu),
            None => (&self.node_noise, accused.node),
        };
        noise.get(scale).map_or(0.0, |noise| noise.of_others(slot))
    }

    /// Whether members are compared in this window now: `length` seconds are known of them.
    fn is_due(&self, window: usize, length: usize) -> bool {
        // Long windows change slowly.
        let often = window <= OFTEN || (self.age / 3).is_multiple_of(window / OFTEN);
        often && (SHORTEST..=length).contains(&window)
    }

    /// Offsets are another figure's: noise is learned anew.
    pub(super) fn forget_noise(&mut self) {
        (self.gpu_noise, self.node_noise) = Default::default();
    }

    /// What windows of one step showed, those of another begin with: were it learned anew, what is wrong just now would be.
    pub(super) fn carry_noise(&mut self, from: f64, to: f64) {
        let [from, to] = [from, to].map(|step| SCALES.map(|scale| scale as f64 * step));
        for (noises, roster) in [(&mut self.gpu_noise, &self.members), (&mut self.node_noise, &self.nodes)] {
            let shorter = noise::carried(noises, Noise::is_known, &from, &to);
            let past = to.map(|window| roster.past_spread(window.round() as usize, LAG));
            *noises = shorter.into_iter().zip(past).map(|(shorter, past)| Noise::of_another_window(shorter, past)).collect();
        }
        self.speed.carry_noise(&from, &to, LAG);
        self.work.carry_noise(&from, &to, LAG);
    }
}

/// The seconds of a window.
fn span(scale: usize, step: f64) -> usize {
    (SCALES[scale] as f64 * step).round() as usize
}

/// What alarms goes before what does not, the most telling first.
fn strongest(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| b.alarm.cmp(&a.alarm).then(b.score.total_cmp(&a.score)));
    findings.truncate(1);
    findings
}
