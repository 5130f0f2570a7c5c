"""Reads gin files and bindings, and reports all mistakes in them at once.

Gin itself stops at the first mistake, and does not say which name was meant.
"""

import difflib
import importlib
import os
import pathlib
import re
import tokenize
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import gin
from gin import config_parser

from byol_keras.config.graph import MACRO, Binding
from byol_keras.config.types import parameters_of
from byol_keras.runtime.errors import Findings


class Origin(NamedTuple):
    """The recipe that a configuration starts from, and its differences from it.

    Args:
        recipe: path of the recipe, from the folder above `gin/` if there is one.
        differences: binding -> its value in the recipe, or None, and its final value,
            both as gin writes them.
    """

    recipe: str
    differences: dict[str, tuple[str | None, str]]


def trees_above(path: pathlib.Path) -> list[pathlib.Path]:
    """The folders above a file that hold a folder `gin`, the nearest first."""
    return [folder for folder in path.parents if (folder / "gin").is_dir()]


class Reader:
    """Reads gin files and bindings in order; later bindings replace earlier ones.

    `lines` are the statements as gin parses them, without includes, and `found` has the
    messages on those that gin cannot parse.

    Args:
        search_path: folders in which the paths of includes start, after the working
            directory and those above the including file.
        recipes: name of a folder. The first file in such a folder is the recipe; if
            there is none, the first file is.
    """

    def __init__(self, search_path: Sequence[pathlib.Path], recipes: str | None = None):
        self.lines, self.found = [], Findings()
        self._search_path = [pathlib.Path(), *search_path]
        self._recipes, self._recipe = recipes, None
        self._open = []
        self._values, self._macros = {}, {}
        # By whether an included file has the binding.
        self._bound = {True: set(), False: set()}

    @property
    def included(self) -> set[Binding]:
        """The bindings that only included files have."""
        return self._bound[True] - self._bound[False]

    def read_file(self, path: pathlib.Path) -> None:
        """Reads a file and those that it includes."""
        real = os.path.realpath(path)
        if real in self._open:
            self._add("a gin file must not include itself", str(path))
            return
        self._open.append(real)
        try:
            with open(path, encoding="utf-8") as file:
                self.read(file)
        except (OSError, UnicodeDecodeError) as error:
            self._add("a gin file must be readable text", f"{path} ({error})")
        self._open.pop()
        is_recipe = path.parent.name == self._recipes or not self._open
        if self._recipe is None and is_recipe:
            self._recipe = pathlib.Path(real), dict(self._values)

    def read(self, source) -> None:
        """Reads an open file, or bindings in a string."""
        names = _Names()
        try:
            for statement in config_parser.ConfigParser(source, names):
                location = statement.location
                place = _place(source, location.line_num, location.line_content)
                for name in names.references:
                    self._find(f"@{name}", name, place)
                for name in names.macros:
                    self._macros.setdefault(name, place)
                names.references.clear()
                names.macros.clear()
                self._take(statement, place)
        except (SyntaxError, tokenize.TokenError) as error:
            self._add(*_syntax_error(source, error))

    def check_macros(self) -> None:
        """Reports the macros that nothing defines; call it after all reading."""
        bound = self._bound[True] | self._bound[False]
        known = {scope for scope, selector, _ in bound if selector == MACRO}
        constants = gin.config._CONSTANTS
        names = known | {name for name, _ in constants.items()}
        for name, place in self._macros.items():
            if name not in known and not constants.matching_selectors(name):
                self._add(f"%{name} must be defined {_nearest(name, names)}", place)

    def origin(self) -> Origin:
        """The recipe among the files that have been read, and what differs from it."""
        path, recipe = self._recipe
        tree = [f for f in self._search_path[1:] if path.is_relative_to(f)]
        return Origin(
            path.relative_to(tree[0]).as_posix() if tree else path.name,
            {
                name: (recipe.get(name), value)
                for name, value in self._values.items()
                if recipe.get(name) != value
            },
        )

    def _take(self, statement, place):
        if isinstance(statement, config_parser.IncludeStatement):
            self._include(statement.filename, place)
        elif isinstance(statement, config_parser.ImportStatement):
            self._import(statement, place)
        elif isinstance(statement, config_parser.BlockDeclaration):
            self._find(statement.selector, statement.selector, place)
        else:
            self._bind(statement, place)

    def _include(self, file, place):
        own = trees_above(pathlib.Path(self._open[-1])) if self._open else []
        working_directory, *others = self._search_path
        for folder in (working_directory, *own, *others):
            if (folder / file).is_file():
                self.read_file(folder / file)
                return
        known = [
            path.relative_to(folder).as_posix()
            for folder in self._search_path[1:]
            for path in (folder / "gin").rglob("*.gin")
        ]
        self._add(f"include must name an existing file {_nearest(file, known)}", place)

    def _import(self, statement, place):
        try:
            importlib.import_module(statement.module)
        except Exception as error:  # a module of the user's can raise any error
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self._add(f"import must name a module that loads ({reason})", place)
        self.lines.append(statement.format())

    def _bind(self, statement, place):
        scope, selector, parameter, value, _ = statement
        name = f"{scope}/{selector}" if scope else selector
        if not parameter:
            self._bound[len(self._open) > 1].add((name, MACRO, "value"))
        elif found := self._find(selector, selector, place):
            self._bound[len(self._open) > 1].add((scope, found.selector, parameter))
            known = parameters_of(found.wrapped)
            if known is not None and parameter not in known:
                rule = f"must be a parameter of {selector} {_nearest(parameter, known)}"
                self._add(f"{selector}.{parameter} {rule}", place)
        name = f"{name}.{parameter}" if parameter else name
        self._values[name] = repr(value)
        self.lines.append(f"{name} = {value!r}")

    def _find(self, shown, selector, place):
        """What gin has registered under a name; if nothing, None and a message."""
        registry, name = gin.config._REGISTRY, selector.rpartition("/")[2]
        matching = registry.matching_selectors(name)
        if len(matching) == 1:
            return registry[matching[0]]
        rule = f"must be one of {', '.join(sorted(matching))}"
        if not matching:
            short = {known.rpartition(".")[2] for known, _ in registry.items()}
            rule = f"must be a known name {_nearest(name.rpartition('.')[2], short)}"
        self._add(f"{shown.replace(selector, name)} {rule}", place)
        return None

    def _add(self, rule, place):
        self.found.add([f"{rule}. Received: {place}"])


