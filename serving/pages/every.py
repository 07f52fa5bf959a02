"""Every page of the service: a new one is added here, and in `frame.NAVIGATION`."""

from fastapi import FastAPI

from serving.pages.accuracy import add_accuracy
from serving.pages.assets import add_assets
from serving.pages.changes import add_changes
from serving.pages.deal import add_deal
from serving.pages.deals import add_deals
from serving.pages.home import add_home
from serving.pages.me import add_me
from serving.pages.panel import add_panel
from serving.pages.review import add_review


def add_pages(api: FastAPI) -> None:
    """What a browser sees."""
    for add in (add_assets, add_home, add_review, add_changes, add_deals, add_deal, add_panel, add_me, add_accuracy):
        add(api)
