import contextlib
import json
import os
import pickle
import resource
import threading
import zipfile

import numpy as np
import pytest

from byol_keras.checkpoints.files import CheckpointFolder

ABOUT = {"config": {"train.epochs": "3"}}


def arrays(value=1.0):
    return {"online/0000": np.full((3, 4), value, np.float32), "n": np.int64(7)}


def save(folder, step, score=None, **arguments):
    folder.save(step, arrays(float(step)), ABOUT, score, **arguments)
    folder.wait()


def names(path):
    return sorted(file.name for file in path.iterdir())


def test_newest_checkpoint_is_read_back_as_it_was_saved(tmp_path):
    folder = CheckpointFolder(tmp_path / "new")
    save(folder, 3)
    save(folder, 12)
    found = folder.newest()
    assert found.step == 12
    assert found.about["config"] == ABOUT["config"]
    assert set(found.arrays) == set(arrays())
    np.testing.assert_array_equal(found.arrays["online/0000"], np.full((3, 4), 12.0))
    assert found.arrays["n"].dtype == np.int64
    assert found.damaged == []


def test_folder_without_checkpoints_has_no_newest(tmp_path):
    (tmp_path / "step_1.txt").write_text("")
    assert CheckpointFolder(tmp_path).newest() is None
    assert CheckpointFolder(tmp_path / "missing").newest() is None


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2)
    for step in (1, 9, 10, 100):
        save(folder, step)
    assert names(tmp_path) == ["step_000000010.npz", "step_000000100.npz"]


@pytest.mark.parametrize("keep", [0, True, 1.5])
def test_keep_must_be_a_positive_int(tmp_path, keep):
    with pytest.raises(ValueError, match=r"^keep must be a positive int\. Received"):
        CheckpointFolder(tmp_path, keep=keep)


def test_save_returns_before_it_is_written_and_the_next_save_waits(
    tmp_path, monkeypatch
):
    order, write = [], np.savez

    def slow(file, **arrays):
        order.append("begin")
        released.wait(10.0)
        write(file, **arrays)
        order.append("end")

    released = threading.Event()
    monkeypatch.setattr("numpy.savez", slow)
    folder = CheckpointFolder(tmp_path)
    folder.save(1, arrays(), ABOUT)
    order.append("training")
    released.set()
    folder.save(2, arrays(), ABOUT)
    folder.wait()
    assert order.index("training") < order.index("end")
    assert [name for name in order if name != "training"] == [
        "begin",
        "end",
    ] * 2
    assert names(tmp_path) == ["step_000000001.npz", "step_000000002.npz"]


# --- The best one ---------------------------------------------------------------------


def test_best_checkpoint_is_kept_beside_the_newest(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=1)
    for step, score in ((1, 50.0), (2, 80.0), (3, 70.0), (4, float("nan")), (5, None)):
        save(folder, step, None if score is None else ("knn/top1", score))
    assert names(tmp_path) == ["best_step_000000002.npz", "step_000000005.npz"]


def test_best_score_survives_a_resume_and_counts_under_its_name_only(tmp_path):
    save(CheckpointFolder(tmp_path, keep=1), 1, ("knn/top1", 80.0))
    save(CheckpointFolder(tmp_path, keep=1), 2, ("knn/top1", 79.0))
    assert "best_step_000000001.npz" in names(tmp_path)
    save(CheckpointFolder(tmp_path, keep=1), 3, ("svm/map", 10.0))
    assert names(tmp_path) == ["best_step_000000003.npz", "step_000000003.npz"]


