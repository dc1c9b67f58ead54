"""A page of the admin with the state of the cluster."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from litefs_py import LitefsError

from litefs_django import conf
from litefs_django.models import Cluster


@admin.register(Cluster)
class ClusterAdmin(admin.ModelAdmin):
    """Looks, and changes nothing."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nothing to add."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing to change."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing to delete."""
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The page."""
        if not self.has_view_permission(request):
            from django.core.exceptions import PermissionDenied

            raise PermissionDenied
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "title": "Cluster",
            "opts": self.model._meta,
            "enabled": conf.litefs().enabled,
        }
        if conf.litefs().enabled:
            try:
                client = conf.mount().client
                context["status"] = client.node_status()
                context["databases"] = client.databases()
                context["history"] = client.history()[-5:]
            except LitefsError as error:
                context["problem"] = str(error)
        return TemplateResponse(request, "admin/litefs_django/cluster.html", context)
