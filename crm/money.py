"""Money in base currency. An amount whose currency or rate is unknown is unknown, never taken at 1.0."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from crm.calendar import INSTANT, Calendar
from crm.tables import CrmTables


@dataclass(frozen=True)
class Rate:
    """What one unit of a currency is worth in base currency, and since when (None: it is the base currency)."""

    currency: str
    to_base: float
    valid_from: pd.Timestamp | None = None


@dataclass(frozen=True)
class RateBook:
    """Exchange rates to base currency and the company's rule for picking one.

    Attributes
    ----------
    rates : currency, valid_from (UTC), rate_to_base, sorted by valid_from.
    calendar : base currency, and `rates`: `plan` takes the rate at the start of the period holding the moment,
        `dated` the rate at the moment itself.
    unnamed_is_base : True if no deal names a currency: money is then in base currency. Otherwise a missing currency
        makes the amount unknown.
    """

    rates: pd.DataFrame
    calendar: Calendar
    unnamed_is_base: bool

    @staticmethod
    def from_tables(tables: CrmTables) -> "RateBook":
        """The rates of a data version."""
        rates = tables.get("exchange_rates")[["currency", "valid_from", "rate_to_base"]]
        deals, known = tables.get("deals"), tables.field_classes.get("currency")
        # The class is asked first: what was named since must not change how the past is read.
        is_named = known.filled if known else "currency" in deals and bool(deals["currency"].notna().any())
        return RateBook(rates.sort_values("valid_from", kind="stable"), tables.calendar, not is_named)

    @property
    def base_currency(self) -> str:
        """The currency everything is brought to."""
        return self.calendar.base_currency

    @cached_property
    def currencies(self) -> list[str]:
        """The base currency, then those that any rate is known of, by their code."""
        return [self.base_currency, *sorted({*self.rates["currency"]} - {self.base_currency})]

    def rate_of(self, currency: str, moment: pd.Timestamp) -> Rate | None:
        """The rate by which amounts that count at a moment are brought to base currency; None where none is known."""
        if currency == self.base_currency:
            return Rate(currency, 1.0)
        at = self.calendar.period_of(moment).start_at if self.calendar.rates == "plan" else moment
        known = self.rates[(self.rates["currency"] == currency) & (self.rates["valid_from"] <= at)]
        if known.empty:
            return None
        return Rate(currency, float(known["rate_to_base"].iloc[-1]), known["valid_from"].iloc[-1])

    def to_base(self, amount: pd.Series, currency: pd.Series, moments: pd.Series | pd.Timestamp) -> pd.Series:
        """Amounts in base currency.

        Parameters
        ----------
        amount : float, in the currency beside it; NaN = unknown.
        currency : currency codes, NaN = not named.
        moments : the instant each amount counts at (T, or the midnight of booked_on), or one for all.

        Returns
        -------
        float64 with the index of `amount`; NaN where the amount, the currency, the moment or a rate is unknown.
        """
        if self.unnamed_is_base:
            currency = currency.fillna(self.base_currency)
        if isinstance(moments, pd.Timestamp):
            moments = pd.Series(moments, index=amount.index, dtype=INSTANT)
        return amount.astype("float64") * self._rates_at(currency, moments)

    def _rates_at(self, currency: pd.Series, moments: pd.Series) -> pd.Series:
        rate = pd.Series(np.nan, index=currency.index, dtype="float64")
        is_base = (currency == self.base_currency).to_numpy()
        rate[is_base] = 1.0
        foreign = currency.notna().to_numpy() & moments.notna().to_numpy() & ~is_base
        if not foreign.any() or self.rates.empty:
            return rate
        at = moments[foreign]
        if self.calendar.rates == "plan":
            at = self.calendar.period_frame(at)["start_at"]
        asked = pd.DataFrame({"at": at.to_numpy(), "currency": currency[foreign].to_numpy()})
        asked["place"] = np.flatnonzero(foreign)
        asked["at"] = pd.Series(at.array, dtype=INSTANT)
        found = pd.merge_asof(
            asked.sort_values("at"),
            self.rates,
            left_on="at",
            right_on="valid_from",
            by="currency",
            direction="backward",
        )
        rate.iloc[found["place"].to_numpy()] = found["rate_to_base"].to_numpy()
        return rate
