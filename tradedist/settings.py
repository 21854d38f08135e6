"""The one settings file. Every variable it reads is explained in docs/configuration.md (a test compares).

Executors and the paper broker read it too, without Django's own setup.
"""

import secrets
from pathlib import Path
from urllib.parse import quote

import dj_database_url

from tradedist.env import (
    SettingError,
    envaddress,
    envbool,
    envchoice,
    envdirectory,
    envint,
    envlist,
    envredis,
    envsecret,
    envstr,
)

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = envdirectory("DATA_DIR", BASE_DIR / "data")
SECRETS_DIR = DATA_DIR / "secrets"

# --- Addresses. PORT is the page's; the others follow it, so that two checkouts run side by side ---------------------
PORT = envint("PORT", 8000, low=1, high=65000)
HOST = envstr("HOST", "127.0.0.1")
STATE_PORT = envint("STATE_PORT", PORT + 1, low=1, high=65535)
TICKS_PORT = envint("TICKS_PORT", PORT + 2, low=1, high=65535)
PAPER_BROKER_PORT = envint("PAPER_BROKER_PORT", PORT + 3, low=1, high=65535)
FLOWER_PORT = envint("FLOWER_PORT", PORT + 4, low=1, high=65535)
FEED_PORT = envint("FEED_PORT", PORT + 5, low=1, high=65535)  # UDP and TCP
TERMINALS_METRICS_PORT = envint("TERMINALS_METRICS_PORT", PORT + 6, low=1, high=65535)
FEED_BIND = envstr("FEED_BIND", "127.0.0.1")  # where the feed listens
FEED_HOST = envstr("FEED_HOST", "127.0.0.1")  # where the executors send their ticks
FEED_METRICS_PORT = envint("FEED_METRICS_PORT", PORT + 7, low=1, high=65535)
SUPERVISOR_PORT = envint("SUPERVISOR_PORT", PORT + 8, low=1, high=65535)  # the process manager of `make run`

# --- Secrets ---
SECRET_KEY = envsecret("SECRET_KEY", SECRETS_DIR)
CREDENTIALS_KEY = envsecret("CREDENTIALS_KEY", SECRETS_DIR)  # seals the terminals' passwords
WIRE_KEY = envsecret("WIRE_KEY", SECRETS_DIR)  # authenticates datagrams and frames between our processes
REDIS_PASSWORD = envsecret("REDIS_PASSWORD", SECRETS_DIR)  # of the two embedded servers
FLOWER_PASSWORD = envsecret("FLOWER_PASSWORD", SECRETS_DIR, lambda: secrets.token_urlsafe(12))  # typed
SUPERVISOR_PASSWORD = envsecret("SUPERVISOR_PASSWORD", SECRETS_DIR)  # of the process manager of `make run`
INSTALLATION_ID = envsecret("INSTALLATION_ID", SECRETS_DIR)  # part of every magic: never change it
METRICS_TOKEN = envstr("METRICS_TOKEN")

# --- Redis ---
EMBEDDED_STATE = not envstr("REDIS_STATE_URL")
EMBEDDED_TICKS = not envstr("REDIS_TICKS_URL")
REDIS_STATE_URL = envredis("REDIS_STATE_URL") or f"redis://:{quote(REDIS_PASSWORD)}@127.0.0.1:{STATE_PORT}/0"
REDIS_TICKS_URL = envredis("REDIS_TICKS_URL") or f"redis://:{quote(REDIS_PASSWORD)}@127.0.0.1:{TICKS_PORT}/0"
TICKS_MAXMEMORY_MB = envint("TICKS_MAXMEMORY_MB", 256, low=16)
STATE_MAXMEMORY_MB = envint("STATE_MAXMEMORY_MB", 1024, low=16)

# --- Market data ---
TICK_POLL_MS = envint("TICK_POLL_MS", 20, low=1)  # between two looks at a terminal's prices

# --- Paper broker ---
EMBEDDED_PAPER_BROKER = not envstr("PAPER_BROKER_URL")
PAPER_BROKER_URL = envaddress("PAPER_BROKER_URL", f"tcp://127.0.0.1:{PAPER_BROKER_PORT}", ("tcp",))
PAPER_BROKER_DIR = DATA_DIR / "paper-broker"
PAPER_SPEED_PERCENT = envint("PAPER_SPEED_PERCENT", 100, low=1, high=100_000)  # of the recordings
PAPER_SEED = envint("PAPER_SEED", 0)  # of the market's phase, faults and slippage
PAPER_LATENCY_PERCENT = envint("PAPER_LATENCY_PERCENT", 0, high=10_000)  # of each personality's latency

