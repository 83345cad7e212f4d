"""A program run in a fork of this process, which has its libraries in memory: the first five seconds are saved."""

from __future__ import annotations

import gc
import os
import runpy
import sys
import traceback
from pathlib import Path

#: Where modules are that are nobody's examples.
LIBRARIES = (sys.prefix, sys.base_prefix, Path(__file__).parents[1])


def forked(*command: str) -> tuple[int, str, str]:
    """What ``python <command>`` does in the working directory: its exit code, and what it prints to both streams."""
    files = [Path(f".{stream}-{os.getpid()}") for stream in ("out", "err")]
    child = os.fork()
    if not child:
        gc.freeze()  # what tests have left has threads that are not here: to collect it is to wait for them
        code = 1
        try:
            for stream, file in enumerate(files, start=1):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
            sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1) for stream in (1, 2))
            code = _python(*command)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said, errors = (file.read_text() for file in files)
    for file in files:
        file.unlink()
    return code, said, errors


def _python(first: str, *rest: str) -> int:
    for name, module in [*sys.modules.items()]:
        file = getattr(module, "__file__", None)
        if file and not any(Path(file).is_relative_to(place) for place in LIBRARIES):
            del sys.modules[name]  # an example that a test has imported: here it is found anew, or is not
    try:
        if first == "-m":
            sys.argv, sys.path[:0] = [*rest], [os.getcwd()]
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[:0] = [first, *rest], [str(Path(first).absolute().parent)]
            runpy.run_path(first, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
