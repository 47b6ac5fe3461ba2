"""Where tensors come from: files, folders and hub ids, and what is refused before it is read."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from vggt3_ros.network.checkpoint_files import CheckpointError, StoredTensor, open_source

TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).view(2, 3),
    "b": torch.ones(4, dtype=torch.bfloat16),
    "c": torch.zeros(1, dtype=torch.int64),
}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "one" / "model.safetensors"
    path.parent.mkdir()
    save_file(TENSORS, path, metadata={"kind": "test"})
    return path


def assert_holds_the_tensors(source):
    assert set(source.stored) == set(TENSORS)
    for name, tensor in TENSORS.items():
        stored = source.stored[name]
        assert stored.shape == tuple(tensor.shape)
        assert stored.dtype.is_floating_point == tensor.dtype.is_floating_point
        assert torch.equal(source.read(name), tensor)


def test_shapes_and_dtypes_are_known_before_anything_is_read(saved):
    source = open_source(saved)
    assert source.stored["a"] == StoredTensor((2, 3), torch.float32)
    assert source.stored["b"] == StoredTensor((4,), torch.bfloat16)
    assert source.files == (saved,) and source.metadata == {"kind": "test"}
    assert_holds_the_tensors(source)


def test_a_torch_file_may_be_wrapped_and_prefixed(tmp_path):
    for i, content in enumerate(
        (
            TENSORS,
            {"model": TENSORS, "epoch": 3},
            {f"module.{name}": tensor for name, tensor in TENSORS.items()},
        )
    ):
        torch.save(content, tmp_path / f"{i}.pth")
        assert_holds_the_tensors(open_source(tmp_path / f"{i}.pth"))
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="contains no tensors"):
        open_source(tmp_path / "none.pt")


def test_a_torch_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was here"),)

    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="not a .pt file that contains only tensors"):
        open_source(tmp_path / "evil.pt")
    assert not (tmp_path / "was here").exists()


@pytest.mark.parametrize("keep", [0, 4, 50, -3])
def test_a_truncated_file_is_refused(tmp_path, saved, keep):
    (tmp_path / "short.safetensors").write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="short.safetensors is not a complete"):
        open_source(tmp_path / "short.safetensors")


def write_parts(folder, files):
    """A checkpoint in two parts whose index names them `files`."""
    parts = dict(zip(files, (("a", "b"), ("c",)), strict=True))
    for file, names in parts.items():
        save_file({name: TENSORS[name] for name in names}, folder / os.path.basename(file))
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_a_folder_with_several_files_and_an_index(tmp_path):
    write_parts(tmp_path, ("x.safetensors", "y.safetensors"))
    assert_holds_the_tensors(open_source(tmp_path))
    (tmp_path / "y.safetensors").unlink()
    with pytest.raises(CheckpointError, match="lacks y.safetensors"):
        open_source(tmp_path)


def test_an_index_cannot_point_out_of_its_folder(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    write_parts(inner, ("../x.safetensors", "/tmp/y.safetensors"))
    source = open_source(inner)
    assert {file.parent for file in source.files} == {inner}
    assert_holds_the_tensors(source)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": ""}}', "[" * 10_000]
)
def test_an_index_of_nonsense_is_refused(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match="index.json cannot be read"):
        open_source(tmp_path)


def test_a_folder_must_leave_no_doubt(tmp_path, saved):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(CheckpointError, match="contains no .safetensors"):
        open_source(folder)
    for name in ("first.safetensors", "second.safetensors"):
        (folder / name).symlink_to(saved)
    with pytest.raises(
        CheckpointError, match="several checkpoints: first.safetensors, second.safetensors"
    ):
        open_source(folder)
    (folder / "model.safetensors").symlink_to(saved)
    assert_holds_the_tensors(open_source(folder))


@pytest.mark.parametrize("name", ["weights.bin", "weights"])
def test_another_kind_of_file_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match="expected .safetensors, .pt or .pth"):
        open_source(tmp_path / name)


def hub_cache(folder, saved, revision):
    """The layout of huggingface_hub's cache: a snapshot folder per revision, and the revision of
    each branch.
    """
    repository = folder / "models--someone--network"
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(saved)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(revision)


def test_a_hub_id_loads_from_the_cache_without_a_network(tmp_path, saved, monkeypatch):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    revision = "0123456789abcdef0123456789abcdef01234567"
    hub_cache(tmp_path, saved, revision)
    for spec in ("someone/network", "someone/network@main", f"someone/network@{revision}"):
        assert_holds_the_tensors(open_source(spec, cache_dir=tmp_path))
    with pytest.raises(
        CheckpointError,
        match="someone/network@v2 is not in the local cache and the download failed",
    ):
        open_source("someone/network@v2", cache_dir=tmp_path)


def test_gated_weights_say_where_to_ask_for_them(tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

    def download(repository, local_files_only, **options):
        if local_files_only:
            raise LocalEntryNotFoundError("not here")
        # its constructor wants the response itself
        raise GatedRepoError.__new__(GatedRepoError, "403 Client Error")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(
        CheckpointError,
        match="accept its conditions at https://huggingface.co/facebook/VGGT-1B-Commercial and log in",
    ):
        open_source("facebook/VGGT-1B-Commercial", cache_dir=tmp_path)
