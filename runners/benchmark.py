"""Throughput: agents against stock stable-baselines3, what methods or instruments cost, or backends against Gymnasium.

    python runners/benchmark.py
    python runners/benchmark.py --agent dqn
    python runners/benchmark.py --agent sac
    python runners/benchmark.py --agent ppo-control --env-id CartPole-v1 --widths 64 256
    python runners/benchmark.py --methods
    python runners/benchmark.py --instruments
    python runners/benchmark.py --instruments --agent ppo-control
    python runners/benchmark.py --backends

All contenders take turns, slice by slice, in one process; each round compares them under the same conditions, and the
table gives the median over rounds with the range of the middle half. The hyper-parameters and the shape of the network
are the same for all agents; stock stable-baselines3 runs its own policy class, with our one-hot encoder before it.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import warnings
from pathlib import Path

import stable_baselines3 as sb3
import torch

from neoteny import configs
from neoteny.configs import ConfigError
from neoteny.runners.benchmarks import (
    RACES,
    STEPS,
    STOCK,
    WIDTHS,
    compare_agents,
    compare_backends,
    compare_instruments,
    compare_methods,
)


def main(argv: list[str], prog: str = "benchmark.py") -> int:
    parser = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--agent", default="ppo", help=f"which agents: a preset of {', '.join(STOCK)} (default: %(default)s)"
    )
    parser.add_argument(
        "--env-id", help="an environment for them (default: MiniGrid-DoorKey-5x5-v0, for sac WalkerWalk-v1)"
    )
    parser.add_argument(
        "--backends", nargs="*", metavar="ENV", help=f"backends instead, of all of these or some: {', '.join(RACES)}"
    )
    parser.add_argument(
        "--methods", nargs="*", metavar="REG", help="what plasticity methods cost instead, of all of these or some"
    )
    parser.add_argument(
        "--instruments", nargs="*", metavar="NAME", help="what instruments cost instead, the default ones or these"
    )
    parser.add_argument(
        "--steps",
        nargs="+",
        type=int,
        help=f"environment steps per task, with --instruments (default: {' '.join(map(str, STEPS))})",
    )
    parser.add_argument(
        "--widths",
        nargs="+",
        type=int,
        help=f"of the hidden layers (default: the agent's; with --methods {' '.join(map(str, WIDTHS))})",
    )
    parser.add_argument("--num-envs", type=int, help="environments in parallel (default: the agent's, or 8)")
    parser.add_argument("--rounds", type=int, default=12, help="timed slices per contender (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="where agents learn: cpu, cuda, ... (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads (default: %(default)s)")
    parser.add_argument(
        "--precision",
        choices=("highest", "high", "medium"),
        default="highest",
        help="of products of float32 matrices, in torch's words (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args(argv)
    for name in ("num_envs", "rounds", "threads", "widths", "steps"):
        value = getattr(options, name)
        if value is not None and (least := min(value) if isinstance(value, list) else value) < 1:
            parser.error(f"--{name.replace('_', '-')}: at least 1 is needed, got {least}")
    configs.import_from_here()
    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision(options.precision)
    torch.set_flush_denormal(True)
    compare = compare_agents
    if options.backends is not None:
        compare = compare_backends
    elif options.methods is not None:
        compare = compare_methods
    elif options.instruments is not None:
        compare = compare_instruments
    warnings.filterwarnings("ignore", message=".*to run PPO on the GPU.*")
    try:
        numbers = compare(options)
    except ConfigError as error:
        parser.error(str(error))
    if options.json:
        versions = {"python": platform.python_version(), "torch": torch.__version__, "sb3": sb3.__version__}
        options.json.write_text(json.dumps(versions | numbers, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
