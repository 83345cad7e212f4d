"""One segment of a run."""

from __future__ import annotations

from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import set_random_seed

from neoteny.agents import Continual
from neoteny.envs import ContinualVecEnv, Segment
from neoteny.runners.experiments import Experiment
from neoteny.runners.runs.recorder import Recorder


def learn(
    experiment: Experiment,
    segment: Segment,
    agent: Continual | None,
    env: ContinualVecEnv,
    recorder: Recorder,
    logger: Logger,
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

    Raises:
        NonFiniteError: training has diverged.
        EnvironmentFault: an environment has broken.
    """
    agent = _begin(experiment, segment, agent, env)
    seed = segment.seed(experiment.run.seed)
    set_random_seed(seed)
    agent.action_space.seed(seed)
    env.seek(segment.index)
    agent._last_obs = None  # learn() resets, and the segment begins
    agent.set_logger(logger)
    recorder.begin_segment(segment)
    try:
        agent.learn(segment.steps, callback=recorder, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]
    except (ValueError, RuntimeError):
        agent.check_finite()  # a distribution refuses weights that have diverged: say that instead
        raise
    agent.check_finite()
    return agent


def _begin(experiment: Experiment, segment: Segment, agent: Continual | None, env: ContinualVecEnv) -> Continual:
    """The agent that goes into the segment: at a switch told of it, or another, if every task has its own."""
    begins_visit = segment.start == 0
    hidden = experiment.sequence.switches == "hidden"
    if agent is None or (experiment.run.fresh and begins_visit):
        before = sum(earlier.steps for earlier in experiment.segments[: segment.index])
        agent = experiment.make_agent(env, segment.seed(experiment.run.seed))
        agent.num_timesteps = before
    elif begins_visit and not hidden:
        agent.on_switch()
    if begins_visit and (experiment.run.fresh or not hidden):
        agent.begin_task(experiment.budget(segment.visit))
    elif segment.index == 0:
        agent.begin_task(sum(each.steps for each in experiment.segments))  # to the learner it is all one task
    return agent
