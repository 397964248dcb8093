"""Live comparison: the engine's own pictures and numbers, frame by frame, cancelled within one step, kept in bounds."""

import threading
from dataclasses import replace
from threading import Event

import numpy as np
import pytest
import torch

import ptq4dit
from app.services import contenders, generation, running
from app.services.generation import Frame, run
from app.services.request import DEFAULT_BITS, FULL_PRECISION, Request, Variant, parse_variants
from app.services.workpiece import Full, Line
from app.state import Selection

W4A8 = Variant(weight_bits=4, activation_bits=8, csb=True, ssc=True)
W2A4 = Variant(weight_bits=2, activation_bits=4)
STEPS = 6


def ask(**changes):
    return Request(**({"model": "tiny", "class_id": 2, "seed": 3, "steps": STEPS, "variants": (W4A8, W2A4)} | changes))


@pytest.fixture
def eager(monkeypatch):
    """A preview at every step."""
    monkeypatch.setattr(generation, "PREVIEW_SECONDS", 0.0)


def test_the_last_frame_is_what_the_engine_makes(explored_model):
    import ptq4dit

    *_, last = run(ask())
    dit = ptq4dit.load(explored_model)
    stats = ptq4dit.Calibration.load(explored_model / "calibration.safetensors")
    quantized = [ptq4dit.quantize(dit, stats, ptq4dit.QuantConfig(weight_bits=4))]
    config = ptq4dit.QuantConfig(weight_bits=2, activation_bits=4, csb=False, ssc=False)
    quantized.append(ptq4dit.quantize(dit, stats, config))
    expected = [ptq4dit.generate(m, [2], steps=STEPS, seed=3, sampler="ddim") for m in (dit, *quantized)]
    assert last.finished
    for shown, wanted in zip(last.pictures, expected, strict=True):
        pixels = (wanted[0] * 255).round().byte().permute(1, 2, 0).numpy()
        assert np.abs(shown.astype(int) - pixels.astype(int)).max() <= 1
    for psnr, wanted in zip(last.psnr, expected[1:], strict=True):
        assert psnr == pytest.approx(-10 * torch.log10((wanted - expected[0]).square().mean()).item(), abs=0.01)
    assert last.psnr[0] > last.psnr[1]
    assert last.ssim[0] > last.ssim[1]


def test_every_step_is_seen_once_and_in_order(explored_model, eager):
    frames = [frame for frame in run(ask()) if frame.step]
    assert [frame.step for frame in frames] == list(range(1, STEPS + 1))
    assert [frame.finished for frame in frames] == [False] * (STEPS - 1) + [True]
    assert all(len(frame.pictures) == 3 for frame in frames)
    assert list(frames[-1].timesteps) == sorted(frames[-1].timesteps, reverse=True)


def test_drift_is_the_relative_error_of_the_latents(explored_model):
    from ptq4dit.sampling.denoise import denoise

    *_, last = run(ask())
    models = [contenders.contender("tiny", variant, 1) for variant in (FULL_PRECISION, W2A4)]
    latents = [[s.latents for s in denoise(m, [2], steps=STEPS, seed=3, sampler="ddim")] for m in models]
    expected = [((q - z).square().sum() / z.square().sum()).item() for z, q in zip(*latents, strict=True)]
    assert last.drift[1] == pytest.approx(expected, rel=1e-4)


def test_previews_are_what_is_foreseen_and_not_the_noise(explored_model, eager):
    frames = list(run(ask(steps=20)))
    first = next(frame for frame in frames if frame.pictures)
    assert first.step == 1
    assert not np.array_equal(first.pictures[0], frames[-1].pictures[0])


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm++"])
def test_the_same_request_gives_the_same_picture(explored_model, sampler):
    request = ask(sampler=sampler, variants=(W4A8,))
    first, second = (list(run(request))[-1].pictures[1] for _ in range(2))
    assert np.array_equal(first, second)


def test_the_dial_leaves_full_precision_alone(explored_model):
    pictures = [list(run(ask(strength=s)))[-1].pictures for s in (1, 8)]
    assert np.abs(pictures[0][0].astype(int) - pictures[1][0].astype(int)).max() <= 1
    assert not np.array_equal(pictures[0][2], pictures[1][2])


