"""Mistakes in gin files and bindings, all of them, found before gin reads them.

Gin itself stops at the first one, and does not say which name was meant.
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

from byol_keras.config.types import parameters_of

# The folder of recipes.
RECIPES = "pretrain"
# What gin registers macros under, each in a scope of its name.
_MACRO = "gin.macro"


class Origin(NamedTuple):
    """The recipe that a configuration starts from, and its difference to it.

    Args:
        recipe: path of the first file in a folder `pretrain`, included or not; of the
            first file, where there is none.
        differences: binding -> its value in the recipe and the one that holds, as gin
            writes them; None where it is not bound.
    """

    recipe: str
    differences: dict[str, tuple[str | None, str | None]]


class Reading(NamedTuple):
    """What reading gin files has shown.

    Args:
        mistakes: lines on what cannot be read, included or found by its name.
        defaults: scope, whole selector and parameter of what is bound by included
            files only. A recipe may hide such a binding by those of inner scopes.
        replaced: those of them that serve what a later file or binding has replaced.
        origin: the recipe, and what is bound besides.
    """

    mistakes: list[str]
    defaults: set[tuple[str, str, str]]
    replaced: set[tuple[str, str, str]]
    origin: Origin


def read(
    gin_files: Sequence[pathlib.Path],
    gin_params: Sequence[str],
    search_path: Sequence[pathlib.Path],
) -> Reading:
    """Reads gin files and bindings as gin will.

    Args:
        gin_files: existing files.
        gin_params: bindings in gin syntax.
        search_path: folders that relative paths of includes may start from.
    """
    reader = _Reader(search_path)
    for path in gin_files:
        reader.read_file(path)
    for text in gin_params:
        reader.read_text(text)
    defaults = reader.bound[True] - reader.bound[False]
    replaced = reader.replaced(defaults)
    return Reading(reader.mistakes(), defaults, replaced, reader.origin())


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a rule about a name: which known ones look like it."""
    found = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"(nearest: {', '.join(found) or 'none'})"


class _Named(NamedTuple):
    """A reference or a macro, as the parser meets it."""

    kind: str
    name: str
    place: str


class _Text(str):
    """What a value says of functions and macros: it is shown as it is written."""

    __repr__ = str.__str__


class _Delegate(config_parser.ParserDelegate):
    """Stands for gin's own, which refuses unknown names."""

    def __init__(self):
        self.met = []

    def configurable_reference(self, scoped_selector, evaluate):
        self.met.append(("@", scoped_selector))
        return _Text(f"@{scoped_selector}{'()' if evaluate else ''}")

    def macro(self, name):
        self.met.append(("%", name))
        return _Text(f"%{name}")


