"""Files and folders are replaced as a whole, or stay as they are."""

import pytest

from byol_keras.runtime.atomic_files import write_text, write_whole


def write_folder(*names):
    def write(path):
        path.mkdir()
        for name in names:
            (path / name).write_text(name)

    return write


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_text_replaces_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    for text in ("old", "new"):
        write_text(path, text)
        assert path.read_text() == text
        assert names(tmp_path) == ["a.json"]


def test_folder_replaces_the_old_folder_with_all_its_files(tmp_path):
    path = tmp_path / "model"
    write_whole(path, write_folder("a", "b"))
    write_whole(path, write_folder("c"))
    assert names(path) == ["c"]
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("old", [None, "old"])
def test_write_that_fails_half_way_changes_nothing(tmp_path, old):
    path = tmp_path / "a.json"
    if old:
        path.write_text(old)

    def fail(partial):
        partial.write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_whole(path, fail)
    assert (path.read_text() if path.exists() else None) == old
    assert names(tmp_path) == (["a.json"] if old else [])


def test_rest_of_a_crash_is_not_in_the_way(tmp_path):
    (tmp_path / "model.partial").mkdir()
    (tmp_path / "model.older").mkdir()
    write_whole(tmp_path / "model", write_folder("a"))
    write_whole(tmp_path / "model", write_folder("b"))
    assert names(tmp_path) == ["model"]


def test_temporary_path_keeps_the_suffix(tmp_path):
    seen = []
    write_whole(
        tmp_path / "a.keras", lambda path: (seen.append(path), path.write_text(""))
    )
    assert seen[0].suffix == ".keras"
    assert seen[0] != tmp_path / "a.keras"
