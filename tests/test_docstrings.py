"""Docstrings of all public names follow numpydoc, as `numpydoc.validate` defines it.

Public are the names in `mlx_gmvae.__all__` and, of classes, the methods, properties and attributes
that this package defines, inherited ones included.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pydoc import locate
from typing import Any

import mlx_gmvae

import numpy as np
import pytest
from numpydoc.docscrape import get_doc_object
from numpydoc.validate import validate

# The meaning of each code: numpydoc.validate.ERROR_MSGS. Not enforced are an extended summary
# (ES01), See Also (SA01), and the starts and ends of descriptions (PR08, PR09, RT04, RT05), since
# many are a formula or begin with the name of a parameter. Where a docstring starts ruff decides
# (D212): up to numpydoc 1.10, GL01 does not allow the line of the quotes.
ENFORCED = {
    *("GL02", "GL03", "GL05", "GL06", "GL07", "GL08", "GL10"),
    *("SS01", "SS02", "SS03", "SS04", "SS05", "SS06"),
    *("PR01", "PR02", "PR03", "PR04", "PR05", "PR06", "PR07", "PR10"),
    *("RT01", "RT02", "RT03", "YD01"),
}
WITH_EXAMPLES = ENFORCED | {"EX01"}
NAMES = sorted(set(mlx_gmvae.__all__) - {"__version__"})


def errors(name: str, codes: set[str]) -> list[str]:
    found = validate(name)["errors"]
    return [f"{name}: {code} {message}" for code, message in found if code in codes]


def path_of(definition: Any, name: str = "") -> str:
    return ".".join(filter(None, [definition.__module__, definition.__qualname__, name]))


def documented(kind: type, attribute: str) -> str | None:
    """The definition of a method or property that has its docstring; None for other attributes.

    Of a method that overrides another without a docstring this is the overridden one.
    """
    owners = [base for base in kind.__mro__ if attribute in vars(base)]
    values = [inspect.getattr_static(base, attribute) for base in owners]
    if not (callable(values[0]) or isinstance(values[0], (classmethod, property))):
        return None
    with_docstrings = [owner for owner, value in zip(owners, values, strict=True) if value.__doc__]
    return path_of((with_docstrings or owners)[0], attribute)


def public_attributes(kind: type) -> Iterator[str]:
    for attribute in dir(kind):
        owner = next((base for base in kind.__mro__ if attribute in vars(base)), object)
        if not attribute.startswith("_") and owner.__module__.startswith("mlx_gmvae"):
            yield attribute


def public_members() -> list[str]:
    kinds = [each for each in map(mlx_gmvae.__getattr__, NAMES) if isinstance(each, type)]
    paths = {documented(kind, name) for kind in kinds for name in public_attributes(kind)}
    return sorted(path for path in paths if path is not None)


def raises(path: str) -> bool:
    """Whether a function has a raise statement of its own, but for NotImplementedError."""
    definition: Any = locate(path)
    source = inspect.getsource(getattr(definition, "fget", definition))  # of a property
    tree = ast.parse(textwrap.dedent(source))
    statements = [each for each in ast.walk(tree) if isinstance(each, ast.Raise) and each.exc]
    return any("NotImplementedError" not in ast.unparse(each) for each in statements)


def described(kind: type) -> set[str]:
    """Parameters and attributes in the docstring of a class and of those that it inherits from."""
    names: set[str] = set()
    for base in kind.__mro__:
        if base.__module__.startswith("mlx_gmvae") and base.__doc__:
            doc = get_doc_object(base)
            for section in ("Parameters", "Attributes"):
                names |= {n.strip("* ") for entry in doc[section] for n in entry.name.split(",")}
    return names


@pytest.mark.parametrize("name", NAMES)
def test_public_names(name: str) -> None:
    assert not errors(f"mlx_gmvae.{name}", WITH_EXAMPLES)


@pytest.mark.parametrize("path", public_members())
def test_public_methods_and_properties(path: str) -> None:
    assert not errors(path, ENFORCED)


@pytest.mark.parametrize("path", [*(f"mlx_gmvae.{name}" for name in NAMES), *public_members()])
def test_what_is_raised(path: str) -> None:
    definition = locate(path)
    if not isinstance(definition, type) and raises(path):
        assert get_doc_object(definition)["Raises"]


def instances() -> dict[str, Any]:
    X = np.random.default_rng(0).normal(size=(60, 3))
    model = mlx_gmvae.build_model(image_size=(8, 8), K=2)
    return {
        "GMVAEClusterer": mlx_gmvae.GMVAEClusterer(2, max_iter=1, random_state=0).fit(X),
        "Model": model,
        "GMVAE": model.network,
        "VAE": mlx_gmvae.build_model(model="vae", image_size=(8, 8)).network,
    }


def test_attributes() -> None:
    """Those of classes and those that instances get."""
    for name, instance in instances().items():
        kind = type(instance)
        mlx_children = set(instance) if isinstance(instance, dict) else set()  # of an nn.Module
        names = {n for n in {*vars(instance), *mlx_children} if not n.startswith("_")}
        names |= {n for n in public_attributes(kind) if documented(kind, n) is None}
        assert names - described(kind) == set(), name


def undocumented(first: int, second: int) -> int:
    """Add two numbers.

    Parameters
    ----------
    first : int
        A number.

    Returns
    -------
    int
        The sum.
    """
    return first + second


def test_an_undocumented_parameter_is_noticed() -> None:
    """The check itself: `second` has no description above."""
    found = errors(path_of(undocumented), ENFORCED)
    assert len(found) == 1 and "PR01" in found[0] and "second" in found[0]
