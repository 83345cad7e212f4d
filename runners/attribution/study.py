"""All trials of one switch: which are to be done, several at a time, each kept when it is done."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.envs.backends.orphans import end_with_parent
from neoteny.runners.attribution.trials import Switch, learn_after
from neoteny.runners.experiments import from_plain
from neoteny.runners.measures import in_words
from neoteny.runners.runs.display import counter
from neoteny.runners.runs.tables import write_text

Row = dict[str, Any]
Key = tuple[str, int]


class Study:
    """The trials of one switch, in a folder of the run. Nothing else of the run is written.

    Args:
        run: the run's folder.
        switch: what is studied.

    Attributes:
        folder: with ``trials.csv``, a row for each trial that is done.

    Raises:
        ConfigError: the folder holds trials of another agent, or another process works in it.
    """

    def __init__(self, run: str | Path, switch: Switch):
        self.switch = switch
        self.folder = Path(run) / "attribution" / f"task-{switch.task + 1:04d}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = self.folder / "trials.csv"
        self.agent = _fingerprint(switch)
        self.rows: dict[Key, Row] = {}
        if self.file.exists():
            with self.file.open(newline="") as lines:
                self.rows = {(row["intervention"], int(row["trial"])): row for row in csv.DictReader(lines)}
        if any(row["agent"] != self.agent for row in self.rows.values()):
            raise ConfigError(f"{self.folder} holds trials of another agent; remove it")

    def missing(self, interventions: Sequence[str], seeds: int) -> list[Key]:
        """The trials that are not done, seed by seed."""
        keys = [(name, seed) for seed in range(seeds) for name in interventions]
        return [key for key in keys if key not in self.rows]

    def run(self, interventions: Sequence[str], seeds: int, jobs: int) -> None:
        """Do what is missing, ``jobs`` at a time.

        Raises:
            ConfigError: another process works in the folder.
            EnvironmentFault, BrokenProcessPool: a trial has failed; those done are kept.
        """
        missing = self.missing(interventions, seeds)
        with self._locked(), _progress(len(interventions) * seeds, len(missing)) as advance:
            for row in _results(self.switch, missing, min(jobs, len(missing))):
                self.rows[row["intervention"], row["trial"]] = row | {"agent": self.agent}
                self._write(interventions)
                advance(row)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise ConfigError(f"{self.folder}: another process works there") from error
        finally:
            os.close(folder)

    def _write(self, order: Sequence[str]) -> None:
        place = {name: i for i, name in enumerate(order)}
        rows = [self.rows[key] for key in sorted(self.rows, key=lambda key: (place.get(key[0], len(place)), key))]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list({key: None for row in rows for key in row}), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.file, text.getvalue())


def _fingerprint(switch: Switch) -> str:
    """Of the agent before the task."""
    settings = {key: value for key, value in switch.experiment.plain.items() if key in ("env", "agent", "reg", "seed")}
    content = switch.agent.read_bytes() if switch.agent else json.dumps(settings, sort_keys=True, default=str).encode()
    return hashlib.sha256(content).hexdigest()[:12]


def _results(switch: Switch, keys: Sequence[Key], jobs: int) -> Iterator[Row]:
    """The rows of these trials, as they are done."""
    if jobs <= 1:
        for intervention, trial in keys:
            yield learn_after(switch, intervention, trial)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, _begin_worker) as pool:
        plain = switch.experiment.plain
        futures = [pool.submit(_learn, plain, switch.task, switch.agent, *key) for key in keys]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _learn(plain: Mapping[str, Any], task: int, agent: Path | None, intervention: str, trial: int) -> Row:
    return learn_after(Switch(from_plain(plain), task, agent), intervention, trial)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends the workers
    if (parent := multiprocessing.parent_process()) is not None:
        end_with_parent(parent.is_alive)
    configs.import_from_here()


@contextmanager
def _progress(total: int, missing: int) -> Iterator[Any]:
    """A bar on a terminal, a line per trial elsewhere; yields what is called with each row."""
    with counter("trials", Console(stderr=True, soft_wrap=True)) as progress:
        bar = progress.add_task("", total=total, completed=total - missing)
        done = total - missing

        def advance(row: Row) -> None:
            nonlocal done
            done += 1
            progress.advance(bar)
            found = row.get("note") or f"{in_words(row['headline'])} {row[row['headline'] + '_mean']:.3f}"
            text = f"{done:>3}/{total}  {row['intervention']:<14} seed {row['trial']}  {found}"
            progress.console.print(text, highlight=False)

        yield advance
