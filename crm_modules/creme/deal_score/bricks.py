"""The block on an opportunity's page: how likely it is won, what changed, why, and where to read more.

Licence: AGPL-3.0-or-later.
"""

from creme.creme_core.gui.bricks import SimpleBrick
from creme.opportunities import get_opportunity_model
from django.conf import settings

from deal_score.models import Score

Opportunity = get_opportunity_model()


class ScoreBrick(SimpleBrick):
    """The score that dealcast wrote last; it shows itself again whenever the opportunity is changed on the page."""

    id = SimpleBrick.generate_id("deal_score", "score")
    verbose_name = "Win probability"
    description = "How likely this opportunity is won within a year, says dealcast, and why"
    dependencies = [Opportunity]
    read_only = True
    template_name = "deal_score/bricks/score.html"
    target_ctypes = (Opportunity,)
    permissions = "opportunities"

    def get_template_context(self, context, **extra_kwargs):
        """The score, in what it takes to show it."""
        deal = context["object"]
        url = getattr(settings, "DEAL_SCORE_URL", "").rstrip("/")
        return super().get_template_context(
            context,
            score=shown(Score.objects.filter(deal=deal.id).first()),
            link=f"{url}/deals/{deal.id}" if url else None,
            **extra_kwargs,
        )


def shown(score):
    """A score in percent and words; None if there is none."""
    if score is None:
        return None
    change = None if score.change is None else round(score.change, 1)
    return {
        "percent": round(score.probability * 100),
        "low": None if score.low is None else round(score.low * 100),
        "high": None if score.high is None else round(score.high * 100),
        "change": change,
        "is_up": bool(change and change > 0),
        "points": None if change is None else f"{abs(change):g}",
        "reasons": score.reasons,
        "as_of": score.as_of,
        "model": score.model,
    }
