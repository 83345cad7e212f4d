"""The mean return of an expert who sees all and knows the mission, on Python MiniGrid.

    python results/missions/expert.py MiniGrid-GoToDoor-5x5-v0 MiniGrid-Fetch-5x5-N2-v0 BabyAI-GoToLocal-v0

For BabyAI it is BabyAI's own bot. For MiniGrid it is a shortest path, found by trying every sequence of actions on
copies of the environment, breadth first: no policy has a higher return.
"""

import contextlib
import copy
import io
import sys

import gymnasium as gym
import minigrid
from minigrid.utils.baby_ai_bot import BabyAIBot

EPISODES = 200


def bot(env):
    """The return of BabyAI's bot in the episode that has begun."""
    player, action, total, over = BabyAIBot(env), None, 0.0, False
    while not over:
        action = player.replan(action)
        _, reward, terminated, truncated, _ = env.step(action)
        total, over = total + reward, terminated or truncated
    return total


def state(env):
    """All that matters for what comes after."""
    carried = env.carrying and (env.carrying.type, env.carrying.color)
    return tuple(env.agent_pos), env.agent_dir, env.grid.encode().tobytes(), carried


def shortest(env):
    """The return of a shortest way to a reward."""
    env.observation_space = None  # nothing to copy
    level, seen = [env], {state(env)}
    while level:
        coming = []
        for one in level:
            for action in range(7):
                two = copy.deepcopy(one)
                _, reward, terminated, truncated, _ = two.step(action)
                if reward > 0:
                    return reward
                if not (terminated or truncated or state(two) in seen):
                    seen.add(state(two))
                    coming.append(two)
        level = coming
    return 0.0


def main(ids):
    gym.register_envs(minigrid)
    for name in ids:
        env = gym.make(name).unwrapped
        returns = []
        with contextlib.redirect_stdout(io.StringIO()):  # BabyAI prints the layouts that it rejects
            for seed in range(EPISODES):
                env.reset(seed=seed)
                returns.append(bot(env) if name.startswith("BabyAI-") else shortest(copy.deepcopy(env)))
        print(f"{name}: {sum(returns) / EPISODES:.3f} over {EPISODES} episodes", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
