"""Puts the block on the pages of opportunities: `creme creme_populate deal_score`.

Licence: AGPL-3.0-or-later.
"""

from creme.creme_core.management.commands.creme_populate import BasePopulator
from creme.creme_core.models import BrickDetailviewLocation
from creme.opportunities import get_opportunity_model

from deal_score.bricks import ScoreBrick


class Populator(BasePopulator):
    """At the top of the right column, unless it has been placed already."""

    dependencies = ["creme_core", "opportunities"]

    def _already_populated(self):
        return BrickDetailviewLocation.objects.filter(brick_id=ScoreBrick.id).exists()

    def _populate_bricks_config(self):
        BrickDetailviewLocation.objects.create_if_needed(
            brick=ScoreBrick, order=0, zone=BrickDetailviewLocation.RIGHT, model=get_opportunity_model()
        )
