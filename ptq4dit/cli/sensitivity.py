"""``sensitivity``: how much each site's rounding shows, for `quantize --budget`."""

import argparse
import dataclasses
from pathlib import Path

import ptq4dit
from ptq4dit.cli.options import add_dry_run, add_quantization, quantization
from ptq4dit.cli.output import add_out, out_file
from ptq4dit.cli.progress import Bar, FirstUnit, PricedError, priced, told
from ptq4dit.cli.report import Report, lines
from ptq4dit.cli.source import add_model, model_source, open_calibration, open_float, short_name
from ptq4dit.parallel import processes
from ptq4dit.storage.whole_file import require_file

_BYTES = 60
"""Of one layer at one number of bits in the file, about."""
HELP = "Round one layer after the other, and write how much of it the model's prediction shows."


def add_options(command: argparse.ArgumentParser) -> None:
    """What can be asked."""
    add_model(command, "a diffusers pipeline folder, a hub id or a .pt file; the demo if none")
    add_out(command, "file to write; <model>-sensitivity.json here if not given")
    command.add_argument("--bits", type=int, nargs="+", default=[4, 8], help="weight bits to try")
    command.add_argument("--samples", type=int, default=16, help="calls' samples to compare")
    text = "setting of the salience dial; 1 is the model as it is, and what a budget is chosen by"
    command.add_argument("--strength", type=int, default=1, help=text)
    add_quantization(command)
    command.add_argument("--seed", type=int, default=0, help="seed of reconstruction, which is not run here")
    add_dry_run(command)


def run(options: argparse.Namespace) -> Report:
    """Measure, and save."""
    import torch

    from ptq4dit.benchmark.run import command_as_typed
    from ptq4dit.salience_dial import amplified
    from ptq4dit.sharing import together
    from ptq4dit.storage.provenance import made_by

    source = model_source(options)
    config, stats = quantization(options, options.seed), open_calibration(options.calibration, source)
    dial = "" if options.strength == 1 else f"-x{options.strength}"
    switches = "" if config.csb and config.ssc else "-csb" if config.csb else "-none"
    kept = out_file(options, source, f"sensitivity{dial}{switches}.json")
    file = str(kept or f"{short_name(source)}-sensitivity.json")
    require_file(Path(file))
    dit, stats = amplified(open_float(source, options.device), stats, options.strength)
    progress: FirstUnit | Bar = FirstUnit() if options.dry_run else Bar("layer")
    try:
        with together():
            found = ptq4dit.sensitivity(
                dit, stats, config, bits=options.bits, samples=options.samples, progress=progress
            )
    except PricedError:
        assert isinstance(progress, FirstUnit)
        cost = priced(progress.total, 0, progress.each * progress.total, disk=_BYTES * progress.total)
        return Report(content=cost, text=told(cost))
    made = made_by(command_as_typed(), torch.get_num_threads())
    made |= {"backend": "simulated", "model_fingerprint": found.model}
    found = dataclasses.replace(found, settings={**found.settings, "strength": options.strength}, made=made)
    if processes().first:
        found.save(file)
    fewest = min(options.bits)
    order = sorted(found.errors, key=lambda site: -found.errors[site][fewest])
    content = {
        "file": file,
        "source": source,
        "sites": len(found.errors),
        "samples": found.samples,
        "least_bytes": found.fixed_bytes + sum(min(sizes.values()) for sizes in found.bytes.values()),
        "most_bytes": found.fixed_bytes + sum(max(sizes.values()) for sizes in found.bytes.values()),
        f"most_sensitive_at_{fewest}_bits": {site: float(f"{found.errors[site][fewest]:.3g}") for site in order[:5]},
    }
    return Report(content=content, text=lines(content))
