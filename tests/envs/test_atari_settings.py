"""Settings of Atari games: one set of defaults, the documented one, for EnvPool and ale-py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ale_py
import pytest

from neoteny.envs import ConfigError, ContinualVectorEnv, Task, TaskSequence
from neoteny.envs.backends import atari, make_backend

pytest.importorskip("envpool")

BOTH = ("", "ALE/")


def found(env: str, monkeypatch: pytest.MonkeyPatch, **kwargs: Any) -> dict[str, Any]:
    """What the emulators' own objects are made with, by ale-py's names."""
    made: list[dict[str, Any]] = []
    original: Callable[..., Any] = ale_py.ALEVectorInterface
    monkeypatch.setattr(ale_py, "ALEVectorInterface", lambda **kw: made.append(kw) or original(**kw))
    pool: Any = make_backend(Task(env, 1, kwargs=kwargs), 1, 0)
    if not made:
        config = pool._games._pool.spec.config._asdict()
        made.append({theirs: config[name] for name, theirs, _ in atari.DEFAULTS})
        made[0] |= {"game": config["task"], "most_frames": config["max_episode_steps"] * config["frame_skip"]}
    else:
        made[0] |= {"frameskip": made[0].pop("frame_skip"), "most_frames": made[0].pop("max_episode_steps")}
        made[0]["game"] = made[0]["rom_path"].stem
    names = [theirs for _, theirs, _ in atari.DEFAULTS] + ["game", "most_frames"]
    return {name: made[0][name] for name in names}


def test_defaults_are_one_set_but_for_sticky_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulators themselves clip nothing and end no episodes; what the ids leave open is the same."""
    pooled, ale = (found(f"{kind}SpaceInvaders-v5", monkeypatch) for kind in BOTH)
    assert pooled == {
        "frameskip": 4, "stack_num": 4, "img_height": 84, "img_width": 84, "grayscale": True, "noop_max": 30,
        "use_fire_reset": True, "full_action_space": False, "repeat_action_probability": 0.0,
        "episodic_life": False, "reward_clipping": False, "game": "space_invaders", "most_frames": 108_000,
    }  # fmt: skip
    assert ale == pooled | {"repeat_action_probability": 0.25}
    said = {"repeat_action_probability": 0.0}
    assert found("ALE/SpaceInvaders-v5", monkeypatch, **said) == pooled
    assert found("SpaceInvaders-v5", monkeypatch, frame_skip=16)["most_frames"] == 108_000
    asked = found("SpaceInvaders-v5", monkeypatch, episodic_life=True, reward_clip=True)
    assert asked == pooled
    one, two = (make_backend(Task(f"{kind}SpaceInvaders-v5", 1), 1, 0) for kind in BOTH)
    assert (one.observation_space, one.action_space) == (two.observation_space, two.action_space)


def documented() -> list[list[str]]:
    """The table of docs/atari.md: EnvPool's name, ale-py's, the values by default, in atari-seq and in atari-modes."""
    lines = (Path(__file__).parents[2] / "docs/atari.md").read_text().splitlines()
    return [[cell.strip().strip("`") for cell in line.split("|")[1:6]] for line in lines if line.startswith("| `")]


@pytest.mark.parametrize(("column", "preset"), [
    (2, None), (3, "atari-seq"), (3, "atari-seq-small"), (4, "atari-modes-freeway"), (4, "atari-modes-spaceinvaders"),
])  # fmt: skip
def test_documented_settings_are_those_that_games_are_made_with(column: int, preset: str | None) -> None:
    table = {row[0]: row[column] for row in documented()}
    limit = table.pop("max_episode_steps")
    for task in TaskSequence.load(preset).tasks if preset else (Task("Pong-v5", 1),):
        kwargs = atari.settings(task)
        steps = kwargs.pop("max_episode_steps")
        assert limit in (f"{steps:,} steps", f"{steps * kwargs['frame_skip']:,} frames")
        assert set(kwargs) <= set(table)
        for name, value in table.items():
            assert value in ("0, 1, …", str(kwargs.get(name, "the game's")).lower().removesuffix(".0")), name


def test_documented_names_are_those_of_both_backends() -> None:
    assert {tuple(names) for *names, _ in atari.DEFAULTS} <= {tuple(row[:2]) for row in documented()}


def test_an_id_is_an_atari_game_if_the_emulators_say_so() -> None:
    assert [atari.is_atari(env) for env in ("Pong-v5", "ALE/Pong-v5", "Ant-v5", "CartPole-v1")] == [
        True, True, False, False,
    ]  # fmt: skip


def test_ids_of_both_kinds_are_mixed_only_if_sticky_actions_are_set() -> None:
    said = {"repeat_action_probability": 0.1}
    tasks = [Task("Pong-v5", 1, kwargs=said), Task("ALE/Pong-v5", 1)]
    with pytest.raises(ConfigError, match=r"^kwargs: ALE/Pong-v5 needs repeat_action_probability beside ids of the"):
        ContinualVectorEnv(TaskSequence(tasks=tuple(tasks)))
    tasks[1] = Task("ALE/Pong-v5", 1, kwargs=said)
    ContinualVectorEnv(TaskSequence(tasks=tuple(tasks))).close()


@pytest.mark.parametrize(("env", "kwargs", "message"), [
    ("Pong-v5", {"episodic_life": 1}, "kwargs: episodic_life is true or false, got 1"),
    ("ALE/Pong-v5", {"reward_clipping": "yes"}, "kwargs: reward_clipping is true or false, got 'yes'"),
    ("ALE/Pong-v5", {"life_loss_info": True}, "kwargs: episodic_life does what life_loss_info is for"),
    ("Pong-v5", {"frameskip": 4}, r"kwargs: Pong-v5 cannot be made with {'frameskip': 4}: "),
    ("ALE/Pong-v5", {"frame_skip": 4}, r"kwargs: ALE/Pong-v5 cannot be made with {'frame_skip': 4}: "),
])  # fmt: skip
def test_refused(env: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        make_backend(Task(env, 1, kwargs=kwargs), 1, 0)


def test_dynamics_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^gravity: Atari games have no parameters"):
        make_backend(Task("Pong-v5", 1), 1, 0).set_parameters({"gravity": 1})
