"""The whole past of opportunities in one call, as Tryton's own history table has it.

Over Tryton's own API each revision is read by itself, which takes as long as a hundred of them do here.

Licence: GPL-3.0-or-later.
"""

import datetime
import json

from sql import Column
from sql.conditionals import Coalesce
from trytond import backend
from trytond.model import fields
from trytond.model.modelstorage import EvalEnvironment
from trytond.pool import Pool, PoolMeta
from trytond.protocols.jsonrpc import JSONEncoder
from trytond.rpc import RPC
from trytond.tools import cursor_dict
from trytond.tools.domain_inversion import eval_domain
from trytond.transaction import Transaction

INSTANT = datetime.timedelta(microseconds=1)


class Opportunity(metaclass=PoolMeta):
    """The opportunity, whose past can be read at once."""

    __name__ = "sale.opportunity"

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.__rpc__["past"] = RPC()

    @classmethod
    def past(cls, ids, names):
        """Every state of opportunities that the user may see: [id, since when, values of the fields in their order].

        In order of time for each; the values are null where it was deleted. Who may see an opportunity, or might have
        when it was last there, may see its past. All of it as one JSON text: Tryton writes lists item by item, which
        takes ten times as long as reading them.
        """
        Pool().get("ir.model.field.access").check(cls.__name__, names, "read")
        there = {one.id for one in cls.search([("id", "in", ids)])}
        states = list(cls._states(ids, names))
        ends = {number: at for number, at, values in states if values is None}
        seen = there | {number for number, at in ends.items() if number not in there and cls._was_visible(number, at)}
        return json.dumps([state for state in states if state[0] in seen], cls=JSONEncoder, separators=(",", ":"))

    @classmethod
    def _states(cls, ids, names):
        """The rows of the history table, the later row of one instant in place of the earlier."""
        history = cls.__table_history__()
        at = Coalesce(history.write_date, history.create_date)
        columns = [history.id.as_("id"), history.create_date.as_("create_date"), history.write_date.as_("write_date")]
        columns += [cls._fields[name].sql_column({None: (history, None)}, cls).as_(name) for name in names]
        if backend.name == "sqlite":  # which knows types by the names of columns alone
            for column in columns:
                column.output_name += f" [{cls._fields[column.output_name].sql_type().base}]"
        cursor = Transaction().connection.cursor()
        where = fields.SQL_OPERATORS["in"](history.id, ids)
        order = [history.id, at, Column(history, "__id")]
        cursor.execute(*history.select(*columns, where=where, order_by=order))
        found = {}
        for row in cursor_dict(cursor):
            values = [row[name] for name in names] if row["create_date"] else None  # a tombstone has none
            found[row["id"], row["write_date"] or row["create_date"]] = values
        for (number, since), values in found.items():
            yield number, since, values

    @classmethod
    def _was_visible(cls, number, deleted_at):
        """Whether the user might have seen an opportunity just before it was deleted."""
        domain = Pool().get("ir.rule").domain_get(cls.__name__, mode="read")
        with Transaction().set_context(_datetime=deleted_at - INSTANT, _check_access=False):
            return not domain or eval_domain(domain, EvalEnvironment(cls(number), cls))
