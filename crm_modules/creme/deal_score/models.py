"""What the app keeps: scores, opportunities that were deleted for good, and changes that dealcast has not taken yet.

Licence: AGPL-3.0-or-later.
"""

from django.conf import settings
from django.db import models


class Score(models.Model):
    """The score of an opportunity that stands; each replaces the one before it. None enters Creme's history."""

    deal = models.OneToOneField(
        settings.OPPORTUNITIES_OPPORTUNITY_MODEL,
        primary_key=True,
        on_delete=models.CASCADE,
        editable=False,
        related_name="deal_score",
    )
    probability = models.FloatField(help_text="Chance to be won within a year, 0 to 1.")
    low = models.FloatField(null=True, help_text="Lower end of the 90 % range of the probability itself.")
    high = models.FloatField(null=True, help_text="Upper end of it.")
    change = models.FloatField(null=True, help_text="Points (0 to 100) against a week or more before.")
    reasons = models.JSONField(default=list, help_text="Why, in sentences, the strongest first.")
    as_of = models.DateTimeField(help_text="What was known then.")
    model = models.CharField(max_length=100)


class Gone(models.Model):
    """An opportunity that was deleted for good, of which Creme itself keeps no more than its name."""

    deal_id = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField(auto_now_add=True, db_index=True)


class Change(models.Model):
    """A line of Creme's history that dealcast has not taken yet."""

    line = models.OneToOneField("creme_core.HistoryLine", primary_key=True, on_delete=models.CASCADE)
    refused = models.TextField(blank=True, help_text="Why dealcast did not take it; tried again by the next sync.")
