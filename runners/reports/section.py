"""All that a report says of one sequence, in its order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from neoteny.runners.measures.visit import OF_EXAMPLES
from neoteny.runners.reports.against_fresh import against_fresh
from neoteny.runners.reports.answers import Answer, answers
from neoteny.runners.reports.causes import Attributed, attributed, causes
from neoteny.runners.reports.comparison import Comparison, comparison
from neoteny.runners.reports.correlates import correlates
from neoteny.runners.reports.cost import cost
from neoteny.runners.reports.drift import Drawn, Drift, drift, drifts, panels
from neoteny.runners.reports.environment import Environment
from neoteny.runners.reports.figures import Figure
from neoteny.runners.reports.kept import kept
from neoteny.runners.reports.learning import learned, learning_curves
from neoteny.runners.reports.sensitivity import sensitivity
from neoteny.runners.reports.wording import in_its_words

#: What is not there: key, title and why.
ABSENT = {
    "drift": ("Trainability drift", "Nothing was measured of the networks (--instruments none, or no progress.csv)."),
    "plasticity-against-fresh": (
        "Plasticity against fresh agents",
        "There are no fresh agents of the same agent here. `sweep.py --reference fresh` adds them: agents that "
        "begin every task anew. Without them nobody knows whether a low return is lost ability or a hard task.",
    ),
    "evaluation-matrix": (
        "Kept and forgotten",
        "Agents were not evaluated on earlier tasks. `--evaluate-all` does that after each task; with kept agents "
        "also later.",
    ),
    "comparison": ("Which method is better", "There is one method, or the methods share no task."),
    "sensitivity": (
        "How much a swept setting matters",
        "No three methods here differ in one number alone. `sweep.py --grid reg.strength=1e-4,1e-3,1e-2` tries three.",
    ),
    "correlates": (
        "What goes with the next task",
        "There are fewer than five tasks after a first one that have both numbers, or the numbers do not differ.",
    ),
    "attribution": (
        "Why: attribution",
        "No attribution was made. `attribute.py RUN --task N`, on a run with --keep-agents, makes one part fresh at "
        "a time.",
    ),
    "cost": ("Cost", "The tables do not say how long tasks took."),
}

#: What only agents in environments can be asked.
OF_AGENTS = ("evaluation-matrix", "attribution")


@dataclass
class Section:
    """What a report says of one sequence.

    Attributes:
        env: its runs.
    """

    env: Environment

    @cached_property
    def comparison(self) -> Comparison:
        return Comparison(self.env)

    @cached_property
    def attributed(self) -> list[Attributed]:
        return attributed(self.env)

    @cached_property
    def drawn(self) -> list[Drawn]:
        return list(panels(self.env))

    @cached_property
    def drifts(self) -> list[Drift]:
        return drifts(self.env, self.drawn)

    @cached_property
    def figures(self) -> list[Figure]:
        """In the order of the page; one without panels and table says why it is not there."""
        env = self.env
        made = {
            "learning-curves": learning_curves(env),
            "tasks-learned": learned(env),
            "drift": drift(self.drawn, self.drifts),
            "plasticity-against-fresh": against_fresh(env),
            "evaluation-matrix": kept(env),
            "comparison": comparison(env, self.comparison),
            "sensitivity": sensitivity(env),
            "correlates": correlates(env, self.comparison),
            "attribution": causes(self.attributed),
            "cost": cost(env),
        }
        if env.headline in OF_EXAMPLES:
            made = {key: figure for key, figure in made.items() if key not in OF_AGENTS}
        found = [figure or Figure(key, *ABSENT[key]) for key, figure in made.items()]
        return in_its_words(found, env.headline)

    @cached_property
    def answers(self) -> list[Answer]:
        of = {figure.key: figure for figure in self.figures if figure.panels}
        found = answers(self.env, self.comparison, self.drifts, self.attributed, of.get("correlates"))
        left_out = {*OF_AGENTS} - {figure.key for figure in self.figures}
        return in_its_words([answer for answer in found if answer.key not in left_out], self.env.headline)
