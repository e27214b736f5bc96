"""Placeholder until the engine lands (helper SCALAR overwrites this file)."""

from __future__ import annotations

from functools import lru_cache

from bounds.evaluate_scalar import evaluate_expression
from bounds.expression import Expr, is_rational


class ScalarFunction:
    def __init__(self, expression: Expr) -> None:
        self.expression, self.rational = expression, is_rational(expression)

    def value(self, z):
        return evaluate_expression(self.expression, z)


@lru_cache(maxsize=4096)
def scalar_function(expression: Expr) -> ScalarFunction:
    return ScalarFunction(expression)
