"""Videos of what an agent does in tasks, a whole game in each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neoteny.configs import ConfigError
from neoteny.envs.shifts import Array
from neoteny.runners.measures import evaluate_visit
from neoteny.runners.runs.evaluations import check_tasks
from neoteny.runners.runs.loading import LoadedRun

#: Sides of a frame are multiples of this, as video codecs want them.
BLOCK = 16


def record_video(run: LoadedRun, file: Path, tasks: Sequence[int] | None = None, deterministic: bool = False) -> None:
    """Write a video of one whole game in each task, one after the other, in black frames of the largest one's size.

    Tasks run in Python for this, where the same seed begins other games than in EnvPool.

    Args:
        run: from :func:`~neoteny.runners.runs.load_run`.
        file: ``.mp4``, ``.gif`` or what else imageio can write.
        tasks: which, the first being 1; by default all of the sequence, each once.
        deterministic: take the most likely action.

    Raises:
        ConfigError: a task cannot be rendered, or the file cannot be written.
        EnvironmentFault: an environment has broken.
    """
    write = writer(file)
    sequence = run.experiment.sequence
    visits = [sequence.visit(task - 1) for task in check_tasks(sequence, tasks)]
    env = run.experiment.make_env(1, "rgb_array")
    frames: list[Array] = []

    def watch() -> None:
        frames.append(env.vector.render()[0])

    try:
        for visit in visits:
            evaluate_visit(run.agent, env, visit, 1, deterministic, watch)
            frames[-1] = env.vector.final_frames[0]  # the environment shows the next game already
    finally:
        env.close()
    write(together(frames), env.vector.metadata["render_fps"])


def writer(file: Path) -> Any:
    """A function of frames and their number per second that writes ``file``.

    Raises:
        ConfigError: it could not.
    """
    try:
        import imageio
    except ImportError as error:
        raise ConfigError(f"--render: a video needs imageio: pip install 'neoteny[video]' ({error})") from error
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"--render: {file} cannot be written: there is no folder {file.absolute().parent}")

    def write(frames: Array, fps: float) -> None:
        timing: dict[str, Any] = {"duration": 1000 / fps, "loop": 0} if file.suffix == ".gif" else {"fps": fps}
        imageio.mimwrite(file, list(frames), **timing)

    try:
        write(np.zeros((2, BLOCK, BLOCK, 3), np.uint8), 10)
    except (ImportError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"--render: {file} cannot be written; .mp4 needs pip install 'neoteny[video]' ({reason})"
        ) from error
    return write


def together(frames: Sequence[Array]) -> Array:
    """Frames of several sizes, (height, width, 3) each, in the middle of black ones of one size."""
    height, width = (-(-max(frame.shape[axis] for frame in frames) // BLOCK) * BLOCK for axis in (0, 1))
    film = np.zeros((len(frames), height, width, 3), np.uint8)
    for shown, frame in zip(film, frames, strict=True):
        top, left = ((whole - part) // 2 for whole, part in zip((height, width), frame.shape, strict=False))
        shown[top : top + frame.shape[0], left : left + frame.shape[1]] = frame
    return film
