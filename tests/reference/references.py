"""Every feature once more, in plain loops: REFERENCES by name."""

import reference_account
import reference_deal
import reference_engagement
import reference_owner
import reference_timing
from plain_company import Company
from plain_known import REFERENCES, Known

FAMILIES = (reference_deal, reference_timing, reference_engagement, reference_owner, reference_account)

# Features add up days and amounts rounded to powers of two, so that every order gives the same sum; references do not.
TOLERANCE = {"rtol": 1e-7, "atol": 1e-7}

__all__ = ["FAMILIES", "REFERENCES", "TOLERANCE", "Company", "Known"]
