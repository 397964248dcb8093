"""What diffusers' ``DiTPipeline`` takes for granted of a transformer, made true: 1,000 classes, channels named."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import AutoencoderKL, DiTPipeline, DiTTransformer2DModel, SchedulerMixin
from torch import nn

from ptq4dit.model.hooks import Hooks

STOCK = 1000
"""What ``DiTPipeline`` gives a transformer for "no class": right for ImageNet's 1,000 classes only."""


class PTQ4DiTPipeline(DiTPipeline):
    """diffusers' ``DiTPipeline`` with the transformer's own null class, whatever the number of its classes.

    Folders of quantized DiTs name it in ``model_index.json``; ``DiffusionPipeline.from_pretrained`` finds it after
    ``import ptq4dit``. It keeps the names of the classes when it is saved again.
    """

    def __init__(
        self,
        transformer: DiTTransformer2DModel,
        vae: AutoencoderKL,
        scheduler: SchedulerMixin,
        id2label: dict[str, str] | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            transformer, vae, scheduler: see ``DiTPipeline``.
            id2label: class number, as JSON has it, -> names, separated by commas.
        """
        names = {str(number): str(name) for number, name in (id2label or {}).items()}
        super().__init__(transformer, vae, scheduler, {int(number): name for number, name in names.items()})
        self.register_to_config(id2label=names)

    def __call__(self, class_labels: list[int], guidance_scale: float = 4.0, *args: Any, **kwargs: Any) -> Any:
        """See ``DiTPipeline``."""
        with _own_null_class(self.transformer, len(class_labels) if guidance_scale > 1 else None):
            return super().__call__(class_labels, guidance_scale, *args, **kwargs)


def suit_stock_pipeline(transformer: Any) -> None:
    """Make a DiT one that the stock ``DiTPipeline`` runs as it is, in place; others are left alone.

    With fewer than 1,000 classes it takes `STOCK` for its own null class: without that the number is beyond its table,
    an error. One of more has a class of that number, and needs `PTQ4DiTPipeline`. Its config says how many channels
    come out, which may be left to a default.
    """
    if not isinstance(transformer, DiTTransformer2DModel):
        return
    if transformer.config.out_channels is None:
        transformer.register_to_config(out_channels=transformer.out_channels)
    known = any(isinstance(hook, _StockNullClass) for hook in transformer._forward_pre_hooks.values())
    if transformer.config.num_embeds_ada_norm < STOCK and not known:
        transformer.register_forward_pre_hook(_StockNullClass(), with_kwargs=True)


@contextmanager
def _own_null_class(transformer: Any, pictures: int | None) -> Iterator[None]:
    """While a guided call runs, the labels of the rows behind the pictures are the transformer's null class."""

    def replace(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        labels = kwargs["class_labels"].clone()
        labels[pictures:] = int(module.config.num_embeds_ada_norm)
        return args, {**kwargs, "class_labels": labels}

    if pictures is None:
        yield
        return
    with Hooks() as hooks:
        hooks.before(transformer, replace)
        yield


class _StockNullClass:
    """Replaces the number in the class labels of a call."""

    changes_nothing = True
    """A forward in two parts may leave this hook out: its labels are the transformer's own."""

    def __call__(self, transformer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        labels = kwargs.get("class_labels")
        if not isinstance(labels, torch.Tensor):
            return None
        own = int(transformer.config.num_embeds_ada_norm)  # type: ignore[union-attr, arg-type]
        return args, kwargs | {"class_labels": labels.masked_fill(labels == STOCK, own)}
