"""What the documents point to is there: files that are linked, and places in the code that are named."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "examples/README.md"]
"""Those that are read as they lie; Sphinx checks the site's own links."""


@pytest.mark.parametrize("page", PAGES)
def test_links_into_the_repository_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / page).read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith(("http:", "https:"))]
    assert [link for link in local if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_words_name_places_that_exist() -> None:
    text = (ROOT / "docs" / "words.md").read_text(encoding="utf-8")
    places = [name for name in re.findall(r"`([^`\s]+)`", text) if re.search(r"/|\.(py|h)$", name)]
    assert places
    assert [name for name in places if not any((top / name).exists() for top in (ROOT, ROOT / "metst_edge"))] == []


def test_the_map_of_the_architecture_is_that_of_the_checkout() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = text.split("## Where things are")[1].split("```")[1]
    folder, missing = ROOT, []
    for indent, names in re.findall(r"^( {0,2})(\w[^\s,]*(?:, [^\s,]+)*) ", tree, re.MULTILINE):
        for name in names.split(", "):
            place = (folder if indent else ROOT) / name
            if not place.exists():
                missing.append(str(place.relative_to(ROOT)))
        if not indent:
            folder = ROOT / names
    assert missing == []
