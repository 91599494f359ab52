"""What a conformance run found: docs/operators.md, and the list of what is right."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from crossfarm.util.paths import HOME
from tests.conformance.attempt import CRASH, DYNAMIC, OUT_OF_SCOPE, REFUSED, RIGHT, WRONG, Outcome

PAGE = HOME / "docs" / "operators.md"
BASELINE = HOME / "tests" / "conformance" / "right.txt"
BEGIN, END = "<!-- onnx: begin -->\n", "<!-- onnx: end -->"
_SHOWN = 160
_TRIED = (RIGHT, WRONG, REFUSED, CRASH)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over a run.

    Attributes:
        status: status -> forms.
        runtime_right: forms in scope that ONNX Runtime computes right.
        share: of those, the part that is right here too.
        unnamed: refusals that name no operator and node.
    """

    status: dict[str, int]
    runtime_right: int
    share: float
    unnamed: int

    def lines(self) -> str:
        """Return what a run says at its end."""
        tried = sum(self.status.get(name, 0) for name in _TRIED)
        words = ", ".join(f"{self.status.get(name, 0)} {name}" for name in _TRIED)
        outside = ", ".join(f"{self.status.get(name, 0)} {name}" for name in (DYNAMIC, OUT_OF_SCOPE))
        return (
            f"{tried} forms tried: {words}; besides {outside}\n"
            f"ONNX Runtime's CPU is right on {self.runtime_right} of them; of these {self.share:.1%} are right here\n"
            f"{self.unnamed} refusals name no operator and node"
        )


def totals(outcomes: Iterable[Outcome]) -> Totals:
    """Add up a run."""
    found = list(outcomes)
    tried = [one for one in found if one.status in _TRIED]
    theirs = [one for one in tried if one.runtime == RIGHT]
    both = sum(one.status == RIGHT for one in theirs)
    return Totals(
        status=dict(Counter(one.status for one in found)),
        runtime_right=len(theirs),
        share=both / len(theirs) if theirs else 1.0,
        unnamed=sum(one.status == REFUSED and not one.is_named for one in tried),
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """Return a row for each operator."""
    grouped: dict[str, list[Outcome]] = defaultdict(list)
    for one in outcomes:
        grouped[one.operator].append(one)
    heads = (
        "operator",
        "opsets",
        "right",
        "wrong",
        "refused",
        "out of scope",
        "ONNX Runtime right",
        "what is not right",
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for operator, group in sorted(grouped.items(), key=lambda item: (item[0].startswith("models"), item[0].lower())):
        count = Counter(one.status for one in group)
        tried = [one for one in group if one.status in _TRIED]
        opsets = ", ".join(map(str, sorted({one.opset for one in group})))
        runtime = sum(one.runtime == RIGHT for one in tried)
        outside = count[DYNAMIC] + count[OUT_OF_SCOPE]
        lines.append(
            f"| {operator} | {opsets} | {count[RIGHT]} | {count[WRONG] + count[CRASH]} | {count[REFUSED]} "
            f"| {outside} | {runtime} of {len(tried)} | {_reasons(group)} |"
        )
    return "\n".join(lines) + "\n"


def _reasons(group: Sequence[Outcome]) -> str:
    reasons = Counter(
        f"{one.status}: {_general(one.reason)}" if one.status != OUT_OF_SCOPE else one.reason
        for one in group
        if one.status not in (RIGHT, DYNAMIC)
    )
    if any(one.status == DYNAMIC for one in group):
        reasons["shape known only at run time"] = sum(one.status == DYNAMIC for one in group)
    return "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3)).replace("|", "\\|")


def _general(reason: str) -> str:
    """Return a reason without the names of one case, so that equal ones fall together."""
    text = re.sub(r"model case, target x86_64: ", "", reason)
    text = re.sub(r"\((?:node '[^']*'|the node that gives '[^']*'), number \d+\)", "(node)", text)
    text = re.sub(r"'[^']{1,200}'", "'...'", text)
    text = re.sub(r"; (?:replace|this is a limitation|see the log).*", "", text)
    return text[:_SHOWN]


def write(outcomes: Sequence[Outcome], *, how: str) -> None:
    """Write the page and the baseline."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, behind = rest.partition(END)
    text = "\n".join(f"{line}  " for line in totals(outcomes).lines().splitlines())
    PAGE.write_text(f"{before}{BEGIN}{how}\n\n{text}\n\n{table(outcomes)}{END}{behind}", encoding="utf-8")
    right = sorted(one.id for one in outcomes if one.status == RIGHT)
    BASELINE.write_text("".join(f"{name}\n" for name in right), encoding="utf-8")


def baseline(path: Path = BASELINE) -> list[str]:
    """Return the ids of the forms that were right when the page was written."""
    return path.read_text(encoding="utf-8").split() if path.exists() else []
