"""What a benchmark is asked to do: frozen, validated."""

from dataclasses import dataclass, field

from ptq4dit.config.balancing import VARIANTS
from ptq4dit.config.methods import method_names
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.config.reconstruction import ReconstructionConfig

PTQ4DIT_VARIANTS: dict[str, dict[str, object]] = {
    f"{name}{'+dynamic' if dynamic else ''}{'+reconstruction' if learned else ''}": {
        "csb": csb,
        "ssc": ssc,
        "activation_granularity": "per_token" if dynamic else "per_tensor",
        "learned": learned,
    }
    for name, (csb, ssc) in VARIANTS.items()
    for dynamic in (False, True)
    for learned in (False, True)
}
"""The factorial: {none, CSB, CSB+SSC} x {static, dynamic} x {without, with reconstruction}."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """One benchmark: every method at every bit-width and strength, from the same noise.

    Attributes:
        methods: names in the registry; ``"ptq4dit"`` runs with reconstruction, like the others that have it.
        bits: (weight, activation) pairs.
        strengths: settings of the salience dial; 1 is the model as it is.
        seeds: one set of pictures each; intervals are over them.
        pictures: in a set, classes in turn.
        steps, guidance_scale, sampler: of sampling; None for the model's own sampler.
        prompts: for a text-conditioned model, in turn; those that ship with the package if empty.
        factorial_bits: pairs at which the factorial of PTQ4DiT's parts runs too.
        reconstruction: for all methods of those methods that learn by what they are given.
    """

    methods: tuple[str, ...] = field(default_factory=method_names)
    bits: tuple[tuple[int, int], ...] = ((4, 8), (8, 8), (4, 6), (3, 8), (6, 8))
    strengths: tuple[int, ...] = (1, 8)
    seeds: tuple[int, ...] = (2000, 2001, 2002)
    pictures: int = 10
    steps: int = 25
    guidance_scale: float = 4.0
    sampler: str | None = None
    prompts: tuple[str, ...] = ()
    factorial_bits: tuple[tuple[int, int], ...] = ((4, 8), (8, 8))
    reconstruction: ReconstructionConfig = field(default_factory=lambda: ReconstructionConfig(images=16, timesteps=10))

    def __post_init__(self) -> None:
        if unknown := [name for name in self.methods if name not in method_names()]:
            raise ValueError(f"Unknown methods {unknown}. Expected some of {', '.join(method_names())}.")
        if self.pictures < 5 or not self.seeds:
            raise ValueError(f"Expected at least 5 pictures and one seed, got {self.pictures} and {self.seeds}.")

    def shared_reconstruction(self, method: str) -> ReconstructionConfig | None:
        """What a method is given: the benchmark's reconstruction, or None if it takes none or its own."""
        return self.reconstruction if method in method_names(learns="shared") else None

    def jobs(self) -> list[tuple[str, int, QuantConfig]]:
        """Key, strength and config of every model, the most telling first."""
        jobs = []
        for strength in self.strengths:
            for weight, activation in self.bits:
                for name in self.methods:
                    learned = self.shared_reconstruction(name)
                    config = QuantConfig(
                        method=name, weight_bits=weight, activation_bits=activation, reconstruction=learned
                    )
                    jobs.append((f"x{strength}/{config.label}/{name}", strength, config))
            for weight, activation in self.factorial_bits:
                for name, parts in PTQ4DIT_VARIANTS.items():
                    settings = {key: value for key, value in parts.items() if key != "learned"}
                    config = QuantConfig(
                        weight_bits=weight,
                        activation_bits=activation,
                        reconstruction=self.reconstruction if parts["learned"] else None,
                        **settings,  # type: ignore[arg-type]
                    )
                    jobs.append((f"x{strength}/{config.label}/factorial/{name}", strength, config))
        return jobs
