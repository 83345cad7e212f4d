"""One segment of a run."""

from __future__ import annotations

from collections.abc import Mapping

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import set_random_seed

from neoteny.agents import Continual
from neoteny.envs import ContinualVecEnv, Segment
from neoteny.runners.experiments import Callbacks, Experiment
from neoteny.runners.runs.recorder import Recorder


def learn(
    experiment: Experiment,
    segment: Segment,
    agent: Continual | None,
    env: ContinualVecEnv,
    recorder: Recorder,
    logger: Logger,
    own: Mapping[str, BaseCallback] | None = None,
) -> Continual:
    """The agent after ``segment``: a function of the experiment, the segment and the agent before it.

    Environments and generators begin anew, seeded by the run's seed and the segment's place.

    Args:
        experiment: whose segment it is.
        segment: what to learn.
        agent: as it was before; None at the beginning of the run.
        env: where the segment begins.
        recorder: measures and logs while the agent learns.
        logger: where it is logged.
        own: the user's own callbacks, by name.

    Raises:
        NonFiniteError: training has diverged.
        EnvironmentFault: an environment has broken.
        StoppedByCallback: a callback wants the run to stop.
    """
    agent = _begin(experiment, segment, agent, env)
    seed = segment.seed(experiment.run.seed)
    set_random_seed(seed)
    agent.action_space.seed(seed)
    env.seek(segment.index)
    agent._last_obs = None  # learn() resets, and the segment begins
    agent.set_logger(logger)
    recorder.begin_segment(segment)
    callbacks = Callbacks({"the run": recorder, **(own or {})})
    try:
        agent.learn(segment.steps, callback=callbacks, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]
    except (ValueError, RuntimeError):
        agent.check_finite()  # a distribution refuses weights that have diverged: say that instead
        raise
    agent.check_finite()
    return agent


def _begin(experiment: Experiment, segment: Segment, agent: Continual | None, env: ContinualVecEnv) -> Continual:
    """The agent that goes into the segment: as it was, or another, if every task has its own.

    If switches are signalled the environments tell it of its task, else it is told here how long it has.
    """
    fresh = experiment.run.fresh and segment.start == 0
    if agent is not None and not fresh:
        return agent
    before = sum(earlier.steps for earlier in experiment.segments[: segment.index])
    agent = experiment.make_agent(env, segment.seed(experiment.run.seed))
    agent.num_timesteps = before
    if experiment.sequence.switches == "hidden":
        total = sum(each.steps for each in experiment.segments)  # to the learner it is all one task
        agent.begin_task(experiment.budget(segment.visit) if fresh else total)
    return agent
