import importlib
import sys

import pytest

from byol_keras.runtime.deferred_import import deferred


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Name of a module that no other test imports, with `answer = 42`."""
    (tmp_path / "imported_late.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "imported_late"
    sys.modules.pop("imported_late", None)


def test_deferred_module_is_imported_by_its_first_use(module):
    with deferred(module):
        stand_in = importlib.import_module(module)
    assert module not in sys.modules
    assert stand_in.answer == 42
    assert sys.modules[module].answer == 42


def test_deferred_module_can_be_used_inside_the_block(module):
    with deferred(module):
        assert importlib.import_module(module).answer == 42
    assert sys.modules[module].answer == 42


def test_module_that_is_imported_already_stays(module):
    imported = importlib.import_module(module)
    with deferred(module):
        assert importlib.import_module(module) is imported
    assert sys.modules[module] is imported


def test_attribute_that_the_module_lacks_is_an_attribute_error(module):
    with deferred(module):
        stand_in = importlib.import_module(module)
    with pytest.raises(AttributeError, match="question"):
        _ = stand_in.question
