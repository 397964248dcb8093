"""The benchmark, if asked: every method on the same noise, saved after each."""

from ptq4dit.benchmark.config import BenchmarkConfig
from ptq4dit.benchmark.run import benchmark
from ptq4dit.config.prepare import PrepareConfig
from ptq4dit.prepare.stage import Stage, Work
from ptq4dit.storage.home import RESULTS
from ptq4dit.storage.json_file import read_json
from ptq4dit.storage.provenance import same_model

FILE = f"{RESULTS}/benchmark.json"


def benchmark_config(config: PrepareConfig) -> BenchmarkConfig:
    """The usual benchmark at the bits and strengths of the examples."""
    return BenchmarkConfig(
        bits=config.bits,
        factorial_bits=config.bits,
        strengths=config.strengths,
        steps=config.steps,
        guidance_scale=config.guidance_scale,
        prompts=config.prompts,
    )


def _made(work: Work) -> bool:
    results = read_json(work.home / FILE)
    own = same_model(results.get("made", {}).get("model_fingerprint"), work.calibration.model)
    return own and {key for key, _, _ in benchmark_config(work.config).jobs()} <= set(results.get("results", {}))


def _run(work: Work) -> None:
    benchmark(
        work.model,
        work.calibration,
        benchmark_config(work.config),
        work.home / FILE,
        work.made,
        progress=lambda _key, done, total: work.progress(done, total),
        cancelled=work.cancelled,
    )


def _evaluations(config: PrepareConfig) -> int:
    asked = benchmark_config(config)
    return asked.steps * asked.pictures * len(asked.seeds) * (1 + len(asked.jobs()))


STAGE = Stage(
    name="benchmark",
    file=FILE,
    wanted=lambda config: config.benchmark,
    made=_made,
    run=_run,
    evaluations=_evaluations,
)
