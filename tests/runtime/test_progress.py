"""The progress bar shows counts and texts, and can be followed by another one."""

import pytest

from byol_keras.runtime.progress import ProgressBar, tracked


def last_line(text):
    return text.strip().splitlines()[-1]


def test_bar_shows_description_count_and_status(capsys):
    with ProgressBar("images", total=9, completed=2) as bar:
        bar.advance()
        bar.advance(3)
        bar.update(status="1 unreadable")
    line = last_line(capsys.readouterr().out)
    assert line.startswith("images ")
    assert "6/9" in line
    assert "1 unreadable" in line


def test_update_keeps_the_texts_that_are_not_given(capsys):
    with ProgressBar("epoch 1", total=9) as bar:
        bar.update(status="loss 0.5")
        bar.update(completed=4, description="epoch 2")
    line = last_line(capsys.readouterr().out)
    assert line.startswith("epoch 2 ")
    assert "4/9" in line
    assert "loss 0.5" in line


def test_bar_on_stderr_leaves_standard_output_clean(capsys):
    with ProgressBar("images", total=1, stderr=True) as bar:
        bar.advance()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "1/1" in last_line(captured.err)


def test_bar_ends_with_an_error_so_that_the_next_one_can_start():
    with pytest.raises(KeyError), ProgressBar("first", total=1):
        raise KeyError
    with ProgressBar("second", total=1) as bar:
        bar.advance()


@pytest.mark.parametrize("text", ["a[/x]", "[bold]b", ":smile:"])
def test_texts_that_look_like_markup_are_shown_as_they_are(text, capsys):
    with ProgressBar(f"1{text}", total=2) as bar:
        bar.update(status=f"2{text}")
        bar.print(f"3{text}")
    shown = capsys.readouterr().out
    assert all(f"{number}{text}" in shown for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("items", "total", "shown"),
    [
        ([7, 8], None, "2/2"),
        (iter([7, 8]), 2, "2/2"),
        ((x for x in [7, 8]), None, "2/?"),
    ],
)
def test_tracked_items_are_yielded_and_counted(items, total, shown, capsys):
    assert list(tracked(items, "folds", total)) == [7, 8]
    line = last_line(capsys.readouterr().out)
    assert line.startswith("folds ")
    assert shown in line
