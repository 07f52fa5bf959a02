"""The table of scores, apart from the opportunities so that no score enters their history, and the panel that shows it.

Licence: GPL-3.0-or-later.
"""

import datetime

from trytond import config
from trytond.exceptions import UserError
from trytond.i18n import gettext
from trytond.model import ModelSQL, ModelView, Unique, fields
from trytond.pool import Pool, PoolMeta
from trytond.rpc import RPC


class Score(ModelSQL, ModelView):
    """The score of an opportunity that stands; each replaces the one before it."""

    __name__ = "sale.opportunity.score"
    opportunity = fields.Many2One("sale.opportunity", "Opportunity", required=True, ondelete="CASCADE")
    probability = fields.Float(
        "Win Probability",
        required=True,
        domain=[("probability", ">=", 0), ("probability", "<=", 1)],
        help="Chance to be won within a year, 0 to 1.",
    )
    low = fields.Float("Low", help="The range that holds the probability itself 9 times in 10 begins here.")
    high = fields.Float("High", help="And ends here.")
    change = fields.Float("Change", help="Points (0 to 100) against a week or more before.")
    reasons = fields.Text("Reasons", help="Why, one reason a line, the strongest first.")
    as_of = fields.Timestamp("As of", required=True, help="What was known then, in UTC.")
    model = fields.Char("Model", required=True)

    @classmethod
    def __setup__(cls):
        super().__setup__()
        table = cls.__table__()
        cls._sql_constraints.append(("one_each", Unique(table, table.opportunity), "deal_score.msg_one_score_each"))
        cls.__rpc__["record"] = RPC(readonly=False)

    @classmethod
    def record(cls, scores):
        """Write scores, each replacing the one of its opportunity: the same call twice leaves the same rows.

        `scores` are mappings of the fields above, `as_of` in ISO 8601 with its offset. All are written or none.
        """
        asked = [score["opportunity"] for score in scores]
        there = {one.id for one in Pool().get("sale.opportunity").search([("id", "in", asked)])}
        if gone := set(asked) - there:
            ids = ", ".join(map(str, sorted(gone)))
            raise UserError(gettext("deal_score.msg_no_opportunity", ids=ids))
        known = {score.opportunity.id: score for score in cls.search([("opportunity", "in", asked)])}
        new, changed = [], []
        for given in scores:
            moment = datetime.datetime.fromisoformat(given["as_of"]).astimezone(datetime.UTC)
            values = {**given, "as_of": moment.replace(tzinfo=None)}
            if given["opportunity"] in known:
                changed += [[known[given["opportunity"]]], values]
            else:
                new.append(values)
        if new:
            cls.create(new)
        if changed:
            cls.write(*changed)


class Opportunity(metaclass=PoolMeta):
    """The opportunity with its score beside it; nothing of it is stored here."""

    __name__ = "sale.opportunity"
    score_probability = fields.Function(fields.Float("Win Probability", digits=(1, 2)), "get_scores")
    score_change = fields.Function(fields.Float("Change in Points", digits=(3, 1)), "get_scores")
    score_since = fields.Function(fields.Char("Since Last Week"), "get_score_since")
    score_reasons = fields.Function(fields.Text("Why"), "get_scores")
    score_as_of = fields.Function(fields.Timestamp("As of"), "get_scores")
    score_model = fields.Function(fields.Char("Model"), "get_scores")
    score_link = fields.Function(fields.Char("More"), "get_score_link")

    @classmethod
    def get_scores(cls, opportunities, names):
        """The fields of each opportunity's score; empty where there is none."""
        found = Pool().get("sale.opportunity.score").search([("opportunity", "in", [one.id for one in opportunities])])
        by_id = {score.opportunity.id: score for score in found}
        return {
            name: {one.id: getattr(by_id.get(one.id), name.removeprefix("score_"), None) for one in opportunities}
            for name in names
        }

    def get_score_since(self, name):
        """What changed, in words; empty where there is no score, or none of a week before."""
        if self.score_change is None:
            return None
        points = round(self.score_change, 1)
        return gettext("deal_score.msg_change", points=f"{points:+.1f}") if points else gettext("deal_score.msg_same")

    def get_score_link(self, name):
        """dealcast's own page of the deal, where `url` under [deal_score] of trytond.conf says where it runs."""
        url = config.get("deal_score", "url", default="")
        return f"{url.rstrip('/')}/deals/{self.id}" if url else None
