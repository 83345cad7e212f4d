"""Environments in processes of their own, which have to answer within a stated time."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from gymnasium.vector import AsyncVectorEnv

from neoteny.envs.backends.faults import EnvironmentFault
from neoteny.envs.backends.orphans import no_orphan

#: Seconds that processes are given to close their environments, once one of them has failed.
GRACE = 5.0


class Workers(AsyncVectorEnv):
    """Gymnasium's worker processes, which end and say so when one of them has ended or does not answer.

    Attributes:
        timeout: seconds that an answer may take.
    """

    timeout = 300.0

    def __init__(self, env_fns: Sequence[Callable[[], Any]], **options: Any):
        super().__init__([no_orphan(make) for make in env_fns], **options)

    def step(self, actions: Any) -> Any:
        def ask() -> Any:
            self.step_async(actions)
            return self.step_wait(self.timeout)

        return self._answered(ask)

    def reset(self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None) -> Any:
        def ask() -> Any:
            self.reset_async(seed, options)
            return self.reset_wait(self.timeout)

        return self._answered(ask)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        def ask() -> Any:
            self.call_async(name, *args, **kwargs)
            return self.call_wait(self.timeout)

        return self._answered(ask)

    def _check_spaces(self) -> None:
        self._answered(super()._check_spaces)

    def _answered(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except (multiprocessing.TimeoutError, EOFError, OSError) as error:
            fault = self._fault()
            self.close_extras(GRACE)
            raise fault from error

    def _fault(self) -> EnvironmentFault:
        for index, process in enumerate(self.processes):
            process.join(0.1)  # one that has just ended is not known to yet
            if not process.is_alive():
                return EnvironmentFault(f"its process has ended, with exit code {process.exitcode}", index)
        silent = [index for index, pipe in enumerate(self.parent_pipes) if not pipe.poll()]
        return EnvironmentFault(f"no answer within {self.timeout:g} seconds", silent[0] if silent else None)

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Let the environments close, and end the processes that have not done so in time."""
        allowed = self.timeout if timeout is None else timeout
        until = time.monotonic() + (0 if terminate else allowed)
        for pipe in self.parent_pipes:
            with suppress(OSError, AttributeError):  # closed, or None, where the process has ended
                pipe.send(("close", None))
        for process in self.processes:
            process.join(max(0.0, until - time.monotonic()))
            process.kill()
            process.join()
        for pipe in filter(None, self.parent_pipes):
            pipe.close()
        self.closed = True
