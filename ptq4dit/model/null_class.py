"""The null class under the number that diffusers' ``DiTPipeline`` has for it, whatever the number of classes."""

from typing import Any

import torch
from torch import nn

STOCK = 1000
"""What ``DiTPipeline`` gives a transformer for "no class": right for ImageNet's 1,000 classes only."""


def accept_stock_null_class(transformer: Any) -> None:
    """Have a class-conditional transformer of fewer classes take `STOCK` for its own null class, in place.

    Nothing else changes: without it that number is beyond the table of classes, an error. A transformer of 1,000
    classes needs nothing; one of more has a class of that number, and is left as it is.
    """
    classes = transformer.config.get("num_embeds_ada_norm")
    takes_classes = hasattr(transformer, "pos_embed") and type(transformer).__name__ == "DiTTransformer2DModel"
    if not takes_classes or not isinstance(classes, int) or classes >= STOCK:
        return
    if not any(isinstance(hook, _NullClass) for hook in transformer._forward_pre_hooks.values()):
        transformer.register_forward_pre_hook(_NullClass(), with_kwargs=True)


class _NullClass:
    """Replaces the number in the class labels of a call."""

    changes_nothing = True
    """A forward in two parts may leave this hook out: its labels are the transformer's own."""

    def __call__(self, transformer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        labels = kwargs.get("class_labels")
        if not isinstance(labels, torch.Tensor):
            return None
        own = int(transformer.config.num_embeds_ada_norm)  # type: ignore[union-attr]
        return args, kwargs | {"class_labels": labels.masked_fill(labels == STOCK, own)}
