from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import nn


@pytest.fixture
def complexity(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("complexity")


def test_an_lstm_is_counted_as_by_hand(complexity: ModuleType) -> None:
    lstm = nn.LSTM(16, 32, 2, batch_first=True, bidirectional=True).eval()
    x = torch.zeros(3, 50, 16)

    def run() -> None:
        with torch.inference_mode():
            lstm(x)

    first, second = (2 * 4 * 32 * (inputs + 32) for inputs in (16, 64))  # four gates, of input and of state
    assert complexity.operations(run) == 3 * 50 * 2 * (first + second)


def test_a_transformer_decoder_is_counted_as_by_hand(complexity: ModuleType) -> None:
    tokens, width = 32, 64
    layer = nn.TransformerDecoderLayer(width, 4, 4 * width, batch_first=True, norm_first=True).eval()
    x = torch.zeros(2, tokens, width)

    def run() -> None:
        with torch.inference_mode():
            layer(x, x)

    projections = 2 * 4 * tokens * width * width * 2  # query, key, value and out, of two attentions
    attention = 2 * 2 * tokens * tokens * width * 2  # scores and what they gather, of two
    forward = 2 * tokens * width * 4 * width * 2
    assert complexity.operations(run) == 2 * (projections + attention + forward)


def test_parameters_are_those_that_are_learnt(complexity: ModuleType) -> None:
    assert complexity.millions(nn.Linear(10, 5), nn.BatchNorm1d(5)) == (10 * 5 + 5 + 10) / 1e6
