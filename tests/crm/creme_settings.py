"""Settings of the Creme that tests run, in an environment of its own; where things are comes from that environment."""

import os
from pathlib import Path

from creme.settings import *  # noqa: F403
from creme.settings import INSTALLED_APPS

INSTALLED = Path(os.environ["CREME_INSTALLED"])
FOLDER = Path(os.environ["CREME_FOLDER"])

DEBUG = False
SECRET_KEY = "of-the-tests-alone"
ALLOWED_HOSTS = ["127.0.0.1"]
SITE_DOMAIN = f"http://127.0.0.1:{os.environ.get('CREME_PORT', '80')}"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": FOLDER / "creme.sqlite",
        # Who reads first and then writes would be refused if somebody else wrote in between.
        "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
    }
}
GENERATED_MEDIA_NAMES_FILE = INSTALLED / "_generated_media_names.py"
GENERATED_MEDIA_NAMES_MODULE = "_generated_media_names"
STATIC_ROOT = INSTALLED / "static"
MEDIA_ROOT = FOLDER / "upload"
JOBMANAGER_BROKER = f"unix_socket://{FOLDER}/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

INSTALLED_APPS = [*INSTALLED_APPS, "deal_score"]
DEAL_SCORE_TOKEN = "a-token-of-the-tests"
DEAL_SCORE_URL = os.environ.get("DEALCAST_URL", "")
DEAL_SCORE_KEY = os.environ.get("DEALCAST_KEY", "")
