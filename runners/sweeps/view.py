"""What a sweep shows while it runs: a live table on a terminal, elsewhere a line a minute."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from neoteny.runners.engines.work import Job, Outcome
from neoteny.runners.runs.display import EVERY
from neoteny.runners.sweeps.progress import Progress, duration
from neoteny.runners.sweeps.watching import DONE, FAILED, RUNNING, WAITING, Watched

#: Seconds of each half that looking at the runs may take; those that are left are looked at next time.
BUDGET = 0.1
#: The columns after the run's name, and how wide they are.
COLUMNS = {"state": 7, "task": 7, "steps/s": 7, "left": 10, "return": 8, "node": 8}
#: Lines of a terminal that are left to what has ended.
SPARE = 6
#: What is shown first, where there is no room for all.
ORDER = (RUNNING, FAILED, WAITING)


class View:
    """All jobs: as a table, as a line, and what is said of each when it ends.

    Args:
        jobs: what is run.
        runs: how far the runs are that the jobs go on with, by folder.
        what: they are.
        console: where it is shown.
        room: so many run at a time; None: nobody knows.
    """

    def __init__(
        self, jobs: Sequence[Job], runs: Mapping[str, Progress], what: str, console: Console, room: int | None = None
    ):
        self.what, self.console, self.room = what, console, room
        self.watched = {job.name: Watched(job.name, runs.get(job.name)) for job in jobs}
        self.began = self.said = time.monotonic()
        self._round: list[Watched] = []
        self._live = Live(
            console=console, get_renderable=self.render, auto_refresh=False, transient=True, redirect_stderr=False
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def ended(self, outcome: Outcome) -> None:
        """A job has ended."""
        self.watched[outcome.job.name].state = FAILED if outcome.code else DONE

    def look(self) -> None:
        """Look at the runs, as far as time allows, and show what is seen."""
        until = time.monotonic() + BUDGET
        if not self._round:
            self._round = [each for each in self.watched.values() if each.state in (WAITING, RUNNING)]
        while self._round and time.monotonic() < until:
            self._round.pop().look()
        if self._live.is_started:
            self._live.refresh()
        elif time.monotonic() - self.said >= EVERY:
            self.said = time.monotonic()
            self.say(self.summary())

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def counts(self) -> Counter[str]:
        return Counter(each.state for each in self.watched.values())

    def left(self) -> float | None:
        """Seconds that are left; None if nobody knows."""
        open_ = [each for each in self.watched.values() if each.state in (WAITING, RUNNING)]
        if ended := len(self.watched) - len(open_):
            return (time.monotonic() - self.began) / ended * len(open_)
        at_a_time = max(1, min(len(open_), self.room or sum(each.state == RUNNING for each in open_)))
        known = [each.seconds for each in open_ if each.seconds is not None]
        return max(*known, sum(known) / len(known) * len(open_) / at_a_time) if known else None

    def summary(self) -> str:
        counts = self.counts()
        text = f"{counts[DONE]} of {len(self.watched)} {self.what} complete, {counts[RUNNING]} running"
        text += f", {counts[WAITING]} waiting" if counts[WAITING] else ""
        text += f", {counts[FAILED]} failed" if counts[FAILED] else ""
        rate = sum(each.rate or 0 for each in self.watched.values() if each.state == RUNNING)
        text += f"; {rate:,.0f} steps/s" if rate else ""
        left = self.left()
        return text if left is None else f"{text}; about {duration(left)} left"

    def render(self) -> RenderableType:
        """The table, of those that there is room for, and the summary below it."""
        shown = sorted((w for w in self.watched.values() if w.state != DONE), key=lambda w: ORDER.index(w.state))
        room = max(1, self.console.height - SPARE)
        table = Table(box=None, padding=(0, 1, 0, 0), expand=True)
        width = max(12, self.console.width - sum(COLUMNS.values()) - len(COLUMNS) - 1)
        table.add_column("run", width=width, no_wrap=True)
        for heading, wide in COLUMNS.items():
            right = heading not in ("state", "node")
            table.add_column(heading, width=wide, no_wrap=True, justify="right" if right else "left")
        for each in shown[:room]:
            left = each.seconds if each.state == RUNNING else None
            cells = (
                _end(each.name, width),
                each.state,
                f"{each.task}/{each.tasks}" if each.tasks else "",
                f"{each.rate:,.0f}" if each.rate and each.state == RUNNING else "",
                "" if left is None else duration(left),
                each.last,
                each.node,
            )
            table.add_row(*map(Text, cells), style="red" if each.state == FAILED else "")
        more = Counter(each.state for each in shown[room:])
        lines = [f"and {', '.join(f'{count} {state}' for state, count in more.items())}"] if more else []
        return Group(table, *map(Text, [*lines, self.summary()]))


def _end(name: str, width: int) -> str:
    """The last of a name, which tells runs apart."""
    return name if len(name) <= width else f"…{name[1 - width :]}"
