"""Calls, meetings and mails of an opportunity, which sale_opportunity itself does not keep.

Licence: GPL-3.0-or-later.
"""

import datetime

from trytond.model import ModelSQL, ModelView, fields
from trytond.pool import PoolMeta
from trytond.transaction import Transaction


class Activity(ModelSQL, ModelView):
    """Something that happened between the seller and the customer, or is going to."""

    __name__ = "sale.opportunity.activity"
    _history = True
    opportunity = fields.Many2One("sale.opportunity", "Opportunity", required=True, ondelete="CASCADE")
    type = fields.Selection(
        [("call", "Call"), ("meeting", "Meeting"), ("email", "Mail"), ("task", "Task"), ("other", "Other")],
        "Type",
        required=True,
        sort=False,
    )
    direction = fields.Selection(
        [(None, ""), ("outbound", "From us"), ("inbound", "From the customer")], "Direction", sort=False
    )
    occurred_at = fields.DateTime("When", required=True)
    duration = fields.Integer("Minutes", domain=["OR", ("duration", "=", None), ("duration", ">=", 0)])
    employee = fields.Many2One("company.employee", "Employee")
    subject = fields.Char("Subject")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls._order = [("occurred_at", "DESC"), ("id", "DESC")]

    @staticmethod
    def default_type():
        """A call, the commonest."""
        return "call"

    @staticmethod
    def default_occurred_at():
        """Now, to the second."""
        return datetime.datetime.now(datetime.UTC).replace(tzinfo=None, microsecond=0)

    @staticmethod
    def default_employee():
        """Whoever enters it."""
        return Transaction().context.get("employee")

    def get_rec_name(self, name):
        """The subject, or else what kind of activity it is."""
        return self.subject or self.type_string


class Opportunity(metaclass=PoolMeta):
    """The opportunity with its activities."""

    __name__ = "sale.opportunity"
    activities = fields.One2Many("sale.opportunity.activity", "opportunity", "Activities")

    @classmethod
    def copy(cls, opportunities, default=None):
        """A copy begins anew: what happened, happened with the other one."""
        return super().copy(opportunities, default={"activities": None, **(default or {})})
