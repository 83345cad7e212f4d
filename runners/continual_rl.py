"""Train one agent on a sequence of tasks, and record its returns and its trainability.

    python runners/continual_rl.py --env minigrid-seq --reg spectral

Watch it with TensorBoard (tensorboard --logdir runs). A run that was stopped goes on when the same command is given
again, to the same numbers.
"""

import logging
import os
import sys

try:
    import yaml

    from neoteny.agents import NonFiniteError
    from neoteny.configs import ConfigError
    from neoteny.runners.chain import Chain
    from neoteny.runners.command_line import parse
    from neoteny.runners.display import summary
except (ImportError, SyntaxError) as error:
    print(
        f"continual_rl.py: this Python ({sys.executable}) cannot run Neoteny: {error}\n"
        "Run `make install` first, then use .venv/bin/python.",
        file=sys.stderr,
    )
    sys.exit(2)


sys.path.append(os.getcwd())  # a user's own modules, named in YAML as module:Class, are where the user is


def main(argv: "list[str]") -> int:
    """Run the command line ``argv``; the exit code."""
    experiment, options = parse(argv, (__doc__ or "").split("\n\n")[0])
    if options.print_config:
        print(yaml.safe_dump(experiment.plain, sort_keys=False, allow_unicode=True), end="")
        return 0
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("neoteny").setLevel(logging.INFO)
    try:
        chain = Chain(experiment)
        if not chain.finished:
            chain.run()
    except ConfigError as error:
        print(f"continual_rl.py: {error}", file=sys.stderr)
        return 2
    except NonFiniteError as error:
        good = chain.agent_path()
        print(f"continual_rl.py: training diverged: {error}", file=sys.stderr)
        print(f"The last good state is {good}" if good else "It has no earlier state.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from the last checkpoint.", file=sys.stderr)
        return 130
    summary(chain.tasks, str(experiment.folder))
    print(f"Trained agent: {chain.agent_path()}\nDashboard:     tensorboard --logdir {experiment.run.out}")
    print(f"Fingerprint:   {experiment.sequence.fingerprint()} (results of the same one are of the same tasks)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
