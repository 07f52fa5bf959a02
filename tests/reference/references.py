"""Every feature once more, in plain loops: REFERENCES by name."""

import reference_account
import reference_deal
import reference_engagement
import reference_owner
import reference_timing
from plain_company import REFERENCES, Company, Known

FAMILIES = (reference_deal, reference_timing, reference_engagement, reference_owner, reference_account)

__all__ = ["FAMILIES", "REFERENCES", "Company", "Known"]
