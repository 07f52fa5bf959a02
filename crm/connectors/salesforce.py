"""Salesforce: its objects as they are, read through the shipped mapping `salesforce`; scores into fields of our own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from crm.connectors.base import OVERLAP, Batch, Fetch, Found, OutgoingScore, Row, in_batches
from crm.connectors.settings import WebSettings, client_library, listed
from crm.errors import Detail, UsageError
from crm.mapping import TableMapping, load_mapping
from crm.mapping_reach import columns_read, with_custom_fields

if TYPE_CHECKING:
    from crm.connectors.salesforce_client import SalesforceClient

DEAL, HISTORY, FIELD_HISTORY = "Opportunity", "OpportunityHistory", "OpportunityFieldHistory"
ROWS_AT_ONCE, SCORES_AT_ONCE = 2000, 200

CHANGED_ON = {
    # The whole past of a deal comes with each change of it: a state says what changed only beside the one before.
    HISTORY: f"{DEAL}.SystemModstamp",
    FIELD_HISTORY: f"{DEAL}.SystemModstamp",
    "OpportunityStage": None,
    "OpportunitySplitType": None,
    "UserRole": None,
    "Period": None,
    "DatedConversionRate": None,
    "CurrencyType": None,
}
"""The field by which what changed is asked for, where it is not SystemModstamp; None: it is read anew every time."""

WITHOUT = {
    "OpportunityHistory": "past values of stage, amount and close date",
    "OpportunityFieldHistory": "past values of other fields: field history tracking is not readable",
    "OpportunitySplit": "shared credit: splits are not switched on",
    "ForecastingItem": "calls beside the model: forecasting is not switched on, or not readable",
    "ForecastingQuota": "probability of quota: there are no quotas to read",
    "DatedConversionRate": "dated exchange rates: advanced currency management is not switched on",
}
"""What a missing object switches off; others that are missing are told by the import itself."""

SCORE_FIELDS = {
    "Win_Probability__c": lambda score: round(score.win_probability * 100, 2),
    "Win_Probability_Low__c": lambda score: _percent(score.win_probability_low),
    "Win_Probability_High__c": lambda score: _percent(score.win_probability_high),
    "Win_Probability_Change__c": lambda score: score.score_change,
    "Win_Probability_Reasons__c": lambda score: "\n".join(score.reasons),
    "Win_Probability_As_Of__c": lambda score: score.as_of.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "Win_Probability_Model__c": lambda score: score.model_version,
}
"""The fields of crm_modules/salesforce and what goes into them; never `Probability`, which the stage drives."""


@dataclass(frozen=True, kw_only=True)
class SalesforceSettings(WebSettings):
    """How to reach an org.

    Attributes
    ----------
    url : My Domain, such as https://acme.my.salesforce.com.
    client_id : the consumer key of the connected app; its secret is kept apart.
    also_read : custom fields of Opportunity to read too, with commas between.
    bulk_from : objects with so many rows are read through Bulk API 2.0, the first time.
    api_budget_share : stop when so much (0..1) of the org's API calls of 24 hours is used, by whomever.
    """

    name: ClassVar[str] = "salesforce"
    secret: ClassVar[str] = "client_secret"
    client_id: str
    also_read: str = ""
    bulk_from: int = 10_000
    api_budget_share: float = 0.9

    def rules(self) -> Mapping[str, tuple[str, bool]]:
        """By setting, the rule and whether it holds."""
        share = ("above 0, at most 1", 0 < self.api_budget_share <= 1)
        return {**super().rules(), "bulk_from": ("1 or more", self.bulk_from >= 1), "api_budget_share": share}

    def open(self, client_secret: str) -> "SalesforceConnector":
        """A connection; nothing is sent yet.

        Raises
        ------
        UsageError
            If the client library is not installed.
        """
        with client_library(self.name):
            from crm.connectors.salesforce_client import SalesforceClient
        client = SalesforceClient(
            self.url,
            client_id=self.client_id,
            client_secret=client_secret,
            patience=self.patience,
            budget_share=self.api_budget_share,
        )
        mapping = with_custom_fields(load_mapping(self.name), listed(self.also_read))
        return SalesforceConnector(client, mapping, bulk_from=self.bulk_from)


class SalesforceConnector:
    """Reads the objects that the mapping names, as far as the org has them and the user may see them."""

    def __init__(self, client: "SalesforceClient", mapping: TableMapping, *, bulk_from: int) -> None:
        self._client, self._mapping, self._bulk_from = client, mapping, bulk_from

    @property
    def api_calls(self) -> int:
        """Requests sent so far, repeated ones included."""
        return self._client.requests_sent

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    # -- looking -----------------------------------------------------------------------------------------------------

    def survey(self) -> Found:
        """Count what is there, and look for the fields of scores."""
        objects = self._client.objects()
        counted = {"deals": DEAL, "deal_history": HISTORY, "accounts": "Account", "users": "User"}
        tables = {table: self._client.count(name) for table, name in counted.items() if name in objects}
        fields = self._client.fields(DEAL)
        read = self._readable(DEAL, set(fields))
        others = sorted(name for name, known in fields.items() if known.get("custom") and name not in read)
        others = [name for name in others if name not in SCORE_FIELDS]
        notes = [f"{note['what']}: {note['because']}" for note in self._missing(objects)]
        notes += [f"{field} has been tracked since {since:%Y-%m-%d}" for field, since in self._tracked(objects).items()]
        if others:
            notes.append(f"custom fields not read: {', '.join(others)} (also_read=… reads them, docs/crm.md)")
        lacking = _lacking(fields)
        if lacking:
            notes.append(f"scores cannot be written: Opportunity has no {', '.join(lacking)} (crm_modules/salesforce)")
        usage = self._client.api_usage
        return Found(
            system="Salesforce",
            tables=tables,
            fields=tuple(read),
            history_since=self._oldest(HISTORY) if HISTORY in objects else None,
            writes_to=None if lacking else f"{DEAL}.{next(iter(SCORE_FIELDS))}",
            notes=tuple(notes),
            api_budget=f"{usage[0]:,} of {usage[1]:,} calls in 24 hours" if usage else None,
        )

    def _oldest(self, name: str, where: str = "") -> pd.Timestamp | None:
        rows = self._client.rows(f"SELECT CreatedDate FROM {name}{where} ORDER BY CreatedDate ASC LIMIT 1")
        return next((pd.Timestamp(row["CreatedDate"]) for row in rows if row["CreatedDate"]), None)

    def _tracked(self, objects: set[str]) -> dict[str, pd.Timestamp]:
        """From when the history of each mapped field that is tracked reaches back."""
        if FIELD_HISTORY not in objects:
            return {}
        names = dict.fromkeys(name for each in self._mapping.tables["deal_history"] for name in each.fields)
        found = {name: self._oldest(FIELD_HISTORY, f" WHERE Field = '{name}'") for name in names}
        return {name: since for name, since in found.items() if since is not None}

    def _missing(self, objects: set[str]) -> list[dict[str, str]]:
        return [
            {"what": name, "because": f"not there, which switches off {what}"}
            for name, what in WITHOUT.items()
            if name not in objects
        ]

    # -- fetching ----------------------------------------------------------------------------------------------------

    def fetch(self, since: str | None) -> Fetch:
        """Everything up to this moment of Salesforce's clock, or what was written since the cursor.

        What is written while it is read waits for the next time.
        """
        objects = self._client.objects()
        moment = self._client.server_time or pd.Timestamp.now("UTC").floor("s").as_unit("us")
        start = None if since is None else pd.Timestamp(since) - OVERLAP
        notes = self._missing(objects)
        return Fetch(
            moment,
            moment.isoformat(),
            self._calendar(objects),
            self._batches(objects, start, moment, notes),
            self._mapping,
            notes,
        )

    def _calendar(self, objects: set[str]) -> dict[str, object]:
        calendar: dict[str, object] = {}
        for row in self._client.rows("SELECT TimeZoneSidKey, FiscalYearStartMonth FROM Organization"):
            calendar["time_zone"] = row["TimeZoneSidKey"]
            calendar["fiscal_year_start_month"] = int(row["FiscalYearStartMonth"] or 1)
        if "CurrencyType" in objects:
            for row in self._client.rows("SELECT IsoCode FROM CurrencyType WHERE IsCorporate = TRUE"):
                calendar["base_currency"] = row["IsoCode"]
        return calendar

    def _batches(
        self, objects: set[str], start: pd.Timestamp | None, moment: pd.Timestamp, notes: list[dict[str, str]]
    ) -> Iterator[Batch]:
        for (name, *_), wanted in columns_read(self._mapping).items():
            if name not in objects:
                if name == "DatedConversionRate" and "CurrencyType" in objects:
                    yield Batch(name, list(self._static_rates()))
                continue
            known = set(self._client.fields(name))
            fields = [field for field in wanted if field in known]
            absent = [field for field in wanted if field not in known and field not in ("RateToBase", "NextStartDate")]
            if absent and name == DEAL:
                notes.append({"what": name, "because": f"there are no fields {', '.join(absent)}"})
            if not fields:
                continue
            rows = self._rows(name, fields, start, moment)
            if name == "DatedConversionRate":
                rows = _with_inverse(self._client.rows("SELECT IsoCode, StartDate, ConversionRate FROM " + name))
            if name == "Period":
                rows = self._periods(self._rows(name, [*fields, "EndDate"], start, moment))
            yield from (Batch(name, some) for some in in_batches(rows, ROWS_AT_ONCE))

    def _readable(self, name: str, known: set[str]) -> list[str]:
        wanted = next(columns for names, columns in columns_read(self._mapping).items() if name in names)
        return [field for field in wanted if field in known]

    def _rows(
        self, name: str, fields: Sequence[str], start: pd.Timestamp | None, moment: pd.Timestamp
    ) -> Iterator[Row]:
        stamp = CHANGED_ON.get(name, "SystemModstamp")
        limits = [f"{stamp} <= {moment:%Y-%m-%dT%H:%M:%SZ}"] if stamp else []
        if stamp and start is not None:
            limits.append(f"{stamp} >= {start:%Y-%m-%dT%H:%M:%SZ}")
        where = f" WHERE {' AND '.join(limits)}" if limits else ""
        soql = f"SELECT {', '.join(fields)} FROM {name}{where}"
        if stamp and start is None and self._client.count(name, where) >= self._bulk_from:
            return self._client.bulk_rows(name, soql)
        return self._client.rows(soql)

    def _periods(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Periods; those of fiscal years of the company's own with the day on which the next one starts."""
        asked = "SELECT IsStandardYear FROM FiscalYearSettings"
        is_standard = all(row["IsStandardYear"] != "false" for row in self._client.rows(asked))
        for row in rows:
            ends = None if is_standard or not row["EndDate"] else pd.Timestamp(row["EndDate"]) + pd.Timedelta(1, "D")
            yield {**row, "NextStartDate": None if ends is None else f"{ends:%Y-%m-%d}"}

    def _static_rates(self) -> Iterator[Row]:
        """Rates that Salesforce holds to be the same at all times, as it converts by them."""
        asked = "SELECT IsoCode, ConversionRate FROM CurrencyType"
        for row in _with_inverse(self._client.rows(asked)):
            yield {"IsoCode": row["IsoCode"], "StartDate": "1970-01-01", "RateToBase": row["RateToBase"]}

    # -- pushing -----------------------------------------------------------------------------------------------------

    def push(self, scores: Sequence[OutgoingScore]) -> dict[str, str]:
        """Write scores into the fields of crm_modules/salesforce, 200 a call, each record by itself.

        Raises
        ------
        UsageError
            If the org does not have the fields.
        """
        lacking = _lacking(self._client.fields(DEAL))
        if lacking:
            rule = f"{DEAL} has the fields of crm_modules/salesforce, and the user may edit them"
            step = "Deploy them and assign the permission set (crm_modules/salesforce/README.md)."
            raise UsageError("Salesforce has no place for scores.", Detail(DEAL, ", ".join(lacking), rule, step))
        return self._update({each.deal_id: {name: v(each) for name, v in SCORE_FIELDS.items()} for each in scores})

    def withdraw(self, deal_ids: Sequence[str]) -> dict[str, str]:
        """Empty the fields of these deals."""
        return self._update({deal_id: dict.fromkeys(SCORE_FIELDS) for deal_id in deal_ids})

    def _update(self, values: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
        failures: dict[str, str] = {}
        for some in in_batches(values.items(), SCORES_AT_ONCE):
            told = self._client.update(DEAL, [{"Id": deal_id, **fields} for deal_id, fields in some])
            failures |= {deal_id: why for (deal_id, _), why in zip(some, told, strict=True) if why is not None}
        return failures


def _lacking(fields: Mapping[str, Mapping[str, object]]) -> list[str]:
    return [name for name in SCORE_FIELDS if not fields.get(name, {}).get("updateable")]


def _with_inverse(rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        rate = float(row["ConversionRate"] or 0)
        yield {**row, "RateToBase": repr(1 / rate) if rate else None}


def _percent(share: float | None) -> float | None:
    return None if share is None else round(share * 100, 2)
