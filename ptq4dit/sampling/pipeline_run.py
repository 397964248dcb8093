"""Sample a text-conditioned model by its stock diffusers pipeline, one step at a time.

The pipeline runs unchanged, on a copy of its scheduler; what it tells after every step (``callback_on_step_end``, or
the older ``callback``) comes out of a generator, see `turns`.
"""

import copy
import functools
import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ptq4dit.model.bundle import Bundle
from ptq4dit.sampling.prompts import EncodedPrompts, encoded_names, require_encoders
from ptq4dit.sampling.schedule import clean_latents, whole_step
from ptq4dit.sampling.seeds import image_generator
from ptq4dit.sampling.state import DenoiseState
from ptq4dit.sampling.turns import in_turns

Report = Callable[[tuple[DenoiseState, bool]], None]
"""Takes a state, and whether it is the last one."""


def run_pipeline(
    model: Bundle,
    prompts: Sequence[str] | EncodedPrompts,
    seeds: Sequence[tuple[int, int]],
    *,
    steps: int | None,
    guidance_scale: float | None,
    options: Mapping[str, Any],
    cancelled: Callable[[], bool] | None,
) -> Generator[DenoiseState, None, None]:
    """The states of one run of the pipeline; what can be refused is refused at the call.

    Args:
        model: a text-conditioned bundle.
        prompts: one for each image.
        seeds: (seed, index) of each image.
        steps, guidance_scale: None for the pipeline's own.
        options: further arguments of its call.
        cancelled: asked before every step.

    Raises:
        ValueError: for options that the pipeline does not take, or freed text encoders. Exceptions of the pipeline
            itself come when its states are asked for.
    """
    pipeline = model.pipeline
    arguments = _conditions(pipeline, prompts, options)
    arguments |= _asked(pipeline, steps, guidance_scale, arguments)
    arguments["generator"] = [image_generator(seed, index) for seed, index in seeds]

    def run(report: Report) -> None:
        Watched(pipeline, report, model.noise_correction).run({**arguments, "output_type": "latent"})

    return _until_cancelled(run, cancelled)


def _until_cancelled(
    run: Callable[[Report], None], cancelled: Callable[[], bool] | None
) -> Generator[DenoiseState, None, None]:
    states = in_turns(run)
    try:
        last = False
        while not last and not (cancelled is not None and cancelled()):
            found = next(states, None)
            if found is None:
                return
            state, last = found
            yield state
        if last:
            next(states, None)  # the pipeline tidies up after its last step
    finally:
        states.close()


