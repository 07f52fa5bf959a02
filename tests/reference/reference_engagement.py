"""References of the family engagement."""

from plain_company import Known, Value, count, known, reference


def contacts_in(rows: list | None) -> float | None:
    return None if rows is None else float(len({row["contact_id"] for row in rows if known(row["contact_id"])}))


@reference
def days_since_last_activity(deal: Known) -> Value:
    if deal.activities() is None:
        return None
    rows = deal.activities(all_of_them=False)
    return deal.days_since(rows[-1]["known_from"] if rows else deal.created_at)


def last_inbound(deal: Known) -> object:
    rows = deal.activities(direction="inbound", all_of_them=False)
    return rows[-1]["known_from"] if rows else None


@reference
def days_since_last_inbound(deal: Known) -> Value:
    return deal.days_since(last_inbound(deal))


@reference
def activities_7d(deal: Known) -> Value:
    return count(deal.activities(days=7))


@reference
def activities_30d(deal: Known) -> Value:
    return count(deal.activities(days=30))


@reference
def activities_so_far(deal: Known) -> Value:
    return count(deal.activities())


@reference
def inbound_14d(deal: Known) -> Value:
    return count(deal.activities(days=14, direction="inbound"))


@reference
def inbound_60d(deal: Known) -> Value:
    return count(deal.activities(days=60, direction="inbound"))


@reference
def outbound_14d(deal: Known) -> Value:
    return count(deal.activities(days=14, direction="outbound"))


@reference
def reply_ratio_60d(deal: Known) -> Value:
    written = count(deal.activities(days=60, direction="outbound"))
    answered = count(deal.activities(days=60, direction="inbound"))
    return answered / written if written and answered is not None else None


@reference
def meetings_60d(deal: Known) -> Value:
    return count(deal.activities("meeting", days=60))


@reference
def calls_14d(deal: Known) -> Value:
    return count(deal.activities("call", days=14))


@reference
def engagement_trend(deal: Known) -> Value:
    recent, longer = count(deal.activities(days=14)), count(deal.activities(days=56))
    return None if recent is None or longer is None else (recent + 1) / (longer / 4 + 1)


@reference
def contacts_known(deal: Known) -> Value:
    return contacts_in(deal.contacts())


@reference
def people_engaged(deal: Known) -> Value:
    return contacts_in(deal.activities(people=True))
