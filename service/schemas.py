"""Bodies of requests and answers. What is not listed here is refused; numbers are finite; texts are UTF-8."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Digest: TypeAlias = Annotated[
    str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 in lower-case hexadecimal digits.")
]
Norm: TypeAlias = Literal["inf", "1", "2"]
Quotient: TypeAlias = Annotated[
    str,
    Field(
        pattern=r"^[0-9]{1,12}(\.[0-9]{1,24})?(/[1-9][0-9]{0,11})?$",
        description="A decimal or a quotient, exact: '0.1', '2/255'.",
    ),
]
Radius: TypeAlias = Annotated[float, Field(ge=0, le=1e30)] | Quotient
Finite: TypeAlias = Annotated[float, Field(ge=-1e38, le=1e38)]


def _text(value: str) -> str:
    """Lone surrogates cannot be written as UTF-8, and PostgreSQL keeps no NUL."""
    if "\0" in value:
        raise ValueError("contains a NUL character; remove it")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode (a lone surrogate); send UTF-8") from None
    return value


Text: TypeAlias = Annotated[str, AfterValidator(_text)]


class Strict(BaseModel):
    """A request's part: nothing unknown, no NaN, no infinity."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Robustness(Strict):
    """No input within ``radius`` of the given one changes the decision ``label``."""

    input: list[Finite] | None = Field(
        default=None, min_length=1, max_length=1 << 20, description="Flat input."
    )
    image: list[Finite] | None = Field(
        default=None,
        min_length=1,
        max_length=1 << 20,
        description="The same, for networks whose inputs are images.",
    )
    label: int = Field(ge=0, lt=1 << 20, description="Index of the right output.")
    radius: Radius
    norm: Norm = "inf"
    clip: tuple[Finite, Finite] | None = Field(
        default=None, description="Valid range of every input: [low, high]."
    )

    @model_validator(mode="after")
    def _one_point(self) -> Robustness:
        if (self.input is None) == (self.image is None):
            raise ValueError("give either 'input' or 'image'")
        if self.clip is not None and self.clip[0] > self.clip[1]:
            raise ValueError("clip is empty; give [low, high]")
        return self


class Property(Strict):
    """What is to be proved: a VNN-LIB text, or a property built by the server."""

    vnnlib: Text | None = Field(default=None, min_length=1, description="VNN-LIB 1.0 or 2.0.")
    robustness: Robustness | None = None

    @model_validator(mode="after")
    def _one(self) -> Property:
        if (self.vnnlib is None) == (self.robustness is None):
            raise ValueError("give either 'vnnlib' or 'robustness'")
        return self


class Options(Strict):
    """How it is to be proved."""

    semantics: Literal["real", "float32"] = Field(
        default="real", description="Network over the reals, or as float32 arithmetic computes it."
    )
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    certificate: bool = Field(default=True, description="Whether a proof is kept.")


class VerifyOptions(Options):
    """How it is to be proved, and by how many."""

    shards: int | None = Field(
        default=None,
        ge=0,
        le=1024,
        description="Workers that a long search is dealt out to, cut to the server's limit. 0: it stays with "
        "one. Not given: it is dealt out to workers that have nothing else to do.",
    )


class _Job(Strict):
    timeout_s: float | None = Field(
        default=None, gt=0, le=1e9, description="Seconds; cut to the server's limit."
    )
    memory_mb: int | None = Field(default=None, ge=64, le=1 << 30, description="Cut to the server's limit.")
    max_domains: int | None = Field(
        default=None, ge=1, lt=1 << 53, description="Subproblems, a repeatable limit."
    )
    priority: int = Field(default=0, ge=-100, le=100, description="The larger, the sooner.")
    queue: Literal["short", "long", "gpu"] | None = Field(
        default=None, description="Not given: by the time limit."
    )
    fresh: bool = Field(
        default=False, description="Whether earlier answers to the same question must not be used."
    )


class VerifyJob(_Job):
    """Decide a property of a network."""

    kind: Literal["verify"]
    model: Digest
    property: Property
    options: VerifyOptions = VerifyOptions()


class SweepJob(_Job):
    """Clean and certified accuracy of a classifier on a data set."""

    kind: Literal["sweep"]
    model: Digest
    data: Digest = Field(description="An .npz file with inputs and labels, uploaded to /v1/files.")
    radii: list[Radius] = Field(min_length=1, max_length=100)
    norm: Norm = "2"
    clip: tuple[Finite, Finite] | None = None
    samples: int | None = Field(default=None, ge=1, le=1 << 24)
    method: Literal["auto", "bounds", "lipschitz"] = "auto"
    sample_timeout_s: float = Field(default=10.0, gt=0, le=1e6)
    options: Options = Options()


class LipschitzJob(_Job):
    """Bound a network's Lipschitz constant."""

    kind: Literal["lipschitz"]
    model: Digest
    norm: Norm = "2"
    output_norm: Norm | None = None
    method: Literal["auto", "product", "frequency", "greedy", "eclipse-fast", "eclipse-cf", "eclipse",
                    "first-order", "interior"] = "auto"  # fmt: skip
    options: Options = Options()


