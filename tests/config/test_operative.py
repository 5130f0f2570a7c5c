"""Used and unused bindings are distinguished, and both configurations are written."""

import gin

from byol_keras.config import bindings, operative


@gin.register(module="test_operative")
def count(steps=1, name="a"):
    return steps


def test_unused_bindings_are_named_and_sorted():
    gin.parse_config("b/count.steps = 3\na/count.name = 'x'\na/count.steps = %N\nN = 1")
    gin.get_configurable("a/count")(steps=5)
    assert operative.unused_bindings() == ["a/count.steps", "b/count.steps"]


def test_bindings_of_included_files_are_listed_on_request():
    gin.parse_config("a/count.steps = 3\nb/count.steps = 4")
    bindings.forgive({("a", "test_operative.count", "steps")})
    assert operative.unused_bindings() == ["b/count.steps"]
    both = ["a/count.steps", "b/count.steps"]
    assert operative.unused_bindings(with_included=True) == both
    bindings.forgive(())


def test_both_configurations_are_written(tmp_path):
    gin.parse_config("a/count.steps = 3\nb/count.steps = 4")
    gin.get_configurable("a/count")()
    operative.write_config(tmp_path)
    parsed = (tmp_path / "config.gin").read_text()
    used = (tmp_path / "operative_config.gin").read_text()
    assert "b/count.steps = 4" in parsed
    assert "b/count.steps" not in used
    assert "a/count.name = 'a'" in used
