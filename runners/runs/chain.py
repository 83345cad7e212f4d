"""A run as a chain of segments.

Each segment begins with new environments and newly seeded generators, both functions of the run's seed and the
segment's place, and ends with a checkpoint. The state at its end is therefore a function of the configuration and the
checkpoint before: a run that is killed and started again gives the same numbers as one that never was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from neoteny.configs import ConfigError
from neoteny.envs import Segment
from neoteny.runners.dashboards import Switches
from neoteny.runners.experiments import AnyExperiment
from neoteny.runners.measures import HEADLINES
from neoteny.runners.runs.display import Display
from neoteny.runners.runs.folder import RunFolder, Writing
from neoteny.runners.runs.learning import Covered, Learning, Recording
from neoteny.runners.runs.made_with import parts
from neoteny.runners.runs.reinforcement import Reinforcement

log = logging.getLogger(__name__)


class Chain:
    """One experiment in its run folder: begun, or gone on with where the last checkpoint was taken.

    Args:
        experiment: what to run.
        learning: how its segments are learned.

    Attributes:
        coverage: what the agent's methods do with each matrix, as last seen.

    Raises:
        ConfigError: it cannot be run, or not in its folder; nothing has been written then.
    """

    def __init__(self, experiment: AnyExperiment, learning: Callable[[Any], Learning] = Reinforcement):
        self.experiment = experiment
        self.learning = learning(experiment)
        self.coverage = self.learning.coverage
        self.folder = RunFolder(experiment.folder, experiment.plain)
        if self.folder.state["segment"] >= len(experiment.segments):
            raise ConfigError(
                f"--num-tasks: {len(experiment.sequence.visits)} tasks are fewer than {experiment.folder} has learned "
                f"({self.folder.state['step']:,} steps, {len(self.folder.tasks)} tasks to their end); choose more, or "
                f"another --out"
            )
        self.learning.claim(self.folder)
        if self.done:  # a process that was killed when it had written its last checkpoint can have left the oldest
            self.folder.tidy()

    @property
    def coming(self) -> list[Segment]:
        """The segments after the last checkpoint."""
        return self.experiment.segments[self.folder.state["segment"] + 1 :]

    @property
    def done(self) -> bool:
        """Whether there is nothing to learn, and nothing to evaluate."""
        return not self.coming and not self.learning.unevaluated

    def run(self) -> None:
        """Learn segment after segment to the end of the sequence."""
        for _ in self.walk():
            pass

    def walk(self) -> Iterator[Segment]:
        """The segments that are coming, each once it is learned and written."""
        self.experiment.set_up_torch()
        for line in self.learning.notices() if self.coming else ():
            log.info(line)
        try:
            agent = self._resume() if self.coming else None
            with self.folder.writing(parts(self.experiment.device)) as writing, self._display() as display:
                logger = writing.logger
                self.learning.evaluate(logger, display)
                recorder = self.learning.recorder(display)
                recorder.begin_visit(**self.folder.state["visit"])
                shown = Switches(logger, recorder.headline, "/".join(self.experiment.folder.parts[-3:]))
                for segment in self.coming:
                    agent = self.learning.learn(segment, agent, recorder, logger)
                    self._close(segment, agent, recorder, writing, shown)
                    self.learning.evaluate(logger, display)
                    yield segment
        finally:
            self.learning.close()

    def _display(self) -> Display:
        steps = [segment.steps for segment in self.experiment.segments]
        sequence = self.experiment.sequence
        done, headline = self.folder.state["step"], HEADLINES[sequence.score]
        return Display(sum(steps), done, len(sequence.visits), headline, max(steps))

    def _resume(self) -> Any:
        path = self.folder.agent
        if path is None:
            return None
        try:
            return self.learning.load(path)
        except ValueError as error:
            raise ConfigError(f"--out: this run cannot go on: {error}; train anew, with another --out") from error

    def _close(self, segment: Segment, agent: Covered, recorder: Recording, writing: Writing, shown: Switches) -> None:
        """Write what the segment has come to."""
        logger = writing.logger
        step = self.folder.state["step"] + segment.steps
        recorder.end_segment()
        self.coverage = agent.coverage()
        if segment.ends_visit:
            row = recorder.row(step)
            writing.tasks.add(row)
            recorder.display.task_done(row)
            for key in row:
                if key.endswith(("_mean", "_final")):
                    logger.record(f"task/{key}", row[key])
            recorder.begin_visit()
            if self.experiment.run.keep_agents:  # before the checkpoint, without which the segment is learned again
                self.folder.keep(agent, segment.visit.index)
        logger.dump(step)
        if segment.ends_visit:
            last = segment is self.experiment.segments[-1]
            shown.show(step, writing.tasks.rows, lambda: writing.progress.rows, last)
        state = {"segment": segment.index, "step": step, "visit": recorder.state()}
        self.folder.save(agent, state)
