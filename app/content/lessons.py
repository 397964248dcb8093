"""The lessons of the Learn tab in their order: titles, what is asked, and which answer is right."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One idea and its question.

    key: names its text, `content/learn/<key>.md`; answers: what one may predict; right: the index of the right
    one, None where that depends on the model; idea: what to take away from it.
    """

    key: str
    title: str
    short: str
    question: str
    answers: tuple[str, ...]
    right: int | None
    idea: str

    @property
    def anchor(self) -> str:
        """The id that a link to this lesson names."""
        return f"learn-{self.key}"


LESSONS = (
    Lesson(
        key="rounding",
        title="Rounding on a number line",
        short="Rounding",
        question="One bit more: what becomes of the scale, the step between two levels?",
        answers=("it shrinks by one level's worth", "about half", "a quarter"),
        right=1,
        idea="Every bit more halves the step between two levels.",
    ),
    Lesson(
        key="outlier",
        title="One outlier sets everyone's step",
        short="Outliers",
        question="4 bits make 16 levels. With an outlier of 10, how many are used by all 25 ordinary values together?",
        answers=("15", "8", "3"),
        right=2,
        idea="One far value leaves all others a few levels.",
    ),
    Lesson(
        key="salience",
        title="Do the salient channels coincide?",
        short="Salience",
        question="In how many of this model's layers are fewer than 3 of the top 10 channels the same on both sides?",
        answers=("in hardly any", "in about half", "in most"),
        right=None,
        idea="Where channels of activation and weight are salient is rarely the same place.",
    ),
    Lesson(
        key="balance",
        title="CSB: both meet in the middle",
        short="CSB",
        question="CSB makes a salient activation channel 3 times smaller. What happens to that channel of the weight?",
        answers=("3 times smaller, too", "it stays", "3 times larger"),
        right=2,
        idea="What a channel loses in the activation it gains in the weight; the product stays.",
    ),
    Lesson(
        key="timesteps",
        title="SSC: one balance for all timesteps",
        short="Timesteps",
        question="ρ is 0.6 at one timestep and 0 at another. Which one should count more in the average?",
        answers=("the one with 0.6", "the one with 0", "both alike"),
        right=1,
        idea="One factor serves all timesteps; those that need it most count most.",
    ),
    Lesson(
        key="pictures",
        title="The pictures: does balancing pay?",
        short="Pictures",
        question="Averaged over the stored pictures at these bits and this dial: what do CSB and SSC do?",
        answers=("bring them closer to full precision", "change next to nothing", "take them further away"),
        right=None,
        idea="Whether balancing pays is measured, not assumed.",
    ),
    Lesson(
        key="scales",
        title="Instead: more scales",
        short="More scales",
        question="On this layer, at these bits: what takes away more of the error than balancing does?",
        answers=("a scale for every token does", "only groups as well", "none of it does"),
        right=None,
        idea="More scales need no balancing, and are paid for at every run.",
    ),
    Lesson(
        key="rotation",
        title="Instead: rotate the channels",
        short="Rotation",
        question="Rotate this layer's channels: what becomes of the largest value that the grid must span?",
        answers=("it shrinks", "it stays about the same", "it grows"),
        right=None,
        idea="A rotation spreads outliers that nobody knows beforehand, for a transform of every token.",
    ),
    Lesson(
        key="branch",
        title="Instead: a thin branch in float",
        short="Float branch",
        question="A float branch of rank 16 beside this layer: how many multiplications does it add to its own?",
        answers=("fewer than 5%", "5 to 15%", "more than 15%"),
        right=None,
        idea="A thin float branch carries the largest part; wide layers pay little for it.",
    ),
)


def lesson(key: str) -> Lesson:
    """The lesson of that key."""
    return next(one for one in LESSONS if one.key == key)
