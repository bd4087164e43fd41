"""A sample of ``make power``: nothing acknowledged is lost by a power cut, and a product that loses something is found."""

from __future__ import annotations

import dataclasses
from concurrent.futures import Executor, Future

import pytest

from tests.power import explore, real, workloads
from tests.power.__main__ import EVERY, tried_all
from tests.power.explore import Figures, NoAcknowledgement
from tests.power.mutants import MUTANTS, mutate, tried
from tests.power.story import Ack

KILLED_HERE = ("the folder is not synced after the rename", "the ledger is synced at checkpoints only")


def lines(figures: Figures) -> list[str]:
    """Broken promises and where each was first seen."""
    return [f"{line} ({figures.examples[line]})" for line in figures.violations]


@pytest.mark.parametrize(
    ("story", "states"),
    [
        ("start+mixed+deliver", 6),
        ("save+prune+password", 20),
        ("recipients+rotate", 12),
        ("reset", 6),
        ("start+apply+apply", 6),
        ("periodic+away+again", 6),
    ],
)
def test_a_power_cut_anywhere_breaks_no_promise(story, states):
    figures = explore.run(tuple(story.split("+")), states)
    assert not lines(figures)
    assert len(figures.states[1]) > 100


def test_a_second_cut_in_the_recovery_breaks_no_promise():
    figures = explore.run(("save",), 5, since=1, deeper=4)
    assert not lines(figures)
    assert len(figures.states[2]) > 30


def test_a_cut_after_both_processes_died_breaks_no_promise():
    figures = explore.run(("save",), 1, since=1, killed=1)
    assert not lines(figures)
    assert len(figures.states[2]) > 30


def test_the_real_processes_start_where_the_power_failed():
    assert real.sample(("save", "deliver"), 2) == []


def test_a_story_without_an_acknowledgement_is_no_proof(tmp_path):
    recording = explore.record(("save",), tmp_path / "stage")
    mute = dataclasses.replace(recording, steps=[step for step in recording.steps if not isinstance(step, Ack)])
    assert list(explore.cuts(recording))
    with pytest.raises(NoAcknowledgement):
        list(explore.cuts(mute))


@pytest.mark.parametrize(
    ("found", "most", "code"),
    [
        (Figures(cuts=2, exhaustive=2, deep_cuts=3, deep_exhaustive=3), EVERY, 0),
        (Figures(cuts=2, exhaustive=1, deep_cuts=3, deep_exhaustive=3), EVERY, 1),
        (Figures(cuts=2, exhaustive=2, deep_cuts=3, deep_exhaustive=2), EVERY, 1),
        (Figures(cuts=2, exhaustive=1, deep_cuts=3, deep_exhaustive=2), 60, 0),
    ],
)
def test_what_is_said_to_be_every_state_is(found, most, code):
    class Pool(Executor):
        def submit(self, *_: object, **__: object) -> Future[Figures]:
            done = Future[Figures]()
            done.set_result(found)
            return done

    assert tried_all("cut again", Pool(), [{"sequence": ("save",), "most": most}], 0) == code


@pytest.mark.parametrize("mutant", [each for each in MUTANTS if each.name in KILLED_HERE], ids=lambda each: each.name)
def test_a_product_with_a_fault_is_found(mutant):
    assert tried(mutant).startswith("BROKEN")


def test_every_sequence_of_three_is_played():
    played = {each[place : place + 3] for each in workloads.woven(3, 9) for place in range(len(each) - 2)}
    assert played >= set(workloads.sequences(3))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name)
def test_every_fault_can_still_be_made(mutant, tmp_path):
    mutate(mutant, tmp_path)
    assert all(new in (tmp_path / name).read_text() for name, _, new in mutant.edits)
