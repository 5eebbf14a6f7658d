"""Builds the site of the documentation, build/docs-site, from docs/ and the docstrings.

python -m tools.docs_site [OUTPUT]

It needs no network, and neither does the site: no fonts, scripts or checks come from elsewhere.
zensical takes its pages from one folder, so that they are laid out in one first: docs/, the pages
at the root of the repository, and those of the public names.  A warning of it ends the build.
"""

import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tools.docs_api import PAGES, write_pages

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
OUTPUT = ROOT / "build" / "docs-site"

ROOT_PAGES = {
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
}
NAMES = "reference/names"

NAVIGATION = {
    "Tutorials": ["tutorial/quickstart.md"],
    "How-to": [
        "how-to/install.md",
        "how-to/run-a-program.md",
        "how-to/from-asyncio.md",
        "how-to/from-uvloop.md",
        "how-to/from-aiofiles.md",
        "how-to/from-libaio.md",
        "how-to/recipes.md",
        "how-to/containers.md",
        "how-to/workers.md",
        "how-to/use-files.md",
        "how-to/tuning.md",
        "how-to/troubleshooting.md",
        "how-to/find-what-blocks.md",
        "how-to/look-inside.md",
        "how-to/trace-a-program.md",
        "how-to/watch-a-service.md",
    ],
    "Reference": [
        "reference/event-loop.md",
        "reference/streams.md",
        "reference/files.md",
        "reference/metrics.md",
        "reference/command.md",
        "limitations.md",
        "performance-figures.md",
        "glossary.md",
    ],
    "Explanation": ["explanation/faq.md", "explanation/event-loop.md"],
    "Decisions": ["decisions/README.md"],
    "Project": [],
}
"""The sections, and the pages that come first in each, if there are such; the rest follows."""

FOLDERS = {
    "tutorial": "Tutorials",
    "how-to": "How-to",
    "reference": "Reference",
    "explanation": "Explanation",
    "decisions": "Decisions",
    "project": "Project",
}

LINK = re.compile(r"(\]\()([^)#\s]*)((?:#[^)\s]*)?\))")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
DIAGRAM = re.compile(r"^```mermaid\nstateDiagram-v2\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def transitions(diagram: re.Match[str]) -> str:
    """The arrows of a diagram as a table, for mermaid would come from the network."""
    goals: dict[str, list[str]] = {}
    for start, goal in re.findall(r"(\S+) --> (\S+)", diagram[1]):
        goals.setdefault(start, []).append(goal)
    rows = [
        f"| {'start' if start == '[*]' else start} | "
        f"{', '.join('end' if goal == '[*]' else goal for goal in found)} |"
        for start, found in goals.items()
    ]
    return "\n".join(["| from | to |", "|---|---|", *rows])


def place(path: Path) -> str | None:
    """Where a file of the repository is on the site; None if it is a folder."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    name = path.relative_to(ROOT).as_posix()
    if name in ROOT_PAGES:
        return ROOT_PAGES[name]
    return f"files/{name}" if path.is_file() else None


def lay_out_page(page: Path, source: Path) -> None:
    """Copies a page, with its links and what they lead to outside of docs/."""
    name = place(page)
    assert name is not None

    def moved(link: re.Match[str]) -> str:
        target = link[2]
        if not target or ":" in target:
            return link[0]
        path = Path(os.path.normpath(page.parent / target))
        goal = place(path)
        if goal is None:
            return f"{link[1]}#{link[3].removeprefix('#')}" if link[3] != ")" else "](#)"
        if path.is_file() and path.suffix != ".md":
            copy = source / goal
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        return f"{link[1]}{posixpath.relpath(goal, posixpath.dirname(name))}{link[3]}"

    text = DIAGRAM.sub(transitions, page.read_text(encoding="utf-8"))
    parts, end = [], 0
    for code in CODE.finditer(text):
        parts += [LINK.sub(moved, text[end : code.start()]), code[0]]
        end = code.end()
    text = "".join([*parts, LINK.sub(moved, text[end:])])
    target = source / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def lay_out(source: Path) -> None:
    for page in [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in ROOT_PAGES)]:
        lay_out_page(page, source)
    write_pages(source / NAMES)
    shutil.copyfile(DOCS / "site.css", source / "site.css")


def navigation(source: Path) -> list[dict[str, Any]]:
    """The pages by section, without titles: those are their headings, but for "How to"."""

    def entry(name: str) -> str | dict[str, str]:
        heading = (source / name).read_text(encoding="utf-8").partition("\n")[0]
        title = heading.removeprefix("# How to ")
        return name if title == heading else {title[0].upper() + title[1:]: name}

    sections = {section: list(first) for section, first in NAVIGATION.items()}
    listed = {name for names in sections.values() for name in names}
    for path in sorted(source.rglob("*.md")):
        name = path.relative_to(source).as_posix()
        if name not in listed and name != "index.md" and not name.startswith(NAMES):
            sections[FOLDERS[name.partition("/")[0]]].append(name)
    pages: dict[str, list[Any]] = {
        section: [entry(name) for name in names if (source / name).exists()]
        for section, names in sections.items()
    }
    pages["Reference"].append({"Names": [f"{NAMES}/{name}.md" for name in PAGES]})
    return [{"Home": "index.md"}, *({section: found} for section, found in pages.items())]


def configuration(source: Path, output: Path) -> dict[str, Any]:
    return {
        "site_name": "aiopoll",
        "site_description": "An asyncio event loop and async files on Linux AIO",
        "docs_dir": source.name,
        "site_dir": output.name,
        "extra_css": ["site.css"],
        "extra": {"generator": False},
        "copyright": "Made by make docs from docs/index.md, its neighbours and the docstrings.",
        "nav": navigation(source),
        "theme": {
            "name": "material",
            "variant": "modern",
            "language": "en",
            "font": False,
            "features": [
                "content.code.copy",
                "navigation.footer",
                "navigation.tabs",
                "navigation.top",
                "search.highlight",
                "toc.follow",
            ],
            "palette": [
                {"media": "(prefers-color-scheme: light)", "scheme": "default"},
                {"media": "(prefers-color-scheme: dark)", "scheme": "slate"},
            ],
        },
        "markdown_extensions": [
            "attr_list",
            "md_in_html",
            {"toc": {"permalink": True}},
            "pymdownx.betterem",
            "pymdownx.superfences",
            {"pymdownx.highlight": {"pygments_lang_class": True}},
        ],
        "plugins": ["search"],
    }


def build(output: Path = OUTPUT) -> None:
    """Builds the site anew; CalledProcessError, and its text on stderr, if anything is amiss."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        made = Path(folder) / "site"
        source.mkdir()
        lay_out(source)
        settings = Path(folder) / "mkdocs.yml"  # JSON is YAML
        settings.write_text(json.dumps(configuration(source, made)), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "zensical", "build", "--strict", "-f", str(settings)],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.stderr.write(done.stdout + done.stderr)
            raise subprocess.CalledProcessError(done.returncode, "zensical build")
        shutil.rmtree(output, ignore_errors=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(made, output)


if __name__ == "__main__":
    build(*map(Path, sys.argv[1:2]))