def test_a_single_picture_waits_in_the_line_and_ends_when_its_time_is_up(explored_model, monkeypatch):
    generation.single(ask(variants=()))  # the model is loaded
    monkeypatch.setattr(generation, "DRAWING", Line(width=1, longest=0, what="runs"))
    place = generation.DRAWING.place()
    with pytest.raises(Full, match="0 runs wait already"):
        generation.single(ask(variants=()))
    generation.DRAWING.leave(place, None)
    monkeypatch.setattr(generation, "LONGEST", 0.0)
    with pytest.raises(ValueError, match="steps: expected a run of at most 0 s; this one came to step 1 of 6"):
        generation.single(ask(variants=()))
    assert generation.DRAWING.told(generation.DRAWING.place()) == ""  # and leaves it


def test_a_model_that_takes_too_long_to_make_is_given_up(explored_model, monkeypatch):
    """However patient the visitor is, the line of those who learn moves on."""
    monkeypatch.setattr(contenders, "LONGEST", 0.0)
    learned = Variant(weight_bits=4, activation_bits=8, method="gptq", reconstruct=True)
    with pytest.raises(ValueError, match="method: expected a model that is made within 0 minutes"):
        contenders.contender("tiny", learned, 1)
    stop = threading.Event()
    stop.set()
    with pytest.raises(ptq4dit.Cancelled):
        contenders._quantize("tiny", learned, 1, stop, lambda note, left: None)


def test_single_is_the_same_picture_as_in_a_comparison(explored_model):
    *_, last = run(ask(variants=(W4A8,)))
    assert np.array_equal(generation.single(ask(variants=(W4A8,))), last.pictures[1])
    assert np.array_equal(generation.single(ask(variants=())), last.pictures[0])


@pytest.mark.parametrize("class_id", [5, 999])
def test_an_unknown_class_names_those_there_are(explored_model, class_id):
    with pytest.raises(ValueError, match=rf"class_id: expected 0 to 4 \(0 sphere, 1 cube.*got {class_id}"):
        list(run(ask(class_id=class_id)))


def test_a_cancelled_run_stops_within_one_step(explored_model):
    cancelled, seen = Event(), []
    for frame in run(ask(steps=50), cancelled):
        seen.append(frame)
        if frame.step == 2:
            cancelled.set()
    assert seen[-1].step <= 3
    assert not seen[-1].finished


def test_a_run_cancelled_before_it_starts_makes_nothing(explored_model):
    cancelled = Event()
    cancelled.set()
    assert all(frame.step == 0 for frame in run(ask(), cancelled))


def test_quantized_models_are_shared(explored_model):
    assert contenders.contender("tiny", W4A8, 1) is contenders.contender("tiny", W4A8, 1)
    assert contenders.contender("tiny", W4A8, 1) is not contenders.contender("tiny", W4A8, 8)
    assert contenders.contender("tiny", FULL_PRECISION, 1) is not contenders.contender("tiny", W4A8, 1)


def test_the_first_comparison_finds_its_models_made(explored_model, monkeypatch):
    generation.prepare(Selection(model="tiny"))
    monkeypatch.setattr(contenders, "_quantize", None)
    start = Selection()
    variants = parse_variants(DEFAULT_BITS, start.csb, start.ssc, "auto")
    *_, last = run(ask(variants=variants, strength=start.strength))
    assert last.finished


def test_the_first_comparison_of_a_demo_model_is_made_before_anybody_asks(explored_model, monkeypatch):
    monkeypatch.setattr(generation, "_finished", {})
    start = Selection(model="tiny", class_id=2, steps=2)
    generation.prepare(start)
    assert not generation._finished
    demo = replace(generation.entry("tiny"), demo=True)
    monkeypatch.setattr(generation, "entry", lambda name: demo)
    with monkeypatch.context() as lent:
        lent.setattr(generation, "_by_gpu", lambda *_: pytest.fail("nobody has asked"))
        generation.prepare(start)
    assert not generation._finished
    generation.prepare(start)
    variants = parse_variants(DEFAULT_BITS, start.csb, start.ssc, "auto")
    assert generation.recall(Request.of(start, variants)).finished


