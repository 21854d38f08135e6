"""The executors app: terminals and who may trade them."""

from django.apps import AppConfig


class ExecutorsConfig(AppConfig):
    name = "executors"
    verbose_name = "Trade distribution"

    def ready(self) -> None:
        from executors import checks  # noqa: F401  registers the system checks
