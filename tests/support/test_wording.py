"""Banned phrases are found where they are, and only there."""

from support import wording


def found_in(text, search=wording.in_text):
    return [tuple(phrase) for phrase in search(text)]


def test_phrase_is_found_across_the_end_of_a_line():
    assert found_in("A run\ngoes\non.\nOne file Lies here.") == [
        (2, "goes on"),
        (4, "Lies"),
    ]


def test_tell_apart_is_allowed():
    assert found_in("Colors tell garments by name, or tell apart.") == [(1, "tell")]


def test_word_within_a_longer_word_is_allowed():
    assert found_in("It relies on families; beliefs are as often wrong.") == []


def test_only_comments_of_gin_files_count():
    text = "# as\n# of\nname = 'so many'  # it tells"
    assert found_in(text, wording.in_gin) == [(1, "as of"), (3, "tells")]


def test_docstrings_messages_and_names_of_tests_count_but_no_code():
    module = '''
def test_it_goes_on(told):
    """Whoever reads."""
    raise ValueError(f"must be {told}, which "
                     "tells why")  # a run goes on
'''
    assert found_in(module, wording.in_python) == [
        (2, "goes on"),
        (3, "Whoever"),
        (4, "tells"),
    ]
