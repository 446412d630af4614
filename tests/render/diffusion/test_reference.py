from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNetMotionModel
from torch import Tensor

from magictalk import weights
from magictalk.render.diffusion.animate import AnimateNet
from magictalk.render.diffusion.attention import DecoupledAttention, cross_attentions
from magictalk.render.diffusion.reference import ReferenceNet, folded, unfolded
from magictalk.render.diffusion.schedule import animatediff_scheduler

Given = dict[str, Tensor]


def run(network: ReferenceNet, given: Given, **options: Any) -> Tensor:
    with torch.inference_mode():
        return network(given["latents"], 7, given["text"], given["face"], **options)


def test_without_identity_it_is_plain_text_to_video(reference: ReferenceNet, given: Given) -> None:
    """Against diffusers' own network with the same weights, which knows nothing of identity."""
    torch.manual_seed(0)
    plain = UNetMotionModel.from_config(reference.unet.config)
    plain.load_state_dict({k: v for k, v in reference.unet.state_dict().items() if ".processor." not in k})
    with torch.inference_mode():
        text = given["text"].repeat_interleave(4, 0)
        expected = plain.eval()(given["latents"], 7, text).sample
    assert torch.allclose(run(reference, given, weights={"identity": 0.0}), expected, atol=1e-5)
    assert not torch.allclose(run(reference, given), expected, atol=1e-3)


def test_weights_say_how_much_each_condition_counts(reference: ReferenceNet, given: Given) -> None:
    other = given | {"face": given["face"] + 1}
    moved = [
        float((run(reference, given, weights={"identity": w}) - run(reference, other, weights={"identity": w})).norm())
        for w in (0.0, 0.5, 1.0)
    ]
    assert moved[0] == 0 < moved[1] < moved[2]


@pytest.mark.parametrize("t", [7, torch.tensor(500), torch.tensor([7, 900])])
def test_velocity_is_another_way_to_say_noise(given: Given, tiny: dict[str, Any], t: Any) -> None:
    """Against diffusers' scheduler, which reads either: both must take away the same."""
    torch.manual_seed(0)
    network = ReferenceNet(**tiny, identity_width=10, identity_tokens=2, frames=8, motion_heads=2, velocity=True).eval()
    x, steps = given["latents"], torch.as_tensor(t).expand(2)
    with torch.inference_mode():
        noise = network(x, t, given["text"], given["face"])
        network.register_to_config(velocity=False)
        velocity = network(x, t, given["text"], given["face"])
    for i, step in enumerate(steps):
        taken = []
        for kind, said in (("epsilon", noise), ("v_prediction", velocity)):
            scheduler = animatediff_scheduler()
            scheduler.register_to_config(prediction_type=kind)
            scheduler.set_timesteps(1000)
            taken.append(scheduler.step(said[i : i + 1], int(step), x[i : i + 1]).prev_sample)
        assert torch.allclose(*taken, atol=1e-4)


def test_frames_may_have_prompts_of_their_own(reference: ReferenceNet, given: Given) -> None:
    each = given["text"][:, None].expand(-1, 4, -1, -1)
    assert torch.equal(run(reference, given), run(reference, given | {"text": each}))
    changed = each.clone()
    changed[:, 2:] += 1
    assert not torch.allclose(run(reference, given), run(reference, given | {"text": changed}), atol=1e-3)


def test_only_motion_blocks_look_at_other_frames(given: Given, tiny: dict[str, Any]) -> None:
    torch.manual_seed(0)
    still = ReferenceNet(**tiny, identity_width=10, identity_tokens=2, frames=8, motion=False).eval()
    one = dict(given, latents=given["latents"][:, :, :1])
    assert torch.allclose(run(still, given)[:, :, :1], run(still, one), atol=1e-5)
    assert not any("motion_modules" in name for name, _ in still.named_parameters())


def test_motion_blocks_do(reference: ReferenceNet, given: Given) -> None:
    one = dict(given, latents=given["latents"][:, :, :1])
    assert not torch.allclose(run(reference, given)[:, :, :1], run(reference, one), atol=1e-4)


def test_unified_attention_has_one_set_of_keys(given: Given, tiny: dict[str, Any]) -> None:
    torch.manual_seed(0)
    unified = ReferenceNet(**tiny, identity_width=10, identity_tokens=2, frames=8, motion_heads=2, unified=True).eval()
    assert not any(isinstance(layer.processor, DecoupledAttention) for layer in cross_attentions(unified).values())
    assert not torch.allclose(run(unified, given), run(unified, given | {"face": given["face"] + 1}), atol=1e-3)