class _Text(str):
    """A reference or a macro, shown as it is written."""

    __repr__ = str.__str__


class _Names(config_parser.ParserDelegate):
    """Collects names; gin's own delegate refuses those that it does not know."""

    def __init__(self):
        self.references, self.macros = [], []

    def configurable_reference(self, scoped_selector, evaluate):
        self.references.append(scoped_selector)
        return _Text(f"@{scoped_selector}{'()' if evaluate else ''}")

    def macro(self, name):
        self.macros.append(name)
        return _Text(f"%{name}")


def _nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message on a name: the known names that resemble it."""
    found = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"(nearest: {', '.join(found) or 'none'})"


def _place(source, line, text):
    """A statement and where it is: in a file, or on its own."""
    if isinstance(source, str):
        return repr(source)
    return f"{text.strip()!r} in line {line} of {source.name}"


def _syntax_error(source, error):
    """Rule and place of an error of gin's parser or of its tokenizer."""
    message = str(error.args[0])
    if isinstance(error, tokenize.TokenError):
        rule = f"brackets and quotes must be closed ({message})"
        return rule, _place(source, error.args[1][0], "")
    token = re.search(r"Failed to parse token '(.*)'", message, re.DOTALL)
    if token:
        message = f"{token[1]!r} is no value; text needs quotes"
    _, line, _, text = error.args[1][:4]
    rule = f"every line must be gin syntax ({message.rstrip('.')})"
    return rule, _place(source, line, text or "")
