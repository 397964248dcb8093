"""Which random numbers an image is made of: a function of (seed, index) alone, whatever it is drawn together with."""

import numpy as np
import torch


def image_generator(seed: int, index: int, *stream: int) -> torch.Generator:
    """The random generator of one image: a function of (seed, index) only, on the CPU whatever the model's device.

    ``stream`` (first number not 0) names an independent generator of the same image, for other draws than its noise.
    """
    state = np.random.SeedSequence([seed, index, *stream]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) % 2**63)
