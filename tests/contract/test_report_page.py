"""The report's page in a real browser: what it asks for, what can be read, and what it does."""

import contextlib
import dataclasses
import json
import re

import browser as chromium
import numpy as np
import pytest
from report_pictures import AUDITS, audits
from report_runs import FakeDeep, linear, publish

import confsim
from confsim import recipes
from confsim.report.build import report

pytestmark = pytest.mark.skipif(
    chromium.EXECUTABLE is None, reason="chromium is not installed: no browser to test in"
)

#: (name, width, dark, phone)
MEDIA = (
    ("desktop", 1280, False, False),
    ("dark", 1280, True, False),
    ("phone", 390, False, True),
)

#: Names that must stay text wherever they come up.
HOSTILE = ("</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "$x^$", "a & b")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    title, sites = "made-up </title><b>data</b>", (*HOSTILE[:2], "")
    deep = FakeDeep(names=HOSTILE, dataset=title, own_groups=sites)
    found = {
        "linear": report([publish(folder / "linear", linear(), 5).path]).page,
        "deep": report([publish(folder / "deep", deep, 6).path]).page,
    }
    runs = [publish(folder / f"n{n}", linear(n=n), 4).path for n in (10, 40)]
    made = {
        "cube": publish(folder / "cube", linear(dimensions=3, n=40), 4),
        "recipe": publish(folder / "recipe", _of_a_recipe("lira-cifar10-fast"), 5),
        "statistic": confsim.shadow.run(**_regression(), out=folder / "statistic"),
        **{
            name: confsim.audit(columns, out=folder / name, **AUDITS[name])
            for name, columns in audits(240).items()
        },
    }
    found |= {name: report([run.path]).page for name, run in made.items()}
    return found | {"sweep": report(runs).page}


def _of_a_recipe(name):
    """A run that has the settings of a recipe, but for one."""
    settings = {**recipes.load(name).settings, "epochs": 3}
    fields = [(key, object, dataclasses.field(default=value)) for key, value in settings.items()]
    kind = dataclasses.make_dataclass("OfARecipe", fields, bases=(FakeDeep,), frozen=True)
    return kind(recipe=name, images=False)


def _regression():
    """Shadow models that give a statistic only."""
    from sklearn.tree import DecisionTreeRegressor

    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4))
    given = {"estimator": DecisionTreeRegressor(max_depth=6), "X": X, "y": X[:, 0] + X[:, 1] ** 2}
    return {**given, "trials": 6}


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with contextlib.suppress(OSError), chromium.browser(tmp_path_factory.mktemp("chrome")) as found:
        yield found


@pytest.fixture
def explorer(pages, tab):
    """The page of a deep run, at the explorer."""
    tab.look(1280, 900, dark=False, mobile=False)
    tab.open(pages["deep"])
    tab.evaluate("document.querySelector('.plot').scrollIntoView({behavior: 'instant'})")
    return tab


#: Texts of figures that overlap another text, or are smaller than 12 pixels.
TEXTS = """(() => {
  const found = [];
  for (const svg of document.querySelectorAll('svg.chart, svg.photographs')) {
    const frame = svg.getBoundingClientRect();
    if (!frame.width) continue;
    const boxes = [...svg.querySelectorAll('text')].map(t => [t, t.getBoundingClientRect()])
      .filter(([, b]) => b.width);
    for (const [t, b] of boxes) {
      const size = parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a;
      const turned = Math.abs(t.getScreenCTM().b) > 0.1;
      if (!turned && size < 11.9 && !t.closest('g')?.parentNode.closest('.exponent'))
        found.push(['small', t.textContent, size]);
      if (b.left < frame.left - 2 || b.right > frame.right + 2) found.push(['cut', t.textContent]);
    }
    for (let i = 0; i < boxes.length; i++) for (let k = i + 1; k < boxes.length; k++) {
      const [a, b] = [boxes[i][1], boxes[k][1]];
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const up = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 2.5 && up > 3.5)
        found.push(['overlap', boxes[i][0].textContent, boxes[k][0].textContent, across, up]);
    }
  }
  return found;
})()"""

#: Texts whose contrast with the page is below 4.5, or that are smaller than 12 pixels.
CONTRAST = """(() => {
  const lamp = (c) => {
    const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map((v) => {
      v /= 255;
      return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (!/, 0\\)|transparent/.test(c)) return c;
    }
    return 'rgb(255, 255, 255)';
  };
  const found = [];
  const walk = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
  for (let n = walk.nextNode(); n; n = walk.nextNode()) {
    const e = n.parentElement;
    if (!n.data.trim() || !e.getClientRects().length || e.closest('script, style, noscript')) continue;
    const style = getComputedStyle(e);
    const [a, b] = [lamp(e.closest('svg') ? style.fill : style.color), lamp(ground(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) found.push(['contrast', n.data.trim().slice(0, 40), style.color]);
    if (!e.closest('svg') && parseFloat(style.fontSize) < 12) found.push(['small', n.data.trim().slice(0, 40)]);
  }
  return found;
})()"""  # noqa: E501


