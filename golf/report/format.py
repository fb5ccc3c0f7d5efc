"""Numbers and texts as the report and the console print them.

Invariant: `escape` is applied to every text that comes from a run folder before it enters a page; the functions here
never raise on a value of the wrong type, because a report is most needed when a run went wrong.
"""

import html
import math
from typing import Any

MISSING = "–"


def escape(value: Any) -> str:
    """Return `value` as text that is inert in HTML content and in quoted attributes."""
    return html.escape(str(value), quote=True)


def finite(value: Any) -> float | None:
    """Return `value` as a float if it is a finite number, else None (bool and text are no numbers)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def whole(value: Any) -> str:
    """1234567 → '1,234,567'."""
    number = finite(value)
    return MISSING if number is None else f"{round(number):,}"


def decimal(value: Any, digits: int = 4) -> str:
    """Fixed number of decimals, so that columns line up."""
    number = finite(value)
    return MISSING if number is None else f"{number:,.{digits}f}"


def signed(value: Any, digits: int = 4) -> str:
    """A difference with its sign; U+2212 as minus, so that it has the width of the plus."""
    number = finite(value)
    if number is None:
        return MISSING
    if round(abs(number), digits) == 0:
        return f"±{0:.{digits}f}"
    return f"{'+' if number > 0 else '−'}{abs(number):,.{digits}f}"


def significant(value: Any, digits: int = 4) -> str:
    """About `digits` significant digits, with thousands separators and without trailing zeros."""
    number = finite(value)
    if number is None:
        return MISSING
    if number == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(number)))
    if magnitude >= 15 or magnitude < -4:
        return f"{number:.{digits - 1}e}"
    text = f"{number:,.{max(0, digits - 1 - magnitude)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def short(value: Any) -> str:
    """1234567 → '1.23 M': for axes and captions, where the exact number stands nearby."""
    number = finite(value)
    if number is None:
        return MISSING
    for factor, suffix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= factor:
            return significant(number / factor, 3) + suffix
    return significant(number, 3)


def scientific(value: Any) -> str:
    """6.7e14 → '6.7 × 10¹⁴'."""
    number = finite(value)
    if number is None:
        return MISSING
    mantissa, exponent = f"{number:.2e}".split("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa.rstrip('0').rstrip('.')} × 10{power}"


def duration(value: Any) -> str:
    """Seconds as people say them: '0.42 s', '12.3 s', '3 min 05 s', '2 h 03 min'."""
    number = finite(value)
    if number is None:
        return MISSING
    if abs(number) < 59.95:
        return f"{number:.{2 if abs(number) < 9.995 else 1}f} s"
    minutes, seconds = divmod(round(number), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def percent(part: Any, total: Any, digits: int = 1) -> str:
    """Share of `part` in `total`."""
    above, below = finite(part), finite(total)
    return MISSING if above is None or not below else f"{100 * above / below:.{digits}f} %"


def plain(value: Any) -> str:
    """Any JSON value as one readable line."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return significant(value, 6) if math.isfinite(value) else "not finite"
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items()) or MISSING
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in value) or MISSING
    return str(value)


def coverage(value: Any) -> str:
    """What the ledger says about the targets: each scored once, or how many never or twice."""
    if isinstance(value, dict):
        never = finite(value.get("never_scored")) or 0
        twice = finite(value.get("scored_twice")) or 0
        if not never and not twice:
            return "all, once"
        counts = ", ".join(f"{whole(count)} {word}" for count, word in ((never, "never"), (twice, "twice")) if count)
        return f"PARTIAL, {counts}" if never else counts
    number = finite(value)
    if number is not None and 0 <= number <= 1:
        return percent(number, 1)
    return plain(value)