class TrainJob(_Job):
    """Train a certifiably robust network."""

    kind: Literal["train"]
    config: Text = Field(min_length=1, max_length=1 << 20, description="TOML.")
    options: Options = Options()


class CheckJob(_Job):
    """Check a certificate, trusting nothing of the search."""

    kind: Literal["check"]
    model: Digest
    property: Property | None = None
    certificate: Digest | None = Field(default=None, description="Of a file in /v1/files.")
    certificate_of: Text | None = Field(default=None, max_length=64, description="Of which job, instead.")
    options: Options = Options()

    @model_validator(mode="after")
    def _one_certificate(self) -> CheckJob:
        if (self.certificate is None) == (self.certificate_of is None):
            raise ValueError("give either 'certificate' or 'certificate_of'")
        return self


NewJobBody: TypeAlias = Annotated[
    VerifyJob | SweepJob | LipschitzJob | TrainJob | CheckJob, Field(discriminator="kind")
]

_EXAMPLE_MODEL: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_EXAMPLE_VNNLIB: Final = (
    "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n"
    "(assert (>= X_0 -1))\n(assert (<= X_0 1))\n(assert (>= Y_0 5))\n"
)
JOB_EXAMPLES: Final[dict[str, Any]] = {
    "verify": {
        "summary": "Decide a VNN-LIB property",
        "value": {
            "kind": "verify",
            "model": _EXAMPLE_MODEL,
            "property": {"vnnlib": _EXAMPLE_VNNLIB},
            "timeout_s": 30,
        },
    },
    "robustness": {
        "summary": "Decide whether a classification is robust",
        "value": {
            "kind": "verify",
            "model": _EXAMPLE_MODEL,
            "property": {
                "robustness": {
                    "input": [0.0, 0.5],
                    "label": 1,
                    "radius": "2/255",
                    "norm": "inf",
                    "clip": [0, 1],
                }
            },
            "timeout_s": 30,
        },
    },
    "lipschitz": {
        "summary": "Bound the Lipschitz constant",
        "value": {"kind": "lipschitz", "model": _EXAMPLE_MODEL, "norm": "2", "timeout_s": 60},
    },
}


# put into the OpenAPI document afterwards, as FastAPI leaves nulls out of examples
VIEW_EXAMPLES: Final[dict[str, Any]] = {
    "JobView": {
        "id": "j4f1d0c7be02a4b6c8f3a90d1",
        "kind": "verify",
        "state": "finished",
        "verdict": "verified",
        "reason": "",
        "model": _EXAMPLE_MODEL,
        "created": "2026-11-29T12:00:00.000Z",
        "started": "2026-11-29T12:00:00.100Z",
        "finished": "2026-11-29T12:00:01.250Z",
        "attempt": 1,
        "cancel_requested": False,
        "progress": None,
        "result": {"domains": 105},
        "error": "",
        "budget": {"timeout_s": 30.0, "memory_mb": 2048, "max_domains": None},
        "queue": "short",
        "priority": 0,
        "cached_from": None,
        "cpu_seconds": 0.9,
        "artifacts": [],
        "links": {"self": "/v1/jobs/j4f1d0c7be02a4b6c8f3a90d1"},
    }
}


class Budget(BaseModel):
    """Limits as they hold, after the server's policy."""

    timeout_s: float
    memory_mb: int
    max_domains: int | None


class ProgressView(BaseModel):
    """How far a running job is."""

    seconds: float
    phase: str
    domains: int
    open: int
    closed_fraction: float
    lower_bound: float | None
    done: int
    total: int
    message: str


class ArtifactView(BaseModel):
    """A file that a job left."""

    name: str
    sha256: str
    size: int
    media_type: str
    href: str


class JobView(BaseModel):
    """A job."""

    id: str
    kind: Literal["verify", "sweep", "lipschitz", "train", "check"]
    state: Literal["queued", "running", "finished", "failed", "cancelled"]
    verdict: Literal["verified", "falsified", "unknown"] | None = Field(
        description="Null until finished, and of failed and cancelled jobs."
    )
    reason: str = Field(description="Why unknown or failed, in a word.")
    model: str | None
    created: str = Field(description="UTC, ISO 8601, like every time here.")
    started: str | None
    finished: str | None
    attempt: int
    cancel_requested: bool
    progress: ProgressView | None
    result: dict[str, Any]
    error: str
    budget: Budget
    queue: str
    priority: int
    cached_from: str | None = Field(description="The earlier job whose answer this is.")
    cpu_seconds: float
    artifacts: list[ArtifactView]
    links: dict[str, str]


class JobPage(BaseModel):
    """Some jobs, newest first."""

    items: list[JobView]
    next_cursor: str | None = Field(description="Where the next page begins; null at the end.")


class ModelView(BaseModel):
    """An uploaded file."""

    sha256: str
    size: int
    name: str
    created: str
    facts: dict[str, Any] = Field(
        description="What a worker read off the network; empty before its first job."
    )
    links: dict[str, str]


class ModelPage(BaseModel):
    """Some uploaded files, newest first."""

    items: list[ModelView]
    next_cursor: str | None
