"""The scenarios that figures in docs/evaluation.md are of."""

from dataclasses import dataclass

# A scenario of fifteen minutes; most are smaller.
SCENARIO_BYTES = 4 << 20


@dataclass(frozen=True)
class Named:
    """A scenario that is to be made."""

    kind: str
    seed: int
    # None: by chance.
    fault: str | None = None

    @property
    def name(self):
        return "-".join(str(part) for part in (self.kind, self.fault, self.seed) if part is not None)


def span(kind, first_seed, last_seed, fault=None):
    return [Named(kind, seed, fault) for seed in range(first_seed, last_seed + 1)]


SETS = {
    # The detector was looked at and mended on these: how it does here says little.
    "mended": span("plain", 2001, 2140) + span("plain-clipped", 1001, 1140) + span("mixed", 1, 240),
    # These were judged after that.
    "fresh": span("plain", 5001, 5080) + span("plain-clipped", 6001, 6040) + span("mixed", 501, 580),
}
