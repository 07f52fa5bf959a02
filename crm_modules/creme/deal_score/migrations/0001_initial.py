"""The tables of the app.

Licence: AGPL-3.0-or-later.
"""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    """Makes them."""

    initial = True

    dependencies = [
        ("creme_core", "0186_v2_8__set_version"),
        migrations.swappable_dependency(settings.OPPORTUNITIES_OPPORTUNITY_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Change",
            fields=[
                (
                    "line",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        serialize=False,
                        to="creme_core.historyline",
                    ),
                ),
                (
                    "refused",
                    models.TextField(
                        blank=True, help_text="Why dealcast did not take it; tried again by the next sync."
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Gone",
            fields=[
                ("deal_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField(auto_now_add=True, db_index=True)),
            ],
        ),
        migrations.CreateModel(
            name="Score",
            fields=[
                (
                    "deal",
                    models.OneToOneField(
                        editable=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="deal_score",
                        serialize=False,
                        to=settings.OPPORTUNITIES_OPPORTUNITY_MODEL,
                    ),
                ),
                ("probability", models.FloatField(help_text="Chance to be won within a year, 0 to 1.")),
                (
                    "low",
                    models.FloatField(help_text="Lower end of the 90 % range of the probability itself.", null=True),
                ),
                ("high", models.FloatField(help_text="Upper end of it.", null=True)),
                ("change", models.FloatField(help_text="Points (0 to 100) against a week or more before.", null=True)),
                ("reasons", models.JSONField(default=list, help_text="Why, in sentences, the strongest first.")),
                ("as_of", models.DateTimeField(help_text="What was known then.")),
                ("model", models.CharField(max_length=100)),
            ],
        ),
    ]
