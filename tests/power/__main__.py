"""All of it: ``make power``. Every sequence of up to three actions and longer ones, cut everywhere, then cut again.

``--story save+accept`` plays one sequence, ``--part mutants`` a part of it; a broken promise is a line ``BROKEN`` and the exit code 3.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from typing import Any

from tests.power import explore, mutants, real, workloads
from tests.power.explore import Figures

# States for a cut at depth 1; for a cut of the stories that are cut twice, and for the second cut; after a kill.
STATES, DEEP_STATES, DEEPER, KILLED = 300, 60, 12, 12
# For an action by itself so many that it is every state of its cuts and of the second ones; the longest begin first.
EVERY, LONGEST = 4800, ("reset", "start")
REAL = 60
# Of the hundreds of cuts in a flood of events.
FLOOD_STATES = 12
# Sequences of three in each longer one.
WOVEN = 9
# Stories after which a line tells how far it got; of the long ones after each.
PROGRESS, MANY = 10, 100
# To reach: the figure.
WANTED = 200_000
# What `explore.run` takes.
Job = dict[str, Any]


def shallow(states: int) -> Iterator[Job]:
    """Every sequence of up to three: on a new device, and woven into longer ones on a device in use; and the long ones."""
    common = next(iter(workloads.ACTIONS))
    for sequence in filter(workloads.is_fresh, workloads.sequences(3)):
        since = 3  # what stands before it is cut in another story, which ends with the common action
        while all(name == common for name in sequence[since - 1 :]):
            since -= 1
        yield {"sequence": sequence, "most": states, "since": since}
    for number, sequence in enumerate(workloads.woven(3, WOVEN)):
        yield {"sequence": sequence, "most": states, "since": 3 if number else 0}
    for number, sequence in enumerate(workloads.LONG):
        yield {"sequence": sequence, "most": states, "window": number % 2}
    yield from ({"sequence": (name,), "most": states} for name in workloads.ALONE)
    yield {"sequence": ("flood", "accept"), "most": FLOOD_STATES}


def deep() -> Iterator[Job]:
    """Every action by itself, and the first start with each after it, cut again in the recovery."""
    for name in sorted(workloads.ACTIONS, key=lambda each: each not in LONGEST):
        yield {"sequence": (name,), "most": EVERY, "deeper": EVERY}
        yield {"sequence": ("start", name), "most": DEEP_STATES, "since": 2, "deeper": DEEPER}
    yield from ({"sequence": (name,), "most": DEEP_STATES, "deeper": DEEPER} for name in workloads.ALONE)


def killed() -> Iterator[Job]:
    """Every action by itself, and the first start with each after it: killed after each change, used, then cut."""
    for name in workloads.ACTIONS:
        yield {"sequence": (name,), "most": 1, "killed": KILLED}
        yield {"sequence": ("start", name), "most": 1, "since": 2, "killed": KILLED}
    yield from ({"sequence": (name,), "most": 1, "killed": KILLED} for name in workloads.ALONE)


def main() -> int:
    """Run what is asked for; not 0 when a promise was broken, or too little was tried."""
    options = _options()
    if options.story:
        story = tuple(options.story.split("+"))
        found = explore.run(story, options.states, deeper=options.deeper, killed=options.killed)
        return _told("one story", found, time.monotonic() - found.seconds)
    parts: Mapping[str, Callable[[Executor], int]] = {
        "depth-1": lambda pool: tried_all(
            "depth 1", pool, list(shallow(options.states))[slice(*options.stories)], WANTED
        ),
        "depth-2": lambda pool: tried_all("cut again", pool, deep(), 0),
        "killed": lambda pool: tried_all("killed, then cut", pool, killed(), 0),
        "real": lambda pool: _sample(pool, options.real),
        "mutants": _mutants,
    }
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
        return max([part(pool) for name, part in parts.items() if name in (options.part or parts)])


def tried_all(name: str, pool: Executor, jobs: Iterable[Job], wanted: int) -> int:
    """Run all jobs; not 0 when a promise was broken, a state that was to be tried was not, or there were too few."""
    begun, figures = time.monotonic(), Figures()
    submitted = {pool.submit(explore.run, **job): job for job in jobs}
    failed = 0
    for number, done in enumerate(as_completed(submitted), 1):
        story = "+".join(submitted[done]["sequence"])
        try:
            found = done.result()
        except Exception as error:  # one story that went wrong must not take the others along
            print(f"FAILED {story}:", *traceback.format_exception(error), sep="\n", flush=True)
            failed = 1
            continue
        figures.add(found)
        if submitted[done]["most"] == EVERY and not found.is_every_state:
            told = f"{found.exhaustive} of {found.cuts} cuts, {found.deep_exhaustive} of {found.deep_cuts} second ones"
            print(f"NOT EVERY STATE of {story}: {told}", flush=True)
            failed = 1
        if number % PROGRESS == 0 or len(submitted) < MANY:
            broken = [f"{line} ({figures.examples[line]})" for line in figures.violations]
            told = f"{number} of {len(submitted)} stories, {sum(map(len, figures.states.values()))} disks, {len(broken)} promises broken {broken}"
            print(told, file=sys.stderr, flush=True)
    failed |= _told(name, figures, begun)
    if len(figures.states[1]) < wanted:
        print(f"TOO FEW {name}: {wanted} states were to be tried")
        return 1
    return failed


def _told(name: str, figures: Figures, begun: float) -> int:
    for line, count in figures.violations.most_common():
        print(f"BROKEN {count} times: {line} ({figures.examples[line]})")
    print(
        f"{name}: {figures.cuts} cuts ({figures.exhaustive} of them exhausted), {figures.acknowledgements} acknowledgements, "
        f"{len(figures.states[1])} distinct disks, {len(figures.states[2])} more after a second cut "
        f"({figures.deep_exhaustive} of {figures.deep_cuts} of those exhausted), "
        f"{sum(figures.violations.values())} broken promises, {time.monotonic() - begun:.0f} s",
        flush=True,
    )
    return mutants.BROKEN if figures.violations else 0


def _sample(pool: Executor, count: int) -> int:
    begun = time.monotonic()
    stories = [("start", "save", "deliver"), ("save", "password", "prune"), ("recipients", "deliver", "start")]
    jobs = [pool.submit(real.sample, story, count // len(stories)) for story in stories]
    wrong = [line for job in jobs for line in job.result()]
    for line in wrong:
        print(f"BROKEN {line}")
    print(f"real processes: {count} disks, {len(wrong)} broken promises, {time.monotonic() - begun:.0f} s", flush=True)
    return 1 if wrong else 0


def _mutants(pool: Executor) -> int:
    begun = time.monotonic()
    jobs: dict[Future[str], mutants.Mutant] = {pool.submit(mutants.tried, each): each for each in mutants.MUTANTS}
    alive = [each.name for job, each in jobs.items() if not job.result()]
    for name in alive:
        print(f"ALIVE {name}")
    killed = len(mutants.MUTANTS) - len(alive)
    print(f"mutants: {killed} of {len(mutants.MUTANTS)} killed, {time.monotonic() - begun:.0f} s", flush=True)
    return 1 if alive else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.power", description="Cut the power everywhere.")
    parser.add_argument("--story", default="", help="one sequence of actions, joined by +")
    parser.add_argument("--part", action="append", help="depth-1, depth-2, killed, real or mutants only")
    parser.add_argument(
        "--stories", nargs=2, type=int, default=(None, None), metavar="N", help="of depth 1 these only, from 0"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--states", type=int, default=STATES, help="distinct disks for a cut at most (%(default)s)")
    parser.add_argument("--deeper", type=int, default=0, help="with --story: states for a second cut, in the recovery")
    parser.add_argument(
        "--killed", type=int, default=0, help="with --story: states for a cut after both processes died"
    )
    parser.add_argument("--real", type=int, default=REAL, help="disks to start the real processes on (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
