"""Names with markup or scripts in the HTML pages (`soak.py page`).

Real pages are opened in a headless browser. No part of a name may run, nothing may be fetched, and
each name must be shown as it was written.
"""

import argparse
import tempfile
import time
from pathlib import Path

from mlx_gmvae.report.explorer import Ellipse, LatentMap, write_explorer
from mlx_gmvae.report.summary import Block, Picture, write_summary

import numpy as np
from browser import CHROMIUM, Browser

RUN = "window.owned=1"
NAMES = (
    f"</script><img src=x onerror={RUN}>",
    f"<img src=x onerror={RUN}>",
    f"<svg/onload={RUN}>",
    f"<script>{RUN}</script>",
    f'"><script>{RUN}</script>',
    f"' onmouseover={RUN} autofocus onfocus={RUN} x='",
    f"`;{RUN};//",
    f'";{RUN};//',
    f"\u2028{RUN}\u2029",
    f"<!--<script>{RUN}",
    f"]]></title><script>{RUN}</script>",
    "/*DATA*//*HASH*/<!--BODY--><!--TITLE-->",
    f"javascript:{RUN}",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    "<link rel=stylesheet href=http://127.0.0.1:9/x.css>",
    "<iframe src=http://127.0.0.1:9/></iframe>",
    "&lt;b&gt;&#60;",
    "\ud800\x00\x1b[31m\r\n",
    "{{constructor.constructor('window.owned=1')()}}",
    "x" * 100_000,
)


def write_pages(name: str, folder: Path) -> tuple[Path, Path]:
    """Write both pages, with `name` wherever a name can be."""
    pixels = np.full((4, 8, 8, 1), 99, np.uint8)
    points = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    maps = [LatentMap(name, points, [Ellipse(name, name, points[0], np.eye(2))])]
    columns: dict[str, list] = {"cluster": [name] * 4, name: [0.0, 1.0, 2.0, 3.0]}
    explorer, summary = folder / "explorer.html", folder / "summary.html"
    units = {name: f"{name}, nats"}
    write_explorer(explorer, name, name, maps, pixels, [name] * 4, columns, pixels, units)
    blocks = [Block(name, name, {name: name}, [Picture(name, pixels)])]
    write_summary(summary, name, blocks)
    return explorer, summary


def problem_of(browser: Browser, page: Path, name: str) -> str:
    """Return what is wrong with how a page shows a name; empty if it is shown as text."""
    browser.errors.clear()
    browser.open(page)
    is_explorer = page.name == "explorer.html"
    if is_explorer:  # open everything that shows names
        browser.mouse("mouseMoved", *browser.ask("at[0]"))
        for expression in ("by.value = by.options[1].value, by.onchange()", "map.onchange()"):
            browser.ask(expression)
    if browser.ask("typeof window.owned") != "undefined":
        return "a name was run"
    if browser.ask("location.protocol") != "file:":
        return "a name led elsewhere"
    fetched = "performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:'))"
    if browser.ask(f"{fetched}.length"):
        return "something was fetched"
    if browser.ask("document.images.length") != (0 if is_explorer else 1):
        return "a name was taken for an image"
    if browser.ask("document.querySelectorAll('script, iframe, link, meta').length") > 4:
        return "a name was taken for markup"
    if is_explorer and browser.ask("data.names[0]") != name:
        return "a name is shown as another"
    return "; ".join(browser.errors)[:300]


def page(args: argparse.Namespace) -> list[dict]:
    if CHROMIUM is None:
        raise SystemExit("there is no Chromium to try the pages in (apt-get install chromium)")
    started, failures = time.monotonic(), []
    with tempfile.TemporaryDirectory(dir=args.workdir, ignore_cleanup_errors=True) as folder:
        browser = Browser(Path(folder) / "profile")
        for name in NAMES:
            for each in write_pages(name, Path(folder)):
                problem = problem_of(browser, each, name)
                if problem:
                    failures.append(f"{name[:40]!r} in {each.name}: {problem}")
                    print(failures[-1], flush=True)
        browser.close()
    tried = 2 * len(NAMES)
    return [{
        "fault": "names that want to be markup, in pages", "tried": tried,
        "survived": tried - len(failures), "failures": failures[:10],
        "seconds": round(time.monotonic() - started, 1),
    }]  # fmt: skip


PARTS = {"page": page}
