"""The app: brings the system checks, the commands and the admin page."""

from django.apps import AppConfig


class LitefsConfig(AppConfig):
    """`litefs_django` in INSTALLED_APPS."""

    name = "litefs_django"
    label = "litefs_django"
    verbose_name = "LiteFS"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Registers the checks."""
        from django.core.checks import register

        from litefs_django import checks

        register(checks.check_settings, "litefs")
        register(checks.check_databases, "litefs")
        register(checks.check_middleware, "litefs")
        register(checks.check_node, "litefs", deploy=True)