@pytest.mark.parametrize(
    "name", ["linear", "deep", "sweep", "cube", "recipe", "statistic", *AUDITS]
)
def test_a_page_can_be_read_and_asks_for_nothing(pages, tab, name):
    for medium, width, dark, phone in MEDIA:
        tab.look(width, 900, dark=dark, mobile=phone)
        tab.open(pages[name])
        assert tab.errors() == [], medium
        assert all(u.startswith("data:") or u == pages[name].as_uri() for u in tab.requests())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, medium
        assert tab.evaluate(TEXTS) == [], medium
        assert tab.evaluate(CONTRAST) == [], medium


def test_commands_and_intervals_are_not_torn(pages, tab):
    """An option and its value stay together where they fit a line, and an interval's ends."""
    for _, width, dark, phone in MEDIA:
        tab.look(width, 900, dark=dark, mobile=phone)
        tab.open(pages["deep"])
        torn = """[...document.querySelectorAll('pre span, td.number .ends')]
            .filter(e => e.textContent.length < 36)
            .filter(e => e.getClientRects().length > 1 || e.offsetHeight > 30)
            .map(e => e.textContent)"""
        assert tab.evaluate(torn) == []
        command = tab.evaluate("document.querySelector('pre').textContent")
        assert command == " ".join(command.split())
        assert " --train-ratio 0.5 " in f"{command} "


def test_what_is_touched_is_large_enough(pages, tab):
    tab.look(390, 900, dark=False, mobile=True)
    tab.open(pages["deep"])
    heights = tab.evaluate("""[...document.querySelectorAll('.chosen button, .controls *')]
        .filter(e => e.matches('button, input, select') && e.getClientRects().length)
        .map(e => e.getBoundingClientRect().height)""")
    assert min(heights) >= 24


def test_numbers_that_are_copied_have_plain_signs(pages, tab):
    tab.look(1280, 900, dark=False, mobile=False)
    tab.open(pages["deep"])
    table = "document.querySelector('#table-correlations ~ .scroll table')"
    assert "\u2212" in tab.evaluate(f"{table}.textContent")
    tab.evaluate("""(() => { navigator.clipboard.writeText = async (text) => { window.text = text };
        })()""")
    button = f"[...{table}.parentElement.previousElementSibling.querySelectorAll('button')].pop()"
    tab.evaluate(f"{button}.click()")
    copied = tab.evaluate("window.text")
    assert re.search(r"\t-0\.\d+ \[-0\.\d+, -?0\.\d+\]", copied)
    assert "\u2212" not in copied


def test_print_has_all_columns_and_no_controls(pages, tab):
    tab.look(794, 1100, dark=False, mobile=False)
    tab.call("Emulation.setEmulatedMedia", media="print", features=[])
    tab.open(pages["deep"])
    hidden = """[...document.querySelectorAll('table.data th, table.data td')]
        .filter(c => !c.closest('details.table') && !c.getClientRects().length).length"""
    assert tab.evaluate(hidden) == 0
    shown = "[...document.querySelectorAll('.tools, .screen')].some(e => e.getClientRects().length)"
    assert tab.evaluate(shown) is False
    assert tab.evaluate("document.documentElement.scrollWidth") <= 794
    # A head of a table is printed again on each page that the table goes on to.
    heads = """[...document.querySelectorAll('thead')].map(h => getComputedStyle(h))
        .filter(s => s.display !== 'table-header-group' || s.breakInside !== 'avoid').length"""
    assert tab.evaluate(heads) == 0
    # It is text: browsers leave the buttons of a repeated head out.
    told = """[...document.querySelectorAll('thead th')].every(h => h.dataset.title
        && getComputedStyle(h, '::before').content === JSON.stringify(h.dataset.title)
        && !h.querySelector('button').getClientRects().length)"""
    assert tab.evaluate(told) is True
    tab.call("Emulation.setEmulatedMedia", media="", features=[])


def test_without_scripts_everything_but_the_explorer_is_there(pages, tab):
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.look(1280, 900, dark=False, mobile=False)
        tab.open(pages["deep"])
        assert tab.errors() == []
        tree = tab.call("DOM.getDocument", depth=-1)["root"]

        def count(node, name):
            own = node.get("localName") == name
            return own + sum(count(child, name) for child in node.get("children", ()))

        assert count(tree, "button") == 1  # the explorer's, which is hidden
        assert count(tree, "figure") > 8
        assert count(tree, "td") > 100
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)


