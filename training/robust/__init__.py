"""Training of ordinary networks against bounds on boxes (L-infinity)."""

from __future__ import annotations
