"""MiniGrid's and BabyAI's missions as numbers: each word, and the comma, has an id in a fixed vocabulary."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from neoteny.configs import ConfigError, suggestion
from neoteny.envs.shifts import Array

#: Every word of every registered mission. The i-th has the id i + 1, so new words go to the end; 0 means no word.
VOCABULARY = (
    ",", "a", "after", "and", "at", "avoid", "ball", "behind", "blue", "box", "door", "end", "fetch", "find", "from",
    "front", "get", "go", "goal", "green", "grey", "hallway", "in", "key", "lava", "left", "matching", "maze", "must",
    "near", "next", "object", "of", "on", "open", "opening", "pays", "pick", "purple", "put", "reach", "red", "right",
    "room", "rooms", "square", "that", "the", "then", "to", "traverse", "unlock", "up", "use", "yellow", "you", "your",
)  # fmt: skip

#: The words of the longest mission: BabyAI's BossLevel can ask for four objects to be put next to others, all eight
#: with article, colour and place ("a red ball in front of you").
LENGTH = 72

_IDS = {word: i for i, word in enumerate(VOCABULARY, 1)}


@lru_cache(maxsize=2**16)
def encode(mission: str, env: str) -> Array:
    """The ids of a mission's words, uint8 of shape (LENGTH,), zeros at its end.

    Args:
        mission: the text.
        env: the environment's id, for the message.

    Raises:
        ConfigError: a word is not in the vocabulary, or the mission is too long.
    """
    words = re.findall(r"\w+|[^\w\s]", mission.lower())
    if len(words) > LENGTH:
        raise ConfigError(f"mission: at most {LENGTH} words can be shown, {env} has one of {len(words)}: {mission!r}")
    for word in words:
        if word not in _IDS:
            near = suggestion(word, VOCABULARY)
            raise ConfigError(f"mission: {env} uses the word {word!r}, which is not in the vocabulary{near}")
    ids = np.zeros(LENGTH, np.uint8)
    ids[: len(words)] = [_IDS[word] for word in words]
    ids.setflags(write=False)
    return ids