def test_making_one_model_keeps_nobody_from_another(explored_model, monkeypatch):
    ready = contenders.contender("tiny", W4A8, 1)
    making, may_finish = Event(), Event()

    def slow(name, variant, strength, stop, tell):
        making.set()
        assert may_finish.wait(30)
        return variant.name

    monkeypatch.setattr(contenders, "_quantize", slow)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(contenders.contender("tiny", W2A4, 1))) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert making.wait(30)
    assert contenders.contender("tiny", W4A8, 1) is ready
    may_finish.set()
    for thread in threads:
        thread.join()
    assert answers == [W2A4.name] * 2


def test_a_model_that_could_not_be_made_is_tried_again(explored_model, monkeypatch):
    def fail(name, variant, strength, stop, tell):
        raise ValueError("no")

    with monkeypatch.context() as broken:
        broken.setattr(contenders, "_quantize", fail)
        with pytest.raises(ValueError, match="no"):
            contenders.contender("tiny", W2A4, 1)
    assert contenders.contender("tiny", W2A4, 1).transformer is not None


def test_two_visitors_at_once_get_their_own_pictures(explored_model):
    requests = [ask(seed=seed, variants=(W4A8,)) for seed in (1, 2)]
    alone = [list(run(request))[-1].pictures for request in requests]
    together = [None, None]

    def visit(index):
        together[index] = list(run(requests[index]))[-1].pictures

    threads = [threading.Thread(target=visit, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_finished_runs_are_kept_in_bounds(monkeypatch):
    monkeypatch.setattr(generation, "FINISHED_RUNS", 2)
    monkeypatch.setattr(generation, "_finished", {})
    requests = [Request(model="tiny", seed=seed) for seed in range(3)]
    for request in requests:
        generation.remember(Frame(request=request, note="", finished=True))
    assert generation.recall(requests[0]) is None
    assert generation.recall(requests[2]).request == requests[2]


def test_a_session_has_one_run_at_a_time():
    with running.begin("one") as first, running.begin("two") as other:
        assert not first.is_set()
        with running.begin("one") as second:
            assert first.is_set()
            assert running.cancel("one")
            assert second.is_set()
            assert not other.is_set()
    assert not running.cancel("one")
    assert not running.cancel("two")


GPTQ = Variant(weight_bits=4, activation_bits=8, method="gptq", csb=True, ssc=True, reconstruct=True)


def test_another_method_is_made_by_its_recipe_and_costs_are_measured(explored_model):
    rtn = Variant(weight_bits=4, activation_bits=8, csb=True, ssc=True, method="rtn")
    *_, last = run(ask(variants=(W4A8, rtn)))
    assert contenders.contender("tiny", rtn, 1).transformer.ptq4dit_record.config.method == "rtn"
    assert last.drift[0] != last.drift[1]
    assert len(last.milliseconds) == len(last.megabytes) == 3 and min(last.milliseconds) > 0
    assert last.megabytes[1] < last.megabytes[0]


def test_a_reconstruction_says_how_far_it_is(explored_model, monkeypatch):
    told = []
    model = contenders._quantize("tiny", GPTQ, 1, Event(), lambda *words: told.append(words))
    assert model.transformer.ptq4dit_record.config.reconstruction is not None
    assert told[-1] == ("100 %, about 0 s left", 0.0)
    seen = Event()

    def slow(name, variant, strength, stop, tell):
        tell("50 %", None)
        assert seen.wait(30)
        return model

    monkeypatch.setattr(contenders, "_quantize", slow)
    for frame in run(ask(steps=2, variants=(GPTQ,))):
        if frame.note == "Preparing W4A8: 50 %":
            seen.set()
    assert seen.is_set() and frame.finished


def test_a_reconstruction_can_be_cancelled_and_made_by_the_next(explored_model, monkeypatch):
    stop = Event()
    monkeypatch.setattr(
        contenders, "_quantize", lambda model, variant, strength, stop, tell: stop.wait(30) and cancel()
    )
    frames = []
    for frame in run(ask(steps=2, variants=(GPTQ,)), stop):
        frames.append(frame)
        if frame.note.startswith("Preparing W4A8"):
            stop.set()
    assert frames[-1].step == 0 and not frames[-1].finished


def cancel():
    from ptq4dit import Cancelled

    raise Cancelled("as asked")
