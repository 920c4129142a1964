"""Labelled recordings of fleets with stragglers, by another hand: written from published facts, without a look at the detectors.

`docs/evaluation.md` quotes how the straggler detector does on them. The generator was written from ../shared/facts/stragglers.md ("the facts"
below) and the labelled recordings of ../shared/eval/scenarios ("the given recordings") alone, by somebody who had seen neither collector/ nor
the rest of simulator/. To keep that worth something it shares no code with either: the two meet in the recording's format alone.

A scenario is a function of kind, seed and fault. All that chance decides comes from one stream of random numbers, so the order of draws is part of
what a seed means: a draw more or less, or one at another place, makes other scenarios of all seeds, and the figures that were measured are no
longer of these. numpy keeps its streams from version to version, but does not promise to. `collector/tests/it/otherhand.rs` holds one scenario fast.

    scenario (job, harmless, fault: what happens)  ->  training (step, effect, timeline: what the GPUs do)
        ->  telemetry (noise, temperature, symptom, decoy: what sensors and counters tell)  ->  recording, truth
    recording  ->  replay (the collector)  ->  score, tally, table
"""
