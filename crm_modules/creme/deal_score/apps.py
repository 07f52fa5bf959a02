"""What Creme asks of an app.

Licence: AGPL-3.0-or-later.
"""

from creme.creme_core.apps import CremeAppConfig


class DealScoreConfig(CremeAppConfig):
    """The app: a block for the pages of opportunities, addresses for dealcast, and an ear for what changes."""

    default = True
    name = "deal_score"
    verbose_name = "Deal score"
    dependencies = ["creme.opportunities", "creme.activities"]

    def all_apps_ready(self):
        """Listen, once every model is there."""
        super().all_apps_ready()
        if not self.MIGRATION_MODE:
            from deal_score import webhook

            webhook.listen()

    def register_bricks(self, brick_registry):
        """The block."""
        from deal_score.bricks import ScoreBrick

        brick_registry.register(ScoreBrick)
