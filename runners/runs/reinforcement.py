"""Segments of agents in environments."""

from __future__ import annotations

from pathlib import Path

from stable_baselines3.common.logger import Logger

from neoteny.agents import CheckpointError, Continual
from neoteny.envs import Segment
from neoteny.runners.experiments import Experiment, make_callbacks
from neoteny.runners.runs.display import Display
from neoteny.runners.runs.evaluations import Evaluations
from neoteny.runners.runs.folder import RunFolder
from neoteny.runners.runs.learning import Learning
from neoteny.runners.runs.notices import notices
from neoteny.runners.runs.recorder import Recorder
from neoteny.runners.runs.segment import learn


class Reinforcement(Learning):
    """An agent learns in environments, which are those of each segment in turn.

    Args:
        experiment: what to run.

    Raises:
        ConfigError: environments or agent cannot be made.
    """

    evaluations: Evaluations

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.callbacks = make_callbacks(experiment.run.callback)
        self.env = experiment.make_env()
        self.coverage = experiment.make_agent(self.env, 0).coverage()

    def claim(self, folder: RunFolder) -> None:
        self.evaluations = Evaluations(self.experiment, folder, self.env)

    def notices(self) -> list[str]:
        return notices(self.experiment)

    def recorder(self, display: Display) -> Recorder:
        return Recorder(self.experiment, display)

    def load(self, path: Path) -> Continual:
        agent = self.experiment.algorithm.load(path, self.experiment.as_seen(self.env), self.experiment.device)
        replay = getattr(agent, "replay_buffer", None)
        if replay is not None and not replay.size():
            raise CheckpointError(f"{path} has no replay buffer; an earlier version did not save the last one")
        if self.experiment.sequence.switches == "hidden" and not self.experiment.run.fresh:
            agent.stretch_task(sum(segment.steps for segment in self.experiment.segments))
        return agent

    def learn(self, segment: Segment, agent: Continual | None, recorder: Recorder, logger: Logger) -> Continual:
        if agent is not None and agent.ep_info_buffer is not None:
            agent.ep_info_buffer.clear()
        return learn(self.experiment, segment, agent, self.env, recorder, logger, self.callbacks)

    @property
    def unevaluated(self) -> bool:
        return self.experiment.run.evaluate_all and bool(self.evaluations.missing)

    @property
    def evaluated(self) -> list[dict[str, str]]:
        return self.evaluations.rows

    def evaluate(self, logger: Logger, display: Display) -> None:
        if self.experiment.run.evaluate_all:
            self.evaluations.catch_up(logger, display)

    def close(self) -> None:
        self.env.close()
        self.evaluations.close()