def test_nothing_of_the_data_is_run(pages, tab):
    tab.look(1280, 900, dark=False, mobile=False)
    tab.open(pages["deep"])
    tab.evaluate("""[...document.querySelectorAll('.chosen button')].slice(0, 4)
        .forEach(b => b.click())""")
    assert tab.evaluate("document.images.length") == 0
    assert tab.errors() == []
    assert "<img src=x" in tab.evaluate(
        "document.querySelector('.chosen').textContent"
    ) + tab.evaluate("document.querySelector('[name=class]').textContent")
    scripts = tab.evaluate("[...document.scripts].map(s => s.type)")
    assert scripts == ["application/json", ""]
    policy = tab.evaluate("document.querySelector('meta[http-equiv]').content")
    assert "unsafe" not in policy
    assert (
        tab.evaluate("""(() => { const s = document.createElement('script');
        s.textContent = 'window.ran = 1'; document.body.append(s); return window.ran ?? 0 })()""")
        == 0
    )
    assert tab.evaluate("document.querySelectorAll('[style]').length") == tab.evaluate(
        "document.querySelectorAll('canvas[style], .tip[style]').length"
    )


def test_without_classes_none_is_shown(pages, tab):
    tab.look(1280, 900, dark=False, mobile=False)
    tab.open(pages["statistic"])
    assert tab.evaluate("document.querySelector('[name=class]').getClientRects().length") == 0
    across = tab.evaluate("[...document.querySelector('[name=x]').options].map(o => o.text)")
    assert across[0] == "distance to training (half turns)"  # of features: no model's own space
    first = tab.evaluate("document.querySelector('.chosen button').textContent")
    assert re.fullmatch(r"\d+ · [\d.]+", first)
    heads = """[...document.querySelectorAll('#table-most_vulnerable ~ .scroll')].pop()
        .querySelectorAll('th[scope=col]')"""
    assert "class" not in tab.evaluate(f"[...{heads}].map(h => h.textContent)")


# ---- tables ------------------------------------------------------------------------------------

TABLE = "document.querySelector('#table-attacks_summary ~ .scroll table')"


def test_tables_sort_search_and_unfold(pages, tab):
    tab.look(1280, 900, dark=False, mobile=False)
    tab.open(pages["deep"])
    column = f"""[...{TABLE}.tBodies[0].rows].filter(r => !r.hidden)
        .map(r => parseFloat(r.cells[1].dataset.value))"""
    press = f"{TABLE}.tHead.rows[0].cells[1].querySelector('button').click()"
    heads = f"[...{TABLE}.tHead.rows[0].cells].map(c => c.textContent)"
    assert tab.evaluate(heads)[:4] == ["attack", "AUC", "TPR at 1%", "TPR at 0.1%"]
    tab.evaluate(press)
    values = tab.evaluate(column)
    assert values == sorted(values, reverse=True)
    tab.evaluate(press)
    assert tab.evaluate(column) == sorted(values)
    assert tab.evaluate(f"{TABLE}.tHead.rows[0].cells[1].ariaSort") == "ascending"
    search = f"""(() => {{ const f = {TABLE}.parentElement.previousElementSibling
        .querySelector('input'); f.value = 'lira online';
        f.dispatchEvent(new Event('input')) }})()"""
    tab.evaluate(search)
    shown = tab.evaluate(f"""[...{TABLE}.tBodies[0].rows].filter(r => !r.hidden)
        .map(r => r.cells[0].textContent)""")
    assert shown
    assert all("LiRA, online" in name for name in shown)
    folded = f"getComputedStyle({TABLE}.querySelector('th.folded')).display"
    assert tab.evaluate(folded) == "none"
    tab.evaluate(
        f"{TABLE}.parentElement.previousElementSibling.querySelector('[aria-expanded]').click()"
    )
    assert tab.evaluate(folded) == "table-cell"


# ---- the explorer ------------------------------------------------------------------------------

EXPLORER = "window.confsimExplorer"


def mouse(tab, kind, x, y):
    tab.call(
        "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1, buttons=1
    )


