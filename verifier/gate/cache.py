"""Answers kept between runs, by content. Nothing in the folder is believed: the checker decides each time.

A file is named by the digest of what was asked (networks, property, level), so an edit of any of them
asks for another file. What is found there counts only if :mod:`verifier.check` accepts it for the files at
hand; the folder may come from anywhere, and a tampered file can at most cost time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from bounds.errors import CertificateRejected, ModelUnsupported, SureboundError
from verifier.certificate import VERSION as CERTIFICATES
from verifier.check.lipschitz import VERSION as LIPSCHITZ
from verifier.check.lipschitz import check_document, read_object, validated
from verifier.check.main import Model, check_parsed
from verifier.check.reader import read
from verifier.spec.exact import to_fraction
from verifier.spec.model import Property
from verifier.verdict import Semantics, Status, Witness

FORMAT = 1  # of the folder
SUFFIXES = (".sbcert", ".json")
_KEY = re.compile("[0-9a-f]{64}")
_IGNORE = "# made by verify gate\n*\n"


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer from the cache that the checker accepted.

    Attributes:
        status: the certificate's claim, which is proved. witness: of a violation.
        file: the certificate.
    """

    status: Status
    file: Path
    witness: Witness | None = None


@dataclass(frozen=True, slots=True)
class KeptBound:
    """A Lipschitz bound from the cache that the checker re-proved."""

    upper: float
    file: Path


