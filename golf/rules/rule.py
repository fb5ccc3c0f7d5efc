"""What a rule is: an id, where it comes from, and a check."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from golf.rules.verdict import Verdict

if TYPE_CHECKING:
    from golf.rules.profile import Profile
    from golf.rules.subject import Subject

README, MAINTAINERS, COMMUNITY, OPEN, HOUSE = "README", "maintainers", "community", "open", "house"


class Rule:
    """One rule. `status` says who stands behind it, `sources` are threads of openai/parameter-golf.

    `cheap` rules read records only; the others run networks or go through data.
    """

    id: ClassVar[str]
    title: ClassVar[str]
    status: ClassVar[tuple[str, ...]]
    sources: ClassVar[tuple[str, ...]] = ()
    cheap: ClassVar[bool] = True

    def check(self, subject: Subject, profile: Profile) -> Verdict:
        raise NotImplementedError
