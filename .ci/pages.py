"""Look at built pages in a real browser: at desktop and phone width, in light and dark.

``python .ci/pages.py docs/build/html`` says what is wider than the window, which pictures are not
shown, what the browser complains about, whether anything is asked of a network, and whether search
finds something. Without Chromium it says so and looks at nothing.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import browser as chromium

#: (width, dark)
WINDOWS = ((1280, False), (390, True))

#: Elements that stick out of the window, and are in no box that scrolls by itself; broken pictures.
WRONG = """
(given => {  // a phone's window grows with what is in it
  const width = Math.min(given, document.documentElement.clientWidth), found = [];
  const scrolls = (e) => e && e.tagName !== "ARTICLE" && (scrolls(e.parentElement) ||
    ["auto", "scroll", "hidden"].includes(getComputedStyle(e).overflowX));
  for (const e of document.querySelectorAll("article *")) {
    const box = e.getBoundingClientRect();
    if (box.width && box.right > width + 1 && !scrolls(e) && !e.closest("math, .headerlink"))
      found.push(`${e.tagName.toLowerCase()} ends at ${Math.round(box.right)} of ${width}: ` +
        (e.textContent || e.src || "").replace(/\\s+/g, " ").trim().slice(0, 60));
  }
  if (document.documentElement.scrollWidth > width + 1) found.push("the page scrolls sideways");
  for (const e of document.images)
    if (!e.complete || !e.naturalWidth) found.push(`picture not shown: ${e.src}`);
  return found;
})
"""

#: What is searched for, and must be found on some page.
SEARCHED = "exposure"


def main(root: Path) -> int:
    """Print what is wrong; return 1 if anything is."""
    if chromium.EXECUTABLE is None:
        print("no Chromium: pages were not looked at")
        return 0
    pages = sorted(root.rglob("*.html"))
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as profile, chromium.browser(Path(profile)) as tab:
        for width, dark in WINDOWS:
            tab.look(width, 900, dark=dark, mobile=width < 500)
            for path in pages:
                tab.open(path)
                said = [*tab.evaluate(f"{WRONG}({width})"), *tab.errors()]
                said += [
                    f"asks for {u}" for u in tab.requests() if not u.startswith(("file:", "data:"))
                ]
                wrong += [f"{path.relative_to(root)} at {width}: {what}" for what in said]
        if not _found(tab, root):
            wrong.append(f"search.html does not find {SEARCHED!r}")
    print("\n".join([*wrong, f"{len(pages)} pages in {len(WINDOWS)} windows, {len(wrong)} faults"]))
    return 1 if wrong or not pages else 0


def _found(tab: chromium.Browser, root: Path, seconds: float = 20.0) -> bool:
    """Return whether the page of results lists any."""
    tab.call("Page.navigate", url=f"{(root / 'search.html').resolve().as_uri()}?q={SEARCHED}")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if tab.evaluate("document.querySelectorAll('#search-results li').length"):
            return True
        time.sleep(0.2)
    return False


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
