"""A Creme app: the win probability that dealcast gives an opportunity, why, and since when, on its page.

Copyright: the dealcast authors. Licence: AGPL-3.0-or-later, see LICENSE beside pyproject.toml.
"""
