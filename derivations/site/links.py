"""Which links of a built site lead nowhere, and which lead out of it."""

from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The anchors of a page, what it links to, and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loads = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes.get("id"), attributes.get("name")}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        elif tag == "link" and attributes.get("href"):
            self.loads.append(attributes["href"])
        elif attributes.get("src"):
            self.loads.append(attributes["src"])


def check(folder):
    """Faults, as sentences, and the addresses outside of the site, sorted.

    A fault is a link or a file to be loaded that is not there, an anchor that its page
    lacks, or anything loaded from a network.
    """
    pages = {path: Page(path) for path in sorted(folder.resolve().rglob("*.html"))}
    faults, external = [], set()
    for path, page in pages.items():
        name = path.relative_to(folder.resolve())
        for url in page.links + page.loads:
            parts = urlsplit(url)
            if parts.scheme == "data":
                continue
            if parts.scheme or parts.netloc:
                external.add(url)
                if url in page.loads:
                    faults.append(f"{name} loads {url} from a network")
                continue
            target = (path.parent / unquote(parts.path)).resolve()
            target = target if parts.path else path
            if not target.is_file():
                faults.append(f"{name} links to {url}, which is not there")
            elif target in pages and parts.fragment:
                if unquote(parts.fragment) not in pages[target].anchors:
                    faults.append(f"{name} links to {url}: no such anchor")
    return faults, sorted(external)
