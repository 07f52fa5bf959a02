"""Stages of one's own: the steps of the sale that lie between Tryton's states, in the company's words.

Licence: GPL-3.0-or-later.
"""

from trytond.i18n import gettext
from trytond.model import DeactivableMixin, ModelSQL, ModelView, Unique, fields, sequence_ordered
from trytond.model.exceptions import AccessError
from trytond.pool import PoolMeta
from trytond.pyson import Eval

STATES = ("lead", "opportunity", "converted", "won", "lost", "cancelled")
CLOSED = ("won", "lost", "cancelled")


class Stage(sequence_ordered(), DeactivableMixin, ModelSQL, ModelView):
    """A step of the sale. It keeps its name for good: the past of opportunities is told by it."""

    __name__ = "sale.opportunity.stage"
    name = fields.Char(
        "Name",
        required=True,
        domain=[("name", "not in", list(STATES))],
        states={"readonly": Eval("id", -1) > 0},
        help="For another name make another stage, and deactivate this one.",
    )

    @classmethod
    def __setup__(cls):
        super().__setup__()
        table = cls.__table__()
        cls._sql_constraints.append(("name_unique", Unique(table, table.name), "deal_score.msg_stage_name_unique"))

    @classmethod
    def check_modification(cls, mode, stages, values=None, external=False):
        """Refuse another name: what was said with the old one would be untrue."""
        super().check_modification(mode, stages, values=values, external=external)
        if mode == "write" and "name" in values and any(stage.name != values["name"] for stage in stages):
            raise AccessError(gettext("deal_score.msg_stage_keeps_name"))


class Opportunity(metaclass=PoolMeta):
    """The opportunity with a stage of one's own; Tryton's history keeps it like any other field."""

    __name__ = "sale.opportunity"
    stage = fields.Many2One(
        "sale.opportunity.stage", "Stage", ondelete="RESTRICT", states={"readonly": Eval("state").in_(list(CLOSED))}
    )

    @property
    def stage_told(self):
        """The stage as dealcast knows it: one's own while the opportunity is open, else Tryton's state."""
        return self.stage.name if self.stage and self.state not in CLOSED else self.state
