"""The pages in a real browser, over loopback, with real jobs in real children.

Journeys by mouse, by keyboard and without JavaScript; barriers are looked for on every page in both colour
schemes. Anything that the browser's console calls an error fails the test. ``SUREBOUND_SHOTS`` names a
folder for screenshots.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sqlalchemy", reason="pip install 'surebound[service]'")
pytest.importorskip("playwright", reason="pip install --group browser")
pytest.importorskip("axe_playwright_python", reason="pip install --group browser")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright
from service_server import Running, put, serving, wait_until

from verifier.spec.load import load
from workers.jobs.model import Answer, Progress
from workers.local import Supervisor

pytestmark = pytest.mark.browser

_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
# what a page on this machine may be: everything else a browser asks for is a defect
_SHOTS = os.environ.get("SUREBOUND_SHOTS", "")


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as found:
        yield found


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = os.environ.get("SUREBOUND_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium on PATH; install one, or name it by SUREBOUND_CHROMIUM")
    found = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
    yield found
    found.close()


@dataclass
class Site:
    """A server at work, and the jobs that were done on it: name -> id."""

    running: Running
    jobs: dict[str, str]
    models: dict[str, str]

    @property
    def url(self) -> str:
        return self.running.url


def ask(running: Running, **body: Any) -> str:
    with running.client() as client:
        answer = client.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]


def image_of(path: Path) -> tuple[list[float], int]:
    """The image that an example property is about, with the class that its remark names."""
    case = load(path).cases[0]
    label = re.search(r"\(an? (\d)\)", path.read_text())
    assert label is not None, path
    return [float((a + b) / 2) for a, b in zip(case.lower, case.upper, strict=True)], int(label[1])


def samples(examples: Path) -> bytes:
    """The images of all example properties."""
    paths = sorted((examples / "properties").glob("digits_*.vnnlib"))
    found = {tuple(x): y for x, y in map(image_of, paths)}
    file = io.BytesIO()
    x = np.array(list(found), dtype=np.float32).reshape(-1, 1, 8, 8)
    np.savez(file, x=x, y=np.array(list(found.values())))
    return file.getvalue()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Iterator[Site]:
    """A proof, a counterexample, a sweep, a constant, a failure; by the local supervisor."""
    with serving(tmp_path_factory.mktemp("site")) as running:
        supervisor = Supervisor(running.store, running.artifacts, slots=1)
        supervisor.start()
        try:
            yield _asked(running, examples)
        finally:
            supervisor.stop()


def _asked(running: Running, examples: Path) -> Site:
    with running.client() as client:

        def upload(name: str) -> str:
            client.headers["X-File-Name"] = f"{name}.onnx"
            return put(client, (examples / "models" / f"{name}.onnx").read_bytes())

        models = {name: upload(name) for name in ("digits_cnn", "digits_mlp")}
        client.headers["X-File-Name"] = "broken.onnx"
        models["broken"] = put(client, b"no network at all")
        client.headers["X-File-Name"] = "images.npz"
        data = put(client, samples(examples), "files")

    def vnnlib(name: str) -> dict[str, str]:
        return {"vnnlib": (examples / "properties" / f"{name}.vnnlib").read_text()}

    def verify(model: str, prop: dict[str, Any], domains: int | None = None) -> str:
        return ask(
            running, kind="verify", model=models[model], property=prop, timeout_s=60.0, max_domains=domains
        )

    image, label = image_of(examples / "properties" / "digits_mlp_unsat.vnnlib")
    jobs = {
        "verified": verify("digits_mlp", vnnlib("digits_mlp_unsat")),
        "falsified": verify("digits_cnn", vnnlib("digits_cnn_sat")),
        "unknown": verify("digits_cnn", vnnlib("digits_cnn_hard"), 64),
        "failed": verify("broken", vnnlib("digits_mlp_unsat")),
        "robust": verify(
            "digits_mlp",
            {"robustness": {"input": image, "label": label, "radius": "1/255", "clip": [0, 1]}},
        ),
    }  # fmt: skip
    for name in ("digits_cnn", "digits_mlp"):
        jobs[f"sweep {name}"] = ask(
            running, kind="sweep", model=models[name], data=data, radii=[0.01, 0.03, 0.06, 0.1], norm="inf",
            timeout_s=60,
        )  # fmt: skip
    jobs["lipschitz"] = ask(running, kind="lipschitz", model=models["digits_mlp"], norm="2", timeout_s=20)
    for job in jobs.values():
        wait_until(lambda job=job: running.store.get(job, None).state.final, 180)
    return Site(running, jobs, models)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server without workers: jobs stay as they are put."""
    with serving(tmp_path_factory.mktemp("still")) as running:
        with running.client() as client:
            model = put(client)
        yield Site(running, {}, {"any": model})


