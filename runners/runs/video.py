"""Videos of what an agent does in tasks, a whole game in each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neoteny.configs import ConfigError
from neoteny.envs import ContinualVecEnv, Segment, Visit
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
    sequence = run.experiment.sequence
    visits = [sequence.visit(task - 1) for task in check_tasks(sequence, tasks)]
    env = run.experiment.make_env(1, "rgb_array")
    try:
        size = _largest(env, visits)
        with _writer(file, env.vector.metadata["render_fps"]) as film:
            for visit in visits:
                waiting: list[Array] = []

                def watch(waiting: list[Array] = waiting) -> None:
                    film.append_data(framed(waiting.pop(), size)) if waiting else None
                    waiting.append(env.vector.render()[0])

                found = evaluate_visit(run.agent, env, visit, 1, deterministic, watch)
                # The environment shows the next game already.
                film.append_data(framed(env.vector.final_frames[0] if found["games"] else waiting.pop(), size))
    finally:
        env.close()


def _largest(env: ContinualVecEnv, visits: Sequence[Visit]) -> tuple[int, int]:
    """Height and width that hold the frames of all tasks, in whole blocks."""
    shapes = []
    for visit in visits:
        env.enter(Segment(visit.index, visit, 1, False))
        env.reset()
        shapes.append(env.vector.render()[0].shape)
    height, width = (-(-max(sides) // BLOCK) * BLOCK for sides in list(zip(*shapes, strict=True))[:2])
    return height, width


def _writer(file: Path, fps: float) -> Any:
    """What writes frames to ``file``, to be closed.

    Raises:
        ConfigError: the file cannot be written, or not in this format.
    """
    try:
        import imageio
    except ImportError as error:
        raise ConfigError(f"--render: a film needs imageio: pip install 'neoteny[video]' ({error})") from error
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"--render: {file} cannot be written: there is no folder {file.absolute().parent}")
    timing: dict[str, Any] = {"duration": 1000 / fps, "loop": 0} if file.suffix == ".gif" else {"fps": fps}
    try:
        return imageio.get_writer(file, mode="I", **timing)
    except (ImportError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"--render: {file} cannot be written; .mp4 and .gif can, with pip install 'neoteny[video]' ({reason})"
        ) from error


def framed(frame: Array, size: tuple[int, int]) -> Array:
    """A frame, (height, width, 3), in the middle of a black one of this size."""
    whole = np.zeros((*size, 3), np.uint8)
    top, left = ((side - part) // 2 for side, part in zip(size, frame.shape, strict=False))
    whole[top : top + frame.shape[0], left : left + frame.shape[1]] = frame
    return whole
