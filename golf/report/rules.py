"""The rules section: what the referee's last audit of the run came to, from its rules.json.

Same contract as `golf.report.sections`: RunData in, markup out, and nothing raises on incomplete data.
"""

from typing import Any

from golf.report.collect import RunData
from golf.report.elements import Cell, section, table
from golf.report.format import escape, plain

ORDER = {"fail": 0, "cannot tell": 1, "pass": 2, "not applicable": 3}
SIGNS = {"fail": ("no", "✗ fail"), "pass": ("yes", "✓ pass")}
MAX_ROWS = 200
ABOUT = "A pass means that a test found no fault, not that something is allowed."


def rules(run: RunData) -> str:
    """One line per rule, failed ones first."""
    found = run.rules.get("rules") if isinstance(run.rules, dict) else None
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    if not rows:
        words = "This run was not audited (rules=none): golf audit &lt;run folder&gt; does it."
        return section("rules", "Rules", f'<p class="empty">{words}</p>', ABOUT)
    rows = sorted(rows, key=lambda row: ORDER.get(str(row.get("outcome")), 4))[:MAX_ROWS]
    columns = ["Rule", "Outcome", "Reason", "Tested by"]
    counts = {outcome: sum(row.get("outcome") == outcome for row in rows) for outcome in ORDER}
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    profile = plain(run.rules.get("profile"))
    markup = table("rule-list", "Rules", columns, set(), [_row(row) for row in rows])
    return section("rules", "Rules", f'{markup}<p class="note">{escape(f"Profile {profile}: {told}.")}</p>', ABOUT)


def _row(row: dict[str, Any]) -> list[Cell]:
    outcome, name = plain(row.get("outcome")), plain(row.get("id"))
    style, words = SIGNS.get(outcome, ("", outcome))
    if row.get("counted") is False:
        words += " (not counted)"
    reason = plain(row.get("reason") or "")
    title = f"<b>{escape(name)}</b> {escape(plain(row.get('title')))}"
    told = escape(reason) + (f' <small class="soft">→ {escape(row["remedy"])}</small>' if row.get("remedy") else "")
    flag = f'<span class="flag {style}">{escape(words)}</span>'
    how = plain(row.get("how") or "")
    return [
        Cell("", name, title),
        Cell("", f"{ORDER.get(outcome, 4)} {outcome}", flag),
        Cell("", reason[:80], told),
        Cell(how, how),
    ]
