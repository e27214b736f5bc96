"""A network as a drawing, nodes in layers from top to bottom: made of facts that a worker read off it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup, escape

_BOX: Final = (168, 38)
_GAP: Final = (20, 26)
_MOST: Final = 120
_CURVED: Final = frozenset({"relu", "scalar", "product", "softmax", "maxpool", "max_pool"})


@dataclass(frozen=True, slots=True)
class Drawing:
    """The picture, and the same as rows: node, operator, shape, what it reads."""

    picture: Markup
    rows: tuple[tuple[str, str, str, str], ...]


@dataclass(frozen=True, slots=True)
class _Node:
    id: str
    op: str
    shape: str
    inputs: tuple[str, ...]


def drawing(facts: Mapping[str, Any]) -> Drawing | None:
    """The drawing of a network; None if the facts have none, or it is too large to be looked at."""
    nodes = _nodes(facts.get("graph"))
    if not nodes or len(nodes) > _MOST:
        return None
    places = _places(nodes)
    wide = max(x for x, _ in places.values()) + _BOX[0] + 2
    high = max(y for _, y in places.values()) + _BOX[1] + 2
    parts = [_edge(places[source], places[n.id]) for n in nodes for source in n.inputs if source in places]
    parts += [_box(n, places[n.id]) for n in nodes]
    title = f"The network: {len(nodes)} nodes from input to output"
    told = "; ".join(f"{n.op} {n.shape}" for n in nodes[:30])
    text = (
        f'<svg class="network" viewBox="-1 -1 {wide} {high}" width="{wide}" role="img" '
        f'aria-labelledby="network-title network-desc"><title id="network-title">{escape(title)}</title>'
        f'<desc id="network-desc">{escape(told)}</desc>{"".join(parts)}</svg>'
    )
    rows = tuple((n.id, n.op, n.shape, ", ".join(n.inputs)) for n in nodes)
    return Drawing(Markup(text), rows)  # noqa: S704 - every text in it is escaped


def _nodes(given: Any) -> list[_Node]:
    if not isinstance(given, list):
        return []
    found: list[_Node] = []
    for entry in given:
        one: Any = entry
        if isinstance(one, dict) and "id" in one and "op" in one:
            shape = " × ".join(str(n) for n in one.get("shape") or ())
            inputs = tuple(str(i) for i in one.get("inputs") or ())
            found.append(_Node(str(one["id"]), str(one["op"]), shape, inputs))
    return found


def _places(nodes: Sequence[_Node]) -> dict[str, tuple[float, float]]:
    """Left upper corners: a node's row is below all that it reads (nodes come in that order)."""
    depth: dict[str, int] = {}
    rows: dict[int, list[str]] = {}
    for node in nodes:
        depth[node.id] = max((depth[i] + 1 for i in node.inputs if i in depth), default=0)
        rows.setdefault(depth[node.id], []).append(node.id)
    widest = max(len(r) for r in rows.values())
    step = (_BOX[0] + _GAP[0], _BOX[1] + _GAP[1])
    places: dict[str, tuple[float, float]] = {}
    for at, row in rows.items():
        left = (widest - len(row)) * step[0] / 2
        places |= {name: (left + i * step[0], at * step[1]) for i, name in enumerate(row)}
    return places


def _edge(source: tuple[float, float], target: tuple[float, float]) -> str:
    x0, y0 = source[0] + _BOX[0] / 2, source[1] + _BOX[1]
    x1, y1 = target[0] + _BOX[0] / 2, target[1]
    bend = max(math.fabs(y1 - y0) / 2, 10)
    if y1 - y0 > _GAP[1] + 1 and x0 == x1:  # past the nodes in between
        side = x0 + _BOX[0] / 2 + 10
        return (
            f'<path class="edge" d="M{x0:.0f} {y0:.0f}C{side:.0f} {y0 + 14:.0f} {side:.0f} {y0 + 14:.0f} '
            f"{side:.0f} {y0 + 30:.0f}V{y1 - 30:.0f}C{side:.0f} {y1 - 14:.0f} {side:.0f} {y1 - 14:.0f} "
            f'{x1:.0f} {y1:.0f}"/>'
        )
    return (
        f'<path class="edge" d="M{x0:.0f} {y0:.0f}C{x0:.0f} {y0 + bend:.0f} {x1:.0f} {y1 - bend:.0f} '
        f'{x1:.0f} {y1:.0f}"/>'
    )


def _box(node: _Node, place: tuple[float, float]) -> str:
    x, y = place
    kind = "node curved" if node.op.lower() in _CURVED else "node"
    middle = x + _BOX[0] / 2
    return (
        f'<g class="{kind}"><rect x="{x:.0f}" y="{y:.0f}" width="{_BOX[0]}" height="{_BOX[1]}" rx="7"/>'
        f'<text x="{middle:.0f}" y="{y + 16:.0f}" text-anchor="middle">{escape(node.op[:22])}</text>'
        f'<text class="soft" x="{middle:.0f}" y="{y + 31:.0f}" text-anchor="middle">'
        f"{escape(node.shape[:26])}</text></g>"
    )