def test_best_is_copied_if_hard_links_do_not_work(tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError

    monkeypatch.setattr("os.link", no_links)
    folder = CheckpointFolder(tmp_path, keep=1)
    save(folder, 1, ("knn/top1", 80.0))
    save(folder, 2)
    assert names(tmp_path) == ["best_step_000000001.npz", "step_000000002.npz"]


def test_best_is_the_newest_if_all_others_are_damaged(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=1)
    save(folder, 1, ("knn/top1", 80.0))
    save(folder, 2)
    (tmp_path / "step_000000002.npz").write_bytes(b"")
    assert folder.newest().step == 1


def test_next_score_replaces_a_damaged_best(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=1)
    save(folder, 1, ("knn/top1", 80.0))
    (tmp_path / "best_step_000000001.npz").write_bytes(b"no zip")
    save(folder, 2, ("knn/top1", 70.0))
    assert names(tmp_path) == ["best_step_000000002.npz", "step_000000002.npz"]


# --- Damage ---------------------------------------------------------------------------


def truncated(content):
    return content[: len(content) // 2]


def flipped(content):
    place = content.index(np.float32(2.0).tobytes() * 3) + 1
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


DAMAGE = {"truncated": truncated, "flipped": flipped, "empty": lambda content: b""}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path, damage):
    folder = CheckpointFolder(tmp_path)
    save(folder, 1)
    save(folder, 2)
    path = tmp_path / "step_000000002.npz"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    found = folder.newest()
    assert found.step == 1
    (line,) = found.damaged
    assert str(path) in line
    assert "\n" not in line


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    folder = CheckpointFolder(tmp_path)
    save(folder, 1)
    path = tmp_path / "step_000000001.npz"
    content = path.read_bytes()
    expected = folder.newest()
    rng = np.random.default_rng(0)
    noticed = 0
    for place in rng.choice(8 * len(content), 400, replace=False):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        try:
            found = folder.newest()
        except ValueError:
            noticed += 1
            continue
        # A bit that means nothing, such as one of a file's date.
        assert found.about == expected.about
        assert set(found.arrays) == set(expected.arrays)
        for name, array in expected.arrays.items():
            np.testing.assert_array_equal(found.arrays[name], array)
    assert noticed > 200


def test_damaged_files_do_not_count_among_the_kept_ones(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2)
    for step in (1, 2):
        save(folder, step)
    for step in (3, 4):
        (tmp_path / f"step_{step:09d}.npz").write_bytes(b"damaged")
    folder.clean(folder.newest().step)
    save(folder, 3)
    assert names(tmp_path) == [
        "step_000000002.npz",
        "step_000000003.npz",
        "step_000000003.npz.aside",
        "step_000000004.npz.aside",
    ]


def test_if_all_are_damaged_nothing_is_deleted_and_the_error_is_one_line(tmp_path):
    for step in (1, 2):
        (tmp_path / f"step_{step:09d}.npz").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"^.* must hold .* nothing has been") as error:
        CheckpointFolder(tmp_path).newest()
    assert len(str(error.value).splitlines()) == 1
    assert "step_000000002.npz" in str(error.value)
    assert "1 others" in str(error.value)
    assert names(tmp_path) == ["step_000000001.npz", "step_000000002.npz"]


def test_rest_of_an_interrupted_write_is_removed(tmp_path):
    folder = CheckpointFolder(tmp_path)
    save(folder, 1)
    (tmp_path / "step_000000002.tmp").write_bytes(b"half a file")
    assert folder.newest().step == 1
    folder.clean(1)
    assert names(tmp_path) == ["step_000000001.npz"]


# --- A disk that is full --------------------------------------------------------------


@contextlib.contextmanager
def full_disk(file_bytes):
    """No file of this process may grow beyond this number of bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_failed_write_raises_removes_its_part_and_keeps_older_files(tmp_path):
    folder = CheckpointFolder(tmp_path)
    save(folder, 1)
    with full_disk(300):
        folder.save(2, arrays(), ABOUT)
        with pytest.raises(OSError, match="File too large"):
            folder.wait()
    assert names(tmp_path) == ["step_000000001.npz"]
    assert folder.newest().step == 1


def test_failed_write_is_raised_at_the_next_save(tmp_path):
    folder = CheckpointFolder(tmp_path)
    with full_disk(300):
        folder.save(1, arrays(), ABOUT)
        with pytest.raises(OSError, match="File too large"):
            folder.save(2, arrays(), ABOUT)
    save(folder, 3)
    assert names(tmp_path) == ["step_000000003.npz"]


# --- Safety ---------------------------------------------------------------------------


class Malicious:
    """Would write a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_file_with_a_pickled_object_is_refused_and_runs_no_code(tmp_path):
    witness = tmp_path / "witness"
    path = tmp_path / "step_000000001.npz"
    evil = np.empty(1, object)
    evil[0] = Malicious(witness)
    about = np.frombuffer(json.dumps({"step": 1}).encode(), np.uint8)
    np.savez(path, **{"online/0000": evil, "about.json": about})
    with pytest.raises(ValueError, match="allow_pickle"):
        CheckpointFolder(tmp_path).newest()
    assert not witness.exists()
    # The file is a danger to whoever does allow it.
    with np.load(path, allow_pickle=True) as loaded:
        loaded["online/0000"]
    assert witness.exists()


@pytest.mark.parametrize("kind", ["pickle", "zip_of_a_pickle"])
def test_pickle_under_the_name_of_a_checkpoint_runs_no_code(tmp_path, kind):
    witness = tmp_path / "witness"
    path = tmp_path / "step_000000001.npz"
    content = pickle.dumps(Malicious(witness))
    if kind == "pickle":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("about.json.npy", content)
    with pytest.raises(ValueError, match="must hold an undamaged checkpoint"):
        CheckpointFolder(tmp_path).newest()
    assert not witness.exists()
    assert os.path.exists(path)
