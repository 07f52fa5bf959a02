"""The addresses of the app.

Licence: AGPL-3.0-or-later.
"""

from django.urls import re_path

from deal_score import views
from deal_score.rows import PAGES

urlpatterns = [
    re_path(r"^about$", views.about, name="deal_score__about"),
    re_path(rf"^pages/(?P<name>{'|'.join(PAGES)})$", views.page, name="deal_score__page"),
    re_path(r"^scores$", views.scores, name="deal_score__scores"),
    re_path(r"^withdraw$", views.withdraw, name="deal_score__withdraw"),
]
