"""Certificates of Lipschitz bounds and radii that were re-proved before they are handed out.

The checker bounds ranges and slopes by means of its own, which may be a little wider than the prover's; a
certificate then has to claim a little less. How much less is found by asking the checker.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from bounds.errors import BadInput, CertificateRejected, ModelUnsupported
from bounds.io.onnx import Model
from sdp.certificate import certificate_text, radius_text
from sdp.radius import Local
from sdp.result import LipschitzBound
from verifier.check.lipschitz import check_document, validated
from verifier.check.radius import check_radius_document, validated_radius
from verifier.version import VERSION

# shares by which a claim may be weakened
HEADROOM = (1e-6, 1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3)
PRODUCER = f"surebound {VERSION}"


def bound_certificate(bound: LipschitzBound, model: Model) -> str:
    """The text of a certificate that ``verify check`` accepts.

    Raises:
        BadInput: there is none.
    """

    def check(document: Any) -> None:
        check_document(validated(document), model.onnx_bytes)

    return _first(lambda share: certificate_text(bound, model.sha256, PRODUCER, share), check)


def radius_certificate(found: Local, model: Model) -> str:
    """The same for a certified radius."""

    def check(document: Any) -> None:
        check_radius_document(validated_radius(document), model.onnx_bytes)

    return _first(lambda share: radius_text(found, model.sha256, PRODUCER, share), check)


def _first(text: Callable[[float], str], check: Callable[[Any], None]) -> str:
    reason: Exception | None = None
    for share in HEADROOM:
        found = text(share)
        try:
            check(json.loads(found))
        except ModelUnsupported as error:
            raise BadInput(f"no certificate: {error}") from None
        except CertificateRejected as error:
            reason = error
            continue
        return found
    raise BadInput(f"no certificate: the checker proves less than the search ({reason})")
