"""The best return without memory on MiniGrid's Memory tasks: ascent of the exact value of policies of one observation.

Three actions (left, right, forward), actions drawn from a distribution for each observation. The time limit is left
out: the policies that are found end long before it. An upper bound with memory is that of an agent that knows all.

    python results/memory/memoryless.py 7 9 11
"""

from __future__ import annotations

import itertools
import sys

import gymnasium as gym
import minigrid  # noqa: F401  (registers the environments)
import numpy as np
import torch
from minigrid.core.world_object import Ball, Key
from torch import Tensor

OBJECTS = (Key, Ball)
ACTIONS = range(3)


class Table:
    """A Memory task as a table: a state is what was shown, what lies up, the agent's place and direction.

    Attributes:
        seen: the index of each state's observation, (states).
        after: the state after each action, (states, actions); the number of states if the episode has ended.
        won: where that end is the right one, (states, actions).
        starts: the states in which episodes start, all equally likely.
        limit: the time limit in steps.
    """

    def __init__(self, size: int):
        self.env = gym.make(f"MiniGrid-MemoryS{size}-v0").unwrapped
        self.limit = self.env.max_steps
        crossing, middle = size - 2, size // 2
        images, moves, starts = {}, {}, []
        for shown, up in itertools.product(range(2), repeat=2):
            self.env.reset(seed=0)
            for place, kind in zip(((1, -1), (crossing, -2), (crossing, 2)), (shown, up, 1 - up), strict=True):
                self.env.grid.set(place[0], middle + place[1], OBJECTS[kind]("green"))
            ends = (crossing, middle - 1), (crossing, middle + 1)
            self.env.success_pos, self.env.failure_pos = ends if shown == up else ends[::-1]
            todo = [(x, middle, 0) for x in range(1, crossing)]
            starts += [(shown, up, *state) for state in todo]
            while todo:
                state = todo.pop()
                if (shown, up, *state) not in moves:
                    images[shown, up, *state], reached = self._look_and_move(state)
                    moves[shown, up, *state] = [(shown, up, *new) for new in reached]
                    todo += [new for new in reached if new[:2] not in ends]
        index = {state: i for i, state in enumerate(moves)}
        kinds = {image: i for i, image in enumerate(dict.fromkeys(images.values()))}
        good = {(s, u): (crossing, middle + (-1 if s == u else 1)) for s in range(2) for u in range(2)}
        self.seen = torch.tensor([kinds[images[state]] for state in moves])
        self.after = torch.tensor([[index.get(new, len(index)) for new in reached] for reached in moves.values()])
        self.won = torch.tensor([[new[2:4] == good[new[:2]] for new in reached] for reached in moves.values()]).double()
        self.starts = torch.tensor([index[state] for state in starts])

    def _look_and_move(self, state: tuple[int, int, int]) -> tuple[bytes, list[tuple[int, int, int]]]:
        reached = []
        for action in ACTIONS:
            self._put(state)
            self.env.step(action)
            reached.append((*map(int, self.env.agent_pos), int(self.env.agent_dir)))
        self._put(state)
        return self.env.gen_obs()["image"].tobytes(), reached

    def _put(self, state: tuple[int, int, int]) -> None:
        self.env.agent_pos, self.env.agent_dir, self.env.step_count = np.array(state[:2]), state[2], 0

    def value(self, logits: Tensor) -> Tensor:
        """The mean return of a policy: P(win) − 0.9 · E[steps where it wins] / limit."""
        chances = logits.softmax(1)[self.seen]
        count = len(self.seen)
        moves = torch.zeros(count, count + 1, dtype=torch.double)
        for action in ACTIONS:
            moves = moves.index_put((torch.arange(count), self.after[:, action]), chances[:, action], accumulate=True)
        inner = moves[:, :count]
        system = torch.eye(count, dtype=torch.double) - (1 - 1e-6) * inner  # solvable also if it never ends
        wins = (chances * self.won).sum(1)
        win = torch.linalg.solve(system, wins)
        steps = torch.linalg.solve(system, wins + inner @ win)
        return (win - 0.9 * steps / self.limit)[self.starts].mean()

    def all_knowing(self) -> float:
        """The mean return of the shortest ways."""
        steps = torch.full((len(self.seen) + 1,), torch.inf, dtype=torch.double)
        for _ in range(len(self.seen)):
            steps[:-1] = torch.where(self.won > 0, 1.0, 1 + steps[self.after]).min(1).values
        return float(1 - 0.9 * steps[self.starts].mean() / self.limit)


def main() -> None:
    for size in map(int, sys.argv[1:]):
        table, values = Table(size), []
        for seed in range(5):
            draw = torch.Generator().manual_seed(seed)
            logits = torch.randn(int(table.seen.max()) + 1, len(ACTIONS), generator=draw, dtype=torch.double)
            optimizer = torch.optim.Adam([logits.requires_grad_()], lr=0.05)
            for _ in range(1500):
                optimizer.zero_grad()
                (-table.value(logits)).backward()
                optimizer.step()
            values.append(float(table.value(logits.detach())))
        found = ", ".join(f"{value:.3f}" for value in values)
        print(f"MemoryS{size}: without memory {found}; all-knowing {table.all_knowing():.3f}", flush=True)


if __name__ == "__main__":
    main()
