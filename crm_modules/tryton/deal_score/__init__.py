"""A Tryton module: the win probability that dealcast gives an opportunity, why, and since when, on its form.

Copyright: the dealcast authors. Licence: GPL-3.0-or-later, see LICENSE beside pyproject.toml.
"""
