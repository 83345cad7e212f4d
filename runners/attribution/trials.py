"""One trial: the agent before a task, after one intervention, learns the task."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import Logger

from neoteny.agents import Continual, NonFiniteError
from neoteny.configs import ConfigError
from neoteny.envs import ContinualVecEnv, Segment
from neoteny.runners.attribution.interventions import INTERVENTIONS, NotThereError
from neoteny.runners.experiments import Experiment, read_experiment
from neoteny.runners.runs import find_agent_file
from neoteny.runners.runs.display import Display
from neoteny.runners.runs.recorder import Recorder
from neoteny.runners.runs.segment import learn


class Silent(Display):
    """Says nothing: trials run side by side, and the study tells of each when it is done."""

    def say(self, line: str) -> None:
        pass


@contextmanager
def _told_before() -> Iterator[None]:
    """What stable-baselines3 says of the run's settings is not said again in every trial."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You have specified a mini-batch size")
        yield


@dataclasses.dataclass(frozen=True)
class Switch:
    """A run at the switch into one of its tasks.

    Attributes:
        experiment: of the run.
        task: the index of the task, from 0.
        agent: the file with the agent before it; None for the first task, before which the agent is a new one.
    """

    experiment: Experiment
    task: int
    agent: Path | None

    def segments(self, trial: int) -> list[Segment]:
        """What is learned: the segments of the task, with the seeds of a trial. Those of trial 0 are the run's own."""
        chosen = [each for each in self.experiment.segments if each.visit.index == self.task]
        return [dataclasses.replace(each, trial=trial) for each in chosen]

    def make_env(self, trial: int) -> ContinualVecEnv:
        """The environments of a trial: its tasks are the run's, its episodes others, save in trial 0."""
        env = self.experiment.make_env()
        env.vector.segments = [dataclasses.replace(each, trial=trial) for each in env.vector.segments]
        return env

    def load(self, env: ContinualVecEnv) -> Continual:
        """The agent as the run had it.

        Raises:
            CheckpointError: it cannot be loaded.
        """
        if self.agent is None:
            return self.experiment.make_agent(env, self.experiment.segments[0].seed(self.experiment.run.seed))
        return self.experiment.algorithm.load(self.agent, self.experiment.as_seen(env), self.experiment.device)

    def make_fresh(self, env: ContinualVecEnv, trial: int) -> Continual:
        """The new agent of a trial: that with which ``--fresh`` would begin the task, if the trial is 0."""
        return self.experiment.make_agent(env, self.segments(trial)[0].seed(self.experiment.run.seed))

    @_told_before()
    def left_out(self) -> dict[str, str]:
        """Why interventions cannot be made in this agent, by name."""
        env = self.make_env(0)
        try:
            agent, fresh, found = self.load(env), self.make_fresh(env, 0), {}
            for name, intervention in INTERVENTIONS.items():
                try:
                    intervention.act(agent, fresh)
                except NotThereError as error:
                    found[name] = str(error)
        finally:
            env.close()
        return found


def find_switch(run: str | Path, task: int) -> Switch:
    """The switch into the ``task``-th task of the run, counted from 1.

    Raises:
        ConfigError: this is no run, it has no such task, or the agent before it was not kept.
    """
    experiment = read_experiment(run)
    tasks = len(experiment.sequence.visits)
    if not 1 <= task <= tasks:
        raise ConfigError(f"--task: a number from 1 to {tasks} is needed, got {task}")
    return Switch(experiment, task - 1, find_agent_file(run, task - 1) if task > 1 else None)


@_told_before()
def learn_after(switch: Switch, intervention: str, trial: int) -> dict[str, Any]:
    """The visit's row, as in ``tasks.csv``, of the agent that learns the task after an intervention.

    The same intervention and trial give the same row, whatever was learned before in this process. Trials with one
    number have the same environments and fresh weights, whatever the intervention. ``nothing`` in trial 0 is what the
    run itself has learned.

    Returns:
        With ``intervention`` and ``trial``. If training diverges, the row has only a ``note``.

    Raises:
        NotThereError: the agent lacks what is to be made fresh.
        EnvironmentFault: an environment has broken.
    """
    experiment, segments = switch.experiment, switch.segments(trial)
    experiment.set_up_torch()
    done = {"intervention": intervention, "trial": trial}
    env = switch.make_env(trial)
    try:
        agent = None
        if intervention == "everything":  # as --fresh does it
            experiment = dataclasses.replace(experiment, run=dataclasses.replace(experiment.run, fresh=True))
        else:
            agent = switch.load(env)
            INTERVENTIONS[intervention].act(agent, switch.make_fresh(env, trial))
        before = sum(each.steps for each in experiment.segments[: segments[0].index])
        recorder = Recorder(experiment, Silent(0, 0, 0))
        for segment in segments:
            agent = learn(experiment, segment, agent, env, recorder, Logger(None, []))
            recorder.end_segment()
        return done | recorder.row(before + sum(each.steps for each in segments))
    except NonFiniteError as error:
        return done | {"note": f"diverged: {error}"}
    finally:
        env.close()