@dataclass(slots=True)
class Cache:
    """The folder, or none.

    Attributes:
        folder: where; None: nothing is kept.
        writable: whether new answers can be kept.
        notes: what people should know (told once each).
        rejected: files that the checker refused: (file, reason).
    """

    folder: Path | None
    writable: bool = False
    notes: list[str] = field(default_factory=list[str])
    rejected: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    _drafts: tempfile.TemporaryDirectory[str] | None = None

    @staticmethod
    def open(folder: Path | None) -> Cache:
        """Looks whether the folder can be used; what cannot be used is done without, and said."""
        cache = Cache(folder)
        if folder is None:
            return cache
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                cache.writable = True
            ignore = folder / ".gitignore"
            if not ignore.exists():
                ignore.write_text(_IGNORE, encoding="utf-8")
        except OSError as error:
            reason = error.strerror or str(error)
            if cache.writable:
                return cache
            there = folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)
            what = "what it holds is used, new proofs are not kept" if there else "working without a cache"
            cache.note(f"the cache {folder} cannot be written ({reason}); {what}")
            cache.folder = folder if there else None
        return cache

    def note(self, text: str) -> None:
        """Tells people, once."""
        if text not in self.notes:
            self.notes.append(text)

    def close(self) -> None:
        """Removes what was not kept."""
        if self._drafts is not None:
            self._drafts.cleanup()
            self._drafts = None

    def draft(self, key: str, suffix: str) -> Path | None:
        """A place where an engine may write a certificate; None when it would not be kept."""
        if not self.writable:
            return None
        if self._drafts is None:
            self._drafts = tempfile.TemporaryDirectory(prefix="surebound-gate-")
        return Path(self._drafts.name) / f"{key}{suffix}"

    def keep(
        self, draft: Path | None, key: str, *, about: tuple[str, str], models: Mapping[str, str]
    ) -> Path | None:
        """Moves a certificate into the folder, and notes whose it is.

        Args:
            draft: where it was written.
            key: of :func:`key_of`.
            about: (requirement, question): by these a later run with another network finds it.
            models: name -> digest.
        """
        if draft is None or self.folder is None or not draft.exists():
            return None
        place = self.place(key, draft.suffix)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            moving = place.with_name(f".{place.name}.{os.getpid()}.tmp")
            shutil.copyfile(draft, moving)
            moving.replace(place)
            self._remember(key, place.suffix, about, models)
        except OSError as error:
            self.note(f"a proof could not be kept in {self.folder} ({error.strerror or error})")
            return None
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()
        return place

    def prune(self, most: int) -> None:
        """Removes the files that were not used for longest, until at most ``most`` bytes are kept."""
        if self.folder is None or not self.writable:
            return
        found: list[tuple[float, int, Path]] = []
        for path in (self.folder / "proofs").glob("*/*"):
            with contextlib.suppress(OSError):  # another run may have removed it
                facts = path.stat()
                found.append((facts.st_mtime, facts.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found, key=lambda f: f[0]):
            if total <= most:
                return
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size

    def _used(self, place: Path) -> None:
        """Marks a file as used now."""
        if self.writable:
            with contextlib.suppress(OSError):
                os.utime(place)

    def put(self, place: Path, data: bytes) -> None:
        """Writes a file beside a certificate."""
        try:
            draft = place.with_name(f".{place.name}.{os.getpid()}.tmp")
            draft.write_bytes(data)
            draft.replace(place)
        except OSError as error:
            self.note(f"{place}: could not be kept ({error.strerror or error})")

    def place(self, key: str, suffix: str) -> Path:
        """Where an answer is, if it is there."""
        assert self.folder is not None
        return self.folder / "proofs" / key[:2] / f"{key}{suffix}"

    def earlier(self, requirement: str, question: str) -> list[Path]:
        """Certificates of the same question about other (earlier) networks, the newest first.

        They prove nothing about the network at hand; a search may begin with their splits and multipliers.
        """
        if self.folder is None:
            return []
        try:
            entries: Any = json.loads(self._history(requirement, question).read_text(encoding="utf-8"))
            told = [(str(e["key"]), str(e["suffix"])) for e in reversed(entries)]
            # the folder may come from anywhere: nothing in it may lead out of it
            found = [self.place(*one) for one in told if _KEY.fullmatch(one[0]) and one[1] in SUFFIXES]
        except (OSError, ValueError, KeyError, TypeError):
            return []
        return [f for f in found if f.is_file()]

    def _history(self, requirement: str, question: str) -> Path:
        assert self.folder is not None
        name = hashlib.sha256(question.encode()).hexdigest()[:24]
        return self.folder / "history" / requirement / f"{name}.json"

    def _remember(self, key: str, suffix: str, about: tuple[str, str], models: Mapping[str, str]) -> None:
        path = self._history(*about)
        entries: list[Any] = []
        with contextlib.suppress(OSError, ValueError):
            known: Any = json.loads(path.read_text(encoding="utf-8"))
            entries = [e for e in known if isinstance(e, dict) and e.get("key") != key][-9:]
        entries.append({"key": key, "suffix": suffix, "question": about[1], "models": dict(models)})
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        draft.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
        draft.replace(path)

    def look(
        self, key: str, models: Mapping[str, Model], prop: Property, semantics: Semantics
    ) -> Kept | None:
        """The answer to a question, if the checker accepts what is kept for it.

        Soundness: the verdict is what :func:`verifier.check.main.check_parsed` re-proves (or replays) for
        these very networks and this property; only the level is compared here.
        """
        if self.folder is None:
            return None
        place = self.place(key, ".sbcert")
        if not place.is_file():
            return None
        try:
            content = read(place)
            if content.semantics is not semantics:
                raise CertificateRejected("level", f"it speaks about level {content.semantics.value}")
            check_parsed(content, models, prop)  # raises unless the claim is proved
            witness = _witness(content.witness, prop) if content.verdict is Status.SAT else None
        except ModelUnsupported as error:
            self.note(f"cached proofs cannot be used, as the checker does not read this network: {error}")
            return None
        except SureboundError as error:
            return self._refuse(place, error)
        self._used(place)
        return Kept(content.verdict, place, witness)

    def look_lipschitz(self, key: str, model: Model, norms: tuple[str, str]) -> KeptBound | None:
        """A kept Lipschitz bound (everywhere) of a network, if the checker accepts it."""
        if self.folder is None:
            return None
        place = self.place(key, ".json")
        if not place.is_file():
            return None
        try:
            document = validated(read_object(place))
            if document["model_sha256"] != model.digest:
                raise CertificateRejected("model", "it speaks about another file")
            found = check_document(document, model.data)
            if (found.norm, found.output_norm) != norms or found.local or found.rows:
                raise CertificateRejected("norms", "it speaks about other norms, a region or rows")
        except ModelUnsupported as error:
            self.note(f"cached bounds cannot be used, as the checker does not read this network: {error}")
            return None
        except SureboundError as error:
            return self._refuse(place, error)
        self._used(place)
        return KeptBound(found.upper, place)

    def _refuse(self, place: Path, error: SureboundError) -> None:
        """A file that does not prove what it is kept for: told, and put aside so that it is told once."""
        self.rejected.append((str(place), str(error)))
        if self.writable:
            with contextlib.suppress(OSError):
                place.replace(place.with_name(place.name + ".rejected"))


def key_of(models: Mapping[str, str], question: str, semantics: str) -> str:
    """The name of an answer.

    Args:
        models: network name -> digest.
        question: digest of the property (or a text that says what is asked).
        semantics: level.
    """
    # certificates of another version are other answers: not found, rather than refused as if tampered with
    told = {
        "format": [FORMAT, CERTIFICATES, LIPSCHITZ],
        "models": dict(models),
        "question": question,
        "semantics": semantics,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _witness(stored: Mapping[str, Any], prop: Property) -> Witness:
    """The witness of an accepted certificate."""
    x, y = (tuple(to_fraction(v, "witness") for v in stored[name]) for name in ("x", "y"))
    versions = tuple((str(k), str(v)) for k, v in dict(stored["versions"]).items())
    assert len(x) == prop.input_size
    return Witness(x, y, int(stored["case"]), int(stored["disjunct"]), str(stored["kind"]), versions)


def exact(values: tuple[Fraction, ...]) -> tuple[float, ...]:
    """The nearest floats, for pictures and tables."""
    return tuple(float(v) for v in values)
