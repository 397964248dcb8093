"""PTQ4DiT: balance channels with calibrated salience, fold the factors, round, reconstruct if asked.

The paper's settings, where the config's defaults differ: ``activation_range="percentile"``,
``reconstruction=ReconstructionConfig.paper()`` (20,000 steps of AdaRound a block, hours on a CPU; the benchmark runs
the closed form), and as the released code has it all other linears, the patch embedding, q, k, v and the softmax
rounded (``patch_embed``, ``conditioning``, ``modulation``, ``final_layer``, ``attention_bits``, ``softmax_bits``).
"""

from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.method import Job, Method
from ptq4dit.model.bundle import Dit
from ptq4dit.quantized.balance import model_factors


def prepare(config: QuantConfig) -> QuantConfig:
    """As wanted: the config's own switches are this method's.

    Raises:
        ValueError: for ``balance_inputs`` without CSB.
    """
    if config.balance_inputs and not config.csb:
        raise ValueError(
            "balance_inputs=True, formerly balance_fc2=True needs csb=True, whose factors it applies. Set it, or "
            "balance_inputs=False."
        )
    return config


def run(job: Job) -> Dit:
    """CSB (eqs. 3-7) with the salience of SSC (eqs. 10, 11) or of the middle timestep, then reconstruction."""
    factors = model_factors(job.stats, job.sites, job.config)
    return job.reconstructed(job.converted(factors), factors)


METHOD = Method(
    name="ptq4dit",
    title="PTQ4DiT",
    citation="Wu et al. 2024, arXiv 2405.16005",
    summary="Activation and weight salience are balanced channel by channel, timesteps weighed by their correlation.",
    inference="nothing",
    prepare=prepare,
    run=run,
    place=120,
    learns="shared",
    balances_inputs=True,
)