def test_brush_and_filters_choose_the_examples_inside(explorer):
    box = explorer.evaluate("document.querySelector('.over').getBoundingClientRect().toJSON()")
    middle = box["left"] + box["width"] / 2
    mouse(explorer, "mousePressed", middle, box["top"] + 5)
    mouse(explorer, "mouseMoved", box["right"] - 5, box["bottom"] - 60)
    mouse(explorer, "mouseReleased", box["right"] - 5, box["bottom"] - 60)
    inside = explorer.evaluate(f"""(() => {{ const e = {EXPLORER}; const b = e.brushed;
        return [...e.px].filter((x, i) => x >= b[0] && x <= b[2] && e.py[i] >= b[1]
            && e.py[i] <= b[3]).length }})()""")
    status = explorer.evaluate("document.querySelector('.status').textContent")
    assert 0 < inside < 300
    assert status == f"{inside} of 300 examples"
    explorer.evaluate("document.querySelector('.clear').click()")
    explorer.evaluate("""(() => { const s = document.querySelector('[name=class]'); s.value = '2';
        s.dispatchEvent(new Event('input')) })()""")
    known = explorer.evaluate(
        f"[...{EXPLORER}.label].filter((c, i) => c === 2 && {EXPLORER}.cell[i] >= 0).length"
    )
    assert 0 < known <= 75
    status = explorer.evaluate("document.querySelector('.status').textContent")
    assert status == f"{known} of 300 examples"
    explorer.evaluate("""(() => { const s = document.querySelector('[name=group]'); s.value = '1';
        s.dispatchEvent(new Event('input')) })()""")
    both = explorer.evaluate(
        f"[...{EXPLORER}.shown.keys()].filter((i) => {EXPLORER}.shown[i]).map((i) => "
        f"{EXPLORER}.data.ids[i])"
    )
    assert both
    # Groups are numbered by name: the empty one is the first.
    wanted = sorted((*HOSTILE[:2], ""))[1]
    assert {int(i) % 3 for i in both} == {(*HOSTILE[:2], "").index(wanted)}
    assert {int(i) % 4 for i in both} == {2}
    assert explorer.errors() == []


def test_a_click_opens_the_card_of_the_example(explorer):
    at = explorer.evaluate(f"""(() => {{ const e = {EXPLORER};
        const b = e.over.getBoundingClientRect();
        return [b.left + e.px[7], b.top + e.py[7]] }})()""")
    mouse(explorer, "mousePressed", *at)
    mouse(explorer, "mouseReleased", *at)
    found = explorer.evaluate(f"{EXPLORER}.current")
    head = explorer.evaluate("document.querySelector('.card h3').textContent")
    ids = explorer.evaluate(f"{EXPLORER}.data.ids")
    assert head.startswith(f"Example {ids[found]}, ")
    assert explorer.evaluate("document.querySelectorAll('.card figure canvas').length") == 2
    assert explorer.evaluate("document.querySelectorAll('.card .curve').length") == 2
    assert explorer.evaluate("document.querySelectorAll('.card .mark').length") == 6
    text = explorer.evaluate("document.querySelector('.card').textContent")
    for words in (
        "exposure (AUC)",
        "reliability",
        "share of trials as member",
        "memorisation",
        "group",
    ):
        assert words in text
    assert explorer.evaluate(CONTRAST) == []


def test_the_explorer_needs_no_mouse(explorer):
    explorer.evaluate("document.querySelector('.over').focus()")
    explorer.press("ArrowRight", 39)
    first = explorer.evaluate(f"{EXPLORER}.current")
    explorer.press("ArrowRight", 39)
    second = explorer.evaluate(f"{EXPLORER}.current")
    assert first != second
    x = np.array(explorer.evaluate(f"[...{EXPLORER}.px]"), dtype=float)
    assert x[first] == np.nanmin(x)
    assert x[second] >= x[first]
    explorer.press("Enter", 13)
    assert explorer.evaluate("document.activeElement.tagName") == "H3"
    explorer.evaluate("document.querySelector('.card .close').click()")
    assert explorer.evaluate("document.activeElement.className") == "over"


def test_packed_figures_are_the_tables(pages):
    """What the page shows is what the tables hold, to the steps that it travels in."""
    import pandas as pd

    text = pages["deep"].read_text(encoding="utf-8")
    found = re.search(r'id="explorer-data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    import base64

    table = pd.read_parquet(pages["deep"].parent / "tables" / "vulnerability.parquet")
    for column in data["columns"]:
        if column["key"] not in table:
            continue
        steps = np.frombuffer(base64.b64decode(column["data"]), "<u2").astype(float)
        span = column["high"] - column["low"]
        values = np.where(steps == 65535, np.nan, column["low"] + steps / 65534 * span)
        assert values == pytest.approx(table[column["key"]], abs=span / 65534, nan_ok=True)
    assert data["ids"] == [str(i) for i in table["id"]]
    assert len(text.encode()) < 15e6
    assert f"{len(text.encode()) / 1e6:.2f} MB" in text
