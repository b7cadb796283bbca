"""Numbers for people: as many digits as their interval supports. For the terminal and the page."""

import math

#: Significant digits of a number without an interval.
DIGITS = 4

_DASH = "\u2013"


def number(value: float, digits: int = DIGITS) -> str:
    """Return a number with some significant digits, a dash for NaN.

    Examples
    --------
    >>> from confsim.report.numbers import number
    >>> number(0.123456), number(3e-6), number(123456.0), number(0.98765, 3)
    ('0.1235', '3e-06', '123,456', '0.988')
    >>> number(9999.6), number(1234.5, 3)
    ('10,000', '1,234')
    """
    if math.isnan(value):
        return _DASH
    # From half a unit below, ".4g" would round up to an exponent: 9999.6 to 1e+04.
    whole = abs(value) >= 10.0**digits - 0.5
    return f"{value:,.0f}" if whole else f"{value + 0.0:.{digits}g}"


def with_interval(value: float, low: float, high: float, digits: int = DIGITS) -> str:
    """Return a number and its interval, to two significant digits of the interval's half-width.

    Never more than four significant digits of the largest of the three: nobody can use more.
    Without an interval, or with one of no width: :func:`number`. Very small numbers have an
    exponent.

    Examples
    --------
    >>> from confsim.report.numbers import with_interval
    >>> with_interval(0.99583, 0.98741, 0.99897), with_interval(0.123456, 0.0, 0.7)
    ('0.9958 [0.9874, 0.9990]', '0.12 [0.00, 0.70]')
    >>> with_interval(1234.5678, 1180.2, 1290.1), with_interval(3.14159e-06, 2.7e-06, 3.6e-06)
    ('1,235 [1,180, 1,290]', '3.14e-06 [2.70e-06, 3.60e-06]')
    >>> with_interval(0.49993817, 0.49993816, 0.49993818), with_interval(0.0, 0.0, 3.7e-05)
    ('0.4999 [0.4999, 0.4999]', '0 [0, 3.7e-05]')
    >>> with_interval(0.999988, 0.999985, 0.999996)
    '1.000 [1.000, 1.000]'
    >>> with_interval(0.5, float("nan"), float("nan")), with_interval(0.0, 0.0, 0.0)
    ('0.5', '0')
    """
    if math.isnan(value) or math.isnan(low) or math.isnan(high) or low == high:
        return number(value, digits)
    ends = (value, low, high)
    half = (high - low) / 2
    largest = max(abs(x) for x in ends)
    if not (half > 1e-12 * largest and math.isfinite(half)):
        return f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"
    # Of the number as it is shown: 0.99996 to four digits is 1.000, not 1.0000.
    magnitude = math.floor(math.log10(float(f"{largest:.{DIGITS - 1}e}")))
    places = min(1 - math.floor(math.log10(half)), DIGITS - 1 - magnitude)
    if largest < 1e-4:
        texts = [f"{x:.{max(0, places + magnitude)}e}" if x else "0" for x in ends]
    else:
        places = max(places, 0)
        texts = [f"{round(x, places) + 0.0:,.{places}f}" for x in ends]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


def shorten(name: str, length: int) -> str:
    """Return a name of at most so many letters.

    Examples
    --------
    >>> from confsim.report.numbers import shorten
    >>> shorten("automobile", 8), shorten("cat", 8)
    ('automob…', 'cat')
    """
    return name if len(name) <= length else name[: length - 1] + "…"


def share(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Return a share for people: per million where it is tiny, else in percent, with its interval.

    Examples
    --------
    >>> from confsim.report.numbers import share
    >>> share(0.5, 0.45, 0.55), share(3e-6, 2e-6, 4e-6)
    ('50.0% [45.0, 55.0]', '3.0 per million [2.0, 4.0]')
    """
    if math.isnan(value):
        return "an unknown share"
    rare = max(value, 0 if math.isnan(high) else high) < 1e-3
    factor, unit = (1e6, " per million") if rare else (100, "%")
    shown, *interval = with_interval(factor * value, factor * low, factor * high, 3).partition(" [")
    return shown + unit + "".join(interval)
