"""CLIP-T against the same network called by hand."""

import pytest
import torch

from magictalk.metrics.text import CLIPT


def test_is_the_cosine_of_text_and_frames(weights, pictures):
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    figure = CLIPT(weights)
    figure.update(pictures[0], "ab c")
    network = CLIPModel.from_pretrained(weights / "clip").eval()
    words = CLIPTokenizer.from_pretrained(weights / "clip")("ab c", return_tensors="pt")
    assert words["input_ids"].tolist() == [[6, 4, 5, 7]]
    pixels = CLIPImageProcessorPil.from_pretrained(weights / "clip")(list(pictures[0]), return_tensors="pt")
    with torch.inference_mode():
        seen = network.visual_projection(network.vision_model(**pixels).pooler_output)
        said = network.text_projection(network.text_model(**words).pooler_output)
    expected = torch.nn.functional.cosine_similarity(seen, said).mean()
    assert float(figure.compute()) == pytest.approx(float(expected), abs=1e-5)


def test_a_long_prompt_is_cut(weights, pictures):
    figure = CLIPT(weights)
    figure.update(pictures[0][:1], "ab c " * 50)
    assert -1 <= float(figure.compute()) <= 1