class _Reader:
    def __init__(self, search_path):
        self._search_path = [pathlib.Path(), *search_path]
        self._lines = []
        self._macros = set()
        self._named = []
        self._open = []
        # By whether an included file binds it.
        self.bound = {True: set(), False: set()}
        # What the value of a binding refers to, and what replaced values did.
        self._references = {}
        self._let_go = set()
        self._values = {}
        self._recipe = None

    def mistakes(self):
        known = self._macros | {name for name, _ in gin.config._CONSTANTS.items()}
        for kind, name, place in self._named:
            selector = name.rpartition("/")[2]
            if kind == "@":
                self._check_selector(f"@{selector}", selector, place)
            elif name not in known and not gin.config._CONSTANTS.matching_selectors(
                name
            ):
                self._add(f"%{name} must be defined {nearest(name, known)}", place)
        return list(dict.fromkeys(self._lines))

    def replaced(self, bindings):
        """The bindings of what replaced values refer to, and of what that refers to."""
        waiting, reached = list(self._let_go), set()
        while waiting:
            scope, selector = here = waiting.pop()
            if here in reached:
                continue
            reached.add(here)
            for (owner_scope, owner, _), parts in self._references.items():
                if owner == selector and owner_scope in ("", scope):
                    # One without a scope is called in that of its caller.
                    waiting += [(inner or scope, part) for inner, part in parts]
        reached |= {("", selector) for _, selector in reached}
        return {binding for binding in bindings if binding[:2] in reached}

    def read_file(self, path):
        real = os.path.realpath(path)
        if real in self._open:
            self._add("a gin file must not include itself", str(path))
            return
        self._open.append(real)
        try:
            with open(path, encoding="utf-8") as file:
                self._read(file, str(path))
        except (OSError, UnicodeDecodeError) as error:
            self._add("a gin file must be readable text", f"{path} ({error})")
        self._open.pop()
        if self._recipe is None and (path.parent.name == RECIPES or not self._open):
            self._recipe = pathlib.Path(real), dict(self._values)

    def origin(self):
        path, recipe = self._recipe or (pathlib.Path(), {})
        tree = [f for f in self._search_path[1:] if path.is_relative_to(f)]
        names = [*recipe, *(name for name in self._values if name not in recipe)]
        pairs = {name: (recipe.get(name), self._values.get(name)) for name in names}
        return Origin(
            path.relative_to(tree[0]).as_posix() if tree else path.name,
            {name: pair for name, pair in pairs.items() if pair[0] != pair[1]},
        )

    def read_text(self, text):
        self._read(text, f"{text!r} in --gin_param")

    def _read(self, source, name):
        delegate = _Delegate()
        try:
            for statement in config_parser.ConfigParser(source, delegate):
                place = _place(statement.location, name)
                self._named += [_Named(*met, place) for met in delegate.met]
                parts = [_whole(kind, name) for kind, name in delegate.met]
                delegate.met.clear()
                self._take(statement, place, parts)
        except (SyntaxError, tokenize.TokenError) as error:
            self._add(*_syntax(error, name))

    def _take(self, statement, place, parts):
        if isinstance(statement, config_parser.IncludeStatement):
            self._include(statement.filename, place)
        elif isinstance(statement, config_parser.ImportStatement):
            self._import(statement.module, place)
        elif isinstance(statement, config_parser.BlockDeclaration):
            self._check_selector(statement.selector, statement.selector, place)
        elif isinstance(statement, config_parser.BindingStatement):
            scope, selector, parameter, value, _ = statement
            name = f"{selector}.{parameter}" if parameter else selector
            self._values[f"{scope}/{name}" if scope else name] = repr(value)
            if parameter:
                self._check_binding(scope, selector, parameter, place, parts)
            else:
                macro = f"{scope}/{selector}" if scope else selector
                self._macros.add(macro)
                self._bind((macro, _MACRO, "value"), parts)

    def _include(self, file, place):
        for folder in self._search_path:
            if (folder / file).is_file():
                self.read_file(folder / file)
                return
        known = [
            path.relative_to(folder).as_posix()
            for folder in self._search_path[1:]
            for path in (folder / "gin").rglob("*.gin")
        ]
        self._add(f"include must name an existing file {nearest(file, known)}", place)

    def _import(self, module, place):
        """A module of the user's, whose names the next lines may bind."""
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever its code raises
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self._add(f"import must name a module that loads ({reason})", place)

    def _check_selector(self, shown, selector, place):
        matching = gin.config._REGISTRY.matching_selectors(selector)
        if len(matching) == 1:
            return True
        if matching:
            rule = f"must be one of {', '.join(sorted(matching))}"
        else:
            known = [name for name, _ in gin.config._REGISTRY.items()]
            short = {name.rpartition(".")[2] for name in known}
            rule = f"must be a known name {nearest(selector.rpartition('.')[2], short)}"
        self._add(f"{shown} {rule}", place)
        return False

    def _check_binding(self, scope, selector, parameter, place, parts):
        shown = f"{selector}.{parameter}"
        if not self._check_selector(selector, selector, place):
            return
        configurable = gin.config._REGISTRY.get_match(selector)
        self._bind((scope, configurable.selector, parameter), parts)
        known = parameters_of(configurable.wrapped)
        if known is not None and parameter not in known:
            rule = f"must be a parameter of {selector} {nearest(parameter, known)}"
            self._add(f"{shown} {rule}", place)

    def _bind(self, key, parts):
        is_included = len(self._open) > 1
        self.bound[is_included].add(key)
        self._let_go |= self._references.get(key, set())
        self._references[key] = set(parts)

    def _add(self, rule, place):
        self._lines.append(f"{rule}. Received: {place}")


def _whole(kind, reference):
    """Scope and whole selector of a reference; the selector as it is if unknown."""
    if kind == "%":
        return reference, _MACRO
    scope, _, selector = reference.rpartition("/")
    matching = gin.config._REGISTRY.matching_selectors(selector)
    return scope, matching[0] if len(matching) == 1 else selector


def _place(location, name):
    """What stands there, and where."""
    return _where(name, location.line_num, location.line_content)


def _where(name, line, text):
    if name.endswith("--gin_param"):
        return name
    return f"{text.strip()!r} in line {line} of {name}"


def _syntax(error, name):
    """Rule and place of an error of the parser or of its tokenizer."""
    message = str(error.args[0])
    if isinstance(error, tokenize.TokenError):
        rule = f"brackets and quotes must be closed ({message})"
        return rule, _where(name, error.args[1][0], "")
    token = re.search(r"Failed to parse token '(.*)'", message, re.DOTALL)
    if token:
        message = f"{token[1]!r} is no value; text needs quotes"
    _, line, _, text = error.args[1][:4]
    rule = f"every line must be gin syntax ({message.rstrip('.')})"
    return rule, _where(name, line, text or "")
