"""The walker follows references as gin does: scopes, macros, defaults."""

import gin
import pytest

from byol_keras.config import graph

gin.constant("test_graph.SIZES", (1, 2))


@gin.register(module="test_graph")
def leaf(size=1):
    return size


@gin.configurable(module="test_graph")
def noted(every=1):
    return every


@gin.register(module="test_graph")
def branch(part=None, parts=(), make=None, note=noted):
    return part


@gin.register(module="test_graph")
def root(branch_fn, given=None, count=3, *, names=()):
    return branch_fn(make=leaf)


ROOT, LEAF, BRANCH = "test_graph.root", "test_graph.leaf", "test_graph.branch"


def parse(*bindings):
    gin.clear_config()
    gin.parse_config(list(bindings))


def calls(*arguments):
    return [(use.scopes, use.selector, use.called) for use in graph.walk(*arguments)]


def test_parts_come_before_the_calls_that_contain_them():
    parse("root.branch_fn = @branch", "branch.part = @leaf()", "branch.note = None")
    assert calls(ROOT) == [
        ((), LEAF, True),
        ((), BRANCH, False),
        ((), ROOT, True),
    ]
    assert graph.walk(ROOT)[1].parts == {((), LEAF)}


def test_reference_without_a_scope_is_called_in_that_of_its_caller():
    parse(
        "root.branch_fn = @a/branch",
        "a/branch.parts = [@leaf(), @b/leaf()]",
        "branch.note = None",
    )
    assert calls(ROOT)[:2] == [(("a",), LEAF, True), (("b",), LEAF, True)]


def test_value_of_a_macro_is_made_in_its_scope_and_a_function_in_that_of_the_user():
    parse(
        "PARTS = [@leaf(), @noted]",
        "root.branch_fn = @a/branch",
        "a/branch.parts = %PARTS",
        "branch.note = None",
    )
    assert calls(ROOT)[:3] == [
        (("PARTS",), LEAF, True),
        (("a",), "test_graph.noted", False),
        (("PARTS",), graph.MACRO, True),
    ]


def test_default_that_reads_bindings_is_followed_unless_it_is_replaced():
    parse()
    assert calls(BRANCH) == [((), "test_graph.noted", False), ((), BRANCH, True)]
    parse("branch.note = None")
    assert calls(BRANCH) == [((), BRANCH, True)]


def test_binding_of_an_inner_scope_hides_that_of_an_outer_one():
    parse("leaf.size = 2", "a/leaf.size = 3", "a/b/leaf.size = 4")
    assert graph.bound((), LEAF) == {"size": ("", 2)}
    assert graph.bound(("a", "c"), LEAF) == {"size": ("a", 3)}
    assert graph.bound(("b",), LEAF) == {"size": ("", 2)}


def test_macros_and_constants_are_resolved_within_containers():
    parse("A = %B", "B = 5", "leaf.size = [(%A, {'x': %test_graph.SIZES})]")
    ((_, value),) = graph.bound((), LEAF).values()
    assert graph.resolved(value) == [(5, {"x": (1, 2)})]
    ((number, other),) = graph.resolved(value, {graph.MACRO})
    assert number == 5
    assert graph.is_reference(other["x"])


def test_value_is_what_is_bound_or_the_default():
    parse("root.branch_fn = %FUNCTION", "FUNCTION = @a/leaf", "a/leaf.size = 7")
    assert graph.value_of(ROOT, "branch_fn")() == 7
    assert graph.value_of(ROOT, "count") == 3
    parse()
    with pytest.raises(ValueError, match=r"root.branch_fn must be bound. Received: no"):
        graph.value_of(ROOT, "branch_fn")


def used_names():
    return {graph.name_of(*binding) for binding in graph.used_so_far()}


def test_binding_counts_as_used_once_a_call_has_used_it():
    parse("leaf.size = 2", "a/leaf.size = 3")
    assert used_names() == set()
    gin.get_configurable("a/leaf")()
    assert used_names() == {"a/leaf.size"}


def test_bindings_of_a_function_that_is_called_later_count_as_used():
    parse(
        "root.branch_fn = @branch",
        "root.names = [@a/leaf]",
        "a/leaf.size = %SIZE",
        "SIZE = 3",
        "leaf.size = 1",
        "branch.part = 3",
        "branch.make = @noted",
    )
    gin.get_configurable(root)()
    # The code passes `make` itself, and the inner scope hides `leaf.size`.
    assert used_names() == {
        "root.branch_fn",
        "root.names",
        "a/leaf.size",
        "SIZE",
        "branch.part",
    }


def test_operative_values_leave_out_other_parameters_of_the_root():
    parse("root.branch_fn = @branch", "branch.part = @a/leaf()", "a/leaf.size = 4")
    gin.get_configurable(root)()
    found = graph.operative_values(ROOT, ("branch_fn",), without=("parts",))
    assert found == {
        "root.branch_fn": "@branch",
        "branch.part": "@a/leaf()",
        "a/leaf.size": "4",
    }


def test_lines_for_a_call_leave_out_what_only_other_functions_refer_to():
    parse(
        "root.names = [@branch]",
        "branch.part = @a/leaf()",
        "a/leaf.size = %SIZE",
        "SIZE = 4",
        "leaf.size = 3",
        "noted.every = 2",
        "b/branch.parts = [@b/leaf()]",
        "b/leaf.size = 5",
    )
    assert graph.lines_for((), BRANCH, {BRANCH, ROOT}) == [
        "SIZE = 4",
        "branch.part = @a/leaf()",
        "leaf.size = 3",
        "a/leaf.size = %SIZE",
        "noted.every = 2",
    ]
    assert graph.lines_for((), "test_graph.noted", {BRANCH, ROOT}) == [
        "noted.every = 2"
    ]


def test_declared_function_can_be_bound_and_a_registered_one_stays():
    def signature(*, size, count=2, **others):
        pass

    graph.declare("test_graph.elsewhere", signature)
    graph.declare(LEAF, signature)
    parse("elsewhere.size = 3", "elsewhere.unknown = 4")
    assert graph.value_of("test_graph.elsewhere", "size") == 3
    assert graph.value_of("test_graph.elsewhere", "count") == 2
    assert graph.function_of(LEAF) is leaf


@gin.configurable(module="test_graph")
def called_by_code():
    pass


def test_code_can_call_what_is_configurable_but_not_what_is_registered():
    assert graph.is_called_by_code("test_graph.called_by_code")
    assert not graph.is_called_by_code(LEAF)


def test_class_of_a_result_is_known_from_the_annotation():
    def annotated() -> dict:
        pass

    assert graph.result_of(annotated) is dict
    assert graph.result_of(dict) is dict
    assert graph.result_of(leaf) is None
