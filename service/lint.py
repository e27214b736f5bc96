"""Reads properties when they are submitted, so that a mistake is told at once, with its line and column.

VNN-LIB 1.0 and built properties are read here: that reader is ours and pure Python. The official parser of
VNN-LIB 2.0 is native code, so text in that language is read in a confined child of the web process.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from bounds.errors import SpecError, SureboundError
from service.context import Context
from service.problems import Problem
from service.schemas import Property
from verifier.spec import load, vnnlib2

SOURCE = "property"


def lint(here: Context, prop: Property) -> None:
    """Raises the problem that a property has.

    Raises:
        Problem: 422 with pointer, line and column; 413 when it is too large.
    """
    if prop.robustness is not None:
        radius = prop.robustness.radius
        if isinstance(radius, str):
            Fraction(radius)  # the schema's pattern lets nothing else through
        return
    text = prop.vnnlib or ""
    limit = here.settings.max_property
    if len(text.encode()) > limit:
        what = f"the property has over {limit} bytes; split it, or ask the operator for a larger max_property"
        raise Problem(413, "too-large", what, errors=[{"pointer": "/property/vnnlib", "detail": what}])
    if vnnlib2.is_vnnlib2(text):
        wrong = here.linter.mistake(text)
        if wrong is not None:
            raise _invalid(wrong.detail, line=wrong.line, column=wrong.column)
        return
    with here.reading:
        try:
            load.loads(text, source=SOURCE, max_bytes=limit)
        except SpecError as error:
            raise _invalid(str(error), line=error.line, column=error.column) from None
        except SureboundError as error:
            raise _invalid(str(error)) from None


def _invalid(detail: str, *, line: int = 0, column: int = 0) -> Problem:
    place: dict[str, Any] = {"pointer": "/property/vnnlib", "detail": detail}
    if line:
        place |= {"line": line, "column": column}
    return Problem(422, "property-invalid", detail, errors=[place])
