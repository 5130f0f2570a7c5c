"""Bindings that do not suit what the configuration calls are one message each."""

from collections.abc import Callable, Sequence

import gin
import pytest

from byol_keras.config import bindings


@gin.register(module="test_bindings")
def reader(path: str, sizes: Sequence[int] = ()):
    return path


@gin.register(module="test_bindings")
def maker(width, depth=1):
    return width


@gin.configurable(module="test_bindings")
def cached(folder: str = "a"):
    return folder


@gin.register(module="test_bindings")
def job(
    folder, flag=False, *, maker_fn: Callable, data=None, steps: int = gin.REQUIRED
):
    return maker_fn(width=3)


ROOT = "test_bindings.job"
CALLS = {"maker_fn": ("width",)}
COMPLETE = {"job.maker_fn": "@maker", "job.steps": "3"}


def mistakes(*lines, without=()):
    gin.clear_config()
    kept = {name: value for name, value in COMPLETE.items() if name not in without}
    gin.parse_config([f"{name} = {value}" for name, value in kept.items()])
    gin.parse_config(list(lines))
    return bindings.find_mistakes(ROOT, CALLS)


@pytest.fixture(autouse=True)
def nothing_is_forgiven():
    yield
    bindings.forgive(())


def test_complete_configuration_has_no_mistakes():
    assert mistakes("job.data = @reader()", "reader.path = 'x'") == []


UNUSED = "every gin binding must be used by what the configuration builds. Received: "


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("job.steps = 'x'", "job.steps must be an int. Received: 'x'"),
        ("job.steps = %N\nN = 2.5", "job.steps must be an int. Received: 2.5"),
        ("job.data = @reader()", "reader.path must be bound. Received: nothing"),
        ("job.data = @a/reader()", "a/reader.path must be bound. Received: nothing"),
        (
            "job.data = @reader()\nreader.path = 'x'\nreader.sizes = [1, %N]\nN = 'a'",
            "reader.sizes must be a list of ints. Received: [1, 'a']",
        ),
        (
            "job.maker_fn = @maker()\nmaker.width = 1",
            "job.maker_fn must be a function, as @name without (). Received: @maker()",
        ),
        (
            "job.maker_fn = @cached",
            "job.maker_fn must be a function of width. Received: @cached",
        ),
        ("reader.path = 'x'", f"{UNUSED}reader.path, which nothing uses"),
        ("a/maker.depth = 2", f"{UNUSED}a/maker.depth, which nothing uses"),
        ("N = 2", f"{UNUSED}N, which nothing uses"),
    ],
)
def test_mistake_is_one_message(line, expected):
    assert mistakes(*line.split("\n")) == [expected]


def test_function_may_be_bound_through_a_macro():
    assert mistakes("job.maker_fn = %MAKER", "MAKER = @maker", "maker.depth = 2") == []


def test_arguments_that_the_command_line_passes_need_no_binding():
    assert mistakes(without=("job.steps",)) == [
        "job.steps must be bound. Received: nothing"
    ]


def test_function_that_code_calls_needs_no_reference():
    assert mistakes("cached.folder = 'b'") == []


def test_forgiven_bindings_need_no_use_until_others_are_forgiven():
    bindings.forgive({("", "test_bindings.reader", "path")})
    assert mistakes("reader.path = 'x'") == []
    assert bindings.unused(set(), with_included=True) == [
        "job.maker_fn",
        "job.steps",
        "reader.path",
    ]
    bindings.forgive(())
    assert mistakes("reader.path = 'x'") != []


def test_parameter_is_bound_in_every_scope_that_binds_it():
    mistakes("reader.path = 'x'", "a/reader.sizes = [1]", "b/reader.path = 'y'")
    bindings.bind_everywhere("test_bindings.reader", "path", "z")
    bindings.bind_everywhere("test_bindings.cached", "folder", "z")
    for scope in ("", "a/", "b/"):
        assert gin.get_configurable(f"{scope}reader")() == "z"
    assert cached() == "a"
    assert gin.config_str().count("'z'") == 2
