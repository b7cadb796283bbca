"""Check the links of built pages: every file and every anchor that they name has to be there."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit


class Page(HTMLParser):
    """What a page links to, and what can be linked to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note links and ids."""
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name == "id" and value:
                self.anchors.add(value)


def main(root: Path) -> int:
    """Print what leads nowhere; return 1 if anything does."""
    pages = {path.resolve(): Page(path) for path in sorted(root.rglob("*.html"))}
    broken, count = [], 0
    for path, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(link)
            if urlsplit(link).scheme or link.startswith("//"):
                continue
            count += 1
            name = unquote(urlsplit(target).path)
            there = (path.parent / name).resolve() if name else path
            if not there.is_file():
                broken.append(f"{path.relative_to(root.resolve())}: {link}: there is no such file")
            elif anchor and there in pages and unquote(anchor) not in pages[there].anchors:
                broken.append(f"{path.relative_to(root.resolve())}: {link}: there is no such place")
    print("\n".join([*broken, f"{count} links of {len(pages)} pages, {len(broken)} broken"]))
    return 1 if broken or not pages else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