class Watched:
    """A pipeline on a copy of its scheduler, which tells what it does."""

    def __init__(self, pipeline: Any, report: Report, noise_correction: Any = None) -> None:
        """Nothing runs yet.

        Args:
            pipeline: a copy that belongs to this run.
            report: called after every step.
            noise_correction: what is taken out of each prediction; it acts on each half of guidance alike, so that it
                may act after it.
        """
        self._pipeline, self._report, self._correction = pipeline, report, noise_correction
        self._scheduler = pipeline.scheduler = copy.deepcopy(pipeline.scheduler)
        self._step, self._evaluation = 0, 0
        self._begin: tuple[int | float, Callable[[], Tensor]] | None = None
        self._stock_step = self._scheduler.step
        self._takes = inspect.signature(type(pipeline).__call__).parameters

    def run(self, arguments: dict[str, Any]) -> Any:
        """Call the pipeline."""
        self._scheduler.step = _like(self._stock_step, self._watched_step)
        if "callback_on_step_end" in self._takes:
            arguments["callback_on_step_end"] = self._after_step
        elif "callback" in self._takes:
            arguments |= {"callback": lambda _index, _timestep, latents: self._tell(latents), "callback_steps": 1}
        return self._pipeline(**arguments)

    def _watched_step(self, prediction: Tensor, timestep: Any, latents: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self._correction is not None:
            prediction = self._correction.correct(prediction, float(timestep))
        if self._begin is None:
            clean = partial(clean_latents, self._scheduler, self._evaluation, prediction, latents)
            self._begin = torch.as_tensor(timestep).item(), clean
        result = self._stock_step(prediction, timestep, latents, *args, **kwargs)
        if not {"callback_on_step_end", "callback"} & self._takes.keys():
            self._tell(result[0])
        return result

    def _after_step(self, _pipeline: Any, _index: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self._tell(tensors["latents"])
        return {}

    def _tell(self, latents: Tensor) -> None:
        """Report a step that has come to its end; second-order schedulers evaluate the model twice in one."""
        evaluation, self._evaluation = self._evaluation, self._evaluation + 1
        if self._begin is None or not whole_step(self._scheduler, evaluation):
            return
        self._step += 1
        (timestep, clean), self._begin = self._begin, None
        state = DenoiseState(step=self._step, timestep=timestep, latents=latents, clean=clean)
        self._report((state, evaluation == len(self._scheduler.timesteps) - 1))


@torch.no_grad()
def decode_with_pipeline(model: Bundle, latents: Tensor, options: Mapping[str, Any]) -> Tensor:
    """Latents to pictures by the pipeline's own code, which no other method of a pipeline holds.

    The pipeline is called for one step with stand-ins for all that comes before its decoding: a transformer that
    computes nothing, embeddings of nothing, and a scheduler whose step gives these latents.

    Args:
        model: a text-conditioned bundle.
        latents: as a `DenoiseState` holds them.
        options: those of the run that they are from.

    Returns:
        ``(n, 3, height, width)`` in [0, 1].
    """
    pipeline = model.pipeline
    texts: list[str] = [""] * len(latents)
    arguments = _conditions(pipeline, texts, options, encoders=False)
    arguments |= _asked(pipeline, 1, None, arguments)
    scheduler = copy.deepcopy(pipeline.scheduler)
    scheduler.step = _like(scheduler.step, lambda *_, **__: (latents, latents))
    blank = latents.new_zeros(len(latents), 1, 1)
    count = len(encoded_names(type(pipeline)))  # type: ignore[arg-type]
    vars(pipeline).update(
        scheduler=scheduler,
        transformer=_StandIn(model.transformer),
        encode_prompt=lambda *_, **__: (blank,) * count,
    )
    generators = [torch.Generator().manual_seed(0) for _ in texts]
    pictures = pipeline(**arguments, generator=generators, output_type="pt", return_dict=False)[0]
    return pictures.clamp(0, 1)


def _like(stock: Callable[..., Any], other: Callable[..., Any]) -> Callable[..., Any]:
    """A function in place of a stock one; pipelines look at its signature."""

    @functools.wraps(stock)
    def function(*args: Any, **kwargs: Any) -> Any:
        return other(*args, **kwargs)

    return function


class _StandIn:
    """Called like a transformer, answers with its input; in all else it is the transformer."""

    def __init__(self, transformer: Any) -> None:
        self._transformer = transformer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transformer, name)

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any]:
        return (args[0] if args else kwargs["hidden_states"],)


def _conditions(
    pipeline: Any, prompts: Sequence[str] | EncodedPrompts, options: Mapping[str, Any], *, encoders: bool = True
) -> dict[str, Any]:
    """The arguments of the call that hold the prompts, and the options."""
    takes = inspect.signature(type(pipeline).__call__).parameters
    strange = sorted(set(options) - set(takes))
    if strange:
        raise ValueError(
            f"Expected options that {type(pipeline).__name__} takes, got {strange}. It takes "
            f"{', '.join(list(takes)[1:])}."
        )
    if isinstance(prompts, EncodedPrompts):
        negative = {"negative_prompt": None} if "negative_prompt" in takes else {}
        return {**options, **negative, **prompts.arguments}
    if encoders:
        require_encoders(pipeline)
    return {**options, "prompt": list(prompts)}


def _asked(pipeline: Any, steps: int | None, guidance_scale: float | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Steps and guidance by the names that the pipeline has for them; what is None is left to it.

    A pipeline whose ``guidance_scale`` has no default (Qwen-Image) guides by ``true_cfg_scale``, and only if there is
    a negative prompt: a blank one, unless another is given.
    """
    takes = inspect.signature(type(pipeline).__call__).parameters
    found: dict[str, Any] = {} if steps is None else {"num_inference_steps": int(steps)}
    if guidance_scale is None:
        return found
    if "true_cfg_scale" in takes and takes["guidance_scale"].default is None:
        negative = _negative(pipeline, given) if guidance_scale > 1 else {}
        return found | negative | {"true_cfg_scale": float(guidance_scale)}
    return found | {"guidance_scale": float(guidance_scale)} if "guidance_scale" in takes else found


def _negative(pipeline: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The negative prompt without which a pipeline does not guide, if none is given."""
    if any(given.get(name) is not None for name in ("negative_prompt", "negative_prompt_embeds")):
        return {}
    if "prompt" not in given:
        raise ValueError(
            f"Expected encoded prompts with negative ones for guidance in a {type(pipeline).__name__}, got none. "
            'Encode them with options={"negative_prompt": " "}.'
        )
    return {"negative_prompt": " "}
