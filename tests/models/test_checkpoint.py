"""A model's folder: what is saved comes back, a pruned file shrinks, nothing in it is executed."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from seqkd.data import vocab
from seqkd.models import checkpoint
from seqkd.models.checkpoint import Model
from seqkd.models.lstm import LSTMNetwork, NetworkShape
from seqkd.training import pruning
from seqkd.utils.errors import InputError
from stages import export


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("vocab") / "joint.model"
    pieces = vocab.train(["the cat sat on the mat", "der Kater saß auf der Matte", "a dog ran"] * 3, path, size=40)
    network = LSTMNetwork(NetworkShape(pieces.size, 2, 16, 0.1))
    network.init_weights(torch.Generator().manual_seed(1))
    return Model(network, pieces, None)


def pruned(made: Model, ratio: float) -> Model:
    network = LSTMNetwork(made.network.shape)
    network.load_state_dict(made.network.state_dict())
    kept = pruning.mask(network, ratio)
    pruning.apply(network, kept)
    return Model(network, made.vocab, kept)


def test_checkpoint_loads_what_was_saved(made: Model, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "m", made, card="# m\n")
    back = checkpoint.load(tmp_path / "m")
    assert back.network.shape == made.network.shape
    assert back.mask is None
    assert back.vocab.encode("the cat") == made.vocab.encode("the cat")
    for name, value in made.network.state_dict().items():
        assert torch.equal(value, back.network.state_dict()[name])
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        "README.md",
        "shape.json",
        "vocab.model",
        "weights.safetensors",
    ]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664), (0o077, 0o600)])
def test_checkpoint_has_the_mode_that_the_umask_leaves(made: Model, tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        checkpoint.save(tmp_path / "m", made, card="# m\n")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "m").iterdir()} == {mode}
    assert (tmp_path / "m").stat().st_mode & 0o666 == mode


def test_checkpoint_follows_a_link_to_a_folder(made: Model, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for _ in range(2):  # into an empty folder, then over a model
        checkpoint.save(tmp_path / "link", made, card="# m\n")
    assert (tmp_path / "link").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"real", "link"}
    assert checkpoint.load(tmp_path / "real").network.shape == made.network.shape


def test_checkpoint_refuses_a_link_to_a_folder_that_is_not_there(made: Model, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"link: a link to what is not there; correct the link or remove it\.$"):
        checkpoint.save(tmp_path / "link", made, card="# m\n")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_pruning_removes_the_smallest_weights_of_all_matrices(made: Model) -> None:
    flat = torch.cat([parameter.detach().abs().flatten() for parameter in made.network.parameters()])
    kept = pruning.mask(made.network, 0.8)
    assert int((~kept).sum()) == round(0.8 * flat.numel())
    assert float(flat[~kept].max()) <= float(flat[kept].min())


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.9])
def test_checkpoint_of_a_pruned_model_keeps_its_zeros_and_its_mask(made: Model, tmp_path: Path, ratio: float) -> None:
    small = pruned(made, ratio)
    checkpoint.save(tmp_path / "m", small, card="")
    back = checkpoint.load(tmp_path / "m")
    assert back.mask is not None
    assert small.mask is not None
    assert torch.equal(back.mask, small.mask)
    for one, other in zip(back.network.parameters(), small.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_checkpoint_shrinks_with_the_pruned_share(made: Model, tmp_path: Path) -> None:
    sizes = []
    for ratio in (None, 0.5, 0.8, 0.9):
        checkpoint.save(tmp_path / str(ratio), made if ratio is None else pruned(made, ratio), card="")
        sizes.append(checkpoint.weights_size(tmp_path / str(ratio)))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.4 * sizes[0]  # of a tiny file, a large part of which is its header


def test_checkpoint_refuses_to_save_a_pruned_weight_that_is_not_zero(made: Model, tmp_path: Path) -> None:
    small = pruned(made, 0.5)
    with torch.no_grad():
        small.network.get_parameter("combine").add_(0.001)
    with pytest.raises(ValueError, match="combine: a pruned weight is not zero"):
        checkpoint.save(tmp_path / "m", small, card="")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [("weights.safetensors", b"junk"), ("shape.json", b"{}"), ("shape.json", b"["), ("vocab.model", b"junk")],
)
def test_checkpoint_refuses_a_damaged_file_in_one_sentence(
    made: Model, tmp_path: Path, name: str, content: bytes
) -> None:
    checkpoint.save(tmp_path / "m", made, card="")
    (tmp_path / "m" / name).write_bytes(content)
    with pytest.raises(InputError):
        checkpoint.load(tmp_path / "m")


def test_shape_file_names_the_architecture_and_one_without_is_an_lstm(made: Model, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "m", made, card="")
    path = tmp_path / "m" / "shape.json"
    shape = json.loads(path.read_text())
    assert shape == {"architecture": "lstm", **made.network.shape._asdict()}
    del shape["architecture"]  # as models were saved before there was a choice
    path.write_text(json.dumps(shape))
    assert type(checkpoint.load(tmp_path / "m").network) is LSTMNetwork
    path.write_text(json.dumps({"architecture": "transformer", **shape}))
    with pytest.raises(
        InputError, match=r"^.*/m/shape\.json: architecture is 'transformer'; it must be one of lstm, ensemble\.$"
    ):
        checkpoint.load(tmp_path / "m")


def test_checkpoint_refuses_files_that_do_not_belong_together(made: Model, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "m", made, card="")
    shape = made.network.shape._asdict() | {"hidden": 8}
    (tmp_path / "m" / "shape.json").write_text(json.dumps(shape))
    with pytest.raises(InputError, match="do not belong together"):
        checkpoint.load(tmp_path / "m")


def test_checkpoint_refuses_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a model's folder"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("ratio", [None, 0.5])
def test_checkpoint_in_int8_is_smaller_and_each_weight_within_half_a_step_of_its_row(
    made: Model, tmp_path: Path, ratio: float | None
) -> None:
    whole = made if ratio is None else pruned(made, ratio)
    checkpoint.save(tmp_path / "fp32", whole, card="")
    checkpoint.save(tmp_path / "int8", whole, card="", precision="int8")
    back = checkpoint.load(tmp_path / "int8")
    assert checkpoint.weights_size(tmp_path / "int8") < 0.6 * checkpoint.weights_size(
        tmp_path / "fp32"
    )  # a tiny file is half header
    for (name, one), other in zip(whole.network.named_parameters(), back.network.parameters(), strict=True):
        assert other.dtype == torch.float32
        if one.ndim == 1:
            assert torch.equal(one, other), name
        else:
            steps = ((one - other).abs() / (one.abs().amax(1, keepdim=True) / 127)).detach()
            assert float(steps.nan_to_num().max()) <= 0.501, name
            assert float(steps.nan_to_num().max()) > 0.0, name
    if whole.mask is not None:
        assert back.mask is not None
        assert torch.equal(whole.mask, back.mask)
        assert not torch.cat([parameter.flatten() for parameter in back.network.parameters()])[~back.mask].any()


def test_checkpoint_in_int8_saved_again_is_the_same(made: Model, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "one", made, card="", precision="int8")
    checkpoint.save(tmp_path / "two", checkpoint.load(tmp_path / "one"), card="", precision="int8")
    one, two = (checkpoint.load(tmp_path / name).network for name in ("one", "two"))
    for first, second in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("fault", ["missing", "short"])
def test_checkpoint_refuses_an_int8_matrix_without_a_fitting_scale(made: Model, tmp_path: Path, fault: str) -> None:
    checkpoint.save(tmp_path / "m", made, card="", precision="int8")
    tensors = load_file(tmp_path / "m" / "weights.safetensors")
    scale = tensors.pop("combine.scale")
    if fault == "short":
        tensors["combine.scale"] = scale[:-1].clone()
    save_file(tensors, tmp_path / "m" / "weights.safetensors")
    with pytest.raises(InputError, match="do not belong together"):
        checkpoint.load(tmp_path / "m")


def test_export_writes_a_folder_that_loads(made: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.save(tmp_path / "m", made, card="# m\n")
    export.main(model=tmp_path / "m", out=tmp_path / "small")
    assert "MB before" in capsys.readouterr().out
    assert checkpoint.load(tmp_path / "small").network.shape == made.network.shape
    assert (tmp_path / "small" / "README.md").read_text() == "# m\n\nWeights: int8.\n"
