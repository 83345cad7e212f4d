"""Segments of networks that learn from examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from stable_baselines3.common.logger import Logger

from neoteny.agents.supervised import Examples, Learner
from neoteny.envs import Segment
from neoteny.envs.supervised.data import Array
from neoteny.runners.experiments.supervised import SupervisedExperiment
from neoteny.runners.runs.display import Display
from neoteny.runners.runs.examples import ExamplesRecorder
from neoteny.runners.runs.learning import Learning

#: What is drawn in a run, each from a generator of its own; other ones than those of the tasks.
WEIGHTS, ORDER, DROPOUT = 1, 2, 3


class Supervised(Learning):
    """A network learns from the examples of each task in turn.

    A network's first weights depend on the run's seed and the task alone, the order of the examples and dropout also on
    the pass, so results do not depend on how a task is cut into segments.

    Args:
        experiment: what to run.

    Raises:
        ConfigError: the network cannot be made.
    """

    def __init__(self, experiment: SupervisedExperiment):
        self.experiment = experiment
        learner = experiment.make_learner(0)
        self.coverage = learner.coverage()
        self._try_out(learner)

    def _try_out(self, learner: Learner) -> None:
        """Every size of minibatch once, with a network that is not used further."""
        stream, most = self.experiment.sequence, self.experiment.net.batch_size
        tasks = {stream.size(visit.index): visit.index for visit in stream.visits}
        tried: set[int] = set()
        for count, index in tasks.items():
            sizes = {min(count, most), count % most or most} - tried
            data = stream.task(index)
            learner.try_out(self._examples(data.x, data.y), sorted(sizes), stream.outputs)
            tried |= sizes

    def notices(self) -> list[str]:
        train = self.experiment.sequence.task(0)
        test = 0 if train.test_y is None else len(train.test_y)
        shape = "×".join(map(str, self.experiment.sequence.shape))
        return [f"Tasks of {len(train.y):,} examples of {shape}, and {test:,} test examples"]

    def recorder(self, display: Display) -> ExamplesRecorder:
        return ExamplesRecorder(self.experiment, display)

    def load(self, path: Path) -> Learner:
        learner = self.experiment.make_learner(0)
        learner.restore(path)
        return learner

    def learn(self, segment: Segment, agent: Learner | None, recorder: ExamplesRecorder, logger: Logger) -> Learner:
        learner = self._begin(segment, agent)
        data = self.experiment.sequence.task(segment.visit.index)
        train = self._examples(data.x, data.y)
        test = None if data.test_x is None or data.test_y is None else self._examples(data.test_x, data.test_y)
        learner.examples = train
        recorder.begin_segment(segment, learner, train, test, logger)
        # torch.manual_seed notes for every other device where it was called, which takes about a millisecond
        generator = torch.default_generator if self.experiment.device.type == "cpu" else torch
        first, count = segment.start // len(train), segment.steps // len(train)
        for number in range(first, first + count):
            generator.manual_seed(self._seed(DROPOUT, segment.visit.index, number))
            order = np.random.default_rng(self._entropy(ORDER, segment.visit.index, number)).permutation(len(train))
            recorder.begin_pass()
            seen = learner.learn(train, torch.from_numpy(order))
            recorder.end_pass(seen, last=number == first + count - 1)
        learner.examples = None
        return learner

    def _begin(self, segment: Segment, learner: Learner | None) -> Learner:
        """The network that goes into the segment: as it was, or another, if every task has its own."""
        run = self.experiment.run
        if learner is None or (run.fresh and segment.start == 0):
            before = sum(earlier.steps for earlier in self.experiment.segments[: segment.index])
            learner = self.experiment.make_learner(self._seed(WEIGHTS, segment.visit.index))
            learner.num_timesteps = before
        elif segment.start == 0:
            learner.on_switch()
        return learner

    def _entropy(self, what: int, *place: int) -> np.random.SeedSequence:
        return np.random.SeedSequence([self.experiment.run.seed, *place], spawn_key=(what,))

    def _seed(self, what: int, *place: int) -> int:
        return int(self._entropy(what, *place).generate_state(1)[0])

    def _examples(self, x: Array, y: Array) -> Examples:
        device = self.experiment.device
        inputs = torch.from_numpy(x).to(device, memory_format=self.experiment.net.memory_format)
        return Examples(inputs, torch.from_numpy(y).to(device))