def test_it_is_saved_and_loaded_strictly(reference: ReferenceNet, given: Given, tmp_path: Path) -> None:
    reference.save_pretrained(tmp_path)
    assert torch.equal(run(weights.load(ReferenceNet, tmp_path).eval(), given), run(reference, given))


def test_checkpointed_gradients_are_the_same(reference: ReferenceNet, given: Given) -> None:
    found = []
    for checkpointing in (False, True):
        network = ReferenceNet.from_config(reference.config)
        network.load_state_dict(reference.state_dict())
        network.train()
        if checkpointing:
            network.enable_gradient_checkpointing()
        network(given["latents"], 7, given["text"], given["face"]).square().mean().backward()
        found.append({name: p.grad for name, p in network.named_parameters()})
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-5) for name in found[0])


def test_several_pictures_give_tokens_one_after_another(reference: ReferenceNet, given: Given) -> None:
    """One picture gives the tokens that it gives alone, among others too."""
    faces = torch.stack([given["face"], given["face"] + 1, given["face"] - 1], 1)
    with torch.inference_mode():
        alone = reference.identity_tokens(given["face"])
        one, three = reference.identity_tokens(faces[:, :1]), reference.identity_tokens(faces)
    assert alone.shape == (2, 2, 12) and three.shape == (2, 6, 12)
    assert torch.equal(alone, one) and torch.allclose(three[:, :2], alone, atol=1e-6)
    assert torch.allclose(run(reference, given), run(reference, given | {"face": faces[:, :1]}))
    same = faces[:, :1].expand(-1, 3, -1)  # the same picture three times says what it says once
    assert torch.allclose(run(reference, given), run(reference, given | {"face": same}), atol=1e-5)
    assert not torch.allclose(run(reference, given), run(reference, given | {"face": faces}), atol=1e-3)