# --- Orders (times in milliseconds). docs/configuration.md says what each protects against ---
MARKET_TTL_MS = envint("MARKET_TTL_MS", 5_000, low=100)
PENDING_TTL_MS = envint("PENDING_TTL_MS", 60_000, low=100)
CLOSE_TTL_MS = envint("CLOSE_TTL_MS", 86_400_000, low=100)
MAX_TTL_MS = envint("MAX_TTL_MS", 86_400_000, low=100)
ORDERS_PER_SECOND = envint("ORDERS_PER_SECOND", 10, low=1)  # accepted signals per user
DISPATCH_GRACE_MS = envint("DISPATCH_GRACE_MS", 20)  # Celery tasks are published this long after accept
CELERY_DISPATCH = envchoice("CELERY_DISPATCH", "all", ("all", "backup"))  # which orders become Celery tasks
CELERY_BACKUP_MS = envint("CELERY_BACKUP_MS", 500, low=10)  # backup: those unreported after this
REPLICAS_CONFIRM = envint("REPLICAS_CONFIRM", 0, high=16)  # replicas that must have a signal on disk
REPLICAS_WAIT_MS = envint("REPLICAS_WAIT_MS", 50, low=1, high=1_000)
SPOOL_ORDERS = envint(
    "SPOOL_ORDERS", 50_000, low=1
)  # a web process keeps so many unexecuted orders on its disk
OUTBOX_DRAIN_MS = envint("OUTBOX_DRAIN_MS", 250, low=10)  # the supervisor's drain of all terminals
OWN_DRAIN_MS = envint("OWN_DRAIN_MS", 5_000, low=10)  # each executor's own drain
ACCOUNT_SYNC_MS = envint("ACCOUNT_SYNC_MS", 500, low=10)
CONFIG_POLL_MS = envint("CONFIG_POLL_MS", 400, low=10)
SWEEP_GAP_MS = envint("SWEEP_GAP_MS", 5_000, low=1)  # between two clean sweeps
SWEEP_SETTLE_MS = envint("SWEEP_SETTLE_MS", 15_000, low=1)  # after the terminal answers again
BREAKER_UNKNOWN = envint("BREAKER_UNKNOWN", 3)  # orders of unknown outcome at once that hold opens; 0 = off
BREAKER_REJECTIONS = envint("BREAKER_REJECTIONS", 5)  # rejections within a minute that do the same; 0 = off
SEND_LIMIT_S = envint("SEND_LIMIT_S", 30, low=1)  # a stuck broker call is killed after this
INITIALIZE_LIMIT_S = envint("INITIALIZE_LIMIT_S", 120, low=1)
FROZEN_LIMIT_S = envint("FROZEN_LIMIT_S", 2, low=1)  # an executor that stands still outside a terminal call
CLOCK_SKEW_MS = envint(
    "CLOCK_SKEW_MS", 500, low=50
)  # an executor's clock against Redis's; above it nothing is opened
JOURNAL_MAX_MB = envint("JOURNAL_MAX_MB", 1_024, low=1)  # of one terminal
HOST_ID = envstr("HOST_ID", "local")  # terminals are pinned to a host

# --- Django ---
DEBUG = envbool("DEBUG", False)
SECURE = envbool("SECURE", False)  # set when served over TLS: secure cookies, HSTS, redirect
ALLOWED_HOSTS = envlist("ALLOWED_HOSTS", ("localhost", "127.0.0.1", "[::1]"))
CSRF_TRUSTED_ORIGINS = envlist("CSRF_TRUSTED_ORIGINS")
ROOT_URLCONF = "tradedist.urls"
ASGI_APPLICATION = "tradedist.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_prometheus",
    "ninja",  # its documentation page, served from here instead of a CDN
    "executors",
    "charts",
]

MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "tradedist.security_headers.ContentSecurityPolicy",
    "tradedist.http_errors.AnswerErrors",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "tradedist.sign_in.SessionLimits",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

try:
    _database = dj_database_url.parse(envstr("DATABASE_URL") or f"sqlite:///{DATA_DIR / 'tradedist.sqlite3'}")
except ValueError:
    raise SettingError(
        "DATABASE_URL must look like postgres://user:password@host:5432/name; write what is special in a password as %XX."
    ) from None
DATABASES = {"default": _database}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        "transaction_mode": "IMMEDIATE",
        "timeout": 10,
    }

# --- The web process's bounds ---
MAX_CONNECTIONS = envint("MAX_CONNECTIONS", 2_000, low=10)  # requests and sockets at once; more are refused
SOCKETS_PER_USER = envint("SOCKETS_PER_USER", 10, low=1)  # of each kind, per process

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = DATA_DIR / "staticfiles"
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # whitenoise warns of one that is not there
WHITENOISE_USE_FINDERS = True  # serves what the apps and static/ hold, without collectstatic
WHITENOISE_AUTOREFRESH = DEBUG

LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/login/"
SESSION_COOKIE_AGE = envint("SESSION_IDLE_S", 12 * 3600, low=60)
SESSION_ABSOLUTE_S = envint("SESSION_ABSOLUTE_S", 12 * 3600, low=60)  # after the sign-in, however busy
SESSION_SAVE_EVERY_REQUEST = False
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = SECURE
CSRF_COOKIE_SECURE = SECURE
SECURE_SSL_REDIRECT = SECURE
SECURE_HSTS_SECONDS = 31_536_000 if SECURE else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE
SECURE_HSTS_PRELOAD = SECURE
BEHIND_PROXY = envbool("BEHIND_PROXY", False)  # believe the last X-Forwarded-For and X-Forwarded-Proto
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "tradedist.http_errors.csrf_failure"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024  # forms; the API's own limit is 64 KiB
AUTHENTICATION_BACKENDS = ["tradedist.sign_in.LockingBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

# --- Logs ---
LOG_LEVEL = envchoice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "filters": {"foreign": {"()": "tradedist.log_lines.ForeignFaults"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["foreign"]}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
}
