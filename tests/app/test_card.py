"""What stands in the page's head for whoever shows a link to it."""

import re
import urllib.request

from app.server.card import THUMBNAIL, TITLE, carded


def test_a_shared_link_has_a_card_of_its_own(running):
    """In the page as it is served: who makes a preview of it runs no script."""
    with urllib.request.urlopen(running.url, timeout=60) as answer:
        page = answer.read().decode()
    said = re.findall(r'<meta\s+(?:property|name)="((?:og|twitter):[^"]+)"\s+content="([^"]*)"', page)
    card = dict(said)
    assert len(said) == len(card), "more than one card"
    assert card["og:title"] == card["twitter:title"] == TITLE
    assert all(card.values()) and "radio" not in " ".join(card.values())
    assert card["og:image"] == card["twitter:image"] == f"{running.url}/card.png"
    with urllib.request.urlopen(card["og:image"], timeout=60) as answer:
        assert answer.headers["content-type"] == "image/png" and answer.read() == THUMBNAIL.read_bytes()


def test_only_lines_of_a_card_are_taken_out():
    theirs = '<meta property="og:title" content="x" />\n<meta\n name="twitter:image" content="y" />'
    source = f'<head><meta charset="utf-8" />{theirs}</head>'
    page = carded(source)
    assert page.startswith('<head><meta charset="utf-8" />') and page.endswith("</head>")
    assert 'content="x"' not in page and 'content="y"' not in page and page.count(TITLE) == 2
