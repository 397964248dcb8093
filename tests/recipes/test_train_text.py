"""The text-to-image recipe on a toy: a word is a token, zero tokens are counted, a stock pipeline loads the folder."""

import pytest
import torch
from chance import draw_scene
from diffusers import AutoencoderKL, StableDiffusion3Pipeline
from latents import LatentSet
from scenes import caption
from text_model import TextToImage
from train_text import MOST_ZERO_TOKENS, Batches, draw_zero_tokens, loss_of, save_pipeline, start_run
from words import LENGTH, build_tokenizer, known_words, merges_for

LONGEST = (
    "a small turquoise glossy octahedron in front of a large orange glossy octahedron, on a checkered floor at sunset"
)


def test_every_known_word_is_one_token_and_no_caption_is_cut() -> None:
    tokenizer = build_tokenizer()
    assert all(len(tokenizer.tokenize(word)) == 1 for word in known_words())
    ids = tokenizer(LONGEST).input_ids
    assert len(ids) == len(LONGEST.replace(",", " ,").split()) + 2 <= LENGTH
    for index in range(60):
        words = caption(draw_scene(9, index))
        assert len(tokenizer(words).input_ids) == len(words.replace(",", " ,").split()) + 2
    assert len(tokenizer.tokenize("zebra")) == 5, "an unknown word falls into letters"


def test_a_later_word_does_not_break_an_earlier_one() -> None:
    merges = merges_for(["on", "noon", "non"])
    assert merges[0] == ("o", "n</w>") and len(merges) == len(set(merges))


@pytest.fixture(scope="module")
def toy() -> TextToImage:
    torch.manual_seed(0)
    model = TextToImage(layers=2, heads=2).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("count", [0, 1, 7, 256])
def test_one_counted_token_stands_for_all_zero_tokens(toy: TextToImage, count: int) -> None:
    noisy, timestep = torch.randn(2, 8, 16, 16), torch.tensor([300.0, 700.0])
    ids = toy.tokens(["a red cube", "a blue cone in fog"])
    with torch.no_grad():
        toy.count_zero_tokens(True)
        counted = toy(noisy, timestep, ids, torch.tensor([count, count]))
        toy.count_zero_tokens(False)
        tokens, pooled = toy.embed(ids)
        given = {"pooled_projections": pooled, "timestep": timestep, "return_dict": False}
        zeros = torch.nn.functional.pad(tokens, (0, 0, 0, count))
        stock = toy.transformer(noisy, encoder_hidden_states=zeros, **given)[0]
    assert torch.allclose(counted, stock, atol=1e-5 * stock.abs().max().item())


def test_the_number_of_zero_tokens_ranges_from_none_to_the_pipelines_own() -> None:
    counts = draw_zero_tokens(3000, torch.Generator().manual_seed(0))
    assert counts.min() == 0 and counts.max() == MOST_ZERO_TOKENS
    assert 0.28 < (counts == 0).float().mean() < 0.38
    assert (counts > 0).logical_and(counts < 256).float().mean() > 0.28


@pytest.fixture(scope="module")
def trained(work, tmp_path_factory):
    """Three steps, a stop, three more."""
    folder = tmp_path_factory.mktemp("text")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("latents.SHARD", 8)
        data = LatentSet.open(work)
    torch.manual_seed(0)
    for _ in range(2):
        run = start_run(folder, TextToImage(layers=2, heads=2), peak=1e-3)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("latents.SHARD", 8)
            loss = loss_of(run.model, Batches(data, run.model, size=4, seed=run.step))
            for _ in range(3):
                value = loss()
                value.backward()
                run.optimizer.step()
                run.step += 1
                run.update_average()
        run.save()
    assert run.step == 6 and value.isfinite()
    assert run.model.text_encoder.text_model.embeddings.token_embedding.weight.requires_grad
    return run


def test_a_stock_pipeline_loads_the_folder_and_a_plain_call_draws(trained, work, tmp_path) -> None:
    save_pipeline(trained, AutoencoderKL.from_pretrained(work / "vae"), tmp_path / "text")
    pipeline = StableDiffusion3Pipeline.from_pretrained(tmp_path / "text")
    pipeline.set_progress_bar_config(disable=True)

    def draw(pipe: StableDiffusion3Pipeline, **given: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        picture = pipe(LONGEST, num_inference_steps=2, generator=generator, output_type="pt", **given).images
        assert picture.shape == (1, 3, 128, 128) and picture.isfinite().all()
        return picture

    plain = draw(pipeline)
    draw(pipeline, max_sequence_length=1)
    without = {"text_encoder_3": None, "tokenizer_3": None}
    two = StableDiffusion3Pipeline.from_pretrained(tmp_path / "text", **without)
    two.set_progress_bar_config(disable=True)
    assert torch.equal(draw(two), plain), "the third encoder says nothing"


def test_captions_are_mirrored_with_their_pictures_and_sometimes_silent(work, toy, monkeypatch) -> None:
    monkeypatch.setattr("latents.SHARD", 8)
    data = LatentSet.open(work)
    batches = Batches(data, toy, size=500, seed=0)
    clean, ids, sigma, _ = batches.draw()
    silent = (ids == batches.silence).all(dim=1)
    assert 0.06 < silent.float().mean() < 0.15 and sigma.min() > 0 and sigma.max() < 1
    known = {words for pair in data.scenes.captions for words in pair}
    for row in range(0, 40):
        if not silent[row]:
            text = toy.tokenizer.decode(ids[row], skip_special_tokens=True).replace(" ,", ",")
            assert text in known
            side = next((i, j) for i, pair in enumerate(data.scenes.captions) for j, w in enumerate(pair) if w == text)
            matches = [torch.equal(clean[row], data.latents([side[0]], [flip])[0]) for flip in (0, 1)]
            both = len(set(data.scenes.captions[side[0]])) == 1
            assert any(matches) if both else matches[side[1]]
