"""Scores of many scenarios, added up."""

from dataclasses import dataclass, field
from math import sqrt

SEVERITIES = ("info", "warning", "critical")
# What a fault costs its job, from which on it is large. The facts (section 4) aim at 3 % where no published detector goes below 10 %.
LARGE_SLOWDOWN = 0.04
# Two-sided 95 % of the normal distribution.
Z = 1.96


@dataclass
class Share:
    part: int = 0
    of: int = 0

    def add(self, is_part):
        self.part += bool(is_part)
        self.of += 1

    @property
    def ratio(self):
        return self.part / self.of if self.of else None

    def interval(self):
        """Wilson's, 95 %."""
        if not self.of:
            return None
        centre = self.ratio + Z * Z / (2 * self.of)
        half = Z * sqrt(self.ratio * (1 - self.ratio) / self.of + Z * Z / (4 * self.of * self.of))
        whole = 1 + Z * Z / self.of
        return max(0.0, (centre - half) / whole), min(1.0, (centre + half) / whole)


@dataclass
class Tally:
    scenarios: int = 0
    crashes: int = 0
    found: Share = field(default_factory=Share)
    found_small: Share = field(default_factory=Share)
    found_large: Share = field(default_factory=Share)
    # Of those that were found.
    cause_right: Share = field(default_factory=Share)
    # Of scenarios without any fault, those in which something was raised.
    healthy_raised: Share = field(default_factory=Share)
    # By severity; and how many of all were in healthy scenarios.
    false: dict = field(default_factory=lambda: dict.fromkeys(SEVERITIES, 0))
    false_in_healthy: int = 0
    duplicates: int = 0
    optional: int = 0
    delays_seconds: list = field(default_factory=list)

    def add(self, score):
        self.scenarios += 1
        for finding in score.findings:
            self.add_finding(finding)
        for incident in score.false:
            self.add_false(incident)
        if score.healthy:
            self.healthy_raised.add(score.false)
            self.false_in_healthy += len(score.false)

    def add_crash(self):
        self.scenarios += 1
        self.crashes += 1

    def add_finding(self, finding):
        self.duplicates += finding.duplicates
        if not finding.counts:
            self.optional += 1
            return
        self.found.add(finding.found)
        large = finding.fault["job_slowdown"] >= LARGE_SLOWDOWN
        (self.found_large if large else self.found_small).add(finding.found)
        if finding.found:
            self.cause_right.add(finding.cause_right)
            self.delays_seconds.append(finding.delay_seconds)

    def add_false(self, incident):
        self.false[incident["severity"]] += 1

    @property
    def raised(self):
        """What was right, of all that was said of faults that count or of nothing."""
        wrong = sum(self.false.values()) + self.duplicates
        return Share(self.found.part, self.found.part + wrong)

    @property
    def f1(self):
        """None where there is no fault to be found."""
        precision, recall = self.raised.ratio, self.found.ratio
        if recall is None:
            return None
        return 2 * precision * recall / (precision + recall) if precision and recall else 0.0

    def delay_seconds(self, share):
        delays = sorted(self.delays_seconds)
        return delays[min(len(delays) - 1, int(share * len(delays)))] if delays else None


def by_cause(scores):
    """Findings go by the fault's cause, false incidents by the one that they claim."""
    tallies = {}
    for score in scores:
        for finding in score.findings:
            tallies.setdefault(finding.fault["cause"], Tally()).add_finding(finding)
        for incident in score.false:
            tallies.setdefault(incident["cause"], Tally()).add_false(incident)
    return dict(sorted(tallies.items()))
