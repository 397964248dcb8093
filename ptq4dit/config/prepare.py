"""What preparing a model for the explorer is asked to do: frozen, validated."""

from dataclasses import dataclass, field

from ptq4dit.config.base import Config, require_integer
from ptq4dit.config.calibration import CalibrationConfig, require_guidance


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(Config):
    """What is made of a model, once, so that all that the explorer shows of it is there.

    Attributes:
        calibration: how its activations are observed.
        sensitivity: measure how much each site's rounding shows.
        examples: how many pictures are stored of every variant, each of its own class or prompt; 0 for none.
        pictures: behind the mean of every variant.
        bits: (weight, activation) pairs of the stored examples.
        strengths: settings of the salience dial of the stored examples; 1 is the model as it is.
        per_token: store the examples with a scale for every token, too.
        steps, guidance_scale: of sampling them.
        seed: of the examples.
        mean_seed: of the first batch behind a mean, apart from those of the examples.
        prompts: of a text-conditioned model; those that ship with the package if empty.
        benchmark: measure every method too, which takes hours.
    """

    calibration: CalibrationConfig = field(default_factory=lambda: CalibrationConfig(samples_per_timestep=16))
    sensitivity: bool = True
    examples: int = 4
    pictures: int = 8
    bits: tuple[tuple[int, int], ...] = ((4, 8), (8, 8))
    strengths: tuple[int, ...] = (1,)
    per_token: bool = True
    steps: int = 25
    guidance_scale: float = 4.0
    seed: int = 0
    mean_seed: int = 1000
    prompts: tuple[str, ...] = ()
    benchmark: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("examples", 0), ("pictures", 1), ("steps", 1), ("seed", 0), ("mean_seed", 0)):
            require_integer(name, getattr(self, name), at_least=least)
        if not self.bits or not self.strengths:
            raise ValueError(f"Expected some bits and strengths, got {self.bits} and {self.strengths}.")
        require_guidance(self.guidance_scale)