@pytest.mark.parametrize("fold", [1, 2, 4])
def test_folding_makes_squares_channels_and_loses_nothing(fold: int) -> None:
    latents = torch.randn(2, 3, 5, 8, 4)
    small = folded(latents, fold)
    assert small.shape == (2, 3 * fold**2, 5, 8 // fold, 4 // fold)
    assert torch.equal(unfolded(small, fold), latents)
    place = latents[1, 2, 3, :fold, :fold].flatten()
    assert torch.equal(small[1, 2 * fold**2 : 3 * fold**2, 3, 0, 0], place)


def test_folding_networks_reckon_with_fewer_places(given: Given, control: Given, tiny: dict[str, Any]) -> None:
    torch.manual_seed(0)
    reference = ReferenceNet(**tiny, fold=2, identity_width=10, identity_tokens=2, frames=8, motion_heads=2).eval()
    animate = AnimateNet(**tiny, fold=2, control_channels=(4, 8, 8), patch=2).eval()
    animate.clone(reference)
    with torch.inference_mode():
        down, middle = animate(given["latents"], 7, given["text"], **control)
    assert down[0].shape[-2:] == (4, 4) and not middle.any()
    noise = run(reference, given, control=(down, middle))
    assert noise.shape == given["latents"].shape and torch.equal(noise, run(reference, given))


class TestAnimateNet:
    def test_it_changes_nothing_before_training(
        self, reference: ReferenceNet, animate: AnimateNet, given: Given, control: Given
    ) -> None:
        with torch.inference_mode():
            down, middle = animate(given["latents"], 7, given["text"], **control)
        assert all(not part.any() for part in (*down, middle))
        assert torch.equal(run(reference, given, control=(down, middle)), run(reference, given))

    def test_it_begins_as_reference_nets_encoder(self, reference: ReferenceNet, animate: AnimateNet) -> None:
        own, theirs = animate.net.state_dict(), reference.unet.state_dict()
        shared = [name for name in own if name in theirs and ".processor." not in name]
        assert {name.split(".")[0] for name in shared} == {"conv_in", "time_embedding", "down_blocks", "mid_block"}
        assert all(torch.equal(own[name], theirs[name]) for name in shared)
        for layer in cross_attentions(animate.net).values():
            processor = layer.processor
            assert isinstance(processor, DecoupledAttention)
            assert torch.equal(processor.to_k["contour"].weight, layer.to_k.weight)

    def test_once_its_gates_open_both_conditions_count(self, animate: AnimateNet, given: Given, control: Given) -> None:
        network = AnimateNet.from_config(animate.config).eval()
        network.load_state_dict(animate.state_dict())
        for block in (*network.net.controlnet_down_blocks, network.net.controlnet_mid_block):
            torch.nn.init.normal_(block.weight, 0, 0.1)

        def middle(**options: Any) -> Tensor:
            with torch.inference_mode():
                return network(given["latents"], 7, given["text"], **(control | options))[1]

        plain = middle()
        for name in control:
            assert not torch.allclose(middle(**{name: control[name].flip(-1)}), plain, atol=1e-4)
            assert not torch.allclose(middle(weights={name: 0.0}), plain, atol=1e-4)

    def test_a_frames_control_depends_on_its_own_landmarks(
        self, animate: AnimateNet, given: Given, control: Given
    ) -> None:
        network = AnimateNet.from_config(animate.config).eval()
        for block in (*network.net.controlnet_down_blocks, network.net.controlnet_mid_block):
            torch.nn.init.normal_(block.weight, 0, 0.1)
        changed = control["landmarks"].clone()
        changed[:, :, 2] *= -1
        with torch.inference_mode():
            a = network(given["latents"], 7, given["text"], **control)[1].unflatten(0, (2, 4))
            b = network(given["latents"], 7, given["text"], **(control | {"landmarks": changed}))[1].unflatten(
                0, (2, 4)
            )
        same = [torch.allclose(a[:, t], b[:, t], atol=1e-6) for t in range(4)]
        assert same == [True, True, False, True]

    def test_with_the_frame_before_it_has_three_attentions(
        self, reference: ReferenceNet, given: Given, control: Given, tiny: dict[str, Any]
    ) -> None:
        torch.manual_seed(1)
        network = AnimateNet(**tiny, control_channels=(4, 8), previous=True).eval()
        network.clone(reference)
        for layer in cross_attentions(network.net).values():
            processor = layer.processor
            assert isinstance(processor, DecoupledAttention)
            assert {name: w.item() for name, w in processor.w.items()} == dict.fromkeys(
                ("landmarks", "contour", "previous"), 1.0
            )
        before = {"previous": torch.rand(2, 3, 4, 16, 16) * 2 - 1}
        contours = control["contour"][:, :, None].expand(-1, -1, 4, -1, -1)
        with torch.inference_mode():
            assert not network(given["latents"], 7, given["text"], **control, **before)[1].any()
            torch.nn.init.normal_(network.net.controlnet_mid_block.weight, 0, 0.1)
            once = network(given["latents"], 7, given["text"], **control, **before)[1]
            each = network(given["latents"], 7, given["text"], **(control | {"contour": contours}), **before)[1]
            other = network(given["latents"], 7, given["text"], **control, previous=before["previous"].flip(-1))[1]
            blind = [
                network(given["latents"], 7, given["text"], **control, previous=picture, weights={"previous": 0.0})[1]
                for picture in (before["previous"], before["previous"].flip(-1))
            ]
        assert torch.allclose(once, each, atol=1e-6) and not torch.allclose(once, other, atol=1e-4)
        assert torch.equal(*blind) and not torch.allclose(blind[0], once, atol=1e-4)
        with pytest.raises(ValueError, match="no pictures of previous"):
            network(given["latents"], 7, given["text"], **control)

    @pytest.mark.parametrize("contour", [True, False])
    def test_it_is_saved_and_loaded_strictly(
        self, given: Given, control: Given, tiny: dict[str, Any], tmp_path: Path, contour: bool
    ) -> None:
        network = AnimateNet(**tiny, control_channels=(4, 8), contour=contour).eval()
        network.save_pretrained(tmp_path)
        again = weights.load(AnimateNet, tmp_path).eval()
        with torch.inference_mode():
            a, b = (n(given["latents"], torch.tensor([3, 9]), given["text"], **control) for n in (network, again))
        assert torch.equal(a[1], b[1])
        assert any(name.startswith("tokens.contour") for name, _ in again.named_parameters()) is contour


def test_nothing_is_said_on_the_way(
    reference: ReferenceNet, animate: AnimateNet, given: Given, control: Given, caplog: pytest.LogCaptureFixture
) -> None:
    from diffusers.utils import logging

    logging.enable_propagation()
    with torch.inference_mode():
        added = animate(given["latents"], 7, given["text"], **control, weights={"contour": 0.5})
    run(reference, given, control=added, weights={"identity": 0.5})
    logging.disable_propagation()
    assert not caplog.records