def begin(site: Site, bounds: tuple[float, ...] = (-2.0, -1.2, -0.5, -0.2)) -> tuple[str, Any]:
    """A job that a worker is at, with some progress."""
    prop = {"robustness": {"input": [0.0], "label": 0, "radius": 0.1}}
    job = ask(site.running, kind="verify", model=site.models["any"], property=prop, fresh=True)
    claim = site.running.store.claim_job(job, "test", 600.0)
    assert claim is not None
    for i, bound in enumerate(bounds):
        progress(site, claim, i, bound)
    return job, claim


def progress(site: Site, claim: Any, step: int, bound: float) -> None:
    now = Progress(1.0 + step, "search", 100 * (step + 1), 40, min(0.2 * (step + 1), 0.9), bound)
    site.running.store.heartbeat(claim, now, 600.0)


@pytest.fixture
def visit(browser: Browser) -> Iterator[Any]:
    """Opens contexts; at the end nothing may have gone wrong in any of them."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def opened(**options: Any) -> Page:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: wrong.append(f"{m.text} {m.location}") if m.type == "error" else None)
        page.on("pageerror", lambda e: wrong.append(str(e)))
        return page

    opened.wrong = wrong  # type: ignore[attr-defined]
    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def shot(page: Page, name: str) -> None:
    if _SHOTS:
        Path(_SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(_SHOTS) / f"{name}.png"), full_page=True)


def barriers(page: Page) -> list[str]:
    """What axe finds serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{v['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
        for v in found
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
    ]


def pages_of(site: Site) -> dict[str, str]:
    found = {
        "home": "/",
        "jobs": "/jobs",
        "none": "/jobs?state=cancelled",
        "models": "/models",
        "model": f"/models/{site.models['digits_mlp']}",
        "compare": f"/compare?a={site.models['digits_mlp']}&b={site.models['digits_cnn']}",
        "help": "/help",
        "keys": "/keys",
        "missing": "/jobs/nothing",
    }
    return found | {f"job-{name.replace(' ', '-')}": f"/jobs/{job}" for name, job in site.jobs.items()}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barriers_in_either_scheme(site: Site, visit: Any, scheme: str) -> None:
    page = visit(color_scheme=scheme)
    for name, path in pages_of(site).items():
        page.goto(site.url + path)
        assert page.locator("h1").count() == 1, name
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert barriers(page) == [], name
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = false)")
        shot(page, f"{name}-{scheme}")
    # the browser itself notes the page that is not there
    visit.wrong[:] = [w for w in visit.wrong if "404" not in w]


def test_no_barriers_while_a_job_runs_or_waits(still: Site, visit: Any) -> None:
    page = visit()
    job, _ = begin(still)
    page.goto(f"{still.url}/jobs/{job}")
    assert barriers(page) == []
    shot(page, "job-running")
    page.goto(f"{still.url}/jobs")
    assert barriers(page) == []
    page.goto(f"{still.url}/")
    for kind in ("robustness", "sweep", "lipschitz"):
        page.check(f"#kind-{kind}")
        assert barriers(page) == []
        shot(page, f"home-{kind}")


def test_nothing_is_wider_than_a_small_screen(site: Site, still: Site, visit: Any) -> None:
    page = visit()
    page.set_viewport_size({"width": 320, "height": 640})
    job, _ = begin(still)
    places = {name: site.url + path for name, path in pages_of(site).items()}
    for name, place in (places | {"running": f"{still.url}/jobs/{job}"}).items():
        page.goto(place)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 320, (name, wide)
        shot(page, f"{name}-small")
    visit.wrong[:] = [w for w in visit.wrong if "404" not in w]


def test_dropped_files_are_proved(site: Site, visit: Any, examples: Path) -> None:
    page = visit()
    page.goto(site.url)
    page.set_input_files("#model_file", examples / "models" / "pendulum.onnx")
    page.set_input_files("#vnnlib_file", examples / "properties" / "pendulum_limit_unsat.vnnlib")
    page.fill("#timeout", "60")
    page.get_by_role("button", name="Find out").click()
    expect(page.locator("h1")).to_have_text("Proved", timeout=90_000)
    expect(page.locator("#spoken")).to_contain_text("Verified")
    with page.expect_download() as download:
        page.get_by_role("link", name="Get the certificate").click()
    assert download.value.suggested_filename.endswith(".sbcert")
    page.get_by_role("button", name="Check the certificate").click()
    expect(page.locator("h1")).to_have_text("The certificate holds", timeout=60_000)


