"""A CLIP tokenizer that knows the words of the scenes' captions, each as one token; other words fall into letters.

Byte-pair merges are what makes a word of letters: without them "cube" is four tokens. Words are added one after
another, each by merges of what the earlier merges leave of it, so no later word can break an earlier one.
"""

from __future__ import annotations

import re
from itertools import pairwise

from scenes import COLOURS, FLOORS, MATERIALS, PLACES, SIZES, SKIES
from solids import CLASSES
from transformers import CLIPTokenizer, T5TokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

LENGTH = 24  # tokens of a caption with its two ends; the longest has 22
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"


def known_words() -> list[str]:
    """Every word and sign that a caption may hold, sorted."""
    phrases = ("a an on floor , and", *CLASSES, *COLOURS, *MATERIALS, *SIZES, *PLACES, *FLOORS, *SKIES)
    return sorted({word for phrase in phrases for word in re.findall(r"\w+|,", phrase)})


def _apply(merges: list[tuple[str, str]], parts: list[str]) -> list[str]:
    """Split parts merged as byte-pair encoding does it: the earliest merge that fits comes first."""
    rank = {pair: number for number, pair in enumerate(merges)}
    while True:
        pairs = list(pairwise(parts))
        best = min(pairs, key=lambda pair: rank.get(pair, len(rank)), default=None)
        if best is None or best not in rank:
            return parts
        at = pairs.index(best)
        parts = [*parts[:at], "".join(best), *parts[at + 2 :]]


def merges_for(words: list[str]) -> list[tuple[str, str]]:
    """Merges under which each of the words becomes one token."""
    merges: list[tuple[str, str]] = []
    for word in words:
        parts = _apply(merges, [*word[:-1], word[-1] + WORD_END])
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts = [parts[0] + parts[1], *parts[2:]]
    return merges


def build_tokenizer() -> CLIPTokenizer:
    """The tokenizer, as `StableDiffusion3Pipeline` takes it."""
    letters = sorted(bytes_to_unicode().values())
    merges = merges_for(known_words())
    tokens = [*letters, *(letter + WORD_END for letter in letters), *("".join(pair) for pair in merges), START, END]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def build_silent_tokenizer() -> T5TokenizerFast:
    """A tokenizer of four tokens for the third text encoder, which knows no word.

    The pipeline warns of lost text where `max_sequence_length` is shorter than the caption; nothing is lost.
    """
    return T5TokenizerFast(extra_ids=0, model_max_length=LENGTH)
