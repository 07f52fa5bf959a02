"""The connectors there are: each one's settings, a frozen dataclass that checks itself and opens the connection."""

from crm.connectors.base import ConnectorSettings
from crm.connectors.creme import CremeSettings
from crm.connectors.dynamics import DynamicsSettings
from crm.connectors.hubspot import HubSpotSettings
from crm.connectors.salesforce import SalesforceSettings
from crm.connectors.tryton import TrytonSettings
from crm.connectors.warehouse import WarehouseSettings

ALL: tuple[type[ConnectorSettings], ...] = (
    TrytonSettings,
    CremeSettings,
    SalesforceSettings,
    HubSpotSettings,
    DynamicsSettings,
    WarehouseSettings,
)
CONNECTORS: dict[str, type[ConnectorSettings]] = {each.name: each for each in ALL}
"""Settings by the name of the connector. Their fields are texts, numbers and flags; the secret is never among them."""
