"""Addresses over HTTP: the page, signing in, the admin, the API, metrics. Sockets are in asgi.py."""

from django.conf import settings
from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView

import charts.views
from tradedist.api import api
from tradedist.metrics_view import metrics
from tradedist.sign_in import AdminSignIn, ChangePassword, SignIn, SignOut

urlpatterns = [
    path("", charts.views.chart, name="chart"),
    path("login/", SignIn.as_view(), name="login"),
    path("logout/", SignOut.as_view(), name="logout"),
    path("password/", ChangePassword.as_view(), name="change-password"),
    path("favicon.ico", RedirectView.as_view(url=f"{settings.STATIC_URL}img/mark.svg")),
    path("admin/login/", AdminSignIn.as_view()),
    path("admin/", admin.site.urls),
    path("api/", api.urls),
    path("metrics", metrics, name="metrics"),
]

handler400 = "tradedist.http_errors.bad_request"
handler403 = "tradedist.http_errors.forbidden"
handler404 = "tradedist.http_errors.not_found"
handler500 = "tradedist.http_errors.server_error"
