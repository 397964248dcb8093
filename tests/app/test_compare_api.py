"""/generate and /compare as a program meets them, through gradio_client against a running server."""

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from app.services import generation
from app.services.request import Request, Variant
from app.tabs import compare_api


@pytest.fixture
def client(explored_model):
    with gr.Blocks() as page:
        compare_api.create_endpoints({"concurrency_limit": 2, "concurrency_id": "generation"})
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True)
    yield Client(url, verbose=False)
    page.close()


def test_generate_gives_the_picture_of_the_variant(client):
    answer = client.predict(class_id=2, seed=5, steps=3, bits="W4A8", backend="simulated", api_name="/generate")
    variant = Variant(weight_bits=4, activation_bits=8, csb=True, ssc=True)
    expected = generation.single(Request(model="tiny", class_id=2, seed=5, steps=3, variants=(variant,)))
    assert np.array_equal(np.asarray(Image.open(answer["picture"])), expected)
    assert answer["name"] == "W4A8, simulated, CSB+SSC"
    assert answer["settings"]["drawn"] == "cone"


def test_generate_in_full_precision(client):
    answer = client.predict(steps=2, bits="fp32", api_name="/generate")
    assert answer["name"] == "FP32, full precision"


def test_compare_gives_every_picture_and_number(client):
    answer = client.predict(seed=1, steps=3, bits=["W8A8", "W2A8 none"], backend="simulated", api_name="/compare")
    names = [variant["name"] for variant in answer["variants"]]
    assert names == ["W8A8, simulated, CSB+SSC", "W2A8, simulated, no balancing"]
    reference = np.asarray(Image.open(answer["full_precision"]["picture"]))
    for variant in answer["variants"]:
        picture = np.asarray(Image.open(variant["picture"]))
        error = np.mean((picture / 255.0 - reference / 255.0) ** 2)
        assert variant["psnr"] == pytest.approx(-10 * np.log10(error), abs=0.5)  # pictures are rounded, the number not
        assert len(variant["drift"]) == 3
        assert variant["backend"] == "simulated"
        assert variant["milliseconds_a_step"] > 0 and variant["megabytes"] < answer["full_precision"]["megabytes"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"class_id": 12}, "class_id: expected 0 to 4 .*got 12"),
        ({"steps": 0}, "steps: expected a whole number from 1 to 250; got 0"),
        ({"seed": -1}, "seed: expected a whole number from 0"),
        ({"seed": "one"}, "seed: expected a whole number"),
        ({"sampler": "euler"}, "sampler: expected one of ddim"),
        ({"csb": False, "ssc": True}, "ssc: needs csb"),
    ],
)
@pytest.mark.parametrize("endpoint", ["/generate", "/compare"])
def test_bad_input_is_explained(client, endpoint, wrong, message):
    with pytest.raises(AppError, match=message):
        client.predict(api_name=endpoint, **wrong)


def test_both_are_documented(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/generate", "/compare"}
    for endpoint in endpoints.values():
        assert all(p["parameter_has_default"] for p in endpoint["parameters"])
