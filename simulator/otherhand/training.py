"""The course of a job: step after step, with its pauses and its restart, until the recording or the job is over."""

import numpy as np

from .activity import CHANNEL, evaluating, waiting_for_writer, writing
from .cluster import COMPUTE_CLOCK_MHZ, GPUS_PER_NODE, MAX_CLOCK_MHZ
from .draw import chance
from .effect import effects_of
from .step import Load, Step
from .timeline import LEAD_SECONDS, TAIL_SECONDS, Timeline

# After the recording's end.
OVERTIME_SECONDS = 30
# Experts' load lasts for so many steps.
EXPERT_MEMORY = np.exp(-1 / 8)
# Checkpoints go over PCIe.
CHECKPOINT_BYTES_PER_SECOND = 0.8e9


class Training:
    def __init__(self, scenario, index, boards, rng):
        job = scenario.jobs[index]
        self.scenario, self.index, self.job, self.rng = scenario, index, job, rng
        gpus = np.arange(job.first_gpu, job.end_gpu)
        self.gpus = len(gpus)
        self.node_of_gpu, self.gpu_in_node = gpus // GPUS_PER_NODE, gpus % GPUS_PER_NODE
        self.stage_of_gpu = job.stage_of_node[self.node_of_gpu - job.first_node]
        clock_ratio = boards.clock_ratio[gpus]
        self.compute_watts = boards.compute_watts[gpus]
        # By the board's own clock: the better ones are done earlier.
        self.compute_seconds = job.compute_seconds * job.stage_work[self.stage_of_gpu] / clock_ratio
        self.busy_clock_mhz = COMPUTE_CLOCK_MHZ * clock_ratio
        # Who spins floats to the highest clock (facts, section 2).
        self.waiting_clock_mhz = np.minimum(MAX_CLOCK_MHZ, MAX_CLOCK_MHZ * clock_ratio + 15)
        # What operators lower for a whole job.
        self.lowered_clock_mhz = MAX_CLOCK_MHZ * boards.lowered_clock_ratio
        self.lowered_limit_ratio = boards.lowered_limit_ratio
        self.experts = np.zeros(self.gpus)
        self.effects = effects_of([fault for fault in scenario.faults if fault.job == index], job, self.compute_seconds)
        self.timeline = Timeline(self.gpus)

    def run(self):
        job, timeline = self.job, self.timeline
        now = job.start
        timeline.add_idle(now + LEAD_SECONDS)
        restart = job.restart
        pauses = sorted(job.pauses, key=lambda pause: pause.start)
        end = min(self.scenario.seconds + OVERTIME_SECONDS, job.end)
        while now < end:
            if restart and now >= restart[0]:
                away_seconds = max(restart[1] - now, 0)
                restart = None
                timeline.add_idle(away_seconds)
                now += away_seconds
            elif pauses and now >= pauses[0].start:
                pause = pauses.pop(0)
                self.pause(pause, now)
                now += pause.seconds
            else:
                now += self.step(now)
        timeline.add_idle(TAIL_SECONDS)
        timeline.integrate()
        return timeline

    def harmless(self, kind, at):
        """It, if it befalls this job now."""
        found = self.scenario.harmless.get(kind)
        return found if found and found.job == self.index and found.holds(at) else None

    def pause(self, pause, at):
        clock_mhz = self.clock_while_waiting(at)
        if pause.kind == "evaluation":
            self.timeline.add(pause.seconds, evaluating(self.gpus, self.compute_watts, self.busy_clock_mhz * 1.02))
            return
        writers = writing(self.gpus, clock_mhz)
        activity = waiting_for_writer(self.gpus, clock_mhz)
        if pause.kind == "all_write":
            activity = writers
            activity[:, CHANNEL["pcie_bytes_per_second"]] = CHECKPOINT_BYTES_PER_SECOND
        elif pause.kind == "node_leads_write":
            activity[::GPUS_PER_NODE] = writers[::GPUS_PER_NODE]
        else:
            activity[0] = writers[0]
        self.timeline.add(pause.seconds, activity)

    def step(self, at):
        load = self.load(at)
        active = [effect for effect in self.effects if effect.fault.active(at)]
        host_delays = {id(effect): self.host_delay(effect) for effect in active if effect.fault.cause == "cpu_contention"}

        def under(effects):
            return Step(load, at, effects, host_delays, self.busy_clock_mhz)

        step = under(active)
        for effect in active:
            without = [other for other in active if other is not effect]
            effect.seconds_with += step.seconds
            effect.seconds_without += under(without).seconds if without else load.seconds
        step.write(self.timeline, self.compute_watts, self.clock_while_waiting(at))
        return step.seconds

    def host_delay(self, effect):
        """A contended host is late by about as much in each step, each of its GPUs by a little more or less."""
        return self.rng.uniform(0.8, 1.2) * (1 + 0.05 * self.rng.standard_normal(effect.members.sum()))

    def load(self, at):
        rng, job = self.rng, self.job
        compute_seconds = self.compute_seconds * self.unevenness()
        communicate_seconds = job.communicate_seconds * (1 + 0.004 * rng.standard_normal())
        gap_seconds = self.late_ranks(compute_seconds.max() + communicate_seconds)
        if "diurnal" in self.scenario.harmless:
            compute_seconds = compute_seconds * (1 + 0.02 * np.sin(2 * np.pi * at / self.scenario.seconds))
        if congestion := self.harmless("congestion", at):
            communicate_seconds = communicate_seconds * (1.3 + congestion.strength)
        if slow := self.harmless("stage_slow", at):
            compute_seconds = self.slow_stage(compute_seconds, slow)
        for_all = self.lowered_clock_share(at)
        clock_share = np.full(self.gpus, for_all)
        if early := self.harmless("noncritical", at):
            # Within the slack of who is done early anyway.
            hit = (self.node_of_gpu == early.node) & (self.gpu_in_node == early.gpu)
            slack = 1 - compute_seconds[hit] / self.compute_seconds.max()
            clock_share[hit] = np.minimum(clock_share[hit], 1 - np.clip(slack * 0.8, 0.0, 0.4))
        return Load(compute_seconds, clock_share, for_all < 1 or early is not None, gap_seconds, communicate_seconds)

    def unevenness(self):
        """Ratio of each rank's computing to its usual one."""
        rng, job = self.rng, self.job
        ratio = 1 + job.jitter * rng.standard_normal(self.gpus)
        if job.sequence_spread:
            by_node = rng.standard_normal(job.end_node - job.first_node) * job.sequence_spread
            ratio = ratio * np.exp(by_node)[self.node_of_gpu - job.first_node]
        if job.expert_spread:
            self.experts = EXPERT_MEMORY * self.experts + np.sqrt(1 - EXPERT_MEMORY * EXPERT_MEMORY) * rng.standard_normal(self.gpus)
            ratio = ratio * np.exp(job.expert_spread * self.experts)
        return ratio

    def late_ranks(self, step_seconds):
        """Seconds by which hosts are late: garbage collection of one rank, loading of one node."""
        rng, job = self.rng, self.job
        late = np.zeros(self.gpus)
        if job.collection_seconds and chance(rng, 1 - np.exp(-job.collections_per_second * step_seconds)):
            rank = rng.integers(self.gpus)
            late[rank] += job.collection_seconds * rng.uniform(0.7, 1.3)
        if job.loading_seconds and chance(rng, 1 - np.exp(-job.loadings_per_second * step_seconds)):
            node = rng.integers(job.first_node, job.end_node)
            late[self.node_of_gpu == node] += job.loading_seconds * rng.uniform(0.6, 1.4)
        return late

    def slow_stage(self, compute_seconds, slow):
        """A job of one stage has none that could be slow."""
        if self.job.stage_work.size == 1:
            return compute_seconds
        stage = self.job.stage_of_node[slow.node - self.job.first_node]
        return np.where(self.stage_of_gpu == stage, compute_seconds * (1.08 + 0.2 * slow.strength), compute_seconds)

    def lowered_clock_share(self, at):
        """Of the clock, where somebody lowered it for the whole job."""
        share = 1.0
        if self.harmless("appclk_all", at):
            share = min(1, self.lowered_clock_mhz / COMPUTE_CLOCK_MHZ)
        if self.harmless("limit_all", at):
            share = min(share, self.lowered_limit_ratio)
        return share

    def clock_while_waiting(self, at):
        """Of power caps nothing is seen: who spins does not reach them."""
        clock_mhz = self.waiting_clock_mhz.copy()
        for effect in self.effects:
            if not effect.fault.active(at):
                continue
            hit = effect.members
            if effect.fault.cause == "clock_lock":
                clock_mhz[hit] = MAX_CLOCK_MHZ * effect.speed
            elif effect.fault.cause in ("thermal", "power_brake"):
                clock_mhz[hit] *= effect.speed_at(at)
        if self.harmless("appclk_all", at):
            clock_mhz = np.minimum(clock_mhz, self.lowered_clock_mhz)
        return clock_mhz