def test_files_dropped_anywhere_find_their_places(still: Site, visit: Any) -> None:
    page = visit()
    page.goto(still.url)
    page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(["a"], "net.onnx"));
          data.items.add(new File(["b"], "x.npy"));
          document.querySelector("h1").dispatchEvent(
            new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        }"""
    )
    assert page.evaluate("document.getElementById('model_file').files[0].name") == "net.onnx"
    assert page.evaluate("document.getElementById('point_file').files[0].name") == "x.npy"
    assert page.is_checked("#kind-robustness")


def test_a_counterexample_is_seen(site: Site, visit: Any) -> None:
    page = visit()
    page.goto(f"{site.url}/jobs/{site.jobs['falsified']}")
    expect(page.locator("h1")).to_have_text("There is a counterexample")
    pictures = page.locator(".pictures img")
    assert pictures.count() == 3
    for i in range(3):
        assert pictures.nth(i).evaluate("i => i.complete && i.naturalWidth") == 8
    assert pictures.nth(0).get_attribute("src") != pictures.nth(1).get_attribute("src")
    expect(page.locator(".pictures")).to_contain_text("times amplified")


def test_undecided_and_failed_jobs_say_what_to_do(site: Site, visit: Any) -> None:
    page = visit()
    for name in ("unknown", "failed"):
        page.goto(f"{site.url}/jobs/{site.jobs[name]}")
        expect(page.locator(".next li").first).not_to_be_empty()
    page.get_by_role("link", name="Ask again, differently").click()
    assert page.input_value("#vnnlib").lstrip().startswith(";")


def test_a_running_job_is_followed_and_cancelled(still: Site, visit: Any) -> None:
    page = visit()
    job, claim = begin(still)
    page.goto(f"{still.url}/jobs/{job}")
    expect(page.locator("progress")).to_have_attribute("value", "0.8000")
    expect(page.locator("svg.chart").first).to_be_visible()
    progress(still, claim, 5, -0.123)
    expect(page.locator(".tiles")).to_contain_text("−0.123")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("h1")).to_have_text("Stopping…")
    still.running.finish(claim, Answer.VERIFIED)
    expect(page.locator("h1")).to_have_text("Proved robust")
    assert page.locator("noscript").count() <= 1


def test_by_keyboard_alone(still: Site, visit: Any) -> None:
    page = visit()
    page.goto(still.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"

    def to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"{selector} cannot be reached by Tab")

    to("#model")
    page.keyboard.press("ArrowDown")
    to("input[name=kind]")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    assert page.is_checked("#kind-lipschitz")
    to("#timeout")
    page.keyboard.type("7")
    to("button.primary")
    visible = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert visible == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Waiting for a worker")
    expect(page.locator(".facts")).to_contain_text("7.0 s")
    to("form[data-cancel] button")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Cancelled")


def test_without_javascript(site: Site, visit: Any, examples: Path) -> None:
    page = visit(java_script_enabled=False)
    page.goto(site.url)
    page.set_input_files("#model_file", examples / "models" / "pendulum.onnx")
    page.check("#kind-robustness")
    page.fill("#point", "0.1, 0.2")
    page.fill("#label", "0")
    page.get_by_role("button", name="Find out").click()
    expect(page.get_by_role("alert")).to_contain_text("radius")
    assert page.input_value("#point").split() == ["0.1", "0.2"]
    # the browser notes the refusal too
    visit.wrong[:] = [w for w in visit.wrong if "422" not in w]
    # the network was kept: only the mistake has to be corrected
    page.fill("#radius", "0")
    page.get_by_role("button", name="Find out").click()
    expect(page.locator("h1")).to_have_text(
        re.compile("Proved|This did not work|counterexample"), timeout=90_000
    )
    page.get_by_role("link", name="Jobs", exact=True).first.click()
    page.get_by_role("link", name="Finished").click()
    assert page.locator("table.jobs tbody tr").count() > 3
    page.get_by_role("button", name="Switch between light and dark").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_a_running_job_without_javascript(still: Site, visit: Any) -> None:
    page = visit(java_script_enabled=False)
    job, _ = begin(still)
    page.goto(f"{still.url}/jobs/{job}")
    assert page.locator("meta[http-equiv=refresh]").count() == 1
    page.get_by_role("link", name="Do not reload by itself").click()
    assert page.locator("meta[http-equiv=refresh]").count() == 0
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("h1")).to_have_text("Stopping…")


def test_the_theme_is_kept(still: Site, visit: Any) -> None:
    page = visit(color_scheme="dark")
    page.goto(still.url)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Switch between light and dark").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    page.goto(f"{still.url}/jobs")
    assert page.locator("html").get_attribute("data-theme") == "light"


def test_networks_are_described_and_compared(site: Site, visit: Any) -> None:
    page = visit()
    page.goto(f"{site.url}/models/{site.models['digits_mlp']}")
    for words in ("Parameters", "ReLU neurons", "Gemm", "Certified accuracy by radius", "Lipschitz, 2-norm"):
        expect(page.locator("main")).to_contain_text(words)
    expect(page.locator("svg.network")).to_have_count(1)
    page.get_by_label("Compare with").select_option(site.models["digits_cnn"])
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("table.pairs").first).to_contain_text("Parameters")
    assert page.locator(".legend li").count() == 2
