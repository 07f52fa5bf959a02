"""The connectors there are: each one's settings, a frozen dataclass that checks itself and opens the connection."""

from crm.connectors.tryton import TrytonSettings

CONNECTORS = {TrytonSettings.name: TrytonSettings}
"""Settings by the name of the connector. Their fields are texts, numbers and flags; the secret is never among them."""
