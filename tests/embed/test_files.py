"""Both formats of embeddings are read back exactly, and other files are refused."""

import numpy as np
import pytest

from byol_keras.embed import files
from byol_keras.embed.files import Block

rng = np.random.default_rng(0)
BLOCKS = [
    Block([f"a/{n}.png" for n in range(3)], rng.random((3, 5), np.float32)),
    Block(["b/é.jpg"], rng.random((1, 5), np.float32)),
]
ABOUT = {"size": 96, "backbone": "abc"}


def written(folder, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = folder / f"embeddings{suffix}"
    files.write(path, lambda: iter(BLOCKS), 4, 5, ABOUT)
    return path


@pytest.mark.parametrize("suffix", files.SUFFIXES)
def test_blocks_are_read_back_exactly(suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_ROWS", 3)
    path = written(tmp_path, suffix)
    blocks = [*files.read_blocks(path)]
    names = [name for block in blocks for name in block.paths]
    assert names == [name for block in BLOCKS for name in block.paths]
    np.testing.assert_array_equal(
        np.concatenate([block.features for block in blocks]),
        np.concatenate([block.features for block in BLOCKS]),
    )
    assert max(len(block.paths) for block in blocks) <= 3
    assert files.read_about(path) == ABOUT
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_npz_can_be_read_by_numpy(tmp_path):
    with np.load(written(tmp_path, ".npz")) as arrays:
        assert arrays["features"].shape == (4, 5)
        assert arrays["paths"].tolist()[-1] == "b/é.jpg"


def test_parquet_can_be_read_by_pyarrow(tmp_path):
    path = written(tmp_path, ".parquet")
    from pyarrow import parquet

    table = parquet.read_table(path)
    assert table.column("path").to_pylist()[-1] == "b/é.jpg"
    np.testing.assert_array_equal(
        table.column("features").to_pylist()[3], BLOCKS[1].features[0]
    )


@pytest.mark.parametrize("suffix", files.SUFFIXES)
def test_file_of_other_content_is_refused(suffix, tmp_path):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"other{suffix}"
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="out must be a file of embeddings"):
        files.read_about(path)


def test_npz_of_other_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="out must be a file of embeddings"):
        files.read_about(tmp_path / "other.npz")


def test_unknown_ending_is_refused():
    with pytest.raises(ValueError, match=r"must end in .npz or .parquet"):
        files.check_out("embeddings.csv")


def test_missing_pyarrow_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install \"byol_keras\[embed\]\""):
        files.check_out("embeddings.parquet")
    assert files.check_out("embeddings.npz").name == "embeddings.npz"


def test_url_is_no_file_of_embeddings():
    with pytest.raises(ValueError, match=r"^out must be a local path; .*: gs://b/a"):
        files.check_out("gs://b/a.npz")
